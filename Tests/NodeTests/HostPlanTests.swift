import Glibc
import Hosts
import Processes
import Testing

@Suite("plan of the hosts")
struct HostPlanTests {
    private func plan(_ nodes: [String]) throws -> ClusterPlan {
        try ClusterPlan(identity: ClusterIdentity(dataDirectory: "/data/a"), nodes: nodes, dataDirectory: "/data/a", subnetPrefix: "172.30.7")
    }

    @Test("the same data directory gives the same names, another one others")
    func identity() {
        #expect(ClusterIdentity(dataDirectory: "/data/a") == ClusterIdentity(dataDirectory: "/data/a"))
        #expect(ClusterIdentity(dataDirectory: "/data/a") != ClusterIdentity(dataDirectory: "/data/b"))
    }

    @Test("interface names fit the kernel's 15 characters, sockets its 107 bytes")
    func lengths() throws {
        let plan = try plan((0..<240).map { "node-\($0)" })
        #expect(plan.identity.bridge.utf8.count <= 15)
        for host in plan.hosts {
            #expect(host.vethName.utf8.count <= 15)
            #expect(host.containerdSocket.utf8.count < 104)
        }
    }

    @Test("a host routes every other host's pods, the root namespace all")
    func routes() throws {
        let plan = try plan(["a", "b", "c"])
        #expect(plan.routes(for: "b") == [
            Route(destination: "10.244.0.0/24", via: "172.30.7.10"), Route(destination: "10.244.2.0/24", via: "172.30.7.12"),
        ])
        #expect(plan.routes(for: nil).count == 3)
    }

    @Test("too long a node name is refused with the reason")
    func longName() {
        #expect(throws: HostsError.self) { try plan([String(repeating: "x", count: 120)]) }
    }
}
