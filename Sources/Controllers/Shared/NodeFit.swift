import KubeMeta
import KubeTypes

/// Whether a pod could run on a node as far as taints, selector and node affinity say (no resources): what a DaemonSet needs to know.
enum NodeFit {
    static func tolerates(_ tolerations: [Toleration], _ taint: Taint) -> Bool {
        tolerations.contains { toleration in
            if !toleration.effect.isEmpty, toleration.effect != taint.effect { return false }
            if !toleration.key.isEmpty, toleration.key != taint.key { return false }
            switch toleration.operator {
            case "Exists": return true
            case "", "Equal": return toleration.value ?? "" == taint.value ?? ""
            default: return false
            }
        }
    }

    static func untolerated(_ tolerations: [Toleration], _ taints: [Taint], effects: Set<String>) -> Taint? {
        taints.first { effects.contains($0.effect) && !tolerates(tolerations, $0) }
    }

    static func matches(_ spec: PodSpec, _ node: Node) -> Bool {
        for (key, value) in spec.nodeSelector where node.metadata.labels[key] != value { return false }
        guard let required = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution else { return true }
        return required.nodeSelectorTerms.contains { term in
            if term.matchExpressions.isEmpty && term.matchFields.isEmpty { return false }
            return term.matchExpressions.allSatisfy { holds($0, node.metadata.labels[$0.key]) }
                && term.matchFields.allSatisfy { $0.key == "metadata.name" && holds($0, node.metadata.name) }
        }
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
