package import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import Store
import Wire

/// Requests for subresources.
extension APIServer {
    func subresource(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let info = context.info
        guard let sub = resource.subresource(info.subresource) else { throw APIStatus.noSuchPath }
        let isStream = ["exec", "attach", "portforward", "proxy"].contains(sub.name)
        if !isStream, !sub.verbs.contains(info.verb) { throw APIStatus.methodNotAllowed() }
        switch (resource.identity.plural, sub.name) {
        case (_, "status"): return try await part(resource, context, scope: .status)
        case (_, "scale"): return try await scale(resource, context)
        case ("pods", "binding"): return try await bind(resource, context, pod: info.name)
        case ("pods", "eviction"): return try await evict(resource, context)
        case ("pods", "log"): return try await kubelets.logs(pod: pod(context), context, registry)
        case ("pods", "exec"), ("pods", "attach"), ("pods", "portforward"):
            return try await kubelets.stream(sub.name, pod: pod(context), context, registry)
        case ("pods", "proxy"), ("services", "proxy"), ("nodes", "proxy"): return try await kubelets.proxy(resource, context, registry, hub)
        case ("pods", "ephemeralcontainers"), ("pods", "resize"), ("namespaces", "finalize"), ("certificatesigningrequests", "approval"):
            return try await part(resource, context, scope: .subresource(sub.name))
        case ("serviceaccounts", "token"): return try await token(resource, context)
        default: throw APIStatus.noSuchPath
        }
    }

    private func pod(_ context: RequestContext) throws -> JSON {
        guard let pods = schema.resource(group: "", version: "v1", plural: "pods") else { throw APIStatus.noSuchPath }
        return view(try registry.get(pods, namespace: context.info.namespace, name: context.info.name), pods.identity)
    }

    /// A subresource that is the object itself, of which only a part may be changed.
    private func part(_ resource: ResourceSchema, _ context: RequestContext, scope: WriteScope) async throws -> WireResponse {
        let info = context.info
        if info.verb != "get", CertificateAccess.concerns(resource.identity) {
            let current = try registry.get(resource, namespace: info.namespace, name: info.name).json
            try CertificateAccess(authorizer: authorizer).check(current, resource.identity, scope: scope, user: context.user)
        }
        switch info.verb {
        case "get":
            return present(
                try registry.get(resource, namespace: info.namespace, name: info.name), resource, try context.negotiation(), context)
        case "patch": return try await patch(resource, context, scope: scope)
        case "update":
            guard let body = try context.body(kind: resource.identity.kind) else { throw APIStatus.badRequest("the request has no body") }
            let result = try await registry.update(
                resource, namespace: info.namespace, name: info.name, body.value, scope: scope, try context.writeOptions(kind: "UpdateOptions"),
                duplicates: body.duplicates)
            return try present(result, resource, context)
        default: throw APIStatus.methodNotAllowed()
        }
    }

    // MARK: Scale

    private func scaleObject(_ object: StoredObject, _ resource: ResourceSchema) -> JSON {
        let json = object.json
        let metadata = json["metadata"]
        var selector = ""
        if let value = json["spec"]?["selector"] {
            selector = resource.identity.plural == "replicationcontrollers"
                ? (value.object ?? [:]).map { "\($0.key)=\($0.value.string ?? "")" }.sorted().joined(separator: ",")
                : Selector(labelSelector: value).text
        }
        var status: JSON = ["replicas": json["status"]?["replicas"] ?? 0]
        if !selector.isEmpty { status["selector"] = .string(selector) }
        return [
            "kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": [
                "name": metadata?["name"] ?? "", "namespace": metadata?["namespace"] ?? "", "uid": metadata?["uid"] ?? "",
                "resourceVersion": metadata?["resourceVersion"] ?? "", "creationTimestamp": metadata?["creationTimestamp"] ?? "",
            ], "spec": ["replicas": json["spec"]?["replicas"] ?? 0], "status": status,
        ]
    }

    private func scale(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let info = context.info
        let current = try registry.get(resource, namespace: info.namespace, name: info.name)
        if info.verb == "get" { return Responses.json(scaleObject(current, resource)) }
        guard let body = try context.body(kind: "Scale") else { throw APIStatus.badRequest("the request has no body") }
        var wanted: JSON
        if info.verb == "update" {
            wanted = body.value
        } else {
            wanted = scaleObject(current, resource)
            switch try patchForm(context) {
            case .json:
                do throws(JSONPatchError) { try wanted.applyJSONPatch(body.value) } catch {
                    throw APIStatus(code: 422, reason: "Invalid", message: "the server rejected our request due to an error in our request", name: "")
                }
            default: wanted.applyMergePatch(body.value)
            }
        }
        guard let type = schema.type(apiVersion: "autoscaling/v1", kind: "Scale") else { throw APIStatus.noSuchPath }
        let options = try context.writeOptions(kind: "UpdateOptions")
        let decoded = try registry.decode(wanted, resource, type: type, validation: options.fieldValidation)
        let replicas = decoded.object["spec"]?["replicas"]?.int ?? 0
        if replicas < 0 {
            throw APIStatus.invalid(
                group: "autoscaling", kind: "Scale", name: info.name,
                [.invalid("spec.replicas", .int(replicas), "must be greater than or equal to 0")])
        }
        // The version of a PUT is a precondition, unless the patch was made from the version read just above.
        let version = info.verb == "update" ? decoded.object["metadata"]?["resourceVersion"]?.string ?? "" : ""
        let result = try await registry.modify(
            resource, namespace: info.namespace, name: info.name, scope: .subresource("scale"), options, expected: version
        ) { object in
            var object = object
            object.set(.int(replicas), at: "spec", "replicas")
            return object
        }
        guard let stored = result.stored else { return Responses.json(wanted) }
        return Responses.json(scaleObject(stored, resource))
    }

    // MARK: Binding and eviction

    private static func success(_ code: Int) -> WireResponse {
        Responses.json(
            ["kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Success", "code": JSON(code)],
            status: HTTPResponseStatus(statusCode: code))
    }

    func bind(_ resource: ResourceSchema, _ context: RequestContext, pod: String) async throws -> WireResponse {
        guard let body = try context.body(kind: "Binding"), let type = schema.type(apiVersion: "v1", kind: "Binding") else {
            throw APIStatus.badRequest("the request has no body")
        }
        let options = try context.writeOptions(kind: "CreateOptions")
        let binding = try registry.decode(body.value, resource, type: type, validation: options.fieldValidation).object
        try await registry.bind(namespace: context.info.namespace, pod: pod, binding, options)
        return Self.success(201)
    }

    private func evict(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let info = context.info
        let body = try context.body(kind: "Eviction")
        let options = try DeletionOptions(body: body?.value["deleteOptions"], query: context.query)
        try await Eviction(registry: registry, schema: schema).evict(namespace: info.namespace, name: info.name, options, user: context.user)
        return Self.success(201)
    }

    // MARK: Tokens

    private func token(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let info = context.info
        let account = view(try registry.get(resource, namespace: info.namespace, name: info.name), resource.identity)
        guard let type = schema.type(apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest") else { throw APIStatus.noSuchPath }
        let sent = try context.body(kind: "TokenRequest")?.value ?? ["kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": [:]]
        let decoded = try registry.decode(sent, resource, type: type, validation: .warn).object
        var spec = decoded["spec"] ?? [:]
        spec.fill("expirationSeconds", 3600)
        let seconds = spec["expirationSeconds"]?.int ?? 3600
        if seconds < Authenticator.expirationSecondsMin {
            throw APIStatus.invalid(
                group: "authentication.k8s.io", kind: "TokenRequest", name: info.name,
                [.invalid("spec.expirationSeconds", .int(seconds), "may not specify a duration less than 10 minutes")])
        }
        if seconds > Authenticator.expirationSecondsMax {
            throw APIStatus.invalid(
                group: "authentication.k8s.io", kind: "TokenRequest", name: info.name,
                [.invalid("spec.expirationSeconds", .int(seconds), "may not specify a duration larger than 2^32 seconds")])
        }
        spec.fill("audiences", JSON(configuration.authentication.audiences))
        let issued = try authenticator.issue(account: account, spec: spec)
        return Responses.json(
            [
                "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
                "metadata": [
                    "name": .string(info.name), "namespace": .string(info.namespace), "creationTimestamp": registry.now(),
                ], "spec": spec, "status": ["token": .string(issued.token), "expirationTimestamp": .string(KubeTime.text(issued.expiry))],
            ], status: .created)
    }
}

extension Registry {
    /// Puts a pod on a node (what the scheduler does).
    package func bind(namespace: String, pod name: String, _ binding: JSON, _ options: WriteOptions) async throws {
        guard let pods = schema.resource(group: "", version: "v1", plural: "pods") else { throw APIStatus.noSuchPath }
        let node = binding["target"]?["name"]?.string ?? ""
        let targetKind = binding["target"]?["kind"]?.string ?? ""
        var errors: [FieldError] = []
        if !targetKind.isEmpty, targetKind != "Node" { errors.append(.notSupported("target.kind", .string(targetKind), ["Node", "<empty>"])) }
        if node.isEmpty { errors.append(.required("target.name")) }
        if !errors.isEmpty { throw APIStatus.invalid(group: "", kind: "Binding", name: name, errors) }
        let wantedUID = binding["metadata"]?["uid"]?.string ?? ""
        let annotations = binding["metadata"]?["annotations"]?.object ?? [:]
        let time = now()
        let conflictKind = ResourceKind(group: "", version: "v1", plural: "pods/binding", kind: "Binding", namespaced: true)
        _ = try await modify(
            pods, namespace: namespace, name: name, scope: .subresource("binding"), options, expected: "", applied: true
        ) { pod in
            if let uid = pod["metadata"]?["uid"]?.string, !wantedUID.isEmpty, uid != wantedUID {
                throw APIStatus.conflict(conflictKind, name: name, "Precondition failed: UID in precondition: \(wantedUID), UID in object meta: \(uid)")
            }
            if pod["metadata"]?["deletionTimestamp"] != nil {
                throw APIStatus.conflict(conflictKind, name: name, "pod \(name) is being deleted, cannot be assigned to a host")
            }
            if let bound = pod["spec"]?["nodeName"]?.string, !bound.isEmpty {
                throw APIStatus.conflict(conflictKind, name: name, "pod \(name) is already assigned to node \"\(bound)\"")
            }
            if pod["spec"]?["schedulingGates"]?.array?.isEmpty == false {
                throw APIStatus.conflict(conflictKind, name: name, "pod \(name) has non-empty .spec.schedulingGates")
            }
            var pod = pod
            pod.set(.string(node), at: "spec", "nodeName")
            // The nomination has served (or been overtaken): upstream clears it with the binding.
            if pod["status"]?["nominatedNodeName"] != nil { pod.set(nil, at: "status", "nominatedNodeName") }
            for (key, value) in annotations { pod.set(value, at: "metadata", "annotations", key) }
            var conditions = (pod["status"]?["conditions"]?.array ?? []).filter { $0["type"]?.string != "PodScheduled" }
            conditions.append(["type": "PodScheduled", "status": "True", "lastProbeTime": .null, "lastTransitionTime": time])
            pod.set(.array(conditions), at: "status", "conditions")
            return pod
        }
    }
}
