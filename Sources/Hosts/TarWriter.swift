/// A tar archive (POSIX ustar) of small regular files, byte for byte the same each time: no dates, no owners.
struct TarWriter {
    private static let blockBytes = 512
    private var bytes: [UInt8] = []

    /// - Parameter name: at most 100 bytes.
    mutating func add(_ name: String, _ content: [UInt8], mode: Int = 0o644) {
        precondition(name.utf8.count <= 100)
        var header = [UInt8](repeating: 0, count: Self.blockBytes)
        func put(_ text: String, at offset: Int) {
            for (index, byte) in text.utf8.enumerated() { header[offset + index] = byte }
        }
        func octal(_ value: Int, digits: Int) -> String {
            let text = String(value, radix: 8)
            return String(repeating: "0", count: digits - text.count) + text
        }
        put(name, at: 0)
        put(octal(mode, digits: 7), at: 100)
        put(octal(0, digits: 7), at: 108)                // owner
        put(octal(0, digits: 7), at: 116)                // group
        put(octal(content.count, digits: 11), at: 124)
        put(octal(0, digits: 11), at: 136)               // time
        put("        ", at: 148)                         // the checksum counts as spaces while it is computed
        put("0", at: 156)                                // regular file
        put("ustar\u{0}00", at: 257)
        put(octal(header.reduce(0) { $0 + Int($1) }, digits: 6) + "\u{0}", at: 148)
        bytes += header + content
        bytes += [UInt8](repeating: 0, count: (Self.blockBytes - content.count % Self.blockBytes) % Self.blockBytes)
    }

    /// The archive, with its two closing blocks.
    func finished() -> [UInt8] { bytes + [UInt8](repeating: 0, count: 2 * Self.blockBytes) }
}
