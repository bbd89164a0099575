import NIOCore
import NIOHTTP1
import Streaming
import Testing
import Wire

@Suite("SPDY and remote commands") struct SPDYTests {
    /// A WebSocket exec server that translates to the fake runtime behind it, as the kubelet does towards containerd.
    static func bridge(_ runtime: Int) -> @Sendable (WireRequest) async -> WireResponse {
        { request in
            do {
                if request.path == "/portforward" {
                    let handshake = try WebSocketHandshake(request, supported: [PortForwardTunnel.subprotocol])
                    let remote = try await PortForwardTunnel.dial(tunnel: makeTunnel(), endpoint: endpoint(runtime, "/portforward"))
                    return handshake.response { socket in await PortForwardTunnel.run(socket: socket, remote: remote) }
                }
                let handshake = try WebSocketHandshake(request, supported: WebSocketRemoteCommand.subprotocols)
                let command = try await SPDYRemoteCommand(
                    tunnel: makeTunnel(), endpoint: endpoint(runtime, "/exec/token"),
                    options: RemoteCommandOptions(standardInput: true, standardOutput: true, standardError: true))
                // The fake runtime wants all five streams; a real one is told by its own options.
                _ = try await command.session.openStream(headers: [("streamtype", "resize")]).closeOutput()
                return handshake.response { socket in
                    let client = WebSocketRemoteCommand(socket: socket, subprotocol: handshake.subprotocol)
                    try await client.announce()
                    await RemoteCommandBridge.run(client: client, command: command)
                }
            } catch let error as WebSocketHandshake.Refusal {
                return error.response
            } catch { return .text(.internalServerError, "\(error)") }
        }
    }

    @Test("exec over WebSocket is translated to SPDY: input, close of input (v5), both outputs, status last",
          arguments: [("v5.channel.k8s.io", #"{"metadata":{},"status":"Failure","message":"exit \"3\"","code":500}"#)])
    func exec(_ subprotocol: String, _ status: String) async throws {
        try await withServer(handler: fakeRuntime) { runtime in
            try await withServer(handler: Self.bridge(runtime)) { port in
                let (socket, _) = try await openWebSocket(port, "/exec", protocols: subprotocol)
                try await socket.sendBinary(channel: 0, ByteBuffer(string: "hello "))
                try await socket.sendBinary(channel: 0, ByteBuffer(string: String(repeating: "x", count: 100_000)))
                try await socket.sendBinary(channel: 255, ByteBuffer(bytes: [0]))
                var channels: [UInt8: String] = [:], order: [UInt8] = []
                while case .binary(var bytes) = try await socket.next() {
                    let channel: UInt8 = bytes.readInteger() ?? 99
                    channels[channel, default: ""] += String(buffer: bytes)
                    order.append(channel)
                }
                #expect(channels[1] == "HELLO " + String(repeating: "X", count: 100_000))
                #expect(channels[2] == "warned")
                #expect(channels[3] == status)
                #expect(order.first == 1 && order.last == 3)
            }
        }
    }

    @Test("a client that goes away ends the session behind it") func clientGone() async throws {
        try await withServer(handler: fakeRuntime) { runtime in
            try await withServer(handler: Self.bridge(runtime)) { port in
                let (socket, _) = try await openWebSocket(port, "/exec", protocols: "v4.channel.k8s.io")
                try await socket.sendBinary(channel: 0, ByteBuffer(string: "hello"))
                _ = try await socket.next()
                await socket.close(.normal)
                while try await socket.next() != nil {}
            }
        }
    }

    @Test("port-forward over WebSocket carries SPDY to the runtime: two connections through one tunnel")
    func portForward() async throws {
        try await withServer(handler: fakeRuntime) { runtime in
            try await withServer(handler: Self.bridge(runtime)) { port in
                let (socket, _) = try await openWebSocket(port, "/portforward", protocols: PortForwardTunnel.subprotocol)
                let session = try SPDYSession(connection: WebSocketBytes(socket: socket), role: .client)
                let reading = Task { try await session.run() }
                for request in 0..<2 {
                    let headers = [(name: "port", value: "80\(request)"), (name: "requestID", value: "\(request)")]
                    _ = try await session.openStream(headers: headers + [(name: "streamType", value: "error")])
                    let data = try await session.openStream(headers: headers + [(name: "streamType", value: "data")])
                    try await data.write(ByteBuffer(string: "ping"))
                    try await data.closeOutput()
                    var text = ""
                    while let bytes = try await data.read() { text += String(buffer: bytes) }
                    #expect(text == "port 80\(request): ping")
                }
                session.close()
                _ = try? await reading.value
            }
        }
    }
}
