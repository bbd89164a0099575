import JSON
import KubeAPI
import NIOHTTP1
import KubeMeta
import Testing

/// The least that an object of a kind needs beside its name.
enum MinimalObjects {
    private static let template: JSON = ["metadata": ["labels": ["a": "b"]], "spec": podSpec]
    private static let workload: JSON = ["spec": ["selector": ["matchLabels": ["a": "b"]], "template": template]]
    private static let job: JSON = ["template": ["spec": ["restartPolicy": "Never", "containers": [["name": "c", "image": "i"]]]]]
    private static let webhook: JSON = [
        "webhooks": [
            [
                "name": "a.example.com", "clientConfig": ["url": "https://example.com"], "sideEffects": "None", "admissionReviewVersions": ["v1"],
            ]
        ]
    ]
    private static let storage: JSON = ["resources": ["requests": ["storage": "1Gi"]], "accessModes": ["ReadWriteOnce"]]
    private static let reference: JSON = ["involvedObject": ["namespace": "all", "kind": "Pod", "name": "p"], "reason": "R", "message": "m", "type": "Normal"]

    static let bodies: [String: JSON] = [
        "events": reference,
        "events.events.k8s.io": [
            "eventTime": "2026-11-23T16:04:05.000000Z", "reportingController": "example.com/c", "reportingInstance": "i", "action": "A", "reason": "R",
            "type": "Normal", "regarding": ["kind": "Pod", "name": "p", "namespace": "all"],
        ],
        "limitranges": ["spec": ["limits": [["type": "Container", "max": ["cpu": "1"]]]]], "persistentvolumeclaims": ["spec": storage],
        "persistentvolumes": [
            "spec": ["capacity": ["storage": "1Gi"], "accessModes": ["ReadWriteOnce"], "hostPath": ["path": "/tmp/x"]]
        ],
        "pods": ["spec": podSpec], "podtemplates": ["template": template],
        "replicationcontrollers": ["spec": ["selector": ["a": "b"], "template": template]], "resourcequotas": ["spec": ["hard": ["pods": "1000"]]],
        "services": ["spec": ["ports": [["port": 80]]]],
        "apiservices.apiregistration.k8s.io": ["spec": ["group": "x.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service": ["name": "s", "namespace": "all"], "insecureSkipTLSVerify": true]],
        "controllerrevisions.apps": ["revision": 1, "data": ["a": 1]], "daemonsets.apps": workload, "deployments.apps": workload,
        "replicasets.apps": workload, "statefulsets.apps": ["spec": ["selector": ["matchLabels": ["a": "b"]], "template": template, "serviceName": "s"]],
        "horizontalpodautoscalers.autoscaling": ["spec": ["maxReplicas": 3, "scaleTargetRef": ["kind": "Deployment", "name": "d", "apiVersion": "apps/v1"]]],
        "cronjobs.batch": ["spec": ["schedule": "* * * * *", "jobTemplate": ["spec": job]]], "jobs.batch": ["spec": job],
        "certificatesigningrequests.certificates.k8s.io": [
            "spec": ["request": .string(certificateRequest), "signerName": "example.com/s", "usages": ["client auth"]]
        ],
        "ingressclasses.networking.k8s.io": ["spec": ["controller": "example.com/c"]],
        "ingresses.networking.k8s.io": ["spec": ["defaultBackend": ["service": ["name": "s", "port": ["number": 80]]]]],
        "ipaddresses.networking.k8s.io": ["spec": ["parentRef": ["resource": "services", "namespace": "all", "name": "s"]]],
        "networkpolicies.networking.k8s.io": ["spec": ["podSelector": [:]]], "servicecidrs.networking.k8s.io": ["spec": ["cidrs": ["10.200.0.0/24"]]],
        "poddisruptionbudgets.policy": ["spec": ["minAvailable": 1, "selector": ["matchLabels": ["a": "b"]]]],
        "clusterrolebindings.rbac.authorization.k8s.io": ["roleRef": ["apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"]],
        "rolebindings.rbac.authorization.k8s.io": ["roleRef": ["apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"]],
        "csidrivers.storage.k8s.io": ["spec": [:]], "csinodes.storage.k8s.io": ["spec": ["drivers": []]],
        "csistoragecapacities.storage.k8s.io": ["storageClassName": "s"], "storageclasses.storage.k8s.io": ["provisioner": "example.com/p"],
        "volumeattachments.storage.k8s.io": ["spec": ["attacher": "a", "nodeName": "n", "source": ["persistentVolumeName": "v"]]],
        "volumeattributesclasses.storage.k8s.io": ["driverName": "example.com", "parameters": ["a": "b"]],
        "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhook, "validatingwebhookconfigurations.admissionregistration.k8s.io": webhook,
        "validatingadmissionpolicies.admissionregistration.k8s.io": [
            "spec": ["matchConstraints": ["resourceRules": [["apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]]]], "validations": [["expression": "true"]]]
        ],
        "validatingadmissionpolicybindings.admissionregistration.k8s.io": ["spec": ["policyName": "p", "validationActions": ["Deny"]]],
        "mutatingadmissionpolicies.admissionregistration.k8s.io": [
            "spec": [
                "reinvocationPolicy": "Never",
                "matchConstraints": ["resourceRules": [["apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]]]],
                "mutations": [["patchType": "JSONPatch", "jsonPatch": ["expression": "[]"]]],
            ]
        ],
        "mutatingadmissionpolicybindings.admissionregistration.k8s.io": ["spec": ["policyName": "p"]],
        "customresourcedefinitions.apiextensions.k8s.io": [
            "spec": [
                "group": "example.com", "scope": "Namespaced", "names": ["plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"],
                "versions": [["name": "v1", "served": true, "storage": true, "schema": ["openAPIV3Schema": ["type": "object"]]]],
            ]
        ],
        "priorityclasses.scheduling.k8s.io": ["value": 5], "leases.coordination.k8s.io": ["spec": ["holderIdentity": "h", "leaseDurationSeconds": 10]],
        "runtimeclasses.node.k8s.io": ["handler": "runc"], "endpointslices.discovery.k8s.io": ["addressType": "IPv4", "endpoints": [["addresses": ["10.0.0.1"]]]],
        "deviceclasses.resource.k8s.io": ["spec": [:]], "resourceclaims.resource.k8s.io": ["spec": [:]],
        "resourceclaimtemplates.resource.k8s.io": ["spec": ["spec": [:]]],
        "resourceslices.resource.k8s.io": ["spec": ["driver": "d.example.com", "nodeName": "n", "pool": ["name": "p", "generation": 1, "resourceSliceCount": 1]]],
        "flowschemas.flowcontrol.apiserver.k8s.io": ["spec": ["priorityLevelConfiguration": ["name": "catch-all"]]],
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": [
            "spec": ["type": "Limited", "limited": ["nominalConcurrencyShares": 5, "limitResponse": ["type": "Reject"]]]
        ],
    ]

    /// A request for `CN=jane, O=developers` with a key of P-256: the server refuses what is no request.
    private static let certificateRequest = Base64.encode(
        Array(
            """
            -----BEGIN CERTIFICATE REQUEST-----
            MIHfMIGGAgEAMCQxDTALBgNVBAMMBGphbmUxEzARBgNVBAoMCmRldmVsb3BlcnMw
            WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATvAG6rUPJhYrsHwHycSMSnv+8fc4jB
            TMbp3uHU8uzlLvYyALvzSLglengyuo7gVVjuHf+Rva2G3sw/K3FzYKdGoAAwCgYI
            KoZIzj0EAwIDSAAwRQIgTI2zC/zt6T8tt49ySk7/MG5Qp53IcIIBaU142SKHkDUC
            IQCNGfkG/voQXNx9ctM+xiUK6jylupwQfrMmgxdwSc57PA==
            -----END CERTIFICATE REQUEST-----

            """.utf8))

    static func name(_ kind: ResourceKind, _ index: Int) -> String {
        switch kind.qualifiedName {
        case "apiservices.apiregistration.k8s.io": "v1.x.example.com"
        case "customresourcedefinitions.apiextensions.k8s.io": "things.example.com"
        case "ipaddresses.networking.k8s.io": "10.96.0.\(200 + index)"
        default: "test-\(index)"
        }
    }
}

@Suite("Every resource of the API") struct AllResourcesTests {
    private static let stored = Schema.builtIn.resources.filter { $0.verbs.contains("create") && $0.verbs.contains("delete") && $0.verbs.contains("get") }

    private func failures(_ server: TestServer, _ resource: ResourceSchema) async -> [String] {
        let kind = resource.identity
        var failures: [String] = []
        func check(_ condition: Bool, _ step: String, _ answer: Answer) {
            if !condition { failures.append("\(kind.qualifiedName) \(kind.version) \(step): \(answer.status) \(answer.text.prefix(400))") }
        }
        let collection = kind.path(namespace: "all")
        let name = MinimalObjects.name(kind, 1)
        var body = MinimalObjects.bodies[kind.qualifiedName] ?? [:]
        body["metadata"] = ["name": .string(name), "labels": ["suite": "all"]]
        let dry = await server.post("\(collection)?dryRun=All", body)
        check(dry.status == 201, "dry run", dry)
        check(await server.get("\(collection)/\(name)").status == 404, "a dry run changes nothing", dry)
        let made = await server.post(collection, body)
        check(made.status == 201 && made.body["kind"]?.string == kind.kind && made.body["apiVersion"]?.string == kind.apiVersion, "create", made)
        guard made.status == 201 else { return failures }
        check(!made.uid.isEmpty && !made.version.isEmpty, "metadata", made)
        let again = await server.post(collection, body)
        check(again.status == 409 && again.reason == "AlreadyExists", "create again", again)
        let read = await server.get("\(collection)/\(name)")
        check(read.status == 200 && read.body == made.body, "get", read)
        let list = await server.get("\(collection)?labelSelector=suite%3Dall")
        check(list.itemNames == [name] && list.body["kind"]?.string == kind.kind + "List", "list", list)
        let table = await server.send(.GET, collection, headers: [("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")])
        check(table.body["kind"]?.string == "Table" && (table.body["columnDefinitions"]?.array?.count ?? 0) > 0, "table", table)
        let width = table.body["columnDefinitions"]?.array?.count
        for row in table.body["rows"]?.array ?? [] { check(row["cells"]?.array?.count == width, "cells", table) }
        let yaml = await server.send(.GET, "\(collection)/\(name)", headers: [("Accept", "application/yaml")])
        check(yaml.status == 200 && yaml.text.contains("kind: \(kind.kind)"), "yaml", yaml)
        let patched = await server.merge("\(collection)/\(name)", ["metadata": ["annotations": ["x": "y"]]])
        check(patched.status == 200 && patched.body["metadata"]?["annotations"]?["x"] == "y", "patch", patched)
        check(patched.version != made.version, "a patch is a new version", patched)
        let idle = await server.merge("\(collection)/\(name)", ["metadata": ["annotations": ["x": "y"]]])
        check(idle.version == patched.version, "a patch that changes nothing writes nothing", idle)
        let put = await server.put("\(collection)/\(name)", patched.body)
        check(put.status == 200 && put.version == patched.version, "a put of what was read writes nothing", put)
        var stale = patched.body
        stale.set(.string(made.version), at: "metadata", "resourceVersion")
        let conflict = await server.put("\(collection)/\(name)", stale)
        check(conflict.status == 409 && conflict.reason == "Conflict", "stale put", conflict)
        let strategic = await server.send(
            .PATCH, "\(collection)/\(name)", ["metadata": ["labels": ["l": "m"]]], contentType: "application/strategic-merge-patch+json")
        check(strategic.status == 200 && strategic.body["metadata"]?["labels"]?["suite"] == "all" && strategic.body["metadata"]?["labels"]?["l"] == "m", "strategic patch", strategic)
        let applied = await server.apply(
            "\(collection)/\(name)", manager: "applier",
            ["kind": .string(kind.kind), "apiVersion": .string(kind.apiVersion), "metadata": ["name": .string(name), "annotations": ["ap": "plied"]]])
        check(applied.status == 200 && applied.body["metadata"]?["annotations"]?["ap"] == "plied", "apply", applied)
        if resource.hasStatus {
            let status = await server.get("\(collection)/\(name)/status")
            check(status.status == 200, "status", status)
        }
        let gone = await server.delete("\(collection)/\(name)", ["gracePeriodSeconds": 0, "propagationPolicy": "Background"])
        check(gone.status == 200, "delete", gone)
        if kind.kind == "Namespace" || kind.kind == "PersistentVolume" || kind.kind == "PersistentVolumeClaim" { return failures }
        let missing = await server.get("\(collection)/\(name)")
        check(missing.status == 404 && missing.reason == "NotFound", "get after delete", missing)
        if resource.verbs.contains("deletecollection") {
            check(await server.post(collection, body).status == 201, "create anew", missing)
            let all = await server.send(.DELETE, "\(collection)?labelSelector=suite%3Dall")
            check(all.status == 200, "deletecollection", all)
            check(await server.get("\(collection)?labelSelector=suite%3Dall").items.isEmpty, "empty after deletecollection", all)
        }
        return failures
    }

    @Test("can be created, read, listed, shown as a table and as YAML, patched, applied and deleted")
    func lifecycle() async throws {
        try await withServer { server in
            await server.namespace("all")
            for resource in Self.stored {
                for failure in await failures(server, resource) { Issue.record("\(failure)") }
            }
        }
    }

    @Test("reviews and bindings answer and store nothing")
    func reviews() async throws {
        try await withServer { server in
            let review = await server.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", [:])
            #expect(review.status == 201 && review.body["status"]?["userInfo"]?["username"]?.string == "admin")
            let token = await server.post("/apis/authentication.k8s.io/v1/tokenreviews", ["spec": ["token": "jane"]])
            #expect(token.body["status"]?["authenticated"]?.bool == true && token.body["status"]?["user"]?["username"]?.string == "jane")
            let bad = await server.post("/apis/authentication.k8s.io/v1/tokenreviews", ["spec": ["token": "nobody"]])
            #expect(bad.status == 201 && bad.body["status"]?["authenticated"]?.bool != true)
            let access = await server.post(
                "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                ["spec": ["user": "jane", "resourceAttributes": ["verb": "get", "resource": "pods", "namespace": "default"]]])
            #expect(access.status == 201 && access.body["status"]?["allowed"]?.bool == false)
            let mine = await server.post(
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ["spec": ["resourceAttributes": ["verb": "*", "resource": "*"]]])
            #expect(mine.body["status"]?["allowed"]?.bool == true)
            let rules = await server.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", ["spec": ["namespace": "default"]])
            #expect(rules.status == 201 && rules.body["status"]?["resourceRules"]?.array?.isEmpty == false)
        }
    }

    @Test("discovery, aggregated discovery, OpenAPI, version and health answer for all of them")
    func discovery() async throws {
        try await withServer { server in
            for resource in Schema.builtIn.resources {
                let kind = resource.identity
                let root = kind.group.isEmpty ? "/api/\(kind.version)" : "/apis/\(kind.group)/\(kind.version)"
                let list = await server.get(root)
                #expect(list.body["kind"]?.string == "APIResourceList")
                #expect(list.body["resources"]?.array?.contains { $0["name"]?.string == kind.plural && $0["kind"]?.string == kind.kind } == true, "\(root)")
            }
            let aggregated = await server.send(
                .GET, "/apis", headers: [("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")])
            #expect(aggregated.body["kind"]?.string == "APIGroupDiscoveryList")
            #expect(aggregated.headers["Content-Type"].first?.contains("as=APIGroupDiscoveryList") == true)
            let groups = Set(Schema.builtIn.resources.map(\.identity.group).filter { !$0.isEmpty })
            let listed = Set((aggregated.body["items"]?.array ?? []).compactMap { $0["metadata"]?["name"]?.string })
            #expect(listed.isSuperset(of: groups))
            #expect(await server.get("/apis").body["groups"]?.array?.count ?? 0 >= groups.count)
            let index = await server.get("/openapi/v3")
            let paths = index.body["paths"]?.object ?? [:]
            #expect(paths["api/v1"] != nil && paths["apis/apps/v1"] != nil)
            let apps = await server.get(paths["apis/apps/v1"]?["serverRelativeURL"]?.string ?? "/")
            #expect(apps.body["openapi"]?.string?.hasPrefix("3.") == true)
            #expect(apps.body["components"]?["schemas"]?["io.k8s.api.apps.v1.Deployment"] != nil)
            #expect(await server.get("/version").body["gitVersion"]?.string?.hasPrefix("v1.36") == true)
            for path in ["/healthz", "/livez", "/readyz"] { #expect(await server.get(path).status == 200, "\(path)") }
            #expect(await server.get("/nowhere").status == 404)
            #expect(await server.get("/apis/nowhere/v1/things").status == 404)
            #expect(await server.get("/api/v1/nothings").status == 404)
            #expect(await server.send(.PUT, "/api/v1/namespaces/default/configmaps", [:]).status == 405)
        }
    }
}
