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

    /// Frames composed by another implementation (Python's struct and zlib with the dictionary of the SPDY draft): SYN_STREAM 1
    /// (error), SYN_STREAM 3 (data, port 8080), DATA on 3 with FIN.
    static let recorded =
        "80030001000000280000000100000000000078f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff80030001000000"
            + "2e0000000300000000000002a5470c295029930829b08bc079c3c2c0c2004873164122381394f0190d00000000ffff0000000301000002"
            + "6869"

    @Test("frames of another implementation are understood, and our header blocks name the draft's dictionary (Adler-32)")
    func recordedFrames() async throws {
        let memory = MemoryConnection()
        let (streams, arrived) = AsyncStream<SPDYStream>.makeStream()
        let session = try SPDYSession(connection: memory, role: .server) { arrived.yield($0) }
        let reading = Task { try await session.run() }
        var hex = Self.recorded[...]
        var bytes = ByteBuffer()
        while let byte = UInt8(hex.prefix(2), radix: 16) { bytes.writeInteger(byte); hex = hex.dropFirst(2) }
        while let slice = bytes.readSlice(length: min(7, bytes.readableBytes)), slice.readableBytes > 0 { memory.feed.yield(slice) }
        var arrivals = streams.makeAsyncIterator()
        #expect(await arrivals.next()?.header("streamtype") == "error")
        let data = try #require(await arrivals.next())
        #expect(data.header("port") == "8080" && data.header("requestid") == "0")
        #expect(try await data.read() == ByteBuffer(string: "hi"))
        #expect(try await data.read() == nil)
        var sent = memory.sent.makeAsyncIterator()
        let reply = Array(try #require(await sent.next()).readableBytesView)
        #expect(Array(reply[0..<4]) == [0x80, 3, 0, 2])
        #expect(Array(reply[14..<18]) == [0xE3, 0xC6, 0xA7, 0xC2])
        memory.close()
        try await reading.value
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
