package import JSON
package import KubeAPI
package import KubeMeta
package import Store

/// One answer to a list.
package struct ListResult: Sendable {
    package var objects: [StoredObject]
    package var revision: Revision
    package var continueToken = ""
    package var remaining: Int?
}

/// Where a paged list goes on: the version it shows and the first key that is still missing.
struct ContinueToken: Equatable {
    var revision: Revision
    var start: String

    var text: String {
        let token: JSON = ["v": "meta.k8s.io/v1", "rv": .int(revision), "start": .string(start)]
        return Base64.encode(token.encoded, urlSafe: true)
    }

    init(revision: Revision, start: String) {
        self.revision = revision
        self.start = start
    }

    init(_ text: String) throws {
        var standard = text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 }
        while standard.count % 4 != 0 { standard.append("=") }
        guard let bytes = Base64.decode(String(standard)) else {
            throw APIStatus.badRequest("invalid continue token: continue key is not valid: illegal base64 data at input byte 0")
        }
        let json: JSON
        do throws(JSONParseError) { json = try JSON.parse(bytes) } catch {
            // Go prints a byte above ASCII as the code point of its number.
            let first = bytes.first ?? 0
            let shown = first < 0x80 ? String(UnicodeScalar(first)) : "\\u00\(String(first, radix: 16))"
            throw APIStatus.badRequest(
                "invalid continue token: continue key is not valid: invalid character '\(shown)' looking for beginning of value")
        }
        guard let revision = json["rv"]?.int, let start = json["start"]?.string, !start.isEmpty else {
            throw APIStatus.badRequest("continue key is not valid: encoded start key is empty")
        }
        self.init(revision: revision, start: start)
    }
}

extension Registry {
    /// Lists from the cache; a page of an older version comes from the store's history.
    package func list(_ resource: ResourceSchema, _ options: ListOptions) async throws -> ListResult {
        let cache = try cache(resource)
        let kind = resource.identity
        let filter = WatchFilter(
            namespace: options.namespace, labels: options.labels, fieldSelector: options.fields, fields: SelectableFields.of(kind))
        let matches: ((StoredObject) -> Bool)? = filter.isEmpty ? nil : { filter.matches($0) }
        var revision = hub.revision
        var start: String?
        var exact: Revision?
        if !options.continueToken.isEmpty {
            let token = try ContinueToken(options.continueToken)
            guard token.start.hasPrefix(cache.prefix) else { throw APIStatus.badRequest("invalid continue token: \(token.start)") }
            start = token.start
            // A negative version asks for the rest as it is now (an inconsistent continuation after 410).
            if token.revision > 0 {
                revision = token.revision
                exact = token.revision
            }
        } else if let wanted = Int64(options.resourceVersion), wanted > 0 {
            if wanted > hub.revision {
                throw APIStatus(
                    code: 504, reason: "Timeout", message: "Too large resource version: \(wanted), current: \(hub.revision)",
                    retryAfterSeconds: 1,
                    causes: [APIStatus.Cause(reason: "ResourceVersionTooLarge", message: "Too large resource version", field: "")])
            }
            let isExact = options.resourceVersionMatch == "Exact" || (options.resourceVersionMatch.isEmpty && options.limit > 0)
            if isExact {
                revision = wanted
                exact = wanted
            }
        }
        if let exact, cache.lastChange > exact {
            return try await listHistory(cache, kind, options, at: exact, from: start, matches)
        }
        let page = cache.page(namespace: options.namespace, from: start, limit: options.limit, matches: matches)
        if page.lastChange > revision {
            // A write came between: an exact version is read from the history, any other list is of the version it shows.
            if let exact { return try await listHistory(cache, kind, options, at: exact, from: start, matches) }
            revision = page.lastChange
        }
        var result = ListResult(objects: page.objects, revision: revision)
        if page.more, let last = page.objects.last {
            result.continueToken = ContinueToken(revision: revision, start: last.key + "\0").text
            if matches == nil { result.remaining = page.remaining }
        }
        return result
    }

    private func listHistory(
        _ cache: ResourceCache, _ kind: ResourceKind, _ options: ListOptions, at revision: Revision, from start: String?,
        _ matches: ((StoredObject) -> Bool)?
    ) async throws -> ListResult {
        let prefix = options.namespace.isEmpty || !kind.namespaced ? cache.prefix : "\(cache.prefix)\(options.namespace)/"
        var result = ListResult(objects: [], revision: revision)
        var next = start
        do {
            while true {
                let limit = options.limit > 0 ? options.limit - result.objects.count : 0
                let page = try await hub.store.range(prefix: prefix, startingAt: next, limit: limit, atRevision: revision)
                for record in page.records {
                    let (namespace, name) = cache.split(record.key)
                    let object = StoredObject(record: record, namespace: namespace, name: name)
                    if matches?(object) ?? true { result.objects.append(object) }
                }
                guard page.more, let last = page.records.last else { return result }
                next = last.key + "\0"
                if options.limit > 0, result.objects.count >= options.limit {
                    result.continueToken = ContinueToken(revision: revision, start: last.key + "\0").text
                    if matches == nil { result.remaining = page.remaining.map { Int($0) } }
                    return result
                }
            }
        } catch {
            var status = Self.status(error, kind, name: "")
            // The rest can be had as it is now: the client decides whether an inconsistent list will do.
            if status.isExpired, let next { status.continueToken = ContinueToken(revision: -1, start: next).text }
            throw status
        }
    }

    /// Subscribes to changes.
    package func watch(_ resource: ResourceSchema, _ options: ListOptions) throws -> WatchSubscription {
        let cache = try cache(resource)
        let filter = WatchFilter(
            namespace: options.namespace, labels: options.labels, fieldSelector: options.fields,
            fields: SelectableFields.of(resource.identity))
        let version = Int64(options.resourceVersion) ?? 0
        // Without a version, or with 0, a watch starts with the present state; so does a streaming list.
        let fromState = (version == 0 && options.sendInitialEvents != false) || options.sendInitialEvents == true
        let after: Revision? = fromState ? nil : version == 0 ? hub.revision : version
        guard let subscription = cache.subscribe(after: after, filter: filter, current: { hub.revision }) else {
            throw APIStatus(
                code: 410, reason: "Expired", message: "too old resource version: \(version) (\(hub.revision))")
        }
        return subscription
    }
}
