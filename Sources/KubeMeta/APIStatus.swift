public import JSON

/// The one error of the API edge: what a client sees as a `Status` object (API conventions, "Response Status Kind").
public struct APIStatus: Error, Sendable, Equatable {
    public struct Cause: Sendable, Equatable {
        /// For example `FieldValueInvalid`.
        public var reason: String
        public var message: String
        public var field: String

        public init(reason: String, message: String, field: String) {
            self.reason = reason
            self.message = message
            self.field = field
        }
    }

    public var code: Int
    public var reason: String
    public var message: String
    public var detailsName: String?
    public var detailsGroup: String?
    public var detailsKind: String?
    public var detailsUID: String?
    public var retryAfterSeconds: Int?
    public var causes: [Cause]
    public var status: String
    /// `metadata.continue`: where a list whose version has expired can go on, with the state as it is now.
    public var continueToken: String?

    public init(
        code: Int, reason: String, message: String, name: String? = nil, group: String? = nil, kind: String? = nil, uid: String? = nil,
        retryAfterSeconds: Int? = nil, causes: [Cause] = [], status: String = "Failure"
    ) {
        self.code = code
        self.reason = reason
        self.message = message
        detailsName = name
        detailsGroup = group
        detailsKind = kind
        detailsUID = uid
        self.retryAfterSeconds = retryAfterSeconds
        self.causes = causes
        self.status = status
    }

    /// The object as it goes over the wire.
    public var json: JSON {
        var object: JSON = ["kind": "Status", "apiVersion": "v1", "metadata": [:], "status": .string(status)]
        if let continueToken { object["metadata"] = ["continue": .string(continueToken)] }
        if !message.isEmpty { object["message"] = .string(message) }
        if !reason.isEmpty { object["reason"] = .string(reason) }
        var details: JSON = [:]
        if let detailsName, !detailsName.isEmpty { details["name"] = .string(detailsName) }
        if let detailsGroup, !detailsGroup.isEmpty { details["group"] = .string(detailsGroup) }
        if let detailsKind, !detailsKind.isEmpty { details["kind"] = .string(detailsKind) }
        if let detailsUID, !detailsUID.isEmpty { details["uid"] = .string(detailsUID) }
        if !causes.isEmpty {
            details["causes"] = .array(
                causes.map { cause in
                    var item: JSON = [:]
                    if !cause.reason.isEmpty { item["reason"] = .string(cause.reason) }
                    if !cause.message.isEmpty { item["message"] = .string(cause.message) }
                    if !cause.field.isEmpty { item["field"] = .string(cause.field) }
                    return item
                })
        }
        if let retryAfterSeconds { details["retryAfterSeconds"] = JSON(retryAfterSeconds) }
        if details.object?.isEmpty == false || hasDetails { object["details"] = details }
        object["code"] = JSON(code)
        return object
    }

    private var hasDetails: Bool { detailsName != nil || detailsKind != nil || detailsGroup != nil }

    /// Reads a `Status` object; nil when the value is none.
    public init?(json: JSON) {
        guard json["kind"]?.string == "Status", let code = json["code"]?.int else { return nil }
        let details = json["details"]
        self.init(
            code: Int(code), reason: json["reason"]?.string ?? "", message: json["message"]?.string ?? "",
            name: details?["name"]?.string, group: details?["group"]?.string, kind: details?["kind"]?.string, uid: details?["uid"]?.string,
            retryAfterSeconds: details?["retryAfterSeconds"]?.int.map(Int.init),
            causes: (details?["causes"]?.array ?? []).map {
                Cause(reason: $0["reason"]?.string ?? "", message: $0["message"]?.string ?? "", field: $0["field"]?.string ?? "")
            },
            status: json["status"]?.string ?? "Failure")
        continueToken = json["metadata"]?["continue"]?.string
    }
}

extension APIStatus: CustomStringConvertible {
    public var description: String { message.isEmpty ? "\(reason) (\(code))" : message }

    public var isNotFound: Bool { reason == "NotFound" }
    public var isConflict: Bool { reason == "Conflict" }
    public var isAlreadyExists: Bool { reason == "AlreadyExists" }
    public var isExpired: Bool { code == 410 }
    public var isForbidden: Bool { reason == "Forbidden" }
}

/// The refusals of the API, with upstream's texts.
extension APIStatus {
    public static func notFound(_ kind: ResourceKind, name: String) -> APIStatus {
        APIStatus(
            code: 404, reason: "NotFound", message: "\(kind.qualifiedName) \"\(name)\" not found", name: name, group: kind.group,
            kind: kind.plural)
    }

    public static func alreadyExists(_ kind: ResourceKind, name: String) -> APIStatus {
        APIStatus(
            code: 409, reason: "AlreadyExists", message: "\(kind.qualifiedName) \"\(name)\" already exists", name: name, group: kind.group,
            kind: kind.plural)
    }

    public static func conflict(_ kind: ResourceKind, name: String, _ message: String) -> APIStatus {
        APIStatus(
            code: 409, reason: "Conflict", message: "Operation cannot be fulfilled on \(kind.qualifiedName) \"\(name)\": \(message)",
            name: name, group: kind.group, kind: kind.plural)
    }

    /// A write with a resource version that is no longer the newest.
    public static func staleWrite(_ kind: ResourceKind, name: String) -> APIStatus {
        conflict(kind, name: name, "the object has been modified; please apply your changes to the latest version and try again")
    }

    public static func badRequest(_ message: String) -> APIStatus { APIStatus(code: 400, reason: "BadRequest", message: message) }

    /// The path leads nowhere.
    public static var noSuchPath: APIStatus {
        var status = APIStatus(code: 404, reason: "NotFound", message: "the server could not find the requested resource")
        status.detailsName = ""
        return status
    }

    public static func forbidden(_ message: String, kind: ResourceKind? = nil, name: String? = nil) -> APIStatus {
        APIStatus(code: 403, reason: "Forbidden", message: message, name: name, group: kind?.group, kind: kind?.plural)
    }

    public static var unauthorized: APIStatus { APIStatus(code: 401, reason: "Unauthorized", message: "Unauthorized") }

    public static func methodNotAllowed() -> APIStatus {
        APIStatus(code: 405, reason: "MethodNotAllowed", message: "the server does not allow this method on the requested resource", name: "")
    }

    public static func internalError(_ message: String) -> APIStatus {
        APIStatus(
            code: 500, reason: "InternalError", message: "Internal error occurred: \(message)",
            causes: [Cause(reason: "", message: message, field: "")])
    }

    public static func expired(_ message: String) -> APIStatus { APIStatus(code: 410, reason: "Expired", message: message) }

    public static func invalid(group: String, kind: String, name: String, _ errors: [FieldError]) -> APIStatus {
        let text: String
        switch errors.count {
        case 0: text = ""
        case 1: text = errors[0].text
        default: text = "[\(errors.map(\.text).joined(separator: ", "))]"
        }
        return APIStatus(
            code: 422, reason: "Invalid",
            message: "\(group.isEmpty ? kind : "\(kind).\(group)") \"\(name)\" is invalid\(text.isEmpty ? "" : ": \(text)")",
            name: name, group: group, kind: kind,
            causes: errors.map { Cause(reason: $0.type.reason, message: $0.detailText, field: $0.field) })
    }
}
