internal import Crypto

/// Everything that is named for one cluster on this machine, worked out from its data directory alone, so that a restarted
/// Martlet (or `martlet down` after a crash) finds the same things again.
package struct ClusterIdentity: Hashable, Sendable {
    /// Six hexadecimal digits of the data directory's hash: enough to keep the clusters of one machine apart, and short
    /// enough for interface names (15 characters at most).
    package let id: String

    package init(dataDirectory: String) {
        let digest = SHA256.hash(data: Array(dataDirectory.utf8))
        id = String(digest.map { Self.hexadecimal($0) }.joined().prefix(6))
    }

    /// The bridge in the root network namespace.
    package var bridge: String { "mt\(id)" }
    /// The nft table that masquerades traffic leaving the cluster.
    package var natTable: String { "martlet-\(id)" }
    /// The cgroup above all hosts.
    package var cgroup: String { "/martlet-\(id)" }
    /// Short paths: the sockets below it must stay under 108 bytes whatever the data directory is called.
    package var runDirectory: String { "/run/martlet/\(id)" }
    var namespacePrefix: String { "martlet-\(id)-" }

    static func hexadecimal(_ byte: UInt8) -> String {
        let text = String(byte, radix: 16)
        return byte < 16 ? "0" + text : text
    }
}

/// One machine made of namespaces: names, addresses and folders.
package struct HostPlan: Hashable, Sendable {
    package let node: String
    package let index: Int
    /// IPv4 address in the hosts' subnet; the node's InternalIP.
    package let address: String
    package let podCIDR: String
    /// In /run/netns.
    package let networkNamespace: String
    /// Pinned mount namespace.
    package let mountNamespacePath: String
    package let vethName: String
    /// Above everything that runs on this host; `CGROUP/system` holds the agent and containerd, `CGROUP/kubepods` the pods.
    package let cgroup: String
    /// Short and volatile: sockets, pid files, containerd's state.
    package let runDirectory: String
    /// The host's disk: images, logs, volumes.
    package let dataDirectory: String

    package var networkNamespacePath: String { "/run/netns/\(networkNamespace)" }
    package var containerdSocket: String { runDirectory + "/containerd.sock" }
    package var systemCgroup: String { cgroup + "/system" }

    /// The host's own view of well-known folders: seen there, kept in `dataDirectory` (or `runDirectory`).
    package var boundFolders: [(seen: String, kept: String)] {
        [
            ("/var/lib/kubelet", dataDirectory + "/kubelet"),
            ("/var/log/pods", dataDirectory + "/pods-log"),
            ("/var/log/containers", dataDirectory + "/containers-log"),
            ("/var/lib/cni", dataDirectory + "/cni-state"),
            // Where containerd's shims put their sockets, whatever its configuration says.
            ("/run/containerd", runDirectory + "/shim"),
        ]
    }

    /// Command line that runs `arguments` on this host: in its network and mount namespaces.
    ///
    /// Not `ip netns exec`: that makes a new mount namespace each time (a restarted agent could not show new mounts to the
    /// containerd that survived it) and hides /sys/fs/cgroup.
    package func command(_ arguments: [String]) -> [String] {
        ["nsenter", "--mount=\(mountNamespacePath)", "--net=\(networkNamespacePath)", "--"] + arguments
    }
}

/// The plan of all hosts of a cluster.
package struct ClusterPlan: Hashable, Sendable {
    /// A /24 holds the gateway and these.
    package static let hostsMax = 240
    static let firstHostNumber = 10

    package let identity: ClusterIdentity
    /// First three octets of the hosts' /24, as `172.30.7`.
    package let subnetPrefix: String
    /// First two octets of the pod network, as `10.244`; node number N gets `10.244.N.0/24`.
    package let podPrefix: String
    package let hosts: [HostPlan]

    /// Where hosts reach this machine, and so the API server.
    package var gateway: String { subnetPrefix + ".1" }
    package var subnet: String { subnetPrefix + ".0/24" }
    package var podNetwork: String { podPrefix + ".0.0/16" }

    /// - Parameter subnetPrefix: from `HostNetwork.chooseSubnet`, or fixed by the user.
    package init(
        identity: ClusterIdentity, nodes: [String], dataDirectory: String, subnetPrefix: String, podPrefix: String = "10.244"
    ) throws(HostsError) {
        guard nodes.count <= Self.hostsMax else { throw HostsError("at most \(Self.hostsMax) nodes on one machine, not \(nodes.count)") }
        guard Set(nodes).count == nodes.count else { throw HostsError("two nodes have the same name") }
        self.identity = identity
        self.subnetPrefix = subnetPrefix
        self.podPrefix = podPrefix
        hosts = nodes.enumerated().map { index, node in
            HostPlan(
                node: node, index: index, address: "\(subnetPrefix).\(Self.firstHostNumber + index)", podCIDR: "\(podPrefix).\(index).0/24",
                networkNamespace: identity.namespacePrefix + node,
                mountNamespacePath: "\(identity.runDirectory)/\(node).mnt",
                vethName: "v\(identity.id)n\(index)", cgroup: "\(identity.cgroup)/\(node)",
                runDirectory: "\(identity.runDirectory)/\(node)", dataDirectory: "\(dataDirectory)/hosts/\(node)")
        }
        for host in hosts where host.containerdSocket.utf8.count > 100 {
            throw HostsError("node name \(host.node) is too long: its socket path \(host.containerdSocket) would pass 107 bytes")
        }
    }

    package func host(_ node: String) -> HostPlan? { hosts.first { $0.node == node } }

    /// Routes a host needs (or, for `nil`, this machine's root namespace): each other host's pods by that host's address.
    package func routes(for node: String?) -> [Route] {
        hosts.filter { $0.node != node }.map { Route(destination: $0.podCIDR, via: $0.address) }
    }
}

/// An IPv4 route.
package struct Route: Hashable, Sendable {
    package let destination: String
    package let via: String

    package init(destination: String, via: String) {
        self.destination = destination
        self.via = via
    }
}
