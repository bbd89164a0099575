internal import Processes

/// One containerd instance: its folders, and the configuration file (version 2) written for it.
package struct ContainerdConfiguration: Hashable, Sendable {
    /// Upstream's name for the sandbox image of this Kubernetes line; made by `PauseImage`.
    package static let sandboxImageDefault = "registry.k8s.io/pause:3.10"

    /// Persistent: images and snapshots.
    package var rootDirectory: String
    /// Volatile: socket, state, pid file.
    package var runDirectory: String
    package var logPath: String
    package var cniConfigurationDirectory: String
    package var cniPluginDirectory: String
    package var sandboxImage: String
    /// Registry host configuration (`hosts.toml` folders); may be absent.
    package var registryDirectory: String

    package init(
        rootDirectory: String, runDirectory: String, logPath: String? = nil, cniConfigurationDirectory: String,
        cniPluginDirectory: String? = nil, sandboxImage: String = sandboxImageDefault, registryDirectory: String? = nil
    ) {
        self.rootDirectory = rootDirectory
        self.runDirectory = runDirectory
        self.logPath = logPath ?? rootDirectory + "/containerd.log"
        self.cniConfigurationDirectory = cniConfigurationDirectory
        self.cniPluginDirectory = cniPluginDirectory ?? HostPrograms.cniFolders.first { SmallFile.exists($0 + "/bridge") } ?? "/opt/cni/bin"
        self.sandboxImage = sandboxImage
        self.registryDirectory = registryDirectory ?? rootDirectory + "/certs.d"
    }

    /// The runtime of one planned host.
    package init(host: HostPlan) {
        self.init(
            rootDirectory: host.dataDirectory + "/containerd", runDirectory: host.runDirectory,
            logPath: host.dataDirectory + "/containerd.log", cniConfigurationDirectory: host.dataDirectory + "/cni/net.d")
    }

    package var socketPath: String { runDirectory + "/containerd.sock" }
    package var configurationPath: String { runDirectory + "/containerd.toml" }
    package var pidPath: String { runDirectory + "/containerd.pid" }
    package var stateDirectory: String { runDirectory + "/containerd" }

    /// Not needed by a Kubernetes node, and each costs start time or touches folders outside ours. (The unused runtime.v1 must
    /// stay: the tasks service, and with it CRI, refuses to load without one.)
    private static let disabledPlugins = [
        "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.native", "io.containerd.internal.v1.opt",
        "io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing",
        "io.containerd.tracing.processor.v1.otlp",
    ]

    /// Without CAP_SYS_RESOURCE (bit 24; some sandboxes withhold it from root) no process may be made less likely to be killed for
    /// memory; runc then fails every container unless containerd leaves the score alone.
    private var mayLowerOOMScore: Bool {
        let line = (SmallFile.read("/proc/self/status") ?? "").split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        let bits = line.flatMap { $0.split(whereSeparator: \.isWhitespace).last }.flatMap { UInt64($0, radix: 16) } ?? 0
        return bits & (1 << 24) != 0
    }

    package var toml: String {
        """
        # Written by martlet at each start: changes are lost.
        version = 2
        root = "\(rootDirectory)"
        state = "\(stateDirectory)"
        oom_score = \(mayLowerOOMScore ? -999 : 0)
        disabled_plugins = [\(Self.disabledPlugins.map { "\"\($0)\"" }.joined(separator: ", "))]

        [grpc]
          address = "\(socketPath)"
          max_recv_message_size = 16777216
          max_send_message_size = 16777216

        [plugins."io.containerd.grpc.v1.cri"]
          sandbox_image = "\(sandboxImage)"
          stream_server_address = "127.0.0.1"
          stream_server_port = "0"
          enable_unprivileged_icmp = false
          enable_unprivileged_ports = false
          restrict_oom_score_adj = \(!mayLowerOOMScore)
          tolerate_missing_hugetlb_controller = true
          netns_mounts_under_state_dir = true

          [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "\(cniPluginDirectory)"
            conf_dir = "\(cniConfigurationDirectory)"
            max_conf_num = 1

          [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "overlayfs"
            default_runtime_name = "runc"
            discard_unpacked_layers = false

            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
              runtime_type = "io.containerd.runc.v2"

              [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
                SystemdCgroup = false

          [plugins."io.containerd.grpc.v1.cri".registry]
            config_path = "\(registryDirectory)"

        """
    }

    /// Creates the folders and writes the file.
    func write() throws {
        for directory in [rootDirectory, runDirectory, stateDirectory, cniConfigurationDirectory] { try SmallFile.makeDirectories(directory) }
        guard socketPath.utf8.count < 104 else {
            throw HostsError("\(socketPath) is too long for a socket (107 bytes at most, with containerd's own additions)")
        }
        try SmallFile.write(toml, to: configurationPath)
    }
}
