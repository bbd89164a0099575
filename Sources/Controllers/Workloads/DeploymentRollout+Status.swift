import KubeClient
import KubeMeta
import KubeTypes

extension DeploymentRollout {
    func calculatedStatus() -> DeploymentStatus {
        let available = replicaSets.reduce(0) { $0 + ($1.status.availableReplicas ?? 0) }
        var status = DeploymentStatus()
        status.observedGeneration = deployment.metadata.generation
        status.replicas = replicaSets.reduce(0) { $0 + $1.status.replicas }.nonZero
        status.updatedReplicas = (newSet?.status.replicas ?? 0).nonZero
        status.readyReplicas = replicaSets.reduce(0) { $0 + ($1.status.readyReplicas ?? 0) }.nonZero
        status.availableReplicas = available.nonZero
        status.unavailableReplicas = max(0, replicaSets.reduce(0) { $0 + $1.wantedReplicas } - available).nonZero
        if replicaSets.allSatisfy({ $0.status.terminatingReplicas != nil }) {
            status.terminatingReplicas = replicaSets.reduce(0) { $0 + ($1.status.terminatingReplicas ?? 0) }
        }
        status.collisionCount = deployment.status.collisionCount
        status.conditions = deployment.status.conditions
        if available >= deployment.wantedReplicas - deployment.maxUnavailable {
            status.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now: now)
        } else {
            status.set("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", now: now)
        }
        return status
    }

    mutating func writeStatus(_ status: DeploymentStatus) async throws {
        guard status.json != deployment.status.json else { return }
        var changed = deployment
        changed.status = status
        deployment = try await client.updateStatus(changed)
    }

    func isComplete(_ status: DeploymentStatus) -> Bool {
        let wanted = deployment.wantedReplicas
        return status.updatedReplicas ?? 0 == wanted && status.replicas ?? 0 == wanted && status.availableReplicas ?? 0 == wanted
            && status.observedGeneration ?? 0 >= deployment.metadata.generation ?? 0
    }

    private func hasProgressed(_ new: DeploymentStatus) -> Bool {
        let old = deployment.status
        func count(_ value: Int?) -> Int { value ?? 0 }
        return count(new.updatedReplicas) > count(old.updatedReplicas)
            || count(new.replicas) - count(new.updatedReplicas) < count(old.replicas) - count(old.updatedReplicas)
            || count(new.readyReplicas) > count(old.readyReplicas) || count(new.availableReplicas) > count(old.availableReplicas)
    }

    private func hasTimedOut() -> Bool {
        guard let deadline = deployment.progressDeadline, let condition = deployment.condition("Progressing") else { return false }
        if condition.reason == "NewReplicaSetAvailable" { return false }
        if condition.reason == "ProgressDeadlineExceeded" { return true }
        return (condition.lastUpdateTime.flatMap(KubeTime.parse) ?? now) + Double(deadline) <= now
    }

    /// The status with the condition that says how the rollout is getting on.
    mutating func writeRolloutStatus() async throws {
        var status = calculatedStatus()
        let current = deployment.condition("Progressing")
        if deployment.progressDeadline == nil { status.conditions.removeAll { $0.type == "Progressing" } }
        let wasComplete =
            status.replicas ?? 0 == status.updatedReplicas ?? 0 && current?.reason == "NewReplicaSetAvailable"
        if deployment.progressDeadline != nil, !wasComplete {
            let name = newSet.map { "ReplicaSet \"\($0.metadata.name)\"" } ?? "Deployment \"\(deployment.metadata.name)\""
            if isComplete(status) {
                status.set("Progressing", "True", "NewReplicaSetAvailable", "\(name) has successfully progressed.", now: now)
            } else if hasProgressed(status) {
                status.set("Progressing", "True", "ReplicaSetUpdated", "\(name) is progressing.", now: now, force: true)
            } else if hasTimedOut() {
                status.set("Progressing", "False", "ProgressDeadlineExceeded", "\(name) has timed out progressing.", now: now)
            }
        }
        let failure = ([newSet].compactMap { $0 } + oldSets).lazy.compactMap { set in
            set.status.conditions.first { $0.type == "ReplicaFailure" }
        }.first
        if let failure {
            status.set("ReplicaFailure", failure.status, failure.reason, failure.message, now: now)
        } else {
            status.conditions.removeAll { $0.type == "ReplicaFailure" }
        }
        try await writeStatus(status)
    }

    mutating func noteWhetherPaused() async throws {
        guard deployment.progressDeadline != nil else { return }
        let condition = deployment.condition("Progressing")
        if condition?.reason == "ProgressDeadlineExceeded" { return }
        var status = deployment.status
        if deployment.isPaused, condition?.reason != "DeploymentPaused" {
            status.set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now: now)
        } else if !deployment.isPaused, condition?.reason == "DeploymentPaused" {
            status.set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", now: now)
        } else {
            return
        }
        try await writeStatus(status)
    }

    /// When the deadline must be looked at again; nil when there is nothing to wait for.
    func secondsToDeadline() -> Double? {
        guard let deadline = deployment.progressDeadline, let condition = deployment.condition("Progressing"), !deployment.isPaused,
            !isComplete(deployment.status), condition.reason != "NewReplicaSetAvailable", condition.reason != "ProgressDeadlineExceeded"
        else { return nil }
        return max(0, (condition.lastUpdateTime.flatMap(KubeTime.parse) ?? now) + Double(deadline) - now) + 1
    }
}
