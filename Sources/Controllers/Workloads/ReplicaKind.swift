import JSON
import KubeMeta
import KubeTypes

/// What ReplicaSet and ReplicationController have in common, so that one controller serves both.
protocol ReplicaKind: KubeObject {
    static var controllerName: String { get }
    static var eventComponent: String { get }
    var wantedReplicas: Int { get }
    var podSelector: Selector { get }
    var minReadySeconds: Int { get }
    var podTemplate: PodTemplateSpec { get }
    var replicaStatus: ReplicaStatus { get set }
}

/// The status of either kind.
struct ReplicaStatus {
    var replicas = 0
    var fullyLabeled = 0
    var ready = 0
    var available = 0
    var terminating: Int?
    var observedGeneration: Int?
    var conditions: [ReplicaSetCondition] = []
}

extension ReplicaSet: ReplicaKind {
    static var controllerName: String { "replicaset-controller" }
    static var eventComponent: String { "replicaset-controller" }
    var wantedReplicas: Int { spec.replicas ?? 1 }
    var podSelector: Selector { spec.selector.selector }
    var minReadySeconds: Int { spec.minReadySeconds ?? 0 }
    var podTemplate: PodTemplateSpec { spec.template }
    var replicaStatus: ReplicaStatus {
        get {
            ReplicaStatus(
                replicas: status.replicas, fullyLabeled: status.fullyLabeledReplicas ?? 0, ready: status.readyReplicas ?? 0,
                available: status.availableReplicas ?? 0, terminating: status.terminatingReplicas,
                observedGeneration: status.observedGeneration, conditions: status.conditions)
        }
        set {
            status.replicas = newValue.replicas
            status.fullyLabeledReplicas = newValue.fullyLabeled.nonZero
            status.readyReplicas = newValue.ready.nonZero
            status.availableReplicas = newValue.available.nonZero
            status.terminatingReplicas = newValue.terminating
            status.observedGeneration = newValue.observedGeneration
            status.conditions = newValue.conditions
        }
    }
}

extension ReplicationController: ReplicaKind {
    static var controllerName: String { "replicationcontroller-controller" }
    static var eventComponent: String { "replication-controller" }
    var wantedReplicas: Int { spec.replicas ?? 1 }
    var podSelector: Selector { Selector(matchLabels: spec.selector) }
    var minReadySeconds: Int { spec.minReadySeconds ?? 0 }
    var podTemplate: PodTemplateSpec { spec.template }
    var replicaStatus: ReplicaStatus {
        get {
            ReplicaStatus(
                replicas: status.replicas, fullyLabeled: status.fullyLabeledReplicas ?? 0, ready: status.readyReplicas ?? 0,
                available: status.availableReplicas ?? 0, observedGeneration: status.observedGeneration,
                conditions: status.conditions.map { ReplicaSetCondition(json: $0.json) })
        }
        set {
            status.replicas = newValue.replicas
            status.fullyLabeledReplicas = newValue.fullyLabeled.nonZero
            status.readyReplicas = newValue.ready.nonZero
            status.availableReplicas = newValue.available.nonZero
            status.observedGeneration = newValue.observedGeneration
            status.conditions = newValue.conditions.map { ReplicationControllerCondition(json: $0.json) }
        }
    }
}
