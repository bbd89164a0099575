import JSON

/// The roles and bindings that upstream's server makes at start (RBAC bootstrap policy): system users, the three user-facing roles with
/// their aggregation, discovery.
enum DefaultRoles {
    private static let label: JSON = ["kubernetes.io/bootstrapping": "rbac-defaults"]
    private static let update: JSON = ["rbac.authorization.kubernetes.io/autoupdate": "true"]

    private static func metadata(_ name: String, labels: [String: JSON] = [:]) -> JSON {
        var all = label
        for (key, value) in labels.sorted(by: { $0.key < $1.key }) { all[key] = value }
        return ["name": .string(name), "labels": all, "annotations": update]
    }

    static func rule(_ verbs: String, groups: String, _ resources: String, names: [String] = []) -> JSON {
        func list(_ text: String) -> JSON { JSON(text.split(separator: " ").map { $0 == "core" ? "" : String($0) }) }
        var rule: JSON = ["verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)]
        if !names.isEmpty { rule["resourceNames"] = JSON(names) }
        return rule
    }

    private static func paths(_ verbs: String, _ urls: [String]) -> JSON {
        ["verbs": JSON(verbs.split(separator: " ").map(String.init)), "nonResourceURLs": JSON(urls)]
    }

    private static func role(_ name: String, _ rules: [JSON], labels: [String: JSON] = [:]) -> JSON {
        ["metadata": metadata(name, labels: labels), "rules": .array(rules)]
    }

    private static func aggregated(_ name: String, from label: String, _ rules: [JSON]) -> JSON {
        var object = role(name, rules)
        var labels: JSON = [:]
        labels[label] = "true"
        object["aggregationRule"] = ["clusterRoleSelectors": [["matchLabels": labels]]]
        return object
    }

    private static let read = "get list watch"
    private static let write = "create delete deletecollection patch update"

    // What a user may see, and what only an editor may.
    private static let viewRules: [JSON] = [
        rule(read, groups: "core", "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status"),
        rule(read, groups: "core", "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status namespaces"),
        rule(read, groups: "discovery.k8s.io", "endpointslices"),
        rule(read, groups: "apps", "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"),
        rule(read, groups: "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(read, groups: "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(read, groups: "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(read, groups: "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
        rule(read, groups: "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ]

    private static let editRules: [JSON] = [
        rule(read, groups: "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        rule("impersonate", groups: "core", "serviceaccounts"),
        rule(write, groups: "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule("create", groups: "core", "pods/eviction"),
        rule(write, groups: "core", "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy"),
        rule("create", groups: "core", "serviceaccounts/token"),
        rule(write, groups: "apps", "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"),
        rule(write, groups: "autoscaling", "horizontalpodautoscalers"), rule(write, groups: "batch", "cronjobs jobs"),
        rule(write, groups: "policy", "poddisruptionbudgets"), rule(write, groups: "networking.k8s.io", "ingresses networkpolicies"),
        rule(write, groups: "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
        rule("create delete deletecollection get list patch update watch", groups: "coordination.k8s.io", "leases"),
    ]

    private static let adminRules: [JSON] = [
        rule("create", groups: "authorization.k8s.io", "localsubjectaccessreviews"),
        rule("create delete deletecollection get list patch update watch", groups: "rbac.authorization.k8s.io", "rolebindings roles"),
    ]

    private static let requests = "system:certificates.k8s.io:certificatesigningrequests"

    private static func approver(_ signer: String) -> JSON {
        role("system:certificates.k8s.io:\(signer)-approver", [
            rule("approve", groups: "certificates.k8s.io", "signers", names: ["kubernetes.io/\(signer)"]),
        ])
    }

    static var clusterRoles: [JSON] {
        [
            role("cluster-admin", [rule("*", groups: "*", "*"), paths("*", ["*"])]),
            aggregated("admin", from: "rbac.authorization.k8s.io/aggregate-to-admin", adminRules + editRules + viewRules),
            aggregated("edit", from: "rbac.authorization.k8s.io/aggregate-to-edit", editRules + viewRules),
            aggregated("view", from: "rbac.authorization.k8s.io/aggregate-to-view", viewRules),
            role("system:aggregate-to-admin", adminRules, labels: ["rbac.authorization.k8s.io/aggregate-to-admin": "true"]),
            role("system:aggregate-to-edit", editRules, labels: ["rbac.authorization.k8s.io/aggregate-to-edit": "true"]),
            role("system:aggregate-to-view", viewRules, labels: ["rbac.authorization.k8s.io/aggregate-to-view": "true"]),
            role("system:discovery", [paths("get", ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/"])]),
            role("system:public-info-viewer", [paths("get", ["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
            role("system:basic-user", [
                rule("create", groups: "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
                rule("create", groups: "authentication.k8s.io", "selfsubjectreviews"),
            ]),
            role("system:monitoring", [paths("get", ["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"])]),
            role("system:service-account-issuer-discovery", [paths("get", ["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"])]),
            role("system:auth-delegator", [rule("create", groups: "authentication.k8s.io", "tokenreviews"), rule("create", groups: "authorization.k8s.io", "subjectaccessreviews")]),
            role("system:heapster", [rule(read, groups: "core", "events namespaces nodes pods"), rule(read, groups: "apps", "deployments")]),
            role("system:kubelet-api-admin", [rule(read, groups: "core", "nodes"), rule("proxy", groups: "core", "nodes"), rule("*", groups: "core", "nodes/log nodes/metrics nodes/proxy nodes/stats nodes/healthz nodes/pods nodes/configz")]),
            role("system:node-proxier", [
                rule("list watch", groups: "core", "endpoints services"), rule("get list watch", groups: "core", "nodes"),
                rule("create patch update", groups: "core events.k8s.io", "events"), rule("list watch", groups: "discovery.k8s.io", "endpointslices"),
            ]),
            role("system:node-bootstrapper", [rule("create get list watch", groups: "certificates.k8s.io", "certificatesigningrequests")]),
            role(requests + ":nodeclient", [rule("create", groups: "certificates.k8s.io", "certificatesigningrequests/nodeclient")]),
            role(requests + ":selfnodeclient", [rule("create", groups: "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")]),
            // Martlet's own: upstream leaves serving certificates to a human or another controller.
            role(requests + ":selfnodeserver", [rule("create", groups: "certificates.k8s.io", "certificatesigningrequests/selfnodeserver")]),
            approver("legacy-unknown"), approver("kube-apiserver-client"), approver("kube-apiserver-client-kubelet"), approver("kubelet-serving"),
            role("system:node", []),
            role("system:persistent-volume-provisioner", [
                rule("create delete get list watch", groups: "core", "persistentvolumes"), rule("get list update watch", groups: "core", "persistentvolumeclaims"),
                rule(read, groups: "storage.k8s.io", "storageclasses"), rule("create patch update", groups: "core", "events"),
            ]),
            role("system:kube-dns", [rule("list watch", groups: "core", "endpoints services")]),
            role("system:kube-scheduler", [
                rule("create patch update", groups: "core events.k8s.io", "events"), rule("create", groups: "coordination.k8s.io", "leases"),
                rule("get update", groups: "coordination.k8s.io", "leases", names: ["kube-scheduler"]), rule(read, groups: "core", "nodes"),
                rule("delete get list watch", groups: "core", "pods"), rule("create", groups: "core", "bindings pods/binding"),
                rule("patch update", groups: "core", "pods/status"), rule(read, groups: "core", "replicationcontrollers services"),
                rule(read, groups: "apps", "replicasets statefulsets"), rule(read, groups: "policy", "poddisruptionbudgets"),
                rule("get list patch update watch", groups: "core", "persistentvolumeclaims persistentvolumes"),
                rule(read, groups: "storage.k8s.io", "csidrivers csinodes csistoragecapacities storageclasses volumeattachments"),
            ]),
            role("system:kube-controller-manager", [rule("*", groups: "*", "*")]),
        ]
    }

    private static func binding(_ name: String, role: String, _ subjects: [(String, String)]) -> JSON {
        [
            "metadata": metadata(name),
            "roleRef": ["apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": .string(role)],
            "subjects": .array(subjects.map { ["apiGroup": "rbac.authorization.k8s.io", "kind": .string($0.0), "name": .string($0.1)] }),
        ]
    }

    static var clusterRoleBindings: [JSON] {
        [
            binding("cluster-admin", role: "cluster-admin", [("Group", "system:masters")]),
            binding("system:monitoring", role: "system:monitoring", [("Group", "system:monitoring")]),
            binding("system:discovery", role: "system:discovery", [("Group", "system:authenticated")]),
            binding("system:basic-user", role: "system:basic-user", [("Group", "system:authenticated")]),
            binding("system:public-info-viewer", role: "system:public-info-viewer", [("Group", "system:authenticated"), ("Group", "system:unauthenticated")]),
            binding("system:service-account-issuer-discovery", role: "system:service-account-issuer-discovery", [("Group", "system:serviceaccounts")]),
            binding("system:node-proxier", role: "system:node-proxier", [("User", "system:kube-proxy"), ("Group", "system:nodes")]),
            // As kubeadm sets up a cluster that nodes join by token.
            binding("system:node-bootstrapper", role: "system:node-bootstrapper", [("Group", "system:bootstrappers")]),
            binding("system:node-autoapprove-bootstrap", role: requests + ":nodeclient", [("Group", "system:bootstrappers")]),
            binding("system:node-autoapprove-certificate-rotation", role: requests + ":selfnodeclient", [("Group", "system:nodes")]),
            binding("system:node-autoapprove-serving", role: requests + ":selfnodeserver", [("Group", "system:nodes")]),
            binding("system:kube-controller-manager", role: "system:kube-controller-manager", [("User", "system:kube-controller-manager")]),
            binding("system:kube-scheduler", role: "system:kube-scheduler", [("User", "system:kube-scheduler")]),
        ]
    }

    static var roles: [(namespace: String, role: JSON)] {
        [
            ("kube-system", role("extension-apiserver-authentication-reader", [rule(read, groups: "core", "configmaps", names: ["extension-apiserver-authentication"])])),
        ]
    }

    static var roleBindings: [(namespace: String, binding: JSON)] {
        [
            ("kube-system", [
                "metadata": metadata("system::extension-apiserver-authentication-reader"),
                "roleRef": ["apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "extension-apiserver-authentication-reader"],
                "subjects": [
                    ["apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-controller-manager"],
                    ["apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-scheduler"],
                ],
            ]),
        ]
    }
}
