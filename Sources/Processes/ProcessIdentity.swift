internal import Glibc

/// A process that is told apart from a later one with the same pid by its start time.
///
/// Written to pid files, so that a restarted Martlet can find the children its killed predecessor left running.
package struct ProcessIdentity: Hashable, Sendable {
    package let pid: Int32
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`.
    package let startTicks: UInt64

    /// The process now running as `pid`; `nil` when there is none (a zombie is none).
    package init?(pid: Int32) {
        guard pid > 0, let stat = SmallFile.read("/proc/\(pid)/stat") else { return nil }
        // The command name, in parentheses, may hold spaces and parentheses: fields count from the last ")".
        guard let end = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z", fields[0] != "X", let ticks = UInt64(fields[19]) else { return nil }
        self.pid = pid
        startTicks = ticks
    }

    /// From a pid file written by `save`; `nil` when the file is absent, damaged, or its process has ended.
    package init?(pidFile: String) {
        let fields = (SmallFile.read(pidFile) ?? "").split(whereSeparator: \.isWhitespace)
        guard fields.count == 2, let pid = Int32(fields[0]), let ticks = UInt64(fields[1]),
            let running = ProcessIdentity(pid: pid), running.startTicks == ticks
        else { return nil }
        self = running
    }

    /// "PID STARTTICKS\n", replaced atomically.
    package func save(to pidFile: String) throws(ProcessError) {
        try SmallFile.write("\(pid) \(startTicks)\n", to: pidFile)
    }

    package var isRunning: Bool { ProcessIdentity(pid: pid) == self }

    /// Sends `signal` if the process still runs; to its whole process group with `group`.
    package func send(_ signal: Int32, group: Bool = false) {
        if isRunning { kill(group ? -pid : pid, signal) }
    }

    /// Waits until it has ended; false when it still runs after `timeout`. For processes that need not be our children.
    package func waitUntilEnded(timeout: Duration, pollEvery interval: Duration = .milliseconds(20)) async -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + timeout
        while isRunning {
            if clock.now >= end || Task.isCancelled { return false }
            try? await Task.sleep(for: interval)
        }
        return true
    }

    /// `signal`, then after `grace` SIGKILL. Returns when it has ended.
    package func terminate(_ signal: Int32 = 15, group: Bool = false, grace: Duration = .seconds(5)) async {
        send(signal, group: group)
        if await waitUntilEnded(timeout: grace) { return }
        send(SIGKILL, group: group)
        _ = await waitUntilEnded(timeout: .seconds(10))
    }
}

/// Whole small text files: pid files, `/proc`, configuration we generate.
package enum SmallFile {
    private static let bytesMax = 16 * 1024 * 1024

    package static func read(_ path: String) -> String? {
        readBytes(path).map { String(decoding: $0, as: UTF8.self) }
    }

    package static func readBytes(_ path: String) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < bytesMax {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { break }
            bytes.append(contentsOf: buffer[0..<count])
        }
        return bytes
    }

    /// Replaces `path` atomically (a reader sees the old or the new file, never half of one).
    package static func write(_ text: String, to path: String, mode: UInt32 = 0o644) throws(ProcessError) {
        try write(Array(text.utf8), to: path, mode: mode)
    }

    package static func write(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644) throws(ProcessError) {
        let temporary = path + ".tmp"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure(temporary) }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count < 0 {
                let error = failure(temporary)
                close(descriptor)
                throw error
            }
            rest.removeFirst(count)
        }
        close(descriptor)
        if rename(temporary, path) != 0 { throw failure(path) }
    }

    /// `mkdir -p`.
    package static func makeDirectories(_ path: String, mode: UInt32 = 0o755) throws(ProcessError) {
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/" + part
            if mkdir(made, mode) != 0, errno != EEXIST { throw failure(made) }
        }
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func remove(_ path: String) { unlink(path) }

    /// Names in a directory, without "." and ".."; empty when it cannot be read.
    package static func list(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    private static func failure(_ path: String) -> ProcessError {
        .notStarted(program: path, reason: String(cString: strerror(errno)))
    }
}
