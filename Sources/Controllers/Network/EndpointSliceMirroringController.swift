import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Copies Endpoints that users keep by hand (for services without a selector) into EndpointSlices.
final class EndpointSliceMirroringController: Controller {
    static let name = "endpointslice-mirroring-controller"
    static let inputs = [Endpoints.resource, Service.resource, EndpointSlice.resource]
    static let outputs = [EndpointSlice.resource]

    private static let managedBy = "endpointslicemirroring-controller.k8s.io"
    private static let skipLabel = "endpointslice.kubernetes.io/skip-mirror"
    private static let leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
    private static let index = "mirrored"

    private let context: ControllerContext
    private let endpoints: Informer<Endpoints>
    private let services: Informer<Service>
    private let slices: Informer<EndpointSlice>
    private let tracker: CreationTracker
    private let queue: WorkQueue<String>
    /// How long a lagging cache is waited for.
    private static let lagSeconds = 0.005
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        endpoints = context.informer(Endpoints.self)
        services = context.informer(Service.self)
        slices = context.informer(EndpointSlice.self)
        tracker = CreationTracker(time: context.time)
        queue = WorkQueue(name: Self.name, time: context.time)
        slices.addIndex(Self.index) { slice in
            guard slice.metadata.labels[EndpointSliceController.managedByLabel] == Self.managedBy,
                let service = slice.metadata.labels[EndpointSliceController.serviceLabel]
            else { return [] }
            return ["\(slice.metadata.namespace)/\(service)"]
        }
        endpoints.addHandler { [queue] event in queue.enqueue(event.object.key) }
        services.addHandler { [queue] event in queue.enqueue(event.object.key) }
        slices.addHandler { [queue] event in
            if case .added = event { return }
            guard event.object.metadata.labels[EndpointSliceController.managedByLabel] == Self.managedBy,
                let service = event.object.metadata.labels[EndpointSliceController.serviceLabel]
            else { return }
            queue.enqueue("\(event.object.metadata.namespace)/\(service)")
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    private func isMirrored(_ object: Endpoints, _ service: Service?) -> Bool {
        guard let service, service.spec.selector.isEmpty, service.spec.type != "ExternalName" else { return false }
        return object.metadata.labels[Self.skipLabel] != "true" && object.metadata.annotations[Self.leaderAnnotation] == nil
            && !object.metadata.isBeingDeleted
    }

    private func sync(_ key: String) async throws {
        guard tracker.isCurrent(key, isKnown: { slices.get($0) != nil }) else { return await queue.add(key, afterSeconds: Self.lagSeconds) }
        let existing = slices.indexed(Self.index, key)
        guard let object = endpoints.get(key), isMirrored(object, services.get(key)) else {
            for slice in existing {
                do {
                    try await context.client.delete(
                        EndpointSlice.self, namespace: slice.metadata.namespace, name: slice.metadata.name, uid: slice.metadata.uid)
                } catch let status as APIStatus where status.isNotFound {}
            }
            return
        }
        var labels = object.metadata.labels
        labels[EndpointSliceController.managedByLabel] = Self.managedBy
        labels[EndpointSliceController.serviceLabel] = object.metadata.name
        for family in ["IPv4", "IPv6"] {
            var wanted: [EndpointSlices.Part] = []
            let present = existing.filter { $0.addressType == family }
            for subset in object.subsets {
                let ports = subset.ports.map { port in
                    var result = DiscoveryEndpointPort()
                    result.name = port.name
                    result.port = port.port
                    result.protocol = port.protocol ?? "TCP"
                    result.appProtocol = port.appProtocol
                    return result
                }
                var found: [Endpoint] = []
                for (addresses, ready) in [(subset.addresses, true), (subset.notReadyAddresses, false)] {
                    for address in addresses where address.ip.contains(":") == (family == "IPv6") {
                        var endpoint = Endpoint()
                        endpoint.addresses = [address.ip]
                        var conditions = EndpointConditions()
                        conditions.ready = ready
                        endpoint.conditions = conditions
                        endpoint.hostname = address.hostname
                        endpoint.nodeName = address.nodeName
                        endpoint.targetRef = address.targetRef
                        found.append(endpoint)
                    }
                }
                wanted += EndpointSlices.distribute(ports, found, present)
            }
            do {
                try await EndpointSlices.write(
                    wanted, over: present, client: context.client,
                    template: { slice in
                        slice.metadata.generateName = "\(object.metadata.name)-"
                        slice.metadata.namespace = object.metadata.namespace
                        slice.metadata.ownerReferences = [object.controllerReference]
                        slice.addressType = family
                    }, labels: labels, created: { tracker.created(key, $0) })
            } catch  where PodControl.isNamespaceTerminating(error) {}
        }
    }
}
