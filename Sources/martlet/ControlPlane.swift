import APIServer
import Controllers
import FoundationEssentials
import KubeAPI
import KubeClient
import KubeMeta
import Logging
import PKI
import Scheduler
import SimulatedNodes
import Store
import StoreSQLite
import Wire

/// What a control plane is made with.
struct ControlPlaneOptions: Sendable {
    var folder: DataFolder
    var host = "0.0.0.0"
    var port = 6443
    /// Where nodes and pods reach the API server.
    var advertiseAddress = "127.0.0.1"
    var extraAddresses: [String] = []
    var staticTokens: [String: UserInfo] = [:]
    /// Nodes without containers, run in this process.
    var simulatedNodes = 0
    /// Components that do not run: `scheduler`, `controllers`.
    var disabled: Set<String> = []
    var serviceCIDR = "10.96.0.0/16"
    var clusterCIDR = "10.244.0.0/16"
    var clusterDNSAddress: String? = "10.96.0.10"
    /// The folder on a node for volumes of the local-path provisioner.
    var localPathFolder: @Sendable (String) -> String = { _ in "/var/lib/martlet/volumes" }
}

/// Store, API server, controllers and scheduler in one process.
final class ControlPlane: Sendable {
    let options: ControlPlaneOptions
    let server: APIServer
    let pki: ClusterPKI
    private let store: SQLiteStore
    private let wire: WireServer
    private let components: [Task<Void, Never>]

    private init(
        options: ControlPlaneOptions, server: APIServer, pki: ClusterPKI, store: SQLiteStore, wire: WireServer, components: [Task<Void, Never>]
    ) {
        self.options = options
        self.server = server
        self.pki = pki
        self.store = store
        self.wire = wire
        self.components = components
    }

    /// Starts everything; returns when requests are answered.
    static func start(_ options: ControlPlaneOptions) async throws -> ControlPlane {
        Memory.configure()
        try options.folder.create()
        // Opening the store, making keys and reading the schema do not need each other: they share the time of a start.
        async let opening = Blocking.run { Result { () throws(StoreError) in try SQLiteStore(folder: options.folder.store) } }
        async let reading = Blocking.run { Schema.builtIn }
        let addresses = ["127.0.0.1", serviceAddress(options.serviceCIDR), options.advertiseAddress] + options.extraAddresses
        let keys = await Blocking.run {
            Result {
                try ClusterPKI.load(
                    folder: options.folder.pki,
                    names: SubjectNames(
                        dnsNames: [
                            "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
                        ], ipAddresses: Array(Set(addresses)).sorted()), nowSeconds: Int64(SystemTime().now()))
            }
        }
        let store: SQLiteStore
        switch await opening {
        case .success(let opened): store = opened
        case .failure(let error): throw CommandFailure(describe(error, options.folder))
        }
        do {
            return try await start(options, store: store, pki: try keys.get(), schema: await reading)
        } catch let error as CertificateFailure {
            await store.close()
            throw CommandFailure("the certificates in \(options.folder.pki) cannot be used: \(error)")
        } catch {
            await store.close()
            throw error
        }
    }

    private static func start(_ options: ControlPlaneOptions, store: SQLiteStore, pki: ClusterPKI, schema: Schema) async throws -> ControlPlane {
        // The new keys reach the disk while the store is filled; nobody is answered before they have.
        async let saving = Blocking.run { Result { try pki.save() } }
        let verifierKey = try TokenKey(pem: pki.serviceAccountKey.certificatePEM)
        var authentication = AuthenticationConfiguration(
            signer: try TokenSigner(pem: pki.serviceAccountKey.keyPEM), verifier: TokenVerifier(keys: [verifierKey]))
        authentication.staticTokens = options.staticTokens
        let join = try JoinToken.ofServer(options.folder, authorityPEM: pki.authority.pair.certificatePEM)
        authentication.staticTokens[join.secret] = UserInfo(name: JoinToken.userName, groups: [JoinToken.group])
        var configuration = APIServerConfiguration(authentication: authentication)
        configuration.serviceCIDR = options.serviceCIDR
        configuration.advertiseAddress = options.advertiseAddress
        configuration.port = options.port
        configuration.clusterDNSAddress = options.clusterDNSAddress
        configuration.kubeletClient = pki.apiServerKubeletClient
        configuration.kubeletAuthorityPEM = pki.authority.pair.certificatePEM
        configuration.authority = pki.authority
        let server = APIServer(store: store, configuration: configuration, schema: schema)
        let wire = WireServer(
            configuration: WireConfiguration(
                host: options.host, port: options.port,
                tls: WireTLS(
                    certificateChainPEM: pki.apiServer.certificatePEM, privateKeyPEM: pki.apiServer.keyPEM,
                    clientCAPEM: pki.authority.pair.certificatePEM)), handler: server)
        try await server.start()
        try await saving.get()
        do {
            _ = try await wire.start()
        } catch let error as WireError {
            throw CommandFailure("\(error); stop what uses the port, or choose another with --port")
        }
        return ControlPlane(
            options: options, server: server, pki: pki, store: store, wire: wire,
            components: startComponents(server: server, options: options, pki: pki))
    }

    private static func startComponents(server: APIServer, options: ControlPlaneOptions, pki: ClusterPKI) -> [Task<Void, Never>] {
        // One cache and one decoding of each event for all; each writes as itself, through a client of its own.
        let factory = InformerFactory(client: KubeClient(transport: LocalTransport(server: server, component: "martlet")))
        func client(_ component: String) -> KubeClient { KubeClient(transport: LocalTransport(server: server, component: component)) }
        // All handlers are in place before the first informer starts.
        var runs: [@Sendable () async -> Void] = []
        if !options.disabled.contains("controllers") {
            var controllerOptions = ControllerOptions()
            controllerOptions.clusterCertificatePEM = pki.authority.pair.certificatePEM
            controllerOptions.clusterCIDR = options.clusterCIDR
            controllerOptions.localPathFolder = options.localPathFolder
            controllerOptions.certificateSigner = CertificateSigner(
                authority: pki.authority, reservedAddresses: [serviceAddress(options.serviceCIDR), options.advertiseAddress])
            let manager = ControllerManager(factory: factory, client: client("kube-controller-manager"), options: controllerOptions)
            runs.append { await manager.run() }
        }
        if !options.disabled.contains("scheduler") {
            let scheduler = Scheduler(factory: factory, client: client("kube-scheduler"))
            runs.append { await scheduler.run() }
        }
        if options.simulatedNodes > 0 {
            let nodes = SimulatedNodes(count: options.simulatedNodes, client: client("simulated-node"), factory: factory)
            runs.append { await nodes.run() }
        }
        runs.append { await Memory.trimLoop() }
        return runs.map { run in Task { await run() } }
    }

    private static func serviceAddress(_ cidr: String) -> String {
        var parts = cidr.split(separator: "/")[0].split(separator: ".").compactMap { Int($0) }
        guard parts.count == 4 else { return "10.96.0.1" }
        parts[3] += 1
        return parts.map(String.init).joined(separator: ".")
    }

    private static func describe(_ error: StoreError, _ folder: DataFolder) -> String {
        switch error {
        case .newerFormat(let found, let supported):
            "the data in \(folder.path) was written by a newer Martlet (format \(found), this one knows up to \(supported)); nothing was changed. Use the newer program, or another --data-dir"
        case .unavailable(let text), .full(let text): text
        case .corrupt(let text): "the data in \(folder.path) is damaged: \(text)"
        default: "\(error)"
        }
    }

    /// Writes the administrator's kubeconfig.
    func writeKubeconfig(server address: String) throws {
        let file = Kubeconfig(
            clusterName: "martlet", userName: "kubernetes-admin", contextName: "martlet", server: "https://\(address):\(options.port)",
            authorityPEM: pki.authority.pair.certificatePEM, client: pki.admin)
        try file.write(folder: options.folder.path, name: "kubeconfig")
    }

    /// Ends requests and writes, and closes the store.
    func stop() async {
        for task in components { task.cancel() }
        await wire.shutdown(graceSeconds: 2)
        server.stop()
        await store.close()
    }
}
