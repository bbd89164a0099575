internal import Processes

/// `ip`, in this network namespace or in a named one.
struct IPCommand {
    private static let timeout: Duration = .seconds(20)
    /// Our mark on routes (rtnetlink's protocol number, free for any routing daemon), so that stale ones can be found.
    static let routeProtocol = "155"

    let namespace: String?

    init(_ namespace: String? = nil) { self.namespace = namespace }

    private func command(_ arguments: [String], input: String = "") -> Command {
        Command(["ip"] + (namespace.map { ["-n", $0] } ?? []) + arguments, standardInput: Array(input.utf8), timeout: Self.timeout)
    }

    @discardableResult
    func run(_ arguments: String...) async throws(ProcessError) -> String {
        try await ProcessRunner.runChecked(command(arguments)).outputText
    }

    /// Output, or `nil` when the command fails (the thing asked for does not exist).
    func ask(_ arguments: String...) async throws(ProcessError) -> String? {
        let outcome = try await ProcessRunner.run(command(arguments))
        return outcome.status.isSuccess ? outcome.outputText : nil
    }

    /// Several commands in one process; stops at the first that fails.
    func batch(_ lines: [String]) async throws(ProcessError) {
        if lines.isEmpty { return }
        try await ProcessRunner.runChecked(command(["-batch", "-"], input: lines.map { $0 + "\n" }.joined()))
    }
}

/// Routes of Martlet's own in one network namespace.
package enum HostRoutes {
    /// Makes Martlet's routes exactly `routes`. Idempotent; an agent calls it in its own namespace (`nil`) when nodes come and go.
    ///
    /// - Throws: `HostsError` when a destination is already routed by somebody else (another cluster with the same pod network).
    package static func apply(_ routes: [Route], networkNamespace: String? = nil) async throws {
        let ip = IPCommand(networkNamespace)
        var ours: Set<Route> = []
        var others: [Substring: Substring] = [:]
        for line in try await ip.run("-4", "route", "show").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let destination = words.first else { continue }
            if let mark = words.firstIndex(of: "proto"), words.dropFirst(mark + 1).first.map(String.init) == IPCommand.routeProtocol,
                let via = words.firstIndex(of: "via"), via + 1 < words.count {
                ours.insert(Route(destination: String(destination), via: String(words[via + 1])))
            } else {
                others[destination] = line
            }
        }
        let wanted = Set(routes)
        for route in routes {
            if let other = others[route.destination[...]] {
                throw HostsError("the pod network \(route.destination) is already routed on this machine (\(other)): choose another one")
            }
        }
        // One cluster must not take the route of another away: same destination, different next hop, still in another's subnet.
        try await ip.batch(
            ours.subtracting(wanted).filter { old in wanted.contains { $0.destination == old.destination } }
                .map { "route del \($0.destination) via \($0.via) proto \(IPCommand.routeProtocol)" }
                + wanted.subtracting(ours).map { "route add \($0.destination) via \($0.via) proto \(IPCommand.routeProtocol)" })
    }
}
