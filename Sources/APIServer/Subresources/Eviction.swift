import JSON
import KubeAPI
import KubeMeta

/// Eviction of a pod: a deletion that a PodDisruptionBudget can refuse (policy/v1 Eviction).
struct Eviction {
    let registry: Registry
    let schema: Schema

    private static let retryAfterSeconds = 10

    func evict(namespace: String, name: String, _ options: DeletionOptions, user: UserInfo) async throws {
        guard let pods = schema.resource(group: "", version: "v1", plural: "pods"),
            let budgets = schema.resource(group: "policy", version: "v1", plural: "poddisruptionbudgets")
        else { throw APIStatus.noSuchPath }
        let pod = try registry.get(pods, namespace: namespace, name: name).json
        let phase = pod["status"]?["phase"]?.string ?? ""
        let isOver = ["Succeeded", "Failed", "Pending"].contains(phase) || pod["metadata"]?["deletionTimestamp"] != nil
        if !isOver {
            let labels = pod["metadata"]?["labels"]
            let matching = try registry.cache(budgets).all(namespace: namespace).filter { budget in
                let selector = budget.json["spec"]?["selector"]
                return selector != nil && Selector(labelSelector: selector).matches { labels?[$0]?.string }
            }
            if matching.count > 1 {
                throw APIStatus.internalError("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
            }
            if let budget = matching.first { try await spend(budget, budgets, pod: name, isReady: ready(pod), dryRun: options.dryRun, user: user) }
        }
        _ = try await registry.delete(pods, namespace: namespace, name: name, options, user: user)
    }

    private func ready(_ pod: JSON) -> Bool {
        (pod["status"]?["conditions"]?.array ?? []).contains { $0["type"]?.string == "Ready" && $0["status"]?.string == "True" }
    }

    private func spend(
        _ budget: StoredObject, _ resource: ResourceSchema, pod: String, isReady: Bool, dryRun: Bool, user: UserInfo
    ) async throws {
        var options = WriteOptions(user: user)
        options.dryRun = dryRun
        options.fieldManager = "kube-apiserver"
        let time = registry.now()
        _ = try await registry.modify(
            resource, namespace: budget.namespace, name: budget.name, scope: .status, options, expected: ""
        ) { object in
            var object = object
            let allowed = object["status"]?["disruptionsAllowed"]?.int ?? 0
            let healthy = object["status"]?["currentHealthy"]?.int ?? 0
            let desired = object["status"]?["desiredHealthy"]?.int ?? 0
            let policy = object["spec"]?["unhealthyPodEvictionPolicy"]?.string
            // A pod that is not ready does not count as healthy: it may go when the budget is otherwise met, or always.
            if !isReady, policy == "AlwaysAllow" || (healthy >= desired && desired > 0) { return object }
            let observed = object["status"]?["observedGeneration"]?.int ?? 0
            let generation = object["metadata"]?["generation"]?.int ?? 0
            guard observed >= generation, allowed > 0 else {
                throw APIStatus(
                    code: 429, reason: "TooManyRequests", message: "Cannot evict pod as it would violate the pod's disruption budget.",
                    retryAfterSeconds: Self.retryAfterSeconds,
                    causes: [
                        APIStatus.Cause(
                            reason: "DisruptionBudget",
                            message: "The disruption budget \(object["metadata"]?["name"]?.string ?? "") needs \(desired) healthy pods and has \(healthy) currently",
                            field: "")
                    ])
            }
            object.set(.int(allowed - 1), at: "status", "disruptionsAllowed")
            object.set(time, at: "status", "disruptedPods", pod)
            return object
        }
    }
}
