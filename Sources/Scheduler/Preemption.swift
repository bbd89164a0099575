import KubeMeta
import KubeTypes

/// Finds the node on which the removal of less important pods costs least.
struct Preemption {
    struct Plan {
        var node: NodeState
        var victims: [PodInfo]
        var violations: Int
    }

    /// Nodes that are tried at most, as a share of all and in number (upstream: 10 %, at least 100).
    private static let candidatesMin = 100

    let pod: PodInfo
    let cluster: ClusterState
    let budgets: [PodDisruptionBudget]

    /// - Parameter candidates: nodes on which the removal of pods might help.
    func plan(_ candidates: [NodeState], _ filters: Filters) -> Plan? {
        var filters = filters
        var plans: [Plan] = []
        let limit = max(Self.candidatesMin, cluster.nodeCount / 10)
        for node in candidates {
            if let plan = plan(node, &filters) { plans.append(plan) }
            if plans.count >= limit { break }
        }
        return plans.min { left, right in
            if left.violations != right.violations { return left.violations < right.violations }
            let (highestLeft, highestRight) = (left.victims.map(\.priority).max() ?? 0, right.victims.map(\.priority).max() ?? 0)
            if highestLeft != highestRight { return highestLeft < highestRight }
            // Shifted, so that many victims of a low priority do not look better than few.
            func sum(_ plan: Plan) -> Int { plan.victims.reduce(0) { $0 + $1.priority + Int(Int32.max) + 1 } }
            if sum(left) != sum(right) { return sum(left) < sum(right) }
            if left.victims.count != right.victims.count { return left.victims.count < right.victims.count }
            func earliest(_ plan: Plan, _ priority: Int) -> String {
                plan.victims.filter { $0.priority == priority }.compactMap(\.pod.status.startTime).min() ?? ""
            }
            return earliest(left, highestLeft) > earliest(right, highestRight)
        }
    }

    private func plan(_ node: NodeState, _ filters: inout Filters) -> Plan? {
        let lower = node.pods.values.filter { $0.priority < pod.priority }
        guard !lower.isEmpty else { return nil }
        for victim in lower { cluster.unplace(victim.uid, from: node) }
        var removed = Dictionary(lower.map { ($0.uid, $0) }, uniquingKeysWith: { first, _ in first })
        defer { for victim in removed.values { cluster.place(victim, on: node) } }
        filters.refresh()
        guard filters.refusal(node) == nil else { return nil }

        var allowed = budgets.map { $0.status.disruptionsAllowed ?? 0 }
        func violates(_ victim: PodInfo) -> Bool {
            var violating = false
            for (index, budget) in budgets.enumerated()
            where budget.metadata.namespace == victim.namespace && budget.spec.selector?.selector.matches(victim.labels) == true
                && budget.status.disruptedPods[victim.pod.metadata.name] == nil
            {
                allowed[index] -= 1
                if allowed[index] < 0 { violating = true }
            }
            return violating
        }
        // The most important first, the longest running first among equals: they are the first to be spared.
        let ordered = lower.sorted { left, right in
            left.priority != right.priority
                ? left.priority > right.priority : left.pod.status.startTime ?? "~" < right.pod.status.startTime ?? "~"
        }
        var violating: [PodInfo] = []
        var harmless: [PodInfo] = []
        for victim in ordered { if violates(victim) { violating.append(victim) } else { harmless.append(victim) } }
        var violations = 0
        for (group, counts) in [(violating, true), (harmless, false)] {
            for victim in group {
                cluster.place(victim, on: node)
                filters.refresh()
                if filters.refusal(node) == nil {
                    removed[victim.uid] = nil
                } else {
                    cluster.unplace(victim.uid, from: node)
                    if counts { violations += 1 }
                }
            }
        }
        filters.refresh()
        return removed.isEmpty ? nil : Plan(node: node, victims: Array(removed.values), violations: violations)
    }
}
