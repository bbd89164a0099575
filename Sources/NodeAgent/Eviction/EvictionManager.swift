import KubeClient
import CRI
import Cgroup
import Glibc
import KubeMeta
import KubeTypes

/// Watches memory, disk and process ids, sets the node's pressure conditions, and ends pods when a threshold is passed.
actor EvictionManager {
    /// One pod's use of what is short.
    struct Candidate: Sendable {
        var worker: PodWorker
        var pod: Pod
        var usage: Double
        var request: Double
        var containers: [(name: String, usage: Double, request: Double)] = []
    }

    /// A signal below its threshold.
    struct Shortage: Equatable, Sendable {
        var resource: String
        var threshold: String
        var available: String
    }

    private let context: AgentContext
    private let manager: PodManager
    private let pressure: NodePressure
    private let onChange: @Sendable () -> Void
    private var lastMet: [String: Double] = [:]

    init(context: AgentContext, manager: PodManager, pressure: NodePressure, onChange: @escaping @Sendable () -> Void) {
        self.context = context
        self.manager = manager
        self.pressure = pressure
        self.onChange = onChange
    }

    func run() async {
        guard context.configuration.eviction.isEnabled else { return }
        while !Task.isCancelled {
            await context.gate.pass()
            await look()
            if (try? await context.time.sleep(seconds: context.configuration.eviction.periodSeconds)) == nil { return }
        }
    }

    private func look() async {
        let now = context.time.now()
        let shortages = await shortages()
        for shortage in shortages { lastMet[shortage.resource] = now }
        let hold = context.configuration.eviction.pressureTransitionSeconds
        func pressed(_ resources: String...) -> Bool { resources.contains { name in lastMet[name].map { now - $0 < hold } ?? false } }
        if pressure.set(.init(memory: pressed("memory"), disk: pressed("ephemeral-storage", "inodes"), pid: pressed("pids"))) { onChange() }
        await evictOverLimits()
        guard let shortage = shortages.first else { return }
        context.nodeEvent(.warning, reason: "EvictionThresholdMet", "Attempting to reclaim \(shortage.resource)")
        await evictOne(shortage)
    }

    // MARK: signals

    private func shortages() async -> [Shortage] {
        let configuration = context.configuration
        let limits = configuration.eviction
        let cgroups = context.cgroups
        let node = Self.parent(configuration.cgroupRoot)
        return (try? await Blocking.run { () -> [Shortage] in
            var result: [Shortage] = []
            var available = Self.memoryAvailable()
            if let usage = try? cgroups?.usage(of: node), let limit = usage.memoryLimitBytes {
                available = min(available ?? .max, limit > usage.workingSetBytes ? limit - usage.workingSetBytes : 0)
            }
            if let available, available < limits.memoryAvailableBytesMin {
                result.append(Shortage(resource: "memory", threshold: Self.bytes(limits.memoryAvailableBytesMin), available: Self.bytes(available)))
            }
            if let space = Files.space(configuration.rootDirectory) {
                if Double(space.availableBytes) < Double(space.capacityBytes) * limits.nodefsAvailableMin {
                    let threshold = UInt64(Double(space.capacityBytes) * limits.nodefsAvailableMin)
                    result.append(Shortage(resource: "ephemeral-storage", threshold: Self.bytes(threshold), available: Self.bytes(space.availableBytes)))
                }
                if space.inodes > 0, Double(space.inodesFree) < Double(space.inodes) * limits.nodefsInodesFreeMin {
                    let threshold = Int(Double(space.inodes) * limits.nodefsInodesFreeMin)
                    result.append(Shortage(resource: "inodes", threshold: "\(threshold)", available: "\(space.inodesFree)"))
                }
            }
            return result
        }) ?? []
    }

    private static func memoryAvailable() -> UInt64? {
        for line in Files.readText("/proc/meminfo").split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            return line.split(separator: " ").dropFirst().first.flatMap { UInt64($0) }.map { $0 * 1024 }
        }
        return nil
    }

    static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    static func bytes(_ value: UInt64) -> String { Quantity(Int64(clamping: value / 1024 * 1024), format: .binarySI).text }

    // MARK: who goes

    /// Over their request first, then the lower priority, then the larger excess (upstream's order). Critical pods stay.
    static func ranked(_ candidates: [Candidate]) -> [Candidate] {
        candidates.filter { !$0.pod.isCritical }.sorted { left, right in
            let overLeft = left.usage > left.request, overRight = right.usage > right.request
            if overLeft != overRight { return overLeft }
            let priorityLeft = left.pod.spec.priority ?? 0, priorityRight = right.pod.spec.priority ?? 0
            if priorityLeft != priorityRight { return priorityLeft < priorityRight }
            return left.usage - left.request > right.usage - right.request
        }
    }

    private func evictOne(_ shortage: Shortage) async {
        var candidates: [Candidate] = []
        let isMemory = shortage.resource == "memory"
        for worker in await manager.allWorkers {
            let (pod, runtime, phase) = await worker.snapshot
            guard phase == .running else { continue }
            let request = Double(PodResources.request(pod, isMemory ? "memory" : "ephemeral-storage").value)
            var candidate = Candidate(worker: worker, pod: pod, usage: 0, request: request)
            for record in runtime.running {
                let used = await usage(pod, record, isMemory)
                candidate.usage += used
                let wanted = pod.container(named: record.name).map { PodResources.request($0, isMemory ? "memory" : "ephemeral-storage").value } ?? 0
                candidate.containers.append((record.name, used, Double(wanted)))
            }
            if !isMemory { candidate.usage += await diskUsage("\(context.podDirectory(pod.metadata.uid))/volumes/kubernetes.io~empty-dir") }
            candidates.append(candidate)
        }
        guard let victim = Self.ranked(candidates).first else { return }
        var message = "The node was low on resource: \(shortage.resource). Threshold quantity: \(shortage.threshold), available: \(shortage.available). "
        for container in victim.containers where container.usage > container.request {
            let used = Self.bytes(UInt64(container.usage)), wanted = Self.bytes(UInt64(container.request))
            message += "Container \(container.name) was using \(used), request is \(wanted), has larger consumption of \(shortage.resource). "
        }
        await evict(victim.worker, victim.pod, message, graceSeconds: 0)
    }

    private func evict(_ worker: PodWorker, _ pod: Pod, _ message: String, graceSeconds: Int) async {
        context.event(.warning, pod, reason: "Evicted", message)
        await worker.fail(reason: "Evicted", message: message, graceSeconds: graceSeconds)
    }

    private func usage(_ pod: Pod, _ record: ContainerRecord, _ isMemory: Bool) async -> Double {
        if isMemory {
            guard let cgroups = context.cgroups else { return 0 }
            let path = "\(PodResources.cgroupParent(pod, root: context.configuration.cgroupRoot))/\(record.id)"
            return ((try? await Blocking.run { try cgroups.usage(of: path).workingSetBytes }).map(Double.init)) ?? 0
        }
        let writable = (try? await context.runtime.containerStats(record.id))?.writableLayer.usedBytes.value ?? 0
        return await Double(writable) + diskUsage("\(context.podLogDirectory(pod))/\(record.name)")
    }

    private func diskUsage(_ path: String) async -> Double { (try? await Blocking.run { Self.treeBytes(path) }) ?? 0 }

    private static func treeBytes(_ path: String) -> Double {
        var info = stat()
        guard lstat(path, &info) == 0 else { return 0 }
        var sum = Double(info.st_blocks) * 512
        if info.st_mode & S_IFMT == S_IFDIR { for name in Files.list(path) { sum += treeBytes(path + "/" + name) } }
        return sum
    }

    // MARK: pods over limits of their own

    private func evictOverLimits() async {
        for worker in await manager.allWorkers {
            let (pod, runtime, phase) = await worker.snapshot
            guard phase == .running else { continue }
            for volume in pod.spec.volumes {
                guard let source = volume.emptyDir, source.medium != "Memory", let limit = source.sizeLimit, limit.value > 0 else { continue }
                let used = await diskUsage("\(context.podDirectory(pod.metadata.uid))/volumes/kubernetes.io~empty-dir/\(volume.name)")
                if used > Double(limit.value) {
                    await evict(worker, pod, "Usage of EmptyDir volume \"\(volume.name)\" exceeds the limit \"\(limit.text)\". ", graceSeconds: 1)
                }
            }
            for container in pod.spec.containers {
                guard let limit = PodResources.limit(container, "ephemeral-storage"), let record = runtime.newest(container.name), record.state == .running
                else { continue }
                if await usage(pod, record, false) > Double(limit.value) {
                    await evict(
                        worker, pod, "Container \(container.name) exceeded its local ephemeral storage limit \"\(limit.text)\". ", graceSeconds: 1)
                }
            }
        }
    }
}
