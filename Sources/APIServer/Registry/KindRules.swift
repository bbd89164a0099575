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
        case "namespaces": object["status"] = ["phase": "Active"]
        case "daemonsets.apps": object.set("1", at: "metadata", "annotations", templateGeneration)
        case "persistentvolumes":
            object["status"] = ["phase": "Pending", "lastPhaseTransitionTime": registry.now()]
        case "customresourcedefinitions.apiextensions.k8s.io":
            let versions = (object["spec"]?["versions"]?.array ?? []).filter { $0["storage"]?.bool == true }.compactMap { $0["name"] }
            object["status"] = ["conditions": .null, "acceptedNames": ["plural": "", "kind": ""], "storedVersions": .array(versions)]
        default: break
        }
    }

    static let emptyNodeInfo: JSON = [
        "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "", "containerRuntimeVersion": "",
        "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": "",
    ]

    private static let templateGeneration = "deprecated.daemonset.template.generation"

    /// What nobody owns: written after the managed fields have been counted.
    static func afterAdmission(_ object: inout JSON, _ kind: ResourceKind) throws {
        switch kind.qualifiedName {
        case "namespaces": object.set(["kubernetes"], at: "spec", "finalizers")
        case "jobs.batch": labelJob(&object)
        case "cronjobs.batch":
            object.change("spec") { spec in
                spec.change("jobTemplate") { template in
                    template.fill("metadata", [:])
                    template.change("spec") { spec in spec.change("template") { $0.fill("metadata", [:]) } }
                }
            }
        case "nodes":
            object.change("status") { status in
                status.fill("daemonEndpoints", ["kubeletEndpoint": ["Port": 0]])
                status.fill("nodeInfo", emptyNodeInfo)
            }
        case "events":
            object.fill("source", [:])
            object.fill("reportingComponent", "")
            object.fill("reportingInstance", "")
            for field in ["firstTimestamp", "lastTimestamp", "eventTime"] { object.fill(field, .null) }
        case "endpointslices.discovery.k8s.io": object.changeEach("endpoints") { $0.fill("conditions", [:]) }
        case "pods": try podStatus(&object)
        default: break
        }
    }

    private static func podStatus(_ object: inout JSON) throws {
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
        case "daemonsets.apps" where scope == .main:
            let before = Int(old["metadata"]?["annotations"]?[templateGeneration]?.string ?? "") ?? 1
            let changed = old["spec"]?["template"] != new["spec"]?["template"]
            new.set(.string(String(changed ? before + 1 : before)), at: "metadata", "annotations", templateGeneration)
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
                let conditions = (new["status"]?["conditions"]?.array ?? []).map { withTimes($0, registry.now()) }
                if !conditions.isEmpty { kept.set(.array(conditions), at: "status", "conditions") }
                kept.set(new["metadata"]?["managedFields"], at: "metadata", "managedFields")
                new = kept
            } else if scope == .status {
                // The signer says whether it failed, and cannot change what was approved.
                func isDecision(_ condition: JSON) -> Bool { ["Approved", "Denied"].contains(condition["type"]?.string) }
                let decisions = (old["status"]?["conditions"]?.array ?? []).filter(isDecision)
                let others = (new["status"]?["conditions"]?.array ?? []).filter { !isDecision($0) }.map { withTimes($0, registry.now()) }
                if !(decisions + others).isEmpty { new.set(.array(decisions + others), at: "status", "conditions") }
            } else {
                new["status"] = old["status"]
            }
        default: break
        }
    }

    /// A condition of a certificate request gets the times that its writer left out.
    private static func withTimes(_ condition: JSON, _ now: JSON) -> JSON {
        var condition = condition
        for key in ["lastUpdateTime", "lastTransitionTime"] where condition[key]?.string == nil { condition[key] = now }
        return condition
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
        if object["metadata"]?["labels"] == nil { object.set(object["spec"]?["template"]?["metadata"]?["labels"], at: "metadata", "labels") }
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
