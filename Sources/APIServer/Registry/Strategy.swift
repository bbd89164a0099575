import JSON
import KubeAPI
import KubeMeta

/// What is particular about writing objects of a kind: generation, the status a new object has, what a plain update cannot touch.
struct Strategy: Sendable {
    /// `metadata.generation` counts changes of the spec.
    var hasGeneration: Bool
    /// The status that a create gets, whatever the client sent. Nil: the client's value stays.
    var initialStatus: JSON?
    /// Paths of fields that a write of the main resource resets.
    var resetPaths: [[String]]
    /// Top-level members besides metadata and status whose change raises the generation.
    var allowsUnconditionalUpdate = true
    /// A PUT may create the object.
    var allowsCreateOnUpdate = false
    var nameRule: @Sendable (String) -> [String] = NameRules.subdomainErrors

    private static let generationKinds: Set<String> = [
        "pods", "deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps", "replicationcontrollers", "jobs.batch", "cronjobs.batch",
        "endpointslices.discovery.k8s.io", "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io",
        "networkpolicies.networking.k8s.io", "poddisruptionbudgets.policy", "priorityclasses.scheduling.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io", "validatingadmissionpolicies.admissionregistration.k8s.io",
        "validatingadmissionpolicybindings.admissionregistration.k8s.io", "mutatingadmissionpolicies.admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io", "validatingwebhookconfigurations.admissionregistration.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io", "flowschemas.flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", "resourceslices.resource.k8s.io", "deviceclasses.resource.k8s.io",
    ]

    /// Statuses that Go's zero value of the type gives a new object.
    private static let statuses: [String: JSON] = [
        "deployments.apps": [:], "replicasets.apps": ["replicas": 0], "statefulsets.apps": ["replicas": 0, "availableReplicas": 0],
        "daemonsets.apps": ["currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0],
        "replicationcontrollers": ["replicas": 0], "jobs.batch": [:], "cronjobs.batch": [:], "services": ["loadBalancer": [:]],
        "ingresses.networking.k8s.io": ["loadBalancer": [:]], "persistentvolumeclaims": ["phase": "Pending"], "resourcequotas": [:],
        "poddisruptionbudgets.policy": ["disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0],
        "horizontalpodautoscalers.autoscaling": ["desiredReplicas": 0, "currentMetrics": .null],
        "validatingadmissionpolicies.admissionregistration.k8s.io": [:],
        "certificatesigningrequests.certificates.k8s.io": [:], "flowschemas.flowcontrol.apiserver.k8s.io": [:],
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": [:], "apiservices.apiregistration.k8s.io": [:],
        "namespaces": ["phase": "Active"],
    ]

    static func of(_ resource: ResourceSchema) -> Strategy {
        let name = resource.identity.qualifiedName
        var strategy = Strategy(
            hasGeneration: generationKinds.contains(name), initialStatus: statuses[name],
            resetPaths: resource.hasStatus && name != "nodes" ? [["f:status"]] : [])
        switch name {
        case "services": strategy.nameRule = NameRules.dns1035LabelErrors
        case "namespaces": strategy.nameRule = NameRules.labelErrors
        case "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io",
            "clusterrolebindings.rbac.authorization.k8s.io":
            strategy.nameRule = NameRules.pathSegmentErrors
        case "leases.coordination.k8s.io", "events", "events.events.k8s.io": strategy.allowsCreateOnUpdate = true
        case "endpoints", "limitranges", "persistentvolumeclaims": break
        default: break
        }
        return strategy
    }
}
