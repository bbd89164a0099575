internal import Glibc

/// A host program that is not installed.
package struct MissingProgram: Hashable, Sendable, CustomStringConvertible {
    package let name: String
    /// The Debian package that has it; `nil` when we do not know one.
    package let debianPackage: String?

    package var description: String {
        guard let debianPackage else { return "\(name): not found in PATH" }
        return "\(name): not found in PATH or the usual system folders; install the Debian package \(debianPackage) " +
            "(apt-get install \(debianPackage))"
    }
}

/// Where host programs are, and which Debian package has them.
package enum HostPrograms {
    /// Searched after PATH: a service manager's or a sandbox's PATH often lacks the sbin folders.
    static let usualFolders = [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/lib/cni", "/opt/cni/bin",
    ]

    /// Folders with CNI plugins, Debian's first.
    package static let cniFolders = ["/usr/lib/cni", "/opt/cni/bin"]

    private static let packages: [String: String] = [
        "containerd": "containerd", "ctr": "containerd", "containerd-shim-runc-v2": "containerd", "runc": "runc",
        "nft": "nftables", "ip": "iproute2", "tc": "iproute2", "conntrack": "conntrack", "etcd": "etcd-server", "etcdctl": "etcd-client",
        "bridge": "containernetworking-plugins", "host-local": "containernetworking-plugins",
        "portmap": "containernetworking-plugins", "loopback": "containernetworking-plugins",
        "bandwidth": "containernetworking-plugins", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount",
        "umount": "mount", "iptables": "iptables", "umoci": "umoci", "skopeo": "skopeo", "busybox": "busybox-static",
        "haproxy": "haproxy", "prometheus": "prometheus", "modprobe": "kmod", "kubectl": "kubernetes-client",
    ]

    /// The absolute path of `name`, which may itself be a path.
    /// - Throws: `ProcessError.missing`.
    package static func find(_ name: String, in folders: [String]? = nil) throws(ProcessError) -> String {
        if name.contains("/") {
            if isExecutable(name) { return name }
        } else {
            for folder in folders ?? searchFolders() where !folder.isEmpty {
                let path = folder + "/" + name
                if isExecutable(path) { return path }
            }
        }
        throw .missing(MissingProgram(name: name, debianPackage: packages[baseName(name)]))
    }

    static func searchFolders() -> [String] {
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        return path.split(separator: ":").map(String.init) + usualFolders
    }

    private static func baseName(_ path: String) -> String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    private static func isExecutable(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
    }
}

/// Checks at start that a role's host programs are installed, all at once, so that the user installs once.
package enum HostCheck {
    package enum Role: String, CaseIterable, Sendable {
        /// A node that runs containers.
        case agent
        /// Several machines made out of network namespaces on this one (and the service data path in them).
        case hosts
        /// Control plane on a real etcd that we start.
        case etcd
    }

    /// The programs of `role` that are missing; empty when all is well.
    package static func missing(for role: Role) -> [MissingProgram] {
        let programs: [(name: String, folders: [String]?)] = switch role {
        case .agent:
            [("containerd", nil), ("ctr", nil), ("containerd-shim-runc-v2", nil), ("runc", nil), ("nft", nil), ("ip", nil),
             ("conntrack", nil)] + ["bridge", "host-local", "loopback", "portmap"].map { ($0, HostPrograms.cniFolders) }
        case .hosts:
            [("ip", nil), ("nft", nil), ("nsenter", nil), ("unshare", nil), ("mount", nil), ("umount", nil)]
        case .etcd:
            [("etcd", nil)]
        }
        return programs.compactMap { program in
            do throws(ProcessError) {
                _ = try HostPrograms.find(program.name, in: program.folders)
                return nil
            } catch {
                if case .missing(let program) = error { return program }
                return nil
            }
        }
    }
}
