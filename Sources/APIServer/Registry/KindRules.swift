import JSON
import KubeAPI
import KubeMeta

/// What upstream's strategies do for single kinds when an object is written.
enum KindRules {
    /// Events expire (upstream `--event-ttl`).
    static let eventTimeToLiveSeconds: Int64 = 3600

    static func timeToLiveSeconds(_ kind: ResourceKind) -> Int64? { kind.plural == "events" ? eventTimeToLiveSeconds : nil }

    static func prepareForCreate(_ object: inout JSON, _ kind: ResourceKind, registry: Registry) throws {
        switch kind.qualifiedName {
        case "pods": object["status"] = ["phase": "Pending"]
        case "secrets": mergeStringData(&object)
        case "namespaces":
            object.set(["kubernetes"], at: "spec", "finalizers")
            object["status"] = ["phase": "Active"]
        case "nodes":
            if object["status"] == nil { object["status"] = [:] }
            object.change("status") { status in
                status.fill("daemonEndpoints", ["kubeletEndpoint": ["Port": 0]])
                status.fill("nodeInfo", emptyNodeInfo)
            }
        case "persistentvolumes":
            object["status"] = ["phase": "Pending", "lastPhaseTransitionTime": registry.now()]
        case "jobs.batch": labelJob(&object)
        case "customresourcedefinitions.apiextensions.k8s.io":
            let versions = (object["spec"]?["versions"]?.array ?? []).filter { $0["storage"]?.bool == true }.compactMap { $0["name"] }
            object["status"] = ["conditions": nil, "acceptedNames": ["plural": "", "kind": ""], "storedVersions": .array(versions)]
        default: break
        }
    }

    static let emptyNodeInfo: JSON = [
        "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "",
        "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": "",
    ]

    static func afterAdmission(_ object: inout JSON, _ kind: ResourceKind) throws {
        guard kind.qualifiedName == "pods" else { return }
        object.set(.string(PodQuality.qosClass(object["spec"] ?? [:])), at: "status", "qosClass")
        if object["spec"]?["schedulingGates"]?.array?.isEmpty == false {
            object.set(
                [["type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates"]], at: "status", "conditions")
        }
    }

    static func prepareForUpdate(
        _ new: inout JSON, _ old: JSON, _ kind: ResourceKind, _ scope: WriteScope, registry: Registry
    ) throws {
        switch kind.qualifiedName {
        case "secrets": mergeStringData(&new)
        case "namespaces":
            if scope != .subresource("finalize") { new.set(old["spec"]?["finalizers"], at: "spec", "finalizers") }
            if scope != .status { new["status"] = old["status"] }
        case "nodes" where scope == .main: new["status"] = old["status"]
        case "pods":
            new.set(old["status"]?["qosClass"], at: "status", "qosClass")
            if case .subresource("ephemeralcontainers") = scope {
                var kept = old
                kept.set(new["spec"]?["ephemeralContainers"], at: "spec", "ephemeralContainers")
                kept.set(new["metadata"]?["managedFields"], at: "metadata", "managedFields")
                new = kept
            }
        case "persistentvolumes":
            if old["status"]?["phase"] != new["status"]?["phase"] { new.set(registry.now(), at: "status", "lastPhaseTransitionTime") }
        case "certificatesigningrequests.certificates.k8s.io":
            if case .subresource("approval") = scope {
                var kept = old
                kept.set(new["status"]?["conditions"], at: "status", "conditions")
                kept.set(new["metadata"]?["managedFields"], at: "metadata", "managedFields")
                new = kept
            } else if scope == .status {
                // The signer cannot change what was approved.
                let denials = old["status"]?["conditions"]
                if let denials { new.set(denials, at: "status", "conditions") }
            }
        default: break
        }
    }

    /// The grace period of a deletion in seconds; only pods have one.
    static func gracePeriodSeconds(_ object: JSON, _ kind: ResourceKind, _ asked: Int64?) -> Int64 {
        guard kind.qualifiedName == "pods" else { return 0 }
        if object["spec"]?["nodeName"]?.string?.isEmpty ?? true { return 0 }
        switch object["status"]?["phase"]?.string {
        case "Succeeded", "Failed": return asked.map { max(0, $0) } ?? 0
        default: break
        }
        let seconds = asked ?? object["spec"]?["terminationGracePeriodSeconds"]?.int ?? 30
        return seconds < 0 ? 1 : seconds
    }

    private static func mergeStringData(_ object: inout JSON) {
        guard let plain = object["stringData"]?.object else { return }
        for (key, value) in plain {
            object.set(.string(Base64.encode(Array((value.string ?? "").utf8))), at: "data", key)
        }
        object["stringData"] = nil
    }

    /// A Job without a selector of its own gets one that finds exactly its pods.
    private static func labelJob(_ object: inout JSON) {
        guard object["spec"]?["manualSelector"]?.bool != true, let uid = object["metadata"]?["uid"] else { return }
        let name = object["metadata"]?["name"] ?? ""
        for (key, value) in [
            ("controller-uid", uid), ("job-name", name), ("batch.kubernetes.io/controller-uid", uid), ("batch.kubernetes.io/job-name", name),
        ] {
            object.set(value, at: "spec", "template", "metadata", "labels", key)
        }
        if object["spec"]?["selector"] == nil {
            object.set(["matchLabels": ["batch.kubernetes.io/controller-uid": uid]], at: "spec", "selector")
        }
    }
}

/// The quality-of-service class of a pod (upstream `GetPodQOS`).
enum PodQuality {
    static func qosClass(_ spec: JSON) -> String {
        var requests: [String: Quantity] = [:]
        var limits: [String: Quantity] = [:]
        var guaranteed = true
        let containers = (spec["initContainers"]?.array ?? []) + (spec["containers"]?.array ?? [])
        for container in containers {
            func read(_ name: String) -> [String: Quantity] {
                var found: [String: Quantity] = [:]
                for (key, value) in container["resources"]?[name]?.object ?? [:] where key == "cpu" || key == "memory" {
                    let quantity = Quantity(json: value)
                    if quantity.nanos > 0 { found[key] = quantity }
                }
                return found
            }
            for (key, value) in read("requests") { requests[key, default: .zero] += value }
            let own = read("limits")
            for (key, value) in own { limits[key, default: .zero] += value }
            if own.count < 2 { guaranteed = false }
        }
        if requests.isEmpty, limits.isEmpty { return "BestEffort" }
        if guaranteed, requests.count == limits.count, requests.allSatisfy({ limits[$0.key]?.nanos == $0.value.nanos }) { return "Guaranteed" }
        return "Burstable"
    }
}
