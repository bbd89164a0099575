import Cgroup
import ClusterDNS
import Hosts
import KubeClient
import KubeMeta
import Logging
import NodeAgent
import Processes
import ServiceProxy

/// The parts of a node and the order in which they come up.
struct AgentNode: Sendable {
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
                logPath: configuration.dataDirectory + "/containerd.log", cniConfigurationDirectory: cniFolder),
        onStart: { process in
            if let cgroup = configuration.systemCgroup { try? CgroupHierarchy.detect().add(pid: process.pid, to: cgroup) }
        })
        let factory = InformerFactory(client: client)
        var kubelet = NodeAgentConfiguration(nodeName: configuration.nodeName, nodeIP: configuration.nodeAddress)
        kubelet.cgroupRoot = configuration.cgroup + "/kubepods"
        kubelet.clusterDNS = [Self.clusterDNSAddress]
        kubelet.podCIDR = configuration.podCIDR.isEmpty ? nil : configuration.podCIDR
    if configuration.keepsFoldersInData {
        kubelet.rootDirectory = configuration.dataDirectory + "/kubelet"
        kubelet.podLogsDirectory = configuration.dataDirectory + "/pod-logs"
        kubelet.containerLogsDirectory = configuration.dataDirectory + "/container-logs"
        kubelet.cniDataDirectory = configuration.dataDirectory + "/cni/networks"
    }
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
