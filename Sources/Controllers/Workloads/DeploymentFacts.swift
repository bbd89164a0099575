import JSON
import KubeMeta
import KubeTypes

/// Names that the deployment controller writes on objects.
enum DeploymentAnnotation {
    static let revision = "deployment.kubernetes.io/revision"
    static let revisionHistory = "deployment.kubernetes.io/revision-history"
    static let desiredReplicas = "deployment.kubernetes.io/desired-replicas"
    static let maxReplicas = "deployment.kubernetes.io/max-replicas"
    /// Annotations of a deployment that its replica sets do not inherit.
    static let notInherited: Set<String> = [
        "kubectl.kubernetes.io/last-applied-configuration", revision, revisionHistory, desiredReplicas, maxReplicas,
        "deprecated.deployment.rollback.to",
    ]
}

extension Deployment {
    var wantedReplicas: Int { spec.replicas ?? 1 }
    var isPaused: Bool { spec.paused ?? false }
    var isRollingUpdate: Bool { spec.strategy?.type != "Recreate" }
    /// Absent, or so large that it means "never".
    var progressDeadline: Int? { spec.progressDeadlineSeconds.flatMap { $0 == Int(Int32.max) ? nil : $0 } }

    /// maxSurge rounded up, maxUnavailable rounded down; when both are zero one pod may be missing, else nothing could ever move.
    private var fenceposts: (surge: Int, unavailable: Int) {
        guard isRollingUpdate else { return (0, 0) }
        let surge = spec.strategy?.rollingUpdate?.maxSurge?.scaled(total: wantedReplicas, roundUp: true) ?? 0
        let unavailable = spec.strategy?.rollingUpdate?.maxUnavailable?.scaled(total: wantedReplicas, roundUp: false) ?? 0
        return surge == 0 && unavailable == 0 ? (0, 1) : (surge, unavailable)
    }
    var maxSurge: Int { fenceposts.surge }
    var maxUnavailable: Int { wantedReplicas == 0 ? 0 : min(fenceposts.unavailable, wantedReplicas) }

    func condition(_ type: String) -> DeploymentCondition? { status.conditions.first { $0.type == type } }
}

extension DeploymentStatus {
    func condition(_ type: String) -> DeploymentCondition? { conditions.first { $0.type == type } }

    /// Sets a condition; the same status with the same reason changes nothing, the same status keeps its transition time.
    mutating func set(_ type: String, _ value: String, _ reason: String, _ message: String, now: Double, force: Bool = false) {
        let old = condition(type)
        if let old, !force, old.status == value, old.reason == reason { return }
        var condition = DeploymentCondition()
        condition.type = type
        condition.status = value
        condition.reason = reason
        condition.message = message
        condition.lastUpdateTime = KubeTime.text(now)
        condition.lastTransitionTime = old?.status == value ? old?.lastTransitionTime : KubeTime.text(now)
        conditions.removeAll { $0.type == type }
        conditions.append(condition)
    }
}

extension ReplicaSet {
    var revision: Int { metadata.annotations[DeploymentAnnotation.revision].flatMap { Int($0) } ?? 0 }
    var desiredAnnotation: Int? { metadata.annotations[DeploymentAnnotation.desiredReplicas].flatMap { Int($0) } }
    var maxAnnotation: Int? { metadata.annotations[DeploymentAnnotation.maxReplicas].flatMap { Int($0) } }
    static func isOlder(_ left: ReplicaSet, _ right: ReplicaSet) -> Bool {
        (left.metadata.creationSeconds, left.metadata.name) < (right.metadata.creationSeconds, right.metadata.name)
    }
}
