import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// Holds a node's folder for one agent, until the process ends or replaces itself: the kernel releases the lock.
struct AgentLock: Sendable {
    private let descriptor: Int32

    init(_ folder: DataFolder) throws {
        let path = "\(folder.path)/agent.lock"
        descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw CommandFailure("cannot open \(path): \(String(cString: strerror(errno)))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            close(descriptor)
            let owner = ProcessIdentity(pidFile: folder.agentPidFile).map { "process \($0.pid)" } ?? "another process"
            throw CommandFailure("an agent already runs on \(folder.path) (\(owner)); stop it, or use another --data-dir")
        }
        guard let me = ProcessIdentity(pid: getpid()) else { throw CommandFailure("/proc is not mounted") }
        try me.save(to: folder.agentPidFile)
    }

    /// After the agent has ended: a later one finds no stale process id.
    func release(_ folder: DataFolder) {
        unlink(folder.agentPidFile)
        close(descriptor)
    }
}
