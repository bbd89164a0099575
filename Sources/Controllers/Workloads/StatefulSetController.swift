import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps the numbered pods of StatefulSets, with their names, their claims and their order.
final class StatefulSetController: Controller {
    static let name = "statefulset-controller"
    static let inputs = [StatefulSet.resource, Pod.resource, PersistentVolumeClaim.resource, ControllerRevision.resource]
    static let outputs = [StatefulSet.resource, Pod.resource, PersistentVolumeClaim.resource, ControllerRevision.resource, Event.resource]

    private let context: ControllerContext
    private let sets: Informer<StatefulSet>
    private let pods: Informer<Pod>
    private let claims: Informer<PersistentVolumeClaim>
    private let revisions: Informer<ControllerRevision>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        sets = context.informer(StatefulSet.self)
        pods = context.informer(Pod.self)
        claims = context.informer(PersistentVolumeClaim.self)
        revisions = context.informer(ControllerRevision.self)
        recorder = context.recorder(Self.name)
        queue = WorkQueue(name: Self.name, time: context.time)
        PodControl.index(pods)
        PodControl.index(revisions)
        sets.addHandler { [queue] event in queue.enqueue(event.object.key) }
        pods.addHandler { [weak self] event in self?.podChanged(event) }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func podChanged(_ event: InformerEvent<Pod>) {
        let pod = event.object
        if case .updated(let old, _) = event, let owner = old.metadata.controller, owner.kind == StatefulSet.resource.kind {
            queue.enqueue("\(old.metadata.namespace)/\(owner.name)")
        }
        if let owner = pod.metadata.controller {
            if owner.kind == StatefulSet.resource.kind { queue.enqueue("\(pod.metadata.namespace)/\(owner.name)") }
            return
        }
        for set in sets.inNamespace(pod.metadata.namespace) where set.spec.selector.selector.matches(pod.metadata.labels) {
            queue.enqueue(set.key)
        }
    }

    private func sync(_ key: String) async throws {
        guard let set = sets.get(key) else { return }
        let candidates =
            pods.indexed(PodControl.controllerIndex, set.metadata.uid)
            + pods.indexed(PodControl.controllerIndex, "orphan/\(set.metadata.namespace)").filter {
                StatefulSetPods.ordinal($0, of: set) != nil
            }
        let owned = try await Claimer<StatefulSet, Pod>(client: context.client, owner: set, selector: set.spec.selector.selector).claim(
            candidates)
        if set.metadata.isBeingDeleted { return }
        let known = revisions.indexed(PodControl.controllerIndex, set.metadata.uid)
        var sync = StatefulSetSync(
            client: context.client, recorder: recorder, claims: claims, set: set,
            pods: owned.filter { StatefulSetPods.ordinal($0, of: set) != nil })
        do {
            let seconds = try await sync.run(known)
            if let seconds { await queue.add(key, afterSeconds: seconds) }
        } catch  where PodControl.isNamespaceTerminating(error) {
        } catch {
            try? await sync.writeStatus()
            throw error
        }
    }
}
