internal import Glibc
internal import Nftables
package import Cgroup
internal import Processes

/// What an agent that joined a cluster has on its machine, worked out from its data directory alone: a restarted agent adopts it, and
/// `martlet down` removes it.
package struct AgentHost: Hashable, Sendable {
    private static let podBridge = "cni0"

    package let dataDirectory: String
    private let id: String

    package init(dataDirectory: String) {
        self.dataDirectory = dataDirectory
        id = ClusterIdentity(dataDirectory: dataDirectory).id
    }

    /// Short: the sockets below it must stay under 108 bytes whatever the data directory is called.
    package var runDirectory: String { "/run/martlet/agent-\(id)" }
    package var cgroup: String { "/martlet-agent-\(id)" }
    /// containerd and the shims of containers.
    package var systemCgroup: String { cgroup + "/system" }
    private var natTable: NftTable { NftTable(.ip, "martlet-agent-\(id)") }
    /// The network namespace the agent runs in, so that nobody takes down somebody else's network.
    private var namespaceFile: String { dataDirectory + "/network-namespace" }

    /// Folders, cgroup, forwarding, and the masquerading of what pods send out of the cluster. Idempotent.
    package func prepare(podNetwork: String, cgroups: CgroupHierarchy) async throws {
        try SmallFile.makeDirectories(runDirectory)
        try cgroups.create(systemCgroup)
        try SmallFile.write(Self.networkNamespace, to: namespaceFile)
        try SmallFileSysctl.write("/proc/sys/net/ipv4/ip_forward", "1")
        var rules = NftTransaction()
        rules.delete(natTable)
        rules.add(natTable)
        rules.addChain(natTable, "postrouting", hook: "type nat hook postrouting priority srcnat")
        rules.addRule(
            natTable, "postrouting", "ip saddr \(podNetwork) ip daddr != \(podNetwork) oifname != \"\(Self.podBridge)\" masquerade")
        try await Nft().apply(rules)
    }

    /// An agent has run on this data directory.
    package var exists: Bool { SmallFile.exists(namespaceFile) }

    /// Ends containerd and all containers, and removes mounts, rules, links and cgroups. The agent itself must have ended. Returns what is
    /// left, in words.
    package func tearDown(cgroups: CgroupHierarchy?) async throws -> [String] {
        var left: [String] = []
        let cgroup = cgroup
        if let cgroups, !(await BlockingWork.run { cgroups.killAll(in: cgroup) }) { left.append("processes in cgroup \(cgroup) do not die") }
        let mounts = MountTable.current().filter { $0.hasPrefix(runDirectory + "/") || $0.hasPrefix(dataDirectory + "/") }
        for path in mounts.sorted(by: { $0.count > $1.count }) { umount2(path, Int32(MNT_DETACH)) }
        if SmallFile.read(namespaceFile) == Self.networkNamespace {
            try await Nft().delete(natTable)
            try await Nft().delete(NftTable(.ip, "martlet-proxy"))
            for link in [Self.podBridge, "mt-dns"] { _ = try await IPCommand().ask("link", "del", link) }
            try? await HostRoutes.apply([])
        }
        if let cgroups {
            let failure: String? = await BlockingWork.run {
                do { try cgroups.remove(cgroup) } catch { return "\(error)" }
                return nil
            }
            if let failure { left.append(failure) }
        }
        HostTearDown.removeTree(runDirectory)
        if SmallFile.exists(runDirectory) { left.append(runDirectory) }
        rmdir("/run/martlet")
        unlink(namespaceFile)
        return left
    }

    private static var networkNamespace: String {
        var buffer = [CChar](repeating: 0, count: 256)
        let count = readlink("/proc/self/ns/net", &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
    }
}
