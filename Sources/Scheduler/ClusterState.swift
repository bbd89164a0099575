import KubeMeta
import KubeTypes

/// All nodes and placed pods, in the form in which filters and scores read them. Owned by the scheduling loop.
final class ClusterState {
    /// By slot; a removed node leaves a hole until a new one takes it.
    private(set) var nodes: [NodeState?] = []
    private var slots: [String: Int] = [:]
    private var freeSlots: [Int] = []
    /// UID -> node name of every placed or assumed pod.
    private(set) var placed: [String: String] = [:]
    /// Pods on nodes that are not known (yet), by node name.
    private var waiting: [String: [String: PodInfo]] = [:]
    private var podCounts: [PodCounts.Key: PodCounts] = [:]
    private var countsByNamespace: [String: [PodCounts]] = [:]
    private(set) var placedTerms: [PlacedTerm.Key: PlacedTerm] = [:]
    private var domains: [String: Domains] = [:]
    private var clock = 0
    var namespaceLabels: [String: [String: String]] = [:]
    /// Pods that preemption has promised a node to, by node name.
    var nominated: [String: [String: PodInfo]] = [:]

    private static let podCountsMax = 512

    /// The values of a topology key: a number for each, by slot; -1 where a node has none.
    struct Domains {
        var ofSlot: [Int32]
        var count: Int
    }

    var nodeCount: Int { slots.count }
    var allNodes: [NodeState] { nodes.compactMap { $0 } }
    func node(_ name: String) -> NodeState? { slots[name].flatMap { nodes[$0] } }

    // MARK: Changes

    /// True when the change can make a pod fit.
    func setNode(_ node: Node) -> Bool {
        let name = node.metadata.name
        if let known = self.node(name) {
            let labels = known.labels
            let changed = known.update(node)
            if labels != known.labels { domains = [:] }
            return changed
        }
        let slot = freeSlots.popLast() ?? nodes.count
        let state = NodeState(name: name, slot: slot)
        _ = state.update(node)
        if slot == nodes.count {
            nodes.append(state)
            for counts in podCounts.values { counts.counts.append(0) }
        } else {
            nodes[slot] = state
        }
        slots[name] = slot
        domains = [:]
        for pod in (waiting.removeValue(forKey: name) ?? [:]).values { place(pod, on: state) }
        return true
    }

    func removeNode(_ name: String) {
        guard let slot = slots.removeValue(forKey: name), let state = nodes[slot] else { return }
        let pods = state.pods
        for pod in pods.values { unplace(pod.uid, from: state) }
        if !pods.isEmpty { waiting[name] = pods }
        nodes[slot] = nil
        freeSlots.append(slot)
        domains = [:]
    }

    func addPod(_ pod: PodInfo, nodeName: String) {
        if placed[pod.uid] != nil { removePod(pod.uid) }
        placed[pod.uid] = nodeName
        if let state = node(nodeName) { place(pod, on: state) } else { waiting[nodeName, default: [:]][pod.uid] = pod }
    }

    func removePod(_ uid: String) {
        guard let name = placed.removeValue(forKey: uid) else { return }
        if let state = node(name) {
            unplace(uid, from: state)
        } else {
            waiting[name]?[uid] = nil
            if waiting[name]?.isEmpty == true { waiting[name] = nil }
        }
    }

    /// For what-if questions: like `addPod` and `removePod`, on a node that is known.
    func place(_ pod: PodInfo, on node: NodeState) {
        node.add(pod)
        count(pod, node.slot, 1)
    }

    @discardableResult
    func unplace(_ uid: String, from node: NodeState) -> PodInfo? {
        guard let pod = node.remove(uid) else { return nil }
        count(pod, node.slot, -1)
        return pod
    }

    private func count(_ pod: PodInfo, _ slot: Int, _ amount: Int32) {
        if let list = countsByNamespace[pod.namespace] { for counts in list { counts.change(pod, slot: slot, by: amount) } }
        for term in pod.requiredAntiAffinity { count(term, .requiredAnti, slot, amount) }
        for term in pod.requiredAffinity { count(term, .preference(weight: 1), slot, amount) }
        for entry in pod.preferredAffinity { count(entry.term, .preference(weight: entry.weight), slot, amount) }
        for entry in pod.preferredAntiAffinity { count(entry.term, .preference(weight: -entry.weight), slot, amount) }
    }

    private func count(_ term: PodTerm, _ meaning: PlacedTerm.Meaning, _ slot: Int, _ amount: Int32) {
        let key = PlacedTerm.Key(term: term, meaning: meaning)
        let entry = placedTerms[key] ?? PlacedTerm(key)
        placedTerms[key] = entry
        entry.counts[slot, default: 0] += amount
        if entry.counts[slot] == 0 { entry.counts[slot] = nil }
        if entry.counts.isEmpty { placedTerms[key] = nil }
    }

    // MARK: Questions

    /// The namespaces a term is about.
    func namespaces(of term: PodTerm) -> [String] {
        guard let selector = term.namespaceSelector else { return term.namespaces }
        return Set(term.namespaces + namespaceLabels.filter { selector.matches($0.value) }.map(\.key)).sorted()
    }

    func counts(_ namespaces: [String], _ selector: Selector) -> PodCounts {
        clock += 1
        let key = PodCounts.Key(namespaces: namespaces, selector: selector)
        if let known = podCounts[key] {
            known.lastUsed = clock
            return known
        }
        if podCounts.count >= Self.podCountsMax { dropOldCounts() }
        let fresh = PodCounts(key, slots: nodes.count)
        fresh.lastUsed = clock
        let wanted = Set(namespaces)
        for node in nodes {
            guard let node else { continue }
            for pod in node.pods.values where wanted.contains(pod.namespace) { fresh.change(pod, slot: node.slot, by: 1) }
        }
        podCounts[key] = fresh
        for namespace in namespaces { countsByNamespace[namespace, default: []].append(fresh) }
        return fresh
    }

    private func dropOldCounts() {
        let kept = podCounts.values.sorted { $0.lastUsed > $1.lastUsed }.prefix(Self.podCountsMax / 2)
        podCounts = [:]
        countsByNamespace = [:]
        for counts in kept {
            podCounts[counts.key] = counts
            for namespace in counts.key.namespaces { countsByNamespace[namespace, default: []].append(counts) }
        }
    }

    func domains(_ topologyKey: String) -> Domains {
        if let known = domains[topologyKey] { return known }
        var numbers: [String: Int32] = [:]
        var result = Domains(ofSlot: Array(repeating: -1, count: nodes.count), count: 0)
        for node in nodes {
            guard let node, let value = node.labels[topologyKey] else { continue }
            let number = numbers[value] ?? Int32(numbers.count)
            numbers[value] = number
            result.ofSlot[node.slot] = number
        }
        result.count = numbers.count
        domains[topologyKey] = result
        return result
    }
}
