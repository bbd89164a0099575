/// A JSON value. Objects keep the order in which their members arrived, so that a value written back reads as it was sent.
///
/// Numbers are kept as 64-bit integers when they have neither fraction nor exponent and fit, else as doubles: the Kubernetes API
/// has no other numbers.
public enum JSON: Sendable, Hashable {
    case null
    case bool(Bool)
    case int(Int64)
    case double(Double)
    case string(String)
    case array([JSON])
    case object(JSONObject)
}

extension JSON {
    /// The member of an object, or nil when this is not an object or has no such member. Setting nil removes the member;
    /// setting a member of a value that is not an object makes it an object.
    @inlinable public subscript(key: String) -> JSON? {
        get {
            guard case .object(let object) = self else { return nil }
            return object[key]
        }
        set {
            if case .object(var object) = self {
                self = .null  // Releases our reference, so that the change below happens in place.
                object[key] = newValue
                self = .object(object)
            } else if let newValue {
                self = .object([key: newValue])
            }
        }
    }

    /// The element of an array, or nil when this is not an array or is shorter.
    @inlinable public subscript(index: Int) -> JSON? {
        guard case .array(let array) = self, array.indices.contains(index) else { return nil }
        return array[index]
    }

    /// The value at a path of object members.
    public subscript(path path: String...) -> JSON? {
        var value = self
        for key in path {
            guard let next = value[key] else { return nil }
            value = next
        }
        return value
    }

    /// Sets the value at a path of object members, making the objects on the way.
    public mutating func set(_ value: JSON?, at path: String...) { set(value, at: path[...]) }

    public mutating func set(_ value: JSON?, at path: ArraySlice<String>) {
        guard let first = path.first else {
            if let value { self = value }
            return
        }
        if path.count == 1 {
            self[first] = value
            return
        }
        var child = self[first] ?? .object([:])
        if value == nil, self[first] == nil { return }
        self[first] = .null
        child.set(value, at: path.dropFirst())
        self[first] = child
    }

    @inlinable public var string: String? { if case .string(let value) = self { value } else { nil } }
    @inlinable public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    @inlinable public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    @inlinable public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
    @inlinable public var isNull: Bool { if case .null = self { true } else { false } }

    /// The value as a whole number: an integer, or a double without a fraction that fits.
    @inlinable public var int: Int64? {
        switch self {
        case .int(let value): value
        case .double(let value): Int64(exactly: value)
        default: nil
        }
    }

    @inlinable public var double: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The name of the value's type, as Go's JSON decoder says it in error messages.
    public var typeName: String {
        switch self {
        case .null: "null"
        case .bool: "bool"
        case .int, .double: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral, ExpressibleByFloatLiteral, ExpressibleByStringInterpolation
{
    // No nil literal: in `condition ? nil : value` it would silently mean null where absent was meant. Write `.null`.
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .int(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) { self = .object(JSONObject(elements)) }
}

extension JSON {
    public init(_ value: String) { self = .string(value) }
    public init(_ value: Int) { self = .int(Int64(value)) }
    public init(_ value: Int64) { self = .int(value) }
    public init(_ value: Bool) { self = .bool(value) }
    public init(_ values: [String]) { self = .array(values.map(JSON.string)) }
    /// Members sorted by name, as Go writes its maps.
    public init(_ map: [String: String]) {
        self = .object(JSONObject(map.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }))
    }
}
