import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps the EndpointSlices of every service with a selector.
final class EndpointSliceController: Controller {
    static let name = "endpointslice-controller"
    static let inputs = [Service.resource, Pod.resource, Node.resource, EndpointSlice.resource]
    static let outputs = [EndpointSlice.resource]

    static let managedBy = "endpointslice-controller.k8s.io"
    static let managedByLabel = "endpointslice.kubernetes.io/managed-by"
    static let serviceLabel = "kubernetes.io/service-name"
    private static let sliceIndex = "service"

    private let context: ControllerContext
    private let services: Informer<Service>
    private let pods: Informer<Pod>
    private let nodes: Informer<Node>
    private let slices: Informer<EndpointSlice>
    private let tracker: CreationTracker
    private let queue: WorkQueue<String>
    /// How long a lagging cache is waited for.
    private static let lagSeconds = 0.005
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        services = context.informer(Service.self)
        pods = context.informer(Pod.self)
        nodes = context.informer(Node.self)
        slices = context.informer(EndpointSlice.self)
        tracker = CreationTracker(time: context.time)
        queue = WorkQueue(name: Self.name, time: context.time)
        slices.addIndex(Self.sliceIndex) { slice in
            guard slice.metadata.labels[Self.managedByLabel] == Self.managedBy, let service = slice.metadata.labels[Self.serviceLabel]
            else { return [] }
            return ["\(slice.metadata.namespace)/\(service)"]
        }
        services.addHandler { [queue] event in queue.enqueue(event.object.key) }
        slices.addHandler { [queue] event in
            // Added ones are usually this controller's own work; a foreign change or removal is repaired.
            if case .added = event { return }
            guard event.object.metadata.labels[Self.managedByLabel] == Self.managedBy,
                let service = event.object.metadata.labels[Self.serviceLabel]
            else { return }
            queue.enqueue("\(event.object.metadata.namespace)/\(service)")
        }
        ServiceBackends.watchPods(pods, services, queue)
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard tracker.isCurrent(key, isKnown: { slices.get($0) != nil }) else { return await queue.add(key, afterSeconds: Self.lagSeconds) }
        let existing = slices.indexed(Self.sliceIndex, key)
        guard let service = services.get(key), service.spec.type != "ExternalName", !service.metadata.isBeingDeleted else {
            if services.get(key) == nil || services.get(key)?.spec.type == "ExternalName" {
                for slice in existing { try await remove(slice) }
            }
            return
        }
        guard !service.spec.selector.isEmpty else { return }
        var families = service.spec.ipFamilies
        if families.isEmpty { families = ["IPv4"] }
        let selected = ServiceBackends.pods(service, pods).filter(ServiceBackends.counts)
        do {
            for family in families {
                try await reconcile(service, family, selected, existing.filter { $0.addressType == family })
            }
            for slice in existing where !families.contains(slice.addressType) { try await remove(slice) }
        } catch  where PodControl.isNamespaceTerminating(error) {}
    }

    private func remove(_ slice: EndpointSlice) async throws {
        do {
            try await context.client.delete(
                EndpointSlice.self, namespace: slice.metadata.namespace, name: slice.metadata.name, uid: slice.metadata.uid)
        } catch let status as APIStatus where status.isNotFound {}
    }

    private func reconcile(_ service: Service, _ family: String, _ selected: [Pod], _ existing: [EndpointSlice]) async throws {
        // One group for each set of port numbers: named target ports may differ between pods.
        var groups: [String: (ports: [DiscoveryEndpointPort], endpoints: [Endpoint])] = [:]
        for pod in selected {
            guard let endpoint = endpoint(pod, service, family) else { continue }
            let ports = ports(service, pod)
            groups[JSON.array(ports.map(\.json)).text, default: (ports, [])].endpoints.append(endpoint)
        }
        var wanted: [(ports: [DiscoveryEndpointPort], endpoints: [Endpoint])] = []
        for (_, group) in groups.sorted(by: { $0.key < $1.key }) {
            let sorted = group.endpoints.sorted { $0.targetRef?.name ?? "" < $1.targetRef?.name ?? "" }
            wanted += EndpointSlices.distribute(group.ports, sorted, existing)
        }
        // A service without backends has one empty slice.
        if wanted.isEmpty { wanted = [([], [])] }
        let labels = labels(service)
        try await EndpointSlices.write(
            wanted, over: existing, client: context.client,
            template: { slice in
                slice.metadata.generateName = "\(service.metadata.name)-"
                slice.metadata.namespace = service.metadata.namespace
                slice.metadata.ownerReferences = [service.controllerReference]
                slice.addressType = family
            }, labels: labels, created: { tracker.created(service.key, $0) })
    }

    private func labels(_ service: Service) -> [String: String] {
        var labels = service.metadata.labels.filter {
            $0.key != Self.managedByLabel && $0.key != Self.serviceLabel && $0.key != ServiceBackends.headlessLabel
        }
        labels[Self.managedByLabel] = Self.managedBy
        labels[Self.serviceLabel] = service.metadata.name
        if ServiceBackends.isHeadless(service) { labels[ServiceBackends.headlessLabel] = "" }
        return labels
    }

    private func ports(_ service: Service, _ pod: Pod) -> [DiscoveryEndpointPort] {
        service.spec.ports.compactMap { port in
            guard let number = ServiceBackends.portNumber(port, pod) else { return nil }
            var result = DiscoveryEndpointPort()
            result.name = port.name
            result.port = number
            result.protocol = port.protocol ?? "TCP"
            result.appProtocol = port.appProtocol
            return result
        }
    }

    private func endpoint(_ pod: Pod, _ service: Service, _ family: String) -> Endpoint? {
        let addresses = pod.status.podIPs.map(\.ip).filter { $0.contains(":") == (family == "IPv6") }
        let single = pod.status.podIP.contains(":") == (family == "IPv6") ? [pod.status.podIP] : []
        guard let address = addresses.first ?? single.first else { return nil }
        let terminating = pod.metadata.isBeingDeleted
        let serving = pod.isReady
        var endpoint = Endpoint()
        endpoint.addresses = [address]
        var conditions = EndpointConditions()
        conditions.ready = service.spec.publishNotReadyAddresses == true || serving && !terminating
        conditions.serving = serving
        conditions.terminating = terminating
        endpoint.conditions = conditions
        endpoint.targetRef = ServiceBackends.reference(pod)
        endpoint.hostname = ServiceBackends.hostname(pod, service)
        if !pod.spec.nodeName.isEmpty {
            endpoint.nodeName = pod.spec.nodeName
            endpoint.zone = nodes.get(pod.spec.nodeName)?.metadata.labels["topology.kubernetes.io/zone"]
        }
        return endpoint
    }
}
