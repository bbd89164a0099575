import Cgroup
import JSON
import KubeMeta
import KubeTypes

/// `/stats/summary`, `/metrics/resource` and `/metrics`, from cgroups: a container's is `POD/CONTAINER-ID`, a node's is above all pods.
actor NodeStatistics {
    private struct Sample {
        var seconds: Double
        var cpuNanoseconds: UInt64
        var rate: UInt64
    }
    private struct Measured: Sendable {
        var path: String
        var usage: CgroupUsage
    }

    /// Shorter intervals say nothing about a rate.
    private static let sampleSecondsMin = 1.0
    private let context: AgentContext
    private let manager: PodManager
    private var samples: [String: Sample] = [:]

    init(context: AgentContext, manager: PodManager) {
        self.context = context
        self.manager = manager
    }

    private var nodeCgroup: String {
        let root = context.configuration.cgroupRoot
        guard let slash = root.lastIndex(of: "/"), slash != root.startIndex else { return "/" }
        return String(root[..<slash])
    }

    private func measure(_ paths: [String]) async -> [String: CgroupUsage] {
        guard let cgroups = context.cgroups else { return [:] }
        let measured = try? await Blocking.run { () -> [Measured] in
            paths.compactMap { path in (try? cgroups.usage(of: path)).map { Measured(path: path, usage: $0) } }
        }
        return Dictionary((measured ?? []).map { ($0.path, $0.usage) }, uniquingKeysWith: { $1 })
    }

    private func cpu(_ path: String, _ usage: CgroupUsage, _ now: Double) -> JSON {
        var rate = samples[path]?.rate ?? 0
        if let old = samples[path] {
            if now - old.seconds >= Self.sampleSecondsMin {
                rate = UInt64(Double(usage.cpuNanoseconds &- min(old.cpuNanoseconds, usage.cpuNanoseconds)) / (now - old.seconds))
                samples[path] = Sample(seconds: now, cpuNanoseconds: usage.cpuNanoseconds, rate: rate)
            }
        } else {
            samples[path] = Sample(seconds: now, cpuNanoseconds: usage.cpuNanoseconds, rate: 0)
        }
        return ["time": .string(KubeTime.text(now)), "usageNanoCores": number(rate), "usageCoreNanoSeconds": number(usage.cpuNanoseconds)]
    }

    private func number(_ value: UInt64) -> JSON { .int(Int64(clamping: value)) }

    private func memory(_ usage: CgroupUsage, _ now: Double, capacity: UInt64?) -> JSON {
        var result: JSON = ["time": .string(KubeTime.text(now))]
        if let limit = usage.memoryLimitBytes ?? capacity { result["availableBytes"] = number(limit > usage.workingSetBytes ? limit - usage.workingSetBytes : 0) }
        result["usageBytes"] = number(usage.memoryBytes)
        result["workingSetBytes"] = number(usage.workingSetBytes)
        result["rssBytes"] = number(usage.residentBytes)
        result["pageFaults"] = number(usage.pageFaults)
        result["majorPageFaults"] = number(usage.majorPageFaults)
        return result
    }

    private func filesystem(_ path: String, _ now: Double) async -> JSON {
        guard let space = (try? await Blocking.run { Files.space(path) }) ?? nil else { return [:] }
        return [
            "time": .string(KubeTime.text(now)), "availableBytes": number(space.availableBytes), "capacityBytes": number(space.capacityBytes),
            "usedBytes": number(space.usedBytes), "inodesFree": number(space.inodesFree), "inodes": number(space.inodes),
            "inodesUsed": number(space.inodes - min(space.inodes, space.inodesFree)),
        ]
    }

    private struct PodView: Sendable {
        var pod: Pod
        var cgroup: String
        var containers: [ContainerRecord]
    }

    private func pods() async -> [PodView] {
        var result: [PodView] = []
        for worker in await manager.allWorkers {
            let (pod, runtime, phase) = await worker.snapshot
            guard phase != .terminated else { continue }
            result.append(PodView(pod: pod, cgroup: PodResources.cgroupParent(pod, root: context.configuration.cgroupRoot), containers: runtime.running))
        }
        return result
    }

    func summary() async -> JSON {
        let now = context.time.now()
        let pods = await pods()
        let paths = [nodeCgroup] + pods.flatMap { view in [view.cgroup] + view.containers.map { "\(view.cgroup)/\($0.id)" } }
        let usage = await measure(paths)
        samples = samples.filter { paths.contains($0.key) }
        let node = usage[nodeCgroup] ?? CgroupUsage()
        let disk = await filesystem(context.configuration.rootDirectory, now)
        var list: [JSON] = []
        for view in pods {
            var containers: [JSON] = []
            for record in view.containers {
                guard let used = usage["\(view.cgroup)/\(record.id)"] else { continue }
                containers.append([
                    "name": .string(record.name), "startTime": .string(KubeTime.text(record.startedSeconds)),
                    "cpu": cpu("\(view.cgroup)/\(record.id)", used, now), "memory": memory(used, now, capacity: nil),
                ])
            }
            var entry: JSON = [
                "podRef": [
                    "name": .string(view.pod.metadata.name), "namespace": .string(view.pod.metadata.namespace), "uid": .string(view.pod.metadata.uid),
                ],
                "startTime": .string(view.pod.status.startTime ?? KubeTime.text(now)), "containers": .array(containers),
            ]
            if let used = usage[view.cgroup] {
                entry["cpu"] = cpu(view.cgroup, used, now)
                entry["memory"] = memory(used, now, capacity: nil)
                entry["process_stats"] = ["process_count": number(used.pids)]
            }
            list.append(entry)
        }
        return [
            "node": [
                "nodeName": .string(context.configuration.nodeName), "startTime": .string(KubeTime.text(now)), "cpu": cpu(nodeCgroup, node, now),
                "memory": memory(node, now, capacity: UInt64(clamping: context.facts.memoryBytes)), "fs": disk, "runtime": ["imageFs": disk],
            ],
            "pods": .array(list),
        ]
    }

    func resourceMetrics() async -> String {
        let pods = await pods()
        let usage = await measure([nodeCgroup] + pods.flatMap { view in [view.cgroup] + view.containers.map { "\(view.cgroup)/\($0.id)" } })
        var text = MetricsText()
        let node = usage[nodeCgroup] ?? CgroupUsage()
        text.family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
        text.sample("node_cpu_usage_seconds_total", [], Double(node.cpuNanoseconds) / 1e9)
        text.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
        text.sample("node_memory_working_set_bytes", [], Double(node.workingSetBytes))
        for (name, kind, help, value) in [
            ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds",
             { (used: CgroupUsage, _: ContainerRecord) in Double(used.cpuNanoseconds) / 1e9 }),
            ("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes",
             { (used: CgroupUsage, _: ContainerRecord) in Double(used.workingSetBytes) }),
            ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds",
             { (_: CgroupUsage, record: ContainerRecord) in record.startedSeconds }),
        ] {
            text.family(name, kind, help)
            for view in pods {
                for record in view.containers {
                    guard let used = usage["\(view.cgroup)/\(record.id)"] else { continue }
                    text.sample(
                        name, [("container", record.name), ("namespace", view.pod.metadata.namespace), ("pod", view.pod.metadata.name)], value(used, record))
                }
            }
        }
        text.family("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod in core-seconds")
        for view in pods {
            guard let used = usage[view.cgroup] else { continue }
            text.sample("pod_cpu_usage_seconds_total", [("namespace", view.pod.metadata.namespace), ("pod", view.pod.metadata.name)], Double(used.cpuNanoseconds) / 1e9)
        }
        text.family("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes")
        for view in pods {
            guard let used = usage[view.cgroup] else { continue }
            text.sample("pod_memory_working_set_bytes", [("namespace", view.pod.metadata.namespace), ("pod", view.pod.metadata.name)], Double(used.workingSetBytes))
        }
        text.family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
        text.sample("resource_scrape_error", [], 0)
        return text.text
    }

    func metrics() async -> String {
        var text = MetricsText()
        let workers = await manager.allWorkers
        var containers = 0
        for worker in workers { containers += await worker.snapshot.runtime.running.count }
        text.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.")
        text.sample("kubelet_node_name", [("node", context.configuration.nodeName)], 1)
        text.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox")
        text.sample("kubelet_running_pods", [], Double(workers.count))
        text.family("kubelet_running_containers", "gauge", "Number of containers currently running")
        text.sample("kubelet_running_containers", [("container_state", "running")], Double(containers))
        text.family("kubelet_pleg_last_seen_seconds", "gauge", "Timestamp in seconds when PLEG was last seen active.")
        text.sample("kubelet_pleg_last_seen_seconds", [], await manager.lastRelistSeconds)
        return text.text
    }
}

/// The Prometheus text format.
struct MetricsText {
    private(set) var text = ""

    mutating func family(_ name: String, _ type: String, _ help: String) { text += "# HELP \(name) [STABLE] \(help)\n# TYPE \(name) \(type)\n" }

    mutating func sample(_ name: String, _ labels: [(String, String)], _ value: Double) {
        let inside = labels.map { "\($0.0)=\(FieldReferences.quoted($0.1))" }.joined(separator: ",")
        text += "\(name)\(inside.isEmpty ? "" : "{\(inside)}") \(value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value))\n"
    }
}
