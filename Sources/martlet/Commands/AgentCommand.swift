import ArgumentParser
import Cgroup
import ClusterDNS
import Hosts
import KubeClient
import KubeClientHTTP
import KubeMeta
import Logging
import NodeAgent
import Processes
import ServiceProxy

/// `martlet agent`: one node, that is kubelet, service proxy and cluster DNS over a containerd of its own.
struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent", abstract: "Run a node: kubelet, service proxy and cluster DNS.",
        discussion: "`martlet up` starts an agent for each of its hosts.\nExample: martlet agent --config /var/lib/martlet/nodes/node-1/agent.json")

    @Option(help: "Configuration file written by `martlet up`.") var config: String?
    @Option(help: "Server to join (not supported yet).") var server: String?
    @Option(help: "Token to join with (not supported yet).") var token: String?
    @Option(help: "Folder of the node's data (not supported yet).") var dataDir: String?

    func validate() throws {
        guard server == nil, token == nil, dataDir == nil else {
            throw ValidationError("joining a server with --server and --token is not supported yet; `martlet up --nodes N` runs nodes (see the README's table)")
        }
        guard config != nil else { throw ValidationError("--config is missing") }
    }

    func run() async throws {
        let configuration = try AgentConfiguration.load(config ?? "")
        let missing = HostCheck.missing(for: .agent)
        guard missing.isEmpty else { throw CommandFailure(missing.map(\.description).joined(separator: "\n")) }
        let transport = try KubeConfigFile.load(path: configuration.kubeconfig).transport()
        let node = try Node(configuration, client: KubeClient(transport: transport))
        async let ended: Void = Signals.waitForTermination()
        let work = Task { try await node.run() }
        await ended
        work.cancel()
        await node.stop()
        try? await transport.shutdown()
    }

    /// The parts of a node and the order in which they come up.
    private struct Node: Sendable {
        let configuration: AgentConfiguration
        let containerd: ContainerdSupervisor
        let agent: NodeAgent
        let proxy: ServiceProxy
        let dns: ClusterDNS
        let logger = Logger(label: "martlet.agent")

        static let clusterDNSAddress = "10.96.0.10"

        init(_ configuration: AgentConfiguration, client: KubeClient) throws {
            self.configuration = configuration
            let cniFolder = configuration.dataDirectory + "/cni/net.d"
            containerd = try ContainerdSupervisor(
                ContainerdConfiguration(
                    rootDirectory: configuration.dataDirectory + "/containerd", runDirectory: configuration.runDirectory,
                    logPath: configuration.dataDirectory + "/containerd.log", cniConfigurationDirectory: cniFolder))
            let factory = InformerFactory(client: client)
            var kubelet = NodeAgentConfiguration(nodeName: configuration.nodeName, nodeIP: configuration.nodeAddress)
            kubelet.cgroupRoot = configuration.cgroup + "/kubepods"
            kubelet.clusterDNS = [Self.clusterDNSAddress]
            kubelet.podCIDR = configuration.podCIDR
            kubelet.cniConfigurationDirectory = cniFolder
            kubelet.managesRoutes = true
            kubelet.localVolumesDirectory = configuration.volumesDirectory
            kubelet.manifestParser = { try YAMLText.parse($0) }
            kubelet.serving = NodeAgentConfiguration.Serving(
                certificatePEM: configuration.servingCertificatePEM, keyPEM: configuration.servingKeyPEM,
                clientCAPEM: configuration.clientAuthorityPEM)
            agent = try NodeAgent(
                configuration: kubelet, client: client, informers: factory, runtime: containerd.client, cgroups: try CgroupHierarchy.detect())
            proxy = ServiceProxy(
                factory: factory, nodeName: configuration.nodeName,
                options: ServiceProxy.Options(clusterCIDR: configuration.clusterCIDR, localAddresses: [Self.clusterDNSAddress]))
            dns = try ClusterDNS(
                factory: factory,
                options: ClusterDNS.Options(address: Self.clusterDNSAddress, upstreams: HostResolver.nameservers()))
        }

        func run() async throws {
            try await containerd.start()
            try await PauseImage.ensure(containerd.client)
            try await dns.prepareInterface()
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await keep("kubelet") { try await agent.run() } }
                group.addTask { await keep("service proxy") { await proxy.run() } }
                group.addTask { await keep("cluster DNS") { try await dns.run() } }
            }
        }

        /// A part that fails is started again; the others go on.
        private func keep(_ name: String, _ body: () async throws -> Void) async {
            while !Task.isCancelled {
                do { try await body() } catch is CancellationError { return } catch { logger.error("\(name): \(error)") }
                if Task.isCancelled { return }
                try? await SystemTime().sleep(seconds: 1)
            }
        }

        func stop() async {
            await agent.stop()
            await containerd.release()
        }
    }
}

/// Name servers of this machine.
enum HostResolver {
    static func nameservers() -> [String] {
        (SmallFile.read("/etc/resolv.conf") ?? "").split(separator: "\n").compactMap { line in
            let words = line.split(whereSeparator: \.isWhitespace)
            return words.count == 2 && words[0] == "nameserver" ? String(words[1]) : nil
        }
    }
}
