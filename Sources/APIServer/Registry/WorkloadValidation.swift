import JSON
import KubeAPI
import KubeMeta

/// Rules of the workload kinds.
enum WorkloadValidation {
    private static func nonNegative(_ spec: JSON, _ fields: [String], _ path: String) -> [FieldError] {
        fields.compactMap { field in
            guard let value = spec[field]?.int, value < 0 else { return nil }
            return .invalid("\(path).\(field)", .int(value), "must be greater than or equal to 0")
        }
    }

    static func workload(_ object: JSON, _ kind: ResourceKind) -> [FieldError] {
        guard let spec = object["spec"] else { return [.required("spec")] }
        var errors = nonNegative(spec, ["replicas", "minReadySeconds", "revisionHistoryLimit"], "spec")
        let template = spec["template"]
        let labels = template?["metadata"]?["labels"]
        if kind.plural == "replicationcontrollers" {
            let selector = spec["selector"]?.object ?? [:]
            if selector.isEmpty { errors.append(.required("spec.selector")) }
            let matches = selector.allSatisfy { labels?[$0.key] == $0.value }
            if !matches { errors.append(.invalid("spec.template.metadata.labels", labels ?? [:], "`selector` does not match template `labels`")) }
        } else if let selector = spec["selector"] {
            if selector["matchLabels"]?.object?.isEmpty ?? true, selector["matchExpressions"]?.array?.isEmpty ?? true {
                errors.append(.invalid("spec.selector", selector, "empty selector is invalid for \(kind.kind.lowercased())"))
            } else if !Selector(labelSelector: selector).matches({ labels?[$0]?.string }) {
                errors.append(.invalid("spec.template.metadata.labels", labels ?? [:], "`selector` does not match template `labels`"))
            }
        } else {
            errors.append(.required("spec.selector"))
        }
        if kind.kind == "Deployment" { errors += strategy(spec["strategy"]) }
        if let template {
            errors += Validation.labels(labels, "spec.template.labels")
            let claims = (spec["volumeClaimTemplates"]?.array ?? []).compactMap { $0["metadata"]?["name"]?.string }
            errors += PodValidation.spec(template["spec"] ?? [:], "spec.template.spec", restartPolicies: ["Always"], claims: claims)
        } else {
            errors.append(.required("spec.template"))
        }
        return errors
    }

    private static func strategy(_ strategy: JSON?) -> [FieldError] {
        let type = strategy?["type"]?.string ?? ""
        guard ["Recreate", "RollingUpdate"].contains(type) else {
            return [.notSupported("spec.strategy.type", .string(type), ["Recreate", "RollingUpdate"])]
        }
        guard let rolling = strategy?["rollingUpdate"] else { return [] }
        if type == "Recreate" {
            return [.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")]
        }
        var errors: [FieldError] = []
        var values: [String: Int] = [:]
        for field in ["maxUnavailable", "maxSurge"] {
            let value = IntOrString(json: rolling[field] ?? 0)
            guard let number = value.scaled(total: 100, roundUp: true) else {
                errors.append(
                    .invalid(
                        "spec.strategy.rollingUpdate.\(field)", value.json,
                        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"))
                continue
            }
            if number < 0 {
                errors.append(.invalid("spec.strategy.rollingUpdate.\(field)", value.json, "must be greater than or equal to 0"))
            }
            values[field] = number
        }
        if values["maxUnavailable"] == 0, values["maxSurge"] == 0 {
            errors.append(
                .invalid("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"))
        }
        return errors
    }

    static func job(_ spec: JSON, _ path: String) -> [FieldError] {
        var errors = nonNegative(spec, ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"], path)
        if spec["completionMode"]?.string == "Indexed", spec["completions"] == nil {
            errors.append(.required("\(path).completions", "when completion mode is Indexed"))
        }
        guard let template = spec["template"]?["spec"] else { return errors + [.required("\(path).template")] }
        let restart = template["restartPolicy"]?.string ?? ""
        var pod = PodValidation.spec(template, "\(path).template.spec")
        pod.removeAll { $0.field.hasSuffix("restartPolicy") }
        errors += pod
        if !["Never", "OnFailure"].contains(restart) {
            errors.append(.required("\(path).template.spec.restartPolicy", "valid values: \"OnFailure\", \"Never\""))
        }
        return errors
    }

    static func cronJob(_ object: JSON) -> [FieldError] {
        let spec = object["spec"] ?? [:]
        var errors: [FieldError] = []
        if spec["schedule"]?.string?.isEmpty ?? true { errors.append(.required("spec.schedule")) }
        errors += nonNegative(spec, ["successfulJobsHistoryLimit", "failedJobsHistoryLimit", "startingDeadlineSeconds"], "spec")
        errors += job(spec["jobTemplate"]?["spec"] ?? [:], "spec.jobTemplate.spec")
        if (object["metadata"]?["name"]?.string?.utf8.count ?? 0) > 52 {
            errors.append(.invalid("metadata.name", object["metadata"]?["name"], "must be no more than 52 characters"))
        }
        return errors
    }
}

/// Rules of Services.
enum ServiceValidation {
    static func service(_ object: JSON) -> [FieldError] {
        let spec = object["spec"] ?? [:]
        var errors: [FieldError] = []
        let type = spec["type"]?.string ?? "ClusterIP"
        if !["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].contains(type) {
            errors.append(.notSupported("spec.type", .string(type), ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]))
        }
        let address = spec["clusterIP"]?.string ?? ""
        if !address.isEmpty, address != "None", Allocators.number(address) == nil, !address.contains(":") {
            errors.append(
                .invalid("spec.clusterIPs[0]", .string(address), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
            return errors
        }
        let ports = spec["ports"]?.array ?? []
        if ports.isEmpty, address != "None", type != "ExternalName" { errors.append(.required("spec.ports")) }
        if type == "ExternalName", spec["externalName"]?.string?.isEmpty ?? true { errors.append(.required("spec.externalName")) }
        var names: Set<String> = []
        var numbers: Set<String> = []
        for (index, port) in ports.enumerated() {
            let place = "spec.ports[\(index)]"
            let name = port["name"]?.string ?? ""
            if name.isEmpty {
                if ports.count > 1 { errors.append(.required("\(place).name")) }
            } else {
                errors += NameRules.labelErrors(name).map { .invalid("\(place).name", .string(name), $0) }
                if !names.insert(name).inserted { errors.append(.duplicate("\(place).name", .string(name))) }
            }
            let number = port["port"]?.int ?? 0
            if !PortRules.isValid(number) { errors.append(.invalid("\(place).port", .int(number), PortRules.message)) }
            let transport = port["protocol"]?.string ?? "TCP"
            if !["SCTP", "TCP", "UDP"].contains(transport) {
                errors.append(.notSupported("\(place).protocol", .string(transport), ["SCTP", "TCP", "UDP"]))
            }
            switch port["targetPort"] {
            case .int(let target)? where !PortRules.isValid(target):
                errors.append(.invalid("\(place).targetPort", .int(target), PortRules.message))
            case .string(let target)?:
                errors += PortRules.nameErrors(target).map { .invalid("\(place).targetPort", .string(target), $0) }
            default: break
            }
            if !numbers.insert("\(transport)/\(number)").inserted {
                errors.append(.duplicate(place, port))
            }
        }
        errors += Validation.labels(spec["selector"], "spec.selector")
        if let affinity = spec["sessionAffinity"]?.string, !["ClientIP", "None"].contains(affinity) {
            errors.append(.notSupported("spec.sessionAffinity", .string(affinity), ["ClientIP", "None"]))
        }
        return errors
    }
}
