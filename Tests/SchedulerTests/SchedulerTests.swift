import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Scheduler
import Testing

/// A fake server with the scheduler on it.
final class SchedulerFixture: Sendable {
    let client: KubeClient
    private let task: Task<Void, Never>

    init() {
        client = KubeClient(transport: FakeTransport(time: SystemTime()))
        let scheduler = Scheduler(factory: InformerFactory(client: client), client: client)
        task = Task { await scheduler.run() }
    }

    deinit { task.cancel() }

    func eventually(
        _ what: String, seconds: Double = 10, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
    ) async throws {
        let end = SystemTime().now() + seconds
        while SystemTime().now() < end {
            if try await condition() { return }
            try await Task.sleep(nanoseconds: 5_000_000)
        }
        Issue.record("did not come about: \(what)", sourceLocation: sourceLocation)
    }

    func addNode(_ name: String, cpu: String = "4", labels: [String: String] = [:], taints: String = "[]") async throws {
        var labels = labels
        labels["kubernetes.io/hostname"] = name
        let json = """
            {"metadata":{"name":"\(name)","labels":\(JSON(labels).text)},"spec":{"taints":\(taints)},
            "status":{"allocatable":{"cpu":"\(cpu)","memory":"8Gi","pods":"110"}}}
            """
        try await client.create(Node(json: JSON.parse(json)))
    }

    func addPod(_ name: String, cpu: String = "100m", labels: String = "{}", spec: String = "") async throws {
        let json = """
            {"metadata":{"name":"\(name)","namespace":"default","labels":\(labels)},
            "spec":{"schedulerName":"default-scheduler",\(spec)"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"\(cpu)"}}}]}}
            """
        try await client.create(Pod(json: JSON.parse(json)))
    }

    func node(of pod: String) async throws -> String? {
        let name = try await client.find(Pod.self, namespace: "default", name: pod)?.spec.nodeName
        return name?.isEmpty == false ? name : nil
    }

    func failure(of pod: String) async throws -> String? {
        try await client.find(Pod.self, namespace: "default", name: pod)?.status.conditions
            .first { $0.type == "PodScheduled" && $0.reason == "Unschedulable" }?.message
    }
}

@Suite struct SchedulerTests {
    @Test("validates resource limits of pods that are allowed to run: what does not fit waits, and is told why")
    func resources() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1", cpu: "1")
        try await cluster.addNode("n2", cpu: "1", taints: #"[{"key":"k","value":"v","effect":"NoSchedule"}]"#)
        try await cluster.addPod("a", cpu: "800m")
        try await cluster.eventually("a is placed") { try await cluster.node(of: "a") == "n1" }
        try await cluster.addPod("b", cpu: "500m")
        try await cluster.eventually("b is refused") { try await cluster.failure(of: "b") != nil }
        #expect(
            try await cluster.failure(of: "b")
                == "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}. preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
        )
        try await cluster.client.delete(Pod.self, namespace: "default", name: "a", gracePeriodSeconds: 0)
        try await cluster.eventually("b is placed once there is room") { try await cluster.node(of: "b") == "n1" }
    }

    @Test("validates that NodeSelector is respected if matching, and if not matching")
    func nodeSelector() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1")
        try await cluster.addNode("n2", labels: ["disk": "ssd"])
        try await cluster.addPod("fits", spec: #""nodeSelector":{"disk":"ssd"},"#)
        try await cluster.addPod("waits", spec: #""nodeSelector":{"disk":"none"},"#)
        try await cluster.addPod(
            "byname",
            spec:
                #""affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}]}}},"#
        )
        try await cluster.eventually("placed") {
            let (fits, byName) = (try await cluster.node(of: "fits"), try await cluster.node(of: "byname"))
            return fits == "n2" && byName == "n1"
        }
        try await cluster.eventually("refused") {
            try await cluster.failure(of: "waits")?.hasPrefix(
                "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.") == true
        }
    }

    @Test("pods of one service land on different nodes")
    func spreads() async throws {
        let cluster = SchedulerFixture()
        for index in 0..<3 { try await cluster.addNode("n\(index)") }
        try await cluster.client.create(
            Service(json: JSON.parse(#"{"metadata":{"name":"s","namespace":"default"},"spec":{"selector":{"app":"x"}}}"#)))
        try await Task.sleep(nanoseconds: 50_000_000)
        for index in 0..<3 { try await cluster.addPod("p\(index)", labels: #"{"app":"x"}"#) }
        var nodes: Set<String> = []
        for index in 0..<3 {
            try await cluster.eventually("placed") { try await cluster.node(of: "p\(index)") != nil }
            if let node = try await cluster.node(of: "p\(index)") { nodes.insert(node) }
        }
        #expect(nodes.count == 3)
    }

    @Test("required anti-affinity keeps pods apart, also from pods placed before")
    func antiAffinity() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1")
        try await cluster.addNode("n2")
        let spec =
            #""affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchLabels":{"app":"x"}},"topologyKey":"kubernetes.io/hostname"}]}},"#
        for name in ["a", "b", "c"] { try await cluster.addPod(name, labels: #"{"app":"x"}"#, spec: spec) }
        try await cluster.eventually("two placed, one refused") {
            var placed: [String] = []
            for name in ["a", "b", "c"] { if let node = try await cluster.node(of: name) { placed.append(node) } }
            return Set(placed).count == 2 && placed.count == 2
        }
    }

    @Test("validates 4 pods with MaxSkew=1 are evenly distributed into 2 nodes")
    func topologySpread() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1", labels: ["z": "a"])
        try await cluster.addNode("n2", labels: ["z": "b"])
        let spec =
            #""topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"x"}}}],"#
        for index in 0..<4 { try await cluster.addPod("p\(index)", labels: #"{"app":"x"}"#, spec: spec) }
        try await cluster.eventually("two each") {
            var counts: [String: Int] = [:]
            for index in 0..<4 { if let node = try await cluster.node(of: "p\(index)") { counts[node, default: 0] += 1 } }
            return counts == ["n1": 2, "n2": 2]
        }
    }

    @Test("validates that there exists conflict between pods with same hostPort and protocol")
    func hostPorts() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1")
        for name in ["a", "b"] {
            let json = """
                {"metadata":{"name":"\(name)","namespace":"default"},
                "spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}]}]}}
                """
            try await cluster.client.create(Pod(json: JSON.parse(json)))
        }
        try await cluster.eventually("one waits") {
            let failures = [try await cluster.failure(of: "a"), try await cluster.failure(of: "b")].compactMap { $0 }
            return failures.count == 1 && failures[0].contains("node(s) didn't have free ports for the requested pod ports")
        }
    }

    @Test("validates basic preemption works: a more important pod takes the place of a lesser one")
    func preemption() async throws {
        let cluster = SchedulerFixture()
        try await cluster.addNode("n1", cpu: "1")
        try await cluster.addPod("low", cpu: "800m", spec: #""priority":1,"terminationGracePeriodSeconds":0,"#)
        try await cluster.eventually("low is placed") { try await cluster.node(of: "low") == "n1" }
        try await cluster.addPod("high", cpu: "800m", spec: #""priority":100,"#)
        try await cluster.eventually("high takes the place") { try await cluster.node(of: "high") == "n1" }
        #expect(try await cluster.client.find(Pod.self, namespace: "default", name: "low") == nil)
    }
}
