package import KubeMeta
package import KubeTypes

/// Values of `fieldRef` and `resourceFieldRef` (the downward API).
package struct FieldReferences: Sendable {
    package var pod: Pod
    package var nodeName: String
    package var nodeIP: String
    package var podIPs: [String]
    /// What limits default to.
    package var allocatable: [String: Quantity]

    package init(pod: Pod, nodeName: String, nodeIP: String, podIPs: [String], allocatable: [String: Quantity]) {
        self.pod = pod
        self.nodeName = nodeName
        self.nodeIP = nodeIP
        self.podIPs = podIPs
        self.allocatable = allocatable
    }

    package func value(_ field: ObjectFieldSelector) throws(AgentError) -> String {
        let path = field.fieldPath
        switch path {
        case "metadata.name": return pod.metadata.name
        case "metadata.namespace": return pod.metadata.namespace
        case "metadata.uid": return pod.metadata.uid
        case "metadata.labels": return Self.lines(pod.metadata.labels)
        case "metadata.annotations": return Self.lines(pod.metadata.annotations)
        case "spec.nodeName": return nodeName
        case "spec.serviceAccountName": return pod.spec.serviceAccountName ?? ""
        case "status.hostIP": return nodeIP
        case "status.hostIPs": return nodeIP
        case "status.podIP": return podIPs.first ?? ""
        case "status.podIPs": return podIPs.joined(separator: ",")
        default:
            if let key = Self.subscriptKey(path, "metadata.labels") { return pod.metadata.labels[key] ?? "" }
            if let key = Self.subscriptKey(path, "metadata.annotations") { return pod.metadata.annotations[key] ?? "" }
            throw AgentError("unsupported fieldPath: \(path)")
        }
    }

    /// `metadata.labels['KEY']`.
    private static func subscriptKey(_ path: String, _ base: String) -> String? {
        guard path.hasPrefix(base + "['"), path.hasSuffix("']") else { return nil }
        return String(path.dropFirst(base.count + 2).dropLast(2))
    }

    /// `key="value"` lines, sorted, values quoted as Go quotes them.
    private static func lines(_ map: [String: String]) -> String {
        map.sorted { $0.key < $1.key }.map { "\($0.key)=\(quoted($0.value))" }.joined(separator: "\n")
    }

    package static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            default:
                if scalar.value < 0x20 || scalar.value == 0x7f {
                    result += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }

    package func value(_ reference: ResourceFieldSelector, container: Container) throws(AgentError) -> String {
        var container = container
        if let name = reference.containerName, !name.isEmpty {
            guard let other = pod.container(named: name) else { throw AgentError("container \(name) not found") }
            container = other
        }
        let parts = reference.resource.split(separator: ".", maxSplits: 1).map(String.init)
        guard parts.count == 2, parts[0] == "limits" || parts[0] == "requests" else {
            throw AgentError("unsupported container resource : \(reference.resource)")
        }
        let resource = parts[1]
        let limits = container.resources?.limits ?? [:]
        var amount = parts[0] == "limits" ? limits[resource] : container.resources?.requests[resource] ?? limits[resource]
        // Without a limit the whole node is.
        if amount == nil || amount == .zero, parts[0] == "limits" { amount = allocatable[resource] }
        let divisor = reference.divisor.flatMap { $0 == .zero ? nil : $0 } ?? Quantity(1)
        guard let amount else { return "0" }
        if resource == "cpu" {
            let steps = max(1, divisor.milliValue)
            return String((amount.milliValue + steps - 1) / steps)
        }
        let steps = max(1, divisor.value)
        return String((amount.value + steps - 1) / steps)
    }
}
