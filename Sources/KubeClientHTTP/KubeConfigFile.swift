import FoundationEssentials
import Yams

/// A kubeconfig file: clusters, users, and contexts that pair them. Error texts are kubectl's.
public struct KubeConfigFile: Sendable {
    public struct Cluster: Sendable, Equatable {
        public var server = ""
        public var authority = ""
        public var authorityFile = ""
        public var insecureSkipTLSVerify = false
    }

    public struct User: Sendable, Equatable {
        public var certificate = ""
        public var certificateFile = ""
        public var key = ""
        public var keyFile = ""
        public var token = ""
        public var tokenFile = ""
        public var username = ""
        /// Fields that name a way to authenticate which Martlet does not have: `exec`, `auth-provider`.
        public var unsupported: [String] = []
    }

    public struct Context: Sendable, Equatable {
        public var cluster = ""
        public var user = ""
        public var namespace = ""
    }

    private static let bytesMax = 16 << 20

    /// The file's own path: relative paths in it are relative to its folder.
    public let path: String
    public var clusters: [String: Cluster] = [:]
    public var users: [String: User] = [:]
    public var contexts: [String: Context] = [:]
    public var currentContext = ""

    /// Reads a file. Blocks: for the start of a program.
    /// - Throws: `HTTPTransportError.configuration`.
    public static func load(path: String) throws -> KubeConfigFile {
        let bytes = try FileBytes.read(path, bytesMax: bytesMax)
        return try KubeConfigFile(text: String(decoding: bytes, as: UTF8.self), path: path)
    }

    /// - Parameter path: where the text is from, for messages and relative paths.
    public init(text: String, path: String) throws {
        self.path = path
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            throw HTTPTransportError.configuration("error loading config file \"\(path)\": yaml: \(Self.oneLine("\(error)"))")
        }
        guard let root else { return }
        guard case .mapping = root else {
            throw HTTPTransportError.configuration("error loading config file \"\(path)\": couldn't get version/kind; json parse error")
        }
        if let kind = root.text("kind"), !kind.isEmpty, kind != "Config" {
            throw HTTPTransportError.configuration("error loading config file \"\(path)\": no kind \"\(kind)\" is registered for version \"v1\"")
        }
        currentContext = root.text("current-context") ?? ""
        for (name, node) in root.named("clusters", "cluster") {
            clusters[name] = Cluster(
                server: node.text("server") ?? "", authority: try decoded(node, "certificate-authority-data"),
                authorityFile: node.text("certificate-authority") ?? "", insecureSkipTLSVerify: node["insecure-skip-tls-verify"]?.bool ?? false)
        }
        for (name, node) in root.named("users", "user") {
            users[name] = User(
                certificate: try decoded(node, "client-certificate-data"), certificateFile: node.text("client-certificate") ?? "",
                key: try decoded(node, "client-key-data"), keyFile: node.text("client-key") ?? "",
                token: node.text("token") ?? "", tokenFile: node.text("tokenFile") ?? "", username: node.text("username") ?? "",
                unsupported: ["exec", "auth-provider"].filter { node[$0]?.mapping != nil })
        }
        for (name, node) in root.named("contexts", "context") {
            contexts[name] = Context(
                cluster: node.text("cluster") ?? "", user: node.text("user") ?? "", namespace: node.text("namespace") ?? "")
        }
    }

    /// What a context says about the server and the user.
    /// - Parameter context: nil: the file's current context.
    public func transportConfiguration(context name: String? = nil) throws -> HTTPTransportConfiguration {
        let name = name ?? currentContext
        if name.isEmpty { throw HTTPTransportError.configuration("\(path): current-context is not set") }
        guard let context = contexts[name] else { throw HTTPTransportError.configuration("context \"\(name)\" does not exist") }
        guard let cluster = clusters[context.cluster] else {
            throw HTTPTransportError.configuration("cluster \"\(context.cluster)\" does not exist")
        }
        if cluster.server.isEmpty { throw invalid("no server found for cluster \"\(context.cluster)\"") }
        var configuration = HTTPTransportConfiguration(server: cluster.server)
        if cluster.insecureSkipTLSVerify {
            if !cluster.authority.isEmpty || !cluster.authorityFile.isEmpty {
                throw invalid("specifying a root certificates file with the insecure flag is not allowed")
            }
            configuration.trust = .insecure
        } else if !cluster.authority.isEmpty {
            configuration.trust = .authorities(pem: cluster.authority)
        } else if !cluster.authorityFile.isEmpty {
            configuration.trust = .authorities(
                pem: try file(cluster.authorityFile, "unable to read certificate-authority \(cluster.authorityFile) for \(context.cluster)"))
        }
        if !context.user.isEmpty {
            guard let user = users[context.user] else { throw HTTPTransportError.configuration("auth info \"\(context.user)\" does not exist") }
            configuration.credential = try credential(user, name: context.user)
        }
        return configuration
    }

    /// A transport to the server of a context.
    public func transport(context: String? = nil) throws -> HTTPTransport {
        try HTTPTransport(try transportConfiguration(context: context))
    }

    private func credential(_ user: User, name: String) throws -> HTTPTransportConfiguration.Credential {
        let certificate = try user.certificate.isEmpty && !user.certificateFile.isEmpty
            ? file(user.certificateFile, "unable to read client-cert \(user.certificateFile) for \(name)") : user.certificate
        let key = try user.key.isEmpty && !user.keyFile.isEmpty
            ? file(user.keyFile, "unable to read client-key \(user.keyFile) for \(name)") : user.key
        if !certificate.isEmpty || !key.isEmpty {
            if key.isEmpty { throw invalid("client-key-data or client-key must be specified for \(name) to use the clientCert authentication method.") }
            if certificate.isEmpty { throw invalid("client-cert-data or client-cert must be specified for \(name)") }
            return .clientCertificate(certificatePEM: certificate, keyPEM: key)
        }
        // As in client-go a file wins over the token next to it.
        if !user.tokenFile.isEmpty { return .tokenFile(path: resolve(user.tokenFile)) }
        if !user.token.isEmpty { return .bearerToken(user.token) }
        if let method = user.unsupported.first {
            throw HTTPTransportError.configuration(
                "user \"\(name)\" in \(path) authenticates with \"\(method)\", which is not supported: use a client certificate or a token")
        }
        if !user.username.isEmpty {
            throw HTTPTransportError.configuration(
                "user \"\(name)\" in \(path) authenticates with a username and password, which is not supported: use a client certificate or a token")
        }
        return .none
    }

    private func resolve(_ file: String) -> String {
        if file.hasPrefix("/") { return file }
        guard let slash = path.lastIndex(of: "/") else { return file }
        return "\(path[...slash])\(file)"
    }

    private func file(_ name: String, _ failure: String) throws -> String {
        do {
            return String(decoding: try FileBytes.read(resolve(name), bytesMax: Self.bytesMax), as: UTF8.self)
        } catch {
            throw invalid("\(failure) due to \(error)")
        }
    }

    private func decoded(_ node: Node, _ field: String) throws -> String {
        guard let text = node.text(field), !text.isEmpty else { return "" }
        guard let data = Data(base64Encoded: text.filter { !$0.isWhitespace }) else {
            throw HTTPTransportError.configuration("error loading config file \"\(path)\": \(field): illegal base64 data")
        }
        return String(decoding: data, as: UTF8.self)
    }

    private func invalid(_ text: String) -> HTTPTransportError { .configuration("invalid configuration: \(text)") }

    private static func oneLine(_ text: String) -> String { text.split(separator: "\n").joined(separator: " ") }
}

extension Node {
    fileprivate func text(_ key: String) -> String? {
        guard let node = self[key], case .scalar(let scalar) = node else { return nil }
        return scalar.string == "null" && scalar.style == .plain ? nil : scalar.string
    }

    /// The entries of a list of `{name: ..., <inner>: {...}}`.
    fileprivate func named(_ list: String, _ inner: String) -> [(String, Node)] {
        (self[list]?.sequence ?? []).compactMap { entry in
            guard let name = entry.text("name"), let node = entry[inner], case .mapping = node else { return nil }
            return (name, node)
        }
    }
}
