import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Removes pods from nodes with NoExecute taints that they do not tolerate, or do not tolerate for longer.
final class TaintEvictionController: Controller {
    static let name = "taint-eviction-controller"
    static let inputs = [Node.resource, Pod.resource]
    static let outputs = [Pod.resource, Event.resource]

    private let context: ControllerContext
    private let nodes: Informer<Node>
    private let pods: Informer<Pod>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    /// Pod UID -> when its node was first seen with a taint, for taints that do not say since when they are there.
    private let taintedSince = Mutex<[String: Double]>([:])
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        nodes = context.informer(Node.self)
        pods = context.informer(Pod.self)
        recorder = context.recorder(Self.name)
        queue = WorkQueue(name: Self.name, time: context.time)
        pods.addIndex(NodeLifecycleController.nodeIndex) { $0.spec.nodeName.isEmpty ? [] : [$0.spec.nodeName] }
        nodes.addHandler { [queue, pods] event in
            var isTainted = event.object.spec.taints.contains { $0.effect == "NoExecute" }
            // A taint that has gone ends the waiting of its pods.
            if case .updated(let old, _) = event { isTainted = isTainted || old.spec.taints.contains { $0.effect == "NoExecute" } }
            guard isTainted else { return }
            for pod in pods.indexed(NodeLifecycleController.nodeIndex, event.object.metadata.name) { queue.enqueue(pod.key) }
        }
        pods.addHandler { [queue, nodes, weak self] event in
            let pod = event.object
            if case .deleted = event {
                self?.taintedSince.withLock { _ = $0.removeValue(forKey: pod.metadata.uid) }
                return
            }
            guard !pod.spec.nodeName.isEmpty,
                nodes.get(pod.spec.nodeName)?.spec.taints.contains(where: { $0.effect == "NoExecute" }) == true
            else { return }
            queue.enqueue(pod.key)
        }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard let pod = pods.get(key), !pod.metadata.isBeingDeleted, let node = nodes.get(pod.spec.nodeName) else { return }
        let taints = node.spec.taints.filter { $0.effect == "NoExecute" }
        let now = context.time.now()
        let firstSeen = taintedSince.withLock { since in
            if taints.isEmpty { since[pod.metadata.uid] = nil } else if since[pod.metadata.uid] == nil { since[pod.metadata.uid] = now }
            return since[pod.metadata.uid] ?? now
        }
        guard !taints.isEmpty else { return }
        var due = Double.infinity
        for taint in taints {
            let tolerating = pod.spec.tolerations.filter { NodeFit.tolerates([$0], taint) }
            if tolerating.isEmpty {
                due = now
                break
            }
            guard let seconds = tolerating.compactMap(\.tolerationSeconds).min() else { continue }
            let since = taint.timeAdded.flatMap(KubeTime.parse) ?? firstSeen
            due = min(due, since + Double(max(0, seconds)))
        }
        guard due.isFinite else { return }
        if due > now { return await queue.add(key, afterSeconds: due - now) }
        recorder.record(.normal, about: pod, reason: "TaintManagerEviction", message: "Marking for deletion Pod \(pod.key)")
        let condition: JSON = [
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": .string(KubeTime.text(now)),
        ]
        do {
            try await context.client.patch(
                Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic,
                ["metadata": ["uid": .string(pod.metadata.uid)], "status": ["conditions": [condition]]], subresource: "status")
            try await context.client.delete(Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid)
        } catch let status as APIStatus where status.isNotFound {}
    }
}
