import Glibc
import KubeMeta
import KubeTypes

/// What this machine is: read once at start.
struct NodeFacts: Sendable {
    var cpus: Int
    var memoryBytes: Int64
    var ephemeralStorageBytes: UInt64
    var podsMax: Int
    var info: NodeSystemInfo
    var bootID: String

    static let evictionReserveBytes: Int64 = 100 << 20

    static func read(_ configuration: NodeAgentConfiguration) -> NodeFacts {
        var memory: Int64 = 0
        for line in Files.readText("/proc/meminfo").split(separator: "\n") where line.hasPrefix("MemTotal:") {
            memory = (line.split(separator: " ").dropFirst().first.flatMap { Int64($0) } ?? 0) * 1024
        }
        var name = utsname()
        uname(&name)
        func text<Value>(_ value: Value) -> String { withUnsafeBytes(of: value) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
        var info = NodeSystemInfo()
        info.kernelVersion = text(name.release)
        info.architecture = architecture(text(name.machine))
        info.operatingSystem = "linux"
        info.kubeletVersion = configuration.kubeletVersion
        // Deprecated; upstream still fills it with the kubelet's version.
        info.kubeProxyVersion = configuration.kubeletVersion
        info.machineID = line("/etc/machine-id")
        info.systemUUID = line("/sys/class/dmi/id/product_uuid")
        info.bootID = line("/proc/sys/kernel/random/boot_id")
        if info.machineID.isEmpty { info.machineID = info.bootID.filter { $0 != "-" } }
        if info.systemUUID.isEmpty { info.systemUUID = info.machineID }
        info.osImage = "Linux"
        for line in Files.readText("/etc/os-release").split(separator: "\n") where line.hasPrefix("PRETTY_NAME=") {
            info.osImage = String(line.dropFirst("PRETTY_NAME=".count).filter { $0 != "\"" })
        }
        try? Files.makeDirectories(configuration.rootDirectory)
        let space = Files.space(configuration.rootDirectory)
        return NodeFacts(
            cpus: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))), memoryBytes: memory, ephemeralStorageBytes: space?.capacityBytes ?? 0,
            podsMax: configuration.podsMax, info: info, bootID: info.bootID)
    }

    private static func line(_ path: String) -> String { String(Files.readText(path).prefix { $0 != "\n" }) }

    private static func architecture(_ machine: String) -> String {
        switch machine {
        case "x86_64": "amd64"
        case "aarch64": "arm64"
        default: machine
        }
    }

    var capacity: [String: Quantity] {
        [
            "cpu": Quantity(Int64(cpus)), "memory": Quantity(memoryBytes / 1024 * 1024, format: .binarySI), "pods": Quantity(Int64(podsMax)),
            "ephemeral-storage": Quantity(Int64(ephemeralStorageBytes) / 1024 * 1024, format: .binarySI),
            "hugepages-1Gi": .zero, "hugepages-2Mi": .zero,
        ]
    }

    /// Capacity less what eviction keeps free.
    var allocatable: [String: Quantity] {
        var result = capacity
        result["memory"] = Quantity(max(0, memoryBytes - Self.evictionReserveBytes) / 1024 * 1024, format: .binarySI)
        result["ephemeral-storage"] = Quantity(Int64(Double(ephemeralStorageBytes) * 0.9))
        return result
    }
}
