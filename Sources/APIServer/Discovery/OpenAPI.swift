import Crypto
import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import Synchronization
import Wire

/// OpenAPI v3 documents, one a group version, and the v2 document, made from the schema when they are asked for.
final class OpenAPI: Sendable {
    private static let protobufType2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    private static let protobufType3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"

    private let schema: Schema
    private let documents = Mutex<[String: (bytes: [UInt8], hash: String)]>([:])

    init(schema: Schema) { self.schema = schema }

    func answer(_ path: String, _ context: RequestContext) -> WireResponse? {
        if path == "/openapi/v3" || path == "/openapi/v3/" { return Responses.json(index()) }
        if path == "/openapi/v2" {
            if context.request.headers["Accept"].first?.contains(Self.protobufType2) == true {
                return WireResponse(
                    status: .ok, headers: ["Content-Type": "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"],
                    body: .bytes(ByteBuffer(bytes: OpenAPIProtobuf.document2(version2()))))
            }
            return document("v2", context) { self.version2() }
        }
        let name = String(path.dropFirst("/openapi/v3/".count))
        guard path.hasPrefix("/openapi/v3/"), let (group, version) = parse(name) else { return nil }
        if context.request.headers["Accept"].first?.contains(Self.protobufType3) == true {
            return WireResponse(
                status: .ok, headers: ["Content-Type": "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"],
                body: .bytes(ByteBuffer(bytes: OpenAPIProtobuf.document(version3(group, version)))))
        }
        return document(name, context) { self.version3(group, version) }
    }

    private func parse(_ name: String) -> (String, String)? {
        let parts = name.split(separator: "/").map(String.init)
        if parts.count == 2, parts[0] == "api" { return has("", parts[1]) ? ("", parts[1]) : nil }
        if parts.count == 3, parts[0] == "apis" { return has(parts[1], parts[2]) ? (parts[1], parts[2]) : nil }
        return nil
    }

    private func has(_ group: String, _ version: String) -> Bool {
        schema.resources.contains { $0.identity.group == group && $0.identity.version == version }
    }

    private func document(_ name: String, _ context: RequestContext, _ make: () -> JSON) -> WireResponse {
        let (bytes, hash) = load(name, make)
        let tag = "\"\(hash)\""
        if context.request.headers["If-None-Match"].first == tag { return WireResponse(status: .notModified, headers: ["ETag": tag]) }
        return WireResponse(
            status: .ok, headers: ["Content-Type": "application/json", "ETag": tag, "Vary": "Accept"], body: .bytes(ByteBuffer(bytes: bytes)),
            gzip: context.request.headers["Accept-Encoding"].first?.contains("gzip") ?? false)
    }

    private func load(_ name: String, _ make: () -> JSON) -> (bytes: [UInt8], hash: String) {
        if let known = documents.withLock({ $0[name] }) { return known }
        let bytes = make().encoded
        let hash = SHA256.hash(data: bytes).map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined().uppercased()
        documents.withLock { $0[name] = (bytes, hash) }
        return (bytes, hash)
    }

    private func index() -> JSON {
        var paths = JSONObject()
        var seen: Set<String> = []
        for resource in schema.resources {
            let kind = resource.identity
            let name = kind.group.isEmpty ? "api/\(kind.version)" : "apis/\(kind.group)/\(kind.version)"
            guard seen.insert(name).inserted else { continue }
            let hash = load(name) { version3(kind.group, kind.version) }.hash
            paths[name] = ["serverRelativeURL": .string("/openapi/v3/\(name)?hash=\(hash)")]
        }
        return ["paths": .object(paths)]
    }

    // MARK: Names and types

    private static let metaPackages = [
        "meta/v1": "io.k8s.apimachinery.pkg.apis.meta.v1", "api/resource": "io.k8s.apimachinery.pkg.api.resource",
        "util/intstr": "io.k8s.apimachinery.pkg.util.intstr", "runtime": "io.k8s.apimachinery.pkg.runtime",
        "version": "io.k8s.apimachinery.pkg.version",
    ]

    static func definitionName(_ name: String) -> String {
        guard let dot = name.lastIndex(of: ".") else { return name }
        let package = String(name[..<dot])
        let short = name[name.index(after: dot)...]
        if let meta = metaPackages[package] { return "\(meta).\(short)" }
        let dotted = package.replacing("/", with: ".")
        if package.hasPrefix("apiextensions/") { return "io.k8s.apiextensions-apiserver.pkg.apis.\(dotted).\(short)" }
        if package.hasPrefix("apiregistration/") { return "io.k8s.kube-aggregator.pkg.apis.\(dotted).\(short)" }
        return "io.k8s.api.\(dotted).\(short)"
    }

    private func type(_ type: ValueType, _ base: String, _ references: inout Set<String>) -> JSON {
        switch type {
        case .string: return ["type": "string"]
        case .bytes: return ["type": "string", "format": "byte"]
        case .bool: return ["type": "boolean"]
        case .double: return ["type": "number", "format": "double"]
        case .integer(let bits): return ["type": "integer", "format": .string("int\(bits)")]
        case .quantity: return ["type": "string"]
        case .intOrString: return ["type": "string", "format": "int-or-string"]
        case .time, .microTime: return ["type": "string", "format": "date-time"]
        case .any: return [:]
        case .anyObject: return ["type": "object"]
        case .list(let element): return ["type": "array", "items": self.type(element, base, &references)]
        case .map(let element): return ["type": "object", "additionalProperties": self.type(element, base, &references)]
        case .object(let schema):
            references.insert(schema.name)
            return ["$ref": .string(base + Self.definitionName(schema.name))]
        }
    }

    private func definition(_ type: TypeSchema, _ base: String, _ references: inout Set<String>) -> JSON {
        var properties = JSONObject()
        var required: [String] = []
        for field in type.fields.sorted(by: { $0.name < $1.name }) {
            var property = self.type(field.type, base, &references)
            if !field.enumValues.isEmpty { property["enum"] = JSON(field.enumValues) }
            switch (field.type, field.topology) {
            case (.list, .map(let keys)):
                property["x-kubernetes-list-type"] = "map"
                property["x-kubernetes-list-map-keys"] = JSON(keys)
            case (.list, .set): property["x-kubernetes-list-type"] = "set"
            case (.list, .atomic): property["x-kubernetes-list-type"] = "atomic"
            case (.map, .atomic): property["x-kubernetes-map-type"] = "atomic"
            default: break
            }
            if let key = field.mergeKey { property["x-kubernetes-patch-merge-key"] = .string(key) }
            let strategies = [field.mergesList ? "merge" : nil, field.retainsKeys ? "retainKeys" : nil].compactMap(\.self)
            if !strategies.isEmpty { property["x-kubernetes-patch-strategy"] = .string(strategies.joined(separator: ",")) }
            properties[field.name] = property
            if field.required { required.append(field.name) }
        }
        var object: JSON = ["type": "object", "properties": .object(properties)]
        if !required.isEmpty { object["required"] = JSON(required) }
        if type.isAtomic { object["x-kubernetes-map-type"] = "atomic" }
        if !type.kind.isEmpty {
            object["x-kubernetes-group-version-kind"] = [
                ["group": .string(type.group), "version": .string(type.version), "kind": .string(type.kind)]
            ]
        }
        return object
    }

    /// The definitions of some types and of all that they reach.
    private func definitions(_ roots: [TypeSchema], _ base: String) -> JSONObject {
        var done: Set<String> = []
        var waiting = roots.map(\.name)
        var found: [(String, JSON)] = []
        while let name = waiting.popLast() {
            guard done.insert(name).inserted, let type = schema.types[name] else { continue }
            var references: Set<String> = []
            found.append((Self.definitionName(name), definition(type, base, &references)))
            waiting += references
        }
        return JSONObject(found.sorted { $0.0 < $1.0 })
    }

    // MARK: Version 3

    private static func parameter(_ name: String, _ type: String) -> JSON {
        ["name": .string(name), "in": "query", "schema": ["type": .string(type), "uniqueItems": true]]
    }

    private static let writeParameters: [JSON] = [parameter("dryRun", "string"), parameter("fieldManager", "string"), parameter("fieldValidation", "string")]

    private func operation(_ resource: ResourceSchema, _ type: TypeSchema, action: String, parameters: [JSON], body: Bool) -> JSON {
        let kind = resource.identity
        let reference: JSON = ["$ref": .string("#/components/schemas/" + Self.definitionName(type.name))]
        var operation: JSON = [
            "operationId": .string("\(action)\(kind.group.isEmpty ? "Core" : kind.group)\(kind.version)\(kind.kind)"),
            "parameters": .array(parameters),
            "responses": ["200": ["description": "OK", "content": ["application/json": ["schema": reference]]]],
            "x-kubernetes-action": .string(action),
            "x-kubernetes-group-version-kind": ["group": .string(kind.group), "version": .string(kind.version), "kind": .string(kind.kind)],
        ]
        if body { operation["requestBody"] = ["content": ["*/*": ["schema": reference]]] }
        return operation
    }

    private func paths(_ resources: [ResourceSchema]) -> JSONObject {
        var paths = JSONObject()
        for resource in resources {
            let kind = resource.identity
            let collection = kind.path(namespace: kind.namespaced ? "{namespace}" : nil)
            var all: JSON = [:]
            if resource.verbs.contains("list") { all["get"] = operation(resource, resource.type, action: "list", parameters: [], body: false) }
            if resource.verbs.contains("create") {
                all["post"] = operation(resource, resource.type, action: "post", parameters: Self.writeParameters, body: true)
            }
            paths[collection] = all
            guard resource.verbs.contains("get") else { continue }
            var one: JSON = ["get": operation(resource, resource.type, action: "get", parameters: [], body: false)]
            if resource.verbs.contains("update") {
                one["put"] = operation(resource, resource.type, action: "put", parameters: Self.writeParameters, body: true)
            }
            if resource.verbs.contains("patch") {
                one["patch"] = operation(
                    resource, resource.type, action: "patch", parameters: Self.writeParameters + [Self.parameter("force", "boolean")], body: true)
            }
            if resource.verbs.contains("delete") {
                one["delete"] = operation(resource, resource.type, action: "delete", parameters: [Self.parameter("dryRun", "string")], body: false)
            }
            paths["\(collection)/{name}"] = one
        }
        return paths
    }

    private func version3(_ group: String, _ version: String) -> JSON {
        let resources = schema.resources.filter { $0.identity.group == group && $0.identity.version == version }
        return [
            "openapi": "3.0.0", "info": ["title": "Kubernetes", "version": .string(Version.git)], "paths": .object(paths(resources)),
            "components": ["schemas": .object(definitions(resources.map(\.type), "#/components/schemas/"))],
        ]
    }

    private func version2() -> JSON {
        [
            "swagger": "2.0", "info": ["title": "Kubernetes", "version": .string(Version.git)], "paths": .object(paths(schema.resources)),
            "definitions": .object(definitions(schema.resources.map(\.type), "#/definitions/")),
        ]
    }
}
