import KubeMeta

/// How many pods of some namespaces match a selector, node by node. Kept current as pods come and go, so that spreading and affinity
/// cost one array look-up a node.
final class PodCounts {
    struct Key: Hashable {
        var namespaces: [String]
        var selector: Selector
    }

    let key: Key
    /// By node slot.
    var counts: [Int32]
    var total = 0
    var lastUsed = 0

    init(_ key: Key, slots: Int) {
        self.key = key
        counts = Array(repeating: 0, count: slots)
    }

    func change(_ pod: PodInfo, slot: Int, by amount: Int32) {
        guard key.selector.matches(pod.labels) else { return }
        counts[slot] += amount
        total += Int(amount)
    }
}

/// What terms of pods that are placed already say about pods to come: required anti-affinity, and preferences with their weight.
final class PlacedTerm {
    enum Meaning: Hashable { case requiredAnti, preference(weight: Int) }

    struct Key: Hashable {
        var term: PodTerm
        var meaning: Meaning
    }

    let key: Key
    /// Pods with the term, by node slot.
    var counts: [Int: Int32] = [:]

    init(_ key: Key) { self.key = key }
}
