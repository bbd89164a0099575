#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif
import KubeMeta
import KubeTypes

/// Ranks the nodes that can take a pod: upstream's default plugins and weights.
struct Scores {
    private static let top = 100.0
    private enum Weight {
        static let taints = 3.0
        static let nodeAffinity = 2.0
        static let spread = 2.0
        static let podAffinity = 2.0
        static let leastAllocated = 1.0
        static let balanced = 1.0
    }

    let pod: PodInfo
    let cluster: ClusterState
    /// Selects the pods of the same service or controller; nil when the pod belongs to none.
    let siblings: Selector?

    /// One score for each node, higher is better.
    func scores(_ nodes: [NodeState]) -> [Double] {
        var total = nodes.map(resources)
        addTaints(nodes, &total)
        addNodeAffinity(nodes, &total)
        addSpread(nodes, &total)
        addPodAffinity(nodes, &total)
        return total
    }

    private func resources(_ node: NodeState) -> Double {
        func fraction(_ used: Int64, _ all: Int64) -> Double { all > 0 ? min(1, Double(used) / Double(all)) : 1 }
        let cpu = fraction(node.scoredMilliCPU + pod.scoredMilliCPU, node.allocatable.milliCPU)
        let memory = fraction(node.scoredMemoryBytes + pod.scoredMemoryBytes, node.allocatable.memoryBytes)
        let least = (((1 - cpu) * Self.top).rounded(.down) + ((1 - memory) * Self.top).rounded(.down)) / 2
        let exactCPU = fraction(node.used.milliCPU + pod.requests.milliCPU, node.allocatable.milliCPU)
        let exactMemory = fraction(node.used.memoryBytes + pod.requests.memoryBytes, node.allocatable.memoryBytes)
        let balanced = (1 - abs(exactCPU - exactMemory) / 2) * Self.top
        return least.rounded(.down) * Weight.leastAllocated + balanced.rounded(.down) * Weight.balanced
    }

    private func addTaints(_ nodes: [NodeState], _ total: inout [Double]) {
        let counts = nodes.map { node in
            node.taints.isEmpty
                ? 0.0
                : Double(
                    node.taints.count { taint in taint.effect == "PreferNoSchedule" && !pod.tolerations.contains { $0.tolerates(taint) } })
        }
        let highest = counts.max() ?? 0
        guard highest > 0 else { return }
        for index in nodes.indices { total[index] += (Self.top - Self.top * counts[index] / highest) * Weight.taints }
    }

    private func addNodeAffinity(_ nodes: [NodeState], _ total: inout [Double]) {
        guard let preferred = pod.nodeTerms?.preferred, !preferred.isEmpty else { return }
        let sums = nodes.map { node in
            preferred.reduce(0.0) { $0 + ($1.term.matches(labels: node.labels, name: node.name) ? Double($1.weight) : 0) }
        }
        let highest = sums.max() ?? 0
        guard highest > 0 else { return }
        for index in nodes.indices { total[index] += Self.top * sums[index] / highest * Weight.nodeAffinity }
    }

    private func addSpread(_ nodes: [NodeState], _ total: inout [Double]) {
        struct Part {
            var ofSlot: [Int32]?
            var counts: [Int32]
            var weight: Double
            var skew: Double
        }
        var parts: [Part] = []
        func add(_ key: String, _ maxSkew: Int, _ selector: Selector) {
            let matching = cluster.counts([pod.namespace], selector)
            let skew = Double(maxSkew - 1)
            if key == "kubernetes.io/hostname" {
                parts.append(Part(ofSlot: nil, counts: matching.counts, weight: log(Double(nodes.count + 2)), skew: skew))
                return
            }
            let domains = cluster.domains(key)
            var counts = [Int32](repeating: 0, count: domains.count)
            var present = Set<Int32>()
            for (slot, domain) in domains.ofSlot.enumerated() where domain >= 0 { counts[Int(domain)] += matching.counts[slot] }
            for node in nodes where domains.ofSlot[node.slot] >= 0 { present.insert(domains.ofSlot[node.slot]) }
            if present.isEmpty { return }
            parts.append(Part(ofSlot: domains.ofSlot, counts: counts, weight: log(Double(present.count + 2)), skew: skew))
        }
        let soft = pod.spreadConstraints.filter { !$0.isHard }
        if !pod.spreadConstraints.isEmpty {
            for constraint in soft { add(constraint.topologyKey, constraint.maxSkew, constraint.selector) }
        } else if let siblings {
            // Upstream's built-in default constraints.
            add("kubernetes.io/hostname", 3, siblings)
            add("topology.kubernetes.io/zone", 5, siblings)
        }
        guard !parts.isEmpty else { return }
        let raw: [Double?] = nodes.map { node in
            var sum = 0.0
            for part in parts {
                var domain = node.slot
                if let ofSlot = part.ofSlot {
                    if ofSlot[node.slot] < 0 {
                        if soft.isEmpty { continue }
                        return nil
                    }
                    domain = Int(ofSlot[node.slot])
                }
                sum += Double(part.counts[domain]) * part.weight + part.skew
            }
            return sum.rounded()
        }
        let known = raw.compactMap { $0 }
        guard let lowest = known.min(), let highest = known.max() else { return }
        for index in nodes.indices {
            guard let value = raw[index] else { continue }
            total[index] += (highest == 0 ? Self.top : (Self.top * (highest + lowest - value) / highest)) * Weight.spread
        }
    }

    private func addPodAffinity(_ nodes: [NodeState], _ total: inout [Double]) {
        var sums: [Double]?
        func add(_ term: PodTerm, _ weight: Double, countsBySlot: (Int) -> Int32) {
            let domains = cluster.domains(term.topologyKey)
            var counts = [Double](repeating: 0, count: domains.count)
            for (slot, domain) in domains.ofSlot.enumerated() where domain >= 0 { counts[Int(domain)] += Double(countsBySlot(slot)) }
            if sums == nil { sums = Array(repeating: 0, count: nodes.count) }
            for (index, node) in nodes.enumerated() where domains.ofSlot[node.slot] >= 0 {
                sums?[index] += weight * counts[Int(domains.ofSlot[node.slot])]
            }
        }
        for (terms, sign) in [(pod.preferredAffinity, 1.0), (pod.preferredAntiAffinity, -1.0)] {
            for entry in terms {
                let matching = cluster.counts(cluster.namespaces(of: entry.term), entry.term.selector)
                if matching.total > 0 { add(entry.term, sign * Double(entry.weight)) { matching.counts[$0] } }
            }
        }
        for entry in cluster.placedTerms.values {
            guard case .preference(let weight) = entry.key.meaning, entry.key.term.selector.matches(pod.labels),
                cluster.namespaces(of: entry.key.term).contains(pod.namespace)
            else { continue }
            add(entry.key.term, Double(weight)) { entry.counts[$0] ?? 0 }
        }
        guard let sums, let lowest = sums.min(), let highest = sums.max(), highest > lowest else { return }
        for index in nodes.indices { total[index] += Self.top * (sums[index] - lowest) / (highest - lowest) * Weight.podAffinity }
    }
}
