package import JSON
package import KubeAPI
package import KubeMeta

/// Who writes, and how strictly.
package struct WriteOptions: Sendable {
    package enum FieldValidation: Sendable { case ignore, warn, strict }

    package var user: UserInfo
    package var dryRun = false
    package var fieldManager = "unknown"
    package var fieldValidation = FieldValidation.warn

    package init(user: UserInfo) { self.user = user }

    private static let fieldManagerBytesMax = 128

    init(user: UserInfo, query: QueryParameters, userAgent: String, kind: String) throws {
        self.user = user
        for value in query.all("dryRun") {
            guard value == "All" else {
                throw APIStatus.invalid(
                    group: "meta.k8s.io", kind: kind, name: "", [.notSupported("dryRun", .array([.string(value)]), ["All"])])
            }
            dryRun = true
        }
        switch query["fieldValidation"] {
        case nil, "", "Warn": fieldValidation = .warn
        case "Ignore": fieldValidation = .ignore
        case "Strict": fieldValidation = .strict
        case let other?:
            throw APIStatus.invalid(
                group: "meta.k8s.io", kind: kind, name: "",
                [.notSupported("fieldValidation", .string(other), ["Ignore", "Strict", "Warn", ""])])
        }
        if let manager = query["fieldManager"], !manager.isEmpty {
            guard manager.utf8.count <= Self.fieldManagerBytesMax else {
                throw APIStatus.invalid(
                    group: "meta.k8s.io", kind: kind, name: "", [.tooLong("fieldManager", max: Self.fieldManagerBytesMax)])
            }
            fieldManager = manager
        } else {
            // As upstream: the program's name, up to the slash of its user agent.
            fieldManager = String(userAgent.prefix { $0 != "/" }.prefix(Self.fieldManagerBytesMax))
            if fieldManager.isEmpty { fieldManager = "unknown" }
        }
    }
}

/// Options of a deletion (`DeleteOptions`).
package struct DeletionOptions: Sendable {
    package var gracePeriodSeconds: Int64?
    package var uid: String?
    package var resourceVersion: String?
    package var propagation: String?
    package var dryRun = false

    package init() {}

    init(body: JSON?, query: QueryParameters) throws {
        if let value = query["gracePeriodSeconds"] {
            guard let seconds = Int64(value) else {
                throw APIStatus.badRequest("strconv.ParseInt: parsing \"\(value)\": invalid syntax")
            }
            gracePeriodSeconds = seconds
        }
        propagation = query["propagationPolicy"]
        if let orphan = query["orphanDependents"] { propagation = orphan == "true" ? "Orphan" : "Background" }
        dryRun = query.all("dryRun").contains("All")
        if let body, body.object?.isEmpty == false {
            if let seconds = body["gracePeriodSeconds"]?.int { gracePeriodSeconds = seconds }
            uid = body["preconditions"]?["uid"]?.string
            resourceVersion = body["preconditions"]?["resourceVersion"]?.string
            if let policy = body["propagationPolicy"]?.string { propagation = policy }
            if let orphan = body["orphanDependents"]?.bool { propagation = orphan ? "Orphan" : "Background" }
            if body["dryRun"]?.array?.isEmpty == false { dryRun = true }
        }
        if let propagation, !["Orphan", "Background", "Foreground"].contains(propagation) {
            throw APIStatus.invalid(
                group: "meta.k8s.io", kind: "DeleteOptions", name: "",
                [.invalid("propagationPolicy", .string(propagation), "must be one of: [Background, Foreground, Orphan]")])
        }
    }
}

/// Which objects a list or watch covers, and at which version.
package struct ListOptions: Sendable {
    package var namespace = ""
    package var labels = Selector.everything
    package var fields = FieldSelector(terms: [])
    package var limit = 0
    package var continueToken = ""
    package var resourceVersion = ""
    package var resourceVersionMatch = ""
    package var timeoutSeconds: Int64?
    package var bookmarks = false
    package var sendInitialEvents: Bool?

    package init() {}

    init(namespace: String, query: QueryParameters, kind: ResourceKind, selectable: SelectableFields, isWatch: Bool) throws {
        self.namespace = namespace
        if let text = query["labelSelector"], !text.isEmpty {
            do { labels = try Selector.parse(text) } catch {
                throw APIStatus.badRequest("unable to parse requirement: \(error.message)")
            }
        }
        if let text = query["fieldSelector"], !text.isEmpty {
            fields = try FieldSelector.parse(text)
            for term in fields.terms where !selectable.supports(term.field) {
                throw APIStatus.badRequest(
                    "\"\(term.field)\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
            }
        }
        func integer(_ name: String) throws -> Int64? {
            guard let text = query[name], !text.isEmpty else { return nil }
            guard let value = Int64(text) else { throw APIStatus.badRequest("strconv.ParseInt: parsing \"\(text)\": invalid syntax") }
            return value
        }
        limit = Int(clamping: try integer("limit") ?? 0)
        timeoutSeconds = try integer("timeoutSeconds")
        continueToken = query["continue"] ?? ""
        resourceVersion = query["resourceVersion"] ?? ""
        resourceVersionMatch = query["resourceVersionMatch"] ?? ""
        bookmarks = query.flag("allowWatchBookmarks")
        if query["sendInitialEvents"] != nil { sendInitialEvents = query.flag("sendInitialEvents") }
        if !resourceVersion.isEmpty, UInt64(resourceVersion) == nil {
            throw APIStatus.badRequest(
                "invalid resource version: resourceVersion: Invalid value: \"\(resourceVersion)\": strconv.ParseUint: parsing \"\(resourceVersion)\": invalid syntax")
        }
        try checkVersionMatch(isWatch: isWatch)
    }

    private func checkVersionMatch(isWatch: Bool) throws {
        func refuse(_ field: String, _ message: String) -> APIStatus {
            APIStatus.invalid(group: "meta.k8s.io", kind: "ListOptions", name: "", [.forbidden(field, message)])
        }
        if isWatch {
            if sendInitialEvents != nil, resourceVersionMatch != "NotOlderThan" {
                throw refuse("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            }
            if sendInitialEvents == nil, !resourceVersionMatch.isEmpty {
                throw refuse("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
            }
            return
        }
        if sendInitialEvents != nil { throw refuse("sendInitialEvents", "sendInitialEvents is forbidden for list") }
        guard !resourceVersionMatch.isEmpty else { return }
        if resourceVersion.isEmpty {
            throw refuse("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        }
        if !continueToken.isEmpty {
            throw refuse("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        }
        guard resourceVersionMatch == "Exact" || resourceVersionMatch == "NotOlderThan" else {
            throw APIStatus.invalid(
                group: "meta.k8s.io", kind: "ListOptions", name: "",
                [.notSupported("resourceVersionMatch", .string(resourceVersionMatch), ["Exact", "NotOlderThan", ""])])
        }
        if resourceVersionMatch == "Exact", resourceVersion == "0" {
            throw refuse("resourceVersionMatch", "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")
        }
    }
}
