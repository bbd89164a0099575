import APIServer
import JSON

enum YAMLText {
    static func of(_ value: JSON) -> String { YAML.encode(value) }
}
