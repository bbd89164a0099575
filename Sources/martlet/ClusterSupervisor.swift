import Cgroup
import FoundationEssentials
import Hosts
import KubeClient
import KubeMeta
import Logging
import PKI
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// Runs a cluster on this machine: the control plane in this process, each node's agent as a process of its own on its host. Agents and
/// what they run outlive this process; the next one adopts them.
final class ClusterSupervisor: Sendable {
    private let folder: DataFolder
    private let state: ClusterState
    private let tokenAuthFile: String?
    private let logger = Logger(label: "martlet.up")

    /// Between two starts of an agent that keeps dying.
    private static let restartSecondsMin = 0.2
    private static let restartSecondsMax = 10.0

    init(folder: DataFolder, state: ClusterState, tokenAuthFile: String?) {
        self.folder = folder
        self.state = state
        self.tokenAuthFile = tokenAuthFile
    }

    /// Runs until SIGINT or SIGTERM.
    func run() async throws {
        let started = SystemTime().now()
        guard let me = ProcessIdentity(pid: ProcessInfo.processInfo.processIdentifier) else { throw CommandFailure("/proc is not mounted") }
        try me.save(to: folder.pidFile)
        defer { unlink(folder.pidFile) }
        var state = state
        let identity = ClusterIdentity(dataDirectory: folder.path)
        var plan: ClusterPlan?
        if state.nodes > 0 {
            if state.subnetPrefix.isEmpty { state.subnetPrefix = try await HostNetwork.chooseSubnet(identity) }
            plan = try ClusterPlan(
                identity: identity, nodes: state.nodeNames, dataDirectory: folder.path, subnetPrefix: state.subnetPrefix, podPrefix: state.podPrefix)
        }
        try state.save(folder)

        var options = ControlPlaneOptions(folder: folder)
        options.port = state.port
        options.clusterCIDR = "\(state.podPrefix).0.0/16"
        let path = folder.path
        options.localPathFolder = { "\(DataFolder.node($0, in: path))/volumes" }
        options.simulatedNodes = state.simulatedNodes
        if let plan { options.advertiseAddress = plan.gateway }
        if let tokenAuthFile { options.staticTokens = try TokenFile.load(tokenAuthFile) }

        // Hosts and control plane come up side by side.
        let cgroups = plan == nil ? nil : try CgroupHierarchy.detect()
        async let hosts: Void = Self.makeHosts(plan, cgroups)
        let plane = try await ControlPlane.start(options)
        try plane.writeKubeconfig(server: "127.0.0.1")
        try await hosts

        var tasks: [Task<Void, Never>] = []
        if let plan, let cgroups {
            for host in plan.hosts {
                let files = try NodeFiles(folder: folder, host: host, plan: plan, port: state.port, pki: plane.pki)
                tasks.append(Task { [self] in await keepAgent(host, files, cgroups) })
            }
        }
        let waiter = ReadyWaiter(folder: folder, started: started, nodes: state.nodes + state.simulatedNodes)
        let folder = folder
        tasks.append(
            Task {
                do {
                    try await waiter.wait { true }
                    if Console.isTerminal { Console.line(UpCommand.usage(folder)) }
                } catch { Console.progress("\(error)") }
            })
        await Signals.waitForTermination()
        Console.progress("stopping; containers go on, `martlet up` continues the cluster and `martlet down` removes it")
        for task in tasks { task.cancel() }
        await plane.stop()
    }

    private static func makeHosts(_ plan: ClusterPlan?, _ cgroups: CgroupHierarchy?) async throws {
        guard let plan, let cgroups else { return }
        try await HostNetwork.up(plan, cgroups: cgroups)
    }

    /// Starts the agent of a host, or adopts the one that runs, and starts it again whenever it ends.
    private func keepAgent(_ host: HostPlan, _ files: NodeFiles, _ cgroups: CgroupHierarchy) async {
        let time = SystemTime()
        var delay = Self.restartSecondsMin
        while !Task.isCancelled {
            let begun = time.now()
            do {
                if let running = ProcessIdentity(pidFile: files.pidFile), running.isRunning {
                    logger.info("adopted the agent of \(host.node), process \(running.pid)")
                    while running.isRunning, !Task.isCancelled { try await time.sleep(seconds: 0.2) }
                } else {
                    let child = try ChildProcess(
                        host.command([files.executable, "agent", "--config", files.configuration]), logPath: files.log)
                    try? cgroups.add(pid: child.pid, to: host.systemCgroup)
                    try child.identity.save(to: files.pidFile)
                    let status = await child.waitForExit()
                    if Task.isCancelled { return }
                    logger.warning("the agent of \(host.node) ended: \(status.map { "\($0)" } ?? "unknown"); see \(files.log)")
                }
            } catch is CancellationError {
                return
            } catch {
                logger.error("the agent of \(host.node) did not start: \(error)")
            }
            if time.now() - begun > 10 { delay = Self.restartSecondsMin }
            try? await time.sleep(seconds: delay)
            delay = min(delay * 2, Self.restartSecondsMax)
        }
    }
}

/// The files of one node: credentials, configuration, log.
struct NodeFiles: Sendable {
    let directory: String
    let executable: String
    var configuration: String { "\(directory)/agent.json" }
    var kubeconfig: String { "\(directory)/kubeconfig" }
    var pidFile: String { "\(directory)/agent.pid" }
    var log: String { "\(directory)/agent.log" }

    private static let renewBeforeSeconds: Int64 = 30 * 86_400

    init(folder: DataFolder, host: HostPlan, plan: ClusterPlan, port: Int, pki: ClusterPKI) throws {
        directory = folder.node(host.node)
        try DataFolder(directory).create()
        guard let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw CommandFailure("/proc/self/exe cannot be read")
        }
        executable = path
        let now = Int64(SystemTime().now())
        let client = try Self.pair("\(directory)/kubelet-client", renewing: now) {
            try pki.authority.issueClient(commonName: "system:node:\(host.node)", organizations: ["system:nodes"], nowSeconds: now)
        }
        let serving = try Self.pair("\(directory)/kubelet", renewing: now) {
            try pki.authority.issueServer(
                commonName: "system:node:\(host.node)", names: SubjectNames(dnsNames: [host.node], ipAddresses: [host.address, "127.0.0.1"]),
                nowSeconds: now)
        }
        try Kubeconfig(
            clusterName: "martlet", userName: "system:node:\(host.node)", contextName: "martlet", server: "https://\(plan.gateway):\(port)",
            authorityPEM: pki.authority.pair.certificatePEM, client: client
        ).write(folder: directory, name: "kubeconfig")
        try AgentConfiguration(
            nodeName: host.node, nodeAddress: host.address, podCIDR: host.podCIDR, clusterCIDR: "\(plan.podPrefix).0.0/16",
            kubeconfig: "\(directory)/kubeconfig", dataDirectory: host.dataDirectory, runDirectory: host.runDirectory, volumesDirectory: "\(directory)/volumes", cgroup: host.cgroup,
            servingCertificatePEM: serving.certificatePEM, servingKeyPEM: serving.keyPEM,
            clientAuthorityPEM: pki.authority.pair.certificatePEM
        ).save("\(directory)/agent.json")
    }

    /// The pair kept in files, made anew when it is missing or near its end.
    private static func pair(_ path: String, renewing now: Int64, _ make: () throws -> CertificatePair) throws -> CertificatePair {
        if let certificate = SmallFile.read(path + ".crt"), let key = SmallFile.read(path + ".key"),
            let identity = try? CertificateIdentity(pem: certificate), identity.notAfterSeconds - now > renewBeforeSeconds
        {
            return CertificatePair(certificatePEM: certificate, keyPEM: key)
        }
        let fresh = try make()
        try SmallFile.write(fresh.keyPEM, to: path + ".key", mode: 0o600)
        try SmallFile.write(fresh.certificatePEM, to: path + ".crt")
        return fresh
    }
}
