import CRI
import Cgroup
import KubeClient
import KubeMeta
import KubeTypes

/// Changed requests and limits of running containers (KEP-1287): applied in place, or by a restart where the container's policy wants one.
extension PodWorker {
    /// True when a container was ended to be started again.
    func resize() async throws -> Bool {
        var changed: [(container: Container, record: ContainerRecord)] = []
        for container in pod.spec.containers + pod.spec.initContainers.filter(\.isSidecar) {
            guard let record = runtime.newest(container.name), record.state == .running else { continue }
            let wanted = container.resources ?? ResourceRequirements()
            if let have = applied[record.id], have.json == wanted.json { continue }
            if applied[record.id] == nil {
                // Started by an earlier agent: what the status says was applied then.
                let status = (pod.status.containerStatuses + pod.status.initContainerStatuses).first { $0.name == container.name }
                applied[record.id] = status?.resources ?? wanted
                if applied[record.id]?.json == wanted.json { continue }
            }
            changed.append((container, record))
        }
        if changed.isEmpty {
            resizeProblem = nil
            return false
        }
        for resource in ["cpu", "memory"] {
            let request = PodResources.request(pod, resource), room = context.facts.allocatable[resource] ?? .zero
            if request > room {
                let (asked, capacity) = resource == "cpu" ? (request.milliValue, room.milliValue) : (request.value, room.value)
                let problem = "Node didn't have enough capacity: \(resource), requested: \(asked), capacity: \(capacity)"
                if resizeProblem != problem { context.event(.warning, pod, reason: "ResizeInfeasible", problem) }
                resizeProblem = problem
                return false
            }
        }
        resizeProblem = nil
        // A pod that grows needs room before its containers, one that shrinks gives it back after them.
        let limits = PodResources.podLimits(pod)
        let path = PodResources.cgroupParent(pod, root: context.configuration.cgroupRoot)
        let cgroups = context.cgroups
        _ = try? await Blocking.run { try cgroups?.apply(limits, to: path) }
        var restarted = false
        for (container, record) in changed {
            if Self.needsRestart(container, applied[record.id] ?? ResourceRequirements()) {
                try await ContainerKiller(context: context, pod: pod, addresses: addresses).kill(
                    record, container: container, message: "Container \(container.name) resize requires restart", graceSeconds: pod.gracePeriodSeconds)
                forgetProbes(record.id)
                restarted = true
            } else {
                try await context.runtime.updateContainerResources(record.id, linux: PodResources.linux(pod, container, context))
            }
            applied[record.id] = container.resources ?? ResourceRequirements()
        }
        _ = try? await Blocking.run { try cgroups?.apply(limits, to: path) }
        applied = applied.filter { id, _ in runtime.containers.contains { $0.id == id } }
        return restarted
    }

    static func needsRestart(_ container: Container, _ old: ResourceRequirements) -> Bool {
        let new = container.resources ?? ResourceRequirements()
        return container.resizePolicy.contains { policy in
            policy.restartPolicy == "RestartContainer"
                && (old.requests[policy.resourceName] != new.requests[policy.resourceName] || old.limits[policy.resourceName] != new.limits[policy.resourceName])
        }
    }

    /// What the status shows of each container's resources: what is in force, not what is wished.
    var resourcesInForce: [String: ResourceRequirements] {
        var result: [String: ResourceRequirements] = [:]
        for record in runtime.running { result[record.name] = applied[record.id] }
        return result
    }
}

extension PodResources {
    /// A container's limits as the runtime takes them.
    static func linux(_ pod: Pod, _ container: Container, _ context: AgentContext) -> CRILinuxContainerResources {
        var result = CRILinuxContainerResources()
        result.cpuShares = shares(milliCPU: request(container, "cpu").milliValue)
        if let cpu = limit(container, "cpu") ?? pod.spec.resources?.limits["cpu"] {
            result.cpuPeriod = periodMicroseconds
            result.cpuQuota = quota(milliCPU: cpu.milliValue)
        }
        if let memory = limit(container, "memory") ?? pod.spec.resources?.limits["memory"] { result.memoryLimitInBytes = memory.value }
        result.oomScoreAdj = oomScoreAdjust(pod, container, memoryCapacityBytes: context.facts.memoryBytes)
        if context.cgroups?.version == .v2 { result.unified = ["memory.oom.group": "1"] }
        return result
    }
}
