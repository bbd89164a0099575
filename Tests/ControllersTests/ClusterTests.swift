import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("garbage collection, daemonset, volumes, nodes, budgets, quotas")
struct ClusterControllerTests {
    private func owned(_ name: String, by owner: Pod, blocks: Bool = true) throws -> ConfigMap {
        var map = ConfigMap()
        map.metadata.name = name
        map.metadata.namespace = "default"
        var reference = owner.controllerReference
        reference.blockOwnerDeletion = blocks
        map.metadata.ownerReferences = [reference]
        return map
    }

    private func pod(_ cluster: ClusterFixture, _ name: String, node: String = "", extra: String = "") async throws -> Pod {
        try await cluster.client.create(
            cluster.object(
                Pod.self,
                #"{"metadata":{"name":"\#(name)","namespace":"default","labels":{"app":"x"}},"spec":{"nodeName":"\#(node)"\#(extra),"containers":[{"name":"c","image":"i"}]}}"#
            ))
    }

    private func node(_ cluster: ClusterFixture, _ name: String, labels: String = "{}", taints: String = "[]") async throws {
        try await cluster.client.create(
            cluster.object(
                Node.self,
                #"{"metadata":{"name":"\#(name)","labels":\#(labels)},"spec":{"taints":\#(taints)},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#
            ))
    }

    @Test("Garbage collector should delete dependents of an owner deleted in the background, and those of an owner that never was")
    func background() async throws {
        let cluster = ClusterFixture(["garbage-collector-controller"])
        let owner = try await pod(cluster, "owner")
        try await cluster.client.create(try owned("a", by: owner))
        try await Task.sleep(nanoseconds: 50_000_000)
        #expect(try await cluster.list(ConfigMap.self).count == 1)
        try await cluster.client.delete(Pod.self, namespace: "default", name: "owner", propagation: .background)
        try await cluster.eventually("gone") { try await cluster.list(ConfigMap.self).isEmpty }
        var ghost = owner
        ghost.metadata.uid = "no-such-uid"
        try await cluster.client.create(try owned("b", by: ghost))
        try await cluster.eventually("gone as well") { try await cluster.list(ConfigMap.self).isEmpty }
    }

    @Test("Garbage collector should keep the owner around until all its dependents are deleted if the deleteOptions says so")
    func foreground() async throws {
        let cluster = ClusterFixture(["garbage-collector-controller"])
        let owner = try await pod(cluster, "owner")
        var held = try owned("held", by: owner)
        held.metadata.finalizers = ["example.com/held"]
        try await cluster.client.create(held)
        try await Task.sleep(nanoseconds: 50_000_000)
        try await cluster.client.delete(Pod.self, namespace: "default", name: "owner", propagation: .foreground)
        try await cluster.eventually("the dependent is being deleted") {
            try await cluster.client.get(ConfigMap.self, namespace: "default", name: "held").metadata.isBeingDeleted
        }
        #expect(try await cluster.client.find(Pod.self, namespace: "default", name: "owner") != nil)
        try await cluster.client.patch(ConfigMap.self, namespace: "default", name: "held", .merge, ["metadata": ["finalizers": .null]])
        try await cluster.eventually("both gone") {
            let (pods, maps) = (try await cluster.list(Pod.self), try await cluster.list(ConfigMap.self))
            return pods.isEmpty && maps.isEmpty
        }
    }

    @Test("Garbage collector should orphan dependents if the deleteOptions says so")
    func orphan() async throws {
        let cluster = ClusterFixture(["garbage-collector-controller"])
        let owner = try await pod(cluster, "owner")
        try await cluster.client.create(try owned("a", by: owner))
        try await Task.sleep(nanoseconds: 50_000_000)
        try await cluster.client.delete(Pod.self, namespace: "default", name: "owner", propagation: .orphan)
        try await cluster.eventually("the owner goes") { try await cluster.list(Pod.self).isEmpty }
        try await Task.sleep(nanoseconds: 50_000_000)
        #expect(try await cluster.list(ConfigMap.self).first?.metadata.ownerReferences.isEmpty == true)
    }

    @Test("Garbage collector should not be blocked by dependency circle")
    func circle() async throws {
        let cluster = ClusterFixture(["garbage-collector-controller"])
        let a = try await pod(cluster, "a")
        let b = try await pod(cluster, "b")
        for (name, owner) in [("a", b), ("b", a)] {
            try await cluster.client.patch(
                Pod.self, namespace: "default", name: name, .merge, ["metadata": ["ownerReferences": [owner.controllerReference.json]]])
        }
        try await Task.sleep(nanoseconds: 50_000_000)
        try await cluster.client.delete(Pod.self, namespace: "default", name: "a", propagation: .foreground)
        try await cluster.eventually("both gone") { try await cluster.list(Pod.self).isEmpty }
    }

    @Test("Daemon set should run and stop a simple daemon on every node it fits, and update it in turn")
    func daemonSet() async throws {
        let cluster = ClusterFixture(["daemonset-controller"])
        for name in ["n1", "n2"] { try await node(cluster, name) }
        try await node(cluster, "n3", taints: #"[{"key":"k","effect":"NoSchedule"}]"#)
        try await cluster.client.create(
            cluster.object(
                DaemonSet.self,
                #"{"metadata":{"name":"d","namespace":"default"},"spec":{"selector":{"matchLabels":{"app":"d"}},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1,"maxSurge":0}},"template":{"metadata":{"labels":{"app":"d"}},"spec":{"containers":[{"name":"c","image":"a:1"}]}}}}"#
            ))
        func target(_ pod: Pod) -> String? {
            pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms.first?.matchFields.first?
                .values.first
        }
        try await cluster.eventually("a pod for each node that tolerates it") {
            Set(try await cluster.list(Pod.self).compactMap(target)) == ["n1", "n2"]
        }
        try await cluster.makeAllReady()
        try await cluster.eventually("status") {
            let status = try await cluster.client.get(DaemonSet.self, namespace: "default", name: "d").status
            return status.desiredNumberScheduled == 2 && status.numberReady == 2 && status.updatedNumberScheduled == 2
        }
        var set = try await cluster.client.get(DaemonSet.self, namespace: "default", name: "d")
        set.spec.template.spec.containers[0].image = "a:2"
        try await cluster.client.patch(
            DaemonSet.self, namespace: "default", name: "d", .merge, ["spec": ["template": set.spec.template.json]])
        try await cluster.eventually("updated") {
            let pods = try await cluster.list(Pod.self)
            #expect(pods.count(where: \.isReady) >= 0)
            try await cluster.makeAllReady()
            return pods.count == 2 && pods.allSatisfy { $0.spec.containers.first?.image == "a:2" }
        }
        #expect(try await cluster.list(ControllerRevision.self).count == 2)
        try await cluster.client.delete(Node.self, name: "n2")
    }

    @Test("A claim of the default class gets a volume on the node its pod was given, and the volume goes with it")
    func volumes() async throws {
        let cluster = ClusterFixture(
            ["persistentvolume-binder-controller", "local-path-provisioner", "persistentvolumeclaim-protection-controller"],
            options: { $0.localPathFolder = { "/volumes/\($0)" } })
        try await node(cluster, "n1", labels: #"{"kubernetes.io/hostname":"n1","martlet.dev/simulated":"true"}"#)
        try await cluster.eventually("the class") { try await cluster.client.find(StorageClass.self, name: "local-path") != nil }
        try await cluster.client.create(
            cluster.object(
                PersistentVolumeClaim.self,
                #"{"metadata":{"name":"data","namespace":"default"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}"#
            ))
        try await cluster.eventually("the default class") {
            try await cluster.client.get(PersistentVolumeClaim.self, namespace: "default", name: "data").spec.storageClassName
                == "local-path"
        }
        #expect(try await cluster.list(PersistentVolume.self).isEmpty)
        try await cluster.client.patch(
            PersistentVolumeClaim.self, namespace: "default", name: "data", .merge,
            ["metadata": ["annotations": ["volume.kubernetes.io/selected-node": "n1"]]])
        try await cluster.eventually("bound") {
            try await cluster.client.get(PersistentVolumeClaim.self, namespace: "default", name: "data").status.phase == "Bound"
        }
        let claim = try await cluster.client.get(PersistentVolumeClaim.self, namespace: "default", name: "data")
        let volume = try await cluster.client.get(PersistentVolume.self, name: "pvc-\(claim.metadata.uid)")
        #expect(volume.status.phase == "Bound")
        #expect(volume.spec.hostPath?.path == "/volumes/n1/pvc-\(claim.metadata.uid)_default_data")
        #expect(claim.status.capacity["storage"]?.text == "1Gi")
        try await cluster.eventually("protected") {
            try await cluster.client.get(PersistentVolumeClaim.self, namespace: "default", name: "data").metadata.finalizers == [
                "kubernetes.io/pvc-protection"
            ]
        }
        try await cluster.client.delete(PersistentVolumeClaim.self, namespace: "default", name: "data")
        try await cluster.eventually("all gone") {
            let (claims, volumes) = (try await cluster.list(PersistentVolumeClaim.self), try await cluster.list(PersistentVolume.self))
            return claims.isEmpty && volumes.isEmpty
        }
    }

    @Test("A retained volume is bound by size and class, and released when its claim goes")
    func staticVolumes() async throws {
        let cluster = ClusterFixture(["persistentvolume-binder-controller"])
        for (name, size) in [("large", "10Gi"), ("small", "2Gi")] {
            try await cluster.client.create(
                cluster.object(
                    PersistentVolume.self,
                    #"{"metadata":{"name":"\#(name)"},"spec":{"capacity":{"storage":"\#(size)"},"accessModes":["ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Retain","storageClassName":"manual","hostPath":{"path":"/x"}}}"#
                ))
        }
        try await cluster.eventually("available") {
            try await cluster.list(PersistentVolume.self).allSatisfy { $0.status.phase == "Available" }
        }
        try await cluster.client.create(
            cluster.object(
                PersistentVolumeClaim.self,
                #"{"metadata":{"name":"c","namespace":"default"},"spec":{"storageClassName":"manual","accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}"#
            ))
        try await cluster.eventually("bound to the smaller") {
            let claim = try await cluster.client.get(PersistentVolumeClaim.self, namespace: "default", name: "c")
            return claim.spec.volumeName == "small" && claim.status.phase == "Bound"
        }
        try await cluster.client.delete(PersistentVolumeClaim.self, namespace: "default", name: "c")
        try await cluster.eventually("released") {
            try await cluster.client.get(PersistentVolume.self, name: "small").status.phase == "Released"
        }
    }

    @Test("A silent node becomes unknown and tainted, and its pods go when they no longer tolerate that")
    func silentNode() async throws {
        let cluster = ClusterFixture(
            ["node-lifecycle-controller", "taint-eviction-controller"],
            options: {
                $0.nodeMonitorGraceSeconds = 0.2
                $0.nodeMonitorPeriodSeconds = 0.05
            })
        try await node(cluster, "n1")
        let unreachable =
            #","terminationGracePeriodSeconds":0,"tolerations":[{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":0}]"#
        _ = try await pod(cluster, "p", node: "n1", extra: unreachable)
        try await cluster.makeAllReady()
        try await cluster.eventually("unknown") {
            let ready = try await cluster.client.get(Node.self, name: "n1").status.conditions.first { $0.type == "Ready" }
            return ready?.status == "Unknown" && ready?.reason == "NodeStatusUnknown"
                && ready?.message == "Kubelet stopped posting node status."
        }
        try await cluster.eventually("tainted") {
            Set(try await cluster.client.get(Node.self, name: "n1").spec.taints.map { "\($0.key):\($0.effect)" })
                == ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
        }
        try await cluster.eventually("the pod goes") { try await cluster.list(Pod.self).isEmpty }
    }

    @Test(
        "NoExecuteTaintManager evicts pods with finite tolerations once they are over, also when the taint does not say since when it is there"
    )
    func taintEviction() async throws {
        let cluster = ClusterFixture(["taint-eviction-controller"])
        try await node(cluster, "n1")
        func toleration(_ seconds: String) -> String {
            #","terminationGracePeriodSeconds":0,"tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute"\#(seconds)}]"#
        }
        _ = try await pod(cluster, "forever", node: "n1", extra: toleration(""))
        _ = try await pod(cluster, "one", node: "n1", extra: toleration(#","tolerationSeconds":1"#))
        _ = try await pod(cluster, "none", node: "n1", extra: #","terminationGracePeriodSeconds":0"#)
        try await cluster.client.patch(
            Node.self, name: "n1", .merge, ["spec": ["taints": [["key": "k", "value": "v", "effect": "NoExecute"]]]])
        try await cluster.eventually("the intolerant goes") { try await cluster.list(Pod.self).map(\.metadata.name) == ["forever", "one"] }
        // A look in between must not start the time anew.
        try await cluster.client.patch(Pod.self, namespace: "default", name: "one", .merge, ["metadata": ["labels": ["a": "b"]]])
        try await cluster.eventually("the patient one goes too", seconds: 5) {
            try await cluster.list(Pod.self).map(\.metadata.name) == ["forever"]
        }
    }

    @Test("Every node gets a range of its own")
    func ranges() async throws {
        let cluster = ClusterFixture(["node-ipam-controller"], options: { $0.clusterCIDR = "10.42.0.0/16" })
        for index in 0..<5 { try await node(cluster, "n\(index)") }
        try await cluster.eventually("ranges") {
            Set(try await cluster.list(Node.self).compactMap(\.spec.podCIDR)) == Set((0..<5).map { "10.42.\($0).0/24" })
        }
    }

    @Test("DisruptionController should observe PodDisruptionBudget status updated")
    func budget() async throws {
        let cluster = ClusterFixture(["disruption-controller"])
        try await cluster.client.create(
            cluster.object(
                PodDisruptionBudget.self,
                #"{"metadata":{"name":"b","namespace":"default"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"x"}}}}"#))
        for name in ["a", "b", "c"] { _ = try await pod(cluster, name, node: "n") }
        try await cluster.makeAllReady()
        try await cluster.eventually("two may go") {
            let status = try await cluster.client.get(PodDisruptionBudget.self, namespace: "default", name: "b").status
            return status.disruptionsAllowed == 2 && status.currentHealthy == 3 && status.expectedPods == 3
                && status.conditions.first?.reason == "SufficientPods"
        }
    }

    @Test("ResourceQuota should capture the life of a pod")
    func quota() async throws {
        let cluster = ClusterFixture(["resourcequota-controller"])
        try await cluster.client.create(
            cluster.object(
                ResourceQuota.self,
                #"{"metadata":{"name":"q","namespace":"default"},"spec":{"hard":{"pods":"5","configmaps":"3","requests.cpu":"1"}}}"#))
        func used(_ name: String) async throws -> String? {
            try await cluster.client.get(ResourceQuota.self, namespace: "default", name: "q").status.used[name]?.text
        }
        try await cluster.eventually("nothing used") { try await used("pods") == "0" }
        _ = try await pod(cluster, "p", node: "")
        // Admission charges; here a change of the quota makes the controller count.
        try await cluster.client.patch(ResourceQuota.self, namespace: "default", name: "q", .merge, ["spec": ["hard": ["pods": "6"]]])
        try await cluster.eventually("one used") { try await used("pods") == "1" }
        try await cluster.client.delete(Pod.self, namespace: "default", name: "p", gracePeriodSeconds: 0)
        try await cluster.eventually("given back") { try await used("pods") == "0" }
    }
}
