import JSON
import KubeAPI
import Testing

@Suite("StrategicMerge") struct StrategicMergeTests {
    private func patched(_ target: JSON, _ patch: JSON, _ apiVersion: String = "v1", _ kind: String = "Pod") throws -> JSON {
        var target = target
        try StrategicMerge.apply(patch, to: &target, type: try type(apiVersion, kind))
        return target
    }

    private func pod(_ containers: JSON) -> JSON { ["spec": ["containers": containers]] }
    private let two: JSON = [
        ["name": "a", "image": "a:1", "env": [["name": "E1", "value": "1"], ["name": "E2", "value": "2"]]], ["name": "b", "image": "b:1"],
    ]

    @Test("elements of a list merge by their key; what the patch does not name stays")
    func mergesByKey() throws {
        let result = try patched(pod(two), pod([["name": "b", "image": "b:2"]]))
        #expect(result["spec"]?["containers"]?[1] == ["name": "b", "image": "b:2"])
        #expect(result["spec"]?["containers"]?[0] == two[0])
    }

    /// As recorded from kube-apiserver 1.36.
    @Test("without an order, what the patch names comes in its order and new elements come first")
    func order() throws {
        let patch = pod([
            ["name": "b", "image": "b:2"], ["name": "a", "env": [["name": "E2", "$patch": "delete"], ["name": "E3", "value": "3"]]],
        ])
        let result = try patched(pod(two), patch)["spec"]?["containers"]
        #expect(
            result == [
                ["name": "b", "image": "b:2"],
                ["name": "a", "image": "a:1", "env": [["name": "E3", "value": "3"], ["name": "E1", "value": "1"]]],
            ])
    }

    @Test("$patch: delete removes an element, $patch: replace the whole list")
    func directives() throws {
        #expect(try patched(pod(two), pod([["name": "a", "$patch": "delete"]])) == pod([["name": "b", "image": "b:1"]]))
        #expect(try patched(pod(two), pod([["name": "none", "$patch": "delete"]])) == pod(two))
        #expect(
            try patched(pod(two), pod([["$patch": "replace"], ["name": "only", "image": "o:1"]]))
                == pod([["name": "only", "image": "o:1"]]))
    }

    @Test("$patch: replace of an object drops what the patch does not say; null removes a member")
    func objects() throws {
        let target: JSON = ["metadata": ["labels": ["a": "1", "b": "2"]], "spec": ["nodeSelector": ["x": "y"]]]
        #expect(try patched(target, ["metadata": ["labels": ["$patch": "replace", "c": "3"]]])["metadata"] == ["labels": ["c": "3"]])
        #expect(try patched(target, ["metadata": ["labels": ["a": .null]]])["metadata"] == ["labels": ["b": "2"]])
    }

    @Test("$retainKeys keeps only the members it names")
    func retainKeys() throws {
        let target: JSON = ["spec": ["strategy": ["type": "RollingUpdate", "rollingUpdate": ["maxSurge": 1]], "replicas": 2]]
        let result = try patched(target, ["spec": ["strategy": ["$retainKeys": ["type"], "type": "Recreate"]]], "apps/v1", "Deployment")
        #expect(result == ["spec": ["strategy": ["type": "Recreate"], "replicas": 2]])
    }

    @Test("$setElementOrder puts the elements in its order")
    func setElementOrder() throws {
        let patch: JSON = [
            "spec": [
                "$setElementOrder/containers": [["name": "c"], ["name": "b"], ["name": "a"]],
                "containers": [["name": "c", "image": "c:1"]],
            ]
        ]
        let result = try patched(pod(two), patch)
        #expect(result["spec"]?["containers"]?.array?.compactMap { $0["name"]?.string } == ["c", "b", "a"])
        #expect(result["spec"]?["$setElementOrder/containers"] == nil)
    }

    @Test("$deleteFromPrimitiveList takes values out of a list of scalars; a plain list adds to it")
    func primitiveLists() throws {
        let target: JSON = ["metadata": ["finalizers": ["a/a", "b/b"]]]
        #expect(
            try patched(target, ["metadata": ["$deleteFromPrimitiveList/finalizers": ["a/a"]]]) == ["metadata": ["finalizers": ["b/b"]]])
        let added = try patched(target, ["metadata": ["finalizers": ["c/c", "b/b"]]])["metadata"]?["finalizers"]?.array ?? []
        #expect(Set(added) == ["a/a", "b/b", "c/c"] && added.count == 3)
    }

    @Test("a list without merge strategy is replaced")
    func atomicLists() throws {
        let target = pod([["name": "a", "args": ["x", "y"]]])
        #expect(try patched(target, pod([["name": "a", "args": ["z"]]])) == pod([["name": "a", "args": ["z"]]]))
    }

    @Test("a patch that is no object, lacks the key or has an unknown directive is refused")
    func refused() throws {
        #expect(throws: StrategicMerge.PatchError.self) { try patched(pod(two), [1]) }
        #expect(throws: StrategicMerge.PatchError.self) { try patched(pod(two), pod([["image": "x"]])) }
        #expect(throws: StrategicMerge.PatchError.self) { try patched(pod(two), pod(["a"])) }
        #expect(throws: StrategicMerge.PatchError.self) { try patched(pod(two), ["$patch": "burn"]) }
    }
}
