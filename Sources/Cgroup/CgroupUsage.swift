/// What a cgroup has used, all its descendants included.
package struct CgroupUsage: Hashable, Sendable {
    package var cpuNanoseconds: UInt64 = 0
    package var memoryBytes: UInt64 = 0
    /// Memory that cannot be reclaimed at once: usage less inactive file cache. What eviction and `kubectl top` look at.
    package var workingSetBytes: UInt64 = 0
    /// Anonymous memory.
    package var residentBytes: UInt64 = 0
    /// `nil` when there is no limit.
    package var memoryLimitBytes: UInt64?
    package var pageFaults: UInt64 = 0
    package var majorPageFaults: UInt64 = 0
    package var pids: UInt64 = 0
    /// Processes killed by the kernel for lack of memory since the cgroup was made.
    package var oomKills: UInt64 = 0

    package init() {}
}

extension CgroupHierarchy {
    /// Version 1 has no word for "no limit": it shows a page-rounded huge number.
    private static let unlimitedBytes: UInt64 = 1 << 60

    /// - Throws: `CgroupError.failed` when the cgroup does not exist.
    package func usage(of path: String) throws(CgroupError) -> CgroupUsage {
        guard let memory = directory(path, controller: "memory"), CgroupFile.exists(memory) else {
            throw .failed(path: path, reason: "no such cgroup")
        }
        var usage = CgroupUsage()
        func number(_ path: String?) -> UInt64 { path.flatMap(CgroupFile.read).flatMap { UInt64($0.trimmed) } ?? 0 }

        let stat = CgroupFile.keyed(memory + "/memory.stat")
        let inactiveFile: UInt64
        switch version {
        case .v1:
            usage.cpuNanoseconds = number(directory(path, controller: "cpuacct").map { $0 + "/cpuacct.usage" })
            usage.memoryBytes = number(memory + "/memory.usage_in_bytes")
            inactiveFile = stat["total_inactive_file"] ?? 0
            usage.residentBytes = stat["total_rss"] ?? 0
            usage.pageFaults = stat["total_pgfault"] ?? 0
            usage.majorPageFaults = stat["total_pgmajfault"] ?? 0
            let limit = number(memory + "/memory.limit_in_bytes")
            usage.memoryLimitBytes = limit > 0 && limit < Self.unlimitedBytes ? limit : nil
            usage.pids = number(directory(path, controller: "pids").map { $0 + "/pids.current" })
            usage.oomKills = CgroupFile.keyed(memory + "/memory.oom_control")["oom_kill"] ?? 0
        case .v2:
            usage.cpuNanoseconds = (CgroupFile.keyed(memory + "/cpu.stat")["usage_usec"] ?? 0) * 1000
            usage.memoryBytes = number(memory + "/memory.current")
            inactiveFile = stat["inactive_file"] ?? 0
            usage.residentBytes = stat["anon"] ?? 0
            usage.pageFaults = stat["pgfault"] ?? 0
            usage.majorPageFaults = stat["pgmajfault"] ?? 0
            usage.memoryLimitBytes = CgroupFile.read(memory + "/memory.max").flatMap { UInt64($0.trimmed) }
            usage.pids = number(memory + "/pids.current")
            usage.oomKills = CgroupFile.keyed(memory + "/memory.events")["oom_kill"] ?? 0
        }
        usage.workingSetBytes = usage.memoryBytes > inactiveFile ? usage.memoryBytes - inactiveFile : 0
        return usage
    }
}
