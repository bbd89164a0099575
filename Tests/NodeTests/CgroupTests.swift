import Cgroup
import Glibc
import Processes
import Testing

@Suite("control groups")
struct CgroupTests {
    @Test("cpu shares map onto version 2 weights", arguments: [(2, 1), (1024, 39), (262_144, 10_000), (0, 1), (1_000_000, 10_000)])
    func weights(shares: Int64, weight: Int64) {
        #expect(CgroupLimits.weight(shares: shares) == weight)
    }

    @Test("missing controllers are named")
    func missingControllers() throws {
        let table = "/tmp/martlet-mounts-\(getpid())"
        defer { unlink(table) }
        try SmallFile.write("cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n", to: table)
        do {
            _ = try CgroupHierarchy.detect(mountTable: table)
            Issue.record("detected")
        } catch {
            #expect(error.description.contains("not mounted: memory, pids"))
        }
    }
}
