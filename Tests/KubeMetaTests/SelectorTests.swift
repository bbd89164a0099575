import JSON
import KubeMeta
import Testing

private func refusal(_ text: String) -> String {
    do throws(SelectorError) {
        return "parsed: \(try Selector.parse(text).text)"
    } catch { return error.message }
}

@Suite("Label selectors") struct SelectorTests {
    @Test(
        "all operators are read and written canonically",
        arguments: [
            ("", ""), ("a=b", "a=b"), ("a==b", "a=b"), ("a!=b", "a notin (b)"), ("a in (c,b)", "a in (b,c)"), ("a in (b)", "a=b"), ("a notin (b,c)", "a notin (b,c)"),
            ("a", "a"), ("!a", "!a"), ("a>1", "a>1"), ("a<5", "a<5"), (" a = b , c ", "a=b,c"), ("a=", "a="), ("a,b=c,!d", "a,b=c,!d"),
            ("example.com/x in ( a , b )", "example.com/x in (a,b)"), ("a in ()", "a="), ("a in (,b)", "a in (,b)"),
        ])
    func parsing(_ text: String, _ canonical: String) throws { #expect(try Selector.parse(text).text == canonical) }

    @Test(
        "texts that are no selector are refused with upstream's messages",
        arguments: [
            ("a,", "found '', expected: identifier after ','"), (",a", "found ',', expected: identifier"), ("a b", "found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"), ("a in b", "found 'b' expected: '('"), ("a in (b", "found '', expected: ',' or ')'"),
            ("a=(", "found '(', expected: identifier"), ("!", "found '', expected: identifier"),
            ("a>x", "values[0][a]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
        ])
    func bad(_ text: String, _ message: String) { #expect(refusal(text) == message) }

    @Test("keys and values that are no labels are refused")
    func badLabels() {
        #expect(refusal("-a=b").hasPrefix("key: Invalid value: \"-a\": name part must consist of"))
        #expect(refusal("a=b_").hasPrefix("values[0][a]: Invalid value: \"b_\": a valid label must be"))
        #expect(refusal("a/b/c=d").hasPrefix("key: Invalid value: \"a/b/c\": a qualified name must consist of"))
    }

    @Test("requirements choose")
    func matching() throws {
        let labels = ["app": "web", "tier": "front", "n": "5"]
        for text in ["app=web", "app in (web,db)", "app!=db", "missing!=x", "missing notin (x)", "app", "!missing", "n>4", "n<6", "", "app=web,tier=front"] {
            #expect(try Selector.parse(text).matches(labels), "\(text)")
        }
        for text in ["app=db", "app notin (web)", "missing", "missing=x", "missing in (x)", "!app", "n>5", "n<5", "app>1", "missing>1", "app=web,tier=back"] {
            #expect(try !Selector.parse(text).matches(labels), "\(text)")
        }
    }

    @Test("a LabelSelector: absent selects nothing, empty everything, all its terms must hold")
    func labelSelector() {
        #expect(!Selector(labelSelector: nil).matches([:]) && !Selector(labelSelector: .null).matches(["a": "b"]))
        #expect(Selector(labelSelector: [:]).matches(["a": "b"]) && Selector(labelSelector: [:]).isEmpty)
        let selector = Selector(labelSelector: [
            "matchLabels": ["a": "1"],
            "matchExpressions": [
                ["key": "b", "operator": "In", "values": ["x", "y"]], ["key": "c", "operator": "NotIn", "values": ["z"]], ["key": "d", "operator": "Exists"],
                ["key": "e", "operator": "DoesNotExist"],
            ],
        ])
        #expect(selector.matches(["a": "1", "b": "y", "d": ""]))
        #expect(!selector.matches(["a": "1", "b": "y", "d": "", "e": ""]) && !selector.matches(["a": "1", "b": "q", "d": ""]))
        #expect(selector.text == "a=1,b in (x,y),c notin (z),d,!e")
    }

    @Test("random texts never crash the parser", arguments: [5, 6] as [UInt64])
    func random(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let pieces = ["a", "b", "in", "notin", "(", ")", ",", "=", "==", "!=", "!", "<", ">", " ", "1", "é", "/", "-"]
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 0..<8, using: &generator)).map { _ in pieces[Int.random(in: 0..<pieces.count, using: &generator)] }.joined()
            guard let selector = try? Selector.parse(text) else { continue }
            #expect((try? Selector.parse(selector.text))?.text == selector.text, "seed \(seed): \(text)")
        }
    }
}

@Suite("Names") struct NameTests {
    @Test("the forms of names")
    func forms() {
        let long = String(repeating: "a", count: 64)
        for good in ["a", "a-b", "0", "a1"] { #expect(NameRules.labelErrors(good).isEmpty) }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", "é", long] { #expect(!NameRules.labelErrors(bad).isEmpty, "\(bad)") }
        for good in ["a", "a.b", "a-b.c", "0.1"] { #expect(NameRules.subdomainErrors(good).isEmpty) }
        for bad in ["", ".a", "a.", "a..b", "A.b", String(repeating: "a.", count: 127)] { #expect(!NameRules.subdomainErrors(bad).isEmpty, "\(bad)") }
        #expect(NameRules.dns1035LabelErrors("a-1").isEmpty && !NameRules.dns1035LabelErrors("1a").isEmpty)
        for good in ["a", "A_b.C-9", "example.com/a"] { #expect(NameRules.qualifiedNameErrors(good).isEmpty) }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "EXAMPLE/a", long] { #expect(!NameRules.qualifiedNameErrors(bad).isEmpty, "\(bad)") }
        for good in ["", "a", "A.b_c"] { #expect(NameRules.labelValueErrors(good).isEmpty) }
        for bad in ["-a", "a-", "a b", "a/b", long] { #expect(!NameRules.labelValueErrors(bad).isEmpty, "\(bad)") }
        for good in ["a", ".b", "A_-"] { #expect(NameRules.configMapKeyErrors(good).isEmpty) }
        for bad in ["", ".", "..", "..a", "a/b", "a b"] { #expect(!NameRules.configMapKeyErrors(bad).isEmpty, "\(bad)") }
        #expect(NameRules.pathSegmentErrors("a:b").isEmpty && NameRules.pathSegmentErrors("..") == ["may not be '..'"])
        #expect(NameRules.pathSegmentErrors("a/b%") == ["may not contain '/'", "may not contain '%'"])
    }

    @Test("a UUID is of version 4, a suffix has no vowels")
    func random() {
        for _ in 0..<100 {
            let parts = RandomNames.uuid().split(separator: "-")
            #expect(parts.map(\.count) == [8, 4, 4, 4, 12])
            #expect(parts[2].first == "4" && "89ab".contains(parts[3].first ?? "x"))
            #expect(RandomNames.suffix().allSatisfy { "bcdfghjklmnpqrstvwxz2456789".contains($0) } && RandomNames.suffix().count == 5)
        }
        var first = SeededGenerator(seed: 1)
        var second = SeededGenerator(seed: 1)
        #expect(RandomNames.uuid(using: &first) == RandomNames.uuid(using: &second))
    }
}

@Suite("APIStatus") struct APIStatusTests {
    private static let pods = ResourceKind(group: "", version: "v1", plural: "pods", kind: "Pod", namespaced: true)

    @Test("a refusal goes over the wire and back")
    func roundTrip() throws {
        let status = APIStatus(
            code: 422, reason: "Invalid", message: "m", name: "n", group: "g", kind: "k", uid: "u", retryAfterSeconds: 3,
            causes: [.init(reason: "r", message: "cm", field: "f")])
        #expect(APIStatus(json: try JSON.parse(status.json.encoded)) == status)
        #expect(APIStatus(json: ["kind": "Pod"]) == nil)
    }

    @Test("refusals have upstream's texts")
    func texts() {
        #expect(APIStatus.notFound(Self.pods, name: "x").json.text
            == #"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#)
        #expect(APIStatus.alreadyExists(Self.pods, name: "x").message == "pods \"x\" already exists")
        #expect(APIStatus.staleWrite(Self.pods, name: "x").message
            == "Operation cannot be fulfilled on pods \"x\": the object has been modified; please apply your changes to the latest version and try again")
        let invalid = APIStatus.invalid(group: "apps", kind: "Deployment", name: "d", [.required("spec.a"), .invalid("spec.b", 5, "too small")])
        #expect(invalid.message == "Deployment.apps \"d\" is invalid: [spec.a: Required value, spec.b: Invalid value: 5: too small]")
        #expect(invalid.causes.map(\.reason) == ["FieldValueRequired", "FieldValueInvalid"])
    }

    @Test("paths of resources")
    func paths() {
        #expect(Self.pods.path(namespace: "d", name: "p", subresource: "log") == "/api/v1/namespaces/d/pods/p/log")
        let nodes = ResourceKind(group: "x.io", version: "v2", plural: "nodes", kind: "Node", namespaced: false)
        #expect(nodes.path(namespace: "ignored") == "/apis/x.io/v2/nodes" && nodes.qualifiedName == "nodes.x.io" && nodes.apiVersion == "x.io/v2")
    }
}
