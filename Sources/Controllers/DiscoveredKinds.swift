import JSON
import KubeClient
import KubeMeta
import Synchronization

/// The kinds of the API with those that custom resource definitions add: what is used unless the program hands in a list of its own.
final class DiscoveredKinds: Sendable {
    private static let definitions = ResourceKind(
        group: "apiextensions.k8s.io", version: "v1", plural: "customresourcedefinitions", kind: "CustomResourceDefinition",
        namespaced: false)
    /// A list is good for this long.
    private static let freshSeconds = 1.0

    private let client: KubeClient
    private let cache = Mutex<(kinds: [ResourceKind], at: Double)>(([], 0))

    init(client: KubeClient) { self.client = client }

    func kinds() async -> [ResourceKind] {
        let now = client.time.now()
        let known = cache.withLock { $0 }
        if now - known.at < Self.freshSeconds, !known.kinds.isEmpty { return known.kinds }
        guard let list = try? await client.transport.send(KubeRequest(.list, Self.definitions)) else {
            // Without an answer the last list holds: to forget kinds would be to forget their objects.
            return known.kinds.isEmpty ? BuiltInKinds.all : known.kinds
        }
        let custom = (list["items"]?.array ?? []).compactMap(Self.kind)
        let all = BuiltInKinds.all + [Self.definitions] + custom
        cache.withLock { $0 = (all, now) }
        return all
    }

    private static func kind(_ definition: JSON) -> ResourceKind? {
        let spec = definition["spec"]
        guard
            (definition["status"]?["conditions"]?.array ?? []).contains(where: {
                $0["type"]?.string == "Established" && $0["status"]?.string == "True"
            }),
            let group = spec?["group"]?.string, let plural = spec?["names"]?["plural"]?.string, let kind = spec?["names"]?["kind"]?.string,
            let version = (spec?["versions"]?.array ?? []).first(where: { $0["served"]?.bool == true && $0["storage"]?.bool == true })?[
                "name"]?.string
                ?? (spec?["versions"]?.array ?? []).first(where: { $0["served"]?.bool == true })?["name"]?.string
        else { return nil }
        return ResourceKind(group: group, version: version, plural: plural, kind: kind, namespaced: spec?["scope"]?.string == "Namespaced")
    }
}
