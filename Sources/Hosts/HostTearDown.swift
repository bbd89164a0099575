internal import Glibc
internal import Nftables
package import Cgroup
internal import Processes

/// Removes what a cluster made on this machine.
package enum HostTearDown {
    /// Ends all processes of the cluster's hosts and removes their namespaces, mounts, links, nft table and cgroups.
    ///
    /// Works from the cluster's id and what it finds, so also after a crash and without knowing the nodes. Data directories
    /// stay. Idempotent. Returns what could not be removed, in words; empty when nothing is left.
    @discardableResult
    package static func tearDown(_ identity: ClusterIdentity, cgroups: CgroupHierarchy?) async throws -> [String] {
        var left: [String] = []
        // Off the cooperative pool: killing and removing cgroups waits for the kernel.
        if let cgroups {
            let cgroup = identity.cgroup
            let failure: String? = await onThread {
                if !cgroups.killAll(in: cgroup) { return "processes in cgroup \(cgroup) do not die" }
                return nil
            }
            if let failure { left.append(failure) }
        }
        let namespaces = SmallFile.list("/run/netns").filter { $0.hasPrefix(identity.namespacePrefix) }
        let pinned = MountTable.current().filter { $0.hasPrefix(identity.runDirectory + "/") }
        let pinnedFiles = namespaces.map { "/run/netns/\($0)" } + pinned
        let isEmpty = await onThread { killProcesses(inNamespaces: pinnedFiles) }
        if !isEmpty { left.append("processes in the hosts' namespaces do not die") }

        // The deepest first; lazily, for a mount may be busy for a moment after its last process.
        for path in pinned.sorted(by: { $0.count > $1.count }) { umount2(path, Int32(MNT_DETACH)) }
        for namespace in namespaces {
            do { try await IPCommand().run("netns", "del", namespace) } catch {
                // A file that is no namespace, after a crash half-way.
                if unlink("/run/netns/\(namespace)") != 0, errno != ENOENT { left.append("network namespace \(namespace): \(error)") }
            }
        }
        // Deleting one end deletes the other; the host ends are asynchronous with their namespace, so do it by name.
        for link in SmallFile.list("/sys/class/net") where link == identity.bridge || link.hasPrefix("v\(identity.id)n") {
            if try await IPCommand().ask("link", "del", link) == nil, SmallFile.exists("/sys/class/net/\(link)") { left.append("link \(link)") }
        }
        try await Nft().delete(NftTable(.ip, identity.natTable))
        if let cgroups {
            let cgroup = identity.cgroup
            let failure: String? = await onThread {
                do { try cgroups.remove(cgroup) } catch { return "\(error)" }
                return nil
            }
            if let failure { left.append(failure) }
        }
        umount2(identity.runDirectory, Int32(MNT_DETACH))
        removeTree(identity.runDirectory)
        if SmallFile.exists(identity.runDirectory) { left.append(identity.runDirectory) }
        rmdir("/run/martlet")
        return left
    }

    /// Kills every process whose network or mount namespace is one of the pinned ones; false when some live on.
    private static func killProcesses(inNamespaces paths: [String]) -> Bool {
        let wanted = Set(paths.compactMap(inode))
        if wanted.isEmpty { return true }
        for _ in 0..<200 {
            var found = false
            for name in SmallFile.list("/proc") {
                guard let pid = Int32(name), pid > 1 else { continue }
                for kind in ["net", "mnt"] {
                    if let inode = inode("/proc/\(pid)/ns/\(kind)"), wanted.contains(inode) {
                        found = true
                        kill(pid, SIGKILL)
                        break
                    }
                }
            }
            if !found { return true }
            usleep(10_000)
        }
        return false
    }

    /// Namespaces are inodes of one small filesystem: the number tells them apart.
    private static func inode(_ path: String) -> UInt64? {
        var info = stat()
        return stat(path, &info) == 0 ? UInt64(info.st_ino) : nil
    }

    /// Never follows a symbolic link, never leaves the filesystem it starts on.
    static func removeTree(_ path: String) {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        if info.st_mode & S_IFMT == S_IFDIR {
            for name in SmallFile.list(path) { removeTree(path + "/" + name) }
            rmdir(path)
        } else {
            unlink(path)
        }
    }

    private static func onThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await BlockingWork.run(body)
    }
}
