import KubeMeta
import KubeTypes

/// The description of one node that exists only in the API: 32 CPUs, 256 GiB, 110 pods.
struct SimulatedNode: Sendable {
    static let kubeletVersion = "v1.36.2"
    static let leaseSeconds = 40

    let name: String
    let index: Int

    /// An address of its own in 10.128.0.0/9, which no pod range below uses.
    var address: String { "10.\(128 + index / 65_536 % 128).\(index / 256 % 256).\(index % 256)" }
    /// Where its pods' addresses come from when the node has no range assigned.
    var podNetwork: String { "10.\(64 + index / 256 % 64).\(index % 256)" }

    func conditions(now: String) -> [NodeCondition] {
        [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ].map { type, status, reason, message in
            var condition = NodeCondition()
            condition.type = type
            condition.status = status
            condition.reason = reason
            condition.message = message
            condition.lastHeartbeatTime = now
            condition.lastTransitionTime = now
            return condition
        }
    }

    func object(now: String) -> Node {
        var node = Node()
        node.metadata.name = name
        node.metadata.labels = [
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", "martlet.dev/simulated": "true",
        ]
        node.status = status(now: now)
        return node
    }

    func status(now: String) -> NodeStatus {
        var status = NodeStatus()
        status.capacity = [
            "cpu": Quantity(32), "memory": Quantity(256 << 30, format: .binarySI), "pods": Quantity(110),
            "ephemeral-storage": Quantity(1 << 40, format: .binarySI),
        ]
        status.allocatable = status.capacity
        status.conditions = conditions(now: now)
        var address = NodeAddress()
        address.type = "InternalIP"
        address.address = self.address
        var hostname = NodeAddress()
        hostname.type = "Hostname"
        hostname.address = name
        status.addresses = [address, hostname]
        var info = NodeSystemInfo()
        info.architecture = "amd64"
        info.operatingSystem = "linux"
        info.kubeletVersion = Self.kubeletVersion
        info.containerRuntimeVersion = "simulated://1"
        info.osImage = "simulated"
        info.kernelVersion = "simulated"
        info.machineID = name
        info.systemUUID = name
        info.bootID = name
        status.nodeInfo = info
        return status
    }
}
