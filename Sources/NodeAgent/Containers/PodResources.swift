package import Cgroup
package import KubeMeta
package import KubeTypes

/// Requests and limits as the kernel takes them.
package enum PodResources {
    package static let sharesMin: Int64 = 2
    package static let quotaMicrosecondsMin: Int64 = 1000
    package static let periodMicroseconds: Int64 = 100_000

    package static func shares(milliCPU: Int64) -> Int64 { milliCPU == 0 ? sharesMin : min(262_144, max(sharesMin, milliCPU * 1024 / 1000)) }
    package static func quota(milliCPU: Int64) -> Int64 { milliCPU == 0 ? 0 : max(quotaMicrosecondsMin, milliCPU * periodMicroseconds / 1000) }

    /// A request that is not given is the limit.
    package static func request(_ container: Container, _ resource: String) -> Quantity {
        container.resources?.requests[resource] ?? container.resources?.limits[resource] ?? .zero
    }

    package static func limit(_ container: Container, _ resource: String) -> Quantity? {
        container.resources?.limits[resource].flatMap { $0 == .zero ? nil : $0 }
    }

    /// What the pod asks for: the larger of all that runs at once and of each init container with the sidecars before it, plus overhead.
    package static func request(_ pod: Pod, _ resource: String) -> Quantity {
        if let own = pod.spec.resources?.requests[resource] { return own + (pod.spec.overhead[resource] ?? .zero) }
        return total(pod, { request($0, resource) }) + (pod.spec.overhead[resource] ?? .zero)
    }

    private static func total(_ pod: Pod, _ amount: (Container) -> Quantity) -> Quantity {
        var sidecars = Quantity.zero
        var initMost = Quantity.zero
        for container in pod.spec.initContainers {
            if container.isSidecar {
                sidecars += amount(container)
                initMost = max(initMost, sidecars)
            } else {
                initMost = max(initMost, sidecars + amount(container))
            }
        }
        return max(initMost, pod.spec.containers.map(amount).sum + sidecars)
    }

    /// Limits of the pod's own cgroup. A container without a limit leaves the pod without one.
    package static func podLimits(_ pod: Pod) -> CgroupLimits {
        var limits = CgroupLimits(cpuShares: shares(milliCPU: request(pod, "cpu").milliValue))
        let running = pod.spec.containers + pod.spec.initContainers
        if pod.spec.resources?.limits["cpu"] != nil || running.allSatisfy({ limit($0, "cpu") != nil }) {
            let cpu = pod.spec.resources?.limits["cpu"] ?? total(pod) { limit($0, "cpu") ?? .zero }
            limits.cpuQuotaMicroseconds = quota(milliCPU: cpu.milliValue)
        }
        if pod.spec.resources?.limits["memory"] != nil || running.allSatisfy({ limit($0, "memory") != nil }) {
            limits.memoryBytesMax = (pod.spec.resources?.limits["memory"] ?? total(pod) { limit($0, "memory") ?? .zero }).value
        }
        return limits
    }

    package static func cgroupParent(_ pod: Pod, root: String) -> String {
        switch pod.qualityOfService {
        case .guaranteed: "\(root)/pod\(pod.metadata.uid)"
        case .burstable: "\(root)/burstable/pod\(pod.metadata.uid)"
        case .bestEffort: "\(root)/besteffort/pod\(pod.metadata.uid)"
        }
    }

    /// Who is killed first when memory runs out (upstream's formula).
    package static func oomScoreAdjust(_ pod: Pod, _ container: Container, memoryCapacityBytes: Int64) -> Int64 {
        if pod.isCritical { return -997 }
        switch pod.qualityOfService {
        case .guaranteed: return -997
        case .bestEffort: return 1000
        case .burstable:
            let request = request(container, "memory").value
            let score = memoryCapacityBytes > 0 ? 1000 - Int64(Double(request) * 1000 / Double(memoryCapacityBytes)) : 999
            // Never as safe as guaranteed, never as doomed as best effort.
            if score < 3 { return 3 }
            return min(score, 999)
        }
    }
}
