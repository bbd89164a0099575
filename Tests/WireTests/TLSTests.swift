import NIOCore
import NIOHTTP1
import Testing
import Wire

@Suite("TLS and HTTP/2", .serialized) struct TLSTests {
    static let describe: @Sendable (WireRequest) async -> WireResponse = { request in
        if request.path == "/stream" {
            return WireResponse(status: .ok, body: .stream { writer in
                for index in 0..<3 { try await writer.write(ByteBuffer(string: "piece \(index)\n")) }
            })
        }
        if request.path == "/big" {
            return WireResponse(status: .ok, body: .bytes(ByteBuffer(repeating: 120, count: 5_000_000)), gzip: request.query == "gzip")
        }
        let certificate = switch request.peer.certificate {
        case .none: "none"
        case .invalid: "invalid"
        case .verified(let der): "verified \(der.count > 100)"
        }
        return .text(.ok, "h\(request.httpMajorVersion) \(request.body.readableBytes) \(certificate)")
    }

    @Test("no certificate, a good one and a stranger's: all connect, each is reported as what it is")
    func clientCertificates() async throws {
        let pki = try await TestPKI.make()
        defer { pki.remove() }
        try await withServer({ $0.tls = pki.tls }, handler: Self.describe) { _, port in
            let base = ["curl", "-sS", "--cacert", "\(pki.directory)/ca.crt", "https://localhost:\(port)/"]
            func with(_ name: String) -> [String] { ["--cert", "\(pki.directory)/\(name).crt", "--key", "\(pki.directory)/\(name).key"] }
            for (flag, version) in [("--http1.1", "h1"), ("--http2", "h2")] {
                let result1 = try await run(base + [flag])
                #expect(result1.output == "\(version) 0 none")
                let result2 = try await run(base + [flag] + with("client"))
                #expect(result2.output == "\(version) 0 verified true")
                let result3 = try await run(base + [flag] + with("intruder"))
                #expect(result3.output == "\(version) 0 invalid")
                let result4 = try await run(base + [flag, "--tls-max", "1.2"] + with("client"))
                #expect(result4.output == "\(version) 0 verified true")
            }
            let result5 = try await run(base + ["--tls-max", "1.1"])
            #expect(result5.status != 0)
        }
    }

    @Test("a resumed TLS session is never reported as verified unless its certificate was checked again")
    func resumption() async throws {
        let pki = try await TestPKI.make()
        defer { pki.remove() }
        try await withServer({ $0.tls = pki.tls }, handler: Self.describe) { _, port in
            for version in ["-tls1_2", "-tls1_3"] {
                let script = """
                    cd \(pki.directory)
                    c() { (printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.3) | openssl s_client \
                        -connect localhost:\(port) -CAfile ca.crt -cert intruder.crt -key intruder.key \(version) -quiet "$@" 2>&1; }
                    c -sess_out session; c -sess_in session
                    """
                let result6 = try await run(["bash", "-c", script])
                #expect(!(result6.output.contains("verified true")))
            }
        }
    }

    @Test("HTTP/2: bodies, limits, streams, large answers with flow control, gzip") func http2() async throws {
        let pki = try await TestPKI.make()
        defer { pki.remove() }
        try await withServer({ $0.tls = pki.tls; $0.bodyBytesMax = 200_000 }, handler: Self.describe) { _, port in
            let curl = ["curl", "-sS", "--http2", "--cacert", "\(pki.directory)/ca.crt"]
            let url = "https://localhost:\(port)"
            let body = String(repeating: "b", count: 150_000)
            let result7 = try await run(curl + ["--data-binary", "@-", url + "/"], input: body)
            #expect(result7.output == "h2 150000 none")
            let large = try await run(curl + ["-w", "%{http_code}", "--data-binary", "@-", url + "/"], input: body + body)
            #expect(large.output.contains("Request entity too large: limit is 200000"))
            let result8 = try await run(curl + [url + "/stream"])
            #expect(result8.output == "piece 0\npiece 1\npiece 2\n")
            let result9 = try await run(["bash", "-c", (curl + [url + "/big"]).joined(separator: " ") + " | wc -c"])
            #expect(result9.output.contains("5000000"))
            for version in ["--http1.1", "--http2"] {
                let packed = try await run(curl + [version, "--compressed", "-o", "/dev/null", "-w", "%{size_download} %{http_code}", url + "/big?gzip"])
                #expect(packed.status == 0)
                #expect((Int(packed.output.split(separator: " ").first ?? "") ?? .max) < 100_000)
            }
            let result10 = try await run(curl + ["-I", url + "/big"])
            #expect(result10.output.lowercased().contains("content-length: 5000000"))
        }
    }

    @Test("after a reload new connections see the new certificate; a wrong pair is refused and changes nothing")
    func reload() async throws {
        let first = try await TestPKI.make(), second = try await TestPKI.make(name: "second")
        defer { first.remove(); second.remove() }
        try await withServer({ $0.tls = first.tls }, handler: Self.describe) { server, port in
            func curl(_ pki: TestPKI) async throws -> Int32 {
                try await run(["curl", "-sS", "--cacert", "\(pki.directory)/ca.crt", "https://localhost:\(port)/"]).status
            }
            #expect(try await curl(first) == 0)
            var mixed = first.tls
            mixed.privateKeyPEM = second.tls.privateKeyPEM
            #expect(throws: WireError.self) { try server.reloadCertificate(mixed) }
            #expect(try await curl(first) == 0)
            try server.reloadCertificate(second.tls)
            #expect(try await curl(second) == 0)
            #expect(try await curl(first) != 0)
        }
    }
}
