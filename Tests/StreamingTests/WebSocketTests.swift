import NIOCore
import NIOHTTP1
import Streaming
import Testing
import Wire

@Suite("WebSocket") struct WebSocketTests {
    @Test("the handshake of RFC 6455 section 1.3, with the client's first supported protocol; echo, fragments, ping, close")
    func echo() async throws {
        try await withServer(handler: { request in
            do {
                let handshake = try WebSocketHandshake(request, supported: WebSocketRemoteCommand.subprotocols)
                return handshake.response { socket in while let message = try await socket.next() { try await socket.send(message) } }
            } catch { return (error as? WebSocketHandshake.Refusal)?.response ?? .text(.internalServerError, "\(error)") }
        }) { port in
            let (socket, headers) = try await openWebSocket(port, "/", protocols: "v9.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io")
            #expect(headers.first(name: "sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            #expect(headers.first(name: "sec-websocket-protocol") == "v4.channel.k8s.io")
            try await socket.ping()
            for size in [0, 5, 125, 126, 65_535, 65_536, 1_000_000] {
                let message = WebSocketConnection.Message.binary(ByteBuffer(repeating: 7, count: size))
                try await socket.send(message)
                #expect(try await socket.next() == message)
            }
            await socket.close(.normal)
            #expect(try await socket.next() == nil)
            let refused = await #expect(throws: TunnelError.self) { try await openWebSocket(port, "/", protocols: "v9.channel.k8s.io") }
            if case .refused(let status, _) = refused { #expect(status == .forbidden) }
        }
    }

    static func masked(_ first: UInt8, _ payload: String) -> ByteBuffer {
        var frame = ByteBuffer(bytes: [first, 0x80 | UInt8(payload.utf8.count), 1, 2, 3, 4])
        frame.writeBytes(payload.utf8.enumerated().map { $1 ^ UInt8($0 & 3 + 1) })
        return frame
    }

    @Test("fragments are joined around a ping, byte by byte") func fragments() async throws {
        let memory = MemoryConnection()
        let socket = WebSocketConnection(connection: memory)
        var bytes = Self.masked(0x01, "Hel")
        for frame in [Self.masked(0x89, "p"), Self.masked(0x80, "lo")] { bytes.writeImmutableBuffer(frame) }
        while let one = bytes.readSlice(length: 1) { memory.feed.yield(one) }
        #expect(try await socket.next() == .text(ByteBuffer(string: "Hello")))
        #expect(try await first(memory.sent) == ByteBuffer(bytes: [0x8A, 1, UInt8(ascii: "p")]))
    }

    @Test("violations close with their code", arguments: [
        ([0x82, 0x01, 0x00], 1002), ([0xC2, 0x80, 0, 0, 0, 0], 1002), ([0x80, 0x80, 0, 0, 0, 0], 1002), ([0x83, 0x80, 0, 0, 0, 0], 1002),
        ([0x82, 0xFF, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4], 1009), ([0x89, 0xFE, 0x00, 0x7E, 1, 2, 3, 4], 1002),
    ] as [([UInt8], Int)])
    func violations(_ bytes: [UInt8], _ code: Int) async throws {
        let memory = MemoryConnection()
        let socket = WebSocketConnection(connection: memory)
        memory.feed.yield(ByteBuffer(bytes: bytes))
        await #expect(throws: WireError.self) { try await socket.next() }
        let close = try await first(memory.sent)
        #expect(Array(close.readableBytesView) == [0x88, 2, UInt8(code >> 8), UInt8(code & 255)])
    }

    private func first(_ stream: AsyncStream<ByteBuffer>) async throws -> ByteBuffer {
        for await bytes in stream { return bytes }
        throw WireError.closed
    }
}
