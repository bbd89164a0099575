/// A domain name: labels, with the case they were written in. Equality ignores case (RFC 4343).
package struct DNSName: Hashable, Sendable, CustomStringConvertible {
    package static let labelBytesMax = 63
    /// In wire form, with length bytes and the final zero.
    package static let bytesMax = 255

    package let labels: [[UInt8]]

    package init(labels: [[UInt8]]) { self.labels = labels }

    /// Nil when the text is not a domain name. A final dot is allowed.
    package init?(_ text: String) {
        var parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map(Array.init)
        if parts.last?.isEmpty == true { parts.removeLast() }
        guard parts.allSatisfy({ (1...Self.labelBytesMax).contains($0.count) }),
            parts.reduce(1, { $0 + $1.count + 1 }) <= Self.bytesMax
        else { return nil }
        labels = parts
    }

    /// In lower case, with dots, and what would be ambiguous escaped: for look-ups.
    package var key: String { Self.text(labels.map { $0.map(Self.lower) }[...]) }
    package var description: String { Self.text(labels[...]) }

    /// The lower-case labels left of a suffix; nil when the name does not end in it.
    package func prefix(under suffix: DNSName) -> [String]? {
        guard labels.count >= suffix.labels.count else { return nil }
        let rest = labels.count - suffix.labels.count
        for (own, other) in zip(labels[rest...], suffix.labels) where !Self.equal(own, other) { return nil }
        return labels[..<rest].map { Self.text([$0.map(Self.lower)]) }
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.labels.count == right.labels.count && zip(left.labels, right.labels).allSatisfy(equal)
    }

    package func hash(into hasher: inout Hasher) {
        for label in labels {
            hasher.combine(label.count)
            for byte in label { hasher.combine(Self.lower(byte)) }
        }
    }

    @inline(__always) static func lower(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte }

    private static func equal(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy { lower($0) == lower($1) }
    }

    private static func text(_ labels: ArraySlice<[UInt8]>) -> String {
        var bytes: [UInt8] = []
        for (index, label) in labels.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ".")) }
            for byte in label {
                if byte == UInt8(ascii: ".") || byte == UInt8(ascii: "\\") || byte < 0x21 || byte > 0x7E {
                    let digits = String(Int(byte) + 1000).utf8.dropFirst()
                    bytes.append(UInt8(ascii: "\\"))
                    bytes.append(contentsOf: digits)
                } else {
                    bytes.append(byte)
                }
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
