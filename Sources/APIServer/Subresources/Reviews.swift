import JSON
import KubeAPI
import KubeMeta
import NIOHTTP1
import Wire

/// Kinds that are answered and never stored: token and access reviews, bindings.
extension APIServer {
    /// Nil when the resource is stored.
    func review(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse? {
        let kind = resource.identity
        switch (kind.group, kind.plural) {
        case ("", "bindings"):
            let name = try context.body(kind: "Binding")?.value["metadata"]?["name"]?.string ?? ""
            return try await bind(resource, context, pod: name)
        case ("authentication.k8s.io", _), ("authorization.k8s.io", _): break
        default: return nil
        }
        let sent = try context.body(kind: kind.kind)?.value ?? [:]
        let options = try context.writeOptions(kind: "CreateOptions")
        var object = try registry.decode(sent, resource, validation: options.fieldValidation).object
        let time = KubeTime.text(self.time.now())
        if object["metadata"] == nil { object["metadata"] = [:] }
        object["status"] = nil
        ManagedFields.update(
            old: [:], new: &object, type: resource.type, manager: options.fieldManager, apiVersion: kind.apiVersion, subresource: "", time: time,
            resetting: [["f:status"]])
        switch kind.plural {
        case "tokenreviews": object["status"] = tokenStatus(object["spec"])
        case "selfsubjectreviews": object["status"] = ["userInfo": context.user.json]
        case "subjectaccessreviews", "localsubjectaccessreviews": object["status"] = try subjectAccess(object["spec"], kind)
        case "selfsubjectaccessreviews": object["status"] = try accessStatus(object["spec"], context.user, kind)
        case "selfsubjectrulesreviews":
            object["status"] = rulesStatus(context.user, namespace: object["spec"]?["namespace"]?.string ?? "")
        default: return nil
        }
        return Responses.json(object, status: .created)
    }

    /// The answer to a SubjectAccessReview.
    func subjectAccess(_ spec: JSON?, _ kind: ResourceKind) throws -> JSON {
        if spec?["user"]?.string?.isEmpty ?? true, spec?["groups"]?.array?.isEmpty ?? true {
            throw APIStatus.invalid(
                group: kind.group, kind: kind.kind, name: "", [.invalid("spec.user", .string(""), "at least one of user or group must be specified")])
        }
        let user = UserInfo(
            name: spec?["user"]?.string ?? "", uid: spec?["uid"]?.string ?? "",
            groups: (spec?["groups"]?.array ?? []).compactMap(\.string))
        return try accessStatus(spec, user, kind)
    }

    private func tokenStatus(_ spec: JSON?) -> JSON {
        guard let token = spec?["token"]?.string, let user = authenticator.user(token: token) else {
            return ["user": [:], "error": "invalid bearer token"]
        }
        let audiences = (spec?["audiences"]?.array ?? []).compactMap(\.string)
        let known = configuration.authentication.audiences
        let shared = audiences.isEmpty ? known : audiences.filter(known.contains)
        if shared.isEmpty { return ["user": [:], "error": "token audiences do not match"] }
        return ["authenticated": true, "user": user.json, "audiences": JSON(shared)]
    }

    private func accessStatus(_ spec: JSON?, _ user: UserInfo, _ kind: ResourceKind) throws -> JSON {
        let request: AccessRequest
        if let attributes = spec?["resourceAttributes"] {
            request = AccessRequest(
                user: user, verb: attributes["verb"]?.string ?? "", group: attributes["group"]?.string ?? "",
                resource: attributes["resource"]?.string ?? "", subresource: attributes["subresource"]?.string ?? "",
                namespace: attributes["namespace"]?.string ?? "", name: attributes["name"]?.string ?? "")
        } else if let attributes = spec?["nonResourceAttributes"] {
            request = AccessRequest(user: user, verb: attributes["verb"]?.string ?? "", path: attributes["path"]?.string ?? "")
        } else {
            throw APIStatus.invalid(
                group: kind.group, kind: kind.kind, name: "",
                [.invalid("spec.resourceAttributes", .null, "exactly one of nonResourceAttributes or resourceAttributes must be specified")])
        }
        return ["allowed": .bool(authorizer.isAllowed(request))]
    }

    private func rulesStatus(_ user: UserInfo, namespace: String) -> JSON {
        var resourceRules: [JSON] = []
        var pathRules: [JSON] = []
        var rules = authorizer.matching(user, namespace: namespace)
        if user.isMaster {
            rules.append(PolicyRule(json: ["verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]]))
            rules.append(PolicyRule(json: ["verbs": ["*"], "nonResourceURLs": ["*"]]))
        }
        for rule in rules {
            if !rule.resources.isEmpty {
                var item: JSON = ["verbs": JSON(rule.verbs), "apiGroups": JSON(rule.groups), "resources": JSON(rule.resources)]
                if !rule.names.isEmpty { item["resourceNames"] = JSON(rule.names) }
                resourceRules.append(item)
            }
            if !rule.paths.isEmpty { pathRules.append(["verbs": JSON(rule.verbs), "nonResourceURLs": JSON(rule.paths)]) }
        }
        return ["resourceRules": .array(resourceRules), "nonResourceRules": .array(pathRules), "incomplete": false]
    }
}
