import APIServer
import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import PKI
import Scheduler
import SimulatedNodes
import Store
import StoreSQLite
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Store, API server, controllers, scheduler and simulated nodes in one process, on a virtual clock.
final class VirtualCluster: Sendable {
    /// 2027-01-15T08:00:00Z, a whole minute.
    static let start = 1_800_000_000.0

    let time: VirtualTime
    let store: SQLiteStore
    let server: APIServer
    let client: KubeClient
    /// Two groups of nodes, each of which can be silenced.
    let groups: [SimulatedNodes]
    private let tasks: [Task<Void, Never>]
    private let folder: String

    private init(
        time: VirtualTime, store: SQLiteStore, server: APIServer, client: KubeClient, groups: [SimulatedNodes], tasks: [Task<Void, Never>],
        folder: String
    ) {
        self.time = time
        self.store = store
        self.server = server
        self.client = client
        self.groups = groups
        self.tasks = tasks
        self.folder = folder
    }

    static func run(nodesPerGroup: Int = 2, _ body: (VirtualCluster) async throws -> Void) async throws {
        var template = Array("/tmp/martlet-cluster-XXXXXX".utf8CString)
        let folder = template.withUnsafeMutableBufferPointer { buffer -> String in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else { return "/tmp/martlet-cluster" }
            return String(cString: base)
        }
        let time = VirtualTime(start)
        var options = SQLiteStoreOptions()
        options.readerThreads = 1
        options.tickMilliseconds = 20
        options.nowSeconds = { Int64(time.now()) }
        let store = try SQLiteStore(folder: folder, options: options)
        let key = TokenSigner.createKey()
        let authentication = AuthenticationConfiguration(
            signer: try TokenSigner(pem: key.keyPEM), verifier: TokenVerifier(keys: [try TokenKey(pem: key.certificatePEM)]))
        let server = APIServer(store: store, configuration: APIServerConfiguration(authentication: authentication), time: time)
        try await server.start()
        func client(_ component: String) -> KubeClient {
            KubeClient(transport: LocalTransport(server: server, component: component), time: time)
        }
        let controllerClient = client("kube-controller-manager")
        let manager = ControllerManager(factory: InformerFactory(client: controllerClient), client: controllerClient)
        let schedulerClient = client("kube-scheduler")
        let scheduler = Scheduler(factory: InformerFactory(client: schedulerClient), client: schedulerClient)
        let nodeClient = client("kubelet")
        let groups = ["a-", "b-"].map {
            SimulatedNodes(count: nodesPerGroup, namePrefix: $0, client: nodeClient, factory: InformerFactory(client: nodeClient))
        }
        var tasks = [Task { await manager.run() }, Task { await scheduler.run() }]
        for group in groups { tasks.append(Task { await group.run() }) }
        let cluster = VirtualCluster(
            time: time, store: store, server: server, client: client("test"), groups: groups, tasks: tasks, folder: folder)
        let result: Result<Void, any Error>
        do {
            try await cluster.advance(5)
            result = .success(try await body(cluster))
        } catch { result = .failure(error) }
        for group in groups { await group.gate.release() }
        for task in tasks { task.cancel() }
        server.stop()
        await store.close()
        for name in ["state.db", "state.db-wal", "state.db-shm", "lock"] { unlink("\(folder)/\(name)") }
        rmdir(folder)
        try result.get()
    }

    /// Waits (in real time) until nothing more is written and nobody newly sleeps.
    func settle() async throws {
        var quiet = 0
        var last = (store.currentRevision, time.begun)
        for _ in 0..<4000 {
            try await Task.sleep(nanoseconds: 500_000)
            let now = (store.currentRevision, time.begun)
            quiet = now == last ? quiet + 1 : 0
            last = now
            if quiet >= 3 { return }
        }
    }

    /// Moves the clock, waking sleepers in their order; after every step the cluster comes to rest.
    func advance(_ seconds: Double, check: (() async throws -> Void)? = nil) async throws {
        let end = time.now() + seconds
        try await settle()
        while time.step(to: end) {
            try await settle()
            try await check?()
        }
        try await settle()
    }

    /// Advances until a condition holds; records a failure when it does not within the time.
    func advance(upTo seconds: Double, _ what: String, until condition: () async throws -> Bool) async throws {
        let end = time.now() + seconds
        while time.now() < end {
            if try await condition() { return }
            try await advance(min(1, end - time.now()))
        }
        if try await condition() { return }
        Issue.record("not within \(Int(seconds)) s: \(what)")
    }

    func pods(_ namespace: String = "default") async throws -> [Pod] { try await client.list(Pod.self, namespace: namespace).items }

    static func isReady(_ pod: Pod) -> Bool {
        pod.metadata.deletionTimestamp == nil && pod.status.conditions.contains { $0.type == "Ready" && $0.status == "True" }
    }

    func readyPods() async throws -> [Pod] { try await pods().filter(Self.isReady) }

    static func deployment(_ name: String, replicas: Int, image: String = "nginx:1", cpu: String = "100m") -> Deployment {
        Deployment(json: [
            "metadata": ["name": .string(name), "namespace": "default"],
            "spec": [
                "replicas": JSON(replicas), "selector": ["matchLabels": ["app": .string(name)]],
                "template": [
                    "metadata": ["labels": ["app": .string(name)]],
                    "spec": [
                        "containers": [["name": "c", "image": .string(image), "resources": ["requests": ["cpu": .string(cpu), "memory": "16Mi"]]]]
                    ],
                ],
            ],
        ])
    }
}
