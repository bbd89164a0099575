import JSON
import KubeAPI
import KubeMeta
import Testing

/// The type of a built-in kind.
func type(_ apiVersion: String, _ kind: String) throws -> TypeSchema {
    try #require(Schema.builtIn.type(apiVersion: apiVersion, kind: kind))
}

@Suite("Schema") struct SchemaTests {
    /// Kubernetes 1.36: 572 objects; 12 more names of its OpenAPI document are scalars.
    @Test("the built-in schema has every resource and type of Kubernetes 1.36")
    func counts() {
        #expect(Schema.builtIn.resources.count == 68)
        #expect(Schema.builtIn.types.count + 12 == 584)
    }

    @Test("every resource has verbs, and its type has a kind and fields")
    func resources() {
        for resource in Schema.builtIn.resources {
            #expect(!resource.verbs.isEmpty, "\(resource.identity.plural)")
            #expect(!resource.type.fields.isEmpty && !resource.type.kind.isEmpty, "\(resource.identity.plural)")
        }
    }

    @Test("a field knows its protobuf number, merge key and topology")
    func field() throws {
        let pods = try #require(Schema.builtIn.resource(group: "", version: "v1", plural: "pods"))
        #expect(pods.shortNames == ["po"] && pods.hasStatus && pods.type.kind == "Pod")
        let spec = try #require(Schema.builtIn.types["core/v1.PodSpec"])
        let containers = try #require(spec.field("containers"))
        #expect(containers.protobufNumber == 2 && containers.required && containers.mergesList && containers.mergeKey == "name")
        #expect(containers.topology == .map(keys: ["name"]))
        #expect(spec.field(number: 2)?.name == "containers" && spec.field(number: 9999) == nil && spec.field("nothing") == nil)
        #expect(spec.field("dnsPolicy")?.enumValues.contains("ClusterFirst") == true)
    }

    @Test("what is not there is nil")
    func absent() {
        #expect(Schema.builtIn.resource(group: "", version: "v2", plural: "pods") == nil)
        #expect(Schema.builtIn.type(apiVersion: "apps/v1", kind: "Pod") == nil)
    }
}

@Suite("Base64") struct Base64Tests {
    @Test("bytes come back as they went, at every length")
    func roundTrip() {
        var random = SeededGenerator(seed: 1)
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
    }

    @Test(
        "the examples of RFC 4648",
        arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")])
    func examples(plain: String, encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
    }

    @Test("the URL form has no padding and no plus or slash")
    func urlSafe() { #expect(Base64.encode([0xFB, 0xFF, 0xFE, 0xFF], urlSafe: true) == "-__-_w") }

    @Test("line breaks are ignored")
    func lineBreaks() { #expect(Base64.decode("Zm9v\r\nYmFy\n") == Array("foobar".utf8)) }

    @Test(
        "bad text has a place where it is bad",
        arguments: [("!!!!", 0), ("Zm9v*", 4), ("Zg=a", 3), ("=", 0), ("Z===", 1), ("Zm9", 3), ("Zg===", 4)])
    func bad(text: String, offset: Int) {
        #expect(Base64.firstIllegalByte(text) == offset)
        #expect(Base64.decode(text) == nil)
    }
}
