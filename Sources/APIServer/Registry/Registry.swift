package import JSON
package import KubeAPI
package import KubeMeta
package import Store
import Synchronization

/// The result of a write or read of one object.
package struct ObjectResult: Sendable {
    /// The object as it is stored; nil for a dry run and for objects that are never stored.
    package var stored: StoredObject?
    /// The decoded object, with kind and apiVersion, when it was at hand or is not stored.
    package var json: JSON?
    package var created = false
    package var warnings: [String] = []

    /// The decoded object of a kind.
    package func object(_ kind: ResourceKind) -> JSON {
        if let json { return json }
        return stored.map { Registry.withKind($0.json, kind) } ?? .null
    }
}

/// The heart of the server: reads and writes of any resource, driven by the schema.
///
/// The way of a write: decode -> defaults -> managed fields -> admission -> validation -> encode -> store (compare-and-swap).
package final class Registry: Sendable {
    /// Tries at a write that loses the race against others.
    static let conflictRetriesMax = 10

    package let schema: Schema
    package let hub: CacheHub
    package let time: any TimeSource
    package let allocators: Allocators
    let admission: Admission
    private let strategies: Mutex<[String: Strategy]> = Mutex([:])

    package init(hub: CacheHub, schema: Schema = .builtIn, time: any TimeSource, allocators: Allocators) {
        self.schema = schema
        self.hub = hub
        self.time = time
        self.allocators = allocators
        admission = Admission(hub: hub, schema: schema)
    }

    func strategy(_ resource: ResourceSchema) -> Strategy {
        let name = resource.identity.qualifiedName
        return strategies.withLock { known in
            if let strategy = known[name] { return strategy }
            let strategy = Strategy.of(resource)
            known[name] = strategy
            return strategy
        }
    }

    func cache(_ resource: ResourceSchema) throws -> ResourceCache {
        guard let cache = hub.cache(Self.storage(resource.identity)) else { throw APIStatus.methodNotAllowed() }
        return cache
    }

    /// Where objects are stored: some resources are views of another.
    static func storage(_ kind: ResourceKind) -> ResourceKind {
        var storage = kind
        if kind.group == "events.k8s.io" { storage.group = "" }
        return storage
    }

    static func withKind(_ object: JSON, _ kind: ResourceKind) -> JSON {
        guard case .object(let members) = object else { return object }
        let first = members.members.prefix(2)
        if first.first?.key == "kind", first.first?.value == .string(kind.kind), first.last?.key == "apiVersion",
            first.last?.value == .string(kind.apiVersion)
        {
            return object
        }
        var result = JSONObject()
        result.append("kind", .string(kind.kind))
        result.append("apiVersion", .string(kind.apiVersion))
        for (key, value) in members where key != "kind" && key != "apiVersion" { result.append(key, value) }
        return .object(result)
    }

    // MARK: Reading

    package func get(_ resource: ResourceSchema, namespace: String, name: String) throws -> StoredObject {
        guard let object = try cache(resource).get(namespace: namespace, name: name) else {
            throw APIStatus.notFound(resource.identity, name: name)
        }
        return object
    }

    package func find(_ resource: ResourceSchema, namespace: String, name: String) -> StoredObject? {
        hub.cache(Self.storage(resource.identity))?.get(namespace: namespace, name: name)
    }

    // MARK: Decoding

    /// Decodes an object that a client sent: its kind must be the resource's.
    func decode(
        _ raw: JSON, _ resource: ResourceSchema, type: TypeSchema? = nil, validation: WriteOptions.FieldValidation, duplicates: [String] = [],
        keepsEmpty: Bool = false
    ) throws -> (object: JSON, warnings: [String]) {
        let type = type ?? resource.type
        let kindName = type.kind
        guard case .object = raw else {
            throw APIStatus.badRequest(
                "the object provided is unrecognized (must be of type \(kindName)): couldn't get version/kind; json parse error: json: cannot unmarshal \(raw.typeName) into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }")
        }
        var object = raw
        let apiVersion = type.group.isEmpty ? type.version : "\(type.group)/\(type.version)"
        let sentKind = raw["kind"]?.string ?? kindName
        let sentVersion = raw["apiVersion"]?.string ?? apiVersion
        if sentKind != kindName || sentVersion != apiVersion {
            let version = sentVersion.split(separator: "/").last.map(String.init) ?? sentVersion
            if schema.type(apiVersion: sentVersion, kind: sentKind) == nil {
                throw APIStatus.badRequest(
                    "no kind \"\(sentKind)\" is registered for version \"\(sentVersion)\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"")
            }
            let internalGroup = type.group.isEmpty ? "core" : String(type.group.prefix { $0 != "." })
            throw APIStatus.badRequest(
                "\(sentKind) in version \"\(version)\" cannot be handled as a \(kindName): converting (\(version).\(sentKind)) to (\(internalGroup).\(kindName)): unknown conversion")
        }
        var findings = DecodeFindings()
        for path in duplicates { findings.strict.append("duplicate field \"\(path)\"") }
        do throws(DecodeError) {
            try ObjectDecoder.decode(&object, as: type, findings: &findings, keepsEmpty: keepsEmpty)
        } catch {
            throw APIStatus.badRequest("\(kindName) in version \"\(type.version)\" cannot be handled as a \(kindName): \(error.message)")
        }
        var warnings: [String] = []
        if !findings.strict.isEmpty {
            switch validation {
            case .ignore: break
            case .warn: warnings = findings.strict
            case .strict:
                throw APIStatus.badRequest(
                    "\(kindName) in version \"\(type.version)\" cannot be handled as a \(kindName): strict decoding error: \(findings.strict.joined(separator: ", "))")
            }
        }
        return (Self.withKind(object, ResourceKind(group: type.group, version: type.version, plural: "", kind: kindName, namespaced: false)), warnings)
    }

    func now() -> JSON { .string(KubeTime.text(time.now())) }

    /// Maps what the store refuses to what a client sees.
    static func status(_ error: StoreError, _ kind: ResourceKind, name: String) -> APIStatus {
        switch error {
        case .conflict(let current): current == nil ? .notFound(kind, name: name) : .staleWrite(kind, name: name)
        case .compacted: .expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
        case .futureRevision: APIStatus(code: 504, reason: "Timeout", message: "Too large resource version", retryAfterSeconds: 1)
        case .full(let text): APIStatus(code: 507, reason: "InternalError", message: "the data store is full: \(text)")
        case .unavailable(let text): APIStatus(code: 503, reason: "ServiceUnavailable", message: "the data store is unavailable: \(text)")
        case .corrupt(let text): .internalError("the data store is damaged: \(text)")
        case .newerFormat(let found, let supported): .internalError("the data has format \(found), this program knows \(supported)")
        case .invalid(let text): .badRequest(text)
        }
    }
}
