import CRI
import Glibc
import Processes

/// The last words of a container: the file it may write, or the end of its log.
enum TerminationMessage {
    static let fileBytesMax = 4096
    static let logBytesMax = 2048
    static let logLinesMax = 80

    /// Reads files: call it where blocking is allowed.
    static func read(_ status: CRIContainerStatus) -> String {
        var message = status.message
        let written = status.annotations[RuntimeLabel.terminationMessageHostPath].map { readFile($0) } ?? ""
        if !written.isEmpty {
            if !message.isEmpty { message += ": " }
            return message + written
        }
        let failed = status.exitCode != 0 || status.reason == "OOMKilled"
        if failed, status.annotations[RuntimeLabel.terminationMessagePolicy] == "FallbackToLogsOnError" {
            let lines = LogFile.tail(status.logPath, lines: logLinesMax, bytesMax: 64 << 10).map { $0.text }.joined()
            let text = String(decoding: Array(lines.utf8).suffix(logBytesMax), as: UTF8.self)
            if !message.isEmpty { message += ": " }
            return message + text
        }
        return message
    }

    private static func readFile(_ path: String) -> String {
        // The file belongs to the container: it may be anything by now, so links are not followed and only its start is read.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: fileBytesMax)
        let count = Glibc.read(descriptor, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[0..<count], as: UTF8.self) : ""
    }
}
