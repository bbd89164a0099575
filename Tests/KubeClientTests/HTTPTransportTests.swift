import Foundation
import JSON
import KubeClient
import KubeClientHTTP
import KubeMeta
import KubeTypes
import NIOCore
import NIOHTTP1
import PKI
import Synchronization
import Testing
import Wire

/// A server that records what it is asked, and a transport to it.
private struct Bench {
    let server: WireServer
    let port: Int
    let authority: CertificateAuthority
    let client: CertificatePair

    static func start(handler: @escaping @Sendable (WireRequest) async -> WireResponse) async throws -> Bench {
        let now = Int64(Date().timeIntervalSince1970)
        let authority = try CertificateAuthority.create(commonName: "test-ca", nowSeconds: now)
        let serving = try authority.issueServer(
            commonName: "server", names: SubjectNames(dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"]), nowSeconds: now)
        let client = try authority.issueClient(commonName: "admin", organizations: ["system:masters"], nowSeconds: now)
        let tls = WireTLS(
            certificateChainPEM: serving.certificatePEM, privateKeyPEM: serving.keyPEM, clientCAPEM: authority.pair.certificatePEM)
        let server = WireServer(
            configuration: WireConfiguration(host: "127.0.0.1", port: 0, tls: tls), handler: ClosureHandler(handler))
        let port = try await server.start().port ?? 0
        return Bench(server: server, port: port, authority: authority, client: client)
    }

    func configuration() -> HTTPTransportConfiguration {
        HTTPTransportConfiguration(server: "https://127.0.0.1:\(port)", trust: .authorities(pem: authority.pair.certificatePEM))
    }
}

private func withBench(
    _ configure: (inout HTTPTransportConfiguration, Bench) throws -> Void = { _, _ in },
    handler: @escaping @Sendable (WireRequest) async -> WireResponse, _ body: (HTTPTransport, Bench) async throws -> Void
) async throws {
    let bench = try await Bench.start(handler: handler)
    var configuration = bench.configuration()
    try configure(&configuration, bench)
    let transport = try HTTPTransport(configuration)
    let result: Result<Void, any Error>
    do { result = .success(try await body(transport, bench)) } catch { result = .failure(error) }
    try await transport.shutdown()
    await bench.server.shutdown(graceSeconds: 0)
    try result.get()
}

private func json(_ status: HTTPResponseStatus, _ text: String) -> WireResponse {
    .text(status, text, contentType: "application/json")
}

@Suite struct HTTPTransportTests {
    @Test("verbs become methods, names become paths, queries are percent-encoded", arguments: [true, false])
    func requests(http2: Bool) async throws {
        let seen = Mutex<[String]>([])
        try await withBench({ configuration, _ in configuration.allowsHTTP2 = http2 }, handler: { request in
            seen.withLock {
                $0.append("\(request.httpMajorVersion) \(request.method) \(request.uri) \(request.headers["content-type"].first ?? "-") "
                    + String(buffer: request.body))
            }
            return json(.ok, #"{"kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}"#)
        }) { transport, _ in
            let client = KubeClient(transport: transport)
            var map = ConfigMap()
            map.metadata.name = "a"
            map.metadata.namespace = "n"
            _ = try await client.get(ConfigMap.self, namespace: "n", name: "a")
            _ = try await client.list(ConfigMap.self, labelSelector: "a in (b, c),d!=é")
            try await client.create(map)
            try await client.updateStatus(map)
            try await client.patch(ConfigMap.self, namespace: "n", name: "a", .apply(fieldManager: "me", force: true), ["x": 1])
            try await client.delete(ConfigMap.self, namespace: "n", name: "a", uid: "u", gracePeriodSeconds: 0, propagation: .foreground)
            let v = http2 ? 2 : 1
            let body = map.json.text
            #expect(seen.withLock { $0 } == [
                "\(v) GET /api/v1/namespaces/n/configmaps/a - ",
                "\(v) GET /api/v1/configmaps?labelSelector=a%20in%20%28b%2C%20c%29%2Cd%21%3D%C3%A9 - ",
                "\(v) POST /api/v1/namespaces/n/configmaps application/json \(body)",
                "\(v) PUT /api/v1/namespaces/n/configmaps/a/status application/json \(body)",
                "\(v) PATCH /api/v1/namespaces/n/configmaps/a?fieldManager=me&force=true application/apply-patch+yaml {\"x\":1}",
                "\(v) DELETE /api/v1/namespaces/n/configmaps/a application/json "
                    + #"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"u"},"gracePeriodSeconds":0,"propagationPolicy":"Foreground"}"#,
            ])
        }
    }

    @Test("a Status answer is thrown as it is; any other refusal reads like client-go's")
    func refusals() async throws {
        let kind = ConfigMap.resource
        try await withBench(handler: { request in
            request.uri.hasSuffix("/proxy")
                ? .text(.badGateway, "no upstream") : json(.notFound, APIStatus.notFound(kind, name: "a").json.text)
        }) { transport, _ in
            let missing = await #expect(throws: APIStatus.self) {
                try await transport.send(KubeRequest(.get, kind, namespace: "n", name: "a"))
            }
            #expect(missing?.isNotFound == true)
            #expect(missing?.message == "configmaps \"a\" not found")
            let error = await #expect(throws: APIStatus.self) {
                try await transport.send(KubeRequest(.get, kind, namespace: "n", name: "proxy"))
            }
            #expect(error?.message == "an error on the server (\"no upstream\") has prevented the request from succeeding (get configmaps proxy)")
        }
    }

    @Test("a watch gives events in batches, and ends when the server ends it", arguments: [true, false])
    func watch(http2: Bool) async throws {
        try await withBench({ configuration, _ in configuration.allowsHTTP2 = http2 }, handler: { request in
            #expect(request.query.contains("allowWatchBookmarks=true"))
            #expect(request.query.contains("resourceVersion=5"))
            return WireResponse(status: .ok, headers: ["Content-Type": "application/json"], body: .stream { writer in
                try await writer.write(ByteBuffer(string: """
                    {"type":"ADDED","object":{"metadata":{"name":"a"}}}
                    {"type":"MODIFIED","object":{"metadata":{"name":"a"}}}
                    {"type":"DELE
                    """))
                try await Task.sleep(for: .milliseconds(50))
                try await writer.write(ByteBuffer(string: "TED\",\"object\":{}}\n"))
                try await writer.write(ByteBuffer(string: "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n"))
            })
        }) { transport, _ in
            var types: [String] = []
            var first = 0
            for try await batch in try await transport.watch(KubeWatchRequest(kind: ConfigMap.resource, resourceVersion: "5")) {
                if first == 0 { first = batch.count }
                types += batch.map(\.type.rawValue)
            }
            #expect(first == 2)
            #expect(types == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"])
        }
    }

    @Test("an ERROR event is thrown after the events before it")
    func watchError() async throws {
        try await withBench(handler: { _ in
            json(.ok, "{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"ERROR\",\"object\":\(APIStatus.expired("too old").json.text)}\n")
        }) { transport, _ in
            var seen = 0
            await #expect(throws: APIStatus.expired("too old")) {
                for try await batch in try await transport.watch(KubeWatchRequest(kind: ConfigMap.resource, resourceVersion: "5")) {
                    seen += batch.count
                }
            }
            #expect(seen == 1)
        }
    }

    @Test("a silent watch is given up; a watch whose reader has gone is ended", arguments: [true, false])
    func watchEnds(http2: Bool) async throws {
        let ended = Mutex(0)
        try await withBench({ configuration, _ in
            configuration.readIdleSecondsMax = 0.5
            configuration.allowsHTTP2 = http2
        }, handler: { request in
            let loud = request.query.contains("loud")
            return WireResponse(status: .ok, body: .stream { writer in
                defer { ended.withLock { $0 += 1 } }
                try await writer.write(ByteBuffer(string: "{\"type\":\"ADDED\",\"object\":{}}\n"))
                while loud {
                    try await Task.sleep(for: .milliseconds(20))
                    try await writer.write(ByteBuffer(string: "{\"type\":\"ADDED\",\"object\":{}}\n"))
                }
                await writer.waitForClose()
            })
        }) { transport, _ in
            await #expect(throws: HTTPTransportError.broken("http2: client connection lost")) {
                for try await _ in try await transport.watch(KubeWatchRequest(kind: ConfigMap.resource, resourceVersion: "5")) {}
            }
            let loud = KubeWatchRequest(kind: ConfigMap.resource, labelSelector: "loud", resourceVersion: "5")
            for try await _ in try await transport.watch(loud) { break }
            let reader = Task { for try await _ in try await transport.watch(loud) {} }
            try await Task.sleep(for: .milliseconds(100))
            reader.cancel()
            _ = await reader.result
            // Over HTTP/1.1 the server sees the end of a silent watch only when it next writes (a bookmark, at the latest).
            let expected = http2 ? 3 : 2
            for _ in 0..<100 where ended.withLock({ $0 }) < expected { try await Task.sleep(for: .milliseconds(20)) }
            #expect(ended.withLock { $0 } >= expected)
        }
    }

    @Test("the credential is a client certificate, a token, or a token file that is read again after a refusal")
    func credentials() async throws {
        let handler: @Sendable (WireRequest) async -> WireResponse = { request in
            let token = request.headers["authorization"].first ?? "-"
            let certificate = request.peer.verifiedCertificateDER == nil ? "none" : "certificate"
            return .text(token == "Bearer old" ? .unauthorized : .ok, "\(certificate) \(token)")
        }
        try await withBench({ $0.credential = .clientCertificate(certificatePEM: $1.client.certificatePEM, keyPEM: $1.client.keyPEM) },
                            handler: handler) { transport, _ in
            let bytes = try await transport.getRaw("/").bytes
            #expect(String(decoding: bytes, as: UTF8.self) == "certificate -")
        }
        let file = NSTemporaryDirectory() + "martlet-token-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: file) }
        try "old\n".write(toFile: file, atomically: true, encoding: .utf8)
        try await withBench({ configuration, _ in configuration.credential = .tokenFile(path: file) }, handler: handler) { transport, _ in
            #expect(try await transport.getRaw("/").status == 401)
            try "new\n".write(toFile: file, atomically: true, encoding: .utf8)
            #expect(String(decoding: try await transport.getRaw("/").bytes, as: UTF8.self) == "none Bearer new")
        }
    }

    @Test("a server that is not there, or is not trusted, is said in kubectl's words")
    func failures() async throws {
        let nobody = try HTTPTransport(HTTPTransportConfiguration(server: "https://127.0.0.1:1"))
        let refused = await #expect(throws: HTTPTransportError.self) { try await nobody.getRaw("/readyz") }
        #expect(refused?.description
            == "The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?")
        try await nobody.shutdown()
        try await withBench({ configuration, _ in configuration.trust = .system }, handler: { _ in json(.ok, "{}") }) { transport, _ in
            let error = await #expect(throws: HTTPTransportError.self) { try await transport.getRaw("/") }
            #expect(error?.description
                == "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority")
        }
        try await withBench({ configuration, _ in configuration.trust = .insecure }, handler: { _ in json(.ok, "{}") }) { transport, _ in
            let status = try await transport.getRaw("/readyz").status
            #expect(status == 200)
        }
    }

    @Test("a GET is repeated once when the kept connection has gone stale")
    func stale() async throws {
        let bench = try await Bench.start { _ in json(.ok, "{}") }
        let transport = try HTTPTransport(bench.configuration())
        #expect(try await transport.getRaw("/").status == 200)
        await bench.server.shutdown(graceSeconds: 0)
        let again = WireServer(configuration: {
            var configuration = bench.server.configuration
            configuration.port = bench.port
            return configuration
        }(), handler: ClosureHandler { _ in json(.ok, "{}") })
        _ = try await again.start()
        #expect(try await transport.getRaw("/").status == 200)
        try await transport.shutdown()
        await again.shutdown(graceSeconds: 0)
    }
}
