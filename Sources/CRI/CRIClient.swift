internal import GRPCCore
internal import GRPCNIOTransportHTTP2Posix
internal import SwiftProtobuf

/// Calls a CRI runtime (containerd) over its unix socket.
///
/// One connection, shared by all calls. While the runtime is down or restarting, a call waits for the connection to come
/// back until its own deadline and then throws `CRIError` (`unavailable` or `deadlineExceeded`); nothing else has to be
/// reopened after a restart. The methods themselves are in `CRIClient+Runtime.swift` and `CRIClient+Images.swift`.
package final class CRIClient: Sendable {
    /// Largest message read; the kubelet's own limit (16 MiB).
    static let responseBytesMax = 16 * 1024 * 1024

    package let socketPath: String
    private let client: GRPCClient<HTTP2ClientTransport.Posix>
    private let connections: Task<Void, Never>

    /// - Parameter socketPath: absolute path of the runtime's socket; it need not exist yet.
    package init(socketPath: String) throws {
        self.socketPath = socketPath
        let transport = try HTTP2ClientTransport.Posix(
            // containerd's gRPC server refuses the default authority, which would be the percent-encoded path.
            target: .unixDomainSocket(path: socketPath, authority: "localhost"),
            transportSecurity: .plaintext,
            config: .defaults { config in
                config.backoff = .init(initial: .milliseconds(20), max: .milliseconds(500), multiplier: 1.6, jitter: 0.2)
                config.connection.maxIdleTime = nil
            })
        let client = GRPCClient(transport: transport)
        self.client = client
        connections = Task { try? await client.runConnections() }
    }

    deinit { close() }

    /// Ends the connection; calls made later throw.
    package func close() {
        client.beginGracefulShutdown()
    }

    /// One unary call. `deadline` covers waiting for the connection as well as the call.
    func call<Request: Message, Response: Message>(
        _ service: CRIService, _ method: String, _ request: Request, deadline: Duration
    ) async throws(CRIError) -> Response {
        let end = ContinuousClock.now + deadline
        while true {
            do {
                return try await attempt(service, method, request, deadline: max(.milliseconds(1), end - .now))
            } catch {
                // containerd listens before its CRI has recovered the containers. It did nothing with the request: ask again.
                guard error.code == .unknown, error.message.contains(Self.notInitialized), .now < end else { throw error }
                do { try await Task.sleep(for: Self.retryInterval) } catch { throw CRIError(error, method: method) }
            }
        }
    }

    private static let notInitialized = "server is not initialized yet"
    private static let retryInterval: Duration = .milliseconds(20)

    private func attempt<Request: Message, Response: Message>(
        _ service: CRIService, _ method: String, _ request: Request, deadline: Duration
    ) async throws(CRIError) -> Response {
        var options = CallOptions.defaults
        options.timeout = deadline
        options.waitForReady = true
        options.maxResponseMessageBytes = Self.responseBytesMax
        do {
            return try await client.unary(
                request: ClientRequest(message: request),
                descriptor: MethodDescriptor(service: ServiceDescriptor(fullyQualifiedService: service.rawValue), method: method),
                serializer: ProtobufWriter<Request>(),
                deserializer: ProtobufReader<Response>(),
                options: options
            ) { response in try response.message }
        } catch {
            throw CRIError(error, method: method)
        }
    }
}

/// The two gRPC services of CRI, by full name.
enum CRIService: String {
    case runtime = "runtime.v1.RuntimeService"
    case image = "runtime.v1.ImageService"
}

private struct ProtobufWriter<Value: Message>: MessageSerializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: Value) throws -> Bytes {
        Bytes(try message.serializedBytes() as [UInt8])
    }
}

private struct ProtobufReader<Value: Message>: MessageDeserializer {
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> Value {
        try Value(serializedBytes: bytes.withUnsafeBytes { [UInt8]($0) })
    }
}
