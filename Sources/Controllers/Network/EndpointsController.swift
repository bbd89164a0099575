import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps the Endpoints object of every service with a selector.
final class EndpointsController: Controller {
    static let name = "endpoints-controller"
    static let inputs = [Service.resource, Pod.resource, Endpoints.resource]
    static let outputs = [Endpoints.resource]

    static let addressesMax = 1000
    static let overCapacityAnnotation = "endpoints.kubernetes.io/over-capacity"
    private static let managedByLabel = "endpoints.kubernetes.io/managed-by"

    private let context: ControllerContext
    private let services: Informer<Service>
    private let pods: Informer<Pod>
    private let endpoints: Informer<Endpoints>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        services = context.informer(Service.self)
        pods = context.informer(Pod.self)
        endpoints = context.informer(Endpoints.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        services.addHandler { [queue] event in queue.enqueue(event.object.key) }
        endpoints.addHandler { [queue] event in if case .deleted = event { queue.enqueue(event.object.key) } }
        ServiceBackends.watchPods(pods, services, queue)
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard let service = services.get(key) else {
            // The object of a removed service goes with it.
            guard let left = endpoints.get(key), left.metadata.labels[Self.managedByLabel] == Self.name else { return }
            do {
                try await context.client.delete(
                    Endpoints.self, namespace: left.metadata.namespace, name: left.metadata.name, uid: left.metadata.uid)
            } catch let status as APIStatus where status.isNotFound {}
            return
        }
        guard !service.spec.selector.isEmpty, service.spec.type != "ExternalName" else { return }
        let isIPv6 = service.spec.ipFamilies.first == "IPv6"
        var subsets: [EndpointSubset] = []
        for pod in ServiceBackends.pods(service, pods) where ServiceBackends.counts(pod) {
            let ips = pod.status.podIPs.isEmpty ? [pod.status.podIP] : pod.status.podIPs.map(\.ip)
            guard let ip = ips.first(where: { $0.contains(":") == isIPv6 }) else { continue }
            let publishes = service.spec.publishNotReadyAddresses ?? false
            if pod.metadata.isBeingDeleted && !publishes { continue }
            var address = EndpointAddress()
            address.ip = ip
            address.nodeName = pod.spec.nodeName.isEmpty ? nil : pod.spec.nodeName
            address.targetRef = ServiceBackends.reference(pod)
            address.hostname = ServiceBackends.hostname(pod, service)
            var subset = EndpointSubset()
            subset.ports = service.spec.ports.compactMap { port in
                guard let number = ServiceBackends.portNumber(port, pod) else { return nil }
                var result = EndpointPort()
                result.name = port.name
                result.port = number
                result.protocol = port.protocol ?? "TCP"
                result.appProtocol = port.appProtocol
                return result
            }
            if subset.ports.isEmpty, !(service.spec.ports.isEmpty && ServiceBackends.isHeadless(service)) { continue }
            if pod.isReady || publishes { subset.addresses = [address] } else { subset.notReadyAddresses = [address] }
            subsets.append(subset)
        }
        let (packed, isOver) = Self.pack(subsets)
        try await write(service, packed, isOver)
    }

    /// Subsets with the same ports become one; sorted, so that equal states look equal.
    private static func pack(_ subsets: [EndpointSubset]) -> (subsets: [EndpointSubset], isOver: Bool) {
        var groups: [String: EndpointSubset] = [:]
        var count = 0
        for subset in subsets {
            let key = subset.ports.map { "\($0.name)/\($0.port)/\($0.protocol ?? "")" }.sorted().joined(separator: ",")
            var group = groups[key] ?? EndpointSubset()
            group.ports = subset.ports
            group.addresses += subset.addresses
            group.notReadyAddresses += subset.notReadyAddresses
            groups[key] = group
            count += subset.addresses.count + subset.notReadyAddresses.count
        }
        func order(_ left: EndpointAddress, _ right: EndpointAddress) -> Bool {
            (left.ip, left.targetRef?.uid ?? "") < (right.ip, right.targetRef?.uid ?? "")
        }
        var result = groups.sorted { $0.key < $1.key }.map { _, group in
            var group = group
            group.addresses.sort(by: order)
            group.notReadyAddresses.sort(by: order)
            return group
        }
        guard count > addressesMax else { return (result, false) }
        var room = addressesMax
        for index in result.indices {
            result[index].addresses = Array(result[index].addresses.prefix(room))
            room -= result[index].addresses.count
        }
        for index in result.indices {
            result[index].notReadyAddresses = Array(result[index].notReadyAddresses.prefix(room))
            room -= result[index].notReadyAddresses.count
        }
        return (result, true)
    }

    private func write(_ service: Service, _ subsets: [EndpointSubset], _ isOver: Bool) async throws {
        var labels = service.metadata.labels
        labels[ServiceBackends.headlessLabel] = ServiceBackends.isHeadless(service) ? "" : nil
        labels[Self.managedByLabel] = Self.name
        do {
            if var known = endpoints.get(service.key) {
                let before = known.json
                known.subsets = subsets
                known.metadata.labels = labels
                known.metadata.annotations[Self.overCapacityAnnotation] = isOver ? "truncated" : nil
                if known.json != before { try await context.client.update(known) }
                return
            }
            var fresh = Endpoints()
            fresh.metadata.name = service.metadata.name
            fresh.metadata.namespace = service.metadata.namespace
            fresh.metadata.labels = labels
            if isOver { fresh.metadata.annotations[Self.overCapacityAnnotation] = "truncated" }
            fresh.subsets = subsets
            try await context.client.create(fresh)
        } catch  where PodControl.isNamespaceTerminating(error) {
        } catch let status as APIStatus where status.isNotFound {}
    }
}
