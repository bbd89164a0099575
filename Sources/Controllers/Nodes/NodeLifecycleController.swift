import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Notices nodes that have fallen silent, says so in their conditions, and keeps the taints that follow from conditions.
final class NodeLifecycleController: Controller {
    static let name = "node-lifecycle-controller"
    static let inputs = [Node.resource, Lease.resource, Pod.resource]
    static let outputs = [Node.resource, Pod.resource, Event.resource]

    static let notReadyTaint = "node.kubernetes.io/not-ready"
    static let unreachableTaint = "node.kubernetes.io/unreachable"
    static let nodeIndex = "node"
    /// Condition, status, taint.
    private static let conditionTaints = [
        ("Ready", "False", notReadyTaint), ("Ready", "Unknown", unreachableTaint),
        ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"), ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
        ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ]
    private static let unschedulableTaint = "node.kubernetes.io/unschedulable"

    private struct Heard {
        var status = ""
        var renewTime = ""
        var at: Double
    }

    private struct State {
        var heard: [String: Heard] = [:]
        /// Nodes may be marked for eviction one by one only (upstream: one in 10 s).
        var evictionBudget = 1.0
        var budgetAt = 0.0
    }

    /// Above this share of silent nodes a zone counts as disrupted.
    private static let disruptedShare = 0.55
    private static let evictionsPerSecond = 0.1
    private static let evictionsPerSecondDisrupted = 0.01
    private static let largeClusterNodes = 50

    private let context: ControllerContext
    private let nodes: Informer<Node>
    private let leases: Informer<Lease>
    private let pods: Informer<Pod>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    private let state = Mutex(State())
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        nodes = context.informer(Node.self)
        leases = context.factory.informer(Lease.self, scope: InformerScope(namespace: "kube-node-lease"))
        pods = context.informer(Pod.self)
        recorder = context.recorder("node-controller")
        queue = WorkQueue(name: Self.name, time: context.time)
        pods.addIndex(Self.nodeIndex) { $0.spec.nodeName.isEmpty ? [] : [$0.spec.nodeName] }
        nodes.addHandler { [queue, weak self] event in
            let node = event.object
            switch event {
            case .deleted:
                self?.state.withLock { _ = $0.heard.removeValue(forKey: node.metadata.name) }
                self?.recorder.record(
                    .normal, about: Self.reference(node), reason: "RemovingNode",
                    message: "Node \(node.metadata.name) event: Removing Node \(node.metadata.name) from Controller")
            case .added:
                self?.recorder.record(
                    .normal, about: Self.reference(node), reason: "RegisteredNode",
                    message: "Node \(node.metadata.name) event: Registered Node \(node.metadata.name) in Controller")
                queue.enqueue(node.metadata.name)
            case .updated: queue.enqueue(node.metadata.name)
            }
        }
    }

    /// Events about nodes carry the name as UID, as the kubelet's do.
    private static func reference(_ node: Node) -> ObjectReference {
        var reference = ObjectReference()
        reference.apiVersion = "v1"
        reference.kind = "Node"
        reference.name = node.metadata.name
        reference.uid = node.metadata.name
        return reference
    }

    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await queue.run(workers: context.options.workers) { [self] name in try await syncTaints(name) } }
            group.addTask { [self] in
                while !Task.isCancelled {
                    await queue.gate.pass()
                    for node in nodes.all { try? await monitor(node) }
                    do { try await context.time.sleep(seconds: context.options.nodeMonitorPeriodSeconds) } catch { return }
                }
            }
        }
    }

    // MARK: Heartbeats

    private func condition(_ node: Node, _ type: String) -> NodeCondition? { node.status.conditions.first { $0.type == type } }

    private func monitor(_ node: Node) async throws {
        let now = context.time.now()
        let ready = condition(node, "Ready")
        let renewTime = leases.get(namespace: "kube-node-lease", name: node.metadata.name)?.spec.renewTime ?? ""
        let status = "\(ready?.lastHeartbeatTime ?? "") \(ready?.status ?? "")"
        // Only this process's own clock counts: a node's clock may be wrong.
        let silentSince = state.withLock { state in
            var heard = state.heard[node.metadata.name] ?? Heard(at: now)
            if heard.status != status && ready?.status != "Unknown" || heard.renewTime != renewTime {
                heard.at = now
                heard.status = status
                heard.renewTime = renewTime
            }
            state.heard[node.metadata.name] = heard
            return heard.at
        }
        if ready?.status != "Unknown", now - silentSince > context.options.nodeMonitorGraceSeconds {
            try await markUnknown(node)
        }
        if ready?.status != "True" { await queue.add(node.metadata.name) }
    }

    private func markUnknown(_ node: Node) async throws {
        var changed = node
        let now = KubeTime.text(context.time.now())
        for type in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
            let index = changed.status.conditions.firstIndex { $0.type == type }
            var condition = index.map { changed.status.conditions[$0] } ?? NodeCondition()
            guard condition.status != "Unknown" else { continue }
            condition.type = type
            condition.reason = index == nil ? "NodeStatusNeverUpdated" : "NodeStatusUnknown"
            condition.message = index == nil ? "Kubelet never posted node status." : "Kubelet stopped posting node status."
            condition.status = "Unknown"
            condition.lastTransitionTime = now
            if index == nil { condition.lastHeartbeatTime = node.metadata.creationTimestamp }
            if let index { changed.status.conditions[index] = condition } else { changed.status.conditions.append(condition) }
        }
        try await context.client.updateStatus(changed)
        recorder.record(
            .normal, about: Self.reference(node), reason: "NodeNotReady", message: "Node \(node.metadata.name) status is now: NodeNotReady")
        for pod in pods.indexed(Self.nodeIndex, node.metadata.name) where pod.isReady { try? await markNotReady(pod) }
    }

    private func markNotReady(_ pod: Pod) async throws {
        let condition: JSON = ["type": "Ready", "status": "False", "lastTransitionTime": .string(KubeTime.text(context.time.now()))]
        try await context.client.patch(
            Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic, ["status": ["conditions": [condition]]],
            subresource: "status")
        recorder.record(.warning, about: pod, reason: "NodeNotReady", message: "Node is not ready")
    }

    // MARK: Taints

    private func syncTaints(_ name: String) async throws {
        guard let node = nodes.get(name) else { return }
        let managed = Set(Self.conditionTaints.map(\.2) + [Self.unschedulableTaint])
        var wanted: [(key: String, effect: String)] = []
        var keepsInitial = false
        for (type, status, taint) in Self.conditionTaints where condition(node, type)?.status == status {
            wanted.append((taint, "NoSchedule"))
        }
        // A node that has never reported keeps the taint it was born with.
        if condition(node, "Ready") == nil { keepsInitial = true }
        if node.spec.unschedulable == true { wanted.append((Self.unschedulableTaint, "NoSchedule")) }
        if let ready = condition(node, "Ready"), ready.status != "True" {
            let key = ready.status == "False" ? Self.notReadyTaint : Self.unreachableTaint
            let has = node.spec.taints.contains { $0.key == key && $0.effect == "NoExecute" }
            if has || mayEvict() { wanted.append((key, "NoExecute")) }
        }
        let kept = node.spec.taints.filter { taint in
            if !managed.contains(taint.key) || taint.effect == "PreferNoSchedule" { return true }
            if keepsInitial && taint.key == Self.notReadyTaint { return true }
            return wanted.contains { $0.key == taint.key && $0.effect == taint.effect }
        }
        let missing = wanted.filter { entry in !kept.contains { $0.key == entry.key && $0.effect == entry.effect } }
        guard !missing.isEmpty || kept.count != node.spec.taints.count else { return }
        let now = KubeTime.text(context.time.now())
        var changed = node
        changed.spec.taints =
            kept
            + missing.map { entry in
                var taint = Taint()
                taint.key = entry.key
                taint.effect = entry.effect
                taint.timeAdded = now
                return taint
            }
        do { try await context.client.update(changed) } catch let status as APIStatus where status.isNotFound {}
    }

    /// Whether one more node may lose its pods now: never when all are silent, for then the fault is more likely here.
    private func mayEvict() -> Bool {
        let all = nodes.all
        let silent = all.count { condition($0, "Ready")?.status != "True" }
        if silent == all.count, all.count > 1 { return false }
        let isDisrupted = silent > 2 && Double(silent) / Double(max(1, all.count)) >= Self.disruptedShare
        if isDisrupted, all.count <= Self.largeClusterNodes { return false }
        let rate = isDisrupted ? Self.evictionsPerSecondDisrupted : Self.evictionsPerSecond
        let now = context.time.now()
        return state.withLock { state in
            state.evictionBudget = min(1, state.evictionBudget + (now - state.budgetAt) * rate)
            state.budgetAt = now
            guard state.evictionBudget >= 1 else { return false }
            state.evictionBudget -= 1
            return true
        }
    }
}
