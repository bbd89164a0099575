import KubeMeta
import KubeTypes

/// A pod's nodeSelector and node affinity, compiled.
struct NodeTerms: Sendable {
    struct Term: Sendable {
        var labels: [NodeSelectorRequirement]
        var fields: [NodeSelectorRequirement]

        init(_ term: NodeSelectorTerm) {
            labels = term.matchExpressions
            fields = term.matchFields
        }

        /// An empty term matches nothing.
        func matches(labels nodeLabels: [String: String], name: String) -> Bool {
            if labels.isEmpty && fields.isEmpty { return false }
            for requirement in labels where !Self.holds(requirement, nodeLabels[requirement.key]) { return false }
            for requirement in fields {
                guard requirement.key == "metadata.name", Self.holds(requirement, name) else { return false }
            }
            return true
        }

        private static func holds(_ requirement: NodeSelectorRequirement, _ value: String?) -> Bool {
            switch requirement.operator {
            case "In": return value.map(requirement.values.contains) ?? false
            case "NotIn": return value.map { !requirement.values.contains($0) } ?? true
            case "Exists": return value != nil
            case "DoesNotExist": return value == nil
            case "Gt", "Lt":
                guard let value = value.flatMap({ Int64($0) }), let bound = requirement.values.first.flatMap({ Int64($0) }) else {
                    return false
                }
                return requirement.operator == "Gt" ? value > bound : value < bound
            default: return false
            }
        }
    }

    var selector: [String: String]
    /// Nil when there is no required affinity.
    var required: [Term]?
    var preferred: [(term: Term, weight: Int)]
    /// Set when only nodes of these names can match (pods of daemon sets): the others need not be looked at.
    var onlyNames: Set<String>?

    init?(_ spec: PodSpec) {
        let affinity = spec.affinity?.nodeAffinity
        selector = spec.nodeSelector
        required = affinity?.requiredDuringSchedulingIgnoredDuringExecution.map { $0.nodeSelectorTerms.map(Term.init) }
        preferred = (affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map { (Term($0.preference), $0.weight) }
        if selector.isEmpty, required == nil, preferred.isEmpty { return nil }
        if let required, !required.isEmpty {
            var names: Set<String> = []
            for term in required {
                guard let field = term.fields.first(where: { $0.key == "metadata.name" && $0.operator == "In" }) else { return }
                names.formUnion(field.values)
            }
            onlyNames = names
        }
    }

    func matches(_ node: NodeState) -> Bool {
        for (key, value) in selector where node.labels[key] != value { return false }
        guard let required else { return true }
        return required.contains { $0.matches(labels: node.labels, name: node.name) }
    }
}

extension Toleration {
    func tolerates(_ taint: Taint) -> Bool {
        if !effect.isEmpty, effect != taint.effect { return false }
        if !key.isEmpty, key != taint.key { return false }
        switch `operator` {
        case "Exists": return true
        case "", "Equal": return value ?? "" == taint.value ?? ""
        case "Gt", "Lt":
            guard let bound = value.flatMap({ Int64($0) }), let actual = taint.value.flatMap({ Int64($0) }) else { return false }
            return `operator` == "Gt" ? actual > bound : actual < bound
        default: return false
        }
    }
}
