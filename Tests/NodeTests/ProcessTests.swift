import Glibc
import Processes
import Testing

@Suite("host programs")
struct ProcessTests {
    @Test("a program's output, errors and status come back")
    func outcome() async throws {
        let outcome = try await ProcessRunner.run(Command(["sh", "-c", "echo out; echo err >&2; exit 3"]))
        #expect(outcome.outputText == "out\n")
        #expect(outcome.errorText == "err\n")
        #expect(outcome.status == .exited(3))
    }

    @Test("standard input larger than a pipe reaches the program")
    func standardInput() async throws {
        let input = [UInt8](repeating: 65, count: 1_000_000)
        let outcome = try await ProcessRunner.run(Command(["cat"], standardInput: input))
        #expect(outcome.standardOutput == input)
    }

    @Test("a program that does not read its input does no harm")
    func unreadInput() async throws {
        let outcome = try await ProcessRunner.run(Command(["true"], standardInput: [UInt8](repeating: 65, count: 1_000_000)))
        #expect(outcome.status.isSuccess)
    }

    @Test("output beyond the limit is dropped and said to be")
    func boundedOutput() async throws {
        let outcome = try await ProcessRunner.run(Command(["sh", "-c", "head -c 100000 /dev/zero"], outputBytesMax: 1000))
        #expect(outcome.standardOutput.count == 1000)
        #expect(outcome.isTruncated)
    }

    @Test("a program that takes too long is killed with its children")
    func timeout() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        await #expect(throws: ProcessError.self) {
            try await ProcessRunner.run(Command(["sh", "-c", "sleep 30 & sleep 30"], timeout: .milliseconds(200)))
        }
        #expect(clock.now - start < .seconds(5))
    }

    @Test("cancelling the task kills the program")
    func cancellation() async throws {
        let task = Task { try await ProcessRunner.run(Command(["sleep", "30"])) }
        try await Task.sleep(for: .milliseconds(100))
        let clock = ContinuousClock()
        let start = clock.now
        task.cancel()
        await #expect(throws: ProcessError.cancelled(program: try HostPrograms.find("sleep"))) { try await task.value }
        #expect(clock.now - start < .seconds(5))
    }

    @Test("a grandchild that keeps the pipes open does not hold up the result")
    func daemonizedChild() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let outcome = try await ProcessRunner.run(Command(["sh", "-c", "sleep 3 & echo started"]))
        #expect(outcome.outputText == "started\n")
        #expect(clock.now - start < .seconds(2))
    }

    @Test("environment and working directory are the given ones")
    func surroundings() async throws {
        let outcome = try await ProcessRunner.run(Command(["sh", "-c", "echo $GREETING; pwd"], environment: ["GREETING": "hi"], workingDirectory: "/usr"))
        #expect(outcome.outputText == "hi\n/usr\n")
    }

    @Test("a missing program is reported with its Debian package")
    func missing() throws {
        do {
            _ = try HostPrograms.find("etcd", in: ["/nowhere"])
            Issue.record("found")
        } catch {
            #expect(error.description.contains("apt-get install etcd-server"))
        }
    }

    @Test("a failed program's own words are in the error")
    func failure() async throws {
        do {
            try await ProcessRunner.runChecked(Command(["sh", "-c", "echo no such bridge >&2; exit 1"]))
            Issue.record("succeeded")
        } catch {
            #expect("\(error)" == "sh: exit status 1: no such bridge")
        }
    }

    @Test("a long-lived child runs in a session of its own and its end is seen")
    func child() async throws {
        let log = "/tmp/martlet-child-\(getpid()).log"
        defer { unlink(log) }
        let child = try ChildProcess(["sh", "-c", "echo hello; exec sleep 30"], logPath: log)
        #expect(getsid(child.pid) == child.pid)
        #expect(child.exitStatus == nil)
        try await Task.sleep(for: .milliseconds(100))
        #expect(SmallFile.read(log) == "hello\n")
        child.send(SIGTERM)
        #expect(await child.waitForExit() == .signaled(SIGTERM))
        #expect(!child.identity.isRunning)
    }

    @Test("a pid file names a process only while that very process runs")
    func pidFile() async throws {
        let file = "/tmp/martlet-pid-\(getpid())"
        defer { unlink(file) }
        let child = try ChildProcess(["sleep", "30"], logPath: "/dev/null")
        try child.identity.save(to: file)
        #expect(ProcessIdentity(pidFile: file) == child.identity)
        child.send(SIGKILL)
        _ = await child.waitForExit()
        #expect(ProcessIdentity(pidFile: file) == nil)
        // Another process with the recorded pid, started at another time, is not ours.
        try SmallFile.write("\(getpid()) 1\n", to: file)
        #expect(ProcessIdentity(pidFile: file) == nil)
    }
}
