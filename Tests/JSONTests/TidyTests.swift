import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// What a compiler does not check: the source tree as text.
@Suite("Tidy") struct TidyTests {
    /// Lines of `Sources` over 140 characters. This number may only go down: lower it after making lines shorter.
    private static let longLinesMax = 379
    private static let lineLengthMax = 140
    private static let readmeLinesMin = 5

    /// The folder that holds `Package.swift`.
    private static let root = #filePath.split(separator: "/").dropLast(3).reduce(into: "") { $0 += "/\($1)" }

    private static func entries(of folder: String) -> [(name: String, isFolder: Bool)] {
        guard let handle = opendir(folder) else { return [] }
        defer { closedir(handle) }
        var found: [(name: String, isFolder: Bool)] = []
        while let entry = readdir(handle) {
            let isFolder = entry.pointee.d_type == UInt8(DT_DIR)
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { found.append((name, isFolder)) }
        }
        return found.sorted { $0.name < $1.name }
    }

    private static func text(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk.prefix(count)
        }
    }

    private struct Line: Sendable {
        var place: String
        var text: Substring
    }

    /// Every line of every Swift file below `Sources` that people write.
    private static let writtenLines: [Line] = {
        var lines: [Line] = []
        var folders = ["Sources"]
        while let folder = folders.popLast() {
            for entry in entries(of: "\(root)/\(folder)") {
                let path = "\(folder)/\(entry.name)"
                if entry.isFolder {
                    if entry.name != "Generated" { folders.append(path) }
                } else if entry.name.hasSuffix(".swift"), let content = text("\(root)/\(path)") {
                    for (index, line) in content.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
                        lines.append(Line(place: "\(path):\(index + 1)", text: line))
                    }
                }
            }
        }
        return lines
    }()

    /// Whether a word stands in a line with no letter, digit, dot or underscore before it.
    private static func has(_ line: Substring, _ word: String) -> Bool {
        let bytes = Array(line.utf8)
        let wanted = Array(word.utf8)
        guard bytes.count >= wanted.count else { return false }
        for start in 0...(bytes.count - wanted.count) where bytes[start] == wanted[0] {
            guard bytes[start..<start + wanted.count].elementsEqual(wanted) else { continue }
            guard start > 0 else { return true }
            switch bytes[start - 1] {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "_"), UInt8(ascii: "."):
                continue
            default: return true
            }
        }
        return false
    }

    @Test("the tree is where it is looked for")
    func found() { #expect(Self.writtenLines.count > 10_000) }

    @Test(
        "no source crashes on purpose, prints, or leaves a note for later", arguments: ["try!", "fatalError(", "print(", "FIXME", "TODO"])
    func forbidden(word: String) {
        let places = Self.writtenLines.filter { Self.has($0.text, word) }.map(\.place)
        #expect(places.isEmpty, "\(word) in \(places.joined(separator: ", "))")
    }

    @Test("every module says what it is in a README")
    func readmes() {
        for entry in Self.entries(of: "\(Self.root)/Sources") where entry.isFolder {
            let files = Self.entries(of: "\(Self.root)/Sources/\(entry.name)").map(\.name)
            // A folder with a module map alone is a C header, not a module of ours.
            if files.contains("module.modulemap") { continue }
            let lines =
                Self.text("\(Self.root)/Sources/\(entry.name)/README.md")?.split(separator: "\n", omittingEmptySubsequences: false) ?? []
            #expect(lines.count >= Self.readmeLinesMin, "Sources/\(entry.name)/README.md")
        }
    }

    @Test("lines over 140 characters become fewer, never more")
    func longLines() {
        let long = Self.writtenLines.filter { $0.text.utf8.count > Self.lineLengthMax && $0.text.count > Self.lineLengthMax }
        #expect(
            long.count <= Self.longLinesMax,
            "\(long.count) lines are longer than \(Self.lineLengthMax); the last: \(long.last?.place ?? "")")
    }
}
