package import JSON
import KubeMeta

/// A value that does not fit its type, with the message of upstream's decoder.
package struct DecodeError: Error, Sendable, Equatable {
    package var message: String
}

/// What decoding found besides the value.
package struct DecodeFindings: Sendable {
    /// In the form of upstream's strict decoding errors: `unknown field "spec.foo"`.
    package var strict: [String] = []
    /// Findings that are kept at the most.
    static let strictMax = 100

    var keepsEmpty = false

    package init() {}

    mutating func unknown(_ path: String) {
        if strict.count < Self.strictMax { strict.append("unknown field \"\(path)\"") }
    }
}

/// Turns a parsed JSON value into the canonical form of its type: unknown members are dropped (and reported), nulls are dropped, quantities
/// are written canonically, every value is checked against its type.
package enum ObjectDecoder {
    /// - Parameter keepsEmpty: keep optional lists and maps that are empty, as an applied configuration needs it; else they are dropped, as
    ///   Go's encoder would.
    package static func decode(
        _ value: inout JSON, as type: TypeSchema, findings: inout DecodeFindings, keepsEmpty: Bool = false
    ) throws(DecodeError) {
        findings.keepsEmpty = keepsEmpty
        try decodeObject(&value, type, path: "", findings: &findings)
    }

    private static func mismatch(_ value: JSON, owner: String, path: String, type: String) -> DecodeError {
        let place = path.isEmpty ? "value" : "struct field \(owner).\(path)"
        return DecodeError(message: "json: cannot unmarshal \(value.typeName) into Go \(place) of type \(type)")
    }

    private static func decodeObject(
        _ value: inout JSON, _ type: TypeSchema, path: String, findings: inout DecodeFindings
    ) throws(DecodeError) {
        guard case .object(var object) = value else { throw mismatch(value, owner: type.goName, path: path, type: qualified(type)) }
        value = .null
        var dropped = false
        var failure: DecodeError?
        object.updateAll { key, member in
            guard failure == nil else { return }
            guard let field = type.field(key) else {
                findings.unknown(path.isEmpty ? key : path + "." + key)
                member = .null
                dropped = true
                return
            }
            if member.isNull {
                dropped = true
                return
            }
            do throws(DecodeError) {
                try decodeValue(&member, field.type, owner: type.goName, path: path.isEmpty ? key : path + "." + key, findings: &findings)
            } catch { failure = error }
            if !field.required, !findings.keepsEmpty {
                switch member {
                case .array(let elements) where elements.isEmpty:
                    if case .list = field.type {
                        member = .null
                        dropped = true
                    }
                case .object(let members) where members.isEmpty:
                    if case .map = field.type {
                        member = .null
                        dropped = true
                    }
                default: break
                }
            }
        }
        if let failure { throw failure }
        if dropped { object.removeAll { $0.value.isNull } }
        value = .object(object)
    }

    private static func qualified(_ type: TypeSchema) -> String {
        let parts = type.name.split(separator: "/")
        guard parts.count > 1, let version = parts.last?.split(separator: ".").first else { return type.name }
        return "\(version).\(type.goName)"
    }

    /// Members of maps and lists keep the owner of the field, as Go's decoder reports it.
    private static func decodeValue(
        _ value: inout JSON, _ type: ValueType, owner: String, path: String, findings: inout DecodeFindings
    ) throws(DecodeError) {
        switch type {
        case .string:
            guard case .string = value else { throw mismatch(value, owner: owner, path: path, type: "string") }
        case .time, .microTime:
            guard case .string(let text) = value else { throw mismatch(value, owner: owner, path: path, type: "string") }
            guard KubeTime.parse(text) != nil else {
                throw DecodeError(message: "parsing time \"\(text)\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\(text)\" as \"2006\"")
            }
        case .bytes:
            guard case .string(let text) = value else { throw mismatch(value, owner: owner, path: path, type: "[]uint8") }
            if let offset = Base64.firstIllegalByte(text) {
                throw DecodeError(message: "illegal base64 data at input byte \(offset)")
            }
        case .bool:
            guard case .bool = value else { throw mismatch(value, owner: owner, path: path, type: "bool") }
        case .double:
            guard value.double != nil else { throw mismatch(value, owner: owner, path: path, type: "float64") }
        case .integer(let bits):
            switch value {
            case .int(let number):
                if bits == 32, Int32(exactly: number) == nil {
                    throw DecodeError(message: "json: cannot unmarshal number \(number) into Go struct field \(owner).\(path) of type int32")
                }
            case .double(let number):
                guard let whole = Int64(exactly: number), bits == 64 || Int32(exactly: whole) != nil else {
                    throw DecodeError(
                        message: "json: cannot unmarshal number \(value.text) into Go struct field \(owner).\(path) of type int\(bits)")
                }
                value = .int(whole)
            default: throw mismatch(value, owner: owner, path: path, type: "int\(bits)")
            }
        case .quantity:
            let text: String
            switch value {
            case .string(let string): text = string
            case .int, .double: text = value.text
            default: throw mismatch(value, owner: owner, path: path, type: "string")
            }
            guard let quantity = Quantity(text) else { throw DecodeError(message: Quantity.formatMessage) }
            value = .string(quantity.text)
        case .intOrString:
            switch value {
            case .string: break
            case .int(let number):
                guard Int32(exactly: number) != nil else { throw mismatch(value, owner: owner, path: path, type: "int32") }
            case .double(let number):
                guard let whole = Int32(exactly: number) else { throw mismatch(value, owner: owner, path: path, type: "int32") }
                value = .int(Int64(whole))
            default: throw mismatch(value, owner: owner, path: path, type: "int32")
            }
        case .any: break
        case .anyObject:
            guard case .object = value else { throw mismatch(value, owner: owner, path: path, type: "object") }
        case .object(let schema):
            try decodeObject(&value, schema, path: path, findings: &findings)
        case .list(let element):
            guard case .array(var elements) = value else { throw mismatch(value, owner: owner, path: path, type: type.goName) }
            value = .null
            for index in elements.indices {
                // Go reads null in a list as the zero value of the element.
                if elements[index].isNull {
                    elements[index] = zero(element)
                } else {
                    try decodeValue(&elements[index], element, owner: owner, path: "\(path)[\(index)]", findings: &findings)
                }
            }
            value = .array(elements)
        case .map(let element):
            guard case .object(var object) = value else { throw mismatch(value, owner: owner, path: path, type: type.goName) }
            value = .null
            var failure: DecodeError?
            object.updateAll { key, member in
                guard failure == nil else { return }
                if member.isNull {
                    member = zero(element)
                    return
                }
                do throws(DecodeError) {
                    try decodeValue(&member, element, owner: owner, path: "\(path).\(key)", findings: &findings)
                } catch { failure = error }
            }
            if let failure { throw failure }
            value = .object(object)
        }
    }

    private static func zero(_ type: ValueType) -> JSON {
        switch type {
        case .string, .bytes: .string("")
        case .bool: .bool(false)
        case .integer, .double: .int(0)
        case .quantity: .string("0")
        case .intOrString: .int(0)
        case .object, .anyObject, .map: .object([:])
        case .list: .array([])
        case .time, .microTime, .any: .null
        }
    }
}
