import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import NIOPosix
import PKI
import Streaming
import Synchronization
import Wire

/// The way to kubelets and pods: logs, exec, attach, port-forward and the proxy subresources are passed through.
final class KubeletProxy: Sendable {
    private let configuration: APIServerConfiguration
    private let tunnels = Mutex<(kubelet: Tunnel?, plain: Tunnel?)>((nil, nil))

    init(configuration: APIServerConfiguration) { self.configuration = configuration }

    private func kubeletTunnel(_ loop: any EventLoop) throws -> Tunnel {
        if let known = tunnels.withLock({ $0.kubelet }) { return known }
        let tls = StreamTLS(
            authorityPEM: configuration.kubeletAuthorityPEM, clientCertificatePEM: configuration.kubeletClient?.certificatePEM,
            clientKeyPEM: configuration.kubeletClient?.keyPEM)
        let tunnel = Tunnel(dialer: try StreamDialer(group: MultiThreadedEventLoopGroup.singleton, tls: tls))
        tunnels.withLock { $0.kubelet = tunnel }
        return tunnel
    }

    private func plainTunnel() throws -> Tunnel {
        if let known = tunnels.withLock({ $0.plain }) { return known }
        let tunnel = Tunnel(dialer: try StreamDialer(group: MultiThreadedEventLoopGroup.singleton, tls: nil))
        tunnels.withLock { $0.plain = tunnel }
        return tunnel
    }

    /// Address and port of a node's kubelet.
    private func endpoint(node name: String, _ registry: Registry) throws -> (host: String, port: Int) {
        guard let nodes = registry.schema.resource(group: "", version: "v1", plural: "nodes") else { throw APIStatus.noSuchPath }
        let node = try registry.get(nodes, namespace: "", name: name).json
        let addresses = node["status"]?["addresses"]?.array ?? []
        let chosen = addresses.first { $0["type"]?.string == "InternalIP" } ?? addresses.first
        guard let host = chosen?["address"]?.string else {
            throw APIStatus.internalError("no preferred addresses found; known addresses: []")
        }
        let port = node["status"]?["daemonEndpoints"]?["kubeletEndpoint"]?["Port"]?.int ?? 0
        return (host, port == 0 ? 10250 : Int(port))
    }

    /// The headers that go on: never the client's credentials.
    private func forwardable(_ headers: HTTPHeaders, host: String) -> HTTPHeaders {
        var result = headers
        for name in ["Authorization", "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Host"] { result.remove(name: name) }
        result.add(name: "Host", value: host)
        return result
    }

    private func node(of pod: JSON) throws -> String {
        guard let node = pod["spec"]?["nodeName"]?.string, !node.isEmpty else {
            let name = pod["metadata"]?["name"]?.string ?? ""
            throw APIStatus.badRequest("pod \(name) does not have a host assigned")
        }
        return node
    }

    /// The container that a request means: the one named, or the only one.
    private func container(_ pod: JSON, _ query: QueryParameters) throws -> String {
        let name = pod["metadata"]?["name"]?.string ?? ""
        func names(_ list: String) -> [String] { (pod["spec"]?[list]?.array ?? []).compactMap { $0["name"]?.string } }
        let main = names("containers")
        let all = main + names("initContainers") + names("ephemeralContainers")
        if let wanted = query["container"], !wanted.isEmpty {
            guard all.contains(wanted) else { throw APIStatus.badRequest("container \(wanted) is not valid for pod \(name)") }
            return wanted
        }
        if let chosen = pod["metadata"]?["annotations"]?["kubectl.kubernetes.io/default-container"]?.string, main.contains(chosen) { return chosen }
        if main.count == 1 { return main[0] }
        let initial = names("initContainers")
        throw APIStatus.badRequest(
            "a container name must be specified for pod \(name), choose one of: [\(main.joined(separator: " "))]"
                + (initial.isEmpty ? "" : " or one of the init containers: [\(initial.joined(separator: " "))]"))
    }

    private func forward(
        _ context: RequestContext, host: String, port: Int, uri: String, tls: Bool, strip: Bool = true
    ) async throws -> WireResponse {
        let headers = forwardable(context.request.headers, host: "\(host):\(port)")
        let tunnel = try tls ? kubeletTunnel(context.request.eventLoop) : plainTunnel()
        do {
            return try await tunnel.forward(
                method: context.request.method, headers: headers, body: context.request.body,
                to: StreamEndpoint(host: host, port: port, uri: uri))
        } catch let status as APIStatus {
            throw status
        } catch {
            throw APIStatus(
                code: 502, reason: "ServiceUnavailable", message: "error trying to reach service: dial tcp \(host):\(port): \(error)")
        }
    }

    private static func encoded(_ pairs: [(name: String, value: String)]) -> String {
        let text = pairs.map { "\(PercentCoding.encode($0.name))=\(PercentCoding.encode($0.value))" }.joined(separator: "&")
        return text.isEmpty ? "" : "?\(text)"
    }

    // MARK: Logs

    func logs(pod: JSON, _ context: RequestContext, _ registry: Registry) async throws -> WireResponse {
        for name in ["tailLines", "sinceSeconds", "limitBytes"] {
            guard let text = context.query[name] else { continue }
            guard let value = Int64(text) else { throw APIStatus.badRequest("strconv.ParseInt: parsing \"\(text)\": invalid syntax") }
            if value < 0 || (value == 0 && name != "tailLines") {
                throw APIStatus.invalid(
                    group: "", kind: "PodLogOptions", name: pod["metadata"]?["name"]?.string ?? "",
                    [.invalid(name, .int(value), value < 0 ? "must be greater than or equal to 0" : "must be greater than 0")])
            }
        }
        let container = try container(pod, context.query)
        let node = try node(of: pod)
        let (host, port) = try endpoint(node: node, registry)
        let pairs = context.query.pairs.filter { $0.name != "container" && $0.name != "pretty" }
        let path = "/containerLogs/\(context.info.namespace)/\(context.info.name)/\(container)"
        var response = try await forward(context, host: host, port: port, uri: path + Self.encoded(pairs), tls: true)
        if response.status == .ok { response.headers.replaceOrAdd(name: "Content-Type", value: "text/plain") }
        return response
    }

    // MARK: Exec, attach, port-forward

    func stream(_ kind: String, pod: JSON, _ context: RequestContext, _ registry: Registry) async throws -> WireResponse {
        let method = context.request.method
        guard method == .GET || method == .POST else { throw APIStatus.methodNotAllowed() }
        let node = try node(of: pod)
        let name = context.info.name
        var path: String
        var pairs: [(name: String, value: String)] = []
        if kind == "portforward" {
            path = "/portForward/\(context.info.namespace)/\(name)"
            pairs = context.query.pairs.filter { $0.name == "ports" }.map { (name: "port", value: $0.value) }
        } else {
            let phase = pod["status"]?["phase"]?.string
            if phase == "Succeeded" || phase == "Failed" {
                throw APIStatus.badRequest("cannot exec into a container in a completed pod; current phase is \(phase ?? "")")
            }
            let container = try container(pod, context.query)
            path = "/\(kind)/\(context.info.namespace)/\(name)/\(container)"
            // The kubelet's names of the same options.
            let names = ["stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"]
            for (from, to) in names where context.query.flag(from) { pairs.append((to, "1")) }
            if !context.query.flag("stdin"), !context.query.flag("stdout"), !context.query.flag("stderr") {
                throw APIStatus.badRequest("you must specify at least one of stdin, stdout, stderr")
            }
            if kind == "exec" {
                let command = context.query.all("command")
                if command.isEmpty { throw APIStatus.badRequest("you must specify at least one command for the container") }
                pairs += command.map { (name: "command", value: $0) }
            }
        }
        let (host, port) = try endpoint(node: node, registry)
        return try await forward(context, host: host, port: port, uri: path + Self.encoded(pairs), tls: true)
    }

    // MARK: Proxy

    /// `name`, `scheme:name`, `name:port`, `scheme:name:port`
    private static func parse(_ text: String) -> (scheme: String, name: String, port: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        switch parts.count {
        case 1: return ("http", parts[0], "")
        case 2: return ["http", "https"].contains(parts[0]) ? (parts[0], parts[1], "") : ("http", parts[0], parts[1])
        default: return (parts[0].isEmpty ? "http" : parts[0], parts[1], parts[2])
        }
    }

    func proxy(_ resource: ResourceSchema, _ context: RequestContext, _ registry: Registry, _ hub: CacheHub) async throws -> WireResponse {
        let (scheme, name, portText) = Self.parse(context.info.name)
        let path = "/" + context.info.rest.map(PercentCoding.encode).joined(separator: "/")
            + (context.request.path.hasSuffix("/") && !context.info.rest.isEmpty ? "/" : "")
            + (context.request.query.isEmpty ? "" : "?\(context.request.query)")
        switch resource.identity.plural {
        case "nodes":
            let (host, port) = try endpoint(node: name, registry)
            return try await forward(context, host: host, port: portText.isEmpty ? port : Int(portText) ?? port, uri: path, tls: portText.isEmpty || scheme == "https")
        case "pods":
            let pod = try registry.get(resource, namespace: context.info.namespace, name: name).json
            guard let address = pod["status"]?["podIP"]?.string else {
                throw APIStatus.badRequest("address not allowed")
            }
            var port = Int(portText)
            if port == nil {
                let ports = (pod["spec"]?["containers"]?.array ?? []).flatMap { $0["ports"]?.array ?? [] }
                let found = portText.isEmpty ? ports.first : ports.first { $0["name"]?.string == portText }
                port = found?["containerPort"]?.int.map(Int.init) ?? 80
            }
            return try await forward(context, host: address, port: port ?? 80, uri: path, tls: scheme == "https")
        default:
            let service = try registry.get(resource, namespace: context.info.namespace, name: name).json
            guard let (host, port) = serviceEndpoint(service, namespace: context.info.namespace, name: name, port: portText, registry) else {
                throw APIStatus(
                    code: 503, reason: "ServiceUnavailable", message: "no endpoints available for service \"\(name)\"")
            }
            return try await forward(context, host: host, port: port, uri: path, tls: scheme == "https")
        }
    }

    private func serviceEndpoint(_ service: JSON, namespace: String, name: String, port: String, _ registry: Registry) -> (String, Int)? {
        let ports = service["spec"]?["ports"]?.array ?? []
        let wanted = port.isEmpty ? ports.first : ports.first { $0["name"]?.string == port || $0["port"]?.int.map(String.init) == port }
        guard let wanted, let slices = registry.schema.resource(group: "discovery.k8s.io", version: "v1", plural: "endpointslices"),
            let cache = registry.hub.cache(slices.identity)
        else { return nil }
        var candidates: [(String, Int)] = []
        for slice in cache.all(namespace: namespace) {
            let json = slice.json
            guard json["metadata"]?["labels"]?["kubernetes.io/service-name"]?.string == name else { continue }
            guard let number = (json["ports"]?.array ?? []).first(where: { ($0["name"]?.string ?? "") == (wanted["name"]?.string ?? "") })?["port"]?.int
            else { continue }
            for endpoint in json["endpoints"]?.array ?? [] where endpoint["conditions"]?["ready"]?.bool ?? true {
                if let address = endpoint["addresses"]?[0]?.string { candidates.append((address, Int(number))) }
            }
        }
        return candidates.randomElement()
    }
}
