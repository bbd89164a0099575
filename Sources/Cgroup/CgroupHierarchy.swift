internal import Glibc

/// Why a control group could not be used.
package enum CgroupError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No cgroup filesystem, or not the controllers containers need.
    case notMounted(String)
    case failed(path: String, reason: String)

    package var description: String {
        switch self {
        case .notMounted(let what): what
        case .failed(let path, let reason): "cgroup \(path): \(reason)"
        }
    }
}

/// The machine's control groups, version 1 or 2, behind one API.
///
/// A cgroup is named by its path below the root, as the container runtime takes it in `cgroup_parent`
/// (`/martlet-1a2b3c/node-1/kubepods/burstable`). In version 1 that path exists once below each controller's own mount.
package struct CgroupHierarchy: Sendable {
    package enum Version: Int, Sendable { case v1 = 1, v2 = 2 }

    package let version: Version
    /// Version 1: controller (or `name=...`) to mount point. Version 2: "" to the single mount point.
    let mounts: [String: String]

    /// Without these containers cannot be limited or counted.
    private static let neededControllers = ["cpu", "cpuacct", "memory", "pids"]

    /// Reads the mount table of this process.
    ///
    /// Version 2 counts only when it has the memory controller: many systems mount an empty one next to version 1 ("hybrid").
    /// - Throws: `CgroupError.notMounted`, with what is missing.
    package static func detect(mountTable: String = "/proc/self/mounts") throws(CgroupError) -> CgroupHierarchy {
        guard let table = CgroupFile.read(mountTable) else { throw .notMounted("cannot read \(mountTable)") }
        var v1: [String: String] = [:]
        var v2: String?, hybrid: String?
        for line in table.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 3 else { continue }
            let mountPoint = String(fields[1])
            if fields[2] == "cgroup2" {
                let controllers = CgroupFile.read(mountPoint + "/cgroup.controllers") ?? ""
                if controllers.split(whereSeparator: \.isWhitespace).contains("memory") { v2 = mountPoint } else { hybrid = mountPoint }
            } else if fields[2] == "cgroup" {
                for option in fields[3].split(separator: ",") where option != "rw" && option != "relatime" {
                    v1[String(option)] = mountPoint
                }
            }
        }
        if let v2 { return CgroupHierarchy(version: .v2, mounts: ["": v2]) }
        let missing = neededControllers.filter { v1[$0] == nil }
        guard missing.isEmpty else {
            throw .notMounted(
                "cgroup controllers not mounted: \(missing.joined(separator: ", ")). Mount cgroup2 on /sys/fs/cgroup, or the "
                    + "version 1 hierarchies on /sys/fs/cgroup/CONTROLLER (Debian: apt-get install cgroupfs-mount)")
        }
        // runc puts containers also into the empty version 2 tree of a hybrid system: it is to be cleaned with the others.
        if let hybrid { v1["unified"] = hybrid }
        return CgroupHierarchy(version: .v1, mounts: v1)
    }

    // MARK: the tree

    /// The directory of `path` for `controller`; in version 2 the one directory there is.
    package func directory(_ path: String, controller: String) -> String? {
        guard let mount = mounts[version == .v2 ? "" : controller] else { return nil }
        return mount + Self.normalized(path)
    }

    package func exists(_ path: String) -> Bool {
        guard let directory = directory(path, controller: "memory") else { return false }
        return CgroupFile.exists(directory)
    }

    /// Creates `path` and its parents. Idempotent.
    package func create(_ path: String) throws(CgroupError) {
        for (controller, mount) in mounts {
            var directory = mount
            for part in Self.normalized(path).split(separator: "/") {
                let parent = directory
                directory += "/" + part
                if version == .v2 { enableControllers(in: parent) }
                try CgroupFile.makeDirectory(directory)
                // A version 1 cpuset starts empty and then refuses every process: it takes its parent's set.
                if controller == "cpuset" { try inheritCPUSet(from: parent, to: directory) }
            }
        }
    }

    /// Removes `path` and everything below it. Processes must be gone (`killAll`). Idempotent.
    package func remove(_ path: String) throws(CgroupError) {
        for mount in Set(mounts.values) {
            let directory = mount + Self.normalized(path)
            if directory != mount { try removeTree(directory) }
        }
    }

    /// Names of the cgroups directly below `path`.
    package func children(of path: String) -> [String] {
        directory(path, controller: "memory").map(CgroupFile.directories) ?? []
    }

    // MARK: processes

    /// Moves a process (with all its threads) into `path`, which must exist.
    package func add(pid: Int32, to path: String) throws(CgroupError) {
        for mount in Set(mounts.values) {
            try CgroupFile.write("\(pid)", to: mount + Self.normalized(path) + "/cgroup.procs")
        }
    }

    /// Processes in `path` and below it, from every hierarchy: a half-made container may be in only some of them.
    package func processes(in path: String) -> Set<Int32> {
        var found: Set<Int32> = []
        for mount in Set(mounts.values) { collectProcesses(mount + Self.normalized(path), into: &found) }
        return found
    }

    /// Kills everything in `path` and below; frozen processes are thawed so that they can die.
    /// Returns false when something still lives after two seconds. Blocks for up to that time.
    @discardableResult
    package func killAll(in path: String) -> Bool {
        try? setFrozen(false, path)
        for _ in 0..<200 {
            let processes = processes(in: path)
            if processes.isEmpty { return true }
            for process in processes where process > 1 { kill(process, SIGKILL) }
            usleep(10_000)
        }
        return processes(in: path).isEmpty
    }

    // MARK: inside

    static func normalized(_ path: String) -> String {
        // ".." never leaves the tree: a pod name cannot hold it, but a path is cheap to check.
        path.split(separator: "/").filter { $0 != "." && $0 != ".." }.map { "/" + $0 }.joined()
    }

    private func enableControllers(in directory: String) {
        let available = (CgroupFile.read(directory + "/cgroup.controllers") ?? "").split(whereSeparator: \.isWhitespace)
        for controller in available where ["cpu", "cpuset", "memory", "pids", "io"].contains(controller) {
            // One by one: an unusable controller must not keep the others out.
            try? CgroupFile.write("+\(controller)", to: directory + "/cgroup.subtree_control")
        }
    }

    private func inheritCPUSet(from parent: String, to child: String) throws(CgroupError) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = CgroupFile.read(child + "/" + file) ?? ""
            if own.allSatisfy(\.isWhitespace), let value = CgroupFile.read(parent + "/" + file) {
                try CgroupFile.write(value, to: child + "/" + file)
            }
        }
    }

    private func removeTree(_ directory: String) throws(CgroupError) {
        guard CgroupFile.exists(directory) else { return }
        for child in CgroupFile.directories(directory) { try removeTree(directory + "/" + child) }
        // The kernel may need a moment after the last process ended.
        for attempt in 0..<50 {
            if rmdir(directory) == 0 || errno == ENOENT { return }
            if errno != EBUSY || attempt == 49 { throw CgroupFile.failure(directory) }
            usleep(10_000)
        }
    }

    private func collectProcesses(_ directory: String, into found: inout Set<Int32>) {
        for line in (CgroupFile.read(directory + "/cgroup.procs") ?? "").split(separator: "\n") {
            if let pid = Int32(line) { found.insert(pid) }
        }
        for child in CgroupFile.directories(directory) { collectProcesses(directory + "/" + child, into: &found) }
    }
}
