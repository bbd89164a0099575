import Logging
import Processes

/// Deletes connection tracking entries of UDP flows that lead to endpoints which are no more. UDP has no end of a connection: a client that
/// keeps sending would keep its entry, and be sent to nowhere, for ever.
struct ConntrackCleaner: Sendable {
    /// An entry: where the client sent to, and who answers.
    struct Flow: Hashable, Sendable {
        var destination: String
        var port: Int
        var answerer: String
    }

    private static let outputBytesMax = 64 << 20
    /// As `Nft.networkNamespace`.
    let networkNamespace: String?
    let logger: Logger

    /// - Parameter frontends: all UDP service addresses with the endpoints that may have flows.
    /// - Returns: the number of flows deleted.
    func clean(_ frontends: [UDPFrontend: Set<String>]) async throws(ProcessError) -> Int {
        if frontends.isEmpty { return 0 }
        let outcome = try await ProcessRunner.runChecked(
            command(["conntrack", "-L", "-p", "udp", "-f", "ipv4"]))
        let stale = Self.stale(outcome.outputText, frontends)
        for flow in stale {
            // Status 1 when the entry has gone by itself meanwhile.
            _ = try await ProcessRunner.run(
                command([
                    "conntrack", "-D", "-p", "udp", "--orig-dst", flow.destination, "--orig-port-dst", "\(flow.port)",
                    "--reply-src", flow.answerer,
                ]))
        }
        if !stale.isEmpty { logger.debug("deleted stale UDP flows", metadata: ["count": "\(stale.count)"]) }
        return stale.count
    }

    private func command(_ arguments: [String]) -> Command {
        let prefix = networkNamespace.map { ["nsenter", "--net=/run/netns/\($0)", "--"] } ?? []
        return Command(prefix + arguments, outputBytesMax: Self.outputBytesMax)
    }

    /// Reads `conntrack -L`: each line has the addresses of the original direction first, then those of the reply.
    static func stale(_ listing: String, _ frontends: [UDPFrontend: Set<String>]) -> Set<Flow> {
        var result: Set<Flow> = []
        for line in listing.split(separator: "\n") {
            var destination: Substring?, port: Int?, sources: [Substring] = []
            for field in line.split(separator: " ") {
                if field.hasPrefix("src=") { sources.append(field.dropFirst(4)) }
                if field.hasPrefix("dst="), destination == nil { destination = field.dropFirst(4) }
                if field.hasPrefix("dport="), port == nil { port = Int(field.dropFirst(6)) }
            }
            guard let destination, let port, sources.count >= 2 else { continue }
            let flow = Flow(destination: String(destination), port: port, answerer: String(sources[1]))
            if let endpoints = frontends[.address(flow.destination, port: port)] {
                if !endpoints.contains(flow.answerer) { result.insert(flow) }
            } else if let endpoints = frontends[.nodePort(port)], flow.answerer != flow.destination, !endpoints.contains(flow.answerer) {
                // Only what was rewritten: a remote host may use the same port number.
                result.insert(flow)
            }
        }
        return result
    }
}
