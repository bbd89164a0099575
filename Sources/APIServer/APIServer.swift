import JSON
package import KubeAPI
package import KubeMeta
import Logging
import NIOCore
import NIOHTTP1
package import PKI
package import Store
import Streaming
package import Wire

/// How a server is set up.
package struct APIServerConfiguration: Sendable {
    package var authentication: AuthenticationConfiguration
    package var serviceCIDR = "10.96.0.0/16"
    /// Where clients inside the cluster reach this server: the endpoint of the Service `kubernetes`.
    package var advertiseAddress = "127.0.0.1"
    package var port = 6443
    /// Address of the cluster's DNS Service; nil for none.
    package var clusterDNSAddress: String?
    /// Client certificate towards kubelets, and the authority of theirs.
    package var kubeletClient: CertificatePair?
    package var kubeletAuthorityPEM: String?
    /// Signs certificate requests; nil leaves them alone.
    package var authority: CertificateAuthority?

    package init(authentication: AuthenticationConfiguration) { self.authentication = authentication }
}

/// The API server: the request path from the wire to the registry.
package final class APIServer: WireHandler, Sendable {
    package let registry: Registry
    package let hub: CacheHub
    package let configuration: APIServerConfiguration
    let schema: Schema
    let time: any TimeSource
    let authenticator: Authenticator
    let authorizer: Authorizer
    let discovery: Discovery
    let openAPI: OpenAPI
    let health: Health
    let kubelets: KubeletProxy
    private let logger = Logger(label: "apiserver")

    package init(store: any StoreBackend, configuration: APIServerConfiguration, time: any TimeSource = SystemTime(), schema: Schema = .builtIn) {
        self.configuration = configuration
        self.schema = schema
        self.time = time
        hub = CacheHub(store: store)
        registry = Registry(hub: hub, schema: schema, time: time, allocators: Allocators(serviceCIDR: configuration.serviceCIDR))
        authenticator = Authenticator(configuration: configuration.authentication, hub: hub, schema: schema, time: time)
        authorizer = Authorizer(hub: hub, schema: schema)
        discovery = Discovery(schema: schema)
        openAPI = OpenAPI(schema: schema)
        health = Health(hub: hub)
        kubelets = KubeletProxy(configuration: configuration)
    }

    /// Loads the store and writes what every cluster has. After it, requests are answered.
    package func start() async throws {
        try await hub.start(schema.resources)
        if let services = schema.resource(group: "", version: "v1", plural: "services") {
            registry.allocators.load((hub.cache(services.identity)?.all() ?? []).map(\.json))
        }
        try await Bootstrap(server: self).run()
        health.markStarted()
    }

    package func stop() { hub.stop() }

    // MARK: The request path

    package func handle(_ request: WireRequest) async -> WireResponse {
        do {
            return try await answer(request)
        } catch let status as APIStatus {
            return Responses.status(status)
        } catch let error as StoreError {
            return Responses.status(Registry.status(error, ResourceKind(group: "", version: "", plural: "", kind: "", namespaced: false), name: ""))
        } catch is CancellationError {
            return Responses.status(APIStatus(code: 504, reason: "Timeout", message: "request did not complete within the allotted timeout"))
        } catch {
            logger.error("\(request.method) \(request.uri): \(error)")
            return Responses.status(.internalError("\(error)"))
        }
    }

    private func answer(_ request: WireRequest) async throws -> WireResponse {
        let query = QueryParameters(request.query)
        let info = RequestInfo(
            method: request.method.rawValue, path: PercentCoding.decode(request.path), isWatch: query.flag("watch"))
        // What a node that joins reads before it trusts anybody; it checks the answer against the hash in its token.
        if info.path == "/cacerts", request.method == .GET || request.method == .HEAD, let authority = configuration.authority {
            return WireResponse.text(.ok, authority.pair.certificatePEM, contentType: "application/x-pem-file")
        }
        var user = try authenticator.authenticate(request)
        user = try impersonated(user, request.headers)
        var access = AccessRequest(user: user, info: info)
        // A list or watch of one object by its name counts as access to that object (KEP-279: what kubelets do).
        if access.name.isEmpty, info.verb == "list" || info.verb == "watch", let text = query["fieldSelector"],
            let name = (try? FieldSelector.parse(text))?.required("metadata.name")
        {
            access.name = name
        }
        guard authorizer.isAllowed(access) else { throw access.refusal() }
        let context = RequestContext(request: request, info: info, query: query, user: user)
        guard info.isResource else { return try await nonResource(context) }
        return try await resource(context)
    }

    private func impersonated(_ user: UserInfo, _ headers: HTTPHeaders) throws -> UserInfo {
        let name = headers["Impersonate-User"].first ?? ""
        let groups = headers["Impersonate-Group"]
        let uid = headers["Impersonate-Uid"].first ?? ""
        guard !name.isEmpty else {
            if !groups.isEmpty || !uid.isEmpty {
                throw APIStatus.internalError("requested [\(groups.joined(separator: " "))] without impersonating a user")
            }
            return user
        }
        let isAccount = name.hasPrefix("system:serviceaccount:")
        let parts = name.split(separator: ":")
        try authorizer.require(
            isAccount && parts.count == 4
                ? AccessRequest(user: user, verb: "impersonate", group: "", resource: "serviceaccounts", namespace: String(parts[2]), name: String(parts[3]))
                : AccessRequest(user: user, verb: "impersonate", group: "", resource: "users", name: name))
        for group in groups {
            try authorizer.require(AccessRequest(user: user, verb: "impersonate", group: "", resource: "groups", name: group))
        }
        var result = UserInfo(name: name, uid: uid, groups: groups)
        if isAccount, parts.count == 4, groups.isEmpty { result.groups = ["system:serviceaccounts", "system:serviceaccounts:\(parts[2])"] }
        if name == UserInfo.anonymous.name {
            if !result.groups.contains(UserInfo.allUnauthenticated) { result.groups.append(UserInfo.allUnauthenticated) }
        } else if !result.groups.contains(UserInfo.allAuthenticated) {
            result.groups.append(UserInfo.allAuthenticated)
        }
        for header in headers where header.name.lowercased().hasPrefix("impersonate-extra-") {
            let key = PercentCoding.decode(header.name.lowercased().dropFirst("impersonate-extra-".count))
            try authorizer.require(
                AccessRequest(user: user, verb: "impersonate", group: "authentication.k8s.io", resource: "userextras", subresource: key, name: header.value))
            result.extra[key, default: []].append(header.value)
        }
        return result
    }

    private func nonResource(_ context: RequestContext) async throws -> WireResponse {
        let path = context.info.path
        guard context.request.method == .GET || context.request.method == .HEAD else {
            if discovery.knows(path) || path == "/version" { throw APIStatus.methodNotAllowed() }
            return Responses.pageNotFound
        }
        if let response = health.answer(path, context.query) { return response }
        switch path {
        case "/version", "/version/": return Responses.json(Version.json, pretty: true)
        case "/metrics": return WireResponse.text(.ok, metricsText(), contentType: "text/plain; version=0.0.4; charset=utf-8")
        case "/.well-known/openid-configuration":
            return Responses.json([
                "issuer": .string(configuration.authentication.issuer),
                "jwks_uri": .string("https://\(configuration.advertiseAddress):\(configuration.port)/openid/v1/jwks"),
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
            ])
        case "/openid/v1/jwks":
            return WireResponse(
                status: .ok, headers: ["Content-Type": "application/jwk-set+json"],
                body: .bytes(ByteBuffer(bytes: try configuration.authentication.verifier.jsonWebKeySet())))
        case "/": return Responses.json(["paths": JSON(discovery.rootPaths)], pretty: true)
        default: break
        }
        if path.hasPrefix("/openapi/") { return openAPI.answer(path, context) ?? Responses.pageNotFound }
        if let response = try discovery.answer(path, context) { return response }
        return Responses.pageNotFound
    }

    private func metricsText() -> String {
        var text = "# HELP apiserver_storage_objects [STABLE] Number of stored objects at the time of last check split by kind.\n"
        text += "# TYPE apiserver_storage_objects gauge\n"
        for resource in schema.resources where !Views.isView(resource.identity) {
            guard let cache = hub.cache(resource.identity) else { continue }
            text += "apiserver_storage_objects{resource=\"\(resource.identity.qualifiedName)\"} \(cache.count)\n"
        }
        return text
    }
}

/// One request on its way through the server.
struct RequestContext: Sendable {
    var request: WireRequest
    var info: RequestInfo
    var query: QueryParameters
    var user: UserInfo

    var userAgent: String { request.headers["User-Agent"].first ?? "" }

    func negotiation() throws -> Negotiation {
        try Negotiation(accept: request.headers["Accept"].first, query: query, userAgent: userAgent)
    }

    func writeOptions(kind: String) throws -> WriteOptions { try WriteOptions(user: user, query: query, userAgent: userAgent, kind: kind) }

    /// The body as JSON, with the paths of duplicate members. Nil when there is none.
    func body(kind: String, schema: Schema = .builtIn) throws -> (value: JSON, duplicates: [String])? {
        guard request.body.readableBytes > 0 else { return nil }
        let media = (request.headers["Content-Type"].first ?? "application/json").split(separator: ";").first.map(String.init) ?? ""
        var duplicates: [String] = []
        switch media {
        case "application/json", "", "*/*", "application/json-patch+json", "application/merge-patch+json",
            "application/strategic-merge-patch+json":
            do throws(JSONParseError) {
                return (try request.body.parseJSON(duplicates: &duplicates), duplicates)
            } catch {
                let text = String(buffer: request.body)
                throw APIStatus.badRequest(
                    "the object provided is unrecognized (must be of type \(kind)): couldn't get version/kind; json parse error: \(error.message) (\(text.prefix(64))\(text.count > 64 ? " ..." : ""))")
            }
        case "application/vnd.kubernetes.protobuf":
            do throws(ProtobufDecoder.Failure) {
                return (try ProtobufDecoder.decode(Array(request.body.readableBytesView), schema: schema), [])
            } catch {
                throw APIStatus.badRequest("the object provided is unrecognized (must be of type \(kind)): \(error.message)")
            }
        case "application/yaml", "application/apply-patch+yaml":
            do throws(YAML.Failure) { return (try YAML.decode(request.body.readableBytesView), []) } catch {
                throw APIStatus.badRequest(error.message)
            }
        default:
            throw APIStatus(
                code: 415, reason: "UnsupportedMediaType",
                message:
                    "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf")
        }
    }
}

/// The version that clients see.
package enum Version {
    package static let git = "v1.36.2"
    static let json: JSON = [
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": .string(git), "gitCommit": "martlet", "gitTreeState": "clean", "buildDate": "2026-11-23T00:00:00Z",
        "goVersion": "swift6.3", "compiler": "swiftc", "platform": .string(platform),
    ]

    #if arch(arm64)
        package static let architecture = "arm64"
    #else
        package static let architecture = "amd64"
    #endif
    private static let platform = "linux/\(architecture)"
}
