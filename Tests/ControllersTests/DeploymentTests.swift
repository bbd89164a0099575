import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("deployment, replicaset")
struct DeploymentTests {
    static let controllers: Set = ["deployment-controller", "replicaset-controller"]

    static func deployment(_ image: String = "a:1", replicas: Int = 3, extra: String = "") -> String {
        """
        {"metadata":{"name":"web","namespace":"default"},"spec":{"replicas":\(replicas),"revisionHistoryLimit":10,"progressDeadlineSeconds":600,
        "selector":{"matchLabels":{"app":"web"}}\(extra),
        "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"\(image)"}]}}}}
        """
    }

    @Test("Deployment should run the lifecycle: pods, status, conditions, revision")
    func lifecycle() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(cluster.object(Deployment.self, Self.deployment()))
        try await cluster.eventually("three pods") { try await cluster.list(Pod.self).count == 3 }
        let set = try #require(try await cluster.list(ReplicaSet.self).first)
        let hash = try #require(set.metadata.labels["pod-template-hash"])
        #expect(set.metadata.name == "web-\(hash)")
        #expect(set.spec.selector.matchLabels["pod-template-hash"] == hash)
        #expect(set.metadata.annotations["deployment.kubernetes.io/desired-replicas"] == "3")
        for pod in try await cluster.list(Pod.self) {
            #expect(pod.metadata.labels["pod-template-hash"] == hash)
            #expect(pod.metadata.controller?.uid == set.metadata.uid)
            try await cluster.makeReady(pod)
        }
        try await cluster.eventually("complete") {
            let status = try await cluster.client.get(Deployment.self, namespace: "default", name: "web").status
            return status.availableReplicas == 3 && status.conditions.contains { $0.reason == "NewReplicaSetAvailable" }
        }
        let done = try await cluster.client.get(Deployment.self, namespace: "default", name: "web")
        #expect(done.metadata.annotations["deployment.kubernetes.io/revision"] == "1")
        #expect(done.status.observedGeneration == done.metadata.generation)
        #expect(
            done.status.conditions.first { $0.type == "Progressing" }?.message
                == "ReplicaSet \"\(set.metadata.name)\" has successfully progressed.")
        #expect(done.status.conditions.first { $0.type == "Available" }?.reason == "MinimumReplicasAvailable")
        // No pod too many was ever made.
        #expect(try await cluster.list(Pod.self).count == 3)
    }

    @Test("RollingUpdateDeployment should delete old pods and create new ones within surge and unavailability")
    func rolling() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(
            cluster.object(
                Deployment.self,
                Self.deployment(
                    extra: ",\"strategy\":{\"type\":\"RollingUpdate\",\"rollingUpdate\":{\"maxSurge\":\"25%\",\"maxUnavailable\":\"25%\"}}")
            ))
        try await cluster.eventually("first rollout") {
            try await cluster.makeAllReady()
            return try await cluster.client.get(Deployment.self, namespace: "default", name: "web").status.availableReplicas == 3
        }
        var deployment = try await cluster.client.get(Deployment.self, namespace: "default", name: "web")
        deployment.spec.template.spec.containers[0].image = "a:2"
        try await cluster.client.update(deployment)
        var most = 0
        try await cluster.eventually("second rollout") {
            let pods = try await cluster.list(Pod.self)
            most = max(most, pods.count)
            #expect(pods.count(where: \.isReady) >= 3)
            try await cluster.makeAllReady()
            return pods.count == 3 && pods.allSatisfy { $0.spec.containers.first?.image == "a:2" }
        }
        #expect(most <= 4)
        try await cluster.eventually("revision 2") {
            try await cluster.client.get(Deployment.self, namespace: "default", name: "web").metadata.annotations[
                "deployment.kubernetes.io/revision"] == "2"
        }
        #expect(try await cluster.list(ReplicaSet.self).map { $0.spec.replicas ?? -1 }.sorted() == [0, 3])
    }

    @Test("RecreateDeployment should delete old pods and create new ones")
    func recreate() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(cluster.object(Deployment.self, Self.deployment(extra: ",\"strategy\":{\"type\":\"Recreate\"}")))
        try await cluster.eventually("pods") { try await cluster.list(Pod.self).count == 3 }
        var deployment = try await cluster.client.get(Deployment.self, namespace: "default", name: "web")
        deployment.spec.template.spec.containers[0].image = "a:2"
        deployment = try await cluster.client.patch(
            Deployment.self, namespace: "default", name: "web", .merge, ["spec": deployment.spec.json])
        try await cluster.eventually("new pods") {
            let pods = try await cluster.list(Pod.self)
            #expect(Set(pods.map { $0.spec.containers.first?.image }).count <= 1)
            return pods.count == 3 && pods.allSatisfy { $0.spec.containers.first?.image == "a:2" }
        }
    }

    @Test("deployment should support rollover, scaling in proportion and a history limit")
    func scaling() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(cluster.object(Deployment.self, Self.deployment(replicas: 2)))
        try await cluster.eventually("two") {
            try await cluster.makeAllReady(); return try await cluster.list(Pod.self).count == 2
        }
        try await cluster.client.patch(
            Deployment.self, namespace: "default", name: "web", .merge, ["spec": ["replicas": 5, "paused": true]])
        try await cluster.eventually("five while paused") {
            try await cluster.makeAllReady(); return try await cluster.list(Pod.self).count == 5
        }
        try await cluster.eventually("paused") {
            try await cluster.client.get(Deployment.self, namespace: "default", name: "web").status.conditions.contains {
                $0.reason == "DeploymentPaused"
            }
        }
        try await cluster.client.patch(
            Deployment.self, namespace: "default", name: "web", .merge,
            ["spec": ["replicas": 1, "paused": false, "revisionHistoryLimit": 0]])
        try await cluster.eventually("one") { try await cluster.list(Pod.self).count == 1 }
    }

    @Test("ReplicaSet should adopt matching pods on creation and release no longer matching pods")
    func adoption() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(
            cluster.object(
                Pod.self,
                #"{"metadata":{"name":"orphan","namespace":"default","labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"a"}]}}"#
            ))
        try await cluster.client.create(
            cluster.object(
                ReplicaSet.self,
                #"{"metadata":{"name":"rs","namespace":"default"},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"a"}]}}}}"#
            ))
        try await cluster.eventually("adopted") {
            try await cluster.client.get(Pod.self, namespace: "default", name: "orphan").metadata.controller?.name == "rs"
        }
        #expect(try await cluster.list(Pod.self).count == 1)
        try await cluster.client.patch(Pod.self, namespace: "default", name: "orphan", .merge, ["metadata": ["labels": ["app": "other"]]])
        try await cluster.eventually("released and replaced") {
            let orphan = try await cluster.client.get(Pod.self, namespace: "default", name: "orphan")
            return try await cluster.list(Pod.self).count == 2 && orphan.metadata.ownerReferences.isEmpty
        }
    }
}

@Suite("namespace, serviceaccount, root certificate")
struct NamespaceTests {
    @Test("Every namespace has a default service account and the cluster's root certificate, and is emptied when deleted")
    func namespace() async throws {
        let cluster = ClusterFixture(["namespace-controller", "serviceaccount-controller", "root-ca-certificate-publisher-controller"])
        var namespace = Namespace()
        namespace.metadata.name = "team"
        try await cluster.client.create(namespace)
        try await cluster.eventually("defaults") {
            let account = try await cluster.client.find(ServiceAccount.self, namespace: "team", name: "default")
            let map = try await cluster.client.find(ConfigMap.self, namespace: "team", name: "kube-root-ca.crt")
            return account != nil && map?.data["ca.crt"] == "PEM"
        }
        try await cluster.client.delete(ConfigMap.self, namespace: "team", name: "kube-root-ca.crt")
        try await cluster.eventually("made again") {
            try await cluster.client.find(ConfigMap.self, namespace: "team", name: "kube-root-ca.crt") != nil
        }
        try await cluster.client.delete(Namespace.self, name: "team")
        try await cluster.eventually("gone") { try await cluster.client.find(Namespace.self, name: "team") == nil }
        #expect(try await cluster.client.list(ConfigMap.self, namespace: "team").items.isEmpty)
        #expect(try await cluster.client.list(ServiceAccount.self, namespace: "team").items.isEmpty)
    }
}
