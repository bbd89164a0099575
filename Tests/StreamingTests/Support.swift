import NIOCore
import NIOHTTP1
import NIOPosix
import Streaming
import Wire

/// Runs a plain-text server for the length of the closure.
func withServer(handler: @escaping @Sendable (WireRequest) async -> WireResponse, _ body: (Int) async throws -> Void) async throws {
    let server = WireServer(configuration: WireConfiguration(host: "127.0.0.1", port: 0), handler: ClosureHandler(handler))
    let port = try await server.start().port ?? 0
    do { try await body(port) } catch { await server.shutdown(graceSeconds: 0); throw error }
    await server.shutdown(graceSeconds: 0)
}

func makeTunnel() throws -> Tunnel { Tunnel(dialer: try StreamDialer(group: MultiThreadedEventLoopGroup.singleton)) }

func endpoint(_ port: Int, _ uri: String) -> StreamEndpoint { StreamEndpoint(host: "127.0.0.1", port: port, uri: uri) }

/// Opens a WebSocket as a client.
func openWebSocket(_ port: Int, _ uri: String, protocols: String) async throws -> (WebSocketConnection, HTTPHeaders) {
    let (headers, connection) = try await makeTunnel().upgrade(
        method: .GET, headers: ["Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                                "Sec-WebSocket-Protocol": protocols], to: endpoint(port, uri))
    return (WebSocketConnection(connection: connection, role: .client), headers)
}

/// Two ends of a connection in memory.
final class MemoryConnection: UpgradedConnection {
    let incoming: AsyncStream<ByteBuffer>, feed: AsyncStream<ByteBuffer>.Continuation
    let outgoing: AsyncStream<ByteBuffer>.Continuation, sent: AsyncStream<ByteBuffer>

    init() {
        (incoming, feed) = AsyncStream.makeStream()
        (sent, outgoing) = AsyncStream.makeStream()
    }

    var isOpen: Bool { true }
    func read() async throws -> ByteBuffer? {
        for await bytes in incoming { return bytes }
        return nil
    }
    func write(_ bytes: ByteBuffer) async throws { outgoing.yield(bytes) }
    func closeOutput() async { outgoing.finish() }
    func close() { outgoing.finish(); feed.finish() }
}

/// What a container runtime's streaming server does with exec: error, stdin, stdout and stderr (or resize) streams by their type.
/// The "command" echoes its input to stdout in capitals, reports resizes on stderr, and ends with the status in the path's query.
func fakeRuntime(_ request: WireRequest) async -> WireResponse {
    guard request.headers.first(name: "upgrade") == "SPDY/3.1" else { return .text(.badRequest, "unable to upgrade") }
    if request.path == "/portforward" {
        return WireResponse(status: .switchingProtocols, headers: ["X-Stream-Protocol-Version": "portforward.k8s.io"],
                            body: .upgrade(protocolName: "SPDY/3.1") { connection in
            let session = try SPDYSession(connection: connection, role: .server) { stream in
                guard stream.header("streamtype") == "data" else { return }
                Task {
                    while let bytes = try await stream.read() {
                        try await stream.write(ByteBuffer(string: "port \(stream.header("port") ?? "?"): "))
                        try await stream.write(bytes)
                    }
                    try await stream.closeOutput()
                }
            }
            try await session.run()
        })
    }
    return WireResponse(status: .switchingProtocols, headers: ["X-Stream-Protocol-Version": "v4.channel.k8s.io"],
                        body: .upgrade(protocolName: "SPDY/3.1") { connection in
        let (streams, arrived) = AsyncStream<SPDYStream>.makeStream()
        let session = try SPDYSession(connection: connection, role: .server) { arrived.yield($0) }
        let command = Task {
            var byType: [String: SPDYStream] = [:]
            for await stream in streams {
                byType[stream.header("streamtype") ?? ""] = stream
                if byType.count == 4 { break }
            }
            if let resize = byType["resize"], let bytes = try await resize.read() { try await byType["stdout"]?.write(bytes) }
            while let bytes = try await byType["stdin"]?.read() {
                try await byType["stdout"]?.write(ByteBuffer(string: String(buffer: bytes).uppercased()))
            }
            try await byType["stderr"]?.write(ByteBuffer(string: "warned"))
            try await byType["stdout"]?.closeOutput()
            try await byType["stderr"]?.closeOutput()
            try await byType["error"]?.write(ByteBuffer(string: #"{"metadata":{},"status":"Failure","message":"exit \"3\"","code":500}"#))
            try await byType["error"]?.closeOutput()
        }
        try? await session.run()
        command.cancel()
    })
}
