public import JSON
public import KubeMeta

/// One request to the API server, whichever way it goes there.
public struct KubeRequest: Sendable {
    public enum Verb: Sendable, Equatable {
        case get, list, create, update, delete, deleteCollection
        case patch(PatchKind)
    }

    public var verb: Verb
    public var kind: ResourceKind
    /// Empty for objects of the cluster, and for lists over all namespaces.
    public var namespace: String
    /// Empty for collections.
    public var name: String
    public var subresource: String?
    public var query: [(name: String, value: String)]
    public var body: JSON?

    public init(
        _ verb: Verb, _ kind: ResourceKind, namespace: String = "", name: String = "", subresource: String? = nil,
        query: [(name: String, value: String)] = [], body: JSON? = nil
    ) {
        self.verb = verb
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.subresource = subresource
        self.query = query
        self.body = body
    }

    /// The path on the server, without the query.
    public var path: String {
        let namespace = namespace.isEmpty ? nil : namespace
        return name.isEmpty ? kind.path(namespace: namespace) : kind.path(namespace: namespace, name: name, subresource: subresource)
    }
}

/// The four forms of a patch and their content types.
public enum PatchKind: Sendable, Equatable {
    case json, merge, strategic
    case apply(fieldManager: String, force: Bool)

    public var contentType: String {
        switch self {
        case .json: "application/json-patch+json"
        case .merge: "application/merge-patch+json"
        case .strategic: "application/strategic-merge-patch+json"
        case .apply: "application/apply-patch+yaml"
        }
    }
}

/// A change that a watch reports.
public struct KubeWatchEvent: Sendable {
    public enum EventType: String, Sendable { case added = "ADDED", modified = "MODIFIED", deleted = "DELETED", bookmark = "BOOKMARK" }

    public var type: EventType
    public var object: JSON

    public init(type: EventType, object: JSON) {
        self.type = type
        self.object = object
    }
}

/// What a watch covers.
public struct KubeWatchRequest: Sendable {
    public var kind: ResourceKind
    public var namespace: String
    public var labelSelector: String?
    public var fieldSelector: String?
    public var resourceVersion: String

    public init(
        kind: ResourceKind, namespace: String = "", labelSelector: String? = nil, fieldSelector: String? = nil, resourceVersion: String
    ) {
        self.kind = kind
        self.namespace = namespace
        self.labelSelector = labelSelector
        self.fieldSelector = fieldSelector
        self.resourceVersion = resourceVersion
    }
}

/// The way to an API server: in the same process, or over HTTPS. Errors are `APIStatus` when the server answered with one.
public protocol KubeTransport: Sendable {
    /// The answer's body.
    func send(_ request: KubeRequest) async throws -> JSON
    /// Changes after a resource version, in order, in batches. Ends when the server ends the watch; throws `APIStatus` 410 when the
    /// version is too old, and when the reader falls too far behind.
    func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error>
}
