import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import Wire

/// Requests for resources: each verb to the registry, the result into the shape the client asked for.
extension APIServer {
    /// Lists above this size are compressed when the client can read gzip (upstream's figure).
    private static let gzipBytesMin = 128 * 1024

    func resource(_ context: RequestContext) async throws -> WireResponse {
        let info = context.info
        guard let resource = schema.resource(group: info.group, version: info.version, plural: info.resource) else {
            if !discovery.hasGroupVersion(info.group, info.version) { return Responses.pageNotFound }
            throw APIStatus.noSuchPath
        }
        if !info.subresource.isEmpty { return try await subresource(resource, context) }
        guard resource.verbs.contains(info.verb) else { throw APIStatus.methodNotAllowed() }
        if info.name.isEmpty, ["update", "patch"].contains(info.verb) { throw APIStatus.methodNotAllowed() }
        if resource.identity.namespaced, info.namespace.isEmpty, info.verb != "list" && info.verb != "watch" && info.verb != "deletecollection" {
            // A namespaced object without its namespace.
            if info.verb == "create" || !info.name.isEmpty { throw APIStatus.methodNotAllowed() }
        }
        switch info.verb {
        case "get":
            let negotiation = try context.negotiation()
            if resource.identity.plural == "componentstatuses" { return try componentStatus(context) }
            let object = try registry.get(resource, namespace: info.namespace, name: info.name)
            return present(object, resource, negotiation, context)
        case "list": return try await list(resource, context)
        case "watch": return try watch(resource, context)
        case "create": return try await create(resource, context)
        case "update":
            let options = try context.writeOptions(kind: "UpdateOptions")
            guard let body = try context.body(kind: resource.identity.kind) else { throw emptyBody(resource) }
            let result = try await registry.update(
                resource, namespace: info.namespace, name: info.name, body.value, options, duplicates: body.duplicates)
            return try present(result, resource, context)
        case "patch": return try await patch(resource, context, scope: .main)
        case "delete": return try await delete(resource, context)
        case "deletecollection": return try await deleteCollection(resource, context)
        default: throw APIStatus.methodNotAllowed()
        }
    }

    private func emptyBody(_ resource: ResourceSchema) -> APIStatus {
        .badRequest("the object provided is unrecognized (must be of type \(resource.identity.kind)): couldn't get version/kind; json parse error: unexpected end of JSON input (\"\")")
    }

    private func create(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        guard context.info.name.isEmpty else { throw APIStatus.methodNotAllowed() }
        if let review = try await review(resource, context) { return review }
        let options = try context.writeOptions(kind: "CreateOptions")
        guard let body = try context.body(kind: resource.identity.kind) else { throw emptyBody(resource) }
        if resource.identity.group == Escalation.group {
            try Escalation(authorizer: authorizer, hub: hub, schema: schema).check(body.value, resource.identity, user: context.user)
        }
        if CertificateAccess.concerns(resource.identity) { try CertificateAccess.checkNew(body.value, resource.identity) }
        let result = try await registry.create(
            resource, namespace: context.info.namespace, body.value, options, duplicates: body.duplicates)
        return try present(result, resource, context)
    }

    func patchForm(_ context: RequestContext) throws -> PatchForm {
        let media = (context.request.headers["Content-Type"].first ?? "").split(separator: ";").first.map(String.init) ?? ""
        switch media {
        case "application/json-patch+json": return .json
        case "application/merge-patch+json": return .merge
        case "application/strategic-merge-patch+json": return .strategic
        case "application/apply-patch+yaml":
            guard let manager = context.query["fieldManager"], !manager.isEmpty else {
                throw APIStatus.invalid(
                    group: "meta.k8s.io", kind: "PatchOptions", name: "", [.required("fieldManager", "is required for apply patch")])
            }
            return .apply(force: context.query.flag("force"))
        default:
            throw APIStatus(
                code: 415, reason: "UnsupportedMediaType",
                message:
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml, application/apply-patch+cbor")
        }
    }

    func patch(_ resource: ResourceSchema, _ context: RequestContext, scope: WriteScope) async throws -> WireResponse {
        let form = try patchForm(context)
        let options = try context.writeOptions(kind: "PatchOptions")
        let body: JSON
        switch form {
        case .apply, .json, .merge, .strategic:
            guard let parsed = try context.body(kind: resource.identity.kind) else { throw emptyBody(resource) }
            body = parsed.value
        }
        let result = try await registry.patch(
            resource, namespace: context.info.namespace, name: context.info.name, form, body, scope: scope, options)
        return try present(result, resource, context)
    }

    private func deletionOptions(_ context: RequestContext) throws -> DeletionOptions {
        try DeletionOptions(body: try context.body(kind: "DeleteOptions")?.value, query: context.query)
    }

    private func delete(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let options = try deletionOptions(context)
        let deletion = try await registry.delete(
            resource, namespace: context.info.namespace, name: context.info.name, options, user: context.user)
        // Pods and some others answer with themselves also when they are gone at once.
        if deletion.isGone, !["pods", "namespaces", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"].contains(resource.identity.plural) {
            let metadata = deletion.object["metadata"]
            return Responses.json([
                "kind": "Status", "apiVersion": "v1", "metadata": [:], "status": "Success",
                "details": details(resource, metadata),
            ])
        }
        return Responses.json(Registry.withKind(deletion.object, resource.identity))
    }

    private func details(_ resource: ResourceSchema, _ metadata: JSON?) -> JSON {
        var details: JSON = ["name": metadata?["name"] ?? ""]
        if !resource.identity.group.isEmpty { details["group"] = .string(resource.identity.group) }
        details["kind"] = .string(resource.identity.plural)
        details["uid"] = metadata?["uid"]
        return details
    }

    func listOptions(_ resource: ResourceSchema, _ context: RequestContext) throws -> ListOptions {
        let isWatch = context.info.verb == "watch"
        var options = try ListOptions(
            namespace: context.info.namespace, query: context.query, kind: resource.identity, selectable: SelectableFields.of(resource.identity),
            isWatch: isWatch)
        if !context.info.name.isEmpty { options.fields.terms.append(.init(field: "metadata.name", value: context.info.name, equals: true)) }
        return options
    }

    private func deleteCollection(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let objects = try await registry.deleteCollection(
            resource, list: try listOptions(resource, context), try deletionOptions(context), user: context.user)
        return listResponse(ListResult(objects: objects, revision: hub.revision), resource, Negotiation.plain, context)
    }

    // MARK: Lists

    private func list(_ resource: ResourceSchema, _ context: RequestContext) async throws -> WireResponse {
        let negotiation = try context.negotiation()
        if resource.identity.plural == "componentstatuses" { return try componentStatus(context) }
        let result = try await registry.list(resource, try listOptions(resource, context))
        return listResponse(result, resource, negotiation, context)
    }

    private func listMetadata(_ result: ListResult) -> JSON {
        var metadata: JSON = ["resourceVersion": .string(String(result.revision))]
        if !result.continueToken.isEmpty { metadata["continue"] = .string(result.continueToken) }
        if let remaining = result.remaining { metadata["remainingItemCount"] = JSON(remaining) }
        return metadata
    }

    private func listResponse(
        _ result: ListResult, _ resource: ResourceSchema, _ negotiation: Negotiation, _ context: RequestContext
    ) -> WireResponse {
        let kind = resource.identity
        switch negotiation.shape {
        case .table:
            var table = Tables.table(result.objects.map { view($0, kind) }, kind, now: time.now(), includeObject: context.query["includeObject"])
            table["metadata"] = listMetadata(result)
            return encode(table, negotiation)
        case .partialMetadata, .partialMetadataList:
            let items = result.objects.map { partial($0.json) }
            return encode(
                ["kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": listMetadata(result), "items": .array(items)],
                negotiation)
        case .object: break
        }
        if negotiation.encoding == .yaml || negotiation.pretty || Views.isView(kind) {
            let items = result.objects.map { object -> JSON in
                var item = view(object, kind)
                item["kind"] = nil
                item["apiVersion"] = nil
                return item
            }
            return encode(
                ["kind": .string(kind.kind + "List"), "apiVersion": .string(kind.apiVersion), "metadata": listMetadata(result), "items": .array(items)],
                negotiation)
        }
        // The stored bytes, one after another.
        var head = ByteBuffer(bytes: Responses.kindPrefix(kind, suffix: "List"))
        head.writeString("\"metadata\":")
        head.writeBytes(listMetadata(result).encoded)
        head.writeString(",\"items\":[")
        var buffers: [ByteBuffer] = []
        buffers.reserveCapacity(result.objects.count * 2 + 2)
        buffers.append(head)
        let comma = ByteBuffer(integer: UInt8(ascii: ","))
        var bytes = 0
        for (index, object) in result.objects.enumerated() {
            if index > 0 { buffers.append(comma) }
            buffers.append(object.bytes)
            bytes += object.bytes.readableBytes
        }
        buffers.append(ByteBuffer(string: "]}\n"))
        let accepts = context.request.headers["Accept-Encoding"].first?.contains("gzip") ?? false
        return WireResponse(
            status: .ok, headers: ["Content-Type": "application/json"], body: .buffers(buffers), gzip: accepts && bytes > Self.gzipBytesMin)
    }

    // MARK: Shapes

    /// The decoded object in the version of the resource that was asked for.
    func view(_ object: StoredObject, _ kind: ResourceKind, isRecent: Bool = false) -> JSON {
        let json = Registry.withKind(isRecent ? object.recentJSON : object.json, Views.storageKind(kind))
        return Views.isView(kind) ? Views.fromStorage(json, kind) : json
    }

    func partial(_ object: JSON) -> JSON {
        ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] ?? [:]]
    }

    func encode(_ value: JSON, _ negotiation: Negotiation, status: HTTPResponseStatus = .ok) -> WireResponse {
        switch negotiation.encoding {
        case .yaml: return .text(status, YAML.encode(value), contentType: "application/yaml")
        case .json: return Responses.json(value, status: status, pretty: negotiation.pretty)
        }
    }

    func present(_ object: StoredObject, _ resource: ResourceSchema, _ negotiation: Negotiation, _ context: RequestContext, status: HTTPResponseStatus = .ok) -> WireResponse {
        let kind = resource.identity
        switch negotiation.shape {
        case .table:
            var table = Tables.table([view(object, kind)], kind, now: time.now(), includeObject: context.query["includeObject"])
            table["metadata"] = ["resourceVersion": .string(String(object.revision))]
            return encode(table, negotiation, status: status)
        case .partialMetadata, .partialMetadataList: return encode(partial(object.json), negotiation, status: status)
        case .object: break
        }
        if negotiation.encoding == .json, !negotiation.pretty, !Views.isView(kind) {
            return WireResponse(status: status, headers: ["Content-Type": "application/json"], body: .bytes(Responses.object(object, kind)))
        }
        return encode(view(object, kind), negotiation, status: status)
    }

    func present(_ result: ObjectResult, _ resource: ResourceSchema, _ context: RequestContext) throws -> WireResponse {
        let status: HTTPResponseStatus = result.created ? .created : .ok
        var negotiation = try context.negotiation()
        if negotiation.shape == .table { negotiation.shape = .object }
        var response: WireResponse
        if let stored = result.stored {
            response = present(stored, resource, negotiation, context, status: status)
        } else {
            var object = Registry.withKind(result.json ?? .null, resource.identity)
            if result.created { object.set(nil, at: "metadata", "resourceVersion") }
            response = encode(negotiation.shape == .object ? object : partial(object), negotiation, status: status)
        }
        Responses.addWarnings(result.warnings, to: &response)
        return response
    }

    private func componentStatus(_ context: RequestContext) throws -> WireResponse {
        let items: [JSON] = ["scheduler", "controller-manager", "etcd-0"].map { name in
            ["metadata": ["name": .string(name)], "conditions": [["type": "Healthy", "status": "True", "message": "ok"]]]
        }
        if context.info.name.isEmpty {
            return Responses.json(["kind": "ComponentStatusList", "apiVersion": "v1", "metadata": [:], "items": .array(items)])
        }
        guard var item = items.first(where: { $0["metadata"]?["name"]?.string == context.info.name }) else {
            throw APIStatus(
                code: 404, reason: "NotFound", message: "componentstatuses \"\(context.info.name)\" not found", name: context.info.name,
                kind: "componentstatuses")
        }
        item["kind"] = "ComponentStatus"
        item["apiVersion"] = "v1"
        return Responses.json(item)
    }
}

extension Negotiation {
    static var plain: Negotiation { Negotiation() }
    private init() {}
}
