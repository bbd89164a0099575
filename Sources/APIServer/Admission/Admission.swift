import JSON
import KubeAPI
import KubeMeta

/// The built-in admission plug-ins: what upstream turns on by default and a running cluster needs.
final class Admission: Sendable {
    private let hub: CacheHub
    private let schema: Schema

    /// How long a pod's creation waits for the service account controller to make the account it names.
    private static let serviceAccountWaitSeconds = 1.0

    init(hub: CacheHub, schema: Schema) {
        self.hub = hub
        self.schema = schema
    }

    private func object(_ group: String, _ version: String, _ plural: String, namespace: String = "", name: String) -> JSON? {
        resource(group, version, plural).flatMap { hub.cache($0.identity)?.get(namespace: namespace, name: name)?.keptJSON }
    }

    private func resource(_ group: String, _ version: String, _ plural: String) -> ResourceSchema? {
        schema.resource(group: group, version: version, plural: plural)
    }

    private func all(_ group: String, _ version: String, _ plural: String, namespace: String = "") -> [JSON] {
        guard let resource = resource(group, version, plural) else { return [] }
        return (hub.cache(resource.identity)?.all(namespace: namespace) ?? []).map(\.keptJSON)
    }

    // MARK: Create

    /// Changes and checks a new object. Returns warnings.
    func admitCreate(_ object: inout JSON, _ resource: ResourceSchema, namespace: String, _ options: WriteOptions) async throws -> [String] {
        let kind = resource.identity
        if kind.namespaced { try checkNamespace(namespace, object, kind) }
        switch kind.qualifiedName {
        case "pods":
            try await serviceAccount(&object, namespace: namespace, kind)
            try nodeRestriction(object, kind, options.user)
            try priority(&object, kind)
            try runtimeClass(&object, kind)
            tolerations(&object)
            try LimitRanges.apply(&object, ranges: all("", "v1", "limitranges", namespace: namespace), kind)
        case "persistentvolumeclaims":
            defaultStorageClass(&object)
            protect(&object, "kubernetes.io/pvc-protection")
        case "persistentvolumes": protect(&object, "kubernetes.io/pv-protection")
        case "ingresses.networking.k8s.io": defaultIngressClass(&object)
        case "nodes":
            if object["metadata"]?["name"]?.string.map({ options.user.nodeName != nil && options.user.nodeName != $0 }) == true {
                throw Self.forbidden(kind, object, "node \"\(options.user.nodeName ?? "")\" is not allowed to modify node \"\(object["metadata"]?["name"]?.string ?? "")\"")
            }
            notReadyTaint(&object)
        case "certificatesigningrequests.certificates.k8s.io": requester(&object, options.user)
        case "priorityclasses.scheduling.k8s.io":
            if object["globalDefault"]?.bool == true, all("scheduling.k8s.io", "v1", "priorityclasses").contains(where: { $0["globalDefault"]?.bool == true }) {
                throw Self.forbidden(kind, object, "a PriorityClass is already marked as default, only one default can exist")
            }
        default: break
        }
        return []
    }

    func admitUpdate(
        _ new: inout JSON, _ old: JSON, _ resource: ResourceSchema, namespace: String, _ scope: WriteScope, _ options: WriteOptions
    ) async throws -> [String] {
        let kind = resource.identity
        if let node = options.user.nodeName {
            switch kind.qualifiedName {
            case "nodes":
                if new["metadata"]?["name"]?.string != node {
                    throw Self.forbidden(kind, new, "node \"\(node)\" is not allowed to modify node \"\(new["metadata"]?["name"]?.string ?? "")\"")
                }
                if new["spec"]?["taints"] != old["spec"]?["taints"] {
                    throw Self.forbidden(kind, new, "node \"\(node)\" is not allowed to modify taints")
                }
            case "pods":
                if old["spec"]?["nodeName"]?.string != node {
                    throw Self.forbidden(
                        kind, new, "node \"\(node)\" can only update pod status for pods with spec.nodeName set to itself")
                }
            default: break
            }
        }
        return []
    }

    func admitDelete(_ object: JSON, _ resource: ResourceSchema, namespace: String, name: String, _ user: UserInfo) throws {
        let kind = resource.identity
        if kind.qualifiedName == "namespaces", ["default", "kube-system", "kube-public"].contains(name) {
            throw APIStatus.forbidden("namespaces \"\(name)\" is forbidden: this namespace may not be deleted", kind: kind, name: name)
        }
        if let node = user.nodeName, kind.qualifiedName == "pods", object["spec"]?["nodeName"]?.string != node {
            throw Self.forbidden(kind, object, "node \"\(node)\" can only delete pods with spec.nodeName set to itself")
        }
    }

    static func forbidden(_ kind: ResourceKind, _ object: JSON, _ reason: String) -> APIStatus {
        let name = object["metadata"]?["name"]?.string ?? ""
        return .forbidden("\(kind.qualifiedName) \"\(name)\" is forbidden: \(reason)", kind: kind, name: name)
    }

    // MARK: NamespaceLifecycle

    private func checkNamespace(_ namespace: String, _ object: JSON, _ kind: ResourceKind) throws {
        guard let found = self.object("", "v1", "namespaces", name: namespace) else {
            let namespaces = ResourceKind(group: "", version: "v1", plural: "namespaces", kind: "Namespace", namespaced: false)
            throw APIStatus.notFound(namespaces, name: namespace)
        }
        if found["metadata"]?["deletionTimestamp"] != nil, kind.plural != "events" {
            var status = Self.forbidden(
                kind, object, "unable to create new content in namespace \(namespace) because it is being terminated")
            status.causes = [
                APIStatus.Cause(reason: "NamespaceTerminating", message: "namespace \(namespace) is being terminated", field: "metadata.namespace")
            ]
            throw status
        }
    }

    // MARK: ServiceAccount

    private static let tokenVolumePrefix = "kube-api-access-"
    private static let tokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"
    /// An hour and a little, so that a token older than an hour is seen as such (upstream's figure).
    private static let tokenExpirationSeconds: JSON = 3607

    private func serviceAccount(_ pod: inout JSON, namespace: String, _ kind: ResourceKind) async throws {
        // A static pod's mirror has no account.
        if pod["metadata"]?["annotations"]?["kubernetes.io/config.mirror"] != nil { return }
        var name = pod["spec"]?["serviceAccountName"]?.string ?? pod["spec"]?["serviceAccount"]?.string ?? ""
        if name.isEmpty { name = "default" }
        pod.set(.string(name), at: "spec", "serviceAccountName")
        pod.set(.string(name), at: "spec", "serviceAccount")
        var account = object("", "v1", "serviceaccounts", namespace: namespace, name: name)
        var waited = 0.0
        while account == nil, waited < Self.serviceAccountWaitSeconds {
            try await Task.sleep(nanoseconds: 20_000_000)
            waited += 0.02
            account = object("", "v1", "serviceaccounts", namespace: namespace, name: name)
        }
        guard let account else {
            throw Self.forbidden(kind, pod, "error looking up service account \(namespace)/\(name): serviceaccount \"\(name)\" not found")
        }
        if pod["spec"]?["imagePullSecrets"] == nil, let secrets = account["imagePullSecrets"] { pod.set(secrets, at: "spec", "imagePullSecrets") }
        let mounts = pod["spec"]?["automountServiceAccountToken"]?.bool ?? account["automountServiceAccountToken"]?.bool ?? true
        if mounts { mountToken(&pod) }
    }

    private func mountToken(_ pod: inout JSON) {
        let volumes = pod["spec"]?["volumes"]?.array ?? []
        var volumeName = volumes.compactMap { $0["name"]?.string }.first { $0.hasPrefix(Self.tokenVolumePrefix) }
        var needed = false
        let name = volumeName ?? Self.tokenVolumePrefix + RandomNames.suffix()
        pod.change("spec") { spec in
            for list in ["initContainers", "containers"] {
                spec.changeEach(list) { container in
                    let existing = container["volumeMounts"]?.array ?? []
                    if existing.contains(where: { $0["mountPath"]?.string == Self.tokenMountPath }) { return }
                    needed = true
                    container["volumeMounts"] = .array(
                        existing + [["name": .string(name), "readOnly": true, "mountPath": .string(Self.tokenMountPath)]])
                }
            }
        }
        guard needed, volumeName == nil else { return }
        volumeName = name
        let volume: JSON = [
            "name": .string(name),
            "projected": [
                "sources": [
                    ["serviceAccountToken": ["expirationSeconds": Self.tokenExpirationSeconds, "path": "token"]],
                    ["configMap": ["name": "kube-root-ca.crt", "items": [["key": "ca.crt", "path": "ca.crt"]]]],
                    ["downwardAPI": ["items": [["path": "namespace", "fieldRef": ["apiVersion": "v1", "fieldPath": "metadata.namespace"]]]]],
                ], "defaultMode": 420,
            ],
        ]
        pod.set(.array(volumes + [volume]), at: "spec", "volumes")
    }

    // MARK: Priority, RuntimeClass, DefaultTolerationSeconds

    private func priority(_ pod: inout JSON, _ kind: ResourceKind) throws {
        let name = pod["spec"]?["priorityClassName"]?.string ?? ""
        var value: JSON = 0
        var policy: JSON = "PreemptLowerPriority"
        if !name.isEmpty {
            guard let found = object("scheduling.k8s.io", "v1", "priorityclasses", name: name) else {
                throw Self.forbidden(kind, pod, "no PriorityClass with name \(name) was found")
            }
            value = found["value"] ?? 0
            policy = found["preemptionPolicy"] ?? policy
        } else if let standard = all("scheduling.k8s.io", "v1", "priorityclasses").first(where: { $0["globalDefault"]?.bool == true }) {
            value = standard["value"] ?? 0
            policy = standard["preemptionPolicy"] ?? policy
            pod.set(standard["metadata"]?["name"], at: "spec", "priorityClassName")
        }
        if let sent = pod["spec"]?["priority"], sent != value {
            throw Self.forbidden(
                kind, pod,
                "the integer value of priority (\(sent.text)) must not be provided in pod spec; priority admission controller computed \(value.text) from the given PriorityClass name")
        }
        pod.set(value, at: "spec", "priority")
        if pod["spec"]?["preemptionPolicy"] == nil { pod.set(policy, at: "spec", "preemptionPolicy") }
    }

    private func runtimeClass(_ pod: inout JSON, _ kind: ResourceKind) throws {
        guard let name = pod["spec"]?["runtimeClassName"]?.string else { return }
        guard let found = object("node.k8s.io", "v1", "runtimeclasses", name: name) else {
            throw Self.forbidden(kind, pod, "pod rejected: RuntimeClass \"\(name)\" not found")
        }
        if let overhead = found["overhead"]?["podFixed"] { pod.set(overhead, at: "spec", "overhead") }
        for (key, value) in found["scheduling"]?["nodeSelector"]?.object ?? [:] { pod.set(value, at: "spec", "nodeSelector", key) }
        if let extra = found["scheduling"]?["tolerations"]?.array {
            pod.set(.array((pod["spec"]?["tolerations"]?.array ?? []) + extra), at: "spec", "tolerations")
        }
    }

    private func tolerations(_ pod: inout JSON) {
        var list = pod["spec"]?["tolerations"]?.array ?? []
        for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
            let tolerated = list.contains { toleration in
                let named = toleration["key"]?.string ?? ""
                let effect = toleration["effect"]?.string ?? ""
                return (named == key || named.isEmpty) && (effect == "NoExecute" || effect.isEmpty)
            }
            if !tolerated {
                list.append(["key": .string(key), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300])
            }
        }
        pod.set(.array(list), at: "spec", "tolerations")
    }

    private func nodeRestriction(_ pod: JSON, _ kind: ResourceKind, _ user: UserInfo) throws {
        guard let node = user.nodeName else { return }
        guard pod["metadata"]?["annotations"]?["kubernetes.io/config.mirror"] != nil else {
            throw Self.forbidden(
                kind, pod, "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"\(node)\" can only create mirror pods")
        }
        guard pod["spec"]?["nodeName"]?.string == node else {
            throw Self.forbidden(kind, pod, "node \"\(node)\" can only create pods with spec.nodeName set to itself")
        }
    }

    // MARK: Storage, ingress, nodes, certificates

    private func defaultStorageClass(_ claim: inout JSON) {
        guard claim["spec"]?["storageClassName"] == nil,
            claim["metadata"]?["annotations"]?["volume.beta.kubernetes.io/storage-class"] == nil
        else { return }
        let defaults = all("storage.k8s.io", "v1", "storageclasses").filter {
            $0["metadata"]?["annotations"]?["storageclass.kubernetes.io/is-default-class"]?.string == "true"
        }
        // The newest default wins, then the first by name (KEP-3333).
        let chosen = defaults.max { left, right in
            let leftTime = left["metadata"]?["creationTimestamp"]?.string ?? ""
            let rightTime = right["metadata"]?["creationTimestamp"]?.string ?? ""
            if leftTime != rightTime { return leftTime < rightTime }
            return (left["metadata"]?["name"]?.string ?? "") > (right["metadata"]?["name"]?.string ?? "")
        }
        if let name = chosen?["metadata"]?["name"] { claim.set(name, at: "spec", "storageClassName") }
    }

    private func defaultIngressClass(_ ingress: inout JSON) {
        guard ingress["spec"]?["ingressClassName"] == nil,
            ingress["metadata"]?["annotations"]?["kubernetes.io/ingress.class"] == nil
        else { return }
        let standard = all("networking.k8s.io", "v1", "ingressclasses").first {
            $0["metadata"]?["annotations"]?["ingressclass.kubernetes.io/is-default-class"]?.string == "true"
        }
        if let name = standard?["metadata"]?["name"] { ingress.set(name, at: "spec", "ingressClassName") }
    }

    private func protect(_ object: inout JSON, _ finalizer: JSON) {
        let list = object["metadata"]?["finalizers"]?.array ?? []
        if !list.contains(finalizer) { object.set(.array(list + [finalizer]), at: "metadata", "finalizers") }
    }

    /// TaintNodesByCondition: a new node takes no pods before it has been seen to be ready.
    private func notReadyTaint(_ node: inout JSON) {
        let taints = node["spec"]?["taints"]?.array ?? []
        if taints.contains(where: { $0["key"]?.string == "node.kubernetes.io/not-ready" && $0["effect"]?.string == "NoSchedule" }) { return }
        node.set(.array(taints + [["key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"]]), at: "spec", "taints")
    }

    private func requester(_ request: inout JSON, _ user: UserInfo) {
        request.set(.string(user.name), at: "spec", "username")
        request.set(user.uid.isEmpty ? nil : .string(user.uid), at: "spec", "uid")
        request.set(JSON(user.groups), at: "spec", "groups")
        if !user.extra.isEmpty { request.set(user.json["extra"], at: "spec", "extra") }
    }
}
