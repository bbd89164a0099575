import JSON
import KubeAPI
import KubeMeta
import Store
import Synchronization

/// What somebody wants to do.
struct AccessRequest: Sendable {
    var user: UserInfo
    var verb: String
    var isResource: Bool
    var group = ""
    var resource = ""
    var subresource = ""
    var namespace = ""
    var name = ""
    var path = ""

    init(user: UserInfo, info: RequestInfo) {
        self.user = user
        verb = info.verb
        isResource = info.isResource
        group = info.group
        resource = info.resource
        subresource = info.subresource
        namespace = info.namespace
        name = info.name
        path = info.path
    }

    init(user: UserInfo, verb: String, group: String, resource: String, subresource: String = "", namespace: String = "", name: String = "") {
        self.user = user
        self.verb = verb
        isResource = true
        self.group = group
        self.resource = resource
        self.subresource = subresource
        self.namespace = namespace
        self.name = name
    }

    init(user: UserInfo, verb: String, path: String) {
        self.user = user
        self.verb = verb
        isResource = false
        self.path = path
    }

    var qualifiedResource: String { subresource.isEmpty ? resource : "\(resource)/\(subresource)" }

    /// The refusal with upstream's text.
    func refusal(reason: String = "") -> APIStatus {
        let suffix = reason.isEmpty ? "" : ": \(reason)"
        guard isResource else {
            return APIStatus(
                code: 403, reason: "Forbidden", message: "forbidden: User \"\(user.name)\" cannot \(verb) path \"\(path)\"\(suffix)", name: "")
        }
        let scope = namespace.isEmpty ? "at the cluster scope" : "in the namespace \"\(namespace)\""
        let qualified = group.isEmpty ? resource : "\(resource).\(group)"
        let named = name.isEmpty ? qualified : "\(qualified) \"\(name)\""
        return APIStatus(
            code: 403, reason: "Forbidden",
            message:
                "\(named) is forbidden: User \"\(user.name)\" cannot \(verb) resource \"\(qualifiedResource)\" in API group \"\(group)\" \(scope)\(suffix)",
            name: name, group: group, kind: resource)
    }
}

/// One rule of a role, ready to be matched.
struct PolicyRule: Sendable, Hashable {
    var verbs: [String]
    var groups: [String]
    var resources: [String]
    var names: [String]
    var paths: [String]

    init(json: JSON) {
        func list(_ key: String) -> [String] { (json[key]?.array ?? []).compactMap(\.string) }
        verbs = list("verbs")
        groups = list("apiGroups")
        resources = list("resources")
        names = list("resourceNames")
        paths = list("nonResourceURLs")
    }

    func allows(_ request: AccessRequest) -> Bool {
        guard verbs.contains("*") || verbs.contains(request.verb) else { return false }
        guard request.isResource else {
            return paths.contains { path in
                path == "*" || path == request.path || (path.hasSuffix("*") && request.path.hasPrefix(path.dropLast()))
            }
        }
        guard groups.contains("*") || groups.contains(request.group) else { return false }
        let wanted = request.qualifiedResource
        let matches = resources.contains { resource in
            resource == "*" || resource == wanted
                || (resource.hasPrefix("*/") && !request.subresource.isEmpty && resource.dropFirst(2) == request.subresource)
        }
        guard matches else { return false }
        return names.isEmpty || names.contains(request.name)
    }
}

/// Role-based access control, and the rules for nodes.
final class Authorizer: Sendable {
    private struct Binding {
        var users: Set<String> = []
        var groups: Set<String> = []
        var rules: [PolicyRule]
        var namespace: String
    }

    private struct Index {
        var version: [Revision] = []
        var cluster: [Binding] = []
        var byNamespace: [String: [Binding]] = [:]
    }

    private let hub: CacheHub
    private let schema: Schema
    private let index = Mutex(Index())

    private static let group = "rbac.authorization.k8s.io"

    init(hub: CacheHub, schema: Schema) {
        self.hub = hub
        self.schema = schema
    }

    func isAllowed(_ request: AccessRequest) -> Bool {
        if request.user.isMaster { return true }
        if request.user.nodeName != nil, NodeRules.allows(request, hub: hub, schema: schema) { return true }
        return matching(request.user, namespace: request.namespace).contains { $0.allows(request) }
    }

    func require(_ request: AccessRequest) throws {
        if !isAllowed(request) { throw request.refusal() }
    }

    /// All rules that hold for a user in a namespace.
    func matching(_ user: UserInfo, namespace: String) -> [PolicyRule] {
        let (cluster, local) = current(namespace: namespace)
        let groups = Set(user.groups)
        return (cluster + local).filter { $0.users.contains(user.name) || !$0.groups.isDisjoint(with: groups) }.flatMap(\.rules)
    }

    private func cache(_ plural: String) -> ResourceCache? {
        schema.resource(group: Self.group, version: "v1", plural: plural).flatMap { hub.cache($0.identity) }
    }

    /// The bindings, read anew when a role or binding has changed since.
    private func current(namespace: String) -> ([Binding], [Binding]) {
        let caches = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"].compactMap(cache)
        let version = caches.map(\.lastChange)
        if let known = index.withLock({ $0.version == version ? ($0.cluster, $0.byNamespace[namespace] ?? []) : nil }) { return known }
        var fresh = Index(version: version)
        guard caches.count == 4 else { return ([], []) }
        func rules(_ role: JSON) -> [PolicyRule] { (role["rules"]?.array ?? []).map(PolicyRule.init(json:)) }
        var clusterRoles: [String: [PolicyRule]] = [:]
        for role in caches[0].all() { clusterRoles[role.name] = rules(role.json) }
        var roles: [String: [PolicyRule]] = [:]
        for role in caches[2].all() { roles["\(role.namespace)/\(role.name)"] = rules(role.json) }
        func binding(_ object: StoredObject) -> Binding? {
            let json = object.json
            let name = json["roleRef"]?["name"]?.string ?? ""
            let found = json["roleRef"]?["kind"]?.string == "Role" ? roles["\(object.namespace)/\(name)"] : clusterRoles[name]
            guard let found else { return nil }
            var binding = Binding(rules: found, namespace: object.namespace)
            for subject in json["subjects"]?.array ?? [] {
                let name = subject["name"]?.string ?? ""
                switch subject["kind"]?.string {
                case "User": binding.users.insert(name)
                case "Group": binding.groups.insert(name)
                case "ServiceAccount":
                    binding.users.insert("system:serviceaccount:\(subject["namespace"]?.string ?? object.namespace):\(name)")
                default: break
                }
            }
            return binding
        }
        fresh.cluster = caches[1].all().compactMap(binding)
        for object in caches[3].all() {
            if let binding = binding(object) { fresh.byNamespace[object.namespace, default: []].append(binding) }
        }
        let result = (fresh.cluster, fresh.byNamespace[namespace] ?? [])
        index.withLock { $0 = fresh }
        return result
    }
}

/// The Node authorizer: a kubelet reads the secrets, config maps and claims of its own pods, and no others (KEP-279).
enum NodeRules {
    private static let readable: Set<String> = [
        "/nodes", "/services", "/pods", "/namespaces", "/persistentvolumes", "discovery.k8s.io/endpointslices", "/endpoints",
        "storage.k8s.io/csidrivers", "node.k8s.io/runtimeclasses", "storage.k8s.io/volumeattachments",
    ]
    private static let reads: Set<String> = ["get", "list", "watch"]

    static func allows(_ request: AccessRequest, hub: CacheHub, schema: Schema) -> Bool {
        guard request.isResource, let node = request.user.nodeName else { return false }
        let resource = "\(request.group)/\(request.resource)"
        switch (resource, request.subresource) {
        case ("/nodes", ""), ("/nodes", "status"):
            return reads.contains(request.verb) || ["create", "update", "patch"].contains(request.verb)
                && (request.name.isEmpty || request.name == node)
        case ("/pods", ""): return reads.contains(request.verb) || ["create", "delete"].contains(request.verb)
        case ("/pods", "status"): return ["update", "patch"].contains(request.verb)
        case ("/pods", "eviction"): return request.verb == "create"
        case ("/events", ""), ("events.k8s.io/events", ""): return ["create", "update", "patch"].contains(request.verb)
        case ("coordination.k8s.io/leases", ""): return request.namespace == "kube-node-lease" && request.verb != "list" && request.verb != "watch"
        case ("storage.k8s.io/csinodes", ""): return request.verb != "deletecollection" && request.name == node || request.verb == "create"
        case ("certificates.k8s.io/certificatesigningrequests", ""): return ["create", "get", "list", "watch"].contains(request.verb)
        case ("authentication.k8s.io/tokenreviews", ""), ("authorization.k8s.io/subjectaccessreviews", ""),
            ("authorization.k8s.io/localsubjectaccessreviews", ""):
            return request.verb == "create"
        case ("/secrets", ""), ("/configmaps", ""), ("/persistentvolumeclaims", ""):
            // A single object, by name: get, or a list or watch selected to it.
            guard reads.contains(request.verb), !request.name.isEmpty else { return false }
            return uses(node, request.resource, namespace: request.namespace, name: request.name, hub: hub, schema: schema)
        case ("/serviceaccounts", "token"):
            return request.verb == "create"
                && uses(node, "serviceaccounts", namespace: request.namespace, name: request.name, hub: hub, schema: schema)
        case ("/serviceaccounts", ""): return request.verb == "get"
        // The agent lets go of a local volume once its folder is removed.
        case ("/persistentvolumes", ""): return reads.contains(request.verb) || request.verb == "patch"
        default: return reads.contains(request.verb) && readable.contains(resource) && request.subresource.isEmpty
        }
    }

    private static func uses(_ node: String, _ resource: String, namespace: String, name: String, hub: CacheHub, schema: Schema) -> Bool {
        guard let pods = schema.resource(group: "", version: "v1", plural: "pods"), let cache = hub.cache(pods.identity) else { return false }
        for pod in cache.all(namespace: namespace) where pod.attributes(cache.fields).fields["spec.nodeName"] == node {
            if references(pod.json["spec"] ?? [:], resource, name, pod: pod.name) { return true }
        }
        return false
    }

    private static func references(_ spec: JSON, _ resource: String, _ name: String, pod: String) -> Bool {
        func named(_ value: JSON?, _ key: String = "name") -> Bool { value?[key]?.string == name }
        switch resource {
        case "serviceaccounts": return named(spec, "serviceAccountName")
        case "persistentvolumeclaims":
            return (spec["volumes"]?.array ?? []).contains { volume in
                // A generic ephemeral volume has a claim named after pod and volume.
                named(volume["persistentVolumeClaim"], "claimName")
                    || (volume["ephemeral"] != nil && name == "\(pod)-\(volume["name"]?.string ?? "")")
            }
        default: break
        }
        let isSecret = resource == "secrets"
        if isSecret, (spec["imagePullSecrets"]?.array ?? []).contains(where: { named($0) }) { return true }
        for volume in spec["volumes"]?.array ?? [] {
            if isSecret ? named(volume["secret"], "secretName") : named(volume["configMap"]) { return true }
            for source in volume["projected"]?["sources"]?.array ?? [] where named(source[isSecret ? "secret" : "configMap"]) { return true }
        }
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in spec[list]?.array ?? [] {
                for variable in container["env"]?.array ?? [] where named(variable["valueFrom"]?[isSecret ? "secretKeyRef" : "configMapKeyRef"]) {
                    return true
                }
                for source in container["envFrom"]?.array ?? [] where named(source[isSecret ? "secretRef" : "configMapRef"]) { return true }
            }
        }
        return false
    }
}
