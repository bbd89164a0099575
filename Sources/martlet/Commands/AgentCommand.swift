import ArgumentParser
import FoundationEssentials
import Hosts
import KubeClient
import KubeClientHTTP
import Processes

/// `martlet agent`: one node, that is kubelet, service proxy and cluster DNS over a containerd of its own.
struct AgentCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "agent", abstract: "Run a node: kubelet, service proxy and cluster DNS.",
        discussion: """
            With --server and --token this machine joins a cluster; the token is in the file node-token of the server's data folder. Containers
            go on when the agent ends: `martlet down --data-dir DIR` removes them.
            `martlet up` starts an agent for each of its hosts, with --config.

            Example: martlet agent --server https://192.0.2.1:6443 --token-file node-token --data-dir /var/lib/martlet-agent
            """)

    @Option(help: "Configuration file written by `martlet up`.") var config: String?
    @Option(help: "Server to join: https://HOST:PORT.") var server: String?
    @Option(help: "Token to join with.") var token: String?
    @Option(help: "File with the token to join with.") var tokenFile: String?
    @Option(help: "Folder of the node's data.") var dataDir: String?
    @Option(help: "Name of the node (default: this machine's name).") var nodeName: String?
    @Option(help: "Address of the node (default: the one from which the server is reached).") var nodeIp: String?

    func validate() throws {
        if config != nil {
            guard server == nil, token == nil, tokenFile == nil, dataDir == nil, nodeName == nil, nodeIp == nil else {
                throw ValidationError("--config and the options of joining exclude each other")
            }
            return
        }
        guard let server else { throw ValidationError("--server is missing (or --config)") }
        guard server.hasPrefix("https://"), server.count > 8 else { throw ValidationError("--server must be https://HOST:PORT, not \(server)") }
        guard (token == nil) != (tokenFile == nil) else { throw ValidationError("one of --token and --token-file is needed") }
        guard dataDir != nil else { throw ValidationError("--data-dir is missing") }
    }

    func run() async throws {
        if let config { return try await runConfigured(config) }
        guard let server, let dataDir else { return }
        let text = try tokenFile.map { path in
            guard let text = SmallFile.read(path) else { throw CommandFailure("the token file \(path) cannot be read") }
            return text.split(whereSeparator: \.isWhitespace).first.map(String.init) ?? ""
        }
        let join = AgentJoin(
            server: server.hasSuffix("/") ? String(server.dropLast()) : server, token: try JoinToken(text ?? token ?? ""),
            folder: try DataFolder(dataDir), nodeName: nodeName ?? LocalAddress.hostName(), nodeAddress: nodeIp)
        try await join.run()
    }

    private func runConfigured(_ path: String) async throws {
        let configuration = try AgentConfiguration.load(path)
        try Self.checkPrograms()
        let transport = try KubeConfigFile.load(path: configuration.kubeconfig).transport()
        let node = try AgentNode(configuration, client: KubeClient(transport: transport))
        async let ended: Void = Signals.waitForTermination()
        let work = Task { try await node.run() }
        await ended
        work.cancel()
        await node.stop()
        try? await transport.shutdown()
    }

    static func checkPrograms() throws {
        let missing = HostCheck.missing(for: .agent)
        guard missing.isEmpty else { throw CommandFailure(missing.map(\.description).joined(separator: "\n")) }
    }
}

/// Name servers of this machine.
enum HostResolver {
    static func nameservers() -> [String] {
        (SmallFile.read("/etc/resolv.conf") ?? "").split(separator: "\n").compactMap { line in
            let words = line.split(whereSeparator: \.isWhitespace)
            return words.count == 2 && words[0] == "nameserver" ? String(words[1]) : nil
        }
    }
}
