import JSON
import KubeAPI

/// The protobuf forms of OpenAPI documents (gnostic's `openapi.v3.Document` and `openapi.v2.Document`), as kubectl up to 1.28 asks for them: it
/// looks there whether an operation takes `fieldValidation`, and how lists merge. Version 3 holds paths with operations and parameters;
/// version 2 holds the definitions as well.
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
        extensions(operation, 13, into: &writer)
    }

    // MARK: Version 2

    private static let operationNumbers2 = [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)]

    static func document2(_ document: JSON) -> [UInt8] {
        var writer = WireWriterBuffer()
        writer.string(1, document["swagger"]?.string ?? "")
        writer.message(2) {
            $0.string(1, document["info"]?["title"]?.string ?? "")
            $0.string(2, document["info"]?["version"]?.string ?? "")
        }
        writer.message(8) { paths in
            for (path, item) in document["paths"]?.object ?? [:] {
                paths.message(2) { named in
                    named.string(1, path)
                    named.message(2) { operations in
                        for (verb, number) in operationNumbers2 {
                            guard let operation = item[verb] else { continue }
                            operations.message(number) { write2(operation, into: &$0) }
                        }
                    }
                }
            }
        }
        writer.message(9) { definitions in
            for (name, schema) in document["definitions"]?.object ?? [:] {
                definitions.message(1) { named in
                    named.string(1, name)
                    named.message(2) { writeSchema(schema, into: &$0) }
                }
            }
        }
        return writer.bytes
    }

    private static func write2(_ operation: JSON, into writer: inout WireWriterBuffer) {
        writer.string(5, operation["operationId"]?.string ?? "")
        for parameter in operation["parameters"]?.array ?? [] {
            writer.message(8) { item in
                item.message(1) { choice in
                    choice.message(2) { nonBody in
                        nonBody.message(3) {
                            $0.string(2, "query")
                            $0.string(4, parameter["name"]?.string ?? "")
                        }
                    }
                }
            }
        }
        extensions(operation, 13, into: &writer)
    }

    private static func extensions(_ value: JSON, _ number: Int, into writer: inout WireWriterBuffer) {
        for (name, content) in value.object ?? [:] where name.hasPrefix("x-") {
            writer.message(number) { named in
                named.string(1, name)
                named.message(2) { $0.string(2, content.text) }
            }
        }
    }

    private static func writeSchema(_ schema: JSON, into writer: inout WireWriterBuffer) {
        if let reference = schema["$ref"]?.string { writer.string(1, reference) }
        if let format = schema["format"]?.string { writer.string(2, format) }
        for name in schema["required"]?.array ?? [] { writer.string(19, name.string ?? "") }
        if let values = schema["additionalProperties"] { writer.message(21) { $0.message(1) { writeSchema(values, into: &$0) } } }
        if let type = schema["type"]?.string { writer.message(22) { $0.string(1, type) } }
        if let items = schema["items"] { writer.message(23) { $0.message(1) { writeSchema(items, into: &$0) } } }
        if let properties = schema["properties"]?.object {
            writer.message(25) { all in
                for (name, property) in properties {
                    all.message(1) { named in
                        named.string(1, name)
                        named.message(2) { writeSchema(property, into: &$0) }
                    }
                }
            }
        }
        extensions(schema, 31, into: &writer)
    }
}
