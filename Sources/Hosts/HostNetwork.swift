internal import Glibc
internal import Nftables
package import Cgroup
internal import Processes

/// Makes the hosts of a plan out of namespaces, and takes them away again. See README.md for the picture.
package enum HostNetwork {
    private static let subnetBase = "172.30"

    /// The first three octets of a /24 for the hosts: the one the cluster's bridge has, or a free one that depends on the
    /// cluster, so that several clusters live side by side.
    package static func chooseSubnet(_ identity: ClusterIdentity) async throws -> String {
        var used: Set<String> = []
        for line in try await IPCommand().run("-4", "-br", "addr", "show").split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            let prefixes = words.dropFirst(2).map { $0.split(separator: ".").prefix(3).joined(separator: ".") }
            if words.first == identity.bridge, let prefix = prefixes.first { return prefix }
            used.formUnion(prefixes)
        }
        let start = Int(identity.id.prefix(2), radix: 16) ?? 0
        for offset in 0..<256 {
            let prefix = "\(subnetBase).\((start + offset) % 256)"
            if !used.contains(prefix) { return prefix }
        }
        throw HostsError("no free subnet in \(subnetBase).0.0/16 for the hosts of the cluster")
    }

    /// Makes everything that is missing; what exists is kept, with all that runs in it. Idempotent, also after a crash half-way.
    ///
    /// - Parameter masquerade: let hosts and pods reach the world outside this machine.
    package static func up(_ plan: ClusterPlan, cgroups: CgroupHierarchy, masquerade: Bool = true) async throws {
        guard getuid() == 0 else { throw HostsError("hosts made of namespaces need root; use --simulated-nodes without it") }
        let missing = HostCheck.missing(for: .hosts)
        guard missing.isEmpty else { throw HostsError(missing.map(\.description).joined(separator: "\n")) }

        try await makeBridge(plan)
        try await makePrivate(plan.identity.runDirectory)
        for host in plan.hosts {
            try cgroups.create(host.systemCgroup)
            try await makeMountNamespace(host)
            try await makeNetwork(host, plan)
            try await HostRoutes.apply(plan.routes(for: host.node), networkNamespace: host.networkNamespace)
        }
        try await HostRoutes.apply(plan.routes(for: nil))
        if masquerade { try await Nft().apply(masqueradeRules(plan)) }
    }

    // MARK: pieces

    private static func makeBridge(_ plan: ClusterPlan) async throws {
        let bridge = plan.identity.bridge
        var lines: [String] = []
        if !SmallFile.exists("/sys/class/net/\(bridge)") { lines.append("link add \(bridge) type bridge forward_delay 0") }
        lines += ["addr replace \(plan.gateway)/24 dev \(bridge)", "link set \(bridge) up"]
        try await IPCommand().batch(lines)
        try SmallFileSysctl.write("/proc/sys/net/ipv4/ip_forward", "1")
    }

    private static func makeNetwork(_ host: HostPlan, _ plan: ClusterPlan) async throws {
        let name = host.networkNamespace
        // A crash between creating the file and mounting the namespace on it leaves a file that is no namespace.
        if try await IPCommand(name).ask("-br", "link", "show", "dev", "lo") == nil {
            unlink(host.networkNamespacePath)
            try await IPCommand().run("netns", "add", name)
        }
        let bridge = plan.identity.bridge
        if try await IPCommand(name).ask("-br", "link", "show", "dev", "eth0") == nil {
            // The old peer can only be a leftover of a namespace that is gone.
            _ = try await IPCommand().ask("link", "del", host.vethName)
            try await IPCommand().run("link", "add", host.vethName, "type", "veth", "peer", "name", "eth0", "netns", name)
        }
        try await IPCommand().batch(["link set \(host.vethName) master \(bridge)", "link set \(host.vethName) up"])
        try await IPCommand(name).batch([
            "link set lo up", "addr replace \(host.address)/24 dev eth0", "link set eth0 up",
            "route replace default via \(plan.gateway)",
        ])
        try await ProcessRunner.runChecked(
            Command(["nsenter", "--net=\(host.networkNamespacePath)", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))
    }

    /// A mount namespace pinned to a file needs that file on a mount nobody else gets copies of.
    private static func makePrivate(_ directory: String) async throws {
        try SmallFile.makeDirectories(directory)
        if MountTable.current().contains(directory) { return }
        try await ProcessRunner.runChecked(Command(["mount", "--bind", directory, directory]))
        try await ProcessRunner.runChecked(Command(["mount", "--make-private", directory]))
    }

    /// The host's mount namespace: mounts of this machine come in, its own do not come out (its death frees them all), and
    /// inside it propagation is shared, as a kubelet needs for `mountPropagation: Bidirectional`.
    private static func makeMountNamespace(_ host: HostPlan) async throws {
        try SmallFile.makeDirectories(host.dataDirectory)
        try SmallFile.makeDirectories(host.runDirectory)
        for folder in host.boundFolders {
            try SmallFile.makeDirectories(folder.seen)
            try SmallFile.makeDirectories(folder.kept)
        }
        if MountTable.current().contains(host.mountNamespacePath) { return }
        try SmallFile.write("", to: host.mountNamespacePath)
        let script = "set -e; mount --make-rshared /\n" + host.boundFolders.map { "mount --bind '\($0.kept)' '\($0.seen)'\n" }.joined()
        let unshare = ["unshare", "--mount=\(host.mountNamespacePath)", "--propagation", "slave", "sh", "-c", script]
        // Linux refuses to pin a mount namespace that is older than the one it is pinned in, and tells age by a number that recent
        // kernels hand out in batches per CPU: unless we live in the machine's first namespace, the CPU decides. On the CPU that
        // made our own namespace it always works.
        var failure = HostsError("no CPU to run unshare on")
        for prefix in [[]] + (0..<sysconf(Int32(_SC_NPROCESSORS_ONLN))).map({ ["taskset", "--cpu-list", "\($0)"] }) {
            let outcome = try await ProcessRunner.run(Command(prefix + unshare))
            if outcome.status.isSuccess { return }
            failure = HostsError("cannot make the mount namespace of \(host.node): \(outcome.errorText)")
            if !outcome.errorText.contains("Invalid argument") { break }
        }
        throw failure
    }

    static func masqueradeRules(_ plan: ClusterPlan) -> NftTransaction {
        let table = NftTable(.ip, plan.identity.natTable)
        let inside = "{ \(plan.subnet), \(plan.podNetwork) }"
        var rules = NftTransaction()
        rules.delete(table)
        rules.add(table)
        rules.addChain(table, "postrouting", hook: "type nat hook postrouting priority srcnat")
        rules.addRule(table, "postrouting", "ip saddr \(inside) ip daddr != \(inside) oifname != \"\(plan.identity.bridge)\" masquerade")
        return rules
    }
}

/// Kernel switches in /proc/sys: written in place, never replaced.
enum SmallFileSysctl {
    static func write(_ path: String, _ value: String) throws(HostsError) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw HostsError("\(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        let bytes = Array(value.utf8)
        if Glibc.write(descriptor, bytes, bytes.count) < 0 { throw HostsError("\(path): \(String(cString: strerror(errno)))") }
    }
}

/// Mount points of this process's mount namespace.
enum MountTable {
    static func current() -> [String] {
        (SmallFile.read("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 4 ? unescaped(fields[4]) : nil
        }
    }

    /// The kernel writes space, tab, newline and backslash as three octal digits.
    private static func unescaped(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3, let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8) {
                bytes.append(code)
                rest.removeFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
