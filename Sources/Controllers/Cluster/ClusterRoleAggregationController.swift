import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Fills ClusterRoles that are sums of others with the rules of all that their selectors find.
final class ClusterRoleAggregationController: Controller {
    static let name = "clusterrole-aggregation-controller"
    static let inputs = [ClusterRole.resource]
    static let outputs = [ClusterRole.resource]

    private let context: ControllerContext
    private let roles: Informer<ClusterRole>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        roles = context.informer(ClusterRole.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        roles.addHandler { [queue, roles] event in
            for role in roles.all where role.aggregationRule != nil { queue.enqueue(role.metadata.name) }
            if event.object.aggregationRule != nil { queue.enqueue(event.object.metadata.name) }
        }
    }

    func run() async { await queue.run(workers: 1) { [self] name in try await sync(name) } }

    private func sync(_ name: String) async throws {
        guard var role = roles.get(name), let rule = role.aggregationRule else { return }
        var rules: [PolicyRule] = []
        var seen: Set<JSON> = []
        for selector in rule.clusterRoleSelectors.map(\.selector) {
            for part in roles.all.sorted(by: { $0.metadata.name < $1.metadata.name })
            where part.metadata.name != name && selector.matches(part.metadata.labels) {
                for entry in part.rules where seen.insert(entry.json).inserted { rules.append(entry) }
            }
        }
        guard rules.map(\.json) != role.rules.map(\.json) else { return }
        role.rules = rules
        do { try await context.client.update(role) } catch let status as APIStatus where status.isNotFound {}
    }
}
