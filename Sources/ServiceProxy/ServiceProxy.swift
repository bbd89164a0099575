import Glibc
package import KubeClient
package import KubeMeta
import KubeTypes
import Logging
import Nftables
import Processes
import Synchronization

/// kube-proxy: keeps the nftables rules of a node equal to the cluster's Services and EndpointSlices.
package actor ServiceProxy {
    package static let tableName = "martlet-proxy"
    /// The index by service name on the EndpointSlice informer.
    static let sliceIndex = "service-proxy.service"
    static let serviceNameLabel = "kubernetes.io/service-name"

    package struct Options: Sendable {
        /// The range of all pods; nil: unknown, and traffic to cluster IPs is never masqueraded for coming from outside.
        package var clusterCIDR: String?
        /// Cluster IPs something else on the node answers for (the cluster DNS address).
        package var localAddresses: Set<String>
        /// Between two updates at least this, and at most the second; in between four times what the last update took.
        package var syncSecondsMin: Double
        package var syncSecondsMax: Double
        /// How often the kernel's table is compared with what it should be; 0: never.
        package var driftCheckSeconds: Double
        /// The bridge the node's pods are on.
        package var podBridge: String
        /// The network namespace to act in, by its name in /run/netns; nil: the process's own.
        package var networkNamespace: String?

        package init(
            clusterCIDR: String? = nil, localAddresses: Set<String> = [], syncSecondsMin: Double = 0.05, syncSecondsMax: Double = 1,
            driftCheckSeconds: Double = 30, podBridge: String = "cni0", networkNamespace: String? = nil
        ) {
            self.clusterCIDR = clusterCIDR.flatMap { IPv4.isNetwork($0) ? $0 : nil }
            self.localAddresses = localAddresses
            self.syncSecondsMin = syncSecondsMin
            self.syncSecondsMax = syncSecondsMax
            self.driftCheckSeconds = driftCheckSeconds
            self.podBridge = podBridge
            self.networkNamespace = networkNamespace
        }
    }

    package struct Statistics: Sendable {
        package var syncs = 0
        package var fullSyncs = 0
        package var failures = 0
        /// Times somebody else had changed the table.
        package var drifts = 0
        package var staleFlowsDeleted = 0
        package var lastSyncDurationSeconds = 0.0
        /// Seconds since 1970; 0 before the first.
        package var lastSyncSeconds = 0.0
        package var lastError = ""
        package var services = 0
        package var endpoints = 0
        /// Services with changes that are not in the kernel yet.
        package var pending = 0
    }

    private final class Inbox: Sendable {
        private let dirty = Mutex<Set<String>>([])
        let signals: AsyncStream<Void>
        private let signal: AsyncStream<Void>.Continuation

        init() { (signals, signal) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

        func add(_ key: String) {
            dirty.withLock { _ = $0.insert(key) }
            signal.yield()
        }
        func add(_ keys: Set<String>) { dirty.withLock { $0.formUnion(keys) } }
        func wake() { signal.yield() }
        func take() -> Set<String> {
            dirty.withLock { dirty in
                defer { dirty = [] }
                return dirty
            }
        }
        var count: Int { dirty.withLock { $0.count } }
    }

    private static let retrySecondsMin = 1.0
    private static let retrySecondsMax = 30.0
    private static let syncPollSeconds = 0.01
    private static let bridgeFilterPath = "/proc/sys/net/bridge/bridge-nf-call-iptables"

    /// A drill can hold the proxy here.
    package nonisolated let gate = RunGate()
    private let nodeName: String
    private let options: Options
    private let time: any TimeSource
    private let services: Informer<Service>
    private let slices: Informer<EndpointSlice>
    private let nft: Nft
    private let inbox = Inbox()
    private let logger = Logger(label: "service-proxy")
    private let conntrack: ConntrackCleaner
    private var table: ProxyTable
    private var needsFullSync = true
    private var counters = Statistics()
    /// The picture of the table at the first check after the last change.
    private var picture: ProxyDrift.Picture?
    private var udpChanged = true

    /// - Parameter factory: must be started by the caller after this; the proxy waits for its first lists.
    package init(factory: InformerFactory, nodeName: String, options: Options = Options()) {
        self.nodeName = nodeName
        self.options = options
        time = factory.client.time
        services = factory.informer(Service.self)
        slices = factory.informer(EndpointSlice.self)
        nft = Nft(networkNamespace: options.networkNamespace)
        conntrack = ConntrackCleaner(networkNamespace: options.networkNamespace, logger: Logger(label: "service-proxy"))
        // Answers between two pods on one bridge pass the packet filter only with br_netfilter. Without it they must be led through the
        // node by masquerading, and the server does not see the client's address.
        let bridgeFiltered = Self.enableBridgeFilter(isOwnNamespace: options.networkNamespace == nil)
        table = ProxyTable(
            table: NftTable(.ip, Self.tableName),
            masqueradedBridge: bridgeFiltered || !options.podBridge.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" }
                ? nil : options.podBridge)
        let inbox = inbox
        slices.addIndex(Self.sliceIndex) { Self.serviceKey($0).map { [$0] } ?? [] }
        services.addHandler { inbox.add($0.object.key) }
        slices.addHandler { event in
            if case .updated(let old, _) = event, let key = Self.serviceKey(old) { inbox.add(key) }
            if let key = Self.serviceKey(event.object) { inbox.add(key) }
        }
    }

    package var statistics: Statistics {
        var statistics = counters
        statistics.services = table.services.count
        statistics.endpoints = table.services.values.reduce(0) { $0 + $1.endpointCount }
        statistics.pending = inbox.count
        return statistics
    }

    /// Whether the first complete set of rules is in the kernel.
    package var isReady: Bool { !needsFullSync && counters.syncs > 0 }

    /// Works until the task is cancelled. The rules stay: connections do not depend on this process.
    package func run() async {
        services.start()
        slices.start()
        // Not `waitForSync`: a node that leaves before the API server was ever there must be able to stop.
        while !services.isSynced || !slices.isSynced {
            do { try await time.sleep(seconds: Self.syncPollSeconds) } catch { return }
        }
        let checks = Task { [time, options, weak self] in
            while options.driftCheckSeconds > 0, (try? await time.sleep(seconds: options.driftCheckSeconds)) != nil {
                await self?.checkDrift()
            }
        }
        defer { checks.cancel() }
        inbox.wake()
        var retrySeconds = Self.retrySecondsMin
        for await _ in inbox.signals {
            await gate.pass()
            if Task.isCancelled { return }
            if await sync() {
                retrySeconds = Self.retrySecondsMin
                let pause = min(max(counters.lastSyncDurationSeconds * 4, options.syncSecondsMin), options.syncSecondsMax)
                try? await time.sleep(seconds: pause)
            } else {
                try? await time.sleep(seconds: retrySeconds)
                retrySeconds = min(retrySeconds * 2, Self.retrySecondsMax)
                inbox.wake()
            }
        }
    }

    /// One update. False when the kernel refused it.
    private func sync() async -> Bool {
        let started = ContinuousClock.now
        let dirty = inbox.take()
        let isFull = needsFullSync
        let names = isFull ? Set(services.all.map(\.key)).union(table.services.keys).union(dirty) : dirty
        var changes: [String: ServiceRules?] = [:]
        for name in names {
            let before = table.services[name]
            let after = rules(name)
            if isFull || before != after { changes[name] = .some(after) }
            if before?.udp ?? [:] != after?.udp ?? [:] { udpChanged = true }
        }
        if changes.isEmpty && !isFull { return true }
        let difference = table.update(changes)
        let transaction = isFull ? table.fullTransaction() : difference
        picture = nil
        do {
            try await nft.apply(transaction)
        } catch {
            counters.failures += 1
            counters.lastError = error.description
            logger.error("sync of the service rules failed: \(error)")
            needsFullSync = true
            return false
        }
        needsFullSync = false
        counters.syncs += 1
        counters.fullSyncs += isFull ? 1 : 0
        counters.lastSyncDurationSeconds = (ContinuousClock.now - started) / .seconds(1)
        counters.lastSyncSeconds = time.now()
        await cleanFlows()
        return true
    }

    private func rules(_ name: String) -> ServiceRules? {
        guard let service = services.get(name), !service.metadata.name.isEmpty else { return nil }
        let rules = ServiceRules(
            service: service, slices: slices.indexed(Self.sliceIndex, name), nodeName: nodeName, clusterCIDR: options.clusterCIDR,
            ignoredAddresses: options.localAddresses)
        return rules == ServiceRules() ? nil : rules
    }

    private func cleanFlows() async {
        guard udpChanged else { return }
        udpChanged = false
        var frontends: [UDPFrontend: Set<String>] = [:]
        for rules in table.services.values { frontends.merge(rules.udp) { $0.union($1) } }
        do {
            counters.staleFlowsDeleted += try await conntrack.clean(frontends)
        } catch {
            logger.warning("stale UDP flows were not deleted: \(error)")
        }
    }

    /// Sends frames between ports of a bridge through the packet filter. False when the kernel has no br_netfilter.
    private static func enableBridgeFilter(isOwnNamespace: Bool) -> Bool {
        guard access(bridgeFilterPath, F_OK) == 0 else { return false }
        guard isOwnNamespace, let file = fopen(bridgeFilterPath, "we") else { return true }
        defer { fclose(file) }
        fputs("1", file)
        return true
    }

    private static func serviceKey(_ slice: EndpointSlice) -> String? {
        slice.metadata.labels[serviceNameLabel].map { "\(slice.metadata.namespace)/\($0)" }
    }

    // MARK: Drift

    /// Whether the kernel's table is what the proxy put there. True as well while an update is under way.
    package func isInSync() async -> Bool {
        guard isReady else { return false }
        let before = counters.syncs + counters.failures
        let listing = try? await nft.list(table.table)
        // The table changed under the listing: the next check will tell.
        guard before == counters.syncs + counters.failures, !needsFullSync else { return true }
        guard let listing, let seen = ProxyDrift.picture(listing) else { return false }
        guard ProxyDrift.matches(seen, table) else { return false }
        if let picture { return picture == seen }
        picture = seen
        return true
    }

    private func checkDrift() async {
        guard isReady, await !isInSync() else { return }
        logger.warning("the service rules were changed by somebody else; loading them anew")
        counters.drifts += 1
        needsFullSync = true
        inbox.wake()
    }

    /// Takes the table away: for a node that leaves.
    package func removeRules() async throws { try await nft.delete(table.table) }
}
