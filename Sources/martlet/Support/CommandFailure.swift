#if canImport(Glibc)
    import Glibc
#endif

/// A failure that a person reads: what went wrong and what to do next. Exit status 1.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// Output for people: progress only on a terminal.
enum Console {
    static let isTerminal = isatty(2) == 1

    /// A line on standard output.
    static func line(_ text: String) {
        FileHandleWriter.write(text + "\n", to: 1)
    }

    /// A line of progress on standard error.
    static func progress(_ text: String) {
        FileHandleWriter.write(isTerminal ? "\u{1B}[2m\(text)\u{1B}[0m\n" : text + "\n", to: 2)
    }

    static func error(_ text: String) { FileHandleWriter.write("martlet: \(text)\n", to: 2) }
}

enum FileHandleWriter {
    static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written <= 0 { return }
            bytes = bytes.dropFirst(written)
        }
    }
}
