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
    package private(set) var fields: [FieldSchema] = []
    private var positions: [String: Int] = [:]
    /// Position by protobuf number; -1 for a number without a field. The numbers of the API are small.
    private var numbers: [Int] = []
    package internal(set) var group = ""
    package internal(set) var version = ""
    /// Empty for a type that is no kind.
    package internal(set) var kind = ""
    package internal(set) var isAtomic = false

    /// `DeploymentSpec`, or for a kind its own name.
    package let goName: String

    init(name: String) {
        self.name = name
        goName = name.utf8.lastIndex(of: UInt8(ascii: ".")).map { String(name[name.utf8.index(after: $0)...]) } ?? name
    }

    package func field(_ name: String) -> FieldSchema? { positions[name].map { fields[$0] } }

    package func field(number: Int) -> FieldSchema? {
        numbers.indices.contains(number) && numbers[number] >= 0 ? fields[numbers[number]] : nil
    }

    /// Sets all fields at once, so that the tables are made in their final size.
    func setFields(_ fields: [FieldSchema]) {
        self.fields = fields
        positions = Dictionary(minimumCapacity: fields.count)
        numbers = Array(repeating: -1, count: (fields.map(\.protobufNumber).max() ?? -1) + 1)
        for (position, field) in fields.enumerated() {
            positions[field.name] = position
            if field.protobufNumber > 0 { numbers[field.protobufNumber] = position }
        }
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
        (types, resources) = text.withUTF8Buffer { SchemaParser.parse(SchemaWord($0)) }
        var byPath: [String: Int] = [:]
        for (index, resource) in resources.enumerated() {
            byPath["\(resource.identity.group)/\(resource.identity.version)/\(resource.identity.plural)"] = index
        }
        self.byPath = byPath
        var byKind: [String: TypeSchema] = [:]
        for type in types.values where !type.kind.isEmpty { byKind[SchemaParser.kindKey(type.group, type.version, type.kind)] = type }
        self.byKind = byKind
    }

    package func resource(group: String, version: String, plural: String) -> ResourceSchema? {
        byPath["\(group)/\(version)/\(plural)"].map { resources[$0] }
    }

    package func type(apiVersion: String, kind: String) -> TypeSchema? {
        byKind[apiVersion.contains("/") ? "\(apiVersion)/\(kind)" : "/\(apiVersion)/\(kind)"]
    }
}
