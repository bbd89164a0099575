import NIOCore
import NIOHTTP1
import Synchronization
import Testing
import Wire

@Suite("Streams and upgrades") struct StreamTests {
    @Test("a stream is chunked and flushed piece by piece; the connection can be used again")
    func chunks() async throws {
        try await withServer(handler: { _ in
            WireResponse(status: .ok, body: .stream { writer in
                try await writer.write(ByteBuffer(string: "one"))
                try await Task.sleep(for: .milliseconds(20))
                try await writer.write(ByteBuffer(string: String(repeating: "x", count: 40_000)))
            })
        }) { _, port in
            let client = try await dial(port)
            for _ in 0..<2 {
                try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                let answer = try await client.read(until: "0\r\n\r\n")
                #expect(answer.contains("Transfer-Encoding: chunked\r\n\r\n"))
                #expect(answer.contains("3\r\none\r\n9c40\r\nxxx"))
            }
            client.close()
        }
    }

    @Test("when the peer goes away, or half-closes, the stream's task is cancelled", arguments: [true, false])
    func cancelled(half: Bool) async throws {
        let state = Mutex("")
        try await withServer(handler: { _ in
            WireResponse(status: .ok, body: .stream { writer in
                try await writer.write(ByteBuffer(string: "start"))
                state.withLock { $0 = "started" }
                do { try await Task.sleep(for: .seconds(60)) } catch { state.withLock { $0 = "cancelled" }; throw error }
            })
        }) { _, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await client.read(until: "start")
            if half { await client.closeOutput() } else { client.close() }
            #expect(await eventually { state.withLock { $0 == "cancelled" } })
            client.close()
        }
    }

    @Test("a reader that stops reading holds the writer back, and is cut off after the limit")
    func stalled() async throws {
        let written = Atomic(0), failed = Atomic(false)
        try await withServer({ $0.stalledReaderTimeoutSeconds = 1 }, handler: { _ in
            WireResponse(status: .ok, body: .stream { writer in
                do {
                    let piece = ByteBuffer(repeating: 120, count: 64 * 1024)
                    while true { try await writer.write(piece); written.add(1, ordering: .relaxed) }
                } catch { failed.store(true, ordering: .relaxed); throw error }
            })
        }) { _, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(await eventually { failed.load(ordering: .relaxed) })
            #expect(written.load(ordering: .relaxed) < 1000)
            client.close()
        }
    }

    @Test("bytes sent right behind an upgrade request reach the upgraded connection, and half-close works both ways")
    func upgrade() async throws {
        try await withServer(handler: { _ in
            WireResponse(status: .switchingProtocols, headers: ["X-A": "1"], body: .upgrade(protocolName: "SPDY/3.1") { connection in
                while let bytes = try await connection.read() { try await connection.write(bytes) }
                try await connection.write(ByteBuffer(string: "bye"))
            })
        }) { _, port in
            let client = try await dial(port)
            try await client.send("POST /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nearly")
            let answer = try await client.read(until: "early")
            #expect(answer.hasPrefix("HTTP/1.1 101 Switching Protocols\r\n"))
            #expect(answer.contains("Upgrade: SPDY/3.1\r\n"))
            try await client.send("more")
            #expect(try await client.read(until: "more") == "more")
            await client.closeOutput()
            #expect(try await client.readAll() == "bye")
        }
    }

    @Test("an upgrade request that is refused is answered and closed")
    func refusedUpgrade() async throws {
        try await withServer(handler: { _ in .text(.forbidden, "no") }) { _, port in
            let client = try await dial(port)
            try await client.send("POST /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
            let answer = try await client.readAll()
            #expect(answer.hasPrefix("HTTP/1.1 403 Forbidden"))
            #expect(answer.hasSuffix("no"))
        }
    }

    @Test("a large list of buffers arrives whole") func buffers() async throws {
        let pieces = (0..<5000).map { ByteBuffer(string: "{\"item\":\($0),\"pad\":\"" + String(repeating: "p", count: $0 % 9000) + "\"}") }
        let length = pieces.reduce(0) { $0 + $1.readableBytes }
        try await withServer(handler: { _ in WireResponse(status: .ok, body: .buffers(pieces)) }) { _, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            var size = 0
            while let bytes = try? await client.read() { size += bytes.readableBytes }
            #expect(size > length && size < length + 300)
        }
    }

    @Test("shutdown ends a stream cleanly") func shutdown() async throws {
        try await withServer(handler: { _ in
            WireResponse(status: .ok, body: .stream { writer in
                try await writer.write(ByteBuffer(string: "start"))
                try await Task.sleep(for: .seconds(60))
            })
        }) { server, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await client.read(until: "start")
            async let rest = client.readAll()
            await server.shutdown(graceSeconds: 5)
            #expect(try await rest.hasSuffix("0\r\n\r\n"))
        }
    }
}
