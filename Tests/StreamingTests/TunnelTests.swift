import NIOCore
import NIOHTTP1
import Streaming
import Testing
import Wire

@Suite("Tunnel") struct TunnelTests {
    @Test("an upgrade passes through two servers byte for byte, both ways, with half-close")
    func upgrade() async throws {
        try await withServer(handler: { request in
            #expect(request.headers.first(name: "x-stream-protocol-version") == "v4.channel.k8s.io")
            return WireResponse(status: .switchingProtocols, headers: ["X-Stream-Protocol-Version": "v4.channel.k8s.io"],
                                body: .upgrade(protocolName: "SPDY/3.1") { connection in
                try await connection.write(ByteBuffer(string: "hello "))
                var total = 0
                while let bytes = try await connection.read() { total += bytes.readableBytes }
                try await connection.write(ByteBuffer(string: "got \(total)"))
            })
        }) { back in
            try await withServer(handler: { request in
                do { return try await makeTunnel().forward(method: request.method, headers: request.headers, body: request.body, to: endpoint(back, request.uri)) }
                catch { return .text(.badGateway, "\(error)") }
            }) { front in
                let (headers, connection) = try await makeTunnel().upgrade(
                    headers: ["Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"], to: endpoint(front, "/exec/a?b"))
                #expect(headers.first(name: "x-stream-protocol-version") == "v4.channel.k8s.io")
                for _ in 0..<100 { try await connection.write(ByteBuffer(repeating: 1, count: 50_000)) }
                await connection.closeOutput()
                var text = ""
                while let bytes = try await connection.read() { text += String(buffer: bytes) }
                #expect(text == "hello got 5000000")
            }
        }
    }

    @Test("an answer that is not an upgrade passes as it is: status, headers, chunked body; an unreachable server throws")
    func answers() async throws {
        try await withServer(handler: { request in
            if request.path == "/logs" {
                return WireResponse(status: .ok, headers: ["X-A": "b"], body: .stream { writer in
                    for index in 0..<5 { try await writer.write(ByteBuffer(string: "line \(index)\n")) }
                })
            }
            return .text(.forbidden, "no \(String(buffer: request.body))")
        }) { back in
            try await withServer(handler: { request in
                do { return try await makeTunnel().forward(method: request.method, headers: request.headers, body: request.body, to: endpoint(back, request.uri)) }
                catch { return .text(.badGateway, "\(error)") }
            }) { front in
                let tunnel = try makeTunnel()
                let refused = await #expect(throws: TunnelError.self) {
                    try await tunnel.upgrade(headers: ["Upgrade": "SPDY/3.1"], to: endpoint(front, "/exec"))
                }
                if case .refused(let status, let body) = refused { #expect(status == .forbidden && String(buffer: body) == "no ") }
                let logs = try await tunnel.forward(method: .GET, headers: [:], to: endpoint(front, "/logs"))
                #expect(logs.headers.first(name: "x-a") == "b")
                guard case .stream(let produce) = logs.body else { Issue.record("not a stream"); return }
                let writer = CollectingWriter()
                try await produce(writer)
                #expect(await writer.text == "line 0\nline 1\nline 2\nline 3\nline 4\n")
                await #expect(throws: (any Error).self) { try await tunnel.forward(method: .GET, headers: [:], to: endpoint(1, "/")) }
            }
        }
    }
}

actor CollectingWriter: WireWriter {
    var text = ""
    nonisolated var isOpen: Bool { true }
    func write(_ bytes: ByteBuffer) async throws { text += String(buffer: bytes) }
    func waitForClose() async {}
}
