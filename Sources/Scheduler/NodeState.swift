import KubeMeta
import KubeTypes

/// A node as the scheduler sees it, with the pods on it and those about to be. Owned by the scheduling loop; changed in place.
final class NodeState {
    let name: String
    /// Its position in all per-node arrays.
    let slot: Int
    var labels: [String: String] = [:]
    var taints: [Taint] = []
    var isUnschedulable = false
    var allocatable = ResourceAmounts()
    var podsMax = 0
    var pods: [String: PodInfo] = [:]
    var used = ResourceAmounts()
    var scoredMilliCPU: Int64 = 0
    var scoredMemoryBytes: Int64 = 0
    var hostPorts: [HostPort] = []

    init(name: String, slot: Int) {
        self.name = name
        self.slot = slot
    }

    /// Takes over the node's own properties; true when something changed that can make a pod fit.
    func update(_ node: Node) -> Bool {
        let amounts = ResourceAmounts(node.status.allocatable)
        let pods = Int(node.status.allocatable["pods"]?.value ?? 0)
        let newTaints = node.spec.taints
        let unschedulable = node.spec.unschedulable ?? false
        let changed =
            amounts != allocatable || pods != podsMax || labels != node.metadata.labels || unschedulable != isUnschedulable
            || newTaints.map { "\($0.key)=\($0.value ?? ""):\($0.effect)" } != taints.map { "\($0.key)=\($0.value ?? ""):\($0.effect)" }
        allocatable = amounts
        podsMax = pods
        labels = node.metadata.labels
        taints = newTaints
        isUnschedulable = unschedulable
        return changed
    }

    func add(_ pod: PodInfo) {
        pods[pod.uid] = pod
        used += pod.requests
        scoredMilliCPU += pod.scoredMilliCPU
        scoredMemoryBytes += pod.scoredMemoryBytes
        if !pod.hostPorts.isEmpty { hostPorts += pod.hostPorts }
    }

    func remove(_ uid: String) -> PodInfo? {
        guard let pod = pods.removeValue(forKey: uid) else { return nil }
        used -= pod.requests
        scoredMilliCPU -= pod.scoredMilliCPU
        scoredMemoryBytes -= pod.scoredMemoryBytes
        for port in pod.hostPorts { if let index = hostPorts.firstIndex(of: port) { hostPorts.remove(at: index) } }
        return pod
    }
}
