import JSON
import KubeAPI
import KubeMeta

/// Rules of a pod's spec.
enum PodValidation {
    private static let pullPolicies = ["Always", "IfNotPresent", "Never"]
    private static let restartPolicies = ["Always", "OnFailure", "Never"]
    private static let dnsPolicies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]

    /// - Parameter claims: volumes that claim templates add.
    static func spec(_ spec: JSON, _ path: String, restartPolicies allowed: [String]? = nil, claims: [String] = []) -> [FieldError] {
        var errors: [FieldError] = []
        var volumes = Set(claims)
        for (index, volume) in (spec["volumes"]?.array ?? []).enumerated() {
            let place = "\(path).volumes[\(index)]"
            let name = volume["name"]?.string ?? ""
            if name.isEmpty {
                errors.append(.required("\(place).name"))
            } else {
                errors += NameRules.labelErrors(name).map { .invalid("\(place).name", .string(name), $0) }
                if !volumes.insert(name).inserted, !claims.contains(name) { errors.append(.duplicate("\(place).name", .string(name))) }
            }
            let sources = volume.object?.filter { $0.key != "name" }.count ?? 0
            if sources > 1 { errors.append(.forbidden(place, "may not specify more than 1 volume type")) }
        }
        var names: Set<String> = []
        let containers = spec["containers"]?.array ?? []
        if containers.isEmpty { errors.append(.required("\(path).containers")) }
        for (index, container) in containers.enumerated() {
            errors += Self.container(container, "\(path).containers[\(index)]", volumes, &names, isInit: false)
        }
        for (index, container) in (spec["initContainers"]?.array ?? []).enumerated() {
            errors += Self.container(container, "\(path).initContainers[\(index)]", volumes, &names, isInit: true)
        }
        for (index, container) in (spec["ephemeralContainers"]?.array ?? []).enumerated() {
            errors += Self.container(container, "\(path).ephemeralContainers[\(index)]", volumes, &names, isInit: false)
        }
        let restart = spec["restartPolicy"]?.string ?? ""
        if !(allowed ?? restartPolicies).contains(restart) {
            errors.append(.notSupported("\(path).restartPolicy", .string(restart), allowed ?? restartPolicies))
        }
        if let policy = spec["dnsPolicy"]?.string, !dnsPolicies.contains(policy) {
            errors.append(.notSupported("\(path).dnsPolicy", .string(policy), dnsPolicies))
        }
        if let grace = spec["terminationGracePeriodSeconds"]?.int, grace < 0, grace != -1 {
            errors.append(.invalid("\(path).terminationGracePeriodSeconds", .int(grace), "must be greater than or equal to 0"))
        }
        if let deadline = spec["activeDeadlineSeconds"]?.int, deadline < 1 || deadline > 2_147_483_647 {
            errors.append(.invalid("\(path).activeDeadlineSeconds", .int(deadline), "must be between 1 and 2147483647, inclusive"))
        }
        errors += Validation.labels(spec["nodeSelector"], "\(path).nodeSelector")
        if let hostname = spec["hostname"]?.string, !hostname.isEmpty {
            errors += NameRules.labelErrors(hostname).map { .invalid("\(path).hostname", .string(hostname), $0) }
        }
        if let subdomain = spec["subdomain"]?.string, !subdomain.isEmpty {
            errors += NameRules.labelErrors(subdomain).map { .invalid("\(path).subdomain", .string(subdomain), $0) }
        }
        return errors
    }

    private static func container(
        _ container: JSON, _ path: String, _ volumes: Set<String>, _ names: inout Set<String>, isInit: Bool
    ) -> [FieldError] {
        var errors: [FieldError] = []
        let name = container["name"]?.string ?? ""
        if name.isEmpty {
            errors.append(.required("\(path).name"))
        } else {
            errors += NameRules.labelErrors(name).map { .invalid("\(path).name", .string(name), $0) }
            if !names.insert(name).inserted { errors.append(.duplicate("\(path).name", .string(name))) }
        }
        let image = container["image"]?.string ?? ""
        if image.isEmpty {
            errors.append(.required("\(path).image"))
        } else if image != image.trimmed {
            errors.append(.invalid("\(path).image", .string(image), "must not have leading or trailing whitespace"))
        }
        errors += ports(container, path)
        for (index, variable) in (container["env"]?.array ?? []).enumerated() where variable["name"]?.string?.isEmpty ?? true {
            errors.append(.required("\(path).env[\(index)].name"))
        }
        errors += resources(container["resources"], "\(path).resources")
        for (index, mount) in (container["volumeMounts"]?.array ?? []).enumerated() {
            let volume = mount["name"]?.string ?? ""
            let place = "\(path).volumeMounts[\(index)]"
            if volume.isEmpty { errors.append(.required("\(place).name")) } else if !volumes.contains(volume) {
                errors.append(.notFound("\(place).name", .string(volume)))
            }
            if mount["mountPath"]?.string?.isEmpty ?? true { errors.append(.required("\(place).mountPath")) }
        }
        if let policy = container["imagePullPolicy"]?.string, !pullPolicies.contains(policy) {
            errors.append(.notSupported("\(path).imagePullPolicy", .string(policy), pullPolicies))
        }
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] { errors += probe(container[name], "\(path).\(name)") }
        if isInit {
            if let policy = container["restartPolicy"]?.string, !restartPolicies.contains(policy) {
                errors.append(.notSupported("\(path).restartPolicy", .string(policy), restartPolicies))
            }
            if container["restartPolicy"]?.string != "Always" {
                for name in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] where container[name] != nil {
                    errors.append(.forbidden("\(path).\(name)", "may not be set for init containers without restartPolicy=Always"))
                }
            }
        }
        return errors
    }

    private static func ports(_ container: JSON, _ path: String) -> [FieldError] {
        var errors: [FieldError] = []
        var names: Set<String> = []
        for (index, port) in (container["ports"]?.array ?? []).enumerated() {
            let place = "\(path).ports[\(index)]"
            if let name = port["name"]?.string, !name.isEmpty {
                errors += PortRules.nameErrors(name).map { .invalid("\(place).name", .string(name), $0) }
                if !names.insert(name).inserted { errors.append(.duplicate("\(place).name", .string(name))) }
            }
            switch port["containerPort"]?.int {
            case nil, 0?: errors.append(.required("\(place).containerPort"))
            case let number? where !PortRules.isValid(number):
                errors.append(.invalid("\(place).containerPort", .int(number), PortRules.message))
            default: break
            }
            if let number = port["hostPort"]?.int, number != 0, !PortRules.isValid(number) {
                errors.append(.invalid("\(place).hostPort", .int(number), PortRules.message))
            }
            if let name = port["protocol"]?.string, !["SCTP", "TCP", "UDP"].contains(name) {
                errors.append(.notSupported("\(place).protocol", .string(name), ["SCTP", "TCP", "UDP"]))
            }
        }
        return errors
    }

    private static func resources(_ resources: JSON?, _ path: String) -> [FieldError] {
        var errors: [FieldError] = []
        for list in ["limits", "requests"] {
            for (name, value) in resources?[list]?.object ?? [:] {
                if Quantity(json: value).nanos < 0 {
                    errors.append(.invalid("\(path).\(list)[\(name)]", value, "must be greater than or equal to 0"))
                }
            }
        }
        for (name, value) in resources?["requests"]?.object ?? [:] {
            guard let limit = resources?["limits"]?[name] else { continue }
            if Quantity(json: value) > Quantity(json: limit) {
                errors.append(.invalid("\(path).requests", value, "must be less than or equal to \(name) limit of \(Quantity(json: limit).text)"))
            }
        }
        return errors
    }

    private static func probe(_ probe: JSON?, _ path: String) -> [FieldError] {
        guard let probe else { return [] }
        var errors: [FieldError] = []
        let handlers = ["exec", "httpGet", "tcpSocket", "grpc"].filter { probe[$0] != nil }
        if handlers.isEmpty { errors.append(.required(path, "must specify a handler type")) }
        if handlers.count > 1 { errors.append(.forbidden("\(path).\(handlers[1])", "may not specify more than 1 handler type")) }
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            if let value = probe[field]?.int, value < 0 {
                errors.append(.invalid("\(path).\(field)", .int(value), "must be greater than or equal to 0"))
            }
        }
        return errors
    }

    /// What an update of a running pod may change.
    static func update(_ new: JSON, _ old: JSON) -> [FieldError] {
        var before = old["spec"] ?? [:]
        var after = new["spec"] ?? [:]
        for list in ["containers", "initContainers"] {
            let count = before[list]?.array?.count ?? 0
            guard after[list]?.array?.count ?? 0 == count else {
                return [.forbidden("spec.\(list)", "pod updates may not add or remove containers")]
            }
            before.changeEach(list) { $0["image"] = nil }
            after.changeEach(list) { $0["image"] = nil }
        }
        let tolerationsBefore = before["tolerations"]?.array ?? []
        let tolerationsAfter = after["tolerations"]?.array ?? []
        if tolerationsBefore.allSatisfy(tolerationsAfter.contains) {
            before["tolerations"] = nil
            after["tolerations"] = nil
        }
        // Gates may only be taken away; node selectors may be tightened while gated.
        if before["schedulingGates"] != nil {
            let gates = before["schedulingGates"]?.array ?? []
            if (after["schedulingGates"]?.array ?? []).allSatisfy(gates.contains) {
                before["schedulingGates"] = nil
                after["schedulingGates"] = nil
                before["nodeSelector"] = nil
                after["nodeSelector"] = nil
            }
        }
        before["activeDeadlineSeconds"] = nil
        after["activeDeadlineSeconds"] = nil
        if before["terminationGracePeriodSeconds"]?.int ?? 0 < 0, after["terminationGracePeriodSeconds"] == 1 {
            before["terminationGracePeriodSeconds"] = 1
        }
        guard before != after else { return [] }
        return [
            .forbidden(
                "spec",
                "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)")
        ]
    }
}

extension String {
    fileprivate var trimmed: String {
        var view = self[...]
        while let first = view.first, first.isWhitespace { view = view.dropFirst() }
        while let last = view.last, last.isWhitespace { view = view.dropLast() }
        return String(view)
    }
}

/// Port numbers and names (RFC 6335).
enum PortRules {
    static let message = "must be between 1 and 65535, inclusive"
    static func isValid(_ number: Int64) -> Bool { (1...65535).contains(number) }

    static func nameErrors(_ name: String) -> [String] {
        var errors: [String] = []
        let bytes = Array(name.utf8)
        if bytes.count > 15 { errors.append("must be no more than 15 characters") }
        let isLetter: (UInt8) -> Bool = { (0x61...0x7A).contains($0) }
        if !bytes.allSatisfy({ isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2D }) {
            errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
        }
        if !bytes.contains(where: isLetter) { errors.append("must contain at least one letter (a-z)") }
        if name.contains("--") { errors.append("must not contain consecutive hyphens") }
        if bytes.first == 0x2D || bytes.last == 0x2D { errors.append("must not begin or end with a hyphen") }
        return errors
    }
}
