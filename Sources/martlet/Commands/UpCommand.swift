import ArgumentParser
import Cgroup
import FoundationEssentials
import Hosts
import KubeClient
import KubeClientHTTP
import KubeMeta
import KubeTypes
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// `martlet up`: a cluster on this machine.
struct UpCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up", abstract: "Start a cluster on this machine, or continue one that was stopped or killed.",
        discussion: """
            Nodes are hosts made of network namespaces, each with its own containerd; they need root. Simulated nodes need neither root nor
            containers.

            Example: martlet up --nodes 2 --detach
            """)

    @Option(help: "Nodes that run real containers (needs root).") var nodes: Int?
    @Option(help: "Control plane servers (1; more are not supported yet).") var servers = 1
    @Option(help: "Nodes without containers.") var simulatedNodes: Int?
    @Option(help: "The store: sqlite.") var datastore = "sqlite"
    @Option(help: "Folder of the cluster's data.") var dataDir: String?
    @Option(help: "Port of the API.") var port: Int?
    @Flag(help: "Return when the cluster is ready, and let it run in the background.") var detach = false
    @Option(help: "CSV file of static tokens: token,user,uid,\"groups\".") var tokenAuthFile: String?

    func validate() throws {
        if let nodes, !(0...ClusterPlan.hostsMax).contains(nodes) { throw ValidationError("--nodes must be between 0 and \(ClusterPlan.hostsMax)") }
        if let simulatedNodes, !(0...10_000).contains(simulatedNodes) { throw ValidationError("--simulated-nodes must be between 0 and 10000") }
        if let port, !(1...65535).contains(port) { throw ValidationError("--port must be between 1 and 65535") }
        guard servers == 1 else { throw ValidationError("--servers \(servers) is not supported yet: this version runs one server (see the README's table)") }
        guard datastore == "sqlite" else {
            throw ValidationError("--datastore \(datastore) is not supported yet: this version has sqlite only (see the README's table)")
        }
    }

    func run() async throws {
        let folder = try DataFolder(dataDir)
        if let running = folder.running {
            throw CommandFailure(
                "a cluster already runs on \(folder.path) (process \(running.pid)); see `martlet status --data-dir \(folder.path)`, or use another --data-dir")
        }
        let previous = try ClusterState.load(folder)
        var state = previous ?? ClusterState(nodes: 0, simulatedNodes: 0, port: 6443, subnetPrefix: "", podPrefix: "10.244")
        if let nodes { state.nodes = nodes }
        if let simulatedNodes { state.simulatedNodes = simulatedNodes }
        if previous == nil, nodes == nil, simulatedNodes == nil { state.nodes = 1 }
        if let port { state.port = port }
        if state.nodes > 0 { try checkHost() }
        try await checkPort(state.port, patient: previous != nil)
        try folder.create()
        if detach {
            try await runDetached(folder, state)
        } else {
            try await ClusterSupervisor(folder: folder, state: state, tokenAuthFile: tokenAuthFile).run()
        }
    }

    private func checkHost() throws {
        guard geteuid() == 0 else {
            throw CommandFailure(
                "nodes are made of network namespaces, which needs root; run it with sudo, or use --nodes 0 --simulated-nodes N for nodes without containers")
        }
        let missing = HostCheck.missing(for: .hosts)
        guard missing.isEmpty else {
            throw CommandFailure("this machine lacks what nodes need:\n" + missing.map { "  \($0)" }.joined(separator: "\n"))
        }
    }

    /// A killed process holds its sockets until its last thread is gone, which can take a moment after its pid has become a zombie.
    private static let portSecondsMax = 3.0

    /// The port must be free before anything is changed.
    ///
    /// - Parameter patient: this cluster ran before, so the one that holds the port may be its own remains.
    private func checkPort(_ port: Int, patient: Bool) async throws {
        let time = SystemTime()
        let end = time.now() + (patient ? Self.portSecondsMax : 0)
        while let problem = Self.portProblem(port) {
            guard time.now() < end else {
                throw CommandFailure("listen tcp 0.0.0.0:\(port): \(problem); stop what uses the port, or choose another with --port")
            }
            try await time.sleep(seconds: 0.02)
        }
    }

    /// Why the port cannot be listened on; nil when it can.
    private static func portProblem(_ port: Int) -> String? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard result == 0, listen(descriptor, 1) == 0 else { return String(cString: strerror(errno)).lowercased() }
        return nil
    }

    private func runDetached(_ folder: DataFolder, _ state: ClusterState) async throws {
        let started = SystemTime().now()
        var arguments = ["/proc/self/exe", "up", "--data-dir", folder.path, "--port", String(state.port), "--nodes", String(state.nodes),
            "--simulated-nodes", String(state.simulatedNodes)]
        if let tokenAuthFile { arguments += ["--token-auth-file", tokenAuthFile] }
        unlink(folder.kubeconfig)
        let child = try ChildProcess(arguments, logPath: folder.log)
        let waiter = ReadyWaiter(folder: folder, started: started, nodes: state.nodes + state.simulatedNodes)
        do {
            try await waiter.wait { child.exitStatus == nil }
        } catch {
            if child.exitStatus != nil {
                let lines = (SmallFile.read(folder.log) ?? "").split(separator: "\n").suffix(5).joined(separator: "\n")
                throw CommandFailure("the cluster did not start:\n\(lines)\nThe whole log is in \(folder.log)")
            }
            throw error
        }
        Console.line(Self.usage(folder))
    }

    static func usage(_ folder: DataFolder) -> String {
        """
        The cluster is ready.

          export KUBECONFIG=\(folder.kubeconfig)
          kubectl get nodes -o wide
          kubectl create deployment web --image=nginx:1.14.2 --replicas=3
          kubectl get pods -A --watch

        Images are not pulled from anywhere unless a registry answers: `martlet image import FILE` brings your own.
        Stop the cluster and remove what it made on this machine: martlet down --data-dir \(folder.path)
        """
    }
}

/// Waits, with progress, until the API answers and every node is Ready.
struct ReadyWaiter: Sendable {
    var folder: DataFolder
    var started: Double
    var nodes: Int

    private static let limitSeconds = 120.0

    func wait(while isAlive: () -> Bool) async throws {
        let time = SystemTime()
        var transport: HTTPTransport?
        defer { if let transport { Task { try? await transport.shutdown() } } }
        var sawAPI = false
        var ready: Set<String> = []
        while isAlive() {
            if time.now() - started > Self.limitSeconds {
                throw CommandFailure(
                    "after \(Int(Self.limitSeconds)) s \(sawAPI ? "\(ready.count) of \(nodes) nodes are Ready" : "the API does not answer"); see \(folder.log)")
            }
            if transport == nil, SmallFile.read(folder.kubeconfig) != nil { transport = try? KubeConfigFile.load(path: folder.kubeconfig).transport() }
            if let transport {
                if !sawAPI, (try? await transport.getRaw("/readyz"))?.status == 200 {
                    sawAPI = true
                    progress("the control plane is ready", time.now())
                }
                if sawAPI, let list = try? await KubeClient(transport: transport).list(Node.self) {
                    for node in list.items where node.status.conditions.contains(where: { $0.type == "Ready" && $0.status == "True" }) {
                        if ready.insert(node.metadata.name).inserted, nodes <= 10 { progress("\(node.metadata.name) is Ready", time.now()) }
                    }
                    if ready.count >= nodes { return }
                }
            }
            try await time.sleep(seconds: 0.02)
        }
        throw CommandFailure("the cluster ended")
    }

    private func progress(_ text: String, _ now: Double) {
        Console.progress("\(text) after \((((now - started) * 100).rounded() / 100)) s")
    }
}
