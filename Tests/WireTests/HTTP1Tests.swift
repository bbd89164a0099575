import NIOCore
import NIOHTTP1
import Synchronization
import Testing
import Wire

@Suite("HTTP/1.1") struct HTTP1Tests {
    @Test("a request with a body is answered with length and date, and the connection stays open")
    func keepAlive() async throws {
        try await withServer(handler: echo) { _, port in
            let client = try await dial(port)
            for _ in 0..<3 {
                try await client.send("POST /a/b?x=1&y HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
                let answer = try await client.read(until: "hello")
                #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
                #expect(answer.contains("\r\nContent-Length: 21\r\n"))
                #expect(answer.contains(" GMT\r\n"))
                #expect(answer.hasSuffix("POST /a/b x=1&y hello"))
            }
            client.close()
        }
    }

    @Test("pipelined requests are answered in order, whatever each takes")
    func pipelining() async throws {
        try await withServer(handler: { request in
            if request.path == "/slow" { try? await Task.sleep(for: .milliseconds(50)) }
            return .text(.ok, "[\(request.uri)]")
        }) { _, port in
            let client = try await dial(port)
            var text = ""
            for index in 0..<300 { text += "GET \(index % 50 == 0 ? "/slow" : "/fast")?\(index) HTTP/1.1\r\nHost: x\r\n\r\n" }
            try await client.send(text)
            let answers = try await client.read(until: "?299]")
            var last = -1
            for piece in answers.split(separator: "[").dropFirst() {
                let number = Int(piece.prefix { $0 != "]" }.split(separator: "?")[1]) ?? -2
                #expect(number == last + 1)
                last = number
            }
            #expect(last == 299)
            client.close()
        }
    }

    @Test("a client that pipelines without reading is held back, then cut off")
    func pipeliningWithoutReading() async throws {
        let answered = Atomic(0)
        try await withServer({ $0.stalledReaderTimeoutSeconds = 1 }, handler: { _ in
            answered.add(1, ordering: .relaxed)
            return .text(.ok, String(repeating: "x", count: 15_000))
        }) { server, port in
            let client = try await dial(port)
            let requests = ByteBuffer(string: String(repeating: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", count: 100))
            let sender = Task { for _ in 0..<200 { try await client.write(requests) } }
            #expect(await eventually { server.connectionCount == 1 })
            #expect(await eventually { server.connectionCount == 0 })
            #expect(answered.load(ordering: .relaxed) < 5000)
            sender.cancel()
            client.close()
        }
    }

    @Test("HEAD gets the length without the body; 204 gets no length")
    func headAndNoContent() async throws {
        try await withServer(handler: { $0.path == "/none" ? WireResponse(status: .noContent) : .text(.ok, "12345") }) { _, port in
            let client = try await dial(port)
            try await client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let answer = try await client.readAll()
            #expect(answer.contains("Content-Length: 5\r\n\r\nHTTP/1.1 204 No Content"))
            #expect(answer.contains("Connection: close"))
            #expect(!answer.contains("12345"))
        }
    }

    @Test("a client that half-closes after its request still gets the answer")
    func halfClose() async throws {
        try await withServer(handler: { request in
            try? await Task.sleep(for: .milliseconds(100))
            return .text(.ok, "late")
        }) { _, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.closeOutput()
            #expect(try await client.readAll().hasSuffix("late"))
        }
    }

    @Test("Expect: 100-continue is answered before the body is sent")
    func expectContinue() async throws {
        try await withServer(handler: echo) { _, port in
            let client = try await dial(port)
            try await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            #expect(try await client.read(until: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
            try await client.send("ok")
            #expect(try await client.read(until: "ok").hasSuffix("POST /  ok"))
            client.close()
        }
    }

    @Test("a body over the limit gets the upstream 413, by its length or by its bytes")
    func tooLarge() async throws {
        try await withServer({ $0.bodyBytesMax = 10 }, handler: echo) { _, port in
            for request in ["Content-Length: 11\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"] {
                let client = try await dial(port)
                try await client.send("POST / HTTP/1.1\r\nHost: x\r\n" + request)
                let answer = try await client.readAll()
                #expect(answer.hasPrefix("HTTP/1.1 413 "))
                #expect(answer.contains("Request entity too large: limit is 10"))
            }
        }
    }

    @Test("a gzip request body gets 415, malformed HTTP 400, a huge header 431; the connection is closed",
          arguments: [("POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "415"),
                      ("GET / HTTP/1.1\r\nbad header\r\n\r\n", "400"), ("\u{16}\u{3}\u{1} nonsense\r\n\r\n", "400"),
                      ("GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 70_000) + "\r\n\r\n", "431")])
    func refused(_ request: String, _ status: String) async throws {
        try await withServer(handler: echo) { _, port in
            let client = try await dial(port)
            try await client.send(request)
            #expect(try await client.readAll().hasPrefix("HTTP/1.1 \(status) "))
        }
    }

    @Test("a client that dribbles its headers, or its body, or sends nothing is closed after the limit",
          arguments: ["GET / HTTP/1.1\r\nHost:", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab", ""])
    func slowLoris(_ start: String) async throws {
        try await withServer({ $0.headerReadTimeoutSeconds = 1; $0.bodyReadTimeoutSeconds = 1 }, handler: echo) { server, port in
            let client = try await dial(port)
            try await client.send(start)
            let dribble = Task { for _ in 0..<40 { try await Task.sleep(for: .milliseconds(100)); try await client.send("x") } }
            #expect(await eventually { server.connectionCount == 1 })
            #expect(await eventually { server.connectionCount == 0 })
            dribble.cancel()
        }
    }

    @Test("connections over the limit are closed at once")
    func connectionLimit() async throws {
        try await withServer({ $0.connectionsMax = 1 }, handler: echo) { _, port in
            let first = try await dial(port)
            try await first.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await first.read(until: "GET /1")
            let second = try await dial(port)
            try? await second.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(try await second.readAll() == "")
            first.close()
        }
    }

    @Test("a port that is taken is named in Go's words")
    func portTaken() async throws {
        try await withServer(handler: echo) { _, port in
            let other = WireServer(configuration: WireConfiguration(host: "127.0.0.1", port: port), handler: ClosureHandler(echo))
            await #expect(throws: WireError.bind("listen tcp 127.0.0.1:\(port): bind: address already in use")) { try await other.start() }
            await other.shutdown(graceSeconds: 0)
        }
    }

    @Test("a header value cannot break out of its line")
    func headerInjection() async throws {
        try await withServer(handler: { _ in WireResponse(status: .ok, headers: ["X-A": "b\r\nSet-Cookie: c"]) }) { _, port in
            let client = try await dial(port)
            try await client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(try await client.readAll().contains("X-A: b  Set-Cookie: c\r\n"))
        }
    }
}
