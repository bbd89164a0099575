package import JSON
import KubeMeta

/// Fills in what upstream's defaulting functions fill in, kind by kind. Runs on decoded, canonical objects.
package enum Defaults {
    /// - Parameter type: the kind's type, for example `apps/v1.Deployment`.
    package static func apply(to object: inout JSON, type: TypeSchema) {
        guard let rule = rules[type.name] else { return }
        rule(&object)
    }

    private typealias Rule = @Sendable (inout JSON) -> Void

    private static let rules: [String: Rule] = [
        "core/v1.Pod": { object in
            object.change("spec") { spec in
                // A container with limits alone asks for what it may use.
                PodDefaults.requestsFromLimits(&spec)
                PodDefaults.spec(&spec)
                if spec["enableServiceLinks"] == nil { spec["enableServiceLinks"] = true }
            }
        },
        "core/v1.PodTemplate": { $0.change("template", PodDefaults.template) },
        "core/v1.ReplicationController": { object in
            if let labels = object["spec"]?["template"]?["metadata"]?["labels"] {
                object.change("spec") { $0.fill("selector", labels) }
                if object["metadata"]?["labels"] == nil { object.set(labels, at: "metadata", "labels") }
            }
            object.change("spec") { spec in
                spec.fill("replicas", 1)
                spec.change("template", PodDefaults.template)
            }
        },
        "apps/v1.Deployment": { object in
            object.change("spec") { spec in
                spec.fill("replicas", 1)
                spec.fill("strategy", [:])
                spec.change("strategy") { strategy in
                    strategy.fill("type", "RollingUpdate")
                    if strategy["type"]?.string == "RollingUpdate" {
                        strategy.fill("rollingUpdate", [:])
                        strategy.change("rollingUpdate") {
                            $0.fill("maxUnavailable", "25%")
                            $0.fill("maxSurge", "25%")
                        }
                    }
                }
                spec.fill("revisionHistoryLimit", 10)
                spec.fill("progressDeadlineSeconds", 600)
                spec.change("template", PodDefaults.template)
            }
        },
        "apps/v1.ReplicaSet": { object in
            object.change("spec") { spec in
                spec.fill("replicas", 1)
                spec.change("template", PodDefaults.template)
            }
        },
        "apps/v1.StatefulSet": { object in
            object.change("spec") { spec in
                spec.fill("podManagementPolicy", "OrderedReady")
                spec.fill("updateStrategy", [:])
                spec.change("updateStrategy") { strategy in
                    strategy.fill("type", "RollingUpdate")
                    if strategy["type"]?.string == "RollingUpdate" {
                        strategy.fill("rollingUpdate", [:])
                        strategy.change("rollingUpdate") { $0.fill("partition", 0) }
                    }
                }
                spec.fill("persistentVolumeClaimRetentionPolicy", [:])
                spec.change("persistentVolumeClaimRetentionPolicy") {
                    $0.fill("whenDeleted", "Retain")
                    $0.fill("whenScaled", "Retain")
                }
                spec.fill("replicas", 1)
                spec.fill("revisionHistoryLimit", 10)
                spec.change("template", PodDefaults.template)
                spec.changeEach("volumeClaimTemplates") { claim in
                    claim.fill("kind", "PersistentVolumeClaim")
                    claim.fill("apiVersion", "v1")
                    claim.fill("spec", [:])
                    claim.change("spec") { $0.fill("volumeMode", "Filesystem") }
                    claim.fill("status", [:])
                    claim.change("status") { $0.fill("phase", "Pending") }
                }
            }
        },
        "apps/v1.DaemonSet": { object in
            object.change("spec") { spec in
                spec.fill("updateStrategy", [:])
                spec.change("updateStrategy") { strategy in
                    strategy.fill("type", "RollingUpdate")
                    if strategy["type"]?.string == "RollingUpdate" {
                        strategy.fill("rollingUpdate", [:])
                        strategy.change("rollingUpdate") {
                            $0.fill("maxUnavailable", 1)
                            $0.fill("maxSurge", 0)
                        }
                    }
                }
                spec.fill("revisionHistoryLimit", 10)
                spec.change("template", PodDefaults.template)
            }
        },
        "batch/v1.Job": { $0.change("spec", job) },
        "batch/v1.CronJob": { object in
            object.change("spec") { spec in
                spec.fill("concurrencyPolicy", "Allow")
                spec.fill("suspend", false)
                spec.fill("successfulJobsHistoryLimit", 3)
                spec.fill("failedJobsHistoryLimit", 1)
                spec.change("jobTemplate") { template in
                    template.change("spec") { spec in spec.change("template", PodDefaults.template) }
                }
            }
        },
        "core/v1.Service": { object in object.change("spec", service) },
        "core/v1.Secret": { $0.fill("type", "Opaque") },
        "core/v1.Endpoints": { object in
            object.changeEach("subsets") { $0.changeEach("ports") { $0.fill("protocol", "TCP") } }
        },
        "discovery/v1.EndpointSlice": { object in
            object.changeEach("ports") {
                $0.fill("name", "")
                $0.fill("protocol", "TCP")
            }
        },
        "core/v1.Namespace": { object in
            object.fill("spec", [:])
            object.fill("status", [:])
            object.change("status") { $0.fill("phase", "Active") }
            if let name = object["metadata"]?["name"]?.string, !name.isEmpty {
                object.set(.string(name), at: "metadata", "labels", "kubernetes.io/metadata.name")
            }
        },
        "core/v1.Node": { object in
            object.fill("spec", [:])
            object.change("spec") { spec in if let cidr = spec["podCIDR"] { spec.fill("podCIDRs", .array([cidr])) } }
            object.fill("status", [:])
            object.change("status") { status in
                if status["allocatable"] == nil, let capacity = status["capacity"] { status["allocatable"] = capacity }
            }
        },
        "core/v1.PersistentVolume": { object in
            object.fill("spec", [:])
            object.change("spec") { spec in
                spec.fill("persistentVolumeReclaimPolicy", "Retain")
                spec.fill("volumeMode", "Filesystem")
                if spec["hostPath"] != nil { spec.change("hostPath") { $0.fill("type", "") } }
            }
            object.fill("status", [:])
            object.change("status") { $0.fill("phase", "Pending") }
        },
        "core/v1.PersistentVolumeClaim": { object in
            object.fill("spec", [:])
            object.change("spec") { $0.fill("volumeMode", "Filesystem") }
            object.fill("status", [:])
            object.change("status") { $0.fill("phase", "Pending") }
        },
        "core/v1.LimitRange": { object in
            object.change("spec") { spec in
                spec.changeEach("limits") { limit in
                    guard limit["type"]?.string == "Container" else { return }
                    if let max = limit["max"]?.object {
                        limit.fill("default", [:])
                        limit.change("default") { for (name, value) in max { $0.fill(name, value) } }
                    }
                    if let standard = limit["default"]?.object {
                        limit.fill("defaultRequest", [:])
                        limit.change("defaultRequest") { for (name, value) in standard { $0.fill(name, value) } }
                    }
                    if let min = limit["min"]?.object {
                        limit.fill("defaultRequest", [:])
                        limit.change("defaultRequest") { for (name, value) in min { $0.fill(name, value) } }
                    }
                }
            }
        },
        "storage/v1.StorageClass": { object in
            object.fill("reclaimPolicy", "Delete")
            object.fill("volumeBindingMode", "Immediate")
        },
        "storage/v1.CSIDriver": { object in
            object.change("spec") { spec in
                spec.fill("attachRequired", true)
                spec.fill("podInfoOnMount", false)
                spec.fill("storageCapacity", false)
                spec.fill("fsGroupPolicy", "ReadWriteOnceWithFSType")
                spec.fill("volumeLifecycleModes", ["Persistent"])
                spec.fill("requiresRepublish", false)
                spec.fill("seLinuxMount", false)
            }
        },
        "networking/v1.Ingress": { $0.fill("status", ["loadBalancer": [:]]) },
        "networking/v1.IngressClass": { object in
            if object["spec"]?["parameters"] != nil {
                object.change("spec") { $0.change("parameters") { $0.fill("scope", "Cluster") } }
            }
        },
        "networking/v1.NetworkPolicy": { object in
            object.change("spec") { spec in
                for direction in ["ingress", "egress"] {
                    spec.changeEach(direction) { rule in rule.changeEach("ports") { $0.fill("protocol", "TCP") } }
                }
                if spec["policyTypes"] == nil {
                    spec["policyTypes"] = spec["egress"]?.array?.isEmpty == false ? ["Ingress", "Egress"] : ["Ingress"]
                }
            }
        },
        "rbac/v1.ClusterRoleBinding": binding, "rbac/v1.RoleBinding": binding,
        "scheduling/v1.PriorityClass": { $0.fill("preemptionPolicy", "PreemptLowerPriority") },
        "autoscaling/v2.HorizontalPodAutoscaler": { object in
            object.change("spec") { spec in
                spec.fill("minReplicas", 1)
                if spec["metrics"]?.array?.isEmpty ?? true {
                    spec["metrics"] = [
                        ["type": "Resource", "resource": ["name": "cpu", "target": ["type": "Utilization", "averageUtilization": 80]]]
                    ]
                }
            }
        },
        "autoscaling/v1.HorizontalPodAutoscaler": { object in object.change("spec") { $0.fill("minReplicas", 1) } },
        "certificates/v1.CertificateSigningRequest": { object in
            object.change("spec") { $0.fill("usages", ["digital signature", "key encipherment"]) }
        },
        "admissionregistration/v1.ValidatingWebhookConfiguration": { $0.changeEach("webhooks", webhook) },
        "admissionregistration/v1.MutatingWebhookConfiguration": { object in
            object.changeEach("webhooks") { hook in
                webhook(&hook)
                hook.fill("reinvocationPolicy", "Never")
            }
        },
        "admissionregistration/v1.ValidatingAdmissionPolicy": { object in
            object.change("spec") { spec in
                spec.fill("failurePolicy", "Fail")
                spec.change("matchConstraints", matchResources)
            }
        },
        "admissionregistration/v1.ValidatingAdmissionPolicyBinding": { object in
            object.change("spec") { $0.change("matchResources", matchResources) }
        },
        "apiextensions/v1.CustomResourceDefinition": { object in
            object.change("spec") { spec in
                spec.fill("conversion", ["strategy": "None"])
                spec.change("names") { names in
                    if let kind = names["kind"]?.string {
                        names.fill("singular", .string(kind.lowercased()))
                        names.fill("listKind", .string(kind + "List"))
                    }
                }
            }
        },
        "apiregistration/v1.APIService": { object in
            object.change("spec") { spec in
                if spec["service"] != nil { spec.change("service") { $0.fill("port", 443) } }
            }
        },
        "flowcontrol/v1.PriorityLevelConfiguration": { object in
            object.change("spec") { spec in
                spec.change("limited") { limited in
                    limited.fill("nominalConcurrencyShares", 30)
                    limited.fill("lendablePercent", 0)
                }
                if spec["exempt"] != nil {
                    spec.change("exempt") { exempt in
                        exempt.fill("nominalConcurrencyShares", 0)
                        exempt.fill("lendablePercent", 0)
                    }
                }
            }
        },
        "flowcontrol/v1.FlowSchema": { object in object.change("spec") { $0.fill("matchingPrecedence", 1000) } },
    ]

    private static let binding: Rule = { object in
        object.change("roleRef") { $0.fill("apiGroup", "rbac.authorization.k8s.io") }
        object.changeEach("subjects") { subject in
            switch subject["kind"]?.string {
            case "User", "Group": subject.fill("apiGroup", "rbac.authorization.k8s.io")
            default: break
            }
        }
    }

    private static let matchResources: Rule = { match in
        match.fill("matchPolicy", "Equivalent")
        match.fill("namespaceSelector", [:])
        match.fill("objectSelector", [:])
        match.changeEach("resourceRules") { $0.fill("scope", "*") }
        match.changeEach("excludeResourceRules") { $0.fill("scope", "*") }
    }

    private static let webhook: Rule = { hook in
        hook.fill("failurePolicy", "Fail")
        hook.fill("matchPolicy", "Equivalent")
        hook.fill("namespaceSelector", [:])
        hook.fill("objectSelector", [:])
        hook.fill("timeoutSeconds", 10)
        hook.changeEach("rules") { $0.fill("scope", "*") }
        hook.change("clientConfig") { config in
            if config["service"] != nil { config.change("service") { $0.fill("port", 443) } }
        }
    }

    private static let job: Rule = { spec in
        let indexed = spec["completionMode"]?.string == "Indexed"
        if spec["completions"] == nil, spec["parallelism"] == nil {
            spec["completions"] = 1
            spec["parallelism"] = 1
        }
        spec.fill("parallelism", 1)
        spec.fill("completionMode", "NonIndexed")
        spec.fill("backoffLimit", indexed && spec["backoffLimitPerIndex"] != nil ? 2_147_483_647 : 6)
        spec.fill("suspend", false)
        spec.fill("manualSelector", false)
        spec.fill("podReplacementPolicy", spec["podFailurePolicy"] == nil ? "TerminatingOrFailed" : "Failed")
        if spec["podFailurePolicy"] != nil {
            spec.change("podFailurePolicy") { policy in
                policy.changeEach("rules") { rule in rule.changeEach("onPodConditions") { $0.fill("status", "True") } }
            }
        }
        spec.change("template", PodDefaults.template)
    }

    private static let service: Rule = { spec in
        spec.fill("sessionAffinity", "None")
        if spec["sessionAffinity"]?.string == "ClientIP", spec["sessionAffinityConfig"] == nil {
            spec["sessionAffinityConfig"] = ["clientIP": ["timeoutSeconds": 10800]]
        }
        spec.fill("type", "ClusterIP")
        spec.changeEach("ports") { port in
            port.fill("protocol", "TCP")
            if let number = port["port"] {
                switch port["targetPort"] {
                case nil, .int(0), .string(""): port["targetPort"] = number
                default: break
                }
            }
        }
        let type = spec["type"]?.string
        if type == "NodePort" || type == "LoadBalancer" { spec.fill("externalTrafficPolicy", "Cluster") }
        if type != "ExternalName" { spec.fill("internalTrafficPolicy", "Cluster") }
        if type == "LoadBalancer" { spec.fill("allocateLoadBalancerNodePorts", true) }
    }
}

extension JSON {
    /// Sets a member that is absent. A nil value changes nothing.
    package mutating func fill(_ key: String, _ value: JSON?) {
        guard let value, self[key] == nil else { return }
        self[key] = value
    }

    /// Changes a member that is present, in place.
    package mutating func change(_ key: String, _ body: (inout JSON) -> Void) {
        guard case .object(var object) = self, object[key] != nil else { return }
        self = .null
        object.update(key, body)
        self = .object(object)
    }

    /// Changes every element of a member list.
    package mutating func changeEach(_ key: String, _ body: (inout JSON) -> Void) {
        change(key) { value in
            guard case .array(var elements) = value else { return }
            value = .null
            for index in elements.indices { body(&elements[index]) }
            value = .array(elements)
        }
    }
}
