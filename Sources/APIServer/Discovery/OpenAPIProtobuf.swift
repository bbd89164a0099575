import JSON
import KubeAPI

/// The protobuf form of an OpenAPI v3 document (gnostic's `openapi.v3.Document`), as kubectl up to 1.28 asks for it: it looks there whether an
/// operation takes `fieldValidation`. Paths with operations and parameters; schemas are in the JSON form alone.
enum OpenAPIProtobuf {
    private static let operationNumbers = [("get", 4), ("put", 5), ("post", 6), ("delete", 7), ("patch", 10)]

    static func document(_ document: JSON) -> [UInt8] {
        var writer = WireWriterBuffer()
        writer.string(1, document["openapi"]?.string ?? "")
        writer.message(2) {
            $0.string(1, document["info"]?["title"]?.string ?? "")
            $0.string(5, document["info"]?["version"]?.string ?? "")
        }
        writer.message(4) { paths in
            for (path, item) in document["paths"]?.object ?? [:] {
                paths.message(1) { named in
                    named.string(1, path)
                    named.message(2) { operations in
                        for (verb, number) in operationNumbers {
                            guard let operation = item[verb] else { continue }
                            operations.message(number) { write(operation, into: &$0) }
                        }
                    }
                }
            }
        }
        return writer.bytes
    }

    private static func write(_ operation: JSON, into writer: inout WireWriterBuffer) {
        writer.string(5, operation["operationId"]?.string ?? "")
        for parameter in operation["parameters"]?.array ?? [] {
            writer.message(6) { choice in
                choice.message(1) {
                    $0.string(1, parameter["name"]?.string ?? "")
                    $0.string(2, parameter["in"]?.string ?? "")
                }
            }
        }
        for (name, value) in operation.object ?? [:] where name.hasPrefix("x-") {
            writer.message(13) { named in
                named.string(1, name)
                named.message(2) { $0.string(2, value.text) }
            }
        }
    }
}
