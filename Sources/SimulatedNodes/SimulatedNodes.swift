package import KubeClient
package import KubeMeta
import KubeTypes
import JSON
import Synchronization

/// Nodes without containers, for scale and for CI: they register, keep their leases, and say of each pod what a kubelet would. One informer
/// and one agenda serve all of them; there is no task for a pod.
package final class SimulatedNodes: Sendable {
    /// How long a pod takes to start.
    private static let startSeconds = 0.02
    /// How long a pod takes to end. Not at once: `kubectl delete` reads the pod, lists it and only then watches; a pod
    /// of the same name that is back
    /// before the list would be waited for without end.
    private static let stopSeconds = 0.1
    private static let leaseRenewSeconds = 10.0
    private static let statusPostSeconds = 300.0
    /// Requests to the server at a time.
    private static let requestsMax = 64

    private enum Action: Sendable { case start, finish, remove, postStatus }

    private struct Entry: Sendable {
        var due: Double
        /// Of a pod; the node's name for `postStatus`.
        var key: String
        var uid: String
        var action: Action
    }

    private struct State {
        /// A heap by date.
        var agenda: [Entry] = []
        var started: Set<String> = []
        /// Pod UID -> node and last byte of its address.
        var addresses: [String: (node: Int, byte: Int)] = [:]
        var nextByte: [Int] = []
        var usedBytes: [Int: Set<Int>] = [:]
        var wake: CheckedContinuation<Void, Never>?
    }

    /// A drill holds all simulated nodes here: they fall silent.
    package let gate = RunGate()
    private let nodes: [SimulatedNode]
    private let byName: [String: Int]
    private let client: KubeClient
    private let factory: InformerFactory
    private let pods: Informer<Pod>
    private let nodeObjects: Informer<Node>
    private let state: Mutex<State>
    private var time: any TimeSource { client.time }

    /// - Parameters:
    ///   - namePrefix: nodes are called `<prefix>0`, `<prefix>1`, ...
    ///   - factory: shared with the other components of the process; started by `run`.
    package init(count: Int, namePrefix: String = "simulated-", client: KubeClient, factory: InformerFactory) {
        self.client = client
        self.factory = factory
        nodes = (0..<count).map { SimulatedNode(name: "\(namePrefix)\($0)", index: $0) }
        byName = Dictionary(nodes.map { ($0.name, $0.index) }, uniquingKeysWith: { first, _ in first })
        var initial = State()
        initial.nextByte = Array(repeating: 2, count: count)
        state = Mutex(initial)
        pods = factory.informer(Pod.self)
        nodeObjects = factory.informer(Node.self)
        pods.addHandler { [weak self] event in self?.podChanged(event) }
        nodeObjects.addHandler { [weak self] event in self?.nodeChanged(event) }
    }

    /// Registers the nodes and lives their lives until the task is cancelled.
    package func run() async {
        await forEach(nodes) { [self] node in await register(node) }
        await factory.startAndSync()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await renewLeases() }
            group.addTask { [self] in await followAgenda() }
        }
    }

    // MARK: Nodes

    private func register(_ node: SimulatedNode) async {
        let now = time.now()
        let object = node.object(now: KubeTime.text(now))
        do {
            let made = try await client.create(object)
            // Creation drops the status of most kinds; not of nodes, but a server may be strict.
            if made.status.conditions.isEmpty { await postStatus(node) }
        } catch {
            await postStatus(node)
        }
        await renew(node, create: true)
    }

    private func postStatus(_ node: SimulatedNode) async {
        let status = node.status(now: KubeTime.text(time.now()))
        _ = try? await client.patch(Node.self, name: node.name, .strategic, ["status": status.json], subresource: "status")
    }

    private func nodeChanged(_ event: InformerEvent<Node>) {
        guard case .updated(_, let node) = event, byName[node.metadata.name] != nil,
            node.status.conditions.contains(where: { $0.type == "Ready" && $0.status != "True" })
        else { return }
        schedule(Entry(due: time.now(), key: node.metadata.name, uid: "", action: .postStatus))
    }

    /// Every node once in ten seconds, a tenth of them each second.
    private func renewLeases() async {
        var second = 0
        let slices = Int(Self.leaseRenewSeconds)
        while !Task.isCancelled {
            do { try await time.sleep(seconds: 1) } catch { return }
            await gate.pass()
            let slice = second % slices
            await forEach(nodes.filter { $0.index % slices == slice }) { [self] node in await renew(node, create: false) }
            if second % Int(Self.statusPostSeconds) == slice, second >= Int(Self.statusPostSeconds) {
                await forEach(nodes) { [self] node in await postStatus(node) }
            }
            second += 1
        }
    }

    private func renew(_ node: SimulatedNode, create: Bool) async {
        let now = KubeTime.microText(time.now())
        let namespace = "kube-node-lease"
        if !create {
            let patch: JSON = ["spec": ["renewTime": .string(now)]]
            if (try? await client.patch(Lease.self, namespace: namespace, name: node.name, .merge, patch)) != nil { return }
        }
        var lease = Lease()
        lease.metadata.name = node.name
        lease.metadata.namespace = namespace
        lease.spec.holderIdentity = node.name
        lease.spec.leaseDurationSeconds = SimulatedNode.leaseSeconds
        lease.spec.renewTime = now
        if let object = try? await client.find(Node.self, name: node.name) {
            var owner = object.controllerReference
            owner.controller = nil
            owner.blockOwnerDeletion = nil
            lease.metadata.ownerReferences = [owner]
        } else {
            await register(node)
            return
        }
        _ = try? await client.create(lease)
    }

    private func forEach(_ nodes: [SimulatedNode], _ body: @escaping @Sendable (SimulatedNode) async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            for (index, node) in nodes.enumerated() {
                if index >= Self.requestsMax { await group.next() }
                group.addTask { await body(node) }
            }
        }
    }

    // MARK: Pods

    private func podChanged(_ event: InformerEvent<Pod>) {
        let pod = event.object
        guard byName[pod.spec.nodeName] != nil else { return }
        let now = time.now()
        if case .deleted = event {
            state.withLock { state in
                state.started.remove(pod.metadata.uid)
                if let address = state.addresses.removeValue(forKey: pod.metadata.uid) {
                    state.usedBytes[address.node]?.remove(address.byte)
                }
            }
            return
        }
        func entry(_ action: Action, _ delay: Double) -> Entry {
            Entry(due: now + delay, key: pod.key, uid: pod.metadata.uid, action: action)
        }
        if pod.metadata.isBeingDeleted {
            schedule(entry(.remove, pod.metadata.deletionGracePeriodSeconds == 0 ? 0 : Self.stopSeconds))
        } else if pod.status.phase == "Pending" || pod.status.phase.isEmpty {
            if state.withLock({ $0.started.insert(pod.metadata.uid).inserted }) { schedule(entry(.start, Self.startSeconds)) }
        } else if pod.status.phase == "Running" {
            if state.withLock({ $0.started.insert(pod.metadata.uid).inserted }) {
                // It ran before this process did.
                if let seconds = SimulatedPod.exitAfterSeconds(pod) { schedule(entry(.finish, seconds)) }
            } else if !pod.spec.readinessGates.isEmpty, case .updated(let old, _) = event,
                old.status.conditions.filter({ $0.status == "True" }).count != pod.status.conditions.filter({ $0.status == "True" }).count
            {
                schedule(entry(.start, 0))
            }
        }
    }

    private func address(_ uid: String, _ node: SimulatedNode) -> String {
        let range = nodeObjects.get(node.name)?.spec.podCIDR.map { $0.split(separator: ".").prefix(3).joined(separator: ".") }
        return state.withLock { state in
            if let known = state.addresses[uid] { return "\(range ?? node.podNetwork).\(known.byte)" }
            var byte = state.nextByte[node.index]
            let used = state.usedBytes[node.index] ?? []
            for _ in 0..<252 {
                if !used.contains(byte) { break }
                byte = byte >= 254 ? 2 : byte + 1
            }
            state.nextByte[node.index] = byte >= 254 ? 2 : byte + 1
            state.usedBytes[node.index, default: []].insert(byte)
            state.addresses[uid] = (node.index, byte)
            return "\(range ?? node.podNetwork).\(byte)"
        }
    }

    private func act(_ entry: Entry) async {
        if entry.action == .postStatus {
            if let index = byName[entry.key] { await postStatus(nodes[index]) }
            return
        }
        guard let pod = pods.get(entry.key), pod.metadata.uid == entry.uid, let index = byName[pod.spec.nodeName] else { return }
        let now = time.now()
        switch entry.action {
        case .start:
            guard !pod.metadata.isBeingDeleted else { return }
            let patch = SimulatedPod.running(pod, node: nodes[index], address: address(entry.uid, nodes[index]), now: KubeTime.text(now))
            do {
                try await client.patch(
                    Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic, patch, subresource: "status")
            } catch let status as APIStatus where status.isNotFound {
                return
            } catch {
                return schedule(Entry(due: now + 1, key: entry.key, uid: entry.uid, action: .start))
            }
            if let seconds = SimulatedPod.exitAfterSeconds(pod) {
                schedule(Entry(due: now + seconds, key: entry.key, uid: entry.uid, action: .finish))
            }
        case .finish:
            guard pod.status.phase == "Running" else { return }
            _ = try? await client.patch(
                Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic,
                SimulatedPod.finished(pod, now: KubeTime.text(now)), subresource: "status")
        case .remove:
            try? await client.delete(
                Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: entry.uid, gracePeriodSeconds: 0)
        case .postStatus: break
        }
    }

    // MARK: Agenda

    private func schedule(_ entry: Entry) {
        let wake = state.withLock { state in
            state.agenda.append(entry)
            var child = state.agenda.count - 1
            while child > 0, state.agenda[child].due < state.agenda[(child - 1) / 2].due {
                state.agenda.swapAt(child, (child - 1) / 2)
                child = (child - 1) / 2
            }
            defer { state.wake = nil }
            return state.wake
        }
        wake?.resume()
    }

    private static func pop(_ agenda: inout [Entry]) -> Entry? {
        guard let top = agenda.first, let last = agenda.popLast() else { return nil }
        if agenda.isEmpty { return top }
        agenda[0] = last
        var parent = 0
        while true {
            let left = parent * 2 + 1
            guard left < agenda.count else { break }
            let right = left + 1
            let child = right < agenda.count && agenda[right].due < agenda[left].due ? right : left
            guard agenda[child].due < agenda[parent].due else { break }
            agenda.swapAt(child, parent)
            parent = child
        }
        return top
    }

    private func followAgenda() async {
        await withTaskGroup(of: Void.self) { group in
            var running = 0
            while !Task.isCancelled {
                await gate.pass()
                let now = time.now()
                let due: [Entry] = state.withLock { state in
                    var due: [Entry] = []
                    while due.count < Self.requestsMax, let first = state.agenda.first, first.due <= now,
                        let entry = Self.pop(&state.agenda)
                    { due.append(entry) }
                    return due
                }
                for entry in due {
                    if running >= Self.requestsMax {
                        await group.next()
                        running -= 1
                    }
                    group.addTask { [self] in await act(entry) }
                    running += 1
                }
                if due.isEmpty { await waitForWork(group: &group, running: &running) }
            }
        }
    }

    private func waitForWork(group: inout TaskGroup<Void>, running: inout Int) async {
        while running > 0 {
            await group.next()
            running -= 1
        }
        let next = state.withLock { $0.agenda.first?.due }
        let time = time
        // A new entry or the date of the first one ends the wait, whichever is sooner.
        let timer = next.map { due in
            Task { [weak self] in
                do { try await time.sleep(seconds: max(0.001, due - time.now())) } catch { return }
                self?.wakeUp()
            }
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let ready = state.withLock { state in
                    if Task.isCancelled || state.agenda.first.map({ $0.due <= time.now() || $0.due < next ?? .infinity }) ?? false {
                        return true
                    }
                    state.wake = continuation
                    return false
                }
                if ready { continuation.resume() }
            }
        } onCancel: {
            self.wakeUp()
        }
        timer?.cancel()
    }

    private func wakeUp() {
        let wake = state.withLock { state in
            defer { state.wake = nil }
            return state.wake
        }
        wake?.resume()
    }
}
