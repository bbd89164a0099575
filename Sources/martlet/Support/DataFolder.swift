import FoundationEssentials
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// The folder that holds everything of one cluster.
struct DataFolder: Sendable {
    let path: String

    /// `/var/lib/martlet` for root, `~/.martlet` for others.
    init(_ given: String?) throws {
        var path = given ?? ""
        if path.isEmpty {
            path = geteuid() == 0 ? "/var/lib/martlet" : "\(ProcessInfo.processInfo.environment["HOME"] ?? "/tmp")/.martlet"
        }
        if !path.hasPrefix("/") {
            var buffer = [CChar](repeating: 0, count: 4096)
            guard getcwd(&buffer, buffer.count) != nil else { throw CommandFailure("the current folder cannot be read") }
            let current = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            path = "\(current)/\(path)"
        }
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.path = path
    }

    var pki: String { "\(path)/pki" }
    var store: String { "\(path)/store" }
    var log: String { "\(path)/martlet.log" }
    var pidFile: String { "\(path)/martlet.pid" }
    var state: String { "\(path)/cluster.json" }
    var kubeconfig: String { "\(path)/kubeconfig" }
    /// What a node joins with.
    var nodeToken: String { "\(path)/node-token" }
    /// The agent that joined a cluster from this folder.
    var agentPidFile: String { "\(path)/agent.pid" }
    func node(_ name: String) -> String { Self.node(name, in: path) }
    static func node(_ name: String, in path: String) -> String { "\(path)/nodes/\(name)" }

    func create() throws {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/\(part)"
            if mkdir(made, 0o755) != 0, errno != EEXIST {
                throw CommandFailure("the data folder \(path) cannot be made: \(String(cString: strerror(errno))); choose another with --data-dir")
            }
        }
        chmod(path, 0o700)
    }

    /// The Martlet that runs on this folder, if one does.
    var running: ProcessIdentity? {
        guard let identity = ProcessIdentity(pidFile: pidFile), identity.isRunning else { return nil }
        return identity
    }
}
