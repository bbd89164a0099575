import ClusterDNS
import Foundation
import KubeClient
import KubeTypes
import Nftables
import Processes
import ServiceProxy
import Testing

/// A node in a network namespace of its own: two pods on its bridge, and a stranger outside.
private struct ProxyBench {
    static let pods = ["10.244.1.2", "10.244.1.3"]
    static let node = "192.0.2.1", stranger = "192.0.2.2"

    let cluster = FakeCluster()
    let proxy: ServiceProxy
    let factory: InformerFactory
    private let running: Task<Void, Never>
    private let servers: [ChildProcess]
    let folder: String
    let id: String

    static func start(options change: (inout ServiceProxy.Options) -> Void = { _ in }, fill: (FakeCluster) -> Void) async throws -> ProxyBench {
        try await ProxyBench(change, fill)
    }

    private init(_ change: (inout ServiceProxy.Options) -> Void, _ fill: (FakeCluster) -> Void) async throws {
        id = "mpt\(UInt16.random(in: 0...999))"
        folder = NSTemporaryDirectory() + id
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Self.peer.write(toFile: "\(folder)/peer.py", atomically: true, encoding: .utf8)
        let script = """
            set -e
            ip netns add \(id)n; ip netns add \(id)s; ip netns add \(id)p1; ip netns add \(id)p2
            at() { ns=$1; shift; nsenter --net=/run/netns/\(id)$ns "$@"; }
            at n ip link set lo up
            at n sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
            at n ip link add cni0 type bridge; at n ip addr add 10.244.1.1/24 dev cni0; at n ip link set cni0 up
            for i in 1 2; do
              at n ip link add v$i type veth peer name eth0 netns \(id)p$i
              at n ip link set v$i master cni0 up; at n bridge link set dev v$i hairpin on
              at p$i ip addr add 10.244.1.$((i+1))/24 dev eth0; at p$i ip link set eth0 up; at p$i ip link set lo up
              at p$i ip route add default via 10.244.1.1
            done
            at n ip link add up0 type veth peer name eth0 netns \(id)s
            at n ip addr add \(Self.node)/24 dev up0; at n ip link set up0 up; at n ip route add default via \(Self.stranger)
            at s ip addr add \(Self.stranger)/24 dev eth0; at s ip link set eth0 up; at s ip link set lo up
            at s ip route add default via \(Self.node)
            """
        try await ProcessRunner.runChecked(Command(["bash", "-c", script]))
        servers = try (1...2).map { [id, folder] index in
            try ChildProcess(
                ["nsenter", "--net=/run/netns/\(id)p\(index)", "python3", "\(folder)/peer.py", "serve", "pod\(index)"],
                logPath: "\(folder)/log")
        }
        var options = ServiceProxy.Options(clusterCIDR: "10.244.0.0/16", networkNamespace: "\(id)n")
        change(&options)
        fill(cluster)
        factory = InformerFactory(client: KubeClient(transport: cluster))
        proxy = ServiceProxy(factory: factory, nodeName: "node-1", options: options)
        running = Task { [proxy] in await proxy.run() }
        for pod in Self.pods {
            let ready = try await eventually { try await ask("n", ["tcp", pod, "8080"]).first?.hasPrefix("pod") == true }
            try #require(ready)
        }
        let synced = try await eventually { [proxy] in await proxy.isReady }
        try #require(synced)
    }

    func stop() async throws {
        running.cancel()
        factory.stop()
        for server in servers { server.send(9) }
        for name in ["n", "s", "p1", "p2"] { _ = try await ProcessRunner.run(Command(["ip", "netns", "del", id + name])) }
        try FileManager.default.removeItem(atPath: folder)
    }

    /// The answers to requests from a namespace (`n`ode, `s`tranger, `p1`, `p2`): "pod1 <client address>", or an error's name.
    func ask(_ from: String, _ arguments: [String]) async throws -> [String] {
        try await ProcessRunner.run(
            Command(["nsenter", "--net=/run/netns/\(id)\(from)", "python3", "\(folder)/peer.py"] + arguments, timeout: .seconds(30))
        ).outputText.split(separator: "\n").map(String.init)
    }

    func nft(_ text: String) async throws { try await Nft(networkNamespace: id + "n").apply(text: text) }

    /// Waits until the kernel has what the cluster says.
    func settle() async throws {
        try await Task.sleep(for: .milliseconds(60))
        _ = try await eventually { await proxy.statistics.pending == 0 }
        try await Task.sleep(for: .milliseconds(100))
    }

    private static let peer = """
        import socket, sys, threading, time
        def serve(name):
            u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('0.0.0.0', 8080))
            def udp():
                while True:
                    data, peer = u.recvfrom(100); u.sendto(f'{name} {peer[0]}'.encode(), peer)
            threading.Thread(target=udp, daemon=True).start()
            t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); t.bind(('0.0.0.0', 8080)); t.listen(512)
            while True:
                c, peer = t.accept(); c.sendall(f'{name} {peer[0]}'.encode()); c.close()
        def tcp(host, port, count=1, pause=0):
            for _ in range(int(count)):
                try:
                    with socket.create_connection((host, int(port)), timeout=2) as c: print(c.recv(100).decode(), flush=True)
                except Exception as e: print(type(e).__name__, flush=True)
                time.sleep(float(pause))
        def udp(host, port, count=1, pause=0):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.3); s.connect((host, int(port)))
            for _ in range(int(count)):
                try: s.send(b'x'); print(s.recv(100).decode(), flush=True)
                except Exception as e: print(type(e).__name__, flush=True)
                time.sleep(float(pause))
        {'serve': serve, 'tcp': tcp, 'udp': udp}[sys.argv[1]](*sys.argv[2:])
        """
}

private func withProxy(
    options: (inout ServiceProxy.Options) -> Void = { _ in }, fill: (FakeCluster) -> Void, _ body: (ProxyBench) async throws -> Void
) async throws {
    let bench = try await ProxyBench.start(options: options, fill: fill)
    let result: Result<Void, any Error>
    do { result = .success(try await body(bench)) } catch { result = .failure(error) }
    try await bench.stop()
    try result.get()
}

private let both = ProxyBench.pods.map { TestEndpoint(address: $0) }

/// Needs root, nft, conntrack and python3.
@Suite(.serialized) struct PrivilegedProxyTests {
    @Test("a cluster IP leads to every endpoint: from pods with their own address, from themselves, from the node, from outside")
    func clusterIP() async throws {
        try await withProxy(fill: { cluster in
            cluster.put(makeService("web", clusterIP: "10.96.0.20"))
            cluster.put(makeSlice("web", both))
        }) { (bench: ProxyBench) async throws in
            let fromPod = try await bench.ask("p1", ["tcp", "10.96.0.20", "80", "40"])
            // To the other pod with its own address, to itself with the bridge's.
            #expect(Set(fromPod) == ["pod2 10.244.1.2", "pod1 10.244.1.1"])
            #expect(try await Set(bench.ask("n", ["tcp", "10.96.0.20", "80", "20"])).count == 2)
            let fromOutside = Set(try await bench.ask("s", ["tcp", "10.96.0.20", "80", "40"]))
            #expect(fromOutside == ["pod1 10.244.1.1", "pod2 10.244.1.1"])
            #expect(await bench.proxy.isInSync())
        }
    }

    @Test("a node port answers on the node's addresses; policy Local keeps the client's address; external and balancer addresses work")
    func external() async throws {
        try await withProxy(fill: { cluster in
            cluster.put(makeService("a", clusterIP: "10.96.0.20", ports: [TestPort(nodePort: 30080)]))
            cluster.put(makeSlice("a", both))
            cluster.put(makeService("b", clusterIP: "10.96.0.21", ports: [TestPort(nodePort: 30081)]) {
                $0.spec.externalTrafficPolicy = "Local"
                $0.spec.externalIPs = ["198.51.100.1"]
                var ingress = LoadBalancerIngress()
                ingress.ip = "198.51.100.2"
                $0.status.loadBalancer = LoadBalancerStatus()
                $0.status.loadBalancer?.ingress = [ingress]
                $0.spec.loadBalancerSourceRanges = ["203.0.113.0/24"]
            })
            cluster.put(makeSlice("b", [both[0], TestEndpoint(address: "10.244.9.9", node: "node-2")]))
            cluster.put(makeService("c", clusterIP: "10.96.0.22", ports: [TestPort(nodePort: 30082)]) { $0.spec.externalTrafficPolicy = "Local" })
            cluster.put(makeSlice("c", [TestEndpoint(address: "10.244.9.9", node: "node-2")]))
        }) { (bench: ProxyBench) async throws in
            #expect(try await Set(bench.ask("s", ["tcp", ProxyBench.node, "30080", "40"])) == ["pod1 10.244.1.1", "pod2 10.244.1.1"])
            #expect(try await Set(bench.ask("n", ["tcp", ProxyBench.node, "30080", "20"])).count == 2)
            #expect(try await Set(bench.ask("s", ["tcp", ProxyBench.node, "30081", "10"])) == ["pod1 192.0.2.2"])
            #expect(try await Set(bench.ask("s", ["tcp", "198.51.100.1", "80", "3"])) == ["pod1 192.0.2.2"])
            #expect(try await bench.ask("s", ["tcp", "198.51.100.2", "80"]) == ["TimeoutError"])
            #expect(try await bench.ask("s", ["tcp", ProxyBench.node, "30082"]) == ["TimeoutError"])
        }
    }

    @Test("a service without endpoints, and a port the service does not have, refuse at once")
    func refused() async throws {
        try await withProxy(fill: { cluster in
            cluster.put(makeService("none", clusterIP: "10.96.0.20", ports: [
                TestPort(name: "t", nodePort: 30080), TestPort(name: "u", number: 53, proto: "UDP"),
            ]))
            cluster.put(makeService("web", clusterIP: "10.96.0.21"))
            cluster.put(makeSlice("web", both))
        }) { (bench: ProxyBench) async throws in
            for from in ["p1", "n", "s"] {
                #expect(try await bench.ask(from, ["tcp", "10.96.0.20", "80"]) == ["ConnectionRefusedError"], "\(from)")
                #expect(try await bench.ask(from, ["tcp", "10.96.0.21", "81"]) == ["ConnectionRefusedError"], "\(from)")
                // The kernel limits the rate of ICMP messages to one host; a process on the node itself is told at once, in other words.
                let udp = try await bench.ask(from, ["udp", "10.96.0.20", "53", "6", "0.3"])
                #expect(udp.contains(from == "n" ? "PermissionError" : "ConnectionRefusedError"), "\(from): \(udp)")
            }
            #expect(try await bench.ask("s", ["tcp", ProxyBench.node, "30080"]) == ["ConnectionRefusedError"])
        }
    }

    @Test("session affinity keeps a client on its endpoint, until that goes")
    func affinity() async throws {
        try await withProxy(fill: { cluster in
            cluster.put(makeService("web", clusterIP: "10.96.0.20") { $0.spec.sessionAffinity = "ClientIP" })
            cluster.put(makeSlice("web", both))
        }) { (bench: ProxyBench) async throws in
            let first = Set(try await bench.ask("s", ["tcp", "10.96.0.20", "80", "20"]))
            #expect(first.count == 1)
            let other = first.first?.hasPrefix("pod1") == true ? 1 : 0
            bench.cluster.put(makeSlice("web", [both[other]]))
            try await bench.settle()
            let second = Set(try await bench.ask("s", ["tcp", "10.96.0.20", "80", "5"]))
            #expect(second == ["pod\(other + 1) 10.244.1.1"])
            bench.cluster.put(makeSlice("web", both))
            try await bench.settle()
            #expect(try await Set(bench.ask("s", ["tcp", "10.96.0.20", "80", "20"])) == second)
        }
    }

    @Test("endpoints come and go without a failed request; only terminating ones still serve")
    func rolling() async throws {
        try await withProxy(fill: { cluster in
            cluster.put(makeService("web", clusterIP: "10.96.0.20"))
            cluster.put(makeSlice("web", both))
        }) { (bench: ProxyBench) async throws in
            async let answers = bench.ask("s", ["tcp", "10.96.0.20", "80", "400", "0.005"])
            for round in 0..<20 {
                try await Task.sleep(for: .milliseconds(100))
                bench.cluster.put(makeSlice("web", [both[round % 2]]))
            }
            let all = try await answers
            #expect(all.count == 400)
            #expect(all.allSatisfy { $0.hasPrefix("pod") }, "\(all.filter { !$0.hasPrefix("pod") })")
            bench.cluster.put(makeSlice("web", [
                TestEndpoint(address: ProxyBench.pods[0], ready: false, serving: true, terminating: true),
                TestEndpoint(address: ProxyBench.pods[1], ready: false, serving: false, terminating: true),
            ]))
            try await bench.settle()
            #expect(try await Set(bench.ask("s", ["tcp", "10.96.0.20", "80", "10"])) == ["pod1 10.244.1.1"])
            bench.cluster.delete(Service.self, "default/web")
            try await bench.settle()
            #expect(await bench.proxy.statistics.services == 0)
            #expect(await bench.proxy.isInSync())
            #expect(await bench.proxy.statistics.fullSyncs == 1)
        }
    }

    @Test("a UDP client that keeps sending moves to another endpoint when its own goes")
    func udp() async throws {
        let port = TestPort(proto: "UDP")
        try await withProxy(fill: { cluster in
            cluster.put(makeService("dns", clusterIP: "10.96.0.20", ports: [port]))
            cluster.put(makeSlice("dns", ports: [port], [both[0]]))
        }) { (bench: ProxyBench) async throws in
            async let answers = bench.ask("s", ["udp", "10.96.0.20", "80", "30", "0.05"])
            try await Task.sleep(for: .milliseconds(700))
            bench.cluster.put(makeSlice("dns", ports: [port], [both[1]]))
            let all = try await answers
            #expect(all.first == "pod1 10.244.1.1")
            #expect(all.last == "pod2 10.244.1.1")
            #expect(await bench.proxy.statistics.staleFlowsDeleted > 0)
        }
    }

    @Test("the cluster DNS address is on the node itself, and the proxy leaves it alone")
    func dnsAddress() async throws {
        try await withProxy(options: { $0.localAddresses = ["10.96.0.10"] }, fill: { cluster in
            cluster.put(makeService("kube-dns", namespace: "kube-system", clusterIP: "10.96.0.10", ports: [TestPort(number: 8080)]))
        }) { (bench: ProxyBench) async throws in
            let dns = try ClusterDNS(factory: bench.factory, options: .init(upstreams: [], networkNamespace: bench.id + "n"))
            try await dns.prepareInterface()
            try await dns.prepareInterface()
            let server = try ChildProcess(
                ["nsenter", "--net=/run/netns/\(bench.id)n", "python3", "\(bench.folder)/peer.py", "serve", "node"], logPath: "\(bench.folder)/log")
            defer { server.send(9) }
            #expect(try await eventually { try await bench.ask("p1", ["tcp", "10.96.0.10", "8080"]) == ["node 10.244.1.2"] })
        }
    }

    @Test("rules that somebody else deleted or changed come back", arguments: [
        "delete table ip martlet-proxy", "flush map ip martlet-proxy service-ips", "flush chain ip martlet-proxy services",
        "add rule ip martlet-proxy nat-postrouting drop",
    ])
    func drift(sabotage: String) async throws {
        try await withProxy(options: { $0.driftCheckSeconds = 0.2 }, fill: { cluster in
            cluster.put(makeService("web", clusterIP: "10.96.0.20"))
            cluster.put(makeSlice("web", both))
        }) { (bench: ProxyBench) async throws in
            #expect(await bench.proxy.isInSync())
            try await bench.nft(sabotage)
            #expect(await !bench.proxy.isInSync())
            #expect(try await eventually { await bench.proxy.statistics.drifts == 1 })
            #expect(try await eventually { try await bench.ask("s", ["tcp", "10.96.0.20", "80"]).first?.hasPrefix("pod") == true })
            #expect(await bench.proxy.isInSync())
        }
    }

    @Test("1,000 services: a full load, and a change of one endpoint")
    func scale() async throws {
        func slice(_ index: Int, _ last: Int) -> EndpointSlice {
            makeSlice("s\(index)", [TestEndpoint(address: "10.244.\(index / 250).\(index % 250 + 1)"), TestEndpoint(address: "10.244.200.\(last)")])
        }
        try await withProxy(options: { $0.syncSecondsMax = 0.05 }, fill: { cluster in
            for index in 0..<1000 {
                cluster.put(makeService("s\(index)", clusterIP: "10.97.\(index / 250).\(index % 250 + 1)", ports: [TestPort(nodePort: 30000 + index)]))
                cluster.put(slice(index, 1))
            }
        }) { (bench: ProxyBench) async throws in
            let full = await bench.proxy.statistics
            #expect(full.services == 1000)
            #expect(full.endpoints == 2000)
            var changes: [Double] = []
            for round in 2..<12 {
                let before = await bench.proxy.statistics.syncs
                bench.cluster.put(slice(round * 50, round))
                #expect(try await eventually { await bench.proxy.statistics.syncs > before })
                changes.append(await bench.proxy.statistics.lastSyncDurationSeconds)
            }
            let check = ContinuousClock.now
            #expect(await bench.proxy.isInSync())
            print("1,000 services: full load \(full.lastSyncDurationSeconds) s, one endpoint median \(changes.sorted()[5]) s, "
                + "worst \(changes.max() ?? 0) s, drift check \(ContinuousClock.now - check)")
            #expect(changes.sorted()[5] < 0.25)
        }
    }
}
