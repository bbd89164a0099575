import Glibc
import Hosts
import Processes
import Testing

@Suite("pause program")
struct PauseProgramTests {
    @Test("it waits, ignores the end of children, and ends with 0 on SIGTERM and on SIGINT", arguments: [SIGTERM, SIGINT])
    func signals(signal: Int32) async throws {
        let path = "/tmp/martlet-pause-\(getpid())-\(signal)"
        defer { unlink(path) }
        try SmallFile.write(PauseProgram.elf(.current), to: path, mode: 0o755)
        let child = try ChildProcess([path], logPath: "/dev/null")
        child.send(SIGCHLD)
        try await Task.sleep(for: .milliseconds(100))
        #expect(child.exitStatus == nil)
        child.send(signal)
        #expect(await child.waitForExit() == .exited(0))
    }

    @Test("the image archive is the same bytes each time")
    func deterministic() {
        #expect(PauseImage.archive() == PauseImage.archive())
    }
}
