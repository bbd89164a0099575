import ArgumentParser
import Cgroup
import FoundationEssentials
import Hosts
import JSON
import KubeClient
import KubeClientHTTP
import KubeMeta
import KubeTypes
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// `martlet down`: ends a cluster and removes what it made.
struct DownCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down", abstract: "Stop the cluster (or the joined node) and remove its processes, namespaces, links, mounts, rules and cgroups.",
        discussion: "The data stays, and `martlet up` continues with it, unless --remove-data is given.\nExample: martlet down --remove-data")

    @Option(help: "Folder of the cluster's data.") var dataDir: String?
    @Flag(help: "Remove the data folder too.") var removeData = false

    func run() async throws {
        let folder = try DataFolder(dataDir)
        if let running = folder.running {
            Console.progress("stopping process \(running.pid)")
            await running.terminate(15, grace: .seconds(10))
        }
        let agent = AgentHost(dataDirectory: folder.path)
        if agent.exists {
            if let running = ProcessIdentity(pidFile: folder.agentPidFile) {
                Console.progress("stopping process \(running.pid)")
                await running.terminate(15, grace: .seconds(10))
            }
            let left = try await agent.tearDown(cgroups: try? CgroupHierarchy.detect())
            guard left.isEmpty else { throw CommandFailure("these could not be removed:\n" + left.map { "  \($0)" }.joined(separator: "\n")) }
        }
        let state = try? ClusterState.load(folder)
        if state?.nodes ?? 0 > 0 || geteuid() == 0 {
            let identity = ClusterIdentity(dataDirectory: folder.path)
            let left = try await HostTearDown.tearDown(identity, cgroups: try? CgroupHierarchy.detect())
            guard left.isEmpty else { throw CommandFailure("these could not be removed:\n" + left.map { "  \($0)" }.joined(separator: "\n")) }
        }
        for name in state?.nodeNames ?? [] { unlink("\(folder.node(name))/agent.pid") }
        unlink(folder.pidFile)
        if removeData {
            do { try FileManager.default.removeItem(atPath: folder.path) } catch {
                if SmallFile.read(folder.state) != nil { throw CommandFailure("the data folder \(folder.path) cannot be removed: \(error)") }
            }
        }
        Console.progress("the cluster is down")
    }
}

/// `martlet kubeconfig`: the path of the administrator's kubeconfig.
struct KubeconfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kubeconfig", abstract: "Print the path of the administrator's kubeconfig.",
        discussion: "Example: export KUBECONFIG=$(martlet kubeconfig)")

    @Option(help: "Folder of the cluster's data.") var dataDir: String?

    func run() throws {
        let folder = try DataFolder(dataDir)
        guard SmallFile.read(folder.kubeconfig) != nil else {
            throw CommandFailure("there is no cluster in \(folder.path); `martlet up --data-dir \(folder.path)` makes one")
        }
        Console.line(folder.kubeconfig)
    }
}

/// `martlet status`: what runs.
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show whether the cluster runs, and its nodes.",
        discussion: "Exit status 1 when it does not run or a node is not Ready.\nExample: martlet status --output json")

    @Option(help: "Folder of the cluster's data.") var dataDir: String?
    @Option(name: .shortAndLong, help: "json or yaml, for programs.") var output: String?

    func validate() throws {
        if let output, !["json", "yaml"].contains(output) { throw ValidationError("--output takes json or yaml, not \(output)") }
    }

    func run() async throws {
        let folder = try DataFolder(dataDir)
        guard let state = try ClusterState.load(folder) else { throw CommandFailure("there is no cluster in \(folder.path)") }
        var status: JSON = ["dataFolder": .string(folder.path), "port": JSON(state.port), "running": .bool(folder.running != nil)]
        if let running = folder.running { status["process"] = JSON(Int(running.pid)) }
        var healthy = folder.running != nil
        if healthy {
            let transport = try KubeConfigFile.load(path: folder.kubeconfig).transport()
            defer { Task { try? await transport.shutdown() } }
            do {
                let list = try await KubeClient(transport: transport).list(Node.self)
                status["nodes"] = .array(
                    list.items.map { node in
                        let ready = node.status.conditions.first { $0.type == "Ready" }?.status == "True"
                        if !ready { healthy = false }
                        return ["name": .string(node.metadata.name), "ready": .bool(ready)]
                    })
            } catch {
                healthy = false
                status["error"] = .string("\(error)")
            }
        }
        switch output {
        case "json"?: Console.line(status.prettyText)
        case "yaml"?: Console.line(YAMLText.of(status))
        default:
            Console.line(status["running"] == true ? "running, process \(status["process"]?.int ?? 0), port \(state.port), data in \(folder.path)" : "not running; data in \(folder.path)")
            for node in status["nodes"]?.array ?? [] {
                Console.line("  \(node["name"]?.string ?? "")  \(node["ready"] == true ? "Ready" : "NotReady")")
            }
            if let error = status["error"]?.string { Console.line("  \(error)") }
        }
        if !healthy { throw ExitCode.failure }
    }
}

/// `martlet image`: images on the nodes.
struct ImageCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image", abstract: "Bring images to the nodes, and list them.", subcommands: [Import.self, List.self])

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "import", abstract: "Import an image archive (OCI or docker save) on every node.",
            discussion: "Example: martlet image import nginx.tar")

        @Argument(help: "Archives.") var files: [String]
        @Option(help: "Folder of the cluster's data.") var dataDir: String?

        func run() async throws {
            let plan = try ImageCommand.plan(dataDir)
            for file in files {
                guard access(file, R_OK) == 0 else { throw CommandFailure("\(file): \(String(cString: strerror(errno)))") }
                for host in plan.hosts {
                    let names = try await ImageImport.run(path: file, socketPath: host.containerdSocket)
                    if host == plan.hosts.first { for name in names { Console.line(name) } }
                }
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "List the images of each node.", discussion: "Example: martlet image list --output json")

        @Option(help: "Folder of the cluster's data.") var dataDir: String?
        @Option(name: .shortAndLong, help: "json or yaml, for programs.") var output: String?

        func run() async throws {
            var result = JSONObject()
            for host in try ImageCommand.plan(dataDir).hosts { result[host.node] = JSON(try await ImageListing.names(socketPath: host.containerdSocket)) }
            switch output {
            case "json"?: Console.line(JSON.object(result).prettyText)
            case "yaml"?: Console.line(YAMLText.of(.object(result)))
            default:
                for (node, names) in result { for name in names.array ?? [] { Console.line("\(node)  \(name.string ?? "")") } }
            }
        }
    }

    static func plan(_ dataDir: String?) throws -> ClusterPlan {
        let folder = try DataFolder(dataDir)
        guard let state = try ClusterState.load(folder), state.nodes > 0 else {
            throw CommandFailure("there is no cluster with nodes in \(folder.path)")
        }
        return try ClusterPlan(
            identity: ClusterIdentity(dataDirectory: folder.path), nodes: state.nodeNames, dataDirectory: folder.path,
            subnetPrefix: state.subnetPrefix, podPrefix: state.podPrefix)
    }
}
