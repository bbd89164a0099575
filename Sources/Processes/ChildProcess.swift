internal import Glibc
internal import Synchronization

/// A long-lived child (containerd, etcd, an agent): own session, output into a log file, so that it survives the SIGKILL of
/// its parent. Its end is awaited on a thread of its own.
package final class ChildProcess: Sendable {
    package let identity: ProcessIdentity
    private let exit: ExitBox

    package var pid: Int32 { identity.pid }

    /// Starts `arguments`; stdout and stderr are appended to `logPath`, stdin is empty.
    ///
    /// - Throws: `ProcessError.missing` or `.notStarted`.
    package init(
        _ arguments: [String], environment: [String: String]? = nil, workingDirectory: String? = nil, logPath: String
    ) throws(ProcessError) {
        guard let name = arguments.first else { throw .notStarted(program: "", reason: "no program given") }
        let path = try HostPrograms.find(name)
        let log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
        guard log >= 0 else { throw .notStarted(program: path, reason: "\(logPath): \(String(cString: strerror(errno)))") }
        defer { close(log) }
        let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard null >= 0 else { throw .notStarted(program: path, reason: "/dev/null: \(String(cString: strerror(errno)))") }
        defer { close(null) }
        let pid = try Spawn.start(
            path: path, arguments: arguments, environment: environment, workingDirectory: workingDirectory,
            files: .init(standardInput: null, standardOutput: log, standardError: log))
        // Before it is reaped its /proc entry exists; only a child already dead has no identity.
        let identity = ProcessIdentity(pid: pid)
        let exit = ExitBox()
        let watching = BlockingThread.start { exit.fill(Spawn.wait(for: pid)) }
        guard watching, let identity else {
            kill(-pid, SIGKILL)
            throw .notStarted(program: path, reason: "it ended at once; see \(logPath)")
        }
        self.identity = identity
        self.exit = exit
    }

    /// `nil` while it runs.
    package var exitStatus: ExitStatus? { exit.value }

    /// Waits for the end. Returns `nil` only when the waiting task is cancelled first.
    package func waitForExit() async -> ExitStatus? { await exit.wait() }

    /// Signals the whole session's process group.
    package func send(_ signal: Int32) {
        if exit.value == nil { kill(-pid, signal) }
    }
}

/// A value that arrives once, with any number of waiting tasks.
private final class ExitBox: Sendable {
    private struct State {
        var status: ExitStatus?
        var waiting: [Int: CheckedContinuation<ExitStatus?, Never>] = [:]
        var next = 0
    }
    private let state = Mutex(State())

    var value: ExitStatus? { state.withLock { $0.status } }

    func fill(_ status: ExitStatus) {
        let waiting = state.withLock { state in
            state.status = status
            defer { state.waiting = [:] }
            return state.waiting.values
        }
        for continuation in waiting { continuation.resume(returning: status) }
    }

    func wait() async -> ExitStatus? {
        let ticket = state.withLock { state in
            state.next += 1
            return state.next
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let status = state.withLock { state -> ExitStatus? in
                    if state.status == nil, !Task.isCancelled { state.waiting[ticket] = continuation; return nil }
                    return state.status ?? .some(.exited(-1))
                }
                if let status { continuation.resume(returning: status) }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: ticket) }?.resume(returning: nil)
        }
    }
}
