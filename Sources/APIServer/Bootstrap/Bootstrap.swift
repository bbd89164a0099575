import JSON
import KubeAPI
import KubeMeta
import Store

/// What every cluster has from its first moment: namespaces, roles, priority classes, the Services
/// `kubernetes` and `kube-dns`. Written in one transaction when the store is new, and completed when something is missing.
struct Bootstrap {
    let server: APIServer

    func run() async throws {
        var objects: [(ResourceSchema, String, JSON)] = []
        func add(_ group: String, _ version: String, _ plural: String, _ namespace: String, _ object: JSON) {
            guard let resource = server.schema.resource(group: group, version: version, plural: plural) else { return }
            let name = object["metadata"]?["name"]?.string ?? ""
            if server.registry.find(resource, namespace: namespace, name: name) != nil { return }
            var object = Registry.withKind(object, resource.identity)
            if !namespace.isEmpty { object.set(.string(namespace), at: "metadata", "namespace") }
            object.set(.string(RandomNames.uuid()), at: "metadata", "uid")
            object.set(server.registry.now(), at: "metadata", "creationTimestamp")
            if Strategy.of(resource).hasGeneration { object.set(1, at: "metadata", "generation") }
            Defaults.apply(to: &object, type: resource.type)
            objects.append((resource, namespace, object))
        }
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            add("", "v1", "namespaces", "", [
                "metadata": ["name": .string(name), "labels": ["kubernetes.io/metadata.name": .string(name)]],
                "spec": ["finalizers": ["kubernetes"]], "status": ["phase": "Active"],
            ])
        }
        for role in DefaultRoles.clusterRoles { add(Escalation.group, "v1", "clusterroles", "", role) }
        for binding in DefaultRoles.clusterRoleBindings { add(Escalation.group, "v1", "clusterrolebindings", "", binding) }
        for (namespace, role) in DefaultRoles.roles { add(Escalation.group, "v1", "roles", namespace, role) }
        for (namespace, binding) in DefaultRoles.roleBindings { add(Escalation.group, "v1", "rolebindings", namespace, binding) }
        for (name, value, text) in [
            ("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
            ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        ] {
            add("scheduling.k8s.io", "v1", "priorityclasses", "", ["metadata": ["name": .string(name)], "value": JSON(value), "description": .string(text)])
        }
        add("networking.k8s.io", "v1", "servicecidrs", "", [
            "metadata": ["name": "kubernetes"], "spec": ["cidrs": [.string(server.configuration.serviceCIDR)]],
        ])
        addServices(add)
        try await write(objects)
        try await refreshEndpoint()
    }

    private var serviceAddress: String {
        let base = server.configuration.serviceCIDR.split(separator: "/").first.map(String.init) ?? "10.96.0.0"
        return Allocators.text((Allocators.number(base) ?? 0x0A60_0000) + 1)
    }

    private func addServices(_ add: (String, String, String, String, JSON) -> Void) {
        add("", "v1", "services", "default", [
            "metadata": ["name": "kubernetes", "labels": ["component": "apiserver", "provider": "kubernetes"]],
            "spec": service(serviceAddress, [["name": "https", "protocol": "TCP", "port": 443, "targetPort": JSON(server.configuration.port)]]),
            "status": ["loadBalancer": [:]],
        ])
        add("discovery.k8s.io", "v1", "endpointslices", "default", endpointSlice)
        add("", "v1", "endpoints", "default", endpoints)
        if let address = server.configuration.clusterDNSAddress {
            add("", "v1", "services", "kube-system", [
                "metadata": [
                    "name": "kube-dns",
                    "labels": ["k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"],
                ],
                "spec": service(
                    address,
                    [
                        ["name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53],
                        ["name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53],
                    ]), "status": ["loadBalancer": [:]],
            ])
        }
    }

    private func service(_ address: String, _ ports: JSON) -> JSON {
        [
            "type": "ClusterIP", "clusterIP": .string(address), "clusterIPs": [.string(address)], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": ports,
        ]
    }

    private var endpointSlice: JSON {
        [
            "metadata": ["name": "kubernetes", "labels": ["kubernetes.io/service-name": "kubernetes"]], "addressType": "IPv4",
            "endpoints": [["addresses": [.string(server.configuration.advertiseAddress)], "conditions": ["ready": true]]],
            "ports": [["name": "https", "port": JSON(server.configuration.port), "protocol": "TCP"]],
        ]
    }

    private var endpoints: JSON {
        [
            "metadata": ["name": "kubernetes", "labels": ["endpointslice.kubernetes.io/skip-mirror": "true"]],
            "subsets": [
                [
                    "addresses": [["ip": .string(server.configuration.advertiseAddress)]],
                    "ports": [["name": "https", "port": JSON(server.configuration.port), "protocol": "TCP"]],
                ]
            ],
        ]
    }

    private func write(_ objects: [(ResourceSchema, String, JSON)]) async throws {
        guard !objects.isEmpty else { return }
        let operations = try objects.map { resource, namespace, object in
            WriteOperation.create(
                try server.registry.cache(resource).key(namespace: namespace, name: object["metadata"]?["name"]?.string ?? ""),
                StoredCodec.encode(object))
        }
        _ = try await server.hub.store.writeAll(operations)
        server.registry.allocators.load(objects.filter { $0.0.identity.plural == "services" }.map { $0.2 })
    }

    /// The server may have moved to another address since the last start.
    private func refreshEndpoint() async throws {
        var options = WriteOptions(user: .component("kube-apiserver"))
        options.fieldManager = "kube-apiserver"
        for (group, plural, field, wanted) in [
            ("discovery.k8s.io", "endpointslices", ["endpoints", "ports"], endpointSlice), ("", "endpoints", ["subsets"], endpoints),
        ] {
            guard let resource = server.schema.resource(group: group, version: "v1", plural: plural) else { continue }
            _ = try await server.registry.modify(resource, namespace: "default", name: "kubernetes", scope: .main, options, expected: "") { object in
                var object = object
                for name in field { object[name] = wanted[name] }
                return object
            }
        }
    }
}
