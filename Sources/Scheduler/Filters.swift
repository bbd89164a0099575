import KubeMeta
import KubeTypes

/// Why a node cannot take a pod.
struct Refusal: Sendable {
    var reason: String
    /// Removing other pods cannot help.
    var isFinal: Bool
    var more: [String] = []

    init(_ reason: String, isFinal: Bool = false, more: [String] = []) {
        self.reason = reason
        self.isFinal = isFinal
        self.more = more
    }
}

/// The question "can this pod run on that node", with everything that is the same for all nodes worked out once.
struct Filters {
    let pod: PodInfo
    let cluster: ClusterState
    let volumes: VolumeNeeds

    private struct Spread {
        var constraint: SpreadConstraint
        var ofSlot: [Int32]
        /// Matching pods by domain.
        var counts: [Int32]
        var isCandidate: [Bool]
        var least: Int32
        var matchesSelf: Int32
    }

    private struct Affinity {
        var ofSlot: [Int32]
        /// By domain.
        var counts: [Int32]
    }

    private var spreads: [Spread] = []
    private var affinities: [Affinity] = []
    /// No pod matches yet, and the pod matches its own terms: the first of a group may go anywhere.
    private var isFirstOfGroup = false
    private var antiAffinities: [Affinity] = []
    /// Domains that placed pods keep this pod out of.
    private var forbidden: [Affinity] = []

    init(pod: PodInfo, cluster: ClusterState, volumes: VolumeNeeds) {
        self.pod = pod
        self.cluster = cluster
        self.volumes = volumes
        refresh()
    }

    /// To be called after pods were added or removed for a what-if question.
    mutating func refresh() {
        spreads = pod.spreadConstraints.filter(\.isHard).map(spread)
        affinities = pod.requiredAffinity.map(affinity)
        antiAffinities = pod.requiredAntiAffinity.map(affinity)
        if !affinities.isEmpty {
            isFirstOfGroup =
                affinities.allSatisfy { $0.counts.allSatisfy { $0 == 0 } }
                && pod.requiredAffinity.allSatisfy { cluster.namespaces(of: $0).contains(pod.namespace) && $0.selector.matches(pod.labels) }
        }
        forbidden = []
        for entry in cluster.placedTerms.values where entry.key.meaning == .requiredAnti {
            let term = entry.key.term
            guard term.selector.matches(pod.labels), cluster.namespaces(of: term).contains(pod.namespace) else { continue }
            let domains = cluster.domains(term.topologyKey)
            var counts = [Int32](repeating: 0, count: domains.count)
            for (slot, count) in entry.counts where domains.ofSlot[slot] >= 0 { counts[Int(domains.ofSlot[slot])] += count }
            forbidden.append(Affinity(ofSlot: domains.ofSlot, counts: counts))
        }
    }

    private func affinity(_ term: PodTerm) -> Affinity {
        let domains = cluster.domains(term.topologyKey)
        let matching = cluster.counts(cluster.namespaces(of: term), term.selector)
        var counts = [Int32](repeating: 0, count: domains.count)
        if matching.total > 0 {
            for (slot, domain) in domains.ofSlot.enumerated() where domain >= 0 { counts[Int(domain)] += matching.counts[slot] }
        }
        return Affinity(ofSlot: domains.ofSlot, counts: counts)
    }

    private func spread(_ constraint: SpreadConstraint) -> Spread {
        let domains = cluster.domains(constraint.topologyKey)
        let matching = cluster.counts([pod.namespace], constraint.selector)
        var counts = [Int32](repeating: 0, count: domains.count)
        var present = [Bool](repeating: false, count: domains.count)
        var candidates = [Bool](repeating: false, count: domains.ofSlot.count)
        for node in cluster.nodes {
            guard let node, domains.ofSlot[node.slot] >= 0 else { continue }
            if constraint.honorsAffinity, let terms = pod.nodeTerms, !terms.matches(node) { continue }
            if constraint.honorsTaints, untolerated(node) != nil { continue }
            candidates[node.slot] = true
            let domain = Int(domains.ofSlot[node.slot])
            present[domain] = true
            counts[domain] += matching.counts[node.slot]
        }
        let used = present.indices.filter { present[$0] }
        let least = used.count < constraint.minDomains ? 0 : used.map { counts[$0] }.min() ?? 0
        return Spread(
            constraint: constraint, ofSlot: domains.ofSlot, counts: counts, isCandidate: candidates, least: least,
            matchesSelf: constraint.selector.matches(pod.labels) ? 1 : 0)
    }

    private func untolerated(_ node: NodeState) -> Taint? {
        node.taints.first { taint in
            (taint.effect == "NoSchedule" || taint.effect == "NoExecute") && !pod.tolerations.contains { $0.tolerates(taint) }
        }
    }

    /// Nil when the pod can run there. The order is upstream's, so that the reported reason is too.
    func refusal(_ node: NodeState) -> Refusal? {
        if node.isUnschedulable {
            var taint = Taint()
            taint.key = "node.kubernetes.io/unschedulable"
            taint.effect = "NoSchedule"
            if !pod.tolerations.contains(where: { $0.tolerates(taint) }) { return Refusal("node(s) were unschedulable", isFinal: true) }
        }
        if !node.taints.isEmpty, let taint = untolerated(node) {
            return Refusal("node(s) had untolerated taint {\(taint.key): \(taint.value ?? "")}", isFinal: true)
        }
        if let terms = pod.nodeTerms, !terms.matches(node) {
            return Refusal("node(s) didn't match Pod's node affinity/selector", isFinal: true)
        }
        if !pod.hostPorts.isEmpty {
            for port in pod.hostPorts where node.hostPorts.contains(where: port.conflicts) {
                return Refusal("node(s) didn't have free ports for the requested pod ports")
            }
        }
        if let refusal = resources(node) { return refusal }
        if !volumes.isEmpty, let refusal = volumes.refusal(node) { return refusal }
        for spread in spreads {
            let domain = spread.ofSlot[node.slot]
            guard domain >= 0 else {
                return Refusal("node(s) didn't match pod topology spread constraints (missing required label)", isFinal: true)
            }
            if spread.counts[Int(domain)] + spread.matchesSelf - spread.least > Int32(spread.constraint.maxSkew) {
                return Refusal("node(s) didn't match pod topology spread constraints")
            }
        }
        for affinity in affinities {
            let domain = affinity.ofSlot[node.slot]
            if domain < 0 || affinity.counts[Int(domain)] == 0 && !isFirstOfGroup {
                return Refusal("node(s) didn't match pod affinity rules", isFinal: true)
            }
        }
        for affinity in antiAffinities {
            let domain = affinity.ofSlot[node.slot]
            if domain >= 0, affinity.counts[Int(domain)] > 0 { return Refusal("node(s) didn't match pod anti-affinity rules") }
        }
        for affinity in forbidden {
            let domain = affinity.ofSlot[node.slot]
            if domain >= 0, affinity.counts[Int(domain)] > 0 { return Refusal("node(s) didn't satisfy existing pods anti-affinity rules") }
        }
        return nil
    }

    private func resources(_ node: NodeState) -> Refusal? {
        var used = node.used
        var count = node.pods.count
        // Room that preemption has made for another pod is not free.
        if !cluster.nominated.isEmpty, let nominated = cluster.nominated[node.name] {
            for other in nominated.values where other.uid != pod.uid && other.priority >= pod.priority && node.pods[other.uid] == nil {
                used += other.requests
                count += 1
            }
        }
        var reasons: [String] = []
        var isFinal = false
        if count + 1 > node.podsMax { reasons.append("Too many pods") }
        let requests = pod.requests
        func check(_ name: String, _ wanted: Int64, _ taken: Int64, _ all: Int64) {
            guard wanted > 0, wanted > all - taken else { return }
            reasons.append("Insufficient \(name)")
            if wanted > all { isFinal = true }
        }
        check("cpu", requests.milliCPU, used.milliCPU, node.allocatable.milliCPU)
        check("memory", requests.memoryBytes, used.memoryBytes, node.allocatable.memoryBytes)
        check("ephemeral-storage", requests.ephemeralBytes, used.ephemeralBytes, node.allocatable.ephemeralBytes)
        if !requests.others.isEmpty {
            for (name, wanted) in requests.others.sorted(by: { $0.key < $1.key }) {
                check(name, wanted, used.others[name] ?? 0, node.allocatable.others[name] ?? 0)
            }
        }
        guard let first = reasons.first else { return nil }
        return Refusal(first, isFinal: isFinal, more: Array(reasons.dropFirst()))
    }
}
