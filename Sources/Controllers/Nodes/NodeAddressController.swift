import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Gives every node a /24 of the cluster's pod range.
final class NodeAddressController: Controller {
    static let name = "node-ipam-controller"
    static let inputs = [Node.resource]
    static let outputs = [Node.resource]

    private static let nodeMaskBits = 24

    private let context: ControllerContext
    private let nodes: Informer<Node>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        nodes = context.informer(Node.self)
        recorder = context.recorder("cidrAllocator")
        queue = WorkQueue(name: Self.name, time: context.time)
        nodes.addHandler { [queue] event in
            if case .deleted = event { return }
            if event.object.spec.podCIDR ?? "" == "" { queue.enqueue(event.object.metadata.name) }
        }
    }

    func run() async {
        guard let range = context.options.clusterCIDR, let parsed = Self.parse(range) else { return }
        let taken = Taken()
        await queue.run(workers: 1) { [self] name in try await sync(name, parsed, taken) }
    }

    /// Ranges given out that the cache may not show yet; used by the one worker only.
    private actor Taken {
        private var byNode: [String: UInt32] = [:]
        private var next: UInt32 = 0

        func choose(for node: String, used: Set<UInt32>, base: UInt32, count: UInt32) -> UInt32? {
            if let known = byNode[node] { return known }
            let given = Set(byNode.values)
            for offset in 0..<count {
                let candidate = base &+ ((next &+ offset) % count) << 8
                guard !used.contains(candidate), !given.contains(candidate) else { continue }
                next = (next &+ offset &+ 1) % count
                byNode[node] = candidate
                return candidate
            }
            return nil
        }

        func settle(_ node: String) { byNode[node] = nil }
    }

    private static func parse(_ text: String) -> (base: UInt32, count: UInt32)? {
        let parts = text.split(separator: "/")
        guard parts.count == 2, let bits = Int(parts[1]), (8...nodeMaskBits).contains(bits), let address = address(String(parts[0])) else {
            return nil
        }
        return (address & ~UInt32(0) << UInt32(32 - bits), 1 << UInt32(nodeMaskBits - bits))
    }

    private static func address(_ text: String) -> UInt32? {
        let bytes = text.split(separator: ".").compactMap { UInt8($0) }
        return bytes.count == 4 ? bytes.reduce(0) { $0 << 8 | UInt32($1) } : nil
    }

    private func sync(_ name: String, _ range: (base: UInt32, count: UInt32), _ taken: Taken) async throws {
        guard let node = nodes.get(name), node.spec.podCIDR ?? "" == "" else { return await taken.settle(name) }
        let used = Set(nodes.all.compactMap { $0.spec.podCIDR?.split(separator: "/").first.flatMap { Self.address(String($0)) } })
        guard let chosen = await taken.choose(for: name, used: used, base: range.base, count: range.count) else {
            recorder.record(.normal, about: node, reason: "CIDRNotAvailable", message: "Node \(name) status is now: CIDRNotAvailable")
            throw APIStatus.internalError("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")
        }
        let text = "\(chosen >> 24).\(chosen >> 16 & 255).\(chosen >> 8 & 255).0/\(Self.nodeMaskBits)"
        do {
            try await context.client.patch(
                Node.self, name: name, .merge, ["spec": ["podCIDR": .string(text), "podCIDRs": [.string(text)]]])
        } catch let status as APIStatus where status.isNotFound { await taken.settle(name) }
    }
}
