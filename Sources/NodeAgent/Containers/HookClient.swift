import AsyncHTTPClient
import CRI
import KubeMeta
import KubeTypes
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Calls into pods: the HTTP and TCP sides of probes and lifecycle hooks. Certificates of pods are not verified (upstream does not).
final class HookClient: Sendable {
    /// What the caller is told; nil error means success.
    enum Outcome: Sendable, Equatable {
        case success(String)
        case failure(String)
    }

    private static let bodyBytesMax = 10 << 10
    private static let redirectsMax = 10
    private let client: HTTPClient

    init() {
        var configuration = HTTPClient.Configuration()
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.certificateVerification = .none
        configuration.tlsConfiguration = tls
        configuration.redirectConfiguration = .follow(max: Self.redirectsMax, allowCycles: false)
        // Each probe opens its own connection, as upstream: a kept one would not notice a server that accepts no more.
        configuration.connectionPool.idleTimeout = .milliseconds(1)
        configuration.httpVersion = .http1Only
        configuration.timeout.connect = .seconds(30)
        client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, configuration: configuration)
    }

    func shutdown() async { try? await client.shutdown() }

    /// The port's number: given, or that of the container's port of this name.
    static func port(_ port: IntOrString?, _ container: Container) throws(AgentError) -> Int {
        switch port {
        case .int(let number) where (1...65535).contains(number): return number
        case .string(let name):
            if let number = Int(name) { return number }
            if let known = container.ports.first(where: { $0.name == name }) { return known.containerPort }
            throw AgentError("couldn't find port: \(name)")
        default: throw AgentError("invalid port number: \(port?.text ?? "")")
        }
    }

    func get(_ action: HTTPGetAction, container: Container, podIP: String, timeoutSeconds: Double, agent: String) async -> Outcome {
        let url: String
        do {
            let scheme = (action.scheme ?? "HTTP").lowercased()
            let host = action.host.flatMap { $0.isEmpty ? nil : $0 } ?? podIP
            let path = action.path.isEmpty ? "/" : action.path.hasPrefix("/") ? action.path : "/" + action.path
            url = "\(scheme)://\(host.contains(":") ? "[\(host)]" : host):\(try Self.port(action.port, container))\(path)"
        } catch {
            return .failure("\(error)")
        }
        var request = HTTPClientRequest(url: url)
        request.method = .GET
        for header in action.httpHeaders { request.headers.add(name: header.name, value: header.value) }
        if !request.headers.contains(name: "User-Agent") { request.headers.add(name: "User-Agent", value: agent) }
        if !request.headers.contains(name: "Accept") { request.headers.add(name: "Accept", value: "*/*") }
        request.headers.replaceOrAdd(name: "Connection", value: "close")
        do {
            let response = try await client.execute(request, timeout: .milliseconds(Int64(timeoutSeconds * 1000)))
            var body = ByteBuffer()
            do {
                for try await piece in response.body where body.readableBytes < Self.bodyBytesMax { body.writeImmutableBuffer(piece) }
            } catch {}
            let code = Int(response.status.code)
            if (200..<400).contains(code) { return .success(String(buffer: body)) }
            return .failure("HTTP probe failed with statuscode: \(code)")
        } catch {
            return .failure("Get \"\(url)\": \(Self.text(error, url))")
        }
    }

    func connect(_ action: TCPSocketAction, container: Container, podIP: String, timeoutSeconds: Double) async -> Outcome {
        let host = action.host.flatMap { $0.isEmpty ? nil : $0 } ?? podIP
        do {
            let port = try Self.port(action.port, container)
            do {
                let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                    .connectTimeout(.milliseconds(Int64(timeoutSeconds * 1000))).connect(host: host, port: port).get()
                channel.close(promise: nil)
                return .success("")
            } catch {
                return .failure("dial tcp \(host):\(port): \(Self.cause(error))")
            }
        } catch {
            return .failure("\(error)")
        }
    }

    private static func text(_ error: any Error, _ url: String) -> String {
        if let error = error as? HTTPClientError {
            if error == .deadlineExceeded || error == .readTimeout || error == .connectTimeout {
                return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            }
            if error == .remoteConnectionClosed { return "EOF" }
        }
        let address = url.split(separator: "/").dropFirst().first.map(String.init) ?? ""
        return "dial tcp \(address): \(cause(error))"
    }

    private static func cause(_ error: any Error) -> String {
        if let error = error as? NIOConnectionError, let first = error.connectionErrors.first { return cause(first.error) }
        if let error = error as? IOError {
            switch error.errnoCode {
            case 111: return "connect: connection refused"
            case 113: return "connect: no route to host"
            case 101: return "connect: network is unreachable"
            case 104: return "read: connection reset by peer"
            default: return "\(error)"
            }
        }
        if let error = error as? ChannelError, case .connectTimeout = error { return "i/o timeout" }
        return "\(error)"
    }
}
