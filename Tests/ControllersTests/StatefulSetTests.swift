import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("statefulset")
struct StatefulSetTests {
    private func set(_ extra: String = "", replicas: Int = 3) -> String {
        """
        {"metadata":{"name":"db","namespace":"default"},"spec":{"replicas":\(replicas),"serviceName":"db","revisionHistoryLimit":10\(extra),
        "selector":{"matchLabels":{"app":"db"}},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":0}},
        "template":{"metadata":{"labels":{"app":"db"}},"spec":{"containers":[{"name":"c","image":"a:1"}]}},
        "volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]}}
        """
    }

    @Test("Scaling should happen in predictable order and halt if any stateful pod is unhealthy")
    func ordered() async throws {
        let cluster = ClusterFixture(["statefulset-controller"])
        try await cluster.client.create(cluster.object(StatefulSet.self, set()))
        for index in 0..<3 {
            try await cluster.eventually("db-\(index)") {
                try await cluster.list(Pod.self).map(\.metadata.name) == (0...index).map { "db-\($0)" }
            }
            try await Task.sleep(nanoseconds: 30_000_000)
            #expect(try await cluster.list(Pod.self).count == index + 1)
            try await cluster.makeAllReady()
        }
        let pod = try await cluster.client.get(Pod.self, namespace: "default", name: "db-1")
        #expect(pod.metadata.labels["statefulset.kubernetes.io/pod-name"] == "db-1")
        #expect(pod.metadata.labels["apps.kubernetes.io/pod-index"] == "1")
        #expect(pod.spec.hostname == "db-1")
        #expect(pod.spec.subdomain == "db")
        #expect(pod.spec.volumes.first?.persistentVolumeClaim?.claimName == "data-db-1")
        #expect(try await cluster.list(PersistentVolumeClaim.self).map(\.metadata.name) == ["data-db-0", "data-db-1", "data-db-2"])
        try await cluster.eventually("status") {
            let status = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status
            return status.readyReplicas == 3 && status.currentReplicas == 3 && status.updateRevision == status.currentRevision
        }
        try await cluster.client.patch(StatefulSet.self, namespace: "default", name: "db", .merge, ["spec": ["replicas": 1]])
        try await cluster.eventually("scaled down from the top") { try await cluster.list(Pod.self).map(\.metadata.name) == ["db-0"] }
        #expect(try await cluster.list(PersistentVolumeClaim.self).count == 3)
    }

    @Test("should perform rolling updates and roll backs of template modifications, from the highest number down")
    func rolling() async throws {
        let cluster = ClusterFixture(["statefulset-controller"])
        try await cluster.client.create(cluster.object(StatefulSet.self, set()))
        try await cluster.eventually("ready") {
            try await cluster.makeAllReady()
            return try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status.readyReplicas == 3
        }
        let first = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status.currentRevision
        func change(_ image: String) async throws {
            var live = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db")
            live.spec.template.spec.containers[0].image = image
            _ = try await cluster.client.patch(
                StatefulSet.self, namespace: "default", name: "db", .merge, ["spec": ["template": live.spec.template.json]])
        }
        try await change("a:2")
        var order: [String] = []
        try await cluster.eventually("updated") {
            let pods = try await cluster.list(Pod.self)
            let updated = pods.filter { $0.spec.containers.first?.image == "a:2" }.map(\.metadata.name)
            for name in updated where !order.contains(name) { order.append(name) }
            // Only what this look has seen becomes ready: the order cannot be missed.
            for pod in pods where !pod.isReady && pod.isActive { try? await cluster.makeReady(pod) }
            let status = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status
            return updated.count == 3 && status.currentRevision == status.updateRevision && status.updateRevision != first
        }
        #expect(order == ["db-2", "db-1", "db-0"])
        try await change("a:1")
        try await cluster.eventually("rolled back to the same revision") {
            try await cluster.makeAllReady()
            return try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status.currentRevision == first
        }
    }

    @Test("should perform canary updates: a partition keeps the lower pods as they are; Burst scaling starts all at once")
    func partition() async throws {
        let cluster = ClusterFixture(["statefulset-controller"])
        try await cluster.client.create(cluster.object(StatefulSet.self, set(#","podManagementPolicy":"Parallel""#)))
        try await cluster.eventually("all at once") { try await cluster.list(Pod.self).count == 3 }
        try await cluster.makeAllReady()
        try await cluster.eventually("ready") {
            try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status.readyReplicas == 3
        }
        var live = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db")
        live.spec.template.spec.containers[0].image = "a:2"
        try await cluster.client.patch(
            StatefulSet.self, namespace: "default", name: "db", .merge,
            ["spec": ["template": live.spec.template.json, "updateStrategy": ["rollingUpdate": ["partition": 2]]]])
        try await cluster.eventually("canary") {
            try await cluster.makeAllReady()
            return try await cluster.list(Pod.self).map { $0.spec.containers.first?.image } == ["a:1", "a:1", "a:2"]
        }
        try await cluster.eventually("status") {
            let status = try await cluster.client.get(StatefulSet.self, namespace: "default", name: "db").status
            return status.updatedReplicas == 1 && status.currentReplicas == 2
        }
        // A pod below the partition comes back as it was.
        try await cluster.client.delete(Pod.self, namespace: "default", name: "db-0", gracePeriodSeconds: 0)
        try await cluster.eventually("old image again") {
            try await cluster.client.find(Pod.self, namespace: "default", name: "db-0")?.spec.containers.first?.image == "a:1"
        }
    }
}
