import Glibc

/// One line of a container's log, in the runtime's format: `TIME STREAM F|P TEXT`.
package struct LogLine: Equatable, Sendable {
    /// RFC 3339 with nanoseconds.
    package var time: String
    package var stream: String
    /// With its newline, unless the runtime broke a long line here.
    package var text: String

    /// Nil when the bytes are not in the format.
    package init?(_ line: ArraySlice<UInt8>) {
        guard let first = line.firstIndex(of: 0x20), let second = line[(first + 1)...].firstIndex(of: 0x20),
            let third = line[(second + 1)...].firstIndex(of: 0x20)
        else { return nil }
        time = String(decoding: line[line.startIndex..<first], as: UTF8.self)
        stream = String(decoding: line[(first + 1)..<second], as: UTF8.self)
        guard stream == "stdout" || stream == "stderr" else { return nil }
        let isPartial = line[second + 1] == UInt8(ascii: "P")
        text = String(decoding: line[(third + 1)...], as: UTF8.self) + (isPartial ? "" : "\n")
    }
}

/// Reading of whole log files. Blocks.
package enum LogFile {
    private static let blockBytes = 64 << 10

    /// The last lines of a file.
    package static func tail(_ path: String, lines: Int, bytesMax: Int) -> [LogLine] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return [] }
        defer { close(descriptor) }
        let start = max(offset(ofLast: lines, descriptor), end(descriptor) - Int64(bytesMax))
        var bytes = [UInt8](repeating: 0, count: bytesMax)
        let count = pread(descriptor, &bytes, bytesMax, off_t(start))
        guard count > 0 else { return [] }
        return bytes[0..<count].split(separator: 10).compactMap { LogLine($0) }
    }

    package static func end(_ descriptor: Int32) -> Int64 {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? Int64(info.st_size) : 0
    }

    /// Where the last `lines` lines begin.
    package static func offset(ofLast lines: Int, _ descriptor: Int32) -> Int64 {
        let size = end(descriptor)
        if lines <= 0 { return size }
        var position = size
        var newlines = 0
        var block = [UInt8](repeating: 0, count: blockBytes)
        while position > 0 {
            let length = Int(min(Int64(blockBytes), position))
            position -= Int64(length)
            let count = pread(descriptor, &block, length, off_t(position))
            guard count > 0 else { return 0 }
            for index in stride(from: count - 1, through: 0, by: -1) where block[index] == 10 {
                newlines += 1
                // The file's own last newline ends a line, it does not begin one.
                if newlines == lines + 1 { return position + Int64(index) + 1 }
            }
        }
        return 0
    }
}

/// Reads a log piece by piece; knows when the file was rotated away under it. One user at a time.
package final class LogCursor: @unchecked Sendable {
    // @unchecked: used by one task, whose calls follow one another.
    private let path: String
    private var descriptor: Int32
    private var position: Int64
    private var rest: [UInt8] = []
    private static let blockBytes = 128 << 10
    /// A line longer than this is no log line.
    private static let lineBytesMax = 1 << 20

    /// - Parameter tailLines: nil from the beginning.
    package init?(path: String, tailLines: Int?) {
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        self.path = path
        position = tailLines.map { [descriptor] in LogFile.offset(ofLast: $0, descriptor) } ?? 0
    }

    deinit { close(descriptor) }

    /// The next whole lines; empty when there are none now. Blocks.
    package func next() -> [LogLine] {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        var count = pread(descriptor, &block, block.count, off_t(position))
        if count <= 0, reopenIfRotated() { count = pread(descriptor, &block, block.count, off_t(position)) }
        guard count > 0 else { return [] }
        position += Int64(count)
        rest += block[0..<count]
        guard let last = rest.lastIndex(of: 10) else {
            if rest.count > Self.lineBytesMax { rest = [] }
            return next()
        }
        let lines = rest[...last].split(separator: 10).compactMap { LogLine($0) }
        rest = Array(rest[(last + 1)...])
        // Lines that are not in the format are skipped; an empty answer means the end.
        return lines.isEmpty ? next() : lines
    }

    private func reopenIfRotated() -> Bool {
        var here = stat(), there = stat()
        guard fstat(descriptor, &here) == 0, stat(path, &there) == 0, here.st_ino != there.st_ino else { return false }
        let newer = open(path, O_RDONLY | O_CLOEXEC)
        guard newer >= 0 else { return false }
        close(descriptor)
        descriptor = newer
        position = 0
        rest = []
        return true
    }
}
