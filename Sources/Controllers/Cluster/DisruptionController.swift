import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps the status of PodDisruptionBudgets: how many pods may be evicted now.
final class DisruptionController: Controller {
    static let name = "disruption-controller"
    static let inputs = [
        PodDisruptionBudget.resource, Pod.resource, ReplicaSet.resource, Deployment.resource, StatefulSet.resource,
        ReplicationController.resource,
    ]
    static let outputs = [PodDisruptionBudget.resource, Event.resource]

    /// An eviction that was allowed but did not happen is forgotten after this long.
    private static let evictionSecondsMax = 120.0

    private let context: ControllerContext
    private let budgets: Informer<PodDisruptionBudget>
    private let pods: Informer<Pod>
    private let replicaSets: Informer<ReplicaSet>
    private let deployments: Informer<Deployment>
    private let statefulSets: Informer<StatefulSet>
    private let replicationControllers: Informer<ReplicationController>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        budgets = context.informer(PodDisruptionBudget.self)
        pods = context.informer(Pod.self)
        replicaSets = context.informer(ReplicaSet.self)
        deployments = context.informer(Deployment.self)
        statefulSets = context.informer(StatefulSet.self)
        replicationControllers = context.informer(ReplicationController.self)
        recorder = context.recorder("controllermanager")
        queue = WorkQueue(name: Self.name, time: context.time)
        budgets.addHandler { [queue] event in queue.enqueue(event.object.key) }
        pods.addHandler { [queue, budgets] event in
            let pod = event.object
            for budget in budgets.inNamespace(pod.metadata.namespace)
            where budget.spec.selector?.selector.matches(pod.metadata.labels) == true {
                queue.enqueue(budget.key)
            }
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    /// The size its controllers want a set of pods to have; nil when one of them is unknown.
    private func expectedCount(_ selected: [Pod]) -> Int? {
        var sizes: [String: Int] = [:]
        for pod in selected {
            guard let owner = pod.metadata.controller else { return nil }
            let key = "\(pod.metadata.namespace)/\(owner.name)"
            switch owner.kind {
            case "ReplicaSet":
                guard let set = replicaSets.get(key) else { continue }
                if let parent = set.metadata.controller, parent.kind == "Deployment" {
                    guard let deployment = deployments.get(namespace: pod.metadata.namespace, name: parent.name) else { continue }
                    sizes[parent.uid] = deployment.wantedReplicas
                } else {
                    sizes[owner.uid] = set.wantedReplicas
                }
            case "StatefulSet": if let set = statefulSets.get(key) { sizes[owner.uid] = set.spec.replicas ?? 1 }
            case "ReplicationController": if let set = replicationControllers.get(key) { sizes[owner.uid] = set.wantedReplicas }
            default: return nil
            }
        }
        return sizes.values.reduce(0, +)
    }

    private func sync(_ key: String) async throws {
        guard let budget = budgets.get(key) else { return }
        let selector = budget.spec.selector?.selector ?? .nothing
        let selected = pods.inNamespace(budget.metadata.namespace).filter { selector.matches($0.metadata.labels) && !$0.isTerminated }
        let now = context.time.now()
        var status = budget.status
        status.observedGeneration = budget.metadata.generation

        var expected = selected.count
        var desired = 0
        var failure: String?
        if let unavailable = budget.spec.maxUnavailable {
            if let count = expectedCount(selected) {
                expected = count
                desired = max(0, count - (unavailable.scaled(total: count, roundUp: true) ?? 0))
            } else {
                failure = "found no controllers for some pods"
            }
        } else if let available = budget.spec.minAvailable {
            if case .int(let count) = available {
                desired = count
            } else if let count = expectedCount(selected) {
                expected = count
                desired = available.scaled(total: count, roundUp: true) ?? 0
            } else {
                failure = "found no controllers for some pods"
            }
        }

        // Evictions that were allowed and have not happened yet still count against the budget.
        var recheck: Double?
        var disrupted: [String: String] = [:]
        for (name, time) in budget.status.disruptedPods {
            guard let pod = pods.get(namespace: budget.metadata.namespace, name: name), !pod.metadata.isBeingDeleted else { continue }
            let end = (KubeTime.parse(time) ?? 0) + Self.evictionSecondsMax
            if end <= now { continue }
            disrupted[name] = time
            recheck = min(recheck ?? end, end)
        }
        status.disruptedPods = disrupted
        let healthy = selected.count { $0.isReady && !$0.metadata.isBeingDeleted && disrupted[$0.metadata.name] == nil }
        status.currentHealthy = healthy
        status.desiredHealthy = desired
        status.expectedPods = expected
        status.disruptionsAllowed = expected > 0 && failure == nil ? max(0, healthy - desired) : 0
        if let failure {
            recorder.record(
                .warning, about: budget, reason: "CalculateExpectedPodCountFailed",
                message: "Failed to calculate the number of expected pods: \(failure)")
        }
        setCondition(&status, failure, budget, now)
        if status.json != budget.status.json {
            var changed = budget
            changed.status = status
            do { try await context.client.updateStatus(changed) } catch let error as APIStatus where error.isNotFound {}
        }
        if let recheck { await queue.add(key, afterSeconds: recheck - now) }
    }

    private func setCondition(_ status: inout PodDisruptionBudgetStatus, _ failure: String?, _ budget: PodDisruptionBudget, _ now: Double) {
        var condition = Condition()
        condition.type = "DisruptionAllowed"
        let allowed = status.disruptionsAllowed ?? 0 > 0
        condition.status = allowed ? "True" : "False"
        condition.reason = failure != nil ? "SyncFailed" : allowed ? "SufficientPods" : "InsufficientPods"
        condition.message = failure ?? ""
        condition.observedGeneration = budget.metadata.generation
        let old = status.conditions.first { $0.type == condition.type }
        condition.lastTransitionTime = old?.status == condition.status ? old?.lastTransitionTime : KubeTime.text(now)
        status.conditions = status.conditions.filter { $0.type != condition.type } + [condition]
    }
}
