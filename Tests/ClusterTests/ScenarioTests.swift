import JSON
import KubeClient
import KubeMeta
import KubeTypes
import SimulatedNodes
import Testing

@Suite("A control plane on virtual time", .serialized) struct ScenarioTests {
    @Test("a deployment rolls to a new image without ever dropping below its availability")
    func rollingUpdate() async throws {
        try await VirtualCluster.run { cluster in
            try await cluster.client.create(VirtualCluster.deployment("web", replicas: 8))
            try await cluster.advance(upTo: 60, "8 pods ready") { try await cluster.readyPods().count == 8 }
            try await cluster.client.patch(
                Deployment.self, namespace: "default", name: "web", .strategic,
                ["spec": ["template": ["spec": ["containers": [["name": "c", "image": "nginx:2"]]]]]])
            // 25% of 8 may be missing, 25% may be too many.
            var fewest = 8
            var most = 0
            try await cluster.advance(upTo: 300, "rolled") {
                try await cluster.advance(1) {
                    let pods = try await cluster.pods()
                    fewest = min(fewest, pods.filter(VirtualCluster.isReady).count)
                    most = max(most, pods.filter { $0.metadata.deletionTimestamp == nil }.count)
                }
                let ready = try await cluster.readyPods()
                return ready.count == 8 && ready.allSatisfy { $0.spec.containers.first?.image == "nginx:2" }
            }
            #expect(fewest >= 6)
            #expect(most <= 10)
        }
    }

    @Test("a silent node is unknown after 40 s, its pods are evicted 300 s later and replaced elsewhere")
    func nodeFailure() async throws {
        try await VirtualCluster.run { cluster in
            try await cluster.client.create(VirtualCluster.deployment("web", replicas: 6))
            try await cluster.advance(upTo: 60, "6 pods ready") { try await cluster.readyPods().count == 6 }
            #expect(try await cluster.readyPods().contains { $0.spec.nodeName.hasPrefix("b-") })
            await cluster.groups[1].gate.hold()
            let silent = cluster.time.now()
            func condition(_ name: String) async throws -> String? {
                try await cluster.client.get(Node.self, name: name).status.conditions.first { $0.type == "Ready" }?.status
            }
            try await cluster.advance(25)
            #expect(try await condition("b-0") == "True", "the grace period has not passed")
            try await cluster.advance(upTo: 60, "node unknown") { try await condition("b-0") == "Unknown" }
            let unknown = cluster.time.now()
            #expect((30...60).contains(unknown - silent), "unknown after \(unknown - silent) s")
            #expect(try await cluster.client.get(Node.self, name: "b-0").spec.taints.contains { $0.key == "node.kubernetes.io/unreachable" })
            #expect(try await condition("a-0") == "True")
            try await cluster.advance(280)
            #expect(try await cluster.pods().allSatisfy { $0.metadata.deletionTimestamp == nil }, "pods tolerate the taint for 300 s")
            try await cluster.advance(upTo: 60, "replaced on the other nodes") {
                let pods = try await cluster.pods().filter { $0.metadata.deletionTimestamp == nil }
                return pods.count == 6 && pods.allSatisfy { VirtualCluster.isReady($0) && $0.spec.nodeName.hasPrefix("a-") }
            }
            await cluster.groups[1].gate.release()
            try await cluster.advance(upTo: 60, "node back") { try await condition("b-0") == "True" }
        }
    }

    @Test("a cron job fires at the minute, each minute")
    func cronJob() async throws {
        try await VirtualCluster.run { cluster in
            try await cluster.client.create(
                CronJob(json: [
                    "metadata": ["name": "tick", "namespace": "default"],
                    "spec": [
                        "schedule": "* * * * *",
                        "jobTemplate": ["spec": ["template": ["spec": ["restartPolicy": "Never", "containers": [["name": "c", "image": "busybox"]]]]]],
                    ],
                ]))
            try await cluster.advance(58)
            let early = try await cluster.client.list(Job.self, namespace: "default").items.count
            try await cluster.advance(125)
            let jobs = try await cluster.client.list(Job.self, namespace: "default").items
            #expect(jobs.count == early + 2 || jobs.count == early + 3)
            for job in jobs {
                let made = job.metadata.creationSeconds
                #expect(made.truncatingRemainder(dividingBy: 60) < 3, "fired at \(job.metadata.creationTimestamp ?? "")")
            }
        }
    }

    @Test("events are gone an hour after they were written")
    func eventExpiry() async throws {
        try await VirtualCluster.run(nodesPerGroup: 1) { cluster in
            try await cluster.client.create(
                Event(json: [
                    "metadata": ["name": "e", "namespace": "default"], "involvedObject": ["kind": "Pod", "name": "p", "namespace": "default"],
                    "reason": "R", "message": "m", "type": "Normal",
                ]))
            // The nodes need not live through that hour.
            for group in cluster.groups { await group.gate.hold() }
            _ = cluster.time.step(to: cluster.time.now() + 3500)
            #expect(try await cluster.client.find(Event.self, namespace: "default", name: "e") != nil)
            while cluster.time.now() < VirtualCluster.start + 3700 { _ = cluster.time.step(to: VirtualCluster.start + 3700) }
            var found = true
            for _ in 0..<100 where found {
                try await Task.sleep(nanoseconds: 20_000_000)
                found = try await cluster.client.find(Event.self, namespace: "default", name: "e") != nil
            }
            #expect(!found)
        }
    }

    @Test("random operations leave a cluster that is what was asked for", arguments: [7, 8] as [UInt64])
    func randomOperations(_ seed: UInt64) async throws {
        print("seed \(seed)")
        try await VirtualCluster.run { cluster in
            var generator = SeededGenerator(seed: seed)
            var wanted: [String: Int] = [:]
            var image = 1
            for _ in 0..<25 {
                let name = "d\(Int.random(in: 0..<4, using: &generator))"
                switch Int.random(in: 0..<6, using: &generator) {
                case 0, 1 where wanted[name] == nil:
                    guard wanted[name] == nil else { break }
                    let replicas = Int.random(in: 0..<6, using: &generator)
                    try await cluster.client.create(VirtualCluster.deployment(name, replicas: replicas))
                    wanted[name] = replicas
                case 2 where wanted[name] != nil:
                    let replicas = Int.random(in: 0..<8, using: &generator)
                    try await cluster.client.patch(Deployment.self, namespace: "default", name: name, .merge, ["spec": ["replicas": JSON(replicas)]])
                    wanted[name] = replicas
                case 3 where wanted[name] != nil:
                    image += 1
                    try await cluster.client.patch(
                        Deployment.self, namespace: "default", name: name, .strategic,
                        ["spec": ["template": ["spec": ["containers": [["name": "c", "image": .string("nginx:\(image)")]]]]]])
                case 4 where wanted[name] != nil:
                    try await cluster.client.delete(Deployment.self, namespace: "default", name: name)
                    wanted[name] = nil
                default:
                    if let pod = try await cluster.pods().randomElement(using: &generator) {
                        try? await cluster.client.delete(Pod.self, namespace: "default", name: pod.metadata.name)
                    }
                }
                try await cluster.advance(Double.random(in: 0.05...3, using: &generator))
            }
            func count(_ name: String) async throws -> Int {
                try await cluster.readyPods().filter { $0.metadata.labels["app"] == name }.count
            }
            let total = wanted.values.reduce(0, +)
            try await cluster.advance(upTo: 240, "seed \(seed): \(total) pods and no others") {
                let pods = try await cluster.pods()
                return pods.count == total && pods.allSatisfy(VirtualCluster.isReady)
            }
            for (name, replicas) in wanted { #expect(try await count(name) == replicas, "seed \(seed): \(name)") }
            let pods = try await cluster.pods()
            let sets = try await cluster.client.list(ReplicaSet.self, namespace: "default").items
            let deployments = try await cluster.client.list(Deployment.self, namespace: "default").items
            let setIDs = Set(sets.map(\.metadata.uid))
            let deploymentIDs = Set(deployments.map(\.metadata.uid))
            #expect(sets.allSatisfy { deploymentIDs.contains($0.metadata.controller?.uid ?? "") }, "seed \(seed): an orphaned replica set")
            #expect(pods.allSatisfy { setIDs.contains($0.metadata.controller?.uid ?? "") }, "seed \(seed): an orphaned pod")
            let nodes = try await cluster.client.list(Node.self).items
            for node in nodes {
                let own = pods.filter { $0.spec.nodeName == node.metadata.name }
                let cpu = own.flatMap(\.spec.containers).map { $0.resources?.requests["cpu"] ?? .zero }.reduce(.zero, +)
                #expect(cpu <= node.status.allocatable["cpu"] ?? .zero, "seed \(seed): \(node.metadata.name) is overfull")
            }
            #expect(pods.allSatisfy { pod in nodes.contains { $0.metadata.name == pod.spec.nodeName } })
        }
    }
}
