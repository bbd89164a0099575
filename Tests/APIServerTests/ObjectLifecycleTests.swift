import JSON
import KubeAPI
import NIOHTTP1
import Testing

@Suite("Generic: objects") struct ObjectLifecycleTests {
    private static let maps = "/api/v1/namespaces/default/configmaps"

    @Test("ConfigMap: should run through a ConfigMap lifecycle")
    func configMap() async throws {
        try await withServer { server in
            let made = await server.post(Self.maps, ["metadata": ["name": "m", "labels": ["test": "yes"]], "data": ["a": "1"]])
            #expect(made.status == 201)
            #expect(await server.get(Self.maps + "/m").body["data"]?["a"] == "1")
            let patched = await server.merge(Self.maps + "/m", ["data": ["a": "2", "b": .null]])
            #expect(patched.body["data"] == ["a": "2"])
            #expect(await server.get("/api/v1/configmaps?labelSelector=test%3Dyes").itemNames == ["m"])
            #expect(await server.send(.DELETE, Self.maps + "?labelSelector=test%3Dyes").status == 200)
            #expect(await server.get("/api/v1/configmaps?labelSelector=test%3Dyes").items.isEmpty)
        }
    }

    @Test("an immutable ConfigMap refuses changes of its data")
    func immutable() async throws {
        try await withServer { server in
            await server.post(Self.maps, ["metadata": ["name": "m"], "data": ["a": "1"], "immutable": true])
            #expect(await server.merge(Self.maps + "/m", ["data": ["a": "2"]]).status == 422)
            #expect(await server.merge(Self.maps + "/m", ["immutable": false]).status == 422)
            #expect(await server.merge(Self.maps + "/m", ["metadata": ["labels": ["a": "b"]]]).status == 200)
        }
    }

    @Test("generateName gives a name of its own to each object")
    func generateName() async throws {
        try await withServer { server in
            var names: Set<String> = []
            for _ in 0..<20 { names.insert(await server.post(Self.maps, ["metadata": ["generateName": "m-"]]).name) }
            #expect(names.count == 20 && names.allSatisfy { $0.hasPrefix("m-") && $0.count == 7 })
            let none = await server.post(Self.maps, [:])
            #expect(none.status == 422 && none.message.contains("name or generateName is required"))
        }
    }

    @Test("a finalizer holds an object until it is removed; no new one may be added meanwhile")
    func finalizers() async throws {
        try await withServer { server in
            await server.post(Self.maps, ["metadata": ["name": "m", "finalizers": ["example.com/a", "example.com/b"]]])
            let deleted = await server.delete(Self.maps + "/m")
            #expect(deleted.status == 200 && deleted.body["metadata"]?["deletionTimestamp"] != nil)
            let added = await server.merge(Self.maps + "/m", ["metadata": ["finalizers": ["example.com/a", "example.com/b", "example.com/c"]]])
            #expect(added.status == 422, "\(added.text)")
            #expect(added.message.contains("no new finalizers can be added if the object is being deleted"))
            #expect(await server.merge(Self.maps + "/m", ["metadata": ["finalizers": ["example.com/b"]]]).status == 200)
            #expect(await server.get(Self.maps + "/m").status == 200)
            #expect(await server.merge(Self.maps + "/m", ["metadata": ["finalizers": .null]]).status == 200)
            #expect(await server.get(Self.maps + "/m").status == 404)
        }
    }

    @Test("preconditions: UID and resource version must match")
    func preconditions() async throws {
        try await withServer { server in
            let made = await server.post(Self.maps, ["metadata": ["name": "m"]])
            #expect(await server.delete(Self.maps + "/m", ["preconditions": ["uid": "other"]]).status == 409)
            #expect(await server.delete(Self.maps + "/m", ["preconditions": ["resourceVersion": "1"]]).status == 409)
            var wrong = made.body
            wrong.set("other", at: "metadata", "uid")
            #expect(await server.put(Self.maps + "/m", wrong).status == 409)
            #expect(await server.merge(Self.maps + "/m", ["metadata": ["resourceVersion": "1"], "data": ["a": "b"]]).status == 409)
            let good = await server.delete(Self.maps + "/m", ["preconditions": ["uid": .string(made.uid), "resourceVersion": .string(made.version)]])
            #expect(good.status == 200)
        }
    }

    @Test("of two writers with one version only one wins; patches retry")
    func concurrentWriters() async throws {
        try await withServer { server in
            let made = await server.post(Self.maps, ["metadata": ["name": "m"]])
            let statuses = await withTaskGroup(of: Int.self) { group in
                for n in 0..<8 {
                    group.addTask {
                        var body = made.body
                        body["data"] = ["n": JSON("\(n)")]
                        return await server.put(Self.maps + "/m", body).status
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses.filter { $0 == 200 }.count == 1 && statuses.filter { $0 == 409 }.count == 7)
            await withTaskGroup(of: Int.self) { group in
                for n in 0..<8 { group.addTask { await server.merge(Self.maps + "/m", ["data": ["k\(n)": "v"]]).status } }
                for await status in group { #expect(status == 200) }
            }
            #expect(await server.get(Self.maps + "/m").body["data"]?.object?.count == 9)
        }
    }

    @Test("a namespace that ends takes no new objects; a namespace that is missing neither")
    func namespaces() async throws {
        try await withServer { server in
            await server.namespace("n")
            let missing = await server.post("/api/v1/namespaces/none/configmaps", ["metadata": ["name": "m"]])
            #expect(missing.status == 404 && missing.message == "namespaces \"none\" not found")
            #expect(await server.delete("/api/v1/namespaces/n").body["status"]?["phase"] == "Terminating")
            let refused = await server.post("/api/v1/namespaces/n/configmaps", ["metadata": ["name": "m"]])
            #expect(refused.status == 403)
            #expect(refused.message.contains("unable to create new content in namespace n because it is being terminated"))
            #expect(await server.delete("/api/v1/namespaces/default").status == 403)
        }
    }

    @Test("strict field validation refuses unknown and duplicate fields, warning names them, ignoring drops them")
    func fieldValidation() async throws {
        try await withServer { server in
            let text = #"{"metadata":{"name":"m"},"data":{"a":"1","a":"2"},"foo":1}"#
            func post(_ mode: String) async -> Answer {
                await server.sendBytes(.POST, Self.maps + "?dryRun=All&fieldValidation=\(mode)", Array(text.utf8), contentType: "application/json")
            }
            let strict = await post("Strict")
            #expect(strict.status == 400)
            #expect(strict.message.contains("strict decoding error: duplicate field \"data.a\", unknown field \"foo\""))
            let warned = await post("Warn")
            #expect(warned.status == 201 && warned.headers["Warning"].count == 2)
            let ignored = await post("Ignore")
            #expect(ignored.status == 201 && ignored.headers["Warning"].isEmpty)
            #expect(await post("Other").status == 422)
        }
    }

    @Test("bodies in YAML and in protobuf are read; an unknown type is refused")
    func bodies() async throws {
        try await withServer { server in
            let yaml = await server.sendBytes(
                .POST, Self.maps, Array("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\ndata:\n  a: \"1\"\n".utf8), contentType: "application/yaml")
            #expect(yaml.status == 201 && yaml.body["data"]?["a"] == "1")
            var object = WireWriterBuffer()
            object.message(1) { $0.string(1, "p") }
            object.message(2) { entry in
                entry.string(1, "k")
                entry.string(2, "v")
            }
            var envelope = WireWriterBuffer()
            envelope.message(1) { meta in
                meta.string(1, "v1")
                meta.string(2, "ConfigMap")
            }
            envelope.bytes(2, object.bytes)
            let proto = await server.sendBytes(
                .POST, Self.maps, [0x6B, 0x38, 0x73, 0] + envelope.bytes, contentType: "application/vnd.kubernetes.protobuf")
            #expect(proto.status == 201 && proto.body["data"]?["k"] == "v", "\(proto.text)")
            let unknown = await server.sendBytes(.POST, Self.maps, [1], contentType: "text/csv")
            #expect(unknown.status == 415 && unknown.reason == "UnsupportedMediaType")
            for bad in ["", "{", "[]", "null", "5", "\"a\"", "{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}", "{\"metadata\":5}"] {
                let answer = await server.sendBytes(.POST, Self.maps, Array(bad.utf8), contentType: "application/json")
                #expect(answer.status == 400, "\(bad): \(answer.text)")
                #expect(answer.body["kind"]?.string == "Status")
            }
        }
    }

    @Test("random bodies of any type are answered, never with a crash or a 500", arguments: [31, 32] as [UInt64])
    func randomBodies(_ seed: UInt64) async throws {
        try await withServer { server in
            await server.namespace("r")
            var generator = SeededGenerator(seed: seed)
            let whole = #"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}"#
            for _ in 0..<300 {
                var bytes = Array(whole.utf8)
                for _ in 0..<Int.random(in: 0..<6, using: &generator) {
                    let at = Int.random(in: 0..<bytes.count, using: &generator)
                    switch Int.random(in: 0..<3, using: &generator) {
                    case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
                    case 1: bytes.remove(at: at)
                    default: bytes.insert(contentsOf: ["[]{}\",:0-".utf8.randomElement(using: &generator) ?? 0], at: at)
                    }
                }
                let type = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"].randomElement(using: &generator) ?? ""
                let answer = await server.sendBytes(.POST, "/api/v1/namespaces/r/pods?dryRun=All", bytes, contentType: type)
                #expect(answer.status != 500, "seed \(seed): \(String(decoding: bytes, as: UTF8.self)) \(answer.text)")
            }
        }
    }

    @Test("a deep patch is refused, the server lives")
    func deepPatch() async throws {
        try await withServer { server in
            await server.post(Self.maps, ["metadata": ["name": "m"], "data": ["a": "1"]])
            var path = "/data"
            let operations: [JSON] = (0..<1500).map { _ in
                path += "/a"
                return ["op": "add", "path": .string(path), "value": [:]]
            }
            let answer = await server.send(.PATCH, Self.maps + "/m", .array(operations), contentType: "application/json-patch+json")
            #expect(answer.status == 422)
            let deep = String(repeating: "{\"a\":", count: 511) + "1" + String(repeating: "}", count: 511)
            let merge = await server.sendBytes(.PATCH, Self.maps + "/m", Array(deep.utf8), contentType: "application/merge-patch+json")
            #expect(merge.status < 500)
            #expect(await server.get(Self.maps + "/m").status == 200)
        }
    }
}

@Suite("Server-Side Apply") struct ServerSideApplyTests {
    private static let map = "/api/v1/namespaces/default/configmaps/m"

    private func config(_ data: JSON) -> JSON { ["apiVersion": "v1", "kind": "ConfigMap", "metadata": ["name": "m"], "data": data] }

    @Test("apply creates, owns, conflicts, takes by force, and removes what it no longer names")
    func ownership() async throws {
        try await withServer { server in
            let made = await server.apply(Self.map, manager: "one", config(["a": "1", "b": "1"]))
            #expect(made.status == 201)
            #expect(await server.apply(Self.map, manager: "two", config(["a": "1"])).status == 200)
            let conflict = await server.apply(Self.map, manager: "two", config(["b": "2"]))
            #expect(conflict.status == 409)
            #expect(conflict.message == "Apply failed with 1 conflict: conflict with \"one\": .data.b")
            let forced = await server.apply(Self.map, manager: "two", config(["b": "2"]), force: true)
            #expect(forced.body["data"] == ["a": "1", "b": "2"])
            let less = await server.apply(Self.map, manager: "one", config(["c": "3"]))
            #expect(less.body["data"] == ["b": "2", "c": "3"])
            let managers = (less.body["metadata"]?["managedFields"]?.array ?? []).compactMap { $0["manager"]?.string }
            #expect(Set(managers) == ["one", "two"])
        }
    }

    @Test("the same configuration again writes nothing")
    func idle() async throws {
        try await withServer { server in
            let first = await server.apply(Self.map, manager: "one", config(["a": "1"]))
            server.time.advance(10)
            let second = await server.apply(Self.map, manager: "one", config(["a": "1"]))
            #expect(second.status == 200 && second.version == first.version)
        }
    }

    @Test("a field manager is required, a dry run stores nothing")
    func rules() async throws {
        try await withServer { server in
            let none = await server.send(.PATCH, Self.map, config([:]), contentType: "application/apply-patch+yaml")
            #expect(none.status == 422 && none.message.contains("is required for apply patch"))
            let dry = await server.send(
                .PATCH, Self.map + "?fieldManager=x&dryRun=All", config(["a": "1"]), contentType: "application/apply-patch+yaml")
            #expect(dry.status == 201)
            #expect(await server.get(Self.map).status == 404)
        }
    }
}
