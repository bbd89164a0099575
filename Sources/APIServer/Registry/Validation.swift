import JSON
import KubeAPI
import KubeMeta

/// Rules that every write must keep, with upstream's paths and texts. Metadata for all kinds; the specs of the kinds that run workloads.
enum Validation {
    static func create(_ object: JSON, _ kind: ResourceKind, _ strategy: Strategy) -> [FieldError] {
        metadata(object, kind, strategy) + spec(object, kind)
    }

    static func update(_ new: JSON, _ old: JSON, _ kind: ResourceKind, _ scope: WriteScope, _ strategy: Strategy) -> [FieldError] {
        var errors = labelsAndAnnotations(new) + newFinalizers(new, old)
        if scope == .status { return errors }
        errors += immutable(new, old, kind, scope)
        if scope == .main, errors.isEmpty { errors += spec(new, kind) }
        return errors
    }

    /// An object that is being deleted takes no new finalizers.
    private static func newFinalizers(_ new: JSON, _ old: JSON) -> [FieldError] {
        guard old["metadata"]?["deletionTimestamp"] != nil else { return [] }
        let before = old["metadata"]?["finalizers"]?.array ?? []
        let added = (new["metadata"]?["finalizers"]?.array ?? []).filter { !before.contains($0) }.compactMap(\.string).sorted()
        if added.isEmpty { return [] }
        let shown = added.map { JSON.string($0).text }.joined(separator: ", ")
        return [
            .forbidden(
                "metadata.finalizers", "no new finalizers can be added if the object is being deleted, found new finalizers []string{\(shown)}")
        ]
    }

    private static let annotationsBytesMax = 256 * 1024

    private static func metadata(_ object: JSON, _ kind: ResourceKind, _ strategy: Strategy) -> [FieldError] {
        var errors: [FieldError] = []
        let name = object["metadata"]?["name"]?.string ?? ""
        if name.isEmpty {
            errors.append(.required("metadata.name", "name or generateName is required"))
        } else {
            errors += strategy.nameRule(name).map { .invalid("metadata.name", .string(name), $0) }
        }
        return errors + labelsAndAnnotations(object)
    }

    private static func labelsAndAnnotations(_ object: JSON) -> [FieldError] {
        guard let metadata = object["metadata"] else { return [] }
        var errors = labels(metadata["labels"], "metadata.labels")
        var bytes = 0
        for (key, value) in metadata["annotations"]?.object ?? [:] {
            errors += NameRules.qualifiedNameErrors(key.lowercased()).map { .invalid("metadata.annotations", .string(key), $0) }
            bytes += key.utf8.count + (value.string?.utf8.count ?? 0)
        }
        if bytes > annotationsBytesMax { errors.append(.tooLong("metadata.annotations", max: annotationsBytesMax)) }
        for (index, finalizer) in (metadata["finalizers"]?.array ?? []).enumerated() {
            guard let text = finalizer.string else { continue }
            errors += NameRules.qualifiedNameErrors(text).map { .invalid("metadata.finalizers[\(index)]", finalizer, $0) }
        }
        for (index, owner) in (metadata["ownerReferences"]?.array ?? []).enumerated() {
            for field in ["apiVersion", "kind", "name", "uid"] where owner[field]?.string?.isEmpty ?? true {
                errors.append(.invalid("metadata.ownerReferences[\(index)].\(field)", .string(""), "must not be empty"))
            }
        }
        return errors
    }

    static func labels(_ labels: JSON?, _ path: String) -> [FieldError] {
        var errors: [FieldError] = []
        for (key, value) in labels?.object ?? [:] {
            errors += NameRules.qualifiedNameErrors(key).map { .invalid(path, .string(key), $0) }
            errors += NameRules.labelValueErrors(value.string ?? "").map { .invalid(path, value, $0) }
        }
        return errors
    }

    private static func spec(_ object: JSON, _ kind: ResourceKind) -> [FieldError] {
        switch kind.qualifiedName {
        case "pods": return PodValidation.spec(object["spec"] ?? [:], "spec")
        case "podtemplates": return PodValidation.spec(object["template"]?["spec"] ?? [:], "template.spec")
        case "configmaps", "secrets": return keys(object)
        case "services": return ServiceValidation.service(object)
        case "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "replicationcontrollers":
            return WorkloadValidation.workload(object, kind)
        case "jobs.batch": return WorkloadValidation.job(object["spec"] ?? [:], "spec")
        case "cronjobs.batch": return WorkloadValidation.cronJob(object)
        case "persistentvolumeclaims": return claim(object)
        default: return []
        }
    }

    private static let dataBytesMax = 1024 * 1024

    private static func keys(_ object: JSON) -> [FieldError] {
        var errors: [FieldError] = []
        var bytes = 0
        for field in ["data", "binaryData"] {
            for (key, value) in object[field]?.object ?? [:] {
                errors += NameRules.configMapKeyErrors(key).map { .invalid("\(field)[\(key)]", .string(key), $0) }
                bytes += value.string?.utf8.count ?? 0
                if field == "binaryData", object["data"]?[key] != nil {
                    errors.append(.invalid("binaryData[\(key)]", .string(key), "duplicate of key present in data"))
                }
            }
        }
        if bytes > dataBytesMax * 4 / 3 { errors.append(.tooLong(object["kind"]?.string == "Secret" ? "data" : "", max: dataBytesMax)) }
        return errors
    }

    private static func claim(_ object: JSON) -> [FieldError] {
        var errors: [FieldError] = []
        let spec = object["spec"]
        if spec?["accessModes"]?.array?.isEmpty ?? true { errors.append(.required("spec.accessModes", "at least 1 access mode is required")) }
        if let storage = spec?["resources"]?["requests"]?["storage"] {
            if Quantity(json: storage).nanos <= 0 {
                errors.append(.invalid("spec.resources[storage]", storage, "must be greater than zero"))
            }
        } else {
            errors.append(.required("spec.resources[storage]"))
        }
        return errors
    }

    // MARK: Immutable fields

    private static func immutable(_ new: JSON, _ old: JSON, _ kind: ResourceKind, _ scope: WriteScope) -> [FieldError] {
        switch kind.qualifiedName {
        case "configmaps", "secrets":
            guard old["immutable"]?.bool == true else {
                if kind.plural == "secrets", old["type"] != new["type"] {
                    return [.invalid("type", new["type"], "field is immutable")]
                }
                return []
            }
            var errors: [FieldError] = []
            let text = "field is immutable when `immutable` is set"
            if new["immutable"]?.bool != true { errors.append(.forbidden("immutable", text)) }
            for field in ["data", "binaryData"] where new[field] != old[field] { errors.append(.forbidden(field, text)) }
            return errors
        case "deployments.apps", "replicasets.apps", "daemonsets.apps":
            if new["spec"]?["selector"] != old["spec"]?["selector"] {
                return [.invalid("spec.selector", new["spec"]?["selector"], "field is immutable")]
            }
        case "statefulsets.apps":
            let free = ["replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"]
            var before = old["spec"] ?? [:]
            var after = new["spec"] ?? [:]
            for field in free {
                before[field] = nil
                after[field] = nil
            }
            if before != after {
                return [
                    .forbidden(
                        "spec",
                        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")
                ]
            }
        case "jobs.batch":
            var errors: [FieldError] = []
            for field in ["completionMode", "selector"] where new["spec"]?[field] != old["spec"]?[field] {
                errors.append(.invalid("spec.\(field)", new["spec"]?[field], "field is immutable"))
            }
            if old["spec"]?["suspend"]?.bool != true, new["spec"]?["template"] != old["spec"]?["template"] {
                errors.append(.invalid("spec.template", new["spec"]?["template"], "field is immutable"))
            }
            return errors
        case "pods" where scope == .main: return PodValidation.update(new, old)
        case "services":
            let before = old["spec"]?["clusterIP"]?.string ?? ""
            let after = new["spec"]?["clusterIP"]?.string ?? ""
            if !before.isEmpty, !after.isEmpty, before != after, new["spec"]?["type"]?.string != "ExternalName", old["spec"]?["type"]?.string != "ExternalName" {
                return [.invalid("spec.clusterIPs[0]", .string(after), "may not change once set")]
            }
        case "persistentvolumeclaims":
            var before = old["spec"] ?? [:]
            var after = new["spec"] ?? [:]
            // Binding sets the volume; growing is allowed; a class may be filled in.
            if before["volumeName"] == nil { after["volumeName"] = nil }
            if before["storageClassName"] == nil { after["storageClassName"] = nil }
            for field in ["resources", "volumeAttributesClassName"] {
                before[field] = nil
                after[field] = nil
            }
            if before != after {
                return [
                    .forbidden(
                        "spec",
                        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims")
                ]
            }
            let oldSize = Quantity(json: old["spec"]?["resources"]?["requests"]?["storage"] ?? 0)
            let newSize = Quantity(json: new["spec"]?["resources"]?["requests"]?["storage"] ?? 0)
            if newSize < oldSize {
                return [.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")]
            }
        case "rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io":
            if new["roleRef"] != old["roleRef"] { return [.invalid("roleRef", new["roleRef"], "cannot change roleRef")] }
        case "storageclasses.storage.k8s.io":
            return ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"].filter { new[$0] != old[$0] }.map {
                .forbidden($0, "updates to \($0) are forbidden.")
            }
        default: break
        }
        return []
    }
}
