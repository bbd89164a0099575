import AsyncHTTPClient
public import JSON
public import KubeClient
import KubeMeta
public import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// An API server over HTTPS.
public final class HTTPTransport: KubeTransport {
    /// The largest answer that is kept in memory: a list of 150,000 large pods.
    private static let answerBytesMax = 1 << 30
    /// Each watch over HTTP/1.1 takes a connection, and there is a watch for each kind.
    private static let http1ConnectionsMax = 512
    /// Watches end after a random time between this and twice this, as client-go's do, so that load spreads over servers.
    private static let watchSecondsMin = 300

    public let configuration: HTTPTransportConfiguration
    private let client: HTTPClient
    private let host: String
    private let authorization: Authorization

    private enum Authorization {
        case none
        case fixed(String)
        case file(TokenFile)
    }

    /// - Parameter group: event loops to share; nil: those of the process.
    /// - Throws: `HTTPTransportError.configuration` when a certificate, a key or the address cannot be used.
    public init(_ configuration: HTTPTransportConfiguration, group: (any EventLoopGroup)? = nil) throws {
        let server = configuration.server
        guard server.hasPrefix("https://") || server.hasPrefix("http://") else {
            throw HTTPTransportError.configuration("server address \"\(server)\" must begin with https:// or http://")
        }
        self.configuration = configuration
        host = RequestURL.host(server)
        switch configuration.credential {
        case .none, .clientCertificate: authorization = .none
        case .bearerToken(let token): authorization = .fixed("Bearer \(token)")
        case .tokenFile(let path): authorization = .file(TokenFile(path: path))
        }
        var settings = HTTPClient.Configuration()
        settings.tlsConfiguration = try Self.tls(configuration)
        settings.timeout = HTTPClient.Configuration.Timeout(
            connect: Self.time(configuration.connectSecondsMax), read: Self.time(configuration.readIdleSecondsMax))
        settings.httpVersion = configuration.allowsHTTP2 ? .automatic : .http1Only
        settings.redirectConfiguration = .disallow
        settings.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = Self.http1ConnectionsMax
        // A refused connection is reported at once; who wants to wait repeats the request.
        settings.connectionPool.retryConnectionEstablishment = false
        client = HTTPClient(
            eventLoopGroupProvider: .shared(group ?? MultiThreadedEventLoopGroup.singleton), configuration: settings)
    }

    deinit {
        // The HTTP client insists on an orderly end; a transport that was merely dropped gets one here.
        Task.detached { [client] in try? await client.shutdown() }
    }

    /// Ends all requests and connections. Returns when they are closed.
    public func shutdown() async throws { try await client.shutdown() }

    // MARK: KubeTransport

    public func send(_ request: KubeRequest) async throws -> JSON {
        var message = HTTPClientRequest(
            url: RequestURL.make(server: configuration.server, path: request.path, query: request.query))
        var isRepeatable = false
        switch request.verb {
        case .get, .list:
            message.method = .GET
            isRepeatable = true
        case .create: message.method = .POST
        case .update: message.method = .PUT
        case .delete, .deleteCollection: message.method = .DELETE
        case .patch(let kind):
            message.method = .PATCH
            message.headers.add(name: "Content-Type", value: kind.contentType)
        }
        if let body = request.body {
            if !message.headers.contains(name: "Content-Type") { message.headers.add(name: "Content-Type", value: "application/json") }
            message.body = .bytes(ByteBuffer(bytes: body.encoded))
        }
        message.headers.add(name: "Accept", value: "application/json")
        let (status, bytes) = try await exchange(message, isRepeatable: isRepeatable)
        guard (200..<300).contains(status) else {
            throw Self.refusal(status, bytes, verb: "\(message.method.rawValue)", what: request.kind.qualifiedName, name: request.name)
        }
        return try Self.parse(bytes)
    }

    public func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error> {
        var query: [(name: String, value: String)] = [("watch", "true"), ("allowWatchBookmarks", "true")]
        if !request.resourceVersion.isEmpty { query.append(("resourceVersion", request.resourceVersion)) }
        if let selector = request.labelSelector { query.append(("labelSelector", selector)) }
        if let selector = request.fieldSelector { query.append(("fieldSelector", selector)) }
        query.append(("timeoutSeconds", "\(Int.random(in: Self.watchSecondsMin...(2 * Self.watchSecondsMin)))"))
        let path = request.kind.path(namespace: request.namespace.isEmpty ? nil : request.namespace)
        var message = HTTPClientRequest(url: RequestURL.make(server: configuration.server, path: path, query: query))
        message.headers.add(name: "Accept", value: "application/json")
        let response = try await start(message, isRepeatable: true)
        guard response.status.code == 200 else {
            let bytes = try await collect(response)
            throw Self.refusal(Int(response.status.code), bytes, verb: "watch", what: request.kind.qualifiedName, name: "")
        }
        let reader = WatchReader(response.body, host: host)
        // The reader pulls: what it does not ask for stays in the socket. When the stream goes, the reader goes, and with it the request.
        return AsyncThrowingStream { try await reader.next() }
    }

    // MARK: Raw requests

    /// GETs a path (`/readyz`, `/version`), which may have a query; the answer is given whatever its status.
    public func getRaw(_ path: String) async throws -> (status: Int, bytes: [UInt8]) {
        let parts = path.split(separator: "?", maxSplits: 1)
        var url = RequestURL.make(server: configuration.server, path: String(parts.first ?? "/"))
        if parts.count > 1 { url += "?\(parts[1])" }
        let (status, buffer) = try await exchange(HTTPClientRequest(url: url), isRepeatable: true)
        return (status, Array(buffer.readableBytesView))
    }

    // MARK: Exchange

    private func exchange(_ message: HTTPClientRequest, isRepeatable: Bool) async throws -> (status: Int, bytes: ByteBuffer) {
        let response = try await start(message, isRepeatable: isRepeatable)
        do {
            return (Int(response.status.code), try await collect(response))
        } catch let error as HTTPTransportError {
            guard isRepeatable, case .broken = error else { throw error }
            let again = try await start(message, isRepeatable: false)
            return (Int(again.status.code), try await collect(again))
        }
    }

    /// Sends and waits for the head of the answer.
    private func start(_ message: HTTPClientRequest, isRepeatable: Bool) async throws -> HTTPClientResponse {
        var message = message
        message.headers.replaceOrAdd(name: "User-Agent", value: configuration.userAgent)
        switch authorization {
        case .none: break
        case .fixed(let value): message.headers.replaceOrAdd(name: "Authorization", value: value)
        case .file(let file): message.headers.replaceOrAdd(name: "Authorization", value: "Bearer \(try await file.token())")
        }
        do {
            let response = try await client.execute(message, timeout: Self.time(configuration.requestSecondsMax))
            if response.status.code == 401, case .file(let file) = authorization { file.invalidate() }
            return response
        } catch {
            let translated = HTTPTransportError.translate(error, host: host)
            // A kept connection may have been closed by the server at the very moment it was used.
            guard isRepeatable, case .broken = translated as? HTTPTransportError else { throw translated }
            return try await start(message, isRepeatable: false)
        }
    }

    private func collect(_ response: HTTPClientResponse) async throws -> ByteBuffer {
        do {
            return try await response.body.collect(upTo: Self.answerBytesMax)
        } catch {
            throw HTTPTransportError.translate(error, host: host)
        }
    }

    // MARK: Answers

    static func parse(_ buffer: ByteBuffer) throws -> JSON {
        if buffer.readableBytes == 0 { return .object([:]) }
        do {
            return try buffer.withUnsafeReadableBytes { bytes in
                var duplicates: [String] = []
                return try JSON.parse(bytes, duplicates: &duplicates)
            }
        } catch {
            throw HTTPTransportError.malformed("the server's answer is not JSON: \(error)")
        }
    }

    /// The error an answer stands for. A proxy on the way may answer with something else than a `Status`.
    static func refusal(_ code: Int, _ bytes: ByteBuffer, verb: String, what: String, name: String) -> APIStatus {
        if let json = try? parse(bytes), let status = APIStatus(json: json) { return status }
        let text = String(decoding: bytes.readableBytesView.prefix(1024), as: UTF8.self)
        let reason: String
        let message: String
        switch code {
        case 401: (reason, message) = ("Unauthorized", "the server has asked for the client to provide credentials")
        case 403: (reason, message) = ("Forbidden", "the server does not allow access to the requested resource")
        case 404: (reason, message) = ("NotFound", "the server could not find the requested resource")
        case 405: (reason, message) = ("MethodNotAllowed", "the server does not allow this method on the requested resource")
        case 409: (reason, message) = ("Conflict", "the server reported a conflict")
        case 410: (reason, message) = ("Expired", "the requested resource version is too old")
        case 429: (reason, message) = ("TooManyRequests", "the server has received too many requests and has asked us to try again later")
        case 503: (reason, message) = ("ServiceUnavailable", "the server is currently unable to handle the request")
        case 504: (reason, message) = ("Timeout", "the server was unable to return a response in the time allotted")
        default:
            reason = code >= 500 ? "InternalError" : "BadRequest"
            message = code >= 500
                ? "an error on the server (\(JSON(text).text)) has prevented the request from succeeding"
                : "the server rejected our request for an unknown reason"
        }
        let place = name.isEmpty ? what : "\(what) \(name)"
        return APIStatus(code: code, reason: reason, message: "\(message) (\(verb.lowercased()) \(place))", name: name, kind: what)
    }

    // MARK: Set-up

    private static func time(_ seconds: Double) -> TimeAmount { .milliseconds(Int64(max(0.001, seconds) * 1000)) }

    private static func tls(_ configuration: HTTPTransportConfiguration) throws -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        switch configuration.trust {
        case .system: break
        case .insecure: tls.certificateVerification = .none
        case .authorities(let pem):
            let certificates = try certificates(pem, "certificate-authority")
            tls.trustRoots = .certificates(certificates)
        }
        if case .clientCertificate(let certificatePEM, let keyPEM) = configuration.credential {
            tls.certificateChain = try certificates(certificatePEM, "client-certificate").map { .certificate($0) }
            do {
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(keyPEM.utf8), format: .pem))
            } catch {
                throw HTTPTransportError.configuration("tls: failed to find any PEM data in key input")
            }
        }
        return tls
    }

    private static func certificates(_ pem: String, _ what: String) throws -> [NIOSSLCertificate] {
        guard let certificates = try? NIOSSLCertificate.fromPEMBytes(Array(pem.utf8)), !certificates.isEmpty else {
            throw HTTPTransportError.configuration("unable to load root certificates: unable to parse bytes as PEM block (\(what))")
        }
        return certificates
    }
}
