import APIServer
import JSON

enum YAMLText {
    static func parse(_ bytes: [UInt8]) throws -> JSON { try YAML.decode(bytes) }
    static func of(_ value: JSON) -> String { YAML.encode(value) }
}
