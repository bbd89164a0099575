import JSON
import KubeAPI
import KubeMeta
import NIOHTTP1
import Wire

/// /api, /apis and below: what the server serves, in the old form and aggregated (KEP-3352).
final class Discovery: Sendable {
    /// Groups in upstream's order of priority.
    private static let groupOrder = [
        "", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch",
        "certificates.k8s.io", "networking.k8s.io", "policy", "rbac.authorization.k8s.io", "storage.k8s.io",
        "admissionregistration.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
        "discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
    ]

    private struct Group {
        var name: String
        /// Preferred first.
        var versions: [String]
    }

    private let schema: Schema
    private let groups: [Group]

    init(schema: Schema) {
        self.schema = schema
        var versions: [String: [String]] = [:]
        for resource in schema.resources where !(versions[resource.identity.group]?.contains(resource.identity.version) ?? false) {
            versions[resource.identity.group, default: []].append(resource.identity.version)
        }
        groups = Self.groupOrder.compactMap { name in versions[name].map { Group(name: name, versions: $0) } }
    }

    func hasGroupVersion(_ group: String, _ version: String) -> Bool {
        groups.contains { $0.name == group && $0.versions.contains(version) }
    }

    func knows(_ path: String) -> Bool { path == "/api" || path == "/apis" || path.hasPrefix("/api/") || path.hasPrefix("/apis/") }

    var rootPaths: [String] {
        var paths = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"]
        for group in groups where !group.name.isEmpty {
            paths.append("/apis/\(group.name)")
            paths += group.versions.map { "/apis/\(group.name)/\($0)" }
        }
        return paths + ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
    }

    func answer(_ path: String, _ context: RequestContext) throws -> WireResponse? {
        let parts = path.split(separator: "/").map(String.init)
        let accept = context.request.headers["Accept"].first ?? ""
        switch (parts.first, parts.count) {
        case ("api", 1):
            if let version = aggregatedVersion(accept) { return aggregated(groups.filter { $0.name.isEmpty }, version) }
            return Responses.json([
                "kind": "APIVersions", "versions": ["v1"],
                "serverAddressByClientCIDRs": [
                    ["clientCIDR": "0.0.0.0/0", "serverAddress": .string(context.request.headers["Host"].first ?? "")]
                ],
            ])
        case ("apis", 1):
            if let version = aggregatedVersion(accept) { return aggregated(groups.filter { !$0.name.isEmpty }, version) }
            return Responses.json([
                "kind": "APIGroupList", "apiVersion": "v1", "groups": .array(groups.filter { !$0.name.isEmpty }.map { group($0) }),
            ])
        case ("apis", 2):
            guard let found = groups.first(where: { $0.name == parts[1] }) else { return nil }
            var object = group(found)
            object["kind"] = "APIGroup"
            object["apiVersion"] = "v1"
            return Responses.json(object)
        case ("api", 2): return hasGroupVersion("", parts[1]) ? Responses.json(resources("", parts[1])) : nil
        case ("apis", 3): return hasGroupVersion(parts[1], parts[2]) ? Responses.json(resources(parts[1], parts[2])) : nil
        default: return nil
        }
    }

    private func group(_ group: Group) -> JSON {
        func version(_ name: String) -> JSON { ["groupVersion": .string("\(group.name)/\(name)"), "version": .string(name)] }
        return [
            "name": .string(group.name), "versions": .array(group.versions.map(version)), "preferredVersion": version(group.versions[0]),
        ]
    }

    private func resources(_ group: String, _ version: String) -> JSON {
        var list: [JSON] = []
        for resource in schema.resources.sorted(by: { $0.identity.plural < $1.identity.plural })
        where resource.identity.group == group && resource.identity.version == version {
            var item: JSON = [
                "name": .string(resource.identity.plural), "singularName": .string(resource.singular),
                "namespaced": .bool(resource.identity.namespaced), "kind": .string(resource.identity.kind), "verbs": JSON(resource.verbs),
            ]
            if !resource.shortNames.isEmpty { item["shortNames"] = JSON(resource.shortNames) }
            if !resource.categories.isEmpty { item["categories"] = JSON(resource.categories) }
            if resource.verbs.contains("list"), resource.verbs.contains("create") {
                item["storageVersionHash"] = .string(StorageVersionHash.of(Views.storageKind(resource.identity)))
            }
            list.append(item)
            for sub in resource.subresources {
                var item: JSON = [
                    "name": .string("\(resource.identity.plural)/\(sub.name)"), "singularName": "",
                    "namespaced": .bool(resource.identity.namespaced),
                ]
                if !sub.version.isEmpty {
                    if !sub.group.isEmpty { item["group"] = .string(sub.group) }
                    item["version"] = .string(sub.version)
                }
                item["kind"] = .string(sub.kind)
                item["verbs"] = JSON(sub.verbs)
                list.append(item)
            }
        }
        var object: JSON = ["kind": "APIResourceList"]
        if !group.isEmpty { object["apiVersion"] = "v1" }
        object["groupVersion"] = .string(group.isEmpty ? version : "\(group)/\(version)")
        object["resources"] = .array(list)
        return object
    }

    // MARK: Aggregated

    private func aggregatedVersion(_ accept: String) -> String? {
        for entry in accept.split(separator: ",") where entry.contains("as=APIGroupDiscoveryList") && entry.contains("application/json") {
            if entry.contains("v=v2beta1") { return "v2beta1" }
            if entry.contains("v=v2") { return "v2" }
        }
        return nil
    }

    private func aggregated(_ groups: [Group], _ version: String) -> WireResponse {
        let items = groups.map { group -> JSON in
            [
                "metadata": group.name.isEmpty ? ["creationTimestamp": .null] : ["name": .string(group.name), "creationTimestamp": .null],
                "versions": .array(
                    group.versions.map { version in
                        ["version": .string(version), "freshness": "Current", "resources": .array(aggregatedResources(group.name, version))]
                    }),
            ]
        }
        let body: JSON = [
            "kind": "APIGroupDiscoveryList", "apiVersion": .string("apidiscovery.k8s.io/\(version)"), "metadata": [:], "items": .array(items),
        ]
        var response = Responses.json(body, contentType: "application/json;g=apidiscovery.k8s.io;v=\(version);as=APIGroupDiscoveryList")
        response.headers.add(name: "Vary", value: "Accept")
        return response
    }

    private func aggregatedResources(_ group: String, _ version: String) -> [JSON] {
        schema.resources.filter { $0.identity.group == group && $0.identity.version == version }.map { resource in
            let kind = resource.identity
            var item: JSON = [
                "resource": .string(kind.plural),
                "responseKind": ["group": .string(kind.group), "version": .string(kind.version), "kind": .string(kind.kind)],
                "scope": kind.namespaced ? "Namespaced" : "Cluster", "singularResource": .string(resource.singular), "verbs": JSON(resource.verbs),
            ]
            if !resource.shortNames.isEmpty { item["shortNames"] = JSON(resource.shortNames) }
            if !resource.categories.isEmpty { item["categories"] = JSON(resource.categories) }
            if !resource.subresources.isEmpty {
                item["subresources"] = .array(
                    resource.subresources.map { sub in
                        [
                            "subresource": .string(sub.name),
                            "responseKind": [
                                "group": .string(sub.version.isEmpty ? kind.group : sub.group),
                                "version": .string(sub.version.isEmpty ? kind.version : sub.version), "kind": .string(sub.kind),
                            ], "verbs": JSON(sub.verbs),
                        ]
                    })
            }
            return item
        }
    }
}
