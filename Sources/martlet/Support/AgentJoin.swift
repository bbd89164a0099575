import Cgroup
import FoundationEssentials
import Hosts
import KubeClient
import KubeClientHTTP
import KubeMeta
import Logging
import PKI
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// A node of a cluster elsewhere: gets its credentials with a token, runs, and replaces itself when the credentials were renewed. Containers
/// and containerd are not touched by that: the new process adopts them.
struct AgentJoin: Sendable {
    /// The pods' network of `martlet server`.
    private static let podNetwork = "10.244.0.0/16"
    /// Where `martlet server` puts volumes of the local-path provisioner on each node.
    private static let volumesFolder = "/var/lib/martlet/volumes"
    private static let renewalRetrySeconds = 60.0

    let server: String
    let token: JoinToken
    let folder: DataFolder
    let nodeName: String
    /// Nil: the address from which the server is reached.
    let nodeAddress: String?

    private enum End { case terminated, renewed }

    func run() async throws {
        let errors = NameRules.subdomainErrors(nodeName)
        guard errors.isEmpty else { throw CommandFailure("the node name \"\(nodeName)\" is not valid: \(errors.joined(separator: "; ")); give one with --node-name") }
        guard geteuid() == 0 else { throw CommandFailure("an agent runs containers, which needs root") }
        try AgentCommand.checkPrograms()
        guard let address = nodeAddress ?? LocalAddress.toward(server) else {
            throw CommandFailure("the server \(server) cannot be reached: this machine has no way to it; or give the node's address with --node-ip")
        }
        try folder.create()
        let lock = try AgentLock(folder)
        defer { lock.release(folder) }

        let enrolment = NodeEnrolment(server: server, token: token, folder: folder.pki, nodeName: nodeName, nodeAddress: address)
        let credentials = try await enrolment.credentials()
        let cgroups = try CgroupHierarchy.detect()
        let host = AgentHost(dataDirectory: folder.path)
        try await host.prepare(podNetwork: Self.podNetwork, cgroups: cgroups)
        let transport = try HTTPTransport(
            HTTPTransportConfiguration(
                server: server, trust: .authorities(pem: credentials.authorityPEM),
                credential: .clientCertificate(certificatePEM: credentials.client.certificatePEM, keyPEM: credentials.client.keyPEM)))
        var configuration = AgentConfiguration(
            nodeName: nodeName, nodeAddress: address, podCIDR: "", clusterCIDR: Self.podNetwork, kubeconfig: "",
            dataDirectory: folder.path, runDirectory: host.runDirectory, volumesDirectory: Self.volumesFolder, cgroup: host.cgroup,
            servingCertificatePEM: credentials.serving.certificatePEM, servingKeyPEM: credentials.serving.keyPEM,
            clientAuthorityPEM: credentials.authorityPEM)
        configuration.systemCgroup = host.systemCgroup
        configuration.keepsFoldersInData = true
        let node = try AgentNode(configuration, client: KubeClient(transport: transport))
        Console.progress("node \(nodeName) at \(address) has joined \(server)")

        let work = Task { try await node.run() }
        let end = await waitForEnd(enrolment, credentials.renewAt, work)
        work.cancel()
        await node.stop()
        try? await transport.shutdown()
        switch end {
        case .success(.terminated): return
        case .success(.renewed): try restart()
        case .failure(let error): throw CommandFailure("the node did not start: \(error)")
        }
    }

    /// A signal, renewed credentials, or the node's own failure, whichever comes first.
    private func waitForEnd(_ enrolment: NodeEnrolment, _ renewAt: Double, _ work: Task<Void, any Error>) async -> Result<End, any Error> {
        // No task group: it would wait for the node's work, which ends only when it is told to, after this.
        let (ends, report) = AsyncStream<Result<End, any Error>>.makeStream(bufferingPolicy: .bufferingOldest(1))
        let watchers = [
            Task {
                await Signals.waitForTermination()
                report.yield(.success(.terminated))
            },
            Task { if let end = await Self.renew(enrolment, renewAt) { report.yield(.success(end)) } },
            Task { if case .failure(let error) = await work.result, !(error is CancellationError) { report.yield(.failure(error)) } },
        ]
        var iterator = ends.makeAsyncIterator()
        let end = await iterator.next() ?? .success(.terminated)
        for watcher in watchers { watcher.cancel() }
        return end
    }

    /// Returns when there are new credentials; nil when cancelled.
    private static func renew(_ enrolment: NodeEnrolment, _ renewAt: Double) async -> End? {
        let time = SystemTime()
        var due = renewAt
        while !Task.isCancelled {
            if time.now() < due {
                // In short steps: the machine may have slept.
                try? await time.sleep(seconds: min(due - time.now(), renewalRetrySeconds))
                continue
            }
            do {
                if try await enrolment.credentials().renewAt > time.now() { return .renewed }
            } catch {
                Logger(label: "martlet.enrolment").warning("the node's certificates could not be renewed: \(error)")
            }
            due = time.now() + renewalRetrySeconds
        }
        return nil
    }

    /// The same program with the same arguments in the same process: whoever supervises it sees no end.
    private func restart() throws {
        guard let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
            throw CommandFailure("/proc/self/exe cannot be read")
        }
        var arguments: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) }
        arguments.append(nil)
        execv(program, &arguments)
        throw CommandFailure("\(program) cannot be started again: \(String(cString: strerror(errno)))")
    }
}
