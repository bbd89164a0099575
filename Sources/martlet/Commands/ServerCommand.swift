import ArgumentParser
import FoundationEssentials
import Processes

/// `martlet server`: a control plane in the foreground.
struct ServerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server", abstract: "Run a control plane in the foreground.",
        discussion: "Example: martlet server --data-dir /var/lib/martlet --port 6443")

    @Option(help: "Folder of the cluster's data.") var dataDir: String?
    @Option(help: "Port of the API.") var port = 6443
    @Option(help: "Address to listen on.") var bindAddress = "0.0.0.0"
    @Option(help: "Address at which nodes reach this server.") var advertiseAddress = "127.0.0.1"
    @Option(help: "The store: sqlite.") var datastore = "sqlite"
    @Option(help: "Addresses of an etcd cluster (not supported yet).") var etcdEndpoints: String?
    @Option(help: "Components that do not run, separated by commas: scheduler, controllers.") var disable = ""
    @Option(help: "CSV file of static tokens: token,user,uid,\"groups\".") var tokenAuthFile: String?

    func validate() throws {
        guard (1...65535).contains(port) else { throw ValidationError("--port must be between 1 and 65535") }
        guard datastore == "sqlite", etcdEndpoints == nil else {
            throw ValidationError("--datastore \(datastore) is not supported yet: this version has sqlite only (see the README's table)")
        }
        for name in disable.split(separator: ",") where !["scheduler", "controllers"].contains(String(name)) {
            throw ValidationError("--disable \(name): there is no such component; it takes scheduler and controllers")
        }
    }

    func run() async throws {
        let folder = try DataFolder(dataDir)
        var options = ControlPlaneOptions(folder: folder)
        options.host = bindAddress
        options.port = port
        options.advertiseAddress = advertiseAddress
        options.disabled = Set(disable.split(separator: ",").map(String.init))
        if let tokenAuthFile { options.staticTokens = try TokenFile.load(tokenAuthFile) }
        let plane = try await ControlPlane.start(options)
        try plane.writeKubeconfig(server: "127.0.0.1")
        ProcessIdentity(pid: ProcessInfo.processInfo.processIdentifier).map { try? $0.save(to: folder.pidFile) }
        Console.progress("the API answers on port \(port); kubeconfig: \(folder.kubeconfig)")
        await Signals.waitForTermination()
        await plane.stop()
    }
}
