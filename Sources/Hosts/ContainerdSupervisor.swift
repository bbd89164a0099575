package import CRI
internal import Glibc
package import Logging
package import Processes

/// Keeps one containerd running.
///
/// containerd is a session of its own: it survives the SIGKILL of Martlet, and the next Martlet adopts it by its pid file.
/// Containers survive containerd's own death too (their shims are separate), so restarting it is always safe.
package actor ContainerdSupervisor {
    /// From process start to a CRI that answers.
    private static let startTimeout: Duration = .seconds(20)
    private static let restartDelayMin: Duration = .milliseconds(100)
    private static let restartDelayMax: Duration = .seconds(10)
    /// A run longer than this was a good one: the restart delay starts over.
    private static let stableAfter: Duration = .seconds(30)

    package let configuration: ContainerdConfiguration
    package nonisolated let client: CRIClient
    private let commandPrefix: [String]
    private let logger: Logger
    private let onStart: (@Sendable (ProcessIdentity) async -> Void)?
    private var process: ProcessIdentity?
    private var watcher: Task<Void, Never>?
    private(set) package var restarts = 0

    /// - Parameters:
    ///   - commandPrefix: `host.command([])` to run it in a host's namespaces from outside; empty inside.
    ///   - onStart: called after each start (and adoption), for example to move it into the host's cgroup. containerd's
    ///     children inherit the cgroup, so it is called before containerd is asked to do anything.
    package init(
        _ configuration: ContainerdConfiguration, commandPrefix: [String] = [], logger: Logger = Logger(label: "martlet.containerd"),
        onStart: (@Sendable (ProcessIdentity) async -> Void)? = nil
    ) throws {
        self.configuration = configuration
        self.commandPrefix = commandPrefix
        self.logger = logger
        self.onStart = onStart
        client = try CRIClient(socketPath: configuration.socketPath)
    }

    deinit { watcher?.cancel() }

    /// The running containerd, if any.
    package var identity: ProcessIdentity? { process.flatMap { $0.isRunning ? $0 : nil } }

    /// Starts containerd, or adopts the one that runs, and returns when its CRI answers. It is kept running from then on.
    package func start() async throws {
        guard watcher == nil else { return }
        if let running = ProcessIdentity(pidFile: configuration.pidPath) {
            process = running
            await onStart?(running)
            if await answers(within: .seconds(5), of: running) {
                logger.info("adopted the running containerd", metadata: ["pid": "\(running.pid)"])
                watcher = Task { [weak self] in await self?.watch(running, nil) }
                return
            }
            logger.warning("the running containerd does not answer; replacing it", metadata: ["pid": "\(running.pid)"])
            await running.terminate()
        }
        let child = try await launch()
        guard await answers(within: Self.startTimeout, of: child.identity) else {
            await child.identity.terminate(grace: .seconds(1))
            throw HostsError("containerd did not come up; the end of \(configuration.logPath):\n\(logTail())")
        }
        watcher = Task { [weak self] in await self?.watch(child.identity, child) }
    }

    /// Ends containerd (not the containers) and stops watching it.
    package func stop() async {
        watcher?.cancel()
        watcher = nil
        if let process { await process.terminate() }
        process = nil
        SmallFile.remove(configuration.pidPath)
    }

    /// Stops watching, leaves containerd running: for a Martlet that ends while its pods go on.
    package func release() {
        watcher?.cancel()
        watcher = nil
    }

    // MARK: inside

    private func launch() async throws -> ChildProcess {
        try configuration.write()
        SmallFile.remove(configuration.socketPath)
        let containerd = try HostPrograms.find("containerd")
        let child = try ChildProcess(commandPrefix + [containerd, "--config", configuration.configurationPath], logPath: configuration.logPath)
        try child.identity.save(to: configuration.pidPath)
        process = child.identity
        await onStart?(child.identity)
        return child
    }

    /// Polls the CRI until it answers, or the process has ended, or time is up.
    private func answers(within timeout: Duration, of process: ProcessIdentity) async -> Bool {
        let clock = ContinuousClock()
        let end = clock.now + timeout
        while clock.now < end, process.isRunning {
            if SmallFile.exists(configuration.socketPath) {
                do throws(CRIError) {
                    _ = try await client.status(deadline: .seconds(2))
                    return true
                } catch {
                    // containerd is up but its CRI plugin did not load: waiting would not help.
                    if error.code == .unimplemented { return false }
                }
            }
            try? await Task.sleep(for: .milliseconds(20))
        }
        return false
    }

    private func watch(_ first: ProcessIdentity, _ child: ChildProcess?) async {
        let clock = ContinuousClock()
        var (current, child) = (first, child)
        var delay = Self.restartDelayMin
        while !Task.isCancelled {
            let started = clock.now
            let status: String
            if let child {
                guard let exit = await child.waitForExit() else { return }
                status = exit.description
            } else {
                while !Task.isCancelled, current.isRunning { try? await Task.sleep(for: .milliseconds(200)) }
                status = "ended"
            }
            if Task.isCancelled { return }
            logger.error("containerd ended; starting it again", metadata: ["status": "\(status)", "log": "\(configuration.logPath)"])
            delay = clock.now - started > Self.stableAfter ? Self.restartDelayMin : min(delay * 2, Self.restartDelayMax)
            try? await Task.sleep(for: delay)
            if Task.isCancelled { return }
            do {
                let next = try await launch()
                (current, child) = (next.identity, next)
                restarts += 1
            } catch {
                logger.error("cannot start containerd", metadata: ["error": "\(error)"])
            }
        }
    }

    private func logTail() -> String {
        let lines = (SmallFile.read(configuration.logPath) ?? "").split(separator: "\n")
        let problems = lines.filter { $0.contains("level=error") || $0.contains("level=fatal") || $0.contains("io.containerd.grpc.v1.cri\" error=") }
        return (problems.isEmpty ? lines : problems).suffix(10).joined(separator: "\n")
    }
}
