import JSON
import KubeAPI
import Testing

@Suite("ProtobufDecoder") struct ProtobufTests {
    private let magic: [UInt8] = [0x6B, 0x38, 0x73, 0x00]

    private func envelope(_ apiVersion: String, _ kind: String, _ body: (inout WireWriterBuffer) -> Void) -> [UInt8] {
        var object = WireWriterBuffer()
        body(&object)
        var writer = WireWriterBuffer()
        writer.message(1) { meta in
            meta.string(1, apiVersion)
            meta.string(2, kind)
        }
        writer.bytes(2, object.bytes)
        return magic + writer.bytes
    }

    private func decode(_ bytes: [UInt8]) throws -> JSON { try ProtobufDecoder.decode(bytes, schema: .builtIn) }

    private func message(_ bytes: [UInt8]) -> String {
        do throws(ProtobufDecoder.Failure) {
            return "no error: \(try ProtobufDecoder.decode(bytes, schema: .builtIn).text)"
        } catch { return error.message }
    }

    /// ConfigMap: metadata 1 (name 1, labels 11), data 2, binaryData 3.
    private var configMap: [UInt8] {
        envelope("v1", "ConfigMap") { map in
            map.message(1) { meta in
                meta.string(1, "m")
                for (key, value) in [("a", "1"), ("b", "2")] {
                    meta.message(11) { entry in
                        entry.string(1, key)
                        entry.string(2, value)
                    }
                }
            }
            map.message(2) { entry in
                entry.string(1, "k")
                entry.string(2, "v")
            }
            map.message(3) { entry in
                entry.string(1, "bin")
                entry.bytes(2, [0, 1, 2] as [UInt8])
            }
        }
    }

    @Test("maps, bytes and strings, with the kind of the envelope")
    func maps() throws {
        let object = try decode(configMap)
        #expect(object["kind"] == "ConfigMap" && object["apiVersion"] == "v1")
        #expect(object["metadata"]?["name"] == "m" && object["metadata"]?["labels"] == ["a": "1", "b": "2"])
        #expect(object["data"] == ["k": "v"] && object["binaryData"] == ["bin": "AAEC"])
    }

    /// Pod: spec 2 (containers 2: name 1, image 2, args 4, resources 8 (limits 1)).
    @Test("repeated messages, quantities and lists of strings")
    func pod() throws {
        let bytes = envelope("v1", "Pod") { pod in
            pod.message(2) { spec in
                for name in ["a", "b"] {
                    spec.message(2) { container in
                        container.string(1, name)
                        container.string(2, "\(name):1")
                        container.string(4, "x")
                        container.string(4, "y")
                        container.message(8) { resources in
                            resources.message(1) { entry in
                                entry.string(1, "cpu")
                                entry.message(2) { $0.string(1, "500m") }
                            }
                        }
                    }
                }
            }
        }
        let containers = try decode(bytes)["spec"]?["containers"]
        #expect(containers?.array?.count == 2)
        #expect(containers?[1]?["name"] == "b" && containers?[1]?["image"] == "b:1" && containers?[1]?["args"] == ["x", "y"])
        #expect(containers?[1]?["resources"] == ["limits": ["cpu": "500m"]])
    }

    /// Service: spec 2 (ports 1: name 1, targetPort 4 (type 1, integer 2, text 3)); metadata 1 (creationTimestamp 8).
    @Test("ports by name and an empty time")
    func specialTypes() throws {
        let bytes = envelope("v1", "Service") { service in
            service.message(1) { meta in
                meta.string(1, "s")
                meta.message(8) { _ in }
            }
            service.message(2) { spec in
                spec.message(1) { port in
                    port.bytes(4, [0x08, 0x01, 0x1A, 0x04] + Array("http".utf8))
                }
                spec.message(1) { port in port.bytes(4, [0x08, 0x00, 0x10, 0x90, 0x3F]) }
            }
        }
        let object = try decode(bytes)
        #expect(object["metadata"] == ["name": "s"])
        #expect(object["spec"]?["ports"]?[0]?["targetPort"] == "http" && object["spec"]?["ports"]?[1]?["targetPort"] == 8080)
    }

    @Test("numbers of unknown fields are passed over")
    func unknownFields() throws {
        let bytes = envelope("v1", "ConfigMap") { map in
            map.string(999, "what is this")
            map.message(1) { $0.string(1, "m") }
        }
        #expect(try decode(bytes)["metadata"] == ["name": "m"])
    }

    @Test("an unknown kind, a body that is no protobuf and one cut short are refused")
    func refused() {
        #expect(message(envelope("v1", "Nothing") { _ in }).hasPrefix("no kind \"Nothing\" is registered for version \"v1\""))
        #expect(message(Array("{}".utf8)).hasPrefix("provided data does not appear to be a protobuf message"))
        #expect(message([]).hasPrefix("provided data"))
        #expect(message(Array(configMap.dropLast(3))) == "unexpected EOF")
        #expect(message(magic + [0x0F]) == "proto: illegal wireType 7")
        #expect(message(magic + [0x00]) == "proto: illegal tag 0")
        #expect(message(magic + [UInt8](repeating: 0xFF, count: 12)) == "proto: integer overflow")
    }

    @Test("a message of any depth is refused, not followed down")
    func deep() {
        // JSONSchemaProps (apiextensions) nests in itself: `not` is field 28.
        var inner: [UInt8] = []
        for _ in 0..<1000 {
            var writer = WireWriterBuffer()
            writer.bytes(28, inner)
            inner = writer.bytes
        }
        let bytes = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition") { definition in
            definition.message(2) { spec in
                spec.message(7) { version in version.message(4) { $0.bytes(1, inner) } }
            }
        }
        #expect(message(bytes) == "exceeded max depth")
    }

    @Test("200 random bodies and 200 damaged ones never crash")
    func random() {
        var random = SeededGenerator(seed: 42)
        for _ in 0..<200 {
            let noise = (0..<Int.random(in: 0..<200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            _ = message(magic + noise)
            _ = message(envelope("v1", "Pod") { $0.bytes(2, noise) })
            var damaged = configMap
            for _ in 0..<3 { damaged[Int.random(in: 4..<damaged.count, using: &random)] = UInt8.random(in: 0...255, using: &random) }
            _ = message(damaged)
        }
    }
}
