public import JSON

/// One finding of validation: what is wrong at which path (upstream's `field.Error`).
public struct FieldError: Error, Sendable, Equatable {
    public enum ErrorType: Sendable, Equatable {
        case required, invalid, notSupported, duplicate, forbidden, tooLong, tooMany, notFound, typeInvalid, `internal`

        /// The machine-readable reason in `status.details.causes`.
        public var reason: String {
            switch self {
            case .required: "FieldValueRequired"
            case .invalid: "FieldValueInvalid"
            case .notSupported: "FieldValueNotSupported"
            case .duplicate: "FieldValueDuplicate"
            case .forbidden: "FieldValueForbidden"
            case .tooLong: "FieldValueTooLong"
            case .tooMany: "FieldValueTooMany"
            case .notFound: "FieldValueNotFound"
            case .typeInvalid: "FieldValueTypeInvalid"
            case .internal: "InternalError"
            }
        }

        var label: String {
            switch self {
            case .required: "Required value"
            case .invalid, .typeInvalid: "Invalid value"
            case .notSupported: "Unsupported value"
            case .duplicate: "Duplicate value"
            case .forbidden: "Forbidden"
            case .tooLong: "Too long"
            case .tooMany: "Too many"
            case .notFound: "Not found"
            case .internal: "Internal error"
            }
        }
    }

    public var type: ErrorType
    /// For example `spec.containers[0].name`.
    public var field: String
    /// The refused value as Go prints it in the message; nil for types that print none.
    public var value: String?
    public var detail: String

    public init(_ type: ErrorType, _ field: String, value: String? = nil, _ detail: String) {
        self.type = type
        self.field = field
        self.value = value
        self.detail = detail
    }

    public static func required(_ field: String, _ detail: String = "") -> FieldError { FieldError(.required, field, detail) }
    public static func forbidden(_ field: String, _ detail: String) -> FieldError { FieldError(.forbidden, field, detail) }
    public static func invalid(_ field: String, _ value: JSON?, _ detail: String) -> FieldError {
        FieldError(.invalid, field, value: goText(value), detail)
    }
    public static func duplicate(_ field: String, _ value: JSON?) -> FieldError { FieldError(.duplicate, field, value: goText(value), "") }
    public static func notFound(_ field: String, _ value: JSON?) -> FieldError { FieldError(.notFound, field, value: goText(value), "") }
    public static func tooLong(_ field: String, max: Int) -> FieldError {
        FieldError(.tooLong, field, "may not be more than \(max) bytes")
    }
    public static func notSupported(_ field: String, _ value: JSON?, _ supported: [String]) -> FieldError {
        FieldError(
            .notSupported, field, value: goText(value),
            "supported values: " + supported.map { "\"\($0)\"" }.joined(separator: ", "))
    }

    /// A value as Go's `%q`, `%d` and JSON show it.
    static func goText(_ value: JSON?) -> String {
        guard let value else { return "null" }
        switch value {
        case .null: return "null"
        default: return value.text
        }
    }

    /// The part of the message without the field: the cause's message.
    public var detailText: String {
        var text = type.label
        if let value { text += ": \(value)" }
        if !detail.isEmpty { text += ": \(detail)" }
        return text
    }

    public var text: String { "\(field): \(detailText)" }
}
