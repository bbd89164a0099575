import KubeMeta

/// Reads the project's schema text. The text is read on every start, so its words are slices of the text in memory, and a string is
/// made only of what is kept.
enum SchemaParser {
    static func kindKey(_ group: String, _ version: String, _ kind: String) -> String { "\(group)/\(version)/\(kind)" }

    static func parse(_ text: SchemaWord) -> (types: [String: TypeSchema], resources: [ResourceSchema]) {
        let lines = text.split(UInt8(ascii: "\n"))
        var types: [String: TypeSchema] = Dictionary(minimumCapacity: 1024)
        var kinds: [String: TypeSchema] = [:]
        var scalars: [String: ValueType] = builtInScalars

        // First the names, so that fields can refer to types that come later.
        for line in lines where !line.isIndented && !line.hasPrefix("resource ") {
            let words = line.split(UInt8(ascii: " "))
            guard words.count > 1 else { continue }
            if words[0].equals("type") {
                let type = TypeSchema(name: words[1].text)
                for word in words.dropFirst(2) {
                    if word.equals("atomic") { type.isAtomic = true }
                    let parts = word.split(UInt8(ascii: "/"), keepingEmpty: true)
                    if parts.count == 3 {
                        type.group = parts[0].text
                        type.version = parts[1].text
                        type.kind = parts[2].text
                        kinds[kindKey(type.group, type.version, type.kind)] = type
                    }
                }
                types[type.name] = type
            } else if words[0].equals("scalar") {
                let name = words[1].text
                if scalars[name] == nil { scalars[name] = words.count > 2 && words[2].equals("object") ? .anyObject : .any }
            }
        }

        func valueType(_ word: SchemaWord) -> ValueType {
            if word.hasPrefix("[]") { return .list(valueType(word.dropFirst(2))) }
            if word.hasPrefix("map[string]") { return .map(valueType(word.dropFirst(11))) }
            let name = word.text
            if let scalar = scalars[name] { return scalar }
            return types[name].map(ValueType.object) ?? .any
        }

        var resources: [ResourceSchema] = []
        var current: TypeSchema?
        var fields: [FieldSchema] = []
        for line in lines {
            let words = line.split(UInt8(ascii: " "))
            guard words.count > 1 else { continue }
            if !line.isIndented {
                current?.setFields(fields)
                fields.removeAll(keepingCapacity: true)
                current = words[0].equals("type") ? types[words[1].text] : nil
                if words[0].equals("resource"), words.count >= 8 { resources.append(resource(words, kinds)) }
            } else if current != nil {
                fields.append(field(words, valueType(words[1])))
            } else if words[0].equals("sub"), words.count >= 5, !resources.isEmpty {
                resources[resources.count - 1].subresources.append(subresource(words))
            }
        }
        current?.setFields(fields)
        return (types, resources)
    }

    /// Scalars with a meaning of their own; any other is kept as it is.
    private static let builtInScalars: [String: ValueType] = [
        "string": .string, "string:byte": .bytes, "boolean": .bool, "integer:int32": .integer(bits: 32), "integer:int64": .integer(bits: 64),
        "number:double": .double, "api/resource.Quantity": .quantity, "util/intstr.IntOrString": .intOrString, "meta/v1.Time": .time,
        "meta/v1.MicroTime": .microTime,
    ]

    private static func resource(_ words: [SchemaWord], _ kinds: [String: TypeSchema]) -> ResourceSchema {
        let group = words[2].equals("-") ? "" : words[2].text
        let version = words[3].text
        let kind = words[4].text
        func list(_ name: StaticString) -> [String] {
            words.dropFirst(8).first { $0.hasPrefix(name) }.map { $0.dropFirst(name.utf8CodeUnitCount).texts(UInt8(ascii: ",")) } ?? []
        }
        return ResourceSchema(
            identity: ResourceKind(
                group: group, version: version, plural: words[1].text, kind: kind, namespaced: words[6].equals("namespaced")),
            singular: words[5].text, verbs: words[7].texts(UInt8(ascii: ",")), shortNames: list("short="), categories: list("categories="),
            subresources: [], type: kinds[kindKey(group, version, kind)] ?? TypeSchema(name: "unknown.\(kind)"))
    }

    private static func subresource(_ words: [SchemaWord]) -> SubresourceSchema {
        let parts = words[3].split(UInt8(ascii: "/"))
        return SubresourceSchema(
            name: words[1].text, kind: words[2].text, group: parts.count == 2 ? parts[0].text : "",
            version: words[3].equals("-") ? "" : parts.last?.text ?? "", verbs: words[4].texts(UInt8(ascii: ",")))
    }

    private static func field(_ words: [SchemaWord], _ type: ValueType) -> FieldSchema {
        var field = FieldSchema(
            name: words[0].text, type: type, protobufNumber: 0, required: false, topology: .granular, mergeKey: nil, mergesList: false,
            retainsKeys: false, enumValues: [])
        var listTopology: Topology?
        var mapAtomic = false
        for word in words.dropFirst(2) {
            if let number = word.number {
                field.protobufNumber = number
            } else if word.equals("required") {
                field.required = true
            } else if word.hasPrefix("list=map:") {
                listTopology = .map(keys: word.dropFirst(9).texts(UInt8(ascii: ",")))
            } else if word.hasPrefix("list=") {
                listTopology = word.equals("list=set") ? .set : .atomic
            } else if word.hasPrefix("merge=") {
                field.mergeKey = word.dropFirst(6).text
            } else if word.hasPrefix("strategy=") {
                let strategies = word.dropFirst(9).split(UInt8(ascii: ","))
                field.mergesList = strategies.contains { $0.equals("merge") }
                field.retainsKeys = strategies.contains { $0.equals("retainKeys") }
            } else if word.hasPrefix("map=") {
                mapAtomic = word.equals("map=atomic")
            } else if word.hasPrefix("enum=") {
                field.enumValues = word.dropFirst(5).split(UInt8(ascii: "|"), keepingEmpty: true).map(\.text)
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
}

/// A piece of the schema's text, which is a constant of the program and therefore never goes away.
struct SchemaWord {
    private let bytes: UnsafeBufferPointer<UInt8>

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var isIndented: Bool { bytes.first == UInt8(ascii: " ") }

    /// The value of a word of digits only.
    var number: Int? {
        var value = 0
        for byte in bytes {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), value < 1 << 20 else { return nil }
            value = value * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return bytes.isEmpty ? nil : value
    }

    func equals(_ other: StaticString) -> Bool { bytes.count == other.utf8CodeUnitCount && hasPrefix(other) }

    func hasPrefix(_ prefix: StaticString) -> Bool {
        let count = prefix.utf8CodeUnitCount
        guard bytes.count >= count else { return false }
        let start = prefix.utf8Start
        for index in 0..<count where bytes[index] != start[index] { return false }
        return true
    }

    func dropFirst(_ count: Int) -> SchemaWord { SchemaWord(UnsafeBufferPointer(rebasing: bytes.dropFirst(count))) }

    func split(_ separator: UInt8, keepingEmpty: Bool = false) -> [SchemaWord] {
        var words: [SchemaWord] = []
        var start = 0
        for end in 0...bytes.count where end == bytes.count || bytes[end] == separator {
            if end > start || keepingEmpty { words.append(SchemaWord(UnsafeBufferPointer(rebasing: bytes[start..<end]))) }
            start = end + 1
        }
        return words
    }

    func texts(_ separator: UInt8) -> [String] { split(separator).map(\.text) }
}
