import KubeClient
import KubeMeta
import KubeTypes

/// Publishes the cluster's certificate authority as ConfigMap `kube-root-ca.crt` in every namespace.
final class RootCertificatePublisher: Controller {
    static let name = "root-ca-certificate-publisher-controller"
    static let inputs = [Namespace.resource, ConfigMap.resource]
    static let outputs = [ConfigMap.resource]

    private static let mapName = "kube-root-ca.crt"
    private static let description =
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP "
        + "or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."

    private let context: ControllerContext
    private let namespaces: Informer<Namespace>
    private let maps: Informer<ConfigMap>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        namespaces = context.informer(Namespace.self)
        maps = context.factory.informer(
            ConfigMap.self, scope: InformerScope(fieldSelector: "metadata.name=\(Self.mapName)"))
        queue = WorkQueue(name: Self.name, time: context.time)
        namespaces.addHandler { [queue] event in
            if case .deleted = event { return }
            queue.enqueue(event.object.metadata.name)
        }
        maps.addHandler { [queue] event in
            if case .added = event { return }
            if event.object.metadata.name == Self.mapName { queue.enqueue(event.object.metadata.namespace) }
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    private func sync(_ namespace: String) async throws {
        guard let object = namespaces.get(namespace), object.status.phase != "Terminating", !object.metadata.isBeingDeleted else { return }
        let data = ["ca.crt": context.options.clusterCertificatePEM]
        do {
            if var map = maps.get(namespace: namespace, name: Self.mapName) {
                guard map.data != data || map.metadata.annotations["kubernetes.io/description"] != Self.description else { return }
                map.data = data
                map.metadata.annotations["kubernetes.io/description"] = Self.description
                try await context.client.update(map)
            } else {
                var map = ConfigMap()
                map.metadata.namespace = namespace
                map.metadata.name = Self.mapName
                map.metadata.annotations = ["kubernetes.io/description": Self.description]
                map.data = data
                try await context.client.create(map)
            }
        } catch let status as APIStatus where status.isAlreadyExists || status.isNotFound || PodControl.isNamespaceTerminating(status) {}
    }
}
