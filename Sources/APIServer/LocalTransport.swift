package import JSON
import KubeAPI
package import KubeClient
package import KubeMeta
import Store

/// The way to the server from inside its own process: straight to the registry, with shared bytes and without HTTP.
package struct LocalTransport: KubeTransport {
    private let server: APIServer
    private let user: UserInfo
    private let manager: String

    /// - Parameter component: for example `kube-scheduler`; also the field manager of its writes.
    package init(server: APIServer, component: String) {
        self.server = server
        user = .component(component)
        manager = component
    }

    private func resource(_ kind: ResourceKind) throws -> ResourceSchema {
        guard let resource = server.schema.resource(group: kind.group, version: kind.version, plural: kind.plural) else {
            throw APIStatus.noSuchPath
        }
        return resource
    }

    package func send(_ request: KubeRequest) async throws -> JSON {
        let resource = try resource(request.kind)
        let registry = server.registry
        let query = QueryParameters(request.query)
        var options = try WriteOptions(user: user, query: query, userAgent: manager, kind: "UpdateOptions")
        options.fieldValidation = .ignore
        let scope: WriteScope
        switch request.subresource {
        case nil: scope = .main
        case "status"?: scope = .status
        case let name?: scope = .subresource(name)
        }
        switch request.verb {
        case .get: return server.view(try registry.get(resource, namespace: request.namespace, name: request.name), request.kind)
        case .list:
            let list = try ListOptions(
                namespace: request.namespace, query: query, kind: request.kind, selectable: SelectableFields.of(request.kind), isWatch: false)
            let result = try await registry.list(resource, list)
            return [
                "kind": .string(request.kind.kind + "List"), "apiVersion": .string(request.kind.apiVersion),
                "metadata": ["resourceVersion": .string(String(result.revision)), "continue": .string(result.continueToken)],
                "items": .array(result.objects.map { server.view($0, request.kind) }),
            ]
        case .create:
            let body = request.body ?? .null
            switch (request.kind.plural, request.subresource) {
            case ("pods", "binding"?):
                try await registry.bind(namespace: request.namespace, pod: request.name, body, options)
                return ["kind": "Status", "status": "Success"]
            case ("pods", "eviction"?):
                try await Eviction(registry: registry, schema: server.schema).evict(
                    namespace: request.namespace, name: request.name, try DeletionOptions(body: body["deleteOptions"], query: query), user: user)
                return ["kind": "Status", "status": "Success"]
            case ("subjectaccessreviews", nil):
                var review = body
                review["status"] = try server.subjectAccess(body["spec"], request.kind)
                return review
            case (_, nil): return try await registry.create(resource, namespace: request.namespace, body, options).object(request.kind)
            default: throw APIStatus.methodNotAllowed()
            }
        case .update:
            return try await registry.update(
                resource, namespace: request.namespace, name: request.name, request.body ?? .null, scope: scope, options
            ).object(request.kind)
        case .patch(let kind):
            let form: PatchForm
            switch kind {
            case .json: form = .json
            case .merge: form = .merge
            case .strategic: form = .strategic
            case .apply(_, let force): form = .apply(force: force)
            }
            return try await registry.patch(
                resource, namespace: request.namespace, name: request.name, form, request.body ?? .null, scope: scope, options
            ).object(request.kind)
        case .delete:
            let deletion = try await registry.delete(
                resource, namespace: request.namespace, name: request.name, try DeletionOptions(body: request.body, query: query), user: user)
            return deletion.object
        case .deleteCollection:
            let list = try ListOptions(
                namespace: request.namespace, query: query, kind: request.kind, selectable: SelectableFields.of(request.kind), isWatch: false)
            _ = try await registry.deleteCollection(resource, list: list, try DeletionOptions(body: request.body, query: query), user: user)
            return ["kind": "Status", "status": "Success"]
        }
    }

    /// Batches that may wait between the cache and a consumer in this process.
    private static let batchesMax = 1024

    package func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error> {
        let resource = try resource(request.kind)
        var query: [(name: String, value: String)] = [("resourceVersion", request.resourceVersion)]
        if let selector = request.labelSelector { query.append(("labelSelector", selector)) }
        if let selector = request.fieldSelector { query.append(("fieldSelector", selector)) }
        let options = try ListOptions(
            namespace: request.namespace, query: QueryParameters(query), kind: request.kind, selectable: SelectableFields.of(request.kind),
            isWatch: true)
        let subscription = try server.registry.watch(resource, options)
        let server = server
        return AsyncThrowingStream(bufferingPolicy: .bufferingOldest(Self.batchesMax)) { continuation in
            let task = Task {
                while !Task.isCancelled {
                    switch await subscription.next() {
                    case .events(let events):
                        if events.isEmpty { continue }
                        let batch = events.map { event in
                            KubeWatchEvent(
                                type: event.kind == .added ? .added : event.kind == .modified ? .modified : .deleted,
                                object: server.view(event.object, request.kind, isRecent: true))
                        }
                        if case .dropped = continuation.yield(batch) {
                            continuation.finish(throwing: APIStatus.expired("the reader fell too far behind"))
                            return
                        }
                    case .initialEventsEnd: continue
                    case .closed(let tooSlow):
                        continuation.finish(throwing: tooSlow ? APIStatus.expired("the reader fell too far behind") : nil)
                        return
                    }
                }
                continuation.finish()
            }
            continuation.onTermination = { _ in
                task.cancel()
                subscription.close()
            }
        }
    }
}
