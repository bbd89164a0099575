import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Keeps as many pods as a ReplicaSet or a ReplicationController wants.
final class ReplicaController<Owner: ReplicaKind>: Controller {
    static var name: String { Owner.controllerName }
    static var inputs: [ResourceKind] { [Owner.resource, Pod.resource] }
    static var outputs: [ResourceKind] { [Owner.resource, Pod.resource, Event.resource] }

    /// Pods made or removed in one sync at most.
    private static var burstMax: Int { 500 }

    private let context: ControllerContext
    private let owners: Informer<Owner>
    private let pods: Informer<Pod>
    private let control: PodControl
    private let expectations: Expectations
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        owners = context.informer(Owner.self)
        pods = context.informer(Pod.self)
        control = PodControl(client: context.client, recorder: context.recorder(Owner.eventComponent))
        expectations = Expectations(time: context.time)
        queue = WorkQueue(name: Self.name, time: context.time)
        PodControl.index(pods)
        PodControl.index(owners)
        owners.addHandler { [queue, expectations] event in
            if case .deleted(let owner) = event { expectations.forget(owner.key) }
            queue.enqueue(event.object.key)
        }
        pods.addHandler { [weak self] event in self?.podChanged(event) }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func ownerKey(_ pod: Pod) -> String? {
        guard let controller = pod.metadata.controller, controller.kind == Owner.resource.kind,
            controller.apiVersion == Owner.resource.apiVersion
        else { return nil }
        return "\(pod.metadata.namespace)/\(controller.name)"
    }

    private func podChanged(_ event: InformerEvent<Pod>) {
        let pod = event.object
        switch event {
        case .added:
            if let key = ownerKey(pod) {
                if pod.metadata.isBeingDeleted { expectations.deletionSeen(key, pod.metadata.uid) } else { expectations.creationSeen(key) }
                queue.enqueue(key)
                return
            }
        case .updated(let old, _):
            let before = ownerKey(old)
            let key = ownerKey(pod)
            if let before, before != key { queue.enqueue(before) }
            if let key {
                if pod.metadata.isBeingDeleted { expectations.deletionSeen(key, pod.metadata.uid) }
                queue.enqueue(key)
                return
            }
        case .deleted:
            if let key = ownerKey(pod) {
                expectations.deletionSeen(key, pod.metadata.uid)
                queue.enqueue(key)
            }
            return
        }
        // An orphan may be adopted by whoever selects it.
        guard pod.metadata.controller == nil, !pod.metadata.labels.isEmpty else { return }
        for owner in owners.inNamespace(pod.metadata.namespace) where owner.podSelector.matches(pod.metadata.labels) {
            queue.enqueue(owner.key)
        }
    }

    private func sync(_ key: String) async throws {
        guard let owner = owners.get(key) else {
            expectations.forget(key)
            return
        }
        let needsSync = expectations.isSatisfied(key)
        let candidates =
            pods.indexed(PodControl.controllerIndex, owner.metadata.uid)
            + pods.indexed(PodControl.controllerIndex, "orphan/\(owner.metadata.namespace)").filter(\.isActive)
        let owned = try await Claimer<Owner, Pod>(client: context.client, owner: owner, selector: owner.podSelector)
            .claim(candidates.filter { !$0.isTerminated })
        let active = owned.filter(\.isActive)
        var failure: (any Error)?
        if needsSync, !owner.metadata.isBeingDeleted { failure = await manage(owner, key, active) }
        try await updateStatus(owner, active, terminating: owned.count { $0.metadata.isBeingDeleted }, failure)
        if let failure, !PodControl.isNamespaceTerminating(failure) { throw failure }

        let now = context.time.now()
        let next = active.compactMap { $0.availableFromSeconds(minReadySeconds: owner.minReadySeconds) }.filter { $0 > now }.min()
        if let next { await queue.add(key, afterSeconds: next - now) }
    }

    /// Makes or removes pods; the first error, if any.
    private func manage(_ owner: Owner, _ key: String, _ active: [Pod]) async -> (any Error)? {
        let difference = owner.wantedReplicas - active.count
        if difference > 0 {
            let count = min(difference, Self.burstMax)
            expectations.expectCreations(key, count)
            let pod = PodControl.pod(from: owner.podTemplate, owner: owner)
            let control = control
            let result = await PodControl.slowStart(count) { _ in try await control.create(pod, for: owner) }
            for _ in result.succeeded..<count { expectations.creationSeen(key) }
            return result.error
        }
        guard difference < 0 else { return nil }
        let surplus = PodDeletionRank.sorted(active, now: context.time.now(), podsOnNode: podsOnNode(owner))
            .prefix(min(-difference, Self.burstMax))
        expectations.expectDeletions(key, surplus.map(\.metadata.uid))
        let (control, expectations) = (control, expectations)
        return await withTaskGroup(of: (any Error)?.self) { group in
            for pod in surplus {
                group.addTask {
                    do {
                        try await control.delete(pod, for: owner)
                        return nil
                    } catch {
                        expectations.deletionSeen(key, pod.metadata.uid)
                        return (error as? APIStatus)?.isNotFound == true ? nil : error
                    }
                }
            }
            var first: (any Error)?
            for await error in group { first = first ?? error }
            return first
        }
    }

    /// Active pods of the owner and of its siblings (replica sets of the same deployment), by node.
    private func podsOnNode(_ owner: Owner) -> [String: Int] {
        let siblings = owner.metadata.controller.map { owners.indexed(PodControl.controllerIndex, $0.uid) } ?? [owner]
        var counts: [String: Int] = [:]
        for sibling in siblings {
            for pod in pods.indexed(PodControl.controllerIndex, sibling.metadata.uid) where pod.isActive {
                counts[pod.spec.nodeName, default: 0] += 1
            }
        }
        return counts
    }

    private func updateStatus(_ owner: Owner, _ active: [Pod], terminating: Int, _ failure: (any Error)?) async throws {
        let now = context.time.now()
        let labels = Selector(matchLabels: owner.podTemplate.metadata.labels)
        var status = ReplicaStatus()
        status.replicas = active.count
        status.fullyLabeled = active.count { labels.matches($0.metadata.labels) }
        status.ready = active.count(where: \.isReady)
        status.available = active.count { $0.isAvailable(minReadySeconds: owner.minReadySeconds, now: now) }
        status.terminating = terminating
        status.observedGeneration = owner.metadata.generation
        status.conditions = owner.replicaStatus.conditions
        if let failure {
            if !status.conditions.contains(where: { $0.type == "ReplicaFailure" }) {
                var condition = ReplicaSetCondition()
                condition.type = "ReplicaFailure"
                condition.status = "True"
                condition.reason = owner.wantedReplicas > active.count ? "FailedCreate" : "FailedDelete"
                condition.message = "\(failure)"
                condition.lastTransitionTime = KubeTime.text(now)
                status.conditions.append(condition)
            }
        } else {
            status.conditions.removeAll { $0.type == "ReplicaFailure" }
        }
        var changed = owner
        changed.replicaStatus = status
        guard changed.json["status"] != owner.json["status"] else { return }
        do {
            try await context.client.updateStatus(changed)
        } catch let error as APIStatus where error.isNotFound {
            return
        } catch let error as APIStatus where error.isConflict {
            // One more try on the live object: the count is right whatever else has changed.
            guard var live = try await context.client.find(Owner.self, namespace: owner.metadata.namespace, name: owner.metadata.name),
                live.metadata.uid == owner.metadata.uid
            else { return }
            live.replicaStatus = status
            try await context.client.updateStatus(live)
        }
    }
}
