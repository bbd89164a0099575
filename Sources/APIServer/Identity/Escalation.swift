import JSON
import KubeAPI
import KubeMeta

/// Nobody grants rights that they do not have, unless they hold the verb `escalate` or `bind` (RBAC's escalation check).
struct Escalation {
    static let group = "rbac.authorization.k8s.io"

    let authorizer: Authorizer
    let hub: CacheHub
    let schema: Schema

    func check(_ object: JSON, _ kind: ResourceKind, user: UserInfo) throws {
        if user.isMaster { return }
        let name = object["metadata"]?["name"]?.string ?? ""
        let namespace = object["metadata"]?["namespace"]?.string ?? ""
        var rules: [PolicyRule]
        switch kind.plural {
        case "roles", "clusterroles":
            if authorizer.isAllowed(
                AccessRequest(user: user, verb: "escalate", group: Self.group, resource: kind.plural, namespace: namespace, name: name))
            { return }
            rules = (object["rules"]?.array ?? []).map(PolicyRule.init(json:))
        case "rolebindings", "clusterrolebindings":
            let role = object["roleRef"]?["name"]?.string ?? ""
            let plural = object["roleRef"]?["kind"]?.string == "Role" ? "roles" : "clusterroles"
            if authorizer.isAllowed(AccessRequest(user: user, verb: "bind", group: Self.group, resource: plural, namespace: namespace, name: role)) {
                return
            }
            let found = schema.resource(group: Self.group, version: "v1", plural: plural)
                .flatMap { hub.cache($0.identity)?.get(namespace: plural == "roles" ? namespace : "", name: role)?.json }
            rules = (found?["rules"]?.array ?? []).map(PolicyRule.init(json:))
        default: return
        }
        let held = authorizer.matching(user, namespace: kind.namespaced ? namespace : "")
        let missing = rules.filter { wanted in !held.contains { covers($0, wanted) } }
        guard missing.isEmpty else {
            throw APIStatus.forbidden(
                "\(kind.qualifiedName) \"\(name)\" is forbidden: user \"\(user.name)\" (groups=\(user.groups)) is attempting to grant RBAC permissions not currently held",
                kind: kind, name: name)
        }
    }

    private func covers(_ held: PolicyRule, _ wanted: PolicyRule) -> Bool {
        func all(_ have: [String], _ want: [String]) -> Bool { have.contains("*") || want.allSatisfy(have.contains) }
        guard all(held.verbs, wanted.verbs), all(held.groups, wanted.groups), all(held.resources, wanted.resources),
            all(held.paths, wanted.paths)
        else { return false }
        return held.names.isEmpty || (!wanted.names.isEmpty && wanted.names.allSatisfy(held.names.contains))
    }
}
