import KubeMeta
import KubeTypes

/// The kinds of the API that have objects of their own.
enum BuiltInKinds {
    private static func kind(_ group: String, _ version: String, _ plural: String, _ kind: String, _ namespaced: Bool = true)
        -> ResourceKind
    {
        ResourceKind(group: group, version: version, plural: plural, kind: kind, namespaced: namespaced)
    }

    static let all: [ResourceKind] = [
        Pod.resource, Service.resource, Endpoints.resource, ConfigMap.resource, Secret.resource, ServiceAccount.resource,
        PersistentVolumeClaim.resource, ReplicationController.resource, ResourceQuota.resource, LimitRange.resource, Event.resource,
        kind("", "v1", "podtemplates", "PodTemplate"),
        Namespace.resource, Node.resource, PersistentVolume.resource,
        Deployment.resource, ReplicaSet.resource, StatefulSet.resource, DaemonSet.resource, ControllerRevision.resource,
        Job.resource, CronJob.resource,
        kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
        PodDisruptionBudget.resource, EndpointSlice.resource, Lease.resource,
        kind("networking.k8s.io", "v1", "ingresses", "Ingress"),
        kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        kind("networking.k8s.io", "v1", "ingressclasses", "IngressClass", false),
        kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
        kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
        kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", false),
        ClusterRole.resource, StorageClass.resource, PriorityClass.resource, RuntimeClass.resource,
    ]
}
