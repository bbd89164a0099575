import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// One sync of a Deployment: works on copies, which follow what it writes.
struct DeploymentRollout {
    let client: KubeClient
    let recorder: EventRecorder
    var deployment: Deployment
    /// Oldest first.
    var replicaSets: [ReplicaSet]
    /// UID of the replica set with the current template.
    var newUID: String?

    init(client: KubeClient, recorder: EventRecorder, deployment: Deployment, replicaSets: [ReplicaSet]) {
        self.client = client
        self.recorder = recorder
        self.deployment = deployment
        self.replicaSets = replicaSets.sorted(by: ReplicaSet.isOlder)
        let template = TemplateHash.comparable(deployment.spec.template)
        newUID = self.replicaSets.first { TemplateHash.comparable($0.spec.template) == template }?.metadata.uid
    }

    var now: Double { client.time.now() }
    var newSet: ReplicaSet? { newUID.flatMap { uid in replicaSets.first { $0.metadata.uid == uid } } }
    var oldSets: [ReplicaSet] { replicaSets.filter { $0.metadata.uid != newUID } }
    func active(_ sets: [ReplicaSet]) -> [ReplicaSet] { sets.filter { $0.wantedReplicas > 0 } }

    mutating func replace(_ replicaSet: ReplicaSet) {
        if let index = replicaSets.firstIndex(where: { $0.metadata.uid == replicaSet.metadata.uid }) {
            replicaSets[index] = replicaSet
        } else {
            replicaSets.append(replicaSet)
        }
    }

    mutating func run(pods: (ReplicaSet) -> [Pod]) async throws {
        try await noteWhetherPaused()
        let isScaling = active(replicaSets).contains { set in set.desiredAnnotation.map { $0 != deployment.wantedReplicas } ?? false }
        if deployment.isPaused || isScaling {
            try await ensureNewSet(create: false)
            try await scaleInProportion()
            if deployment.isPaused { try await cleanUp() }
            return try await writeStatus(calculatedStatus())
        }
        if deployment.isRollingUpdate { try await rollingUpdate() } else { try await recreate(pods) }
    }

    private mutating func rollingUpdate() async throws {
        try await ensureNewSet(create: true)
        if try await growNewSet() { return try await writeRolloutStatus() }
        if try await shrinkOldSets() { return try await writeRolloutStatus() }
        if isComplete(deployment.status) { try await cleanUp() }
        try await writeRolloutStatus()
    }

    private mutating func recreate(_ pods: (ReplicaSet) -> [Pod]) async throws {
        try await ensureNewSet(create: false)
        var scaled = false
        for set in active(oldSets) { scaled = try await scale(set, to: 0) || scaled }
        if scaled { return try await writeRolloutStatus() }
        if oldSets.contains(where: { set in pods(set).contains { !$0.isTerminated } }) { return try await writeRolloutStatus() }
        if newSet == nil { try await ensureNewSet(create: true) }
        if let set = newSet { _ = try await scale(set, to: deployment.wantedReplicas) }
        if isComplete(deployment.status) { try await cleanUp() }
        try await writeRolloutStatus()
    }

    // MARK: Rolling

    private mutating func growNewSet() async throws -> Bool {
        guard let set = newSet, set.wantedReplicas != deployment.wantedReplicas else { return false }
        if set.wantedReplicas > deployment.wantedReplicas { return try await scale(set, to: deployment.wantedReplicas) }
        return try await scale(set, to: replicasForNewSet(set))
    }

    /// As many as the surge allows.
    func replicasForNewSet(_ set: ReplicaSet?) -> Int {
        guard deployment.isRollingUpdate else { return deployment.wantedReplicas }
        let total = replicaSets.reduce(0) { $0 + $1.wantedReplicas }
        let totalMax = deployment.wantedReplicas + deployment.maxSurge
        let present = set?.wantedReplicas ?? 0
        if total >= totalMax { return present }
        return present + min(totalMax - total, deployment.wantedReplicas - present)
    }

    private mutating func shrinkOldSets() async throws -> Bool {
        guard !active(oldSets).isEmpty, let set = newSet else { return false }
        let total = replicaSets.reduce(0) { $0 + $1.wantedReplicas }
        let availableMin = deployment.wantedReplicas - deployment.maxUnavailable
        let newUnavailable = set.wantedReplicas - (set.status.availableReplicas ?? 0)
        let surplus = total - availableMin - newUnavailable
        guard surplus > 0 else { return false }

        // Replicas that do not work anyway go first: they cost no availability.
        var removed = 0
        for old in active(oldSets) where removed < surplus {
            let unhealthy = old.wantedReplicas - (old.status.availableReplicas ?? 0)
            guard unhealthy > 0 else { continue }
            let count = min(surplus - removed, unhealthy)
            _ = try await scale(old, to: old.wantedReplicas - count)
            removed += count
        }
        let available = replicaSets.reduce(0) { $0 + ($1.status.availableReplicas ?? 0) }
        var left = available - availableMin
        for old in active(oldSets) where left > 0 {
            let count = min(old.wantedReplicas, left)
            _ = try await scale(old, to: old.wantedReplicas - count)
            left -= count
            removed += count
        }
        return removed > 0
    }

    // MARK: Scaling

    /// Scales without rolling: one active set gets everything, several share the change in proportion to their size.
    private mutating func scaleInProportion() async throws {
        let activeSets = active(replicaSets)
        if activeSets.count <= 1 {
            if let only = activeSets.first ?? newSet ?? oldSets.last { _ = try await scale(only, to: deployment.wantedReplicas) }
            return
        }
        if let set = newSet, set.wantedReplicas == deployment.wantedReplicas, set.desiredAnnotation == deployment.wantedReplicas,
            set.status.availableReplicas ?? 0 == deployment.wantedReplicas
        {
            for old in active(oldSets) { _ = try await scale(old, to: 0) }
            return
        }
        guard deployment.isRollingUpdate else { return }
        let total = activeSets.reduce(0) { $0 + $1.wantedReplicas }
        let allowed = deployment.wantedReplicas > 0 ? deployment.wantedReplicas + deployment.maxSurge : 0
        let toAdd = allowed - total
        // The largest first; among equals the newest gets more and the oldest loses first.
        let sorted = activeSets.sorted { left, right in
            if left.wantedReplicas != right.wantedReplicas { return left.wantedReplicas > right.wantedReplicas }
            return toAdd > 0 ? ReplicaSet.isOlder(right, left) : ReplicaSet.isOlder(left, right)
        }
        var sizes: [(set: ReplicaSet, size: Int)] = []
        var added = 0
        for set in sorted {
            let share = toAdd == 0 ? 0 : proportion(set, toAdd: toAdd, added: added)
            sizes.append((set, set.wantedReplicas + share))
            added += share
        }
        for (index, entry) in sizes.enumerated() {
            let size = index == 0 ? max(0, entry.size + toAdd - added) : entry.size
            _ = try await scale(entry.set, to: size)
        }
    }

    private func proportion(_ set: ReplicaSet, toAdd: Int, added: Int) -> Int {
        let left = toAdd - added
        guard set.wantedReplicas > 0, left != 0 else { return 0 }
        let fraction: Int
        if deployment.wantedReplicas == 0 {
            fraction = -set.wantedReplicas
        } else {
            let before = set.maxAnnotation ?? deployment.status.replicas ?? 0
            guard before > 0 else { return 0 }
            let grown = Double(set.wantedReplicas * (deployment.wantedReplicas + deployment.maxSurge)) / Double(before)
            fraction = Int(grown.rounded()) - set.wantedReplicas
        }
        return toAdd > 0 ? min(fraction, left) : max(fraction, left)
    }

    /// Sets a replica set's size and the annotations about it; true when its size changed.
    mutating func scale(_ set: ReplicaSet, to size: Int) async throws -> Bool {
        let desired = String(deployment.wantedReplicas)
        let maximum = String(deployment.wantedReplicas + deployment.maxSurge)
        let before = set.wantedReplicas
        guard
            before != size || set.metadata.annotations[DeploymentAnnotation.desiredReplicas] != desired
                || set.metadata.annotations[DeploymentAnnotation.maxReplicas] != maximum
        else { return false }
        var changed = set
        changed.spec.replicas = size
        changed.metadata.annotations[DeploymentAnnotation.desiredReplicas] = desired
        changed.metadata.annotations[DeploymentAnnotation.maxReplicas] = maximum
        replace(try await client.update(changed))
        guard before != size else { return false }
        recorder.record(
            .normal, about: deployment, reason: "ScalingReplicaSet",
            message: "Scaled \(size > before ? "up" : "down") replica set \(set.metadata.name) from \(before) to \(size)")
        return true
    }

    /// Removes the oldest unused replica sets beyond the history limit.
    private mutating func cleanUp() async throws {
        guard let limit = deployment.spec.revisionHistoryLimit, limit != Int(Int32.max) else { return }
        let old = oldSets.filter { !$0.metadata.isBeingDeleted }
        guard old.count > limit else { return }
        for set in old.sorted(by: { $0.revision < $1.revision }).prefix(old.count - limit) {
            guard set.status.replicas == 0, set.wantedReplicas == 0, (set.metadata.generation ?? 0) <= (set.status.observedGeneration ?? 0)
            else { continue }
            do {
                try await client.delete(
                    ReplicaSet.self, namespace: set.metadata.namespace, name: set.metadata.name, uid: set.metadata.uid,
                    propagation: .background)
            } catch let status as APIStatus where status.isNotFound {}
            replicaSets.removeAll { $0.metadata.uid == set.metadata.uid }
        }
    }
}
