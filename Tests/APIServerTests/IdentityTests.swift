import JSON
import KubeAPI
import NIOHTTP1
import Testing

/// Who may do what, and what becomes of tokens, evictions, bindings and addresses.
@Suite("Identity") struct IdentityTests {
    private static let pods = "/api/v1/namespaces/default/pods"
    private static let secrets = "/api/v1/namespaces/default/secrets"

    private func role(_ server: TestServer, _ verbs: [String], _ resources: [String], user: String, name: String = "r") async {
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        await server.post(
            "\(rbac)/roles",
            ["metadata": ["name": .string(name)], "rules": [["apiGroups": [""], "resources": JSON(resources), "verbs": JSON(verbs)]]])
        await server.post(
            "\(rbac)/rolebindings",
            [
                "metadata": ["name": .string(name)],
                "roleRef": ["apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": .string(name)],
                "subjects": [["apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": .string(user)]],
            ])
    }

    private func makePod(_ server: TestServer, _ name: String, _ spec: JSON = [:], labels: JSON = ["app": "x"]) async -> Answer {
        var whole = podSpec
        for (key, value) in spec.object ?? [:] { whole[key] = value }
        return await server.post(Self.pods, ["metadata": ["name": .string(name), "labels": labels], "spec": whole])
    }

    @Test("a user without a role is refused in upstream's words; a role lets in what it names, and no more")
    func roles() async throws {
        try await withServer { server in
            let refused = await server.get(Self.pods, token: "jane")
            #expect(refused.status == 403 && refused.reason == "Forbidden")
            #expect(
                refused.message
                    == "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"")
            await role(server, ["get", "list"], ["pods"], user: "jane")
            #expect(await server.get(Self.pods, token: "jane").status == 200)
            #expect(await server.get(Self.pods + "/p", token: "jane").status == 404)
            let other = await server.post(Self.pods, ["metadata": ["name": "p"], "spec": podSpec], token: "jane")
            #expect(other.status == 403 && other.message.contains("cannot create resource \"pods\""))
            #expect(
                await server.get(Self.secrets + "/s", token: "jane").message.hasPrefix(
                    "secrets \"s\" is forbidden: User \"jane\" cannot get"))
            #expect(await server.get("/api/v1/pods", token: "jane").message.hasSuffix("at the cluster scope"))
            let path = await server.get("/metrics", token: "jane")
            #expect(path.status == 403 && path.message == "forbidden: User \"jane\" cannot get path \"/metrics\"")
        }
    }

    @Test("a binding that goes takes the access with it")
    func bindingGone() async throws {
        try await withServer { server in
            await role(server, ["list"], ["pods"], user: "jane")
            #expect(await server.get(Self.pods, token: "jane").status == 200)
            await server.delete("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/r")
            #expect(await server.get(Self.pods, token: "jane").status == 403)
        }
    }

    @Test("a token that nobody knows is nobody: 401; no token is system:anonymous: 403")
    func unknown() async throws {
        try await withServer { server in
            #expect(await server.get(Self.pods, token: "wrong").status == 401)
            #expect(await server.get(Self.pods, token: "a.b.c").status == 401)
            let anonymous = await server.get(Self.pods, token: nil)
            #expect(anonymous.status == 403 && anonymous.message.contains("User \"system:anonymous\""))
        }
    }

    @Test("a node reads the secrets of its own pods, and no others")
    func nodeSecrets() async throws {
        try await withServer { server in
            await server.namespace("default")
            for name in ["mine", "theirs"] { await server.post(Self.secrets, ["metadata": ["name": .string(name)]]) }
            for (node, secret) in [("a", "mine"), ("b", "theirs")] {
                let volumes: JSON = [["name": "v", "secret": ["secretName": .string(secret)]]]
                #expect(await makePod(server, "on-\(node)", ["nodeName": .string(node), "volumes": volumes]).status == 201)
            }
            #expect(await server.get(Self.secrets + "/mine", token: "node-a").status == 200)
            #expect(await server.get(Self.secrets + "/theirs", token: "node-a").status == 403)
            #expect(await server.get(Self.secrets, token: "node-a").status == 403)
            #expect(await server.get("/api/v1/secrets", token: "node-a").status == 403)
            #expect(await server.send(.DELETE, Self.secrets + "/mine", token: "node-a").status == 403)
        }
    }

    @Test("a token of a service account is that account, until it expires")
    func tokens() async throws {
        try await withServer { server in
            await server.namespace("default")
            let path = "/api/v1/namespaces/default/serviceaccounts/default/token"
            let issued = await server.post(path, ["spec": ["expirationSeconds": 600]])
            #expect(issued.status == 201)
            let token = issued.body["status"]?["token"]?.string ?? ""
            let review = await server.post("/apis/authentication.k8s.io/v1/tokenreviews", ["spec": ["token": .string(token)]])
            #expect(review.body["status"]?["authenticated"] == true)
            #expect(review.body["status"]?["user"]?["username"] == "system:serviceaccount:default:default")
            #expect(
                await server.get(Self.pods, token: token).message.contains("User \"system:serviceaccount:default:default\" cannot list"))
            #expect(await server.get(Self.pods, token: token + "x").status == 401)
            server.time.advance(601)
            #expect(await server.get(Self.pods, token: token).status == 401)
            #expect(await server.post(path, ["spec": ["expirationSeconds": 60]]).status == 422)
        }
    }

    @Test("a token bound to a pod goes with the pod, one of an account with the account")
    func boundTokens() async throws {
        try await withServer { server in
            await server.namespace("default")
            let pod = await makePod(server, "p")
            let path = "/api/v1/namespaces/default/serviceaccounts/default/token"
            let reference: JSON = ["kind": "Pod", "apiVersion": "v1", "name": "p", "uid": .string(pod.uid)]
            let bound = await server.post(path, ["spec": ["boundObjectRef": reference]]).body["status"]?["token"]?.string ?? ""
            let free = await server.post(path, [:]).body["status"]?["token"]?.string ?? ""
            #expect(await server.get(Self.pods, token: bound).status == 403)
            await server.delete(Self.pods + "/p", ["gracePeriodSeconds": 0])
            #expect(await server.get(Self.pods, token: bound).status == 401)
            #expect(await server.get(Self.pods, token: free).status == 403)
            await server.delete("/api/v1/namespaces/default/serviceaccounts/default")
            #expect(await server.get(Self.pods, token: free).status == 401)
        }
    }

    @Test("an administrator may act as another; others may not")
    func impersonation() async throws {
        try await withServer { server in
            let asJane = await server.send(.GET, Self.pods, headers: [("Impersonate-User", "jane")])
            #expect(asJane.status == 403 && asJane.message.contains("User \"jane\" cannot list resource \"pods\""))
            await role(server, ["list"], ["pods"], user: "jane")
            #expect(await server.send(.GET, Self.pods, headers: [("Impersonate-User", "jane")]).status == 200)
            let refused = await server.send(.GET, Self.pods, token: "jane", headers: [("Impersonate-User", "admin")])
            #expect(refused.status == 403)
            #expect(
                refused.message
                    == "users \"admin\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
            )
            #expect(
                await server.send(.GET, "/api/v1/nodes", headers: [("Impersonate-User", "x"), ("Impersonate-Group", "system:masters")])
                    .status == 200)
        }
    }

    @Test("a disruption budget that allows nothing refuses an eviction with 429; one that allows one pays for it")
    func eviction() async throws {
        try await withServer { server in
            await server.namespace("default")
            for name in ["p1", "p2"] {
                #expect(await makePod(server, name, ["nodeName": "a"]).status == 201)
                let ready: JSON = ["phase": "Running", "conditions": [["type": "Ready", "status": "True"]]]
                #expect(await server.merge(Self.pods + "/\(name)/status", ["status": ready]).status == 200)
            }
            let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
            await server.post(
                budgets, ["metadata": ["name": "b"], "spec": ["minAvailable": 2, "selector": ["matchLabels": ["app": "x"]]]])
            func allow(_ count: Int) async -> Int {
                await server.merge(
                    budgets + "/b/status",
                    [
                        "status": [
                            "observedGeneration": 1, "disruptionsAllowed": JSON(count), "currentHealthy": 2, "desiredHealthy": 2,
                            "expectedPods": 2,
                        ]
                    ]
                ).status
            }
            func evict(_ name: String) async -> Answer {
                await server.post(
                    Self.pods + "/\(name)/eviction", ["apiVersion": "policy/v1", "kind": "Eviction", "metadata": ["name": .string(name)]])
            }
            #expect(await allow(0) == 200)
            let refused = await evict("p1")
            #expect(refused.status == 429 && refused.reason == "TooManyRequests")
            #expect(refused.message == "Cannot evict pod as it would violate the pod's disruption budget.")
            #expect(
                refused.body["details"]?["causes"]?[0]?["message"] == "The disruption budget b needs 2 healthy pods and has 2 currently")
            #expect(await allow(1) == 200)
            #expect(await evict("p1").status == 201)
            #expect(await evict("p2").status == 429)
            #expect(await server.get(budgets + "/b").body["status"]?["disruptedPods"]?["p1"] != nil)
            #expect(await evict("none").status == 404)
        }
    }

    @Test("scale reads and writes the number of replicas; a negative one is refused")
    func scale() async throws {
        try await withServer { server in
            let deployments = "/apis/apps/v1/namespaces/default/deployments"
            let template: JSON = ["metadata": ["labels": ["a": "b"]], "spec": podSpec]
            await server.post(
                deployments,
                ["metadata": ["name": "d"], "spec": ["replicas": 2, "selector": ["matchLabels": ["a": "b"]], "template": template]])
            let scale = await server.get(deployments + "/d/scale")
            #expect(scale.body["kind"] == "Scale" && scale.body["spec"]?["replicas"] == 2 && scale.body["status"]?["selector"] == "a=b")
            #expect(await server.merge(deployments + "/d/scale", ["spec": ["replicas": 5]]).status == 200)
            #expect(await server.get(deployments + "/d").body["spec"]?["replicas"] == 5)
            let negative = await server.merge(deployments + "/d/scale", ["spec": ["replicas": -1]])
            #expect(negative.status == 422 && negative.message.contains("must be greater than or equal to 0"))
        }
    }

    @Test("a pod is bound once; the second binding conflicts")
    func binding() async throws {
        try await withServer { server in
            await server.namespace("default")
            _ = await makePod(server, "p")
            func bind(_ node: String) async -> Answer {
                await server.post(
                    Self.pods + "/p/binding", ["metadata": ["name": "p"], "target": ["kind": "Node", "name": .string(node)]])
            }
            #expect(await bind("a").status == 201)
            #expect(await server.get(Self.pods + "/p").body["spec"]?["nodeName"] == "a")
            let second = await bind("b")
            #expect(second.status == 409 && second.message.contains("pod p is already assigned to node \"a\""))
            #expect(await bind("").status == 422)
        }
    }

    @Test("no two Services get one address or node port, made at once or asked for by name")
    func allocation() async throws {
        try await withServer { server in
            let services = "/api/v1/namespaces/default/services"
            let made = await withTaskGroup(of: Answer.self) { group in
                for n in 0..<40 {
                    group.addTask {
                        await server.post(
                            services, ["metadata": ["name": .string("s\(n)")], "spec": ["type": "NodePort", "ports": [["port": 80]]]])
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(made.allSatisfy { $0.status == 201 })
            let addresses = made.compactMap { $0.body["spec"]?["clusterIP"]?.string }
            let ports = made.compactMap { $0.body["spec"]?["ports"]?[0]?["nodePort"]?.int }
            #expect(Set(addresses).count == 40 && addresses.allSatisfy { $0.hasPrefix("10.96.0.") })
            #expect(Set(ports).count == 40 && ports.allSatisfy { (30000...32767).contains($0) })
            let address = try #require(addresses.first)
            let port = try #require(ports.first)
            let sameAddress = await server.post(
                services, ["metadata": ["name": "x"], "spec": ["clusterIP": .string(address), "ports": [["port": 80]]]])
            #expect(sameAddress.status == 422 && sameAddress.message.contains("provided IP is already allocated"))
            let samePort = await server.post(
                services, ["metadata": ["name": "x"], "spec": ["type": "NodePort", "ports": [["port": 80, "nodePort": .int(port)]]]])
            #expect(samePort.status == 422 && samePort.message.contains("provided port is already allocated"))
        }
    }

    @Test("a certificate request that holds no request is refused")
    func certificateRequest() async throws {
        try await withServer { server in
            for text in ["", "no PEM", "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n"] {
                let refused = await server.post(
                    "/apis/certificates.k8s.io/v1/certificatesigningrequests",
                    [
                        "metadata": ["name": "r"],
                        "spec": ["request": .string(Base64.encode(Array(text.utf8))), "signerName": "example.com/s", "usages": ["client auth"]],
                    ])
                #expect(refused.status == 422 && refused.message.contains("spec.request"), "\(refused.text)")
            }
        }
    }

    @Test("an address comes free with its Service")
    func freed() async throws {
        try await withServer { server in
            let services = "/api/v1/namespaces/default/services"
            let spec: JSON = ["clusterIP": "10.96.0.77", "ports": [["port": 80]]]
            #expect(await server.post(services, ["metadata": ["name": "a"], "spec": spec]).status == 201)
            await server.delete(services + "/a")
            #expect(await server.post(services, ["metadata": ["name": "b"], "spec": spec]).status == 201)
        }
    }
}
