import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps one pod of each DaemonSet on every node that it is meant for.
final class DaemonSetController: Controller {
    static let name = "daemonset-controller"
    static let inputs = [DaemonSet.resource, Pod.resource, Node.resource, ControllerRevision.resource]
    static let outputs = [DaemonSet.resource, Pod.resource, ControllerRevision.resource, Event.resource]

    private let context: ControllerContext
    private let sets: Informer<DaemonSet>
    private let pods: Informer<Pod>
    private let nodes: Informer<Node>
    private let revisions: Informer<ControllerRevision>
    private let control: PodControl
    private let expectations: Expectations
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        sets = context.informer(DaemonSet.self)
        pods = context.informer(Pod.self)
        nodes = context.informer(Node.self)
        revisions = context.informer(ControllerRevision.self)
        control = PodControl(client: context.client, recorder: context.recorder(Self.name))
        expectations = Expectations(time: context.time)
        queue = WorkQueue(name: Self.name, time: context.time)
        PodControl.index(pods)
        PodControl.index(revisions)
        sets.addHandler { [queue, expectations] event in
            if case .deleted(let set) = event { expectations.forget(set.key) }
            queue.enqueue(event.object.key)
        }
        nodes.addHandler { [queue, sets] event in
            if case .updated(let old, let new) = event, old.metadata.labels == new.metadata.labels,
                old.spec.json == new.spec.json
            {
                return
            }
            for set in sets.all { queue.enqueue(set.key) }
        }
        pods.addHandler { [weak self] event in self?.podChanged(event) }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func podChanged(_ event: InformerEvent<Pod>) {
        let pod = event.object
        guard let owner = pod.metadata.controller else {
            if case .deleted = event { return }
            for set in sets.inNamespace(pod.metadata.namespace) where set.spec.selector.selector.matches(pod.metadata.labels) {
                queue.enqueue(set.key)
            }
            return
        }
        guard owner.kind == DaemonSet.resource.kind else { return }
        let key = "\(pod.metadata.namespace)/\(owner.name)"
        switch event {
        case .added:
            if pod.metadata.isBeingDeleted { expectations.deletionSeen(key, pod.metadata.uid) } else { expectations.creationSeen(key) }
        case .updated: if pod.metadata.isBeingDeleted { expectations.deletionSeen(key, pod.metadata.uid) }
        case .deleted: expectations.deletionSeen(key, pod.metadata.uid)
        }
        queue.enqueue(key)
    }

    private func sync(_ key: String) async throws {
        guard let set = sets.get(key) else {
            expectations.forget(key)
            return
        }
        if set.metadata.isBeingDeleted { return }
        let selector = set.spec.selector.selector
        if selector.isEmpty {
            control.recorder.record(
                .warning, about: set, reason: "SelectingAll",
                message: "This daemon set is selecting all pods. A non-empty selector is required.")
            return
        }
        let history = RevisionHistory(client: context.client, owner: set)
        var collisions = set.status.collisionCount
        let known = revisions.indexed(PodControl.controllerIndex, set.metadata.uid)
        do {
            let (update, all) = try await history.current(
                known, set.spec.template, hashLabel: TemplateHash.revisionLabel, collisionCount: &collisions)
            let candidates =
                pods.indexed(PodControl.controllerIndex, set.metadata.uid)
                + pods.indexed(PodControl.controllerIndex, "orphan/\(set.metadata.namespace)")
            let needsSync = expectations.isSatisfied(key)
            let owned = try await Claimer<DaemonSet, Pod>(client: context.client, owner: set, selector: selector).claim(candidates)
            var sync = DaemonSetSync(
                set: set, hash: RevisionHistory<DaemonSet>.hash(update), nodes: nodes.all, pods: owned, now: context.time.now())
            var failure: (any Error)?
            if needsSync {
                sync.plan()
                failure = await carryOut(sync, key)
            }
            try await writeStatus(sync, collisions)
            if let failure { throw failure }
            let inUse = Set(
                all.filter { revision in
                    owned.contains { $0.metadata.labels[TemplateHash.revisionLabel] == RevisionHistory<DaemonSet>.hash(revision) }
                }.map(\.metadata.name))
            try await history.truncate(all, limit: set.spec.revisionHistoryLimit ?? 10, inUse: inUse.union([update.metadata.name]))
            if let seconds = sync.secondsToNextAvailable { await queue.add(key, afterSeconds: seconds) }
        } catch  where PodControl.isNamespaceTerminating(error) {}
    }

    private func carryOut(_ sync: DaemonSetSync, _ key: String) async -> (any Error)? {
        for (pod, reason) in sync.deletions {
            if let reason {
                control.recorder.record(
                    reason.isWarning ? .warning : .normal, about: sync.set, reason: reason.reason, message: reason.message)
            }
            expectations.expectDeletions(key, [pod.metadata.uid])
        }
        let nodeNames = sync.creations
        expectations.expectCreations(key, nodeNames.count)
        let set = sync.set
        let hash = sync.hash
        let (control, expectations) = (control, expectations)
        var failure: (any Error)?
        for (pod, _) in sync.deletions {
            do {
                try await control.delete(pod, for: set)
            } catch {
                expectations.deletionSeen(key, pod.metadata.uid)
                if (error as? APIStatus)?.isNotFound != true { failure = error }
            }
        }
        let result = await PodControl.slowStart(nodeNames.count) { index in
            try await control.create(DaemonSetSync.pod(set, hash: hash, nodeName: nodeNames[index]), for: set)
        }
        for _ in result.succeeded..<nodeNames.count { expectations.creationSeen(key) }
        return failure ?? result.error
    }

    private func writeStatus(_ sync: DaemonSetSync, _ collisions: Int?) async throws {
        var status = sync.status()
        status.collisionCount = collisions
        status.conditions = sync.set.status.conditions
        guard status.json != sync.set.status.json else { return }
        var changed = sync.set
        changed.status = status
        do { try await context.client.updateStatus(changed) } catch let error as APIStatus where error.isNotFound {}
    }
}
