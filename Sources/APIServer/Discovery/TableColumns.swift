import JSON
import KubeMeta

/// The columns of each kind, as upstream's printers have them.
enum TableColumns {
    typealias Column = Tables.Column

    static func of(_ kind: ResourceKind) -> [Column] { byKind[kind.qualifiedName] ?? standard }

    private static let name = Column("Name", path: "metadata.name", description: "Name of the object.")
    private static let age = Column("Age", description: "Time since the object was created.") { object, now in
        Tables.age(object["metadata"]?["creationTimestamp"], now)
    }
    private static let createdAt = Column("Created At", type: "date", path: "metadata.creationTimestamp", description: "When the object was created.")
    private static let standard = [name, Column("Created At", type: "date", path: "metadata.creationTimestamp", description: "When the object was created.")]

    private static func count(_ name: String, _ path: String, wide: Bool = false) -> Column {
        Column(name, type: "integer", wide: wide, path: path, fallback: 0)
    }

    /// `a,b` of the containers of a pod spec.
    private static func containers(_ name: String, _ field: String, at path: String) -> Column {
        let steps = path.split(separator: ".").map(String.init)
        return Column(name, wide: true) { object, _ in
            .string((object.value(at: steps)?.array ?? []).compactMap { $0[field]?.string }.joined(separator: ","))
        }
    }

    private static func selector(_ path: String, wide: Bool = true) -> Column {
        let steps = path.split(separator: ".").map(String.init)
        return Column("Selector", wide: wide) { object, _ in
            guard let value = object.value(at: steps) else { return "<none>" }
            if value["matchLabels"] != nil || value["matchExpressions"] != nil {
                let text = Selector(labelSelector: value).text
                return .string(text.isEmpty ? "<none>" : text)
            }
            let pairs = (value.object ?? [:]).map { "\($0.key)=\($0.value.string ?? "")" }.sorted()
            return .string(pairs.isEmpty ? "<none>" : pairs.joined(separator: ","))
        }
    }

    private static func dataCount(_ fields: String...) -> Column {
        Column("Data", type: "integer") { object, _ in JSON(fields.reduce(0) { $0 + (object[$1]?.object?.count ?? 0) }) }
    }

    private static func joined(_ values: [String], none: String = "<none>") -> JSON {
        .string(values.isEmpty ? none : values.joined(separator: ","))
    }

    private static let podImages = containers("Images", "image", at: "spec.template.spec.containers")
    private static let podContainers = containers("Containers", "name", at: "spec.template.spec.containers")

    private static let byKind: [String: [Column]] = [
        "pods": PodColumns.all,
        "deployments.apps": [
            name,
            Column("Ready", description: "Number of the pod with ready state") { object, _ in
                .string("\(object["status"]?["readyReplicas"]?.int ?? 0)/\(object["spec"]?["replicas"]?.int ?? 0)")
            }, count("Up-to-date", "status.updatedReplicas"), count("Available", "status.availableReplicas"), age, podContainers, podImages,
            selector("spec.selector"),
        ],
        "replicasets.apps": [
            name, count("Desired", "spec.replicas"), count("Current", "status.replicas"), count("Ready", "status.readyReplicas"), age,
            podContainers, podImages, selector("spec.selector"),
        ],
        "replicationcontrollers": [
            name, count("Desired", "spec.replicas"), count("Current", "status.replicas"), count("Ready", "status.readyReplicas"), age,
            podContainers, podImages, selector("spec.selector"),
        ],
        "statefulsets.apps": [
            name,
            Column("Ready") { object, _ in
                .string("\(object["status"]?["readyReplicas"]?.int ?? 0)/\(object["spec"]?["replicas"]?.int ?? 0)")
            }, age, podContainers, podImages,
        ],
        "daemonsets.apps": [
            name, count("Desired", "status.desiredNumberScheduled"), count("Current", "status.currentNumberScheduled"),
            count("Ready", "status.numberReady"), count("Up-to-date", "status.updatedNumberScheduled"),
            count("Available", "status.numberAvailable"),
            Column("Node Selector") { object, _ in
                joined((object["spec"]?["template"]?["spec"]?["nodeSelector"]?.object ?? [:]).map { "\($0.key)=\($0.value.string ?? "")" }.sorted())
            }, age, podContainers, podImages, selector("spec.selector"),
        ],
        "controllerrevisions.apps": [
            name,
            Column("Controller") { object, _ in
                let owner = (object["metadata"]?["ownerReferences"]?.array ?? []).first { $0["controller"]?.bool == true }
                guard let owner, let kind = owner["kind"]?.string, let name = owner["name"]?.string else { return "<none>" }
                let group = (owner["apiVersion"]?.string ?? "").split(separator: "/").dropLast().joined()
                return .string("\(kind.lowercased())\(group.isEmpty ? "" : "." + group)/\(name)")
            }, count("Revision", "revision"), age,
        ],
        "jobs.batch": [
            name,
            Column("Status") { object, _ in
                for condition in object["status"]?["conditions"]?.array ?? [] where condition["status"]?.string == "True" {
                    switch condition["type"]?.string {
                    case "Complete"?: return "Complete"
                    case "Failed"?: return "Failed"
                    case "Suspended"?: return "Suspended"
                    case "FailureTarget"?: return "FailureTarget"
                    default: continue
                    }
                }
                return object["metadata"]?["deletionTimestamp"] != nil ? "Terminating" : "Running"
            },
            Column("Completions") { object, _ in
                let done = object["status"]?["succeeded"]?.int ?? 0
                if let wanted = object["spec"]?["completions"]?.int { return .string("\(done)/\(wanted)") }
                let parallel = object["spec"]?["parallelism"]?.int ?? 0
                return .string(parallel > 1 ? "\(done)/1 of \(parallel)" : "\(done)/1")
            },
            Column("Duration") { object, now in
                guard let start = object["status"]?["startTime"]?.string.flatMap(KubeTime.parse) else { return "" }
                let end = object["status"]?["completionTime"]?.string.flatMap(KubeTime.parse) ?? now
                return .string(Tables.duration(end - start))
            }, age, podContainers, podImages, selector("spec.selector"),
        ],
        "cronjobs.batch": [
            name, Column("Schedule", path: "spec.schedule"), Column("Timezone", path: "spec.timeZone", fallback: "<none>"),
            Column("Suspend", type: "boolean") { object, _ in .string(object["spec"]?["suspend"]?.bool == true ? "True" : "False") },
            Column("Active", type: "integer") { object, _ in JSON(object["status"]?["active"]?.array?.count ?? 0) },
            Column("Last Schedule") { object, now in
                object["status"]?["lastScheduleTime"] == nil ? "<none>" : Tables.age(object["status"]?["lastScheduleTime"], now)
            }, age, containers("Containers", "name", at: "spec.jobTemplate.spec.template.spec.containers"),
            containers("Images", "image", at: "spec.jobTemplate.spec.template.spec.containers"), selector("spec.jobTemplate.spec.selector"),
        ],
        "services": [
            name, Column("Type", path: "spec.type"),
            Column("Cluster-IP") { object, _ in
                let address = object["spec"]?["clusterIP"]?.string ?? ""
                return .string(address.isEmpty ? "<none>" : address)
            },
            Column("External-IP") { object, _ in
                let spec = object["spec"]
                if spec?["type"]?.string == "ExternalName" { return spec?["externalName"] ?? "<none>" }
                var addresses = (spec?["externalIPs"]?.array ?? []).compactMap(\.string)
                let ingress = (object["status"]?["loadBalancer"]?["ingress"]?.array ?? []).compactMap { ($0["ip"] ?? $0["hostname"])?.string }
                if spec?["type"]?.string == "LoadBalancer" {
                    if ingress.isEmpty, addresses.isEmpty { return "<pending>" }
                    addresses = ingress + addresses
                }
                return joined(addresses)
            },
            Column("Port(s)") { object, _ in
                joined(
                    (object["spec"]?["ports"]?.array ?? []).map { port in
                        let node = port["nodePort"]?.int ?? 0
                        let text = node > 0 ? "\(port["port"]?.int ?? 0):\(node)" : "\(port["port"]?.int ?? 0)"
                        return "\(text)/\(port["protocol"]?.string ?? "TCP")"
                    })
            }, age, selector("spec.selector"),
        ],
        "endpoints": [
            name,
            Column("Endpoints") { object, _ in
                var all: [String] = []
                for subset in object["subsets"]?.array ?? [] {
                    let addresses = (subset["addresses"]?.array ?? []).compactMap { $0["ip"]?.string }
                    let ports = (subset["ports"]?.array ?? []).compactMap { $0["port"]?.int }
                    for port in ports { all += addresses.map { "\($0):\(port)" } }
                    if ports.isEmpty { all += addresses }
                }
                if all.count > 3 { return .string(all.prefix(3).joined(separator: ",") + " + \(all.count - 3) more...") }
                return joined(all)
            }, age,
        ],
        "endpointslices.discovery.k8s.io": [
            name, Column("AddressType", path: "addressType"),
            Column("Ports") { object, _ in
                joined((object["ports"]?.array ?? []).map { $0["port"]?.int.map(String.init) ?? "*" }, none: "<unset>")
            },
            Column("Endpoints") { object, _ in
                let all = (object["endpoints"]?.array ?? []).flatMap { ($0["addresses"]?.array ?? []).compactMap(\.string) }
                if all.count > 3 { return .string(all.prefix(3).joined(separator: ",") + " + \(all.count - 3) more...") }
                return joined(all, none: "<unset>")
            }, age,
        ],
        "nodes": NodeColumns.all,
        "namespaces": [name, Column("Status", path: "status.phase"), age],
        "configmaps": [name, dataCount("data", "binaryData"), age],
        "secrets": [name, Column("Type", path: "type"), dataCount("data"), age],
        "serviceaccounts": [name, Column("Secrets", type: "integer") { object, _ in JSON(object["secrets"]?.array?.count ?? 0) }, age],
        "persistentvolumes": [
            name, Column("Capacity", path: "spec.capacity.storage"),
            Column("Access Modes") { object, _ in .string(accessModes(object["spec"]?["accessModes"])) },
            Column("Reclaim Policy", path: "spec.persistentVolumeReclaimPolicy"),
            Column("Status") { object, _ in terminating(object) ?? object["status"]?["phase"] ?? "" },
            Column("Claim") { object, _ in
                guard let claim = object["spec"]?["claimRef"] else { return "" }
                return .string("\(claim["namespace"]?.string ?? "")/\(claim["name"]?.string ?? "")")
            }, Column("StorageClass", path: "spec.storageClassName"),
            Column("VolumeAttributesClass", path: "spec.volumeAttributesClassName", fallback: "<unset>"), Column("Reason", path: "status.reason"),
            age, Column("VolumeMode", wide: true, path: "spec.volumeMode", fallback: "<unset>"),
        ],
        "persistentvolumeclaims": [
            name, Column("Status") { object, _ in terminating(object) ?? object["status"]?["phase"] ?? "" },
            Column("Volume", path: "spec.volumeName"),
            Column("Capacity") { object, _ in
                object["spec"]?["volumeName"] == nil ? "" : object["status"]?["capacity"]?["storage"] ?? ""
            },
            Column("Access Modes") { object, _ in
                object["spec"]?["volumeName"] == nil ? "" : .string(accessModes(object["status"]?["accessModes"]))
            }, Column("StorageClass", path: "spec.storageClassName"),
            Column("VolumeAttributesClass", path: "spec.volumeAttributesClassName", fallback: "<unset>"), age,
            Column("VolumeMode", wide: true, path: "spec.volumeMode", fallback: "<unset>"),
        ],
        "storageclasses.storage.k8s.io": [
            Column("Name") { object, _ in
                let name = object["metadata"]?["name"]?.string ?? ""
                let isDefault = object["metadata"]?["annotations"]?["storageclass.kubernetes.io/is-default-class"]?.string == "true"
                return .string(isDefault ? "\(name) (default)" : name)
            }, Column("Provisioner", path: "provisioner"), Column("ReclaimPolicy", path: "reclaimPolicy", fallback: "Delete"),
            Column("VolumeBindingMode", path: "volumeBindingMode", fallback: "Immediate"),
            Column("AllowVolumeExpansion") { object, _ in .bool(object["allowVolumeExpansion"]?.bool ?? false) }, age,
        ],
        "events": [
            Column("Last Seen") { object, now in
                Tables.age(object["series"]?["lastObservedTime"] ?? object["lastTimestamp"] ?? object["eventTime"] ?? object["metadata"]?["creationTimestamp"], now)
            }, Column("Type", path: "type"), Column("Reason", path: "reason"),
            Column("Object") { object, _ in
                .string("\((object["involvedObject"]?["kind"]?.string ?? "").lowercased())/\(object["involvedObject"]?["name"]?.string ?? "")")
            }, Column("Subobject", wide: true, path: "involvedObject.fieldPath"),
            Column("Source", wide: true) { object, _ in
                let component = object["source"]?["component"]?.string ?? object["reportingComponent"]?.string ?? ""
                let host = object["source"]?["host"]?.string ?? ""
                return .string(host.isEmpty ? component : "\(component), \(host)")
            }, Column("Message", path: "message"),
            Column("First Seen", wide: true) { object, now in Tables.age(object["firstTimestamp"] ?? object["eventTime"], now) },
            Column("Count", type: "integer", wide: true, path: "count", fallback: 1), Column("Name", wide: true, path: "metadata.name"),
        ],
        "ingresses.networking.k8s.io": [
            name, Column("Class", path: "spec.ingressClassName", fallback: "<none>"),
            Column("Hosts") { object, _ in joined((object["spec"]?["rules"]?.array ?? []).map { $0["host"]?.string ?? "*" }, none: "*") },
            Column("Address") { object, _ in
                joined((object["status"]?["loadBalancer"]?["ingress"]?.array ?? []).compactMap { ($0["ip"] ?? $0["hostname"])?.string }, none: "")
            }, Column("Ports") { object, _ in object["spec"]?["tls"]?.array?.isEmpty == false ? "80, 443" : "80" }, age,
        ],
        "ingressclasses.networking.k8s.io": [name, Column("Controller", path: "spec.controller"), Column("Parameters", path: "spec.parameters.name", fallback: "<none>"), age],
        "networkpolicies.networking.k8s.io": [name, Column("Pod-Selector") { object, _ in
            let text = Selector(labelSelector: object["spec"]?["podSelector"] ?? [:]).text
            return .string(text.isEmpty ? "<none>" : text)
        }, age],
        "poddisruptionbudgets.policy": [
            name, Column("Min Available", path: "spec.minAvailable", fallback: "N/A"),
            Column("Max Unavailable", path: "spec.maxUnavailable", fallback: "N/A"), count("Allowed Disruptions", "status.disruptionsAllowed"), age,
        ],
        "horizontalpodautoscalers.autoscaling": [
            name,
            Column("Reference") { object, _ in
                .string("\(object["spec"]?["scaleTargetRef"]?["kind"]?.string ?? "")/\(object["spec"]?["scaleTargetRef"]?["name"]?.string ?? "")")
            }, Column("Targets") { _, _ in "<unknown>" }, Column("MinPods", path: "spec.minReplicas", fallback: "<unset>"),
            count("MaxPods", "spec.maxReplicas"), count("Replicas", "status.currentReplicas"), age,
        ],
        "resourcequotas": [
            name,
            Column("Request") { object, _ in quota(object) { !$0.hasPrefix("limits.") } },
            Column("Limit") { object, _ in quota(object) { $0.hasPrefix("limits.") } }, age,
        ],
        "priorityclasses.scheduling.k8s.io": [
            name, count("Value", "value"), Column("Global-Default", type: "boolean") { object, _ in .bool(object["globalDefault"]?.bool ?? false) }, age,
            Column("PreemptionPolicy", path: "preemptionPolicy"),
        ],
        "leases.coordination.k8s.io": [name, Column("Holder", path: "spec.holderIdentity"), age],
        "roles.rbac.authorization.k8s.io": [name, createdAt], "clusterroles.rbac.authorization.k8s.io": [name, createdAt],
        "rolebindings.rbac.authorization.k8s.io": [name, roleReference, age] + subjects,
        "clusterrolebindings.rbac.authorization.k8s.io": [name, roleReference, age] + subjects,
        "certificatesigningrequests.certificates.k8s.io": [
            name, age, Column("SignerName", path: "spec.signerName"), Column("Requestor", path: "spec.username"),
            Column("RequestedDuration") { object, _ in
                object["spec"]?["expirationSeconds"]?.int.map { .string(Tables.duration(Double($0))) } ?? "<none>"
            },
            Column("Condition") { object, _ in
                var states = (object["status"]?["conditions"]?.array ?? []).compactMap { $0["type"]?.string }
                if states.isEmpty { states = ["Pending"] }
                if object["status"]?["certificate"] != nil { states.append("Issued") }
                return joined(states)
            },
        ],
        "customresourcedefinitions.apiextensions.k8s.io": [name, createdAt],
    ]

    private static let roleReference = Column("Role") { object, _ in
        .string("\(object["roleRef"]?["kind"]?.string ?? "")/\(object["roleRef"]?["name"]?.string ?? "")")
    }

    private static let subjects: [Column] = [("Users", "User"), ("Groups", "Group"), ("ServiceAccounts", "ServiceAccount")].map { title, kind in
        Column(title, wide: true) { object, _ in
            .string(
                (object["subjects"]?.array ?? []).filter { $0["kind"]?.string == kind }.map { subject in
                    let name = subject["name"]?.string ?? ""
                    return kind == "ServiceAccount" ? "\(subject["namespace"]?.string ?? "")/\(name)" : name
                }.joined(separator: ", "))
        }
    }

    private static func terminating(_ object: JSON) -> JSON? { object["metadata"]?["deletionTimestamp"] == nil ? nil : "Terminating" }

    private static func quota(_ object: JSON, _ include: (String) -> Bool) -> JSON {
        let hard = object["status"]?["hard"]?.object ?? object["spec"]?["hard"]?.object ?? [:]
        return .string(
            hard.filter { include($0.key) }.sorted { $0.key < $1.key }.map { name, value in
                "\(name): \(object["status"]?["used"]?[name]?.string ?? "0")/\(value.string ?? "")"
            }.joined(separator: ", "))
    }

    private static func accessModes(_ modes: JSON?) -> String {
        let short = ["ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"]
        return (modes?.array ?? []).compactMap { $0.string.map { short[$0] ?? $0 } }.joined(separator: ",")
    }
}
