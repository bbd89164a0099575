import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Removes objects whose owners have gone, holds owners that are deleted in the foreground until their dependents are gone, and cuts
/// dependents loose that are to be orphaned. What the graph says is always checked with the server before anything is removed.
final class GarbageCollector: Controller {
    static let name = "garbage-collector-controller"
    static let inputs = BuiltInKinds.all
    static let outputs = BuiltInKinds.all

    /// How often new kinds (custom resources) are looked for.
    private static let kindsSeconds = 2.0
    private static let absentMax = 500

    private struct State {
        var graph = OwnerGraph()
        var absent: Set<String> = []
        var watches: [ResourceKind: Task<Void, Never>] = [:]
    }

    private let context: ControllerContext
    private let recorder: EventRecorder
    private let checks: WorkQueue<String>
    private let orphans: WorkQueue<String>
    private let state = Mutex(State())
    private var transport: any KubeTransport { context.client.transport }
    var gates: [RunGate] { [checks.gate, orphans.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        recorder = context.recorder(Self.name)
        checks = WorkQueue(name: "garbage-collector", time: context.time)
        orphans = WorkQueue(name: "garbage-collector-orphans", time: context.time)
    }

    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await followKinds() }
            group.addTask { [self] in await checks.run(workers: context.options.workers) { [self] uid in try await check(uid) } }
            group.addTask { [self] in await orphans.run(workers: 2) { [self] uid in try await orphan(uid) } }
        }
        for task in state.withLock({ Array($0.watches.values) }) { task.cancel() }
    }

    private func followKinds() async {
        while !Task.isCancelled {
            let kinds = Set(await context.resourceKinds().filter { $0.plural != "events" })
            let (fresh, gone) = state.withLock { state in
                state.graph.setKinds(Array(kinds))
                let gone = state.watches.filter { !kinds.contains($0.key) }
                for kind in gone.keys { state.watches[kind] = nil }
                return (kinds.filter { state.watches[$0] == nil }, gone)
            }
            for task in gone.values { task.cancel() }
            for kind in fresh {
                let watch = MetadataWatch(
                    client: context.client, kind: kind,
                    changed: { [weak self] object in self?.apply { $0.put(GraphNode(object, kind: kind)) } },
                    removed: { [weak self] uid in self?.apply { $0.remove(uid) } })
                let task = Task { await watch.run() }
                state.withLock { $0.watches[kind] = task }
            }
            do { try await context.time.sleep(seconds: Self.kindsSeconds) } catch { return }
        }
    }

    private func apply(_ change: (inout OwnerGraph) -> OwnerGraph.Work) {
        let work = state.withLock { change(&$0.graph) }
        for uid in work.check { checks.enqueue(uid) }
        for uid in work.orphan { orphans.enqueue(uid) }
    }

    // MARK: The server's word

    private func live(_ kind: ResourceKind, _ namespace: String, _ name: String) async throws -> JSON? {
        do {
            return try await transport.send(KubeRequest(.get, kind, namespace: kind.namespaced ? namespace : "", name: name))
        } catch let status as APIStatus where status.isNotFound { return nil }
    }

    private func patch(_ object: JSON, _ identity: GraphIdentity, _ changes: JSON) async throws {
        var metadata = changes
        metadata["uid"] = .string(identity.uid)
        metadata["resourceVersion"] = object["metadata"]?["resourceVersion"]
        do {
            _ = try await transport.send(
                KubeRequest(
                    .patch(.merge), identity.kind, namespace: identity.namespace, name: identity.name, body: ["metadata": metadata]))
        } catch let status as APIStatus where status.isNotFound {}
    }

    private func removeFinalizer(_ finalizer: String, _ object: JSON, _ identity: GraphIdentity) async throws {
        let present = object["metadata"]?["finalizers"]?.array ?? []
        guard present.contains(.string(finalizer)) else { return }
        try await patch(object, identity, ["finalizers": .array(present.filter { $0 != .string(finalizer) })])
    }

    private func removeOwners(_ uids: Set<String>, _ object: JSON, _ identity: GraphIdentity) async throws {
        let present = object["metadata"]?["ownerReferences"]?.array ?? []
        let kept = present.filter { !uids.contains($0["uid"]?.string ?? "") }
        guard kept.count < present.count else { return }
        try await patch(object, identity, ["ownerReferences": .array(kept)])
    }

    // MARK: Orphaning

    private func orphan(_ uid: String) async throws {
        let (node, dependents) = state.withLock { state in
            (state.graph.nodes[uid], (state.graph.nodes[uid]?.dependents ?? []).compactMap { state.graph.nodes[$0]?.identity })
        }
        guard let node else { return }
        for identity in dependents {
            guard let object = try await live(identity.kind, identity.namespace, identity.name),
                object["metadata"]?["uid"]?.string == identity.uid
            else { continue }
            try await removeOwners([uid], object, identity)
        }
        guard let object = try await live(node.identity.kind, node.identity.namespace, node.identity.name),
            object["metadata"]?["uid"]?.string == uid
        else { return }
        try await removeFinalizer(GraphNode.orphanFinalizer, object, node.identity)
    }

    // MARK: Deleting

    private func check(_ uid: String) async throws {
        guard let node = state.withLock({ $0.graph.nodes[uid] }) else { return }
        let identity = node.identity
        if node.isBeingDeleted, !node.waitsForDependents { return }
        guard let object = try await live(identity.kind, identity.namespace, identity.name), object["metadata"]?["uid"]?.string == uid
        else {
            if node.isVirtual { noteAbsent(uid) }
            return apply { $0.remove(uid) }
        }
        if node.isVirtual {
            // It exists; its own watch will say more about it.
            return apply { $0.put(GraphNode(object, kind: identity.kind)) }
        }
        let fresh = GraphNode(object, kind: identity.kind)
        if fresh.waitsForDependents { return try await checkDependents(fresh.identity, object) }
        if fresh.isBeingDeleted || fresh.owners.isEmpty { return }

        var solid: [GraphOwner] = []
        var dangling: Set<String> = []
        var waiting: Set<String> = []
        for owner in fresh.owners {
            switch try await judge(owner, of: identity) {
            case .solid: solid.append(owner)
            case .absent: dangling.insert(owner.uid)
            case .waiting: waiting.insert(owner.uid)
            }
        }
        if !solid.isEmpty {
            if !dangling.isEmpty || !waiting.isEmpty { try await removeOwners(dangling.union(waiting), object, identity) }
            return
        }
        let dependents = state.withLock { state in (state.graph.nodes[uid]?.dependents ?? []).compactMap { state.graph.nodes[$0] } }
        if !waiting.isEmpty, !dependents.isEmpty {
            if dependents.contains(where: \.waitsForDependents) {
                // A circle: without this both would wait for each other.
                let references = (object["metadata"]?["ownerReferences"]?.array ?? []).map { reference in
                    var reference = reference
                    if reference["blockOwnerDeletion"]?.bool == true { reference["blockOwnerDeletion"] = false }
                    return reference
                }
                try await patch(object, identity, ["ownerReferences": .array(references)])
            }
            return try await delete(identity, "Foreground")
        }
        let finalizers = object["metadata"]?["finalizers"]?.array ?? []
        if finalizers.contains(.string(GraphNode.orphanFinalizer)) { return try await delete(identity, "Orphan") }
        try await delete(identity, finalizers.contains(.string(GraphNode.foregroundFinalizer)) ? "Foreground" : "Background")
    }

    private func noteAbsent(_ uid: String) {
        state.withLock { state in
            if state.absent.count >= Self.absentMax { state.absent = [] }
            state.absent.insert(uid)
        }
    }

    private enum OwnerState { case solid, absent, waiting }

    private func judge(_ owner: GraphOwner, of identity: GraphIdentity) async throws -> OwnerState {
        let (kind, isAbsent, known) = state.withLock { state in
            (state.graph.kind(of: owner), state.absent.contains(owner.uid), state.graph.nodes[owner.uid])
        }
        // A kind that is not served says nothing about the owner.
        guard let kind else { return .solid }
        if kind.namespaced, identity.namespace.isEmpty {
            var reference = ObjectReference()
            reference.apiVersion = identity.kind.apiVersion
            reference.kind = identity.kind.kind
            reference.name = identity.name
            reference.uid = identity.uid
            recorder.record(
                .warning, about: reference, reason: "OwnerRefInvalidNamespace",
                message:
                    "ownerRef [\(owner.apiVersion)/\(owner.kind), namespace: , name: \(owner.name), uid: \(owner.uid)] does not exist in namespace \"\""
            )
            return .solid
        }
        if isAbsent, known == nil { return .absent }
        guard let object = try await live(kind, identity.namespace, owner.name), object["metadata"]?["uid"]?.string == owner.uid else {
            noteAbsent(owner.uid)
            return .absent
        }
        return GraphNode(object, kind: kind).waitsForDependents ? .waiting : .solid
    }

    /// An owner deleted in the foreground goes when nothing that blocks it is left.
    private func checkDependents(_ identity: GraphIdentity, _ object: JSON) async throws {
        let dependents = state.withLock { state in
            (state.graph.nodes[identity.uid]?.dependents ?? []).compactMap { state.graph.nodes[$0] }
        }
        let blocking = dependents.filter { node in node.owners.contains { $0.uid == identity.uid && $0.blocks } }
        if blocking.isEmpty { return try await removeFinalizer(GraphNode.foregroundFinalizer, object, identity) }
        for node in dependents where !node.isBeingDeleted { await checks.add(node.identity.uid) }
    }

    private func delete(_ identity: GraphIdentity, _ propagation: String) async throws {
        do {
            _ = try await transport.send(
                KubeRequest(
                    .delete, identity.kind, namespace: identity.namespace, name: identity.name,
                    body: [
                        "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": .string(propagation),
                        "preconditions": ["uid": .string(identity.uid)],
                    ]))
        } catch let status as APIStatus where status.isNotFound || status.isConflict {
            // Gone, or another object by now: its own events say the rest.
        }
    }
}
