internal import Glibc

/// Limits to set; `nil` leaves a value as it is.
package struct CgroupLimits: Hashable, Sendable {
    /// Relative CPU weight in version 1 units (1024 = one CPU's request); version 2's weight is computed from it.
    package var cpuShares: Int64?
    /// CPU time per period, microseconds; -1 for no limit.
    package var cpuQuotaMicroseconds: Int64?
    package var cpuPeriodMicroseconds: Int64
    /// Bytes; -1 for no limit.
    package var memoryBytesMax: Int64?
    /// -1 for no limit.
    package var pidsMax: Int64?

    package init(
        cpuShares: Int64? = nil, cpuQuotaMicroseconds: Int64? = nil, cpuPeriodMicroseconds: Int64 = 100_000,
        memoryBytesMax: Int64? = nil, pidsMax: Int64? = nil
    ) {
        self.cpuShares = cpuShares
        self.cpuQuotaMicroseconds = cpuQuotaMicroseconds
        self.cpuPeriodMicroseconds = cpuPeriodMicroseconds
        self.memoryBytesMax = memoryBytesMax
        self.pidsMax = pidsMax
    }

    /// `cpu.weight` for `cpu.shares`: [2, 262144] maps linearly onto [1, 10000] (KEP-2254).
    package static func weight(shares: Int64) -> Int64 {
        let shares = min(max(shares, 2), 262_144)
        return 1 + ((shares - 2) * 9999) / 262_142
    }
}

extension CgroupHierarchy {
    /// Sets the limits of an existing cgroup.
    package func apply(_ limits: CgroupLimits, to path: String) throws(CgroupError) {
        func set(_ controller: String, _ file: String, _ value: String) throws(CgroupError) {
            guard let directory = directory(path, controller: controller) else {
                throw .notMounted("cgroup controller not mounted: \(controller)")
            }
            try CgroupFile.write(value, to: directory + "/" + file)
        }
        func number(_ value: Int64) -> String { value < 0 ? "max" : "\(value)" }

        switch version {
        case .v1:
            if let shares = limits.cpuShares { try set("cpu", "cpu.shares", "\(shares)") }
            if let quota = limits.cpuQuotaMicroseconds {
                try set("cpu", "cpu.cfs_period_us", "\(limits.cpuPeriodMicroseconds)")
                try set("cpu", "cpu.cfs_quota_us", "\(quota)")
            }
            if let bytes = limits.memoryBytesMax { try set("memory", "memory.limit_in_bytes", "\(bytes)") }
            if let pids = limits.pidsMax { try set("pids", "pids.max", number(pids)) }
        case .v2:
            if let shares = limits.cpuShares { try set("cpu", "cpu.weight", "\(CgroupLimits.weight(shares: shares))") }
            if let quota = limits.cpuQuotaMicroseconds { try set("cpu", "cpu.max", "\(number(quota)) \(limits.cpuPeriodMicroseconds)") }
            if let bytes = limits.memoryBytesMax { try set("memory", "memory.max", number(bytes)) }
            if let pids = limits.pidsMax { try set("pids", "pids.max", number(pids)) }
        }
    }

    /// Stops (or lets go on) every process in `path` and below it. Returns when the kernel says so; blocks up to one second.
    package func setFrozen(_ isFrozen: Bool, _ path: String) throws(CgroupError) {
        guard let directory = directory(path, controller: "freezer") else {
            throw .notMounted("cgroup controller not mounted: freezer")
        }
        let wanted: String, file: String
        switch version {
        case .v1:
            (file, wanted) = ("/freezer.state", isFrozen ? "FROZEN" : "THAWED")
            try CgroupFile.write(wanted, to: directory + file)
        case .v2:
            (file, wanted) = ("/cgroup.events", "frozen \(isFrozen ? 1 : 0)")
            try CgroupFile.write(isFrozen ? "1" : "0", to: directory + "/cgroup.freeze")
        }
        for _ in 0..<100 {
            let lines = (CgroupFile.read(directory + file) ?? "").split(separator: "\n")
            if lines.contains(Substring(wanted)) { return }
            usleep(10_000)
        }
        throw .failed(path: path, reason: "not \(isFrozen ? "frozen" : "thawed") after one second")
    }
}
