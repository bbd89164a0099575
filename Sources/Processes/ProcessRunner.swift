internal import Glibc
internal import Synchronization

/// Runs host programs (`ip`, `nft`, `ctr`, ...) to their end.
package enum ProcessRunner {
    /// Waits for the end of `command`, whatever its status. A thread of its own does the waiting.
    ///
    /// - Throws: `ProcessError.missing`, `.notStarted`, `.timedOut`, `.cancelled`. A status other than 0 is not thrown.
    package static func run(_ command: Command) async throws(ProcessError) -> Outcome {
        guard let name = command.arguments.first else { throw .notStarted(program: "", reason: "no program given") }
        let path = try HostPrograms.find(name)
        let kill = KillSwitch()
        let result: Result<Outcome, ProcessError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let started = BlockingThread.start {
                    continuation.resume(returning: Result { () throws(ProcessError) in try Run(path, command, kill).toEnd() })
                }
                if !started { continuation.resume(returning: .failure(.notStarted(program: path, reason: "no thread available"))) }
            }
        } onCancel: {
            kill.pull()
        }
        return try result.get()
    }

    /// As `run`, and throws `ProcessError.failed`, with what the program wrote to stderr, unless the status is 0.
    @discardableResult
    package static func runChecked(_ command: Command) async throws(ProcessError) -> Outcome {
        let outcome = try await run(command)
        guard outcome.status.isSuccess else {
            let said = outcome.standardError.isEmpty ? outcome.outputText : outcome.errorText
            throw .failed(program: command.arguments.first ?? "", status: outcome.status, detail: trimmed(said))
        }
        return outcome
    }

    private static func trimmed(_ text: String) -> String {
        var text = Substring(text)
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text)
    }
}

/// Kills the process group from another thread, only while the pid is certainly still ours.
private final class KillSwitch: Sendable {
    private struct State {
        var pid: pid_t = 0
        var isPulled = false
    }
    private let state = Mutex(State())

    var isPulled: Bool { state.withLock { $0.isPulled } }

    func arm(_ pid: pid_t) {
        state.withLock {
            $0.pid = pid
            if $0.isPulled { kill(-pid, SIGKILL) }
        }
    }

    func pull() {
        state.withLock {
            $0.isPulled = true
            if $0.pid > 0 { kill(-$0.pid, SIGKILL) }
        }
    }

    /// Must come before the process is reaped: after that its pid may be another's.
    func disarm() { state.withLock { $0.pid = 0 } }
}

/// One run, on its own thread: feeds stdin, drains stdout and stderr, watches the clock, reaps.
private struct Run {
    /// How often an open pipe's process is asked whether it has ended: a grandchild may hold the pipes open for ever.
    private static let checkMilliseconds: Int32 = 50

    private let path: String
    private let command: Command
    private let killSwitch: KillSwitch

    init(_ path: String, _ command: Command, _ killSwitch: KillSwitch) {
        self.path = path
        self.command = command
        self.killSwitch = killSwitch
    }

    func toEnd() throws(ProcessError) -> Outcome {
        let input = try Pipe(path), output = try Pipe(path), errors = try Pipe(path)
        let pid = try Spawn.start(
            path: path, arguments: command.arguments, environment: command.environment, workingDirectory: command.workingDirectory,
            files: .init(standardInput: input.reading, standardOutput: output.writing, standardError: errors.writing))
        killSwitch.arm(pid)
        input.closeReading()
        output.closeWriting()
        errors.closeWriting()

        let clock = ContinuousClock()
        let end = clock.now + command.timeout
        var stdin = command.standardInput[...]
        var stdout = Collected(limit: command.outputBytesMax), stderr = Collected(limit: command.outputBytesMax)
        var isTimedOut = false
        if stdin.isEmpty { input.closeWriting() } else { input.makeWritingNonBlocking() }

        while output.isReadable || errors.isReadable || input.isWritable {
            if !isTimedOut, clock.now >= end {
                isTimedOut = true
                kill(-pid, SIGKILL)
            }
            var polled = [
                pollfd(fd: output.reading, events: Int16(POLLIN), revents: 0),
                pollfd(fd: errors.reading, events: Int16(POLLIN), revents: 0),
                pollfd(fd: input.writing, events: Int16(POLLOUT), revents: 0),
            ]
            let ready = poll(&polled, 3, Self.checkMilliseconds)
            if ready == 0, hasEnded(pid) { break }
            if polled[0].revents != 0, !stdout.readOnce(output.reading) { output.closeReading() }
            if polled[1].revents != 0, !stderr.readOnce(errors.reading) { errors.closeReading() }
            if polled[2].revents != 0 {
                let written = stdin.withUnsafeBytes { write(input.writing, $0.baseAddress, $0.count) }
                if written > 0 { stdin.removeFirst(written) }
                if stdin.isEmpty || (written < 0 && errno != EAGAIN && errno != EINTR) { input.closeWriting() }
            }
        }
        // A program may close its output and go on: keep the clock running until it is really gone.
        while !hasEnded(pid) {
            if !isTimedOut, clock.now >= end {
                isTimedOut = true
                kill(-pid, SIGKILL)
            }
            usleep(1000)
        }
        killSwitch.disarm()
        let status = Spawn.wait(for: pid)
        if killSwitch.isPulled { throw .cancelled(program: path) }
        if isTimedOut { throw .timedOut(program: path, after: command.timeout) }
        return Outcome(
            status: status, standardOutput: stdout.bytes, standardError: stderr.bytes,
            isTruncated: stdout.isTruncated || stderr.isTruncated)
    }

    /// Whether the process has ended, without reaping it.
    private func hasEnded(_ pid: pid_t) -> Bool {
        var info = siginfo_t()
        let code = waitid(P_PID, id_t(pid), &info, Int32(WEXITED) | Int32(WNOHANG) | Int32(WNOWAIT))
        return code < 0 ? errno != EINTR : info.si_signo == SIGCHLD
    }
}

/// Output of a child, up to a limit.
private struct Collected {
    let limit: Int
    var bytes: [UInt8] = []
    var isTruncated = false

    init(limit: Int) { self.limit = limit }

    /// Reads what is there; false at the end of the stream.
    mutating func readOnce(_ descriptor: Int32) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { buffer in
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0 { return errno == EINTR || errno == EAGAIN }
            let kept = min(count, limit - bytes.count)
            bytes.append(contentsOf: buffer[0..<kept])
            if kept < count { isTruncated = true }
            return count > 0
        }
    }
}

/// A pipe whose two ends close once each, at the latest with the object. Used by one thread only.
private final class Pipe {
    private(set) var reading: Int32 = -1
    private(set) var writing: Int32 = -1

    init(_ program: String) throws(ProcessError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .notStarted(program: program, reason: String(cString: strerror(errno))) }
        // Our own children close everything above 2 themselves (`Spawn`); this is for anybody else's.
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reading, writing) = (ends[0], ends[1])
    }

    deinit {
        closeReading()
        closeWriting()
    }

    var isReadable: Bool { reading >= 0 }
    var isWritable: Bool { writing >= 0 }

    func makeWritingNonBlocking() { _ = fcntl(writing, F_SETFL, O_NONBLOCK) }

    func closeReading() {
        if reading >= 0 { close(reading) }
        reading = -1
    }

    func closeWriting() {
        if writing >= 0 { close(writing) }
        writing = -1
    }
}
