package import KubeMeta

/// How a list or map behaves under strategic merge and server-side apply.
package enum Topology: Sendable, Equatable {
    /// One value, owned and replaced as a whole.
    case atomic
    /// A set of scalars.
    case set
    /// Objects told apart by the values of these keys.
    case map(keys: [String])
    /// An object or map whose members are owned one by one.
    case granular
}

/// The type of a value.
package indirect enum ValueType: Sendable {
    case string, bytes, bool, double, quantity, intOrString, time, microTime
    case integer(bits: Int)
    /// Any JSON value, kept as it is.
    case any
    /// Any JSON object, kept as it is.
    case anyObject
    case object(TypeSchema)
    case list(ValueType)
    case map(ValueType)

    /// The name of the Go type, for messages of the decoder.
    package var goName: String {
        switch self {
        case .string, .bytes, .time, .microTime: "string"
        case .bool: "bool"
        case .double: "float64"
        case .quantity: "resource.Quantity"
        case .intOrString: "intstr.IntOrString"
        case .integer(let bits): "int\(bits)"
        case .any, .anyObject: "object"
        case .object(let type): type.goName
        case .list(let element): "[]\(element.goName)"
        case .map(let element): "map[string]\(element.goName)"
        }
    }
}

/// One field of a type.
package struct FieldSchema: Sendable {
    package var name: String
    package var type: ValueType
    /// Protobuf field number; 0 when the field is not in protobuf (`apiVersion`, `kind`).
    package var protobufNumber: Int
    package var required: Bool
    /// Server-side apply's view of the value.
    package var topology: Topology
    /// Strategic merge patch: the strategies and the key that tells elements apart.
    package var mergeKey: String?
    package var mergesList: Bool
    package var retainsKeys: Bool
    package var enumValues: [String]
}

/// A message of the API. Filled once while the schema is parsed, before any other task can see it; never changed after.
package final class TypeSchema: @unchecked Sendable {
    package let name: String
    package fileprivate(set) var fields: [FieldSchema] = []
    private var positions: [String: Int] = [:]
    private var numbers: [Int: Int] = [:]
    package fileprivate(set) var group = ""
    package fileprivate(set) var version = ""
    /// Empty for a type that is no kind.
    package fileprivate(set) var kind = ""
    package fileprivate(set) var isAtomic = false

    init(name: String) { self.name = name }

    /// `DeploymentSpec`, or for a kind its own name.
    package var goName: String { name.split(separator: ".").last.map(String.init) ?? name }

    package func field(_ name: String) -> FieldSchema? { positions[name].map { fields[$0] } }

    package func field(number: Int) -> FieldSchema? { numbers[number].map { fields[$0] } }

    fileprivate func append(_ field: FieldSchema) {
        if field.protobufNumber > 0 { numbers[field.protobufNumber] = fields.count }
        positions[field.name] = fields.count
        fields.append(field)
    }
}

/// A subresource as discovery lists it.
package struct SubresourceSchema: Sendable {
    package var name: String
    package var kind: String
    package var group: String
    package var version: String
    package var verbs: [String]
}

/// A resource of the API: its identity, what may be done with it, and the type of its objects.
package struct ResourceSchema: Sendable {
    package var identity: ResourceKind
    package var singular: String
    package var verbs: [String]
    package var shortNames: [String]
    package var categories: [String]
    package var subresources: [SubresourceSchema]
    package var type: TypeSchema

    package func subresource(_ name: String) -> SubresourceSchema? { subresources.first { $0.name == name } }
    package var hasStatus: Bool { subresource("status") != nil }
}

/// The built-in API. Parsed from the project's schema text when first used.
package final class Schema: Sendable {
    package static let builtIn = Schema(text: schemaText)

    package let types: [String: TypeSchema]
    package let resources: [ResourceSchema]
    private let byPath: [String: Int]
    private let byKind: [String: TypeSchema]

    init(text: StaticString) {
        var types: [String: TypeSchema] = [:]
        var scalars: [Substring: Substring] = [:]
        let whole = text.withUTF8Buffer { String(decoding: $0, as: UTF8.self) }
        let lines = whole.utf8.split(separator: UInt8(ascii: "\n"))

        // First the names, so that fields can refer to types that come later.
        for line in lines where line.first != UInt8(ascii: " ") {
            let words = line.split(separator: UInt8(ascii: " "))
            guard words.count > 1 else { continue }
            switch Substring(words[0]) {
            case "type":
                let type = TypeSchema(name: String(Substring(words[1])))
                for word in words.dropFirst(2) {
                    if Substring(word) == "atomic" { type.isAtomic = true }
                    let parts = word.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                    if parts.count == 3 {
                        type.group = String(Substring(parts[0]))
                        type.version = String(Substring(parts[1]))
                        type.kind = String(Substring(parts[2]))
                    }
                }
                types[type.name] = type
            case "scalar": scalars[Substring(words[1])] = words.count > 2 ? Substring(words[2]) : ""
            default: break
            }
        }

        func valueType(_ text: Substring) -> ValueType {
            if text.hasPrefix("[]") { return .list(valueType(text.dropFirst(2))) }
            if text.hasPrefix("map[string]") { return .map(valueType(text.dropFirst(11))) }
            switch text {
            case "string": return .string
            case "string:byte": return .bytes
            case "boolean": return .bool
            case "integer:int32": return .integer(bits: 32)
            case "integer:int64": return .integer(bits: 64)
            case "number:double": return .double
            case "api/resource.Quantity": return .quantity
            case "util/intstr.IntOrString": return .intOrString
            case "meta/v1.Time": return .time
            case "meta/v1.MicroTime": return .microTime
            default: break
            }
            if let type = types[String(text)] { return .object(type) }
            return scalars[text] == "object" ? .anyObject : .any
        }

        var resources: [ResourceSchema] = []
        var current: TypeSchema?
        for line in lines {
            let words = line.split(separator: UInt8(ascii: " ")).map { Substring($0) }
            guard words.count > 1 else { continue }
            if line.first != UInt8(ascii: " ") {
                current = words[0] == "type" ? types[String(words[1])] : nil
                if words[0] == "resource", words.count >= 8 {
                    let group = words[2] == "-" ? "" : String(words[2])
                    let kind = String(words[4])
                    func list(_ name: String) -> [String] {
                        words.dropFirst(8).first { $0.hasPrefix(name) }
                            .map { $0.dropFirst(name.count).split(separator: ",").map(String.init) } ?? []
                    }
                    let type = types.values.first { $0.group == group && $0.version == words[3] && $0.kind == kind }
                    resources.append(
                        ResourceSchema(
                            identity: ResourceKind(
                                group: group, version: String(words[3]), plural: String(words[1]), kind: kind,
                                namespaced: words[6] == "namespaced"),
                            singular: String(words[5]), verbs: words[7].split(separator: ",").map(String.init), shortNames: list("short="),
                            categories: list("categories="), subresources: [], type: type ?? TypeSchema(name: "unknown.\(kind)")))
                }
            } else if let type = current {
                type.append(Self.field(words, valueType(words[1])))
            } else if words[0] == "sub", words.count >= 5, !resources.isEmpty {
                let parts = words[3].split(separator: "/")
                resources[resources.count - 1].subresources.append(
                    SubresourceSchema(
                        name: String(words[1]), kind: String(words[2]), group: parts.count == 2 ? String(parts[0]) : "",
                        version: words[3] == "-" ? "" : String(parts.last ?? ""), verbs: words[4].split(separator: ",").map(String.init)))
            }
        }
        self.types = types
        self.resources = resources
        var byPath: [String: Int] = [:]
        for (index, resource) in resources.enumerated() {
            byPath["\(resource.identity.group)/\(resource.identity.version)/\(resource.identity.plural)"] = index
        }
        self.byPath = byPath
        var byKind: [String: TypeSchema] = [:]
        for type in types.values where !type.kind.isEmpty { byKind["\(type.group)/\(type.version)/\(type.kind)"] = type }
        self.byKind = byKind
    }

    private static func field(_ words: [Substring], _ type: ValueType) -> FieldSchema {
        var field = FieldSchema(
            name: String(words[0]), type: type, protobufNumber: 0, required: false, topology: .granular, mergeKey: nil, mergesList: false,
            retainsKeys: false, enumValues: [])
        var listTopology: Topology?
        var mapAtomic = false
        for word in words.dropFirst(2) {
            if let number = Int(word) {
                field.protobufNumber = number
            } else if word == "required" {
                field.required = true
            } else if word.hasPrefix("list=") {
                let value = word.dropFirst(5)
                if value.hasPrefix("map:") {
                    listTopology = .map(keys: value.dropFirst(4).split(separator: ",").map(String.init))
                } else {
                    listTopology = value == "set" ? .set : .atomic
                }
            } else if word.hasPrefix("merge=") {
                field.mergeKey = String(word.dropFirst(6))
            } else if word.hasPrefix("strategy=") {
                let strategies = word.dropFirst(9).split(separator: ",")
                field.mergesList = strategies.contains("merge")
                field.retainsKeys = strategies.contains("retainKeys")
            } else if word.hasPrefix("map=") {
                mapAtomic = word.dropFirst(4) == "atomic"
            } else if word.hasPrefix("enum=") {
                field.enumValues = word.dropFirst(5).split(separator: "|", omittingEmptySubsequences: false).map(String.init)
            }
        }
        switch type {
        case .list: field.topology = listTopology ?? .atomic
        case .map: field.topology = mapAtomic ? .atomic : .granular
        case .object(let schema): field.topology = mapAtomic || schema.isAtomic ? .atomic : .granular
        default: field.topology = .atomic
        }
        return field
    }

    package func resource(group: String, version: String, plural: String) -> ResourceSchema? {
        byPath["\(group)/\(version)/\(plural)"].map { resources[$0] }
    }

    package func type(apiVersion: String, kind: String) -> TypeSchema? {
        byKind[apiVersion.contains("/") ? "\(apiVersion)/\(kind)" : "/\(apiVersion)/\(kind)"]
    }
}
