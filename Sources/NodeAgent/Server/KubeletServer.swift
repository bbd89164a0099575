import CRI
import JSON
import KubeMeta
import KubeTypes
import NIOCore
import NIOHTTP1
import NIOPosix
import PKI
import Streaming
import Wire

/// The node's HTTPS API on port 10250: logs, exec, attach, port-forward, statistics. Only the API server may use it.
final class KubeletServer: WireHandler {
    private let serving: NodeAgentConfiguration.Serving
    private let context: AgentContext
    private let manager: PodManager
    private let statistics: NodeStatistics
    private let tunnel: Tunnel
    private static let shutdownGraceSeconds = 1
    private let box = ServerBox()

    init(serving: NodeAgentConfiguration.Serving, context: AgentContext, manager: PodManager) throws {
        self.serving = serving
        self.context = context
        self.manager = manager
        statistics = NodeStatistics(context: context, manager: manager)
        tunnel = Tunnel(dialer: try StreamDialer(group: MultiThreadedEventLoopGroup.singleton))
    }

    func start() async throws {
        var configuration = WireConfiguration(
            host: "0.0.0.0", port: serving.port,
            tls: WireTLS(certificateChainPEM: serving.certificatePEM, privateKeyPEM: serving.keyPEM, clientCAPEM: serving.clientCAPEM))
        configuration.eventLoopCount = 1
        let server = WireServer(configuration: configuration, handler: self)
        try await server.start()
        await box.set(server)
    }

    func stop() async { await box.take()?.shutdown(graceSeconds: Self.shutdownGraceSeconds) }

    // MARK: requests

    func handle(_ request: WireRequest) async -> WireResponse {
        let parts = request.path.split(separator: "/").map { QueryText.decode($0) }
        if parts.first == "healthz" { return .text(.ok, "ok") }
        if let refusal = authorize(request) { return refusal }
        let query = QueryText.parse(request.query)
        do {
            switch (parts.first ?? "", parts.count) {
            case ("containerLogs", 4): return try await logs(parts[1], parts[2], parts[3], query)
            case ("exec", 4), ("exec", 5): return try await remoteCommand(request, parts, query, isAttach: false)
            case ("attach", 4), ("attach", 5): return try await remoteCommand(request, parts, query, isAttach: true)
            case ("portForward", 3), ("portForward", 4): return try await portForward(request, parts[1], parts[2])
            case ("pods", 1): return await pods()
            case ("metrics", 1): return .text(.ok, await statistics.metrics(), contentType: "text/plain; version=0.0.4; charset=utf-8")
            case ("metrics", 2) where parts[1] == "resource":
                return .text(.ok, await statistics.resourceMetrics(), contentType: "text/plain; version=0.0.4; charset=utf-8")
            case ("stats", 2) where parts[1] == "summary": return json(await statistics.summary())
            case ("configz", 1): return json(configz())
            default: return .text(.notFound, "404 page not found\n")
            }
        } catch let error as ServerRefusal {
            return .text(error.status, error.message)
        } catch {
            return .text(.internalServerError, "\(error)")
        }
    }

    /// Nil when the client may go on.
    private func authorize(_ request: WireRequest) -> WireResponse? {
        guard let der = request.peer.verifiedCertificateDER, let identity = try? CertificateIdentity(der: der) else {
            return .text(.unauthorized, "Unauthorized")
        }
        if identity.commonName == serving.allowedCommonName || identity.organizations.contains("system:masters") { return nil }
        return .text(.forbidden, "Forbidden (user=\(identity.commonName), verb=get, resource=nodes, subresource=proxy)")
    }

    private func json(_ value: JSON) -> WireResponse {
        var bytes: [UInt8] = []
        value.write(into: &bytes)
        return WireResponse(status: .ok, headers: ["Content-Type": "application/json"], body: .bytes(ByteBuffer(bytes: bytes)))
    }

    private func pods() async -> WireResponse {
        var items: [JSON] = []
        for worker in await manager.allWorkers { items.append(await worker.snapshot.pod.json) }
        return json(["kind": "PodList", "apiVersion": "v1", "metadata": [:], "items": .array(items)])
    }

    private func configz() -> JSON {
        let configuration = context.configuration
        return [
            "kubeletconfig": [
                "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "clusterDomain": .string(configuration.clusterDomain),
                "clusterDNS": JSON(configuration.clusterDNS), "maxPods": JSON(configuration.podsMax),
                "nodeLeaseDurationSeconds": JSON(configuration.leaseSeconds), "containerLogMaxSize": "10Mi",
                "containerLogMaxFiles": JSON(configuration.containerLogFilesMax), "cgroupRoot": .string(configuration.cgroupRoot),
                "enableServer": true, "port": JSON(serving.port),
            ]
        ]
    }

    // MARK: pods and containers

    private func worker(_ namespace: String, _ name: String) async throws -> PodWorker {
        guard let worker = await manager.worker(namespace: namespace, name: name) else {
            throw ServerRefusal(.notFound, "pod \"\(name)\" not found")
        }
        return worker
    }

    private func runningContainer(_ namespace: String, _ name: String, _ container: String) async throws -> String {
        let runtime = await (try worker(namespace, name)).snapshot.runtime
        guard let record = runtime.newest(container), record.state == .running else {
            throw ServerRefusal(.notFound, "container not found (\"\(container)\")")
        }
        return record.id
    }

    // MARK: logs

    private func logs(_ namespace: String, _ name: String, _ container: String, _ query: [(name: String, value: String)]) async throws
        -> WireResponse {
        let options: LogOptions
        do { options = try LogOptions(query: query, now: context.time.now()) } catch { throw ServerRefusal(.badRequest, "\(error)") }
        let worker = try await worker(namespace, name)
        let (pod, runtime, _) = await worker.snapshot
        guard pod.container(named: container) != nil else {
            throw ServerRefusal(.notFound, "container \"\(container)\" not found in pod \"\(name)\"")
        }
        let record: ContainerRecord?
        if options.previous {
            // What the status calls the last state: while a restart waits, the container that ended just now.
            let statuses = pod.status.containerStatuses + pod.status.initContainerStatuses
            let last = statuses.first { $0.name == container }?.lastState?.terminated?.containerID.dropFirst("containerd://".count)
            record = runtime.containers.first { $0.id == last.map(String.init(_:)) } ?? runtime.previous(container)
            guard record != nil else {
                throw ServerRefusal(.badRequest, "previous terminated container \"\(container)\" in pod \"\(name)\" not found")
            }
        } else {
            record = runtime.newest(container)
        }
        guard let record, record.state != .created else {
            let statuses = pod.status.containerStatuses + pod.status.initContainerStatuses + pod.status.ephemeralContainerStatuses
            let reason = statuses.first { $0.name == container }?.state?.waiting?.reason ?? "ContainerCreating"
            switch reason {
            case "ErrImagePull": throw ServerRefusal(.badRequest, "container \"\(container)\" in pod \"\(name)\" is waiting to start: image can't be pulled")
            case "ImagePullBackOff":
                throw ServerRefusal(.badRequest, "container \"\(container)\" in pod \"\(name)\" is waiting to start: trying and failing to pull image")
            default: throw ServerRefusal(.badRequest, "container \"\(container)\" in pod \"\(name)\" is waiting to start: \(reason)")
            }
        }
        let path = record.logPath
        guard !path.isEmpty else { throw ServerRefusal(.internalServerError, "failed to get log path of container \"\(container)\"") }
        let cursor = try? await Blocking.run { LogCursor(path: path, tailLines: options.tailLines) }
        let time = context.time
        let id = record.id
        return WireResponse(
            status: .ok, headers: ["Content-Type": "text/plain"],
            body: .stream { writer in
                guard let cursor = cursor ?? nil else { return }
                var left = options.limitBytes ?? .max
                var mayEnd = !options.follow
                while left > 0, !Task.isCancelled {
                    let lines = try await Blocking.run { cursor.next() }
                    if lines.isEmpty {
                        if mayEnd { return }
                        let runtime = await worker.snapshot.runtime
                        // One more look after the end: its last words may have come between.
                        mayEnd = runtime.containers.first { $0.id == id }?.state != .running
                        if !mayEnd { try await time.sleep(seconds: 0.05) }
                        continue
                    }
                    var text = ByteBuffer()
                    for line in lines { if let line = options.text(of: line) { text.writeString(line) } }
                    if text.readableBytes > left, let cut = text.readSlice(length: left) { text = cut }
                    left -= text.readableBytes
                    if text.readableBytes > 0 { try await writer.write(text) }
                }
            })
    }

    // MARK: exec, attach

    private func remoteCommand(_ request: WireRequest, _ parts: [String], _ query: [(name: String, value: String)], isAttach: Bool) async throws
        -> WireResponse {
        func flag(_ names: String...) -> Bool {
            query.contains { names.contains($0.name) && ($0.value == "1" || $0.value == "true") }
        }
        // /exec/NAMESPACE/POD[/UID]/CONTAINER
        let id = try await runningContainer(parts[1], parts[2], parts[parts.count - 1])
        let options = RemoteCommandOptions(
            standardInput: flag("input", "stdin"), standardOutput: flag("output", "stdout"), standardError: flag("error", "stderr"), tty: flag("tty"))
        let command = query.filter { $0.name == "command" }.map(\.value)
        guard options.standardInput || options.standardOutput || options.standardError else {
            throw ServerRefusal(.badRequest, "you must specify at least 1 of stdin, stdout, stderr")
        }
        let url: String
        do throws(CRIError) {
            if isAttach {
                url = try await context.runtime.attach(
                    configured(CRIAttachRequest()) {
                        $0.containerID = id
                        $0.stdin = options.standardInput
                        $0.stdout = options.standardOutput
                        $0.stderr = options.standardError
                        $0.tty = options.tty
                    })
            } else {
                url = try await context.runtime.exec(
                    configured(CRIExecRequest()) {
                        $0.containerID = id
                        $0.cmd = command
                        $0.stdin = options.standardInput
                        $0.stdout = options.standardOutput
                        $0.stderr = options.standardError
                        $0.tty = options.tty
                    })
            }
        } catch {
            throw ServerRefusal(.internalServerError, "\(error)")
        }
        let endpoint = try Self.endpoint(url)
        guard WebSocketHandshake.isRequested(request) else {
            return try await tunnel.forward(method: request.method, headers: request.headers, body: request.body, to: endpoint)
        }
        let handshake: WebSocketHandshake
        do throws(WebSocketHandshake.Refusal) {
            handshake = try WebSocketHandshake(request, supported: WebSocketRemoteCommand.subprotocols)
        } catch {
            return error.response
        }
        let remote = try await SPDYRemoteCommand(tunnel: tunnel, endpoint: endpoint, options: options)
        return handshake.response { socket in
            let client = WebSocketRemoteCommand(socket: socket, subprotocol: handshake.subprotocol)
            try await client.announce()
            await RemoteCommandBridge.run(client: client, command: remote)
        }
    }

    private func portForward(_ request: WireRequest, _ namespace: String, _ name: String) async throws -> WireResponse {
        let runtime = await (try worker(namespace, name)).snapshot.runtime
        guard let sandbox = runtime.readySandbox else { throw ServerRefusal(.notFound, "pod \"\(name)\" is not running") }
        let url = try await context.runtime.portForward(sandbox: sandbox.id, ports: [])
        let endpoint = try Self.endpoint(url)
        guard WebSocketHandshake.isRequested(request) else {
            return try await tunnel.forward(method: request.method, headers: request.headers, body: request.body, to: endpoint)
        }
        let handshake: WebSocketHandshake
        do throws(WebSocketHandshake.Refusal) {
            handshake = try WebSocketHandshake(request, supported: [PortForwardTunnel.subprotocol])
        } catch {
            return error.response
        }
        let remote = try await PortForwardTunnel.dial(tunnel: tunnel, endpoint: endpoint)
        return handshake.response { socket in await PortForwardTunnel.run(socket: socket, remote: remote) }
    }

    /// `http://127.0.0.1:41234/exec/TOKEN`, as the runtime says it.
    static func endpoint(_ url: String) throws -> StreamEndpoint {
        guard let scheme = url.firstRange(of: "://") else { throw AgentError("unusable streaming address \(url)") }
        let rest = url[scheme.upperBound...]
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = rest[..<slash]
        guard let colon = authority.lastIndex(of: ":"), let port = Int(authority[authority.index(after: colon)...]) else {
            throw AgentError("unusable streaming address \(url)")
        }
        let host = authority[..<colon].filter { $0 != "[" && $0 != "]" }
        return StreamEndpoint(host: String(host), port: port, uri: slash == rest.endIndex ? "/" : String(rest[slash...]))
    }
}

/// An answer other than success.
struct ServerRefusal: Error {
    var status: HTTPResponseStatus
    var message: String
    init(_ status: HTTPResponseStatus, _ message: String) {
        self.status = status
        self.message = message
    }
}

private actor ServerBox {
    private var server: WireServer?
    func set(_ server: WireServer) { self.server = server }
    func take() -> WireServer? {
        defer { server = nil }
        return server
    }
}
