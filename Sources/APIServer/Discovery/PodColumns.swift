import JSON
import KubeMeta

/// The columns of pods: the status word is worked out from phase, container states and deletion, as upstream's printer does.
enum PodColumns {
    static let all: [Tables.Column] = [
        Tables.Column("Name", path: "metadata.name", description: "Name of the object."),
        Tables.Column("Ready", description: "The aggregate readiness state of this pod for accepting traffic.") { pod, _ in
            let statuses = pod["status"]?["containerStatuses"]?.array ?? []
            let sidecars = Set((pod["spec"]?["initContainers"]?.array ?? []).filter { $0["restartPolicy"]?.string == "Always" }.compactMap { $0["name"]?.string })
            let sidecarStatuses = (pod["status"]?["initContainerStatuses"]?.array ?? []).filter { sidecars.contains($0["name"]?.string ?? "") }
            let ready = (statuses + sidecarStatuses).filter { $0["ready"]?.bool == true }.count
            return .string("\(ready)/\((pod["spec"]?["containers"]?.array?.count ?? 0) + sidecars.count)")
        },
        Tables.Column("Status", description: "The aggregate status of the containers in this pod.") { pod, _ in .string(status(pod)) },
        Tables.Column("Restarts", description: "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.") { pod, now in
            .string(restarts(pod, now))
        },
        Tables.Column("Age", description: "Time since the object was created.") { pod, now in Tables.age(pod["metadata"]?["creationTimestamp"], now) },
        Tables.Column("IP", wide: true) { pod, _ in
            let address = pod["status"]?["podIP"]?.string ?? ""
            return .string(address.isEmpty ? "<none>" : address)
        },
        Tables.Column("Node", wide: true) { pod, _ in
            let node = pod["spec"]?["nodeName"]?.string ?? ""
            return .string(node.isEmpty ? "<none>" : node)
        },
        Tables.Column("Nominated Node", wide: true, path: "status.nominatedNodeName", fallback: "<none>"),
        Tables.Column("Readiness Gates", wide: true) { pod, _ in
            let gates = (pod["spec"]?["readinessGates"]?.array ?? []).compactMap { $0["conditionType"]?.string }
            if gates.isEmpty { return "<none>" }
            let conditions = pod["status"]?["conditions"]?.array ?? []
            let met = gates.filter { gate in conditions.contains { $0["type"]?.string == gate && $0["status"]?.string == "True" } }
            return .string("\(met.count)/\(gates.count)")
        },
    ]

    static func status(_ pod: JSON) -> String {
        let state = pod["status"]
        var reason = state?["phase"]?.string ?? "Unknown"
        if let given = state?["reason"]?.string, !given.isEmpty { reason = given }
        if (state?["conditions"]?.array ?? []).contains(where: { $0["type"]?.string == "PodScheduled" && $0["reason"]?.string == "SchedulingGated" }) {
            reason = "SchedulingGated"
        }
        let initContainers = pod["spec"]?["initContainers"]?.array ?? []
        let sidecars = Set(initContainers.filter { $0["restartPolicy"]?.string == "Always" }.compactMap { $0["name"]?.string })
        var initializing = false
        for (index, container) in (state?["initContainerStatuses"]?.array ?? []).enumerated() {
            let current = container["state"]
            if let ended = current?["terminated"] {
                if ended["exitCode"]?.int == 0 { continue }
                reason = "Init:" + terminationWord(ended)
            } else if sidecars.contains(container["name"]?.string ?? ""), container["started"]?.bool == true {
                continue
            } else if let waiting = current?["waiting"]?["reason"]?.string, !waiting.isEmpty, waiting != "PodInitializing" {
                reason = "Init:\(waiting)"
            } else {
                reason = "Init:\(index)/\(initContainers.count)"
            }
            initializing = true
            break
        }
        if !initializing {
            var hasRunning = false
            for container in (state?["containerStatuses"]?.array ?? []).reversed() {
                let current = container["state"]
                if let waiting = current?["waiting"]?["reason"]?.string, !waiting.isEmpty {
                    reason = waiting
                } else if let ended = current?["terminated"] {
                    reason = terminationWord(ended)
                } else if container["ready"]?.bool == true, current?["running"] != nil {
                    hasRunning = true
                }
            }
            if reason == "Completed", hasRunning {
                let ready = (state?["conditions"]?.array ?? []).contains { $0["type"]?.string == "Ready" && $0["status"]?.string == "True" }
                reason = ready ? "Running" : "NotReady"
            }
        }
        if pod["metadata"]?["deletionTimestamp"] != nil {
            if state?["reason"]?.string == "NodeLost" { return "Unknown" }
            if state?["phase"]?.string != "Succeeded", state?["phase"]?.string != "Failed" { return "Terminating" }
        }
        return reason
    }

    private static func terminationWord(_ ended: JSON) -> String {
        if let reason = ended["reason"]?.string, !reason.isEmpty { return reason }
        if let signal = ended["signal"]?.int, signal != 0 { return "Signal:\(signal)" }
        return "ExitCode:\(ended["exitCode"]?.int ?? 0)"
    }

    private static func restarts(_ pod: JSON, _ now: Double) -> String {
        let statuses = (pod["status"]?["containerStatuses"]?.array ?? []) + (pod["status"]?["initContainerStatuses"]?.array ?? [])
        let count = statuses.reduce(0) { $0 + ($1["restartCount"]?.int ?? 0) }
        let last = statuses.compactMap { $0["lastState"]?["terminated"]?["finishedAt"]?.string.flatMap(KubeTime.parse) }.max()
        if count > 0, let last { return "\(count) (\(Tables.duration(now - last)) ago)" }
        return String(count)
    }
}

/// The columns of nodes.
enum NodeColumns {
    private static func address(_ node: JSON, _ type: String) -> JSON {
        .string((node["status"]?["addresses"]?.array ?? []).first { $0["type"]?.string == type }?["address"]?.string ?? "<none>")
    }

    static let all: [Tables.Column] = [
        Tables.Column("Name", path: "metadata.name", description: "Name of the object."),
        Tables.Column("Status") { node, _ in
            let ready = (node["status"]?["conditions"]?.array ?? []).first { $0["type"]?.string == "Ready" }?["status"]?.string
            var words = [ready == "True" ? "Ready" : ready == nil ? "Unknown" : "NotReady"]
            if node["spec"]?["unschedulable"]?.bool == true { words.append("SchedulingDisabled") }
            return .string(words.joined(separator: ","))
        },
        Tables.Column("Roles") { node, _ in
            let prefix = "node-role.kubernetes.io/"
            var roles: [String] = []
            for (key, value) in node["metadata"]?["labels"]?.object ?? [:] {
                if key.hasPrefix(prefix), key.count > prefix.count { roles.append(String(key.dropFirst(prefix.count))) }
                if key == "kubernetes.io/role", let role = value.string { roles.append(role) }
            }
            return .string(roles.isEmpty ? "<none>" : roles.sorted().joined(separator: ","))
        }, Tables.Column("Age") { node, now in Tables.age(node["metadata"]?["creationTimestamp"], now) },
        Tables.Column("Version", path: "status.nodeInfo.kubeletVersion"),
        Tables.Column("Internal-IP", wide: true) { node, _ in address(node, "InternalIP") },
        Tables.Column("External-IP", wide: true) { node, _ in address(node, "ExternalIP") },
        Tables.Column("OS-Image", wide: true, path: "status.nodeInfo.osImage", fallback: "<unknown>"),
        Tables.Column("Kernel-Version", wide: true, path: "status.nodeInfo.kernelVersion", fallback: "<unknown>"),
        Tables.Column("Container-Runtime", wide: true, path: "status.nodeInfo.containerRuntimeVersion", fallback: "<unknown>"),
    ]
}
