package import KubeClient
package import KubeMeta
import KubeTypes
import Synchronization

/// Finds a node for every pod that has none. Informer events and the results of bindings go through an inbox to one loop, which owns all
/// state; bindings are written beside it, while the pods they are about already count as placed.
package final class Scheduler: Sendable {
    package static let name = "default-scheduler"

    /// A drill holds the loop here.
    package let gate = RunGate()
    private let factory: InformerFactory
    private let loop: SchedulingLoop
    private let inbox = SchedulerInbox()

    /// - Parameter factory: shared with the other components of the process; started by `run`.
    package init(factory: InformerFactory, client: KubeClient) {
        self.factory = factory
        let inbox = inbox
        let claims = factory.informer(PersistentVolumeClaim.self)
        let volumes = factory.informer(PersistentVolume.self)
        let classes = factory.informer(StorageClass.self)
        let siblings = Siblings(
            services: factory.informer(Service.self), replicaSets: factory.informer(ReplicaSet.self),
            replicationControllers: factory.informer(ReplicationController.self), statefulSets: factory.informer(StatefulSet.self))
        let binder = Binder(
            client: client, recorder: EventRecorder(client: client, component: Self.name),
            sources: VolumeNeeds.Sources(claims: claims, volumes: volumes, classes: classes))
        loop = SchedulingLoop(
            inbox: inbox, binder: binder, siblings: siblings, budgets: factory.informer(PodDisruptionBudget.self), time: client.time,
            gate: gate)

        factory.informer(Node.self).addHandler { event in
            if case .deleted(let node) = event { inbox.put(.nodeGone(node.metadata.name)) } else { inbox.put(.node(event.object)) }
        }
        factory.informer(Namespace.self).addHandler { event in
            if case .deleted(let namespace) = event {
                inbox.put(.namespace(name: namespace.metadata.name, labels: nil))
            } else {
                inbox.put(.namespace(name: event.object.metadata.name, labels: event.object.metadata.labels))
            }
        }
        factory.informer(Pod.self).addHandler { Self.podChanged($0, inbox) }
        claims.addHandler { _ in inbox.put(.volumesChanged) }
        volumes.addHandler { _ in inbox.put(.volumesChanged) }
        classes.addHandler { _ in inbox.put(.volumesChanged) }
    }

    private static func podChanged(_ event: InformerEvent<Pod>, _ inbox: SchedulerInbox) {
        let pod = event.object
        func isPlaced(_ pod: Pod) -> Bool { !pod.spec.nodeName.isEmpty }
        func isOver(_ pod: Pod) -> Bool { pod.status.phase == "Succeeded" || pod.status.phase == "Failed" }
        switch event {
        case .deleted:
            inbox.put(.podGone(uid: pod.metadata.uid, wasPlaced: isPlaced(pod)))
        case .added:
            if isOver(pod) { return }
            inbox.put(.pod(PodInfo(pod)))
        case .updated(let old, _):
            if old.metadata.uid != pod.metadata.uid { inbox.put(.podGone(uid: old.metadata.uid, wasPlaced: isPlaced(old))) }
            if isOver(pod) {
                if !isOver(old) { inbox.put(.podGone(uid: pod.metadata.uid, wasPlaced: isPlaced(pod))) }
                return
            }
            // A kubelet's reports change nothing here: they are most of all events.
            if isPlaced(old), isPlaced(pod), old.metadata.generation == pod.metadata.generation, old.metadata.labels == pod.metadata.labels,
                old.metadata.uid == pod.metadata.uid, old.metadata.isBeingDeleted == pod.metadata.isBeingDeleted
            {
                return
            }
            inbox.put(.pod(PodInfo(pod)))
        }
    }

    package func run() async {
        await factory.startAndSync()
        await withTaskCancellationHandler {
            await loop.run()
        } onCancel: { [inbox] in
            inbox.close()
        }
    }
}

/// Which pods are of one kind with a given one: those of its services and of its controller (upstream's selector for default spreading).
struct Siblings: Sendable {
    let services: Informer<Service>
    let replicaSets: Informer<ReplicaSet>
    let replicationControllers: Informer<ReplicationController>
    let statefulSets: Informer<StatefulSet>

    func selector(_ pod: PodInfo) -> Selector? {
        var selector = Selector()
        for service in services.inNamespace(pod.namespace) where !service.spec.selector.isEmpty {
            guard service.spec.selector.allSatisfy({ pod.labels[$0.key] == $0.value }) else { continue }
            selector.requirements += Selector(matchLabels: service.spec.selector).requirements
        }
        if let owner = pod.pod.metadata.ownerReferences.first(where: { $0.controller == true }) {
            let key = "\(pod.namespace)/\(owner.name)"
            switch owner.kind {
            case "ReplicaSet": if let set = replicaSets.get(key) { selector.requirements += set.spec.selector.selector.requirements }
            case "ReplicationController":
                if let controller = replicationControllers.get(key) {
                    selector.requirements += Selector(matchLabels: controller.spec.selector).requirements
                }
            case "StatefulSet": if let set = statefulSets.get(key) { selector.requirements += set.spec.selector.selector.requirements }
            default: break
            }
        }
        return selector.isEmpty ? nil : selector
    }
}
