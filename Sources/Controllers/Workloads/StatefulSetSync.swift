import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// One sync of a StatefulSet.
struct StatefulSetSync {
    let client: KubeClient
    let recorder: EventRecorder
    let claims: Informer<PersistentVolumeClaim>
    let set: StatefulSet
    let pods: [Pod]
    private var status = StatefulSetStatus()
    private var currentRevision = ControllerRevision()
    private var updateRevision = ControllerRevision()

    init(client: KubeClient, recorder: EventRecorder, claims: Informer<PersistentVolumeClaim>, set: StatefulSet, pods: [Pod]) {
        self.client = client
        self.recorder = recorder
        self.claims = claims
        self.set = set
        self.pods = pods
        status = set.status
    }

    private var wanted: Int { self.set.spec.replicas ?? 1 }
    private var start: Int { self.set.spec.ordinals?.start ?? 0 }
    private var isMonotonic: Bool { self.set.spec.podManagementPolicy != "Parallel" }
    private var minReadySeconds: Int { self.set.spec.minReadySeconds ?? 0 }
    private var partition: Int { self.set.spec.updateStrategy?.rollingUpdate?.partition ?? 0 }
    private var isOnDelete: Bool { self.set.spec.updateStrategy?.type == "OnDelete" }

    private func isRunningAndReady(_ pod: Pod) -> Bool { pod.status.phase == "Running" && pod.isReady }
    private func isHealthy(_ pod: Pod) -> Bool { isRunningAndReady(pod) && !pod.metadata.isBeingDeleted }
    private func isAvailable(_ pod: Pod) -> Bool {
        isRunningAndReady(pod) && pod.isAvailable(minReadySeconds: minReadySeconds, now: client.time.now())
    }
    private func revision(_ pod: Pod) -> String { pod.metadata.labels[TemplateHash.revisionLabel] ?? "" }

    /// Seconds after which to look again; nil when an event will tell.
    mutating func run(_ known: [ControllerRevision]) async throws -> Double? {
        let history = RevisionHistory(client: client, owner: set)
        var collisions = set.status.collisionCount
        let (update, all) = try await history.current(
            known, set.spec.template, hashLabel: "controller.kubernetes.io/hash", collisionCount: &collisions)
        updateRevision = update
        currentRevision = all.first { $0.metadata.name == set.status.currentRevision } ?? update
        status.collisionCount = collisions
        count()
        let seconds = try await act()
        complete()
        try await writeStatus()
        let inUse = Set(pods.map(revision)).union([status.currentRevision ?? "", status.updateRevision ?? ""])
        try await history.truncate(all, limit: set.spec.revisionHistoryLimit ?? 10, inUse: inUse)
        return seconds
    }

    private mutating func count() {
        status.observedGeneration = set.metadata.generation
        status.currentRevision = currentRevision.metadata.name
        status.updateRevision = updateRevision.metadata.name
        status.replicas = pods.count
        status.readyReplicas = pods.count(where: isRunningAndReady).nonZero
        status.availableReplicas = pods.count(where: isAvailable)
        let present = pods.filter { !$0.metadata.isBeingDeleted }
        status.currentReplicas = present.count { revision($0) == currentRevision.metadata.name }.nonZero
        status.updatedReplicas = present.count { revision($0) == updateRevision.metadata.name }.nonZero
    }

    private mutating func note(_ pod: Pod, by amount: Int) {
        if revision(pod) == currentRevision.metadata.name {
            status.currentReplicas = max(0, (status.currentReplicas ?? 0) + amount).nonZero
        }
        if revision(pod) == updateRevision.metadata.name { status.updatedReplicas = max(0, (status.updatedReplicas ?? 0) + amount).nonZero }
    }

    private mutating func act() async throws -> Double? {
        let ordinals = start..<(start + max(0, wanted))
        var byOrdinal: [Int: Pod] = [:]
        var condemned: [(ordinal: Int, pod: Pod)] = []
        for pod in pods {
            guard let ordinal = StatefulSetPods.ordinal(pod, of: set) else { continue }
            if ordinals.contains(ordinal) { byOrdinal[ordinal] = pod } else { condemned.append((ordinal, pod)) }
        }
        condemned.sort { $0.ordinal > $1.ordinal }
        let firstUnhealthy =
            ordinals.first { byOrdinal[$0].map(isHealthy) != true }
            ?? condemned.reversed().first { !isHealthy($0.pod) }?.ordinal

        for ordinal in ordinals {
            guard let pod = byOrdinal[ordinal] else {
                let made = try await create(ordinal)
                status.replicas += 1
                note(made, by: 1)
                if isMonotonic { return nil }
                continue
            }
            if pod.isTerminated, !pod.metadata.isBeingDeleted {
                recorder.record(
                    .warning, about: set, reason: pod.status.phase == "Failed" ? "RecreatingFailedPod" : "RecreatingTerminatedPod",
                    message: "StatefulSet \(set.key) is recreating \(pod.status.phase.lowercased()) Pod \(pod.metadata.name)")
                try await delete(pod)
                if isMonotonic { return nil }
                continue
            }
            if pod.metadata.isBeingDeleted {
                if isMonotonic { return nil }
                continue
            }
            if pod.status.phase == "Pending" { try await createClaims(ordinal) }
            if isMonotonic {
                if !isRunningAndReady(pod) { return nil }
                if let seconds = secondsToAvailable(pod) { return seconds }
            }
            try await repairIdentity(pod, ordinal)
            try await repairClaimOwners(ordinal, pod, isCondemned: false)
        }

        for (ordinal, pod) in condemned {
            if pod.metadata.isBeingDeleted {
                if isMonotonic { return nil }
                continue
            }
            if isMonotonic, ordinal != firstUnhealthy {
                if !isRunningAndReady(pod) { return nil }
                if let seconds = secondsToAvailable(pod) { return seconds }
            }
            try await repairClaimOwners(ordinal, pod, isCondemned: true)
            try await delete(pod)
            note(pod, by: -1)
            if isMonotonic { return nil }
        }
        if isOnDelete { return soonestAvailable() }

        // One pod at a time, the highest number first, and only while the ones above it are well.
        let unavailableMax = max(1, set.spec.updateStrategy?.rollingUpdate?.maxUnavailable?.scaled(total: wanted, roundUp: false) ?? 1)
        var unavailable = byOrdinal.values.count { !isHealthy($0) || !isAvailable($0) }
        for ordinal in ordinals.reversed() where ordinal >= start + partition {
            guard let pod = byOrdinal[ordinal] else { return nil }
            if revision(pod) != updateRevision.metadata.name, !pod.metadata.isBeingDeleted {
                // A pod that is not well anyway may go at once.
                if isHealthy(pod), isAvailable(pod) {
                    if unavailable >= unavailableMax { return soonestAvailable() }
                    unavailable += 1
                }
                try await delete(pod)
                note(pod, by: -1)
                if unavailable >= unavailableMax { return nil }
                continue
            }
            if !isHealthy(pod) || !isAvailable(pod) {
                if unavailable >= unavailableMax { return soonestAvailable() }
            }
        }
        return soonestAvailable()
    }

    private func secondsToAvailable(_ pod: Pod) -> Double? {
        guard let at = pod.availableFromSeconds(minReadySeconds: minReadySeconds) else { return nil }
        let seconds = at - client.time.now()
        return seconds > 0 ? seconds : nil
    }

    private func soonestAvailable() -> Double? { pods.compactMap(secondsToAvailable).min() }

    // MARK: Pods and claims

    private func create(_ ordinal: Int) async throws -> Pod {
        try await createClaims(ordinal)
        let usesCurrent = !isOnDelete && ordinal < start + partition
        let revision = usesCurrent ? currentRevision : updateRevision
        let template = RevisionHistory<StatefulSet>.template(revision) ?? set.spec.template
        let pod = StatefulSetPods.pod(set, template, revision: revision.metadata.name, ordinal)
        do {
            let made = try await client.create(pod)
            recorder.record(
                .normal, about: set, reason: "SuccessfulCreate",
                message: "create Pod \(pod.metadata.name) in StatefulSet \(set.metadata.name) successful")
            return made
        } catch {
            if !PodControl.isNamespaceTerminating(error), (error as? APIStatus)?.isAlreadyExists != true {
                recorder.record(
                    .warning, about: set, reason: "FailedCreate",
                    message: "create Pod \(pod.metadata.name) in StatefulSet \(set.metadata.name) failed error: \(error)")
            }
            throw error
        }
    }

    private func createClaims(_ ordinal: Int) async throws {
        for claim in StatefulSetPods.claims(set, ordinal) where claims.get(claim.key) == nil {
            do {
                try await client.create(claim)
                recorder.record(
                    .normal, about: set, reason: "SuccessfulCreate",
                    message:
                        "create Claim \(claim.metadata.name) Pod \(set.metadata.name)-\(ordinal) in StatefulSet \(set.metadata.name) success"
                )
            } catch let status as APIStatus where status.isAlreadyExists {}
        }
    }

    private func delete(_ pod: Pod) async throws {
        do {
            try await client.delete(Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid)
            recorder.record(
                .normal, about: set, reason: "SuccessfulDelete",
                message: "delete Pod \(pod.metadata.name) in StatefulSet \(set.metadata.name) successful")
        } catch let status as APIStatus where status.isNotFound {}
    }

    private func repairIdentity(_ pod: Pod, _ ordinal: Int) async throws {
        guard
            pod.metadata.labels[StatefulSetPods.nameLabel] != pod.metadata.name
                || pod.metadata.labels[StatefulSetPods.indexLabel] != String(ordinal)
        else { return }
        try await client.patch(
            Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .merge,
            [
                "metadata": [
                    "labels": [
                        StatefulSetPods.nameLabel: .string(pod.metadata.name), StatefulSetPods.indexLabel: .string(String(ordinal)),
                    ]
                ]
            ])
    }

    /// The retention policy as owner references: garbage collection does the rest.
    private func repairClaimOwners(_ ordinal: Int, _ pod: Pod, isCondemned: Bool) async throws {
        guard let policy = set.spec.persistentVolumeClaimRetentionPolicy else { return }
        for template in set.spec.volumeClaimTemplates {
            guard
                var claim = claims.get(
                    namespace: set.metadata.namespace, name: StatefulSetPods.claimName(template, set, ordinal))
            else { continue }
            let before = claim.metadata.ownerReferences
            var owners = before.filter { $0.uid != set.metadata.uid && !($0.kind == "Pod" && $0.name == pod.metadata.name) }
            if policy.whenScaled == "Delete", isCondemned {
                var owner = pod.controllerReference
                owner.controller = nil
                owner.blockOwnerDeletion = nil
                owners.append(owner)
            } else if policy.whenDeleted == "Delete" {
                owners.append(set.controllerReference)
            }
            guard owners.map(\.uid) != before.map(\.uid) else { continue }
            claim.metadata.ownerReferences = owners
            try await client.update(claim)
        }
    }

    // MARK: Status

    private mutating func complete() {
        guard !isOnDelete, status.updatedReplicas ?? 0 == status.replicas, status.readyReplicas ?? 0 == status.replicas else { return }
        status.currentReplicas = status.updatedReplicas
        status.currentRevision = status.updateRevision
    }

    func writeStatus() async throws {
        guard status.json != set.status.json else { return }
        var changed = set
        changed.status = status
        do { try await client.updateStatus(changed) } catch let status as APIStatus where status.isNotFound {}
    }
}
