import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Tells kubelets by annotation how long they may keep Secrets and ConfigMaps, longer the more nodes there are.
final class NodeTTLController: Controller {
    static let name = "ttl-controller"
    static let inputs = [Node.resource]
    static let outputs = [Node.resource]

    private static let annotation = "node.alpha.kubernetes.io/ttl"
    /// Up to so many nodes, so many seconds.
    private static let steps = [(100, 0), (500, 15), (1000, 30), (2000, 60), (Int.max, 300)]

    private let context: ControllerContext
    private let nodes: Informer<Node>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        nodes = context.informer(Node.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        nodes.addHandler { [queue] event in
            if case .deleted = event { return }
            if case .updated(let old, let new) = event,
                old.metadata.annotations[Self.annotation] == new.metadata.annotations[Self.annotation],
                new.metadata.annotations[Self.annotation] != nil
            {
                return
            }
            queue.enqueue(event.object.metadata.name)
        }
    }

    func run() async { await queue.run(workers: 2) { [self] name in try await sync(name) } }

    private func sync(_ name: String) async throws {
        guard let node = nodes.get(name) else { return }
        let count = nodes.count
        let seconds = String(Self.steps.first { count <= $0.0 }?.1 ?? 300)
        guard node.metadata.annotations[Self.annotation] != seconds else { return }
        do {
            try await context.client.patch(
                Node.self, name: name, .merge, ["metadata": ["annotations": [Self.annotation: .string(seconds)]]])
        } catch let status as APIStatus where status.isNotFound {}
    }
}
