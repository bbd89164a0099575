import JSON
import KubeAPI
import KubeMeta
import Testing

@Suite("ManagedFields") struct ManagedFieldsTests {
    private func apply(_ applied: JSON, to live: JSON = [:], manager: String, force: Bool = false, time: String = "2026-01-01T00:00:00Z")
        throws -> JSON
    {
        try ManagedFields.apply(
            live: live, applied: applied, type: try type("v1", "ConfigMap"), manager: manager, apiVersion: "v1", subresource: "",
            time: time,
            force: force, resetting: [])
    }

    private func update(_ new: JSON, from old: JSON = [:], manager: String, time: String = "2026-01-01T00:00:00Z") throws -> JSON {
        var new = new
        ManagedFields.update(
            old: old, new: &new, type: try type("v1", "ConfigMap"), manager: manager, apiVersion: "v1", subresource: "", time: time,
            resetting: [])
        return new
    }

    private func owned(_ object: JSON, by manager: String) -> [String] {
        ManagedFields.entries(of: object).filter { $0.manager == manager }.flatMap(\.fields.paths)
    }

    private func map(_ data: JSON) -> JSON {
        ["apiVersion": "v1", "kind": "ConfigMap", "metadata": ["name": "m", "namespace": "n"], "data": data]
    }

    @Test("a create owns what it sets, but neither name nor kind")
    func create() throws {
        let made = try update(map(["a": "1"]), manager: "kubectl")
        #expect(owned(made, by: "kubectl") == [".data", ".data.a"])
        let entry = try #require(made["metadata"]?["managedFields"]?[0])
        #expect(entry["operation"] == "Update" && entry["fieldsType"] == "FieldsV1" && entry["apiVersion"] == "v1")
        #expect(entry["fieldsV1"] == ["f:data": [".": [:], "f:a": [:]]])
    }

    @Test("who changes a field takes it; a write without change leaves the owners and the time alone")
    func update() throws {
        let made = try update(map(["a": "1", "b": "1"]), manager: "one")
        var changed = made
        changed.set("2", at: "data", "a")
        changed = try update(changed, from: made, manager: "two", time: "2026-01-02T00:00:00Z")
        #expect(owned(changed, by: "one") == [".data", ".data.b"] && owned(changed, by: "two") == [".data.a"])
        #expect(try update(changed, from: changed, manager: "three") == changed)
    }

    @Test("a field that is removed has no owner")
    func removed() throws {
        let made = try update(map(["a": "1", "b": "1"]), manager: "one")
        var changed = made
        changed.set(nil, at: "data", "b")
        changed = try update(changed, from: made, manager: "two")
        #expect(owned(changed, by: "one") == [".data", ".data.a"] && owned(changed, by: "two").isEmpty)
    }

    @Test("an apply owns what it says, and a second one changes nothing")
    func applies() throws {
        let made = try apply(map(["a": "1"]), manager: "one")
        #expect(made["data"] == ["a": "1"] && owned(made, by: "one") == [".data.a"])
        #expect(made["metadata"]?["managedFields"]?[0]?["operation"] == "Apply")
        #expect(try apply(map(["a": "1"]), to: made, manager: "one", time: "2027-01-01T00:00:00Z") == made)
    }

    @Test("two appliers of one value share it")
    func shared() throws {
        let both = try apply(map(["a": "1"]), to: try apply(map(["a": "1"]), manager: "one"), manager: "two")
        #expect(owned(both, by: "one") == [".data.a"] && owned(both, by: "two") == [".data.a"])
    }

    @Test("another value of a field that somebody owns is a conflict, in upstream's words")
    func conflict() throws {
        let made = try apply(map(["a": "1"]), manager: "one")
        do throws(ManagedFields.Conflicts) {
            _ = try ManagedFields.apply(
                live: made, applied: map(["a": "2"]), type: Schema.builtIn.type(apiVersion: "v1", kind: "ConfigMap"), manager: "two",
                apiVersion: "v1",
                subresource: "", time: "", force: false, resetting: [])
            Issue.record("no conflict")
        } catch {
            let status = ManagedFields.status(error.conflicts)
            #expect(status.code == 409 && status.message == "Apply failed with 1 conflict: conflict with \"one\": .data.a")
        }
    }

    @Test("force takes the field from its owner")
    func force() throws {
        let made = try apply(map(["a": "1", "b": "1"]), manager: "one")
        let taken = try apply(map(["a": "2"]), to: made, manager: "two", force: true)
        #expect(taken["data"] == ["a": "2", "b": "1"])
        #expect(owned(taken, by: "one") == [".data.b"] && owned(taken, by: "two") == [".data.a"])
    }

    @Test("what an applier no longer says goes, unless another one owns it")
    func dropped() throws {
        var object = try apply(map(["a": "1", "b": "1"]), manager: "one")
        object = try apply(map(["b": "1"]), to: object, manager: "two")
        object = try apply(map([:]), to: object, manager: "one")
        #expect(object["data"] == ["b": "1"])
        #expect(owned(object, by: "two") == [".data.b"])
    }

    @Test("several conflicts are told owner by owner")
    func conflicts() throws {
        var object = try apply(map(["a": "1"]), manager: "one")
        object = try apply(map(["b": "1"]), to: object, manager: "two")
        let live = object
        let conflicts = #expect(throws: ManagedFields.Conflicts.self) { try apply(map(["a": "2", "b": "2"]), to: live, manager: "three") }
        let status = ManagedFields.status(conflicts?.conflicts ?? [])
        #expect(status.message == "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\nconflicts with \"two\":\n- .data.b")
    }

    @Test("of many managers by plain updates the oldest are folded into ancient-changes; no field loses its owner")
    func ancient() throws {
        var object = try update(map(["k": "v"]), manager: "m0")
        for n in 1...15 {
            var next = object
            next.set("v", at: "data", "k\(n)")
            object = try update(next, from: object, manager: "m\(n)", time: "2026-01-02T00:00:\(n + 10)Z")
        }
        let entries = ManagedFields.entries(of: object)
        #expect(entries.count == 10 && entries.contains { $0.manager == "ancient-changes" })
        #expect(Set(entries.flatMap(\.fields.paths)) == Set([".data", ".data.k"] + (1...15).map { ".data.k\($0)" }))
    }

    @Test("a list of objects is owned element by element")
    func lists() throws {
        let applied: JSON = ["spec": ["containers": [["name": "c", "image": "a:1"]]]]
        let pod = try ManagedFields.apply(
            live: [:], applied: applied, type: try type("v1", "Pod"), manager: "one", apiVersion: "v1", subresource: "", time: "",
            force: false,
            resetting: [])
        let paths = owned(pod, by: "one")
        #expect(paths.contains(".spec.containers[name=\"c\"].image") && paths.contains(".spec.containers[name=\"c\"]"))
    }

    @Test("a set of fields reads back as it was written")
    func fieldSet() {
        let json: JSON = ["f:data": [".": [:], "f:a": [:]], "f:spec": ["k:{\"name\":\"c\"}": [".": [:], "f:image": [:]], "v:1": [:]]]
        #expect(FieldSet(json: json).json == json)
        #expect(FieldSet(json: json).paths == [".data", ".data.a", ".spec[name=\"c\"]", ".spec[name=\"c\"].image", ".spec[=1]"])
    }
}
