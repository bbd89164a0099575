package import JSON
package import KubeTypes

/// The merge patch (RFC 7386) that turns one status into another; members that are gone become null.
package enum StatusPatch {
    package static let fields = [
        "phase", "reason", "message", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "qosClass", "observedGeneration", "conditions",
        "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses",
    ]

    /// Nil when nothing differs. The UID keeps it from reaching a later pod of the same name.
    package static func make(uid: String, old: PodStatus, new: PodStatus) -> JSON? {
        let before = old.json, after = new.json
        var status: JSON = [:]
        var isEmpty = true
        for field in fields where before[field] != after[field] {
            status[field] = after[field] ?? .null
            isEmpty = false
        }
        if isEmpty { return nil }
        return ["metadata": ["uid": .string(uid)], "status": status]
    }
}
