import JSON
import KubeAPI
import KubeMeta

/// Resources that are another view of the same stored objects: events.k8s.io/v1 of core/v1 Events, autoscaling/v1 of autoscaling/v2.
enum Views {
    static func storageKind(_ kind: ResourceKind) -> ResourceKind {
        var storage = kind
        switch (kind.group, kind.plural) {
        case ("events.k8s.io", "events"): storage.group = ""
        case ("autoscaling", "horizontalpodautoscalers"): storage.version = "v2"
        default: break
        }
        return storage
    }

    static func isView(_ kind: ResourceKind) -> Bool { storageKind(kind) != kind }

    static func toStorage(_ object: JSON, _ kind: ResourceKind) -> JSON {
        guard isView(kind) else { return object }
        return kind.plural == "events" ? rename(object, eventNames) : autoscalerToV2(object)
    }

    static func fromStorage(_ object: JSON, _ kind: ResourceKind) -> JSON {
        guard isView(kind) else { return object }
        let view = kind.plural == "events" ? rename(object, eventNames.map { ($0.1, $0.0) }) : autoscalerToV1(object)
        return Registry.withKind(view, kind)
    }

    /// events.k8s.io name -> core name.
    private static let eventNames = [
        ("regarding", "involvedObject"), ("note", "message"), ("reportingController", "reportingComponent"), ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"), ("deprecatedLastTimestamp", "lastTimestamp"), ("deprecatedCount", "count"),
    ]

    private static func rename(_ object: JSON, _ names: [(String, String)]) -> JSON {
        guard case .object(let members) = object else { return object }
        var result = JSONObject()
        for (key, value) in members { result.append(names.first { $0.0 == key }?.1 ?? key, value) }
        return .object(result)
    }

    private static func autoscalerToV2(_ object: JSON) -> JSON {
        var result = object
        if let target = result["spec"]?["targetCPUUtilizationPercentage"] {
            result.set(nil, at: "spec", "targetCPUUtilizationPercentage")
            result.set(
                [["type": "Resource", "resource": ["name": "cpu", "target": ["type": "Utilization", "averageUtilization": target]]]],
                at: "spec", "metrics")
        }
        if let current = result["status"]?["currentCPUUtilizationPercentage"] {
            result.set(nil, at: "status", "currentCPUUtilizationPercentage")
            result.set(
                [["type": "Resource", "resource": ["name": "cpu", "current": ["averageUtilization": current, "averageValue": "0"]]]],
                at: "status", "currentMetrics")
        }
        return result
    }

    private static func isCPU(_ metric: JSON) -> Bool { metric["type"]?.string == "Resource" && metric["resource"]?["name"]?.string == "cpu" }

    private static func autoscalerToV1(_ object: JSON) -> JSON {
        var result = object
        var others: [JSON] = []
        for metric in result["spec"]?["metrics"]?.array ?? [] {
            if isCPU(metric), let percent = metric["resource"]?["target"]?["averageUtilization"] {
                result.set(percent, at: "spec", "targetCPUUtilizationPercentage")
            } else {
                others.append(metric)
            }
        }
        result.set(nil, at: "spec", "metrics")
        if !others.isEmpty { result.set(.string(JSON.array(others).text), at: "metadata", "annotations", "autoscaling.alpha.kubernetes.io/metrics") }
        for metric in result["status"]?["currentMetrics"]?.array ?? [] where isCPU(metric) {
            result.set(metric["resource"]?["current"]?["averageUtilization"], at: "status", "currentCPUUtilizationPercentage")
        }
        result.set(nil, at: "status", "currentMetrics")
        if let conditions = result["status"]?["conditions"] {
            result.set(.string(conditions.text), at: "metadata", "annotations", "autoscaling.alpha.kubernetes.io/conditions")
            result.set(nil, at: "status", "conditions")
        }
        if result["status"]?.object != nil {
            result.change("status") {
                $0.fill("currentReplicas", 0)
                $0.fill("desiredReplicas", 0)
            }
        }
        return result
    }
}
