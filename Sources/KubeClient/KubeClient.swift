public import JSON
public import KubeMeta
public import KubeTypes

/// A list of objects and the version it was read at.
public struct KubeList<Item: KubeObject>: Sendable {
    public var items: [Item]
    public var resourceVersion: String
}

/// How dependents go when their owner is deleted.
public enum DeletePropagation: String, Sendable { case background = "Background", foreground = "Foreground", orphan = "Orphan" }

/// The typed client of the API.
public struct KubeClient: Sendable {
    public let transport: any KubeTransport
    public let time: any TimeSource

    public init(transport: any KubeTransport, time: any TimeSource = SystemTime()) {
        self.transport = transport
        self.time = time
    }

    public func get<K: KubeObject>(_ type: K.Type, namespace: String = "", name: String) async throws -> K {
        K(json: try await transport.send(KubeRequest(.get, K.resource, namespace: namespace, name: name)))
    }

    /// Nil when there is no such object.
    public func find<K: KubeObject>(_ type: K.Type, namespace: String = "", name: String) async throws -> K? {
        do { return try await get(type, namespace: namespace, name: name) } catch let status as APIStatus where status.isNotFound { return nil }
    }

    public func list<K: KubeObject>(
        _ type: K.Type, namespace: String = "", labelSelector: String? = nil, fieldSelector: String? = nil
    ) async throws -> KubeList<K> {
        var query: [(name: String, value: String)] = []
        if let labelSelector { query.append(("labelSelector", labelSelector)) }
        if let fieldSelector { query.append(("fieldSelector", fieldSelector)) }
        let json = try await transport.send(KubeRequest(.list, K.resource, namespace: namespace, query: query))
        return KubeList(
            items: (json["items"]?.array ?? []).map(K.init(json:)), resourceVersion: json["metadata"]?["resourceVersion"]?.string ?? "")
    }

    @discardableResult
    public func create<K: KubeObject>(_ object: K) async throws -> K {
        K(json: try await transport.send(KubeRequest(.create, K.resource, namespace: object.metadata.namespace, body: object.json)))
    }

    @discardableResult
    public func update<K: KubeObject>(_ object: K, subresource: String? = nil) async throws -> K {
        K(
            json: try await transport.send(
                KubeRequest(
                    .update, K.resource, namespace: object.metadata.namespace, name: object.metadata.name, subresource: subresource,
                    body: object.json)))
    }

    @discardableResult
    public func updateStatus<K: KubeObject>(_ object: K) async throws -> K { try await update(object, subresource: "status") }

    @discardableResult
    public func patch<K: KubeObject>(
        _ type: K.Type, namespace: String = "", name: String, _ kind: PatchKind, _ patch: JSON, subresource: String? = nil
    ) async throws -> K {
        var query: [(name: String, value: String)] = []
        if case .apply(let manager, let force) = kind {
            query = [("fieldManager", manager)]
            if force { query.append(("force", "true")) }
        }
        return K(
            json: try await transport.send(
                KubeRequest(
                    .patch(kind), K.resource, namespace: namespace, name: name, subresource: subresource, query: query, body: patch)))
    }

    /// Deletes an object. With a UID only that very object is deleted, not a later one of the same name.
    public func delete<K: KubeObject>(
        _ type: K.Type, namespace: String = "", name: String, uid: String? = nil, gracePeriodSeconds: Int? = nil,
        propagation: DeletePropagation? = nil
    ) async throws {
        var options: JSON = ["kind": "DeleteOptions", "apiVersion": "v1"]
        if let uid { options["preconditions"] = ["uid": .string(uid)] }
        if let gracePeriodSeconds { options["gracePeriodSeconds"] = JSON(gracePeriodSeconds) }
        if let propagation { options["propagationPolicy"] = .string(propagation.rawValue) }
        _ = try await transport.send(KubeRequest(.delete, K.resource, namespace: namespace, name: name, body: options))
    }

    /// Creates an object of a subresource, for example a Binding or an Eviction.
    @discardableResult
    public func createSubresource(
        _ kind: ResourceKind, namespace: String, name: String, subresource: String, _ body: JSON
    ) async throws -> JSON {
        try await transport.send(KubeRequest(.create, kind, namespace: namespace, name: name, subresource: subresource, body: body))
    }
}
