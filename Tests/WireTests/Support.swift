import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Testing
import Wire

/// Runs a program and returns its output; on a thread of its own, so that no test worker is blocked.
func run(_ arguments: [String], input: String? = nil) async throws -> (status: Int32, output: String) {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            do {
                let process = Process(), output = Pipe(), stdin = Pipe()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
                process.arguments = arguments
                process.standardOutput = output
                process.standardError = output
                process.standardInput = stdin
                try process.run()
                if let input { stdin.fileHandleForWriting.write(Data(input.utf8)) }
                try stdin.fileHandleForWriting.close()
                let data = output.fileHandleForReading.readDataToEndOfFile()
                process.waitUntilExit()
                continuation.resume(returning: (process.terminationStatus, String(decoding: data, as: UTF8.self)))
            } catch { continuation.resume(throwing: error) }
        }
    }
}

/// Certificates made with openssl: a CA, a serving certificate, a client certificate, and a client certificate of a stranger.
struct TestPKI {
    let directory: String
    let tls: WireTLS

    static func make(name: String = "first") async throws -> TestPKI {
        let directory = NSTemporaryDirectory() + "wire-pki-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let script = """
            cd \(directory)
            for ca in ca stranger; do
              openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $ca.key -out $ca.crt -subj /CN=$ca-\(name) -days 2
            done
            leaf() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj "$3"
              printf "%s" "$4" > $1.ext
              openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -CAcreateserial -out $1.crt -days 2 -extfile $1.ext; }
            leaf server ca /CN=server "subjectAltName=DNS:localhost,IP:127.0.0.1"
            leaf client ca /O=system:masters/CN=admin "extendedKeyUsage=clientAuth"
            leaf intruder stranger /O=system:masters/CN=admin "extendedKeyUsage=clientAuth"
            """
        let result = try await run(["bash", "-ec", script])
        try #require(result.status == 0, "\(result.output)")
        func text(_ file: String) throws -> String { try String(contentsOfFile: "\(directory)/\(file)", encoding: .utf8) }
        return TestPKI(directory: directory, tls: WireTLS(
            certificateChainPEM: try text("server.crt"), privateKeyPEM: try text("server.key"), clientCAPEM: try text("ca.crt")))
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }
}

/// Runs a server for the length of the closure.
func withServer(_ configure: (inout WireConfiguration) -> Void = { _ in }, handler: @escaping @Sendable (WireRequest) async -> WireResponse,
                _ body: (WireServer, Int) async throws -> Void) async throws {
    var configuration = WireConfiguration(host: "127.0.0.1", port: 0)
    configure(&configuration)
    let server = WireServer(configuration: configuration, handler: ClosureHandler(handler))
    let port = try await server.start().port ?? 0
    do { try await body(server, port) } catch { await server.shutdown(graceSeconds: 0); throw error }
    await server.shutdown(graceSeconds: 0)
}

/// A plain TCP client.
func dial(_ port: Int) async throws -> RawConnection {
    let group = MultiThreadedEventLoopGroup.singleton
    let box = try await ClientBootstrap(group: group)
        .channelOption(.allowRemoteHalfClosure, value: true)
        .channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(RawConnection(eventLoop: channel.eventLoop, stalledReaderTimeoutSeconds: 5))
            }
        }
        .connect(host: "127.0.0.1", port: port).get()
    return try await box.pipeline.handler(type: RawConnection.self).get()
}

extension RawConnection {
    func send(_ text: String) async throws { try await write(ByteBuffer(string: text)) }

    /// Reads until the text is there, or the peer closes.
    func read(until end: String) async throws -> String {
        var text = ""
        while !text.contains(end), let bytes = try await read() { text += String(buffer: bytes) }
        return text
    }

    /// Reads to the end.
    func readAll() async throws -> String {
        var text = ""
        while let bytes = try? await read() { text += String(buffer: bytes) }
        return text
    }
}

/// Waits until the condition holds, at most five seconds.
func eventually(_ condition: @Sendable () async -> Bool) async -> Bool {
    for _ in 0..<500 {
        if await condition() { return true }
        try? await Task.sleep(for: .milliseconds(10))
    }
    return false
}

let echo: @Sendable (WireRequest) async -> WireResponse = { request in
    .text(.ok, "\(request.method) \(request.path) \(request.query) \(String(buffer: request.body))")
}
