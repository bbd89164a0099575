import CRI
import Cgroup
import Foundation
import Glibc
import Hosts
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import NodeAgent
import PKI
import Processes
import Testing

/// A kubelet on a real containerd, with an API server in memory. Unlike a real host it lives in this process's namespaces (a test process
/// cannot move into others); its pods have network namespaces of their own.
struct KubeletBench {
    static let port = 10259
    let data: String
    let host: HostPlan
    let cgroups: CgroupHierarchy
    let supervisor: ContainerdSupervisor
    let api = FakeAPIServer()
    let pki: ClusterPKI
    var client: KubeClient { KubeClient(transport: api) }
    var runtime: CRIClient { supervisor.client }
    private let identity: ClusterIdentity

    /// Runs the body with an agent, and removes everything afterwards.
    static func run(_ body: (KubeletBench) async throws -> Void) async throws {
        let bench = try await KubeletBench()
        do {
            try await bench.start()
            try await body(bench)
        } catch {
            try await bench.tearDown()
            throw error
        }
        try await bench.tearDown()
    }

    private init() async throws {
        data = "/tmp/martlet-kubelet-\(getpid())"
        identity = ClusterIdentity(dataDirectory: data)
        cgroups = try CgroupHierarchy.detect()
        let plan = try ClusterPlan(identity: identity, nodes: ["node-0"], dataDirectory: data, subnetPrefix: "172.30.99", podPrefix: "10.197")
        host = plan.hosts[0]
        pki = try ClusterPKI(folder: data + "/pki", names: SubjectNames(dnsNames: ["node-0"]), nowSeconds: Int64(SystemTime().now()))
        try cgroups.create(host.systemCgroup)
        let (cgroups, system) = (cgroups, host.systemCgroup)
        supervisor = try ContainerdSupervisor(ContainerdConfiguration(host: host)) { try? cgroups.add(pid: $0.pid, to: system) }
    }

    private func start() async throws {
        let script = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/Tools/make-test-images.sh"
        try await ProcessRunner.runChecked(Command([script, "/tmp/martlet-images"], timeout: .seconds(120)))
        let configuration = ContainerdConfiguration(host: host)
        try CNIConfiguration.write(
            directory: configuration.cniConfigurationDirectory, podCIDR: host.podCIDR, dataDirectory: host.runDirectory + "/cni", bridge: bridge)
        try await supervisor.start()
        try await PauseImage.ensure(runtime)
        for image in ["busybox", "app", "nginx-1.14.2"] {
            try await ImageImport.run(path: "/tmp/martlet-images/\(image).tar", socketPath: configuration.socketPath)
        }
        try await client.create(Service(json: [
            "metadata": ["name": "kubernetes", "namespace": "default"], "spec": ["clusterIP": "10.96.0.1", "ports": [["name": "https", "port": 443]]],
        ]))
    }

    private var bridge: String { "k\(identity.id)" }

    private func tearDown() async throws {
        await supervisor.release()
        try await HostTearDown.tearDown(identity, cgroups: cgroups)
        _ = try await ProcessRunner.run(Command(["ip", "link", "del", bridge]))
        for _ in 0..<20 where FileManager.default.fileExists(atPath: data) {
            try? FileManager.default.removeItem(atPath: data)
            try await Task.sleep(for: .milliseconds(50))
        }
    }

    // MARK: the agent

    func agent(_ change: (inout NodeAgentConfiguration) -> Void = { _ in }) throws -> RunningAgent {
        var configuration = NodeAgentConfiguration(nodeName: "node-0", nodeIP: "127.0.0.1")
        configuration.cgroupRoot = host.cgroup + "/kubepods"
        configuration.rootDirectory = data + "/kubelet"
        configuration.podLogsDirectory = data + "/logs"
        configuration.containerLogsDirectory = data + "/container-logs"
        configuration.localVolumesDirectory = data + "/volumes"
        configuration.eviction.isEnabled = false
        let serving = try pki.authority.issueServer(
            commonName: "node-0", names: SubjectNames(dnsNames: ["node-0"], ipAddresses: ["127.0.0.1"]), nowSeconds: Int64(SystemTime().now()))
        configuration.serving = .init(
            certificatePEM: serving.certificatePEM, keyPEM: serving.keyPEM, clientCAPEM: pki.authority.pair.certificatePEM, port: Self.port)
        change(&configuration)
        let agent = try NodeAgent(configuration: configuration, client: client, runtime: runtime, cgroups: cgroups)
        return RunningAgent(agent: agent, task: Task { try await agent.run() })
    }

    struct RunningAgent {
        let agent: NodeAgent
        let task: Task<Void, any Error>
        func stop() async throws {
            await agent.stop()
            try await task.value
        }
    }

    // MARK: pods

    func create(_ name: String, _ spec: JSON) async throws {
        var spec = spec
        spec["nodeName"] = "node-0"
        try await client.create(Pod(json: ["metadata": ["name": .string(name), "namespace": "default"], "spec": spec]))
    }

    func pod(_ name: String) async throws -> Pod { try await client.get(Pod.self, namespace: "default", name: name) }

    @discardableResult
    func wait(_ name: String, seconds: Double = 20, _ what: Comment, _ test: (Pod) -> Bool) async throws -> Pod {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            let pod = try await pod(name)
            if test(pod) { return pod }
            if ContinuousClock.now > end {
                Issue.record("\(name): not \(what) after \(seconds) s: \(pod.status.json)")
                return pod
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    @discardableResult
    func waitReady(_ name: String) async throws -> Pod {
        try await wait(name, "ready") { $0.status.conditions.contains { $0.type == "Ready" && $0.status == "True" } }
    }

    func delete(_ name: String, graceSeconds: Int? = nil) async throws {
        try await client.delete(Pod.self, namespace: "default", name: name, gracePeriodSeconds: graceSeconds)
    }

    func waitGone(_ name: String, seconds: Double = 20) async throws {
        let end = ContinuousClock.now + .seconds(seconds)
        while try await client.find(Pod.self, namespace: "default", name: name) != nil {
            if ContinuousClock.now > end {
                Issue.record("\(name) is still there after \(seconds) s")
                return
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Output of a shell command in the pod's first container.
    func shell(_ pod: String, _ command: String) async throws -> String {
        let id = try await self.pod(pod).status.containerStatuses[0].containerID.dropFirst("containerd://".count)
        let answer = try await runtime.execSync(String(id), command: ["sh", "-c", command], timeoutSeconds: 10)
        return String(decoding: answer.stdout + answer.stderr, as: UTF8.self)
    }

    func events(_ pod: String) async throws -> [Event] {
        try await client.list(Event.self).items.filter { $0.involvedObject.name == pod }
    }

    /// A request to the kubelet's port as the API server.
    func get(_ path: String, asServer: Bool = true) async throws -> String {
        let folder = data + "/pki"
        let certificate = asServer ? ["--cert", folder + "/apiserver-kubelet-client.crt", "--key", folder + "/apiserver-kubelet-client.key"] : []
        return try await ProcessRunner.run(
            Command(["curl", "-sS", "--max-time", "5", "--cacert", folder + "/ca.crt"] + certificate + ["https://127.0.0.1:\(Self.port)\(path)"])).outputText
    }
}
