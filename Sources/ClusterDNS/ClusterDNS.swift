import Glibc
package import KubeClient
import KubeMeta
import KubeTypes
import Logging
import NIOCore
import NIOPosix
import Processes
import Synchronization

/// The cluster's name server on one node.
package final class ClusterDNS: Sendable {
    package static let addressDefault = "10.96.0.10"
    package static let domainDefault = "cluster.local"
    package static let interfaceName = "mt-dns"
    private static let sliceIndex = "cluster-dns.service"
    private static let serviceNameLabel = "kubernetes.io/service-name"
    /// How often the sockets and the address are looked after.
    private static let checkSeconds = 1.0
    private static let syncPollSeconds = 0.01
    private static let upstreamPort = 53

    package struct Options: Sendable {
        package var domain: String
        /// The address of the kube-dns Service.
        package var address: String
        /// Further addresses to serve if their port is free (the node's own).
        package var additionalAddresses: [String]
        package var port: Int
        /// `address` or `address:port`, in the order they are asked.
        package var upstreams: [String]
        /// Where `prepareInterface` acts, by its name in /run/netns; nil: the process's own network namespace. Sockets are always there.
        package var networkNamespace: String?

        package init(
            domain: String = domainDefault, address: String = addressDefault, additionalAddresses: [String] = [], port: Int = 53,
            upstreams: [String], networkNamespace: String? = nil
        ) {
            self.domain = domain
            self.address = address
            self.additionalAddresses = additionalAddresses
            self.port = port
            self.upstreams = upstreams
            self.networkNamespace = networkNamespace
        }
    }

    package struct Statistics: Sendable {
        package var queries = 0
        package var clusterAnswers = 0
        package var noNames = 0
        package var malformed = 0
        package var forwarded = 0
        package var forwardFailures = 0
        package var cacheHits = 0
        package var services = 0
    }

    package struct Failure: Error, Sendable, CustomStringConvertible {
        package let description: String
    }

    private struct State {
        /// Address -> server.
        var servers: [String: DNSServer] = [:]
        var isSynced = false
        var isInterfacePrepared = false
    }

    private let options: Options
    private let services: Informer<Service>
    private let slices: Informer<EndpointSlice>
    private let responder: DNSResponder
    private let forwarder: DNSForwarder
    private let group: MultiThreadedEventLoopGroup
    private let time: any TimeSource
    private let logger = Logger(label: "cluster-dns")
    private let state = Mutex(State())

    /// - Throws: `Failure` when the domain or the address is none.
    package init(factory: InformerFactory, options: Options) throws {
        guard let domain = DNSName(options.domain), !domain.labels.isEmpty else {
            throw Failure(description: "invalid cluster domain \"\(options.domain)\"")
        }
        guard let address = DNSIndex.address(options.address) else {
            throw Failure(description: "invalid cluster DNS address \"\(options.address)\"")
        }
        self.options = options
        time = factory.client.time
        group = .singleton
        let own = Set([options.address] + options.additionalAddresses)
        let upstreams = options.upstreams.compactMap { Self.upstream($0, own: own, ownPort: options.port) }
        let time = time
        forwarder = DNSForwarder(upstreams: upstreams, group: group, now: { time.now() })
        responder = DNSResponder(zone: DNSZone(domain: domain, address: address), forwarder: forwarder)
        services = factory.informer(Service.self)
        slices = factory.informer(EndpointSlice.self)
        slices.addIndex(Self.sliceIndex) { Self.serviceKey($0).map { [$0] } ?? [] }
        let update: @Sendable (String) -> Void = { [responder, services, slices] key in
            responder.update(key) {
                services.get(key).flatMap { DNSIndex.entry($0, slices: slices.indexed(Self.sliceIndex, key)) }
            }
        }
        services.addHandler { update($0.object.key) }
        slices.addHandler { event in
            if case .updated(let old, let new) = event, let key = Self.serviceKey(old), key != Self.serviceKey(new) { update(key) }
            if let key = Self.serviceKey(event.object) { update(key) }
        }
    }

    /// Serves, and knows all services.
    package var isReady: Bool { state.withLock { $0.isSynced && $0.servers[options.address]?.isOpen == true } }

    package var statistics: Statistics {
        let answers = responder.statistics, forwards = forwarder.statistics
        return Statistics(
            queries: answers.queries, clusterAnswers: answers.clusterAnswers, noNames: answers.noNames, malformed: answers.malformed,
            forwarded: forwards.forwarded, forwardFailures: forwards.failures, cacheHits: forwards.cacheHits,
            services: responder.serviceCount)
    }

    /// The port that is served (for tests that ask for any); 0 before `run` has bound it.
    package var port: Int { state.withLock { $0.servers[options.address]?.port ?? 0 } }

    /// For drills: a silent server answers nothing, as one that hangs.
    package func setSilent(_ isSilent: Bool) { responder.setSilent(isSilent) }

    /// Puts the cluster DNS address on an interface of the node. Idempotent.
    /// - Throws: `Failure`, with what `ip` said.
    package func prepareInterface() async throws {
        do {
            // A kernel without dummy interfaces: the loopback interface carries the address as well.
            let device = try await hasInterface() ? Self.interfaceName : "lo"
            try await ProcessRunner.runChecked(ip(["addr", "replace", "\(options.address)/32", "dev", device]))
            state.withLock { $0.isInterfacePrepared = true }
        } catch {
            throw Failure(description: "cannot set up the cluster DNS address: \(error)")
        }
    }

    private func ip(_ arguments: [String]) -> Command {
        Command((options.networkNamespace.map { ["nsenter", "--net=/run/netns/\($0)", "--"] } ?? []) + ["ip"] + arguments)
    }

    private func hasInterface() async throws(ProcessError) -> Bool {
        let name = Self.interfaceName
        if try await !ProcessRunner.run(ip(["link", "show", "dev", name])).status.isSuccess,
            try await !ProcessRunner.run(ip(["link", "add", name, "type", "dummy"])).status.isSuccess
        {
            return false
        }
        try await ProcessRunner.runChecked(ip(["link", "set", name, "up"]))
        return true
    }

    private func isServing(_ address: String) -> Bool { state.withLock { $0.servers[address]?.isOpen == true } }

    /// Puts the address back when somebody took it away.
    private func restoreInterface() async {
        guard options.networkNamespace == nil, state.withLock({ $0.isInterfacePrepared }), !isAddressLocal() else { return }
        logger.warning("the cluster DNS address \(options.address) is gone from the node; putting it back")
        do { try await prepareInterface() } catch { logger.error("\(error)") }
    }

    /// Whether the node has the address: what is not its own cannot be bound.
    private func isAddressLocal() -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return true }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        guard inet_pton(AF_INET, options.address, &address.sin_addr) == 1 else { return true }
        let code = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        return code == 0 || errno != EADDRNOTAVAIL
    }

    /// Serves until the task is cancelled.
    package func run() async {
        services.start()
        slices.start()
        while !services.isSynced || !slices.isSynced {
            do { try await time.sleep(seconds: Self.syncPollSeconds) } catch { return }
        }
        state.withLock { $0.isSynced = true }
        var failures: [String: String] = [:]
        while !Task.isCancelled {
            await restoreInterface()
            for address in [options.address] + options.additionalAddresses where !isServing(address) {
                await state.withLock({ $0.servers.removeValue(forKey: address) })?.stop()
                do {
                    let server = try await DNSServer.start(host: address, port: options.port, responder: responder, group: group)
                    state.withLock { $0.servers[address] = server }
                    failures[address] = nil
                } catch {
                    let text = "cannot serve DNS on \(address):\(options.port): \(error)"
                    if failures[address] != text { logger.log(level: address == options.address ? .error : .info, "\(text)") }
                    failures[address] = text
                }
            }
            try? await time.sleep(seconds: Self.checkSeconds)
        }
        let servers = state.withLock { state in
            defer { state.servers = [:] }
            return Array(state.servers.values)
        }
        for server in servers { await server.stop() }
    }

    private static func serviceKey(_ slice: EndpointSlice) -> String? {
        slice.metadata.labels[serviceNameLabel].map { "\(slice.metadata.namespace)/\($0)" }
    }

    private static func upstream(_ text: String, own: Set<String>, ownPort: Int) -> SocketAddress? {
        let parts = text.split(separator: ":")
        // More than one colon: IPv6, without a port.
        let host = parts.count == 2 ? String(parts[0]) : text
        let port = parts.count == 2 ? Int(parts[1]) ?? upstreamPort : upstreamPort
        if own.contains(host), port == ownPort { return nil }
        return try? SocketAddress(ipAddress: host, port: port)
    }

    /// The name servers of a resolv.conf. Those on the loopback interface are left out: they are not there in the node's network, or are
    /// ourselves. Blocks for a small file: for the start.
    package static func nameservers(resolvConf path: String = "/etc/resolv.conf") -> [String] {
        let servers = parseNameservers(contents(path)).filter { !$0.hasPrefix("127.") && $0 != "::1" }
        if !servers.isEmpty || path != "/etc/resolv.conf" { return servers }
        // Where systemd-resolved keeps what it really asks.
        return parseNameservers(contents("/run/systemd/resolve/resolv.conf")).filter { !$0.hasPrefix("127.") }
    }

    package static func parseNameservers(_ text: String) -> [String] {
        text.split(separator: "\n").compactMap { line in
            let fields = line.split(whereSeparator: \.isWhitespace)
            return fields.count >= 2 && fields[0] == "nameserver" ? String(fields[1]) : nil
        }
    }

    private static func contents(_ path: String) -> String {
        guard let file = fopen(path, "re") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
