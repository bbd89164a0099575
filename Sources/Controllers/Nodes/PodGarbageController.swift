import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Removes pods that nobody else will: of nodes that are gone, terminating ones without a node, and the oldest finished ones when there are
/// too many.
final class PodGarbageController: Controller {
    static let name = "pod-garbage-collector-controller"
    static let inputs = [Pod.resource, Node.resource]
    static let outputs = [Pod.resource]

    private static let periodSeconds = 20.0
    /// A node must have been missing for this long.
    private static let quarantineSeconds = 40.0
    private static let outOfServiceTaint = "node.kubernetes.io/out-of-service"

    private let context: ControllerContext
    private let pods: Informer<Pod>
    private let nodes: Informer<Node>
    private let gate = RunGate()
    private let missingSince = Mutex<[String: Double]>([:])
    var gates: [RunGate] { [gate] }

    init(_ context: ControllerContext) {
        self.context = context
        pods = context.informer(Pod.self)
        nodes = context.informer(Node.self)
    }

    func run() async {
        while !Task.isCancelled {
            await gate.pass()
            await collect()
            do { try await context.time.sleep(seconds: Self.periodSeconds) } catch { return }
        }
    }

    private func collect() async {
        let all = pods.all
        let finished = all.filter { $0.isTerminated && !$0.metadata.isBeingDeleted }
        if finished.count > context.options.terminatedPodsMax {
            for pod in finished.sorted(by: { $0.metadata.creationSeconds < $1.metadata.creationSeconds }).prefix(
                finished.count - context.options.terminatedPodsMax)
            {
                await remove(pod, nil)
            }
        }
        let now = context.time.now()
        let missing = Set(all.map(\.spec.nodeName).filter { !$0.isEmpty && nodes.get($0) == nil })
        let due = missingSince.withLock { since in
            since = since.filter { missing.contains($0.key) }
            for name in missing where since[name] == nil { since[name] = now }
            return Set(since.filter { now - $0.value >= Self.quarantineSeconds }.keys)
        }
        var gone: Set<String> = []
        for name in due {
            // An answer that says "no such node", not an error.
            do { if try await context.client.find(Node.self, name: name) == nil { gone.insert(name) } } catch {}
        }
        for pod in all where gone.contains(pod.spec.nodeName) { await remove(pod, "PodGC: node no longer exists") }
        for pod in all where pod.metadata.isBeingDeleted {
            if pod.spec.nodeName.isEmpty {
                await remove(pod, nil)
            } else if let node = nodes.get(pod.spec.nodeName), node.spec.taints.contains(where: { $0.key == Self.outOfServiceTaint }),
                node.status.conditions.first(where: { $0.type == "Ready" })?.status != "True"
            {
                await remove(pod, nil)
            }
        }
    }

    private func remove(_ pod: Pod, _ disruption: String?) async {
        if !pod.isTerminated {
            var status: JSON = ["phase": "Failed"]
            if let disruption {
                status["conditions"] = [
                    [
                        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": .string(disruption),
                        "lastTransitionTime": .string(KubeTime.text(context.time.now())),
                    ]
                ]
            }
            _ = try? await context.client.patch(
                Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic,
                ["metadata": ["uid": .string(pod.metadata.uid)], "status": status], subresource: "status")
        }
        try? await context.client.delete(
            Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid, gracePeriodSeconds: 0)
    }
}
