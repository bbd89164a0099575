package import JSON
import KubeMeta

/// Reading the API's protobuf encoding along the schema: the envelope `k8s\0` + `runtime.Unknown`, then the object by its field numbers.
package enum ProtobufDecoder {
    package struct Failure: Error, Sendable { package var message: String }

    private static let magic: [UInt8] = [0x6B, 0x38, 0x73, 0x00]
    private static let depthMax = 100

    /// Nested messages go to the schema's types; their kind comes from the envelope.
    package static func decode(_ bytes: [UInt8], schema: Schema) throws(Failure) -> JSON {
        guard bytes.starts(with: magic) else { throw Failure(message: "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]") }
        var reader = WireReader(bytes[4...])
        var apiVersion = ""
        var kind = ""
        var raw: ArraySlice<UInt8> = []
        while let field = try reader.next() {
            switch (field.number, field.value) {
            case (1, .bytes(let meta)):
                var inner = WireReader(meta)
                while let part = try inner.next() {
                    guard case .bytes(let text) = part.value else { continue }
                    if part.number == 1 { apiVersion = String(decoding: text, as: UTF8.self) }
                    if part.number == 2 { kind = String(decoding: text, as: UTF8.self) }
                }
            case (2, .bytes(let content)): raw = content
            default: break
            }
        }
        guard let type = schema.type(apiVersion: apiVersion, kind: kind) ?? options(kind, schema) else {
            throw Failure(message: "no kind \"\(kind)\" is registered for version \"\(apiVersion)\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"")
        }
        var object = try message(raw, type, depth: 0)
        object["kind"] = .string(kind)
        object["apiVersion"] = .string(apiVersion)
        return .object(object)
    }

    /// DeleteOptions and their like are sent under the version of any group.
    private static func options(_ kind: String, _ schema: Schema) -> TypeSchema? {
        kind.hasSuffix("Options") ? schema.types["meta/v1.\(kind)"] : nil
    }

    private static func message(_ bytes: ArraySlice<UInt8>, _ type: TypeSchema, depth: Int) throws(Failure) -> JSONObject {
        guard depth < depthMax else { throw Failure(message: "exceeded max depth") }
        var object = JSONObject()
        // Repeated fields come element by element: they are collected here, so that none is copied for each of its elements.
        var lists: [String: [JSON]] = [:]
        var maps: [String: JSONObject] = [:]
        var reader = WireReader(bytes)
        while let part = try reader.next() {
            guard let field = type.field(number: part.number) else { continue }
            switch field.type {
            case .list(let element):
                if case .bytes(let packed) = part.value, element.isPackable {
                    var inner = WireReader(packed)
                    while let number = try inner.varint() { lists[field.name, default: []].append(scalar(number, element)) }
                } else {
                    lists[field.name, default: []].append(try value(part.value, element, depth: depth + 1))
                }
            case .map(let element):
                guard case .bytes(let entry) = part.value else { throw Failure(message: "proto: wrong wireType for field \(field.name)") }
                var inner = WireReader(entry)
                var key = ""
                var content: JSON = element.zeroInMap
                while let piece = try inner.next() {
                    if piece.number == 1, case .bytes(let text) = piece.value { key = String(decoding: text, as: UTF8.self) }
                    if piece.number == 2 { content = try value(piece.value, element, depth: depth + 1) }
                }
                maps[field.name, default: [:]][key] = content
            default:
                let found = try value(part.value, field.type, depth: depth + 1)
                if isAbsent(found, field) { continue }
                object[field.name] = found
            }
        }
        for (name, list) in lists { object[name] = .array(list) }
        for (name, map) in maps { object[name] = .object(map) }
        return object
    }

    /// Go's encoder writes the zero of every field that is no pointer; in JSON such a field is left out.
    private static func isAbsent(_ value: JSON, _ field: FieldSchema) -> Bool {
        switch value {
        case .null: true
        case .string(""): true
        case .int(0), .bool(false): !field.required && plainScalars.contains(field.name)
        default: false
        }
    }

    /// Numbers and flags that upstream's types hold without a pointer.
    private static let plainScalars: Set<String> = [
        "minReadySeconds", "paused", "hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "hostPort", "nodePort",
        "healthCheckNodePort", "generation", "observedGeneration", "count", "initialDelaySeconds", "timeoutSeconds", "periodSeconds",
        "successThreshold", "failureThreshold", "publishNotReadyAddresses", "unschedulable", "numberAvailable", "numberUnavailable",
        "updatedNumberScheduled", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "fullyLabeledReplicas",
        "currentReplicas", "active", "succeeded", "failed", "partition", "globalDefault", "value", "port", "code", "retryAfterSeconds",
        "allowed", "denied", "authenticated", "incomplete", "expirationSeconds", "follow", "previous", "timestamps", "watch",
        "allowWatchBookmarks", "limit", "exitCode", "signal", "manualSelector",
    ]

    private static func scalar(_ number: UInt64, _ type: ValueType) -> JSON {
        if case .bool = type { return .bool(number != 0) }
        return .int(Int64(bitPattern: number))
    }

    private static func value(_ part: WireReader.Value, _ type: ValueType, depth: Int) throws(Failure) -> JSON {
        switch (type, part) {
        case (.string, .bytes(let bytes)): return .string(String(decoding: bytes, as: UTF8.self))
        case (.bytes, .bytes(let bytes)): return .string(Base64.encode(bytes))
        case (.bool, .varint(let number)), (.integer, .varint(let number)): return scalar(number, type)
        case (.integer(let bits), .fixed32(let number)) where bits == 32: return .int(Int64(Int32(bitPattern: number)))
        case (.double, .fixed64(let number)): return .double(Double(bitPattern: number))
        case (.quantity, .bytes(let bytes)):
            return .string(try text(bytes, number: 1))
        case (.intOrString, .bytes(let bytes)):
            var isString = false
            var number: Int64 = 0
            var name = ""
            var reader = WireReader(bytes)
            while let part = try reader.next() {
                switch (part.number, part.value) {
                case (1, .varint(let kind)): isString = kind == 1
                case (2, .varint(let value)): number = Int64(bitPattern: value)
                case (3, .bytes(let text)): name = String(decoding: text, as: UTF8.self)
                default: break
                }
            }
            return isString ? .string(name) : .int(number)
        case (.time, .bytes(let bytes)), (.microTime, .bytes(let bytes)):
            var seconds: Int64?
            var nanos: Int64 = 0
            var reader = WireReader(bytes)
            while let part = try reader.next() {
                guard case .varint(let value) = part.value else { continue }
                if part.number == 1 { seconds = Int64(bitPattern: value) } else { nanos = Int64(bitPattern: value) }
            }
            // The zero time is no time.
            guard let seconds, seconds > -62_135_596_800, seconds < 253_402_300_800 else { return .null }
            if case .microTime = type { return .string(KubeTime.microText(Double(seconds) + Double(nanos) / 1e9)) }
            return .string(KubeTime.text(Double(seconds)))
        case (.any, .bytes(let bytes)), (.anyObject, .bytes(let bytes)):
            // RawExtension and JSON carry JSON text in their first field.
            var content: ArraySlice<UInt8> = []
            var reader = WireReader(bytes)
            while let part = try reader.next() { if part.number == 1, case .bytes(let raw) = part.value { content = raw } }
            if content.isEmpty { return .null }
            do throws(JSONParseError) { return try JSON.parse(Array(content)) } catch { throw Failure(message: error.message) }
        case (.object(let schema), .bytes(let bytes)): return .object(try message(bytes, schema, depth: depth))
        case (.list(let element), .bytes(let bytes)):
            // A list inside a map or list is a message whose first field repeats.
            var elements: [JSON] = []
            var reader = WireReader(bytes)
            while let part = try reader.next() { if part.number == 1 { elements.append(try value(part.value, element, depth: depth + 1)) } }
            return .array(elements)
        default: throw Failure(message: "proto: wrong wireType for a value of type \(type.goName)")
        }
    }

    private static func text(_ bytes: ArraySlice<UInt8>, number: Int) throws(Failure) -> String {
        var reader = WireReader(bytes)
        var found = ""
        while let part = try reader.next() {
            if part.number == number, case .bytes(let text) = part.value { found = String(decoding: text, as: UTF8.self) }
        }
        return found
    }
}

extension ValueType {
    fileprivate var isPackable: Bool {
        switch self {
        case .integer, .bool: true
        default: false
        }
    }

    fileprivate var zeroInMap: JSON {
        switch self {
        case .string, .bytes: ""
        case .quantity: "0"
        case .object, .map: [:]
        case .list: []
        default: .null
        }
    }
}

/// The wire format: numbered fields as variable-length numbers, fixed words or bytes (protobuf.dev, "Encoding").
struct WireReader {
    enum Value {
        case varint(UInt64)
        case fixed64(UInt64)
        case fixed32(UInt32)
        case bytes(ArraySlice<UInt8>)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// Nil at the end.
    mutating func varint() throws(ProtobufDecoder.Failure) -> UInt64? {
        if rest.isEmpty { return nil }
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while let byte = rest.popFirst() {
            guard shift < 64 else { throw ProtobufDecoder.Failure(message: "proto: integer overflow") }
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
        throw ProtobufDecoder.Failure(message: "unexpected EOF")
    }

    private mutating func take(_ count: UInt64) throws(ProtobufDecoder.Failure) -> ArraySlice<UInt8> {
        guard count <= UInt64(rest.count) else { throw ProtobufDecoder.Failure(message: "unexpected EOF") }
        let bytes = rest.prefix(Int(count))
        rest = rest.dropFirst(Int(count))
        return bytes
    }

    mutating func next() throws(ProtobufDecoder.Failure) -> (number: Int, value: Value)? {
        guard let tag = try varint() else { return nil }
        let number = Int(truncatingIfNeeded: tag >> 3)
        guard number > 0 else { throw ProtobufDecoder.Failure(message: "proto: illegal tag \(number)") }
        switch tag & 7 {
        case 0:
            guard let value = try varint() else { throw ProtobufDecoder.Failure(message: "unexpected EOF") }
            return (number, .varint(value))
        case 1: return (number, .fixed64(try take(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }))
        case 2:
            guard let count = try varint() else { throw ProtobufDecoder.Failure(message: "unexpected EOF") }
            return (number, .bytes(try take(count)))
        case 5: return (number, .fixed32(try take(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }))
        default: throw ProtobufDecoder.Failure(message: "proto: illegal wireType \(tag & 7)")
        }
    }
}

/// Writing the wire format.
package struct WireWriterBuffer: Sendable {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    private mutating func varint(_ value: UInt64) {
        var value = value
        while value >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        bytes.append(UInt8(value))
    }

    package mutating func bytes(_ number: Int, _ content: some Collection<UInt8>) {
        varint(UInt64(number) << 3 | 2)
        varint(UInt64(content.count))
        bytes.append(contentsOf: content)
    }

    package mutating func string(_ number: Int, _ text: String) { bytes(number, text.utf8) }

    package mutating func message(_ number: Int, _ body: (inout WireWriterBuffer) -> Void) {
        var inner = WireWriterBuffer()
        body(&inner)
        bytes(number, inner.bytes)
    }
}
