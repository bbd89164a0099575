internal import GRPCCore
internal import GRPCNIOTransportHTTP2Posix

/// The gRPC health protocol (grpc.health.v1, version 1), for probes: one unary call over plain HTTP/2.
package enum GRPCHealth {
    package enum Answer: Sendable, Equatable {
        case serving
        /// `NOT_SERVING`, `SERVICE_UNKNOWN` or `UNKNOWN`.
        case notServing(String)
        case unreachable
        /// The server answered with an error.
        case failed(String)
    }

    package static func check(host: String, port: Int, service: String, timeout: Duration) async -> Answer {
        do {
            let target: any ResolvableTarget = host.contains(":") ? .ipv6(address: host, port: port) : .ipv4(address: host, port: port)
            let client = GRPCClient(transport: try HTTP2ClientTransport.Posix(target: target, transportSecurity: .plaintext))
            let connections = Task { try? await client.runConnections() }
            defer {
                client.beginGracefulShutdown()
                connections.cancel()
            }
            var options = CallOptions.defaults
            options.timeout = timeout
            options.waitForReady = true
            // HealthCheckRequest { string service = 1; }
            let name = Array(service.utf8)
            let request: [UInt8] = name.isEmpty ? [] : [0x0A] + varint(name.count) + name
            let answer = try await client.unary(
                request: ClientRequest(message: request),
                descriptor: MethodDescriptor(service: ServiceDescriptor(fullyQualifiedService: "grpc.health.v1.Health"), method: "Check"),
                serializer: RawWriter(), deserializer: RawReader(), options: options
            ) { response in try response.message }
            // HealthCheckResponse { ServingStatus status = 1; }
            let status = answer.count >= 2 && answer[0] == 0x08 ? Int(answer[1]) : 0
            return status == 1 ? .serving : .notServing(["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"][min(3, status)])
        } catch let error as RPCError {
            if error.code == .deadlineExceeded || error.code == .unavailable { return .unreachable }
            return .failed("\(CRIError(error, method: "Check"))")
        } catch {
            return .unreachable
        }
    }

    private static func varint(_ value: Int) -> [UInt8] {
        var value = value, bytes: [UInt8] = []
        while value >= 0x80 {
            bytes.append(UInt8(value & 0x7f) | 0x80)
            value >>= 7
        }
        return bytes + [UInt8(value)]
    }
}

private struct RawWriter: MessageSerializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
}

private struct RawReader: MessageDeserializer {
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] { bytes.withUnsafeBytes { [UInt8]($0) } }
}
