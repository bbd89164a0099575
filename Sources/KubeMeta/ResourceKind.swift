/// The identity of one resource of the API: where it is served and what its objects are called.
public struct ResourceKind: Sendable, Hashable {
    /// Empty for the core group.
    public var group: String
    public var version: String
    /// The lower-case plural of the path, for example `endpointslices`.
    public var plural: String
    public var kind: String
    public var namespaced: Bool

    public init(group: String, version: String, plural: String, kind: String, namespaced: Bool) {
        self.group = group
        self.version = version
        self.plural = plural
        self.kind = kind
        self.namespaced = namespaced
    }

    /// `v1`, or `apps/v1`.
    public var apiVersion: String { group.isEmpty ? version : "\(group)/\(version)" }
    /// `pods`, or `deployments.apps`: as messages name a resource.
    public var qualifiedName: String { group.isEmpty ? plural : "\(plural).\(group)" }

    /// The path of the collection, or of the objects of one namespace.
    public func path(namespace: String? = nil) -> String {
        let root = group.isEmpty ? "/api/\(version)" : "/apis/\(group)/\(version)"
        if namespaced, let namespace { return "\(root)/namespaces/\(namespace)/\(plural)" }
        return "\(root)/\(plural)"
    }

    /// The path of one object, with a subresource if one is named.
    public func path(namespace: String?, name: String, subresource: String? = nil) -> String {
        let base = "\(path(namespace: namespace))/\(name)"
        if let subresource { return "\(base)/\(subresource)" }
        return base
    }
}
