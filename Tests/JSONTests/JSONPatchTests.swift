import JSON
import Testing

private func patched(_ text: String, _ patch: String) throws -> String {
    var value = try JSON.parse(text)
    try value.applyJSONPatch(try JSON.parse(patch))
    return value.text
}

@Suite("JSON patch (RFC 6902)") struct JSONPatchTests {
    @Test(
        "the examples of RFC 6902, appendix A",
        arguments: [
            (#"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz","value":"qux"}]"#, #"{"foo":"bar","baz":"qux"}"#),
            (#"{"foo":["bar","baz"]}"#, #"[{"op":"add","path":"/foo/1","value":"qux"}]"#, #"{"foo":["bar","qux","baz"]}"#),
            (#"{"baz":"qux","foo":"bar"}"#, #"[{"op":"remove","path":"/baz"}]"#, #"{"foo":"bar"}"#),
            (#"{"foo":["bar","qux","baz"]}"#, #"[{"op":"remove","path":"/foo/1"}]"#, #"{"foo":["bar","baz"]}"#),
            (#"{"baz":"qux","foo":"bar"}"#, #"[{"op":"replace","path":"/baz","value":"boo"}]"#, #"{"baz":"boo","foo":"bar"}"#),
            (#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#, #"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
                #"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#),
            (#"{"foo":["all","grass","cows","eat"]}"#, #"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#, #"{"foo":["all","cows","eat","grass"]}"#),
            (#"{"baz":"qux","foo":["a",2,"c"]}"#, #"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
                #"{"baz":"qux","foo":["a",2,"c"]}"#),
            (#"{"foo":"bar"}"#, #"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#, #"{"foo":"bar","child":{"grandchild":{}}}"#),
            (#"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#, #"{"foo":"bar","baz":"qux"}"#),
            (#"{"/":9,"~1":10}"#, #"[{"op":"test","path":"/~01","value":10}]"#, #"{"/":9,"~1":10}"#),
            (#"{"a/b":1}"#, #"[{"op":"replace","path":"/a~1b","value":2}]"#, #"{"a/b":2}"#),
            (#"{"foo":["bar"]}"#, #"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#, #"{"foo":["bar",["abc","def"]]}"#),
            (#"{"a":1}"#, #"[{"op":"copy","from":"/a","path":"/b"}]"#, #"{"a":1,"b":1}"#), (#"{"a":1}"#, #"[{"op":"replace","path":"","value":[]}]"#, "[]"),
            (#"{"a":null}"#, #"[{"op":"test","path":"/a","value":null}]"#, #"{"a":null}"#), ("{}", "[]", "{}"),
        ])
    func examples(_ text: String, _ patch: String, _ wanted: String) throws { #expect(try patched(text, patch) == wanted) }

    @Test(
        "operations that cannot be carried out are refused",
        arguments: [
            #"[{"op":"add","path":"/x/y","value":1}]"#, #"[{"op":"remove","path":"/x"}]"#, #"[{"op":"replace","path":"/x","value":1}]"#,
            #"[{"op":"move","from":"/x","path":"/y"}]"#, #"[{"op":"copy","from":"/x","path":"/y"}]"#, #"[{"op":"test","path":"/a","value":2}]"#,
            #"[{"op":"test","path":"/x","value":2}]"#, #"[{"op":"add","path":"/l/5","value":1}]"#, #"[{"op":"add","path":"/l/-2","value":1}]"#,
            #"[{"op":"remove","path":"/l/2"}]"#, #"[{"op":"remove","path":"/l/x"}]"#, #"[{"op":"add","path":"/l/x","value":1}]"#,
            #"[{"op":"add","path":"/a/b","value":1}]"#, #"[{"op":"spam","path":"/a"}]"#, #"[{"op":"add","value":1}]"#, #"[1]"#, #"{"op":"add"}"#,
            #"[{"path":"/a","value":1}]"#,
        ])
    func refusals(_ patch: String) throws {
        let original = try JSON.parse(#"{"a":1,"l":[1,2]}"#)
        var value = original
        let operations = try JSON.parse(patch)
        #expect(throws: JSONPatchError.self) { try value.applyJSONPatch(operations) }
        #expect(value == original)
    }

    @Test("all or nothing: an operation that fails undoes those before it")
    func allOrNothing() throws {
        var value: JSON = ["a": 1]
        #expect(throws: JSONPatchError.self) {
            try value.applyJSONPatch([["op": "add", "path": "/b", "value": 2], ["op": "remove", "path": "/a"], ["op": "test", "path": "/b", "value": 3]])
        }
        #expect(value == ["a": 1])
    }

    @Test("more operations than the limit are refused")
    func tooMany() throws {
        var value: JSON = [:]
        let operation: JSON = ["op": "add", "path": "/a", "value": 1]
        do throws(JSONPatchError) {
            try value.applyJSONPatch(.array(Array(repeating: operation, count: 10_001)))
            Issue.record("not refused")
        } catch {
            #expect(error.kind == .malformed && error.message == "The allowed maximum operations in a JSON patch is 10000, got 10001")
        }
    }

    @Test("copies that would grow the object without bound are refused")
    func copyBomb() throws {
        var value: JSON = ["a": ["x": "0123456789"]]
        let doubling: JSON = .array((0..<64).map { ["op": "copy", "from": "/a", "path": .string("/a/c\($0)")] })
        #expect(throws: JSONPatchError.self) { try value.applyJSONPatch(doubling) }
        #expect(value == ["a": ["x": "0123456789"]])
    }

    @Test("operations that would nest deeper than the parser allows are refused")
    func depthBomb() throws {
        var value: JSON = ["a": [:]]
        var operations: [JSON] = []
        var path = "/a"
        for _ in 0..<1200 {
            path += "/a"
            operations.append(["op": "add", "path": .string(path), "value": [:]])
        }
        #expect(throws: JSONPatchError.self) { try value.applyJSONPatch(.array(operations)) }
    }

    @Test("random patches never crash", arguments: [21, 22] as [UInt64])
    func random(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let names = ["add", "remove", "replace", "move", "copy", "test"]
        let paths = ["", "/", "/a", "/a/b", "/l", "/l/0", "/l/-", "/l/9", "/l/-1", "/~", "/a~1", "x", "/l/99999999999999999999"]
        for _ in 0..<3000 {
            var value: JSON = ["a": ["b": 1], "l": [1, ["b": 2]]]
            let operations = (0..<Int.random(in: 1..<5, using: &generator)).map { _ -> JSON in
                [
                    "op": .string(names.randomElement(using: &generator) ?? ""), "path": .string(paths.randomElement(using: &generator) ?? ""),
                    "from": .string(paths.randomElement(using: &generator) ?? ""), "value": ["n": 1],
                ]
            }
            try? value.applyJSONPatch(.array(operations))
            #expect(try JSON.parse(value.encoded) == value, "seed \(seed)")
        }
    }
}

@Suite("JSON merge patch (RFC 7386)") struct MergePatchTests {
    @Test(
        "the test cases of RFC 7386, appendix A",
        arguments: [
            (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#), (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#), (#"{"a":"b"}"#, #"{"a":null}"#, "{}"),
            (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#), (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
            (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#), (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
            (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#), (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#), (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#),
            (#"{"a":"foo"}"#, "null", "null"), (#"{"a":"foo"}"#, #""bar""#, #""bar""#), (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
            (#"[1,2]"#, #"{"a":"b","c":null}"#, #"{"a":"b"}"#), ("{}", #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
        ])
    func examples(_ text: String, _ patch: String, _ wanted: String) throws {
        var value = try JSON.parse(text)
        value.applyMergePatch(try JSON.parse(patch))
        #expect(value.text == wanted)
    }
}
