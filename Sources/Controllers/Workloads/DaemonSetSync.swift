import KubeMeta
import KubeTypes

/// Works out what one DaemonSet needs: pods to make, pods to remove, and its status. Does nothing by itself.
struct DaemonSetSync {
    struct Reason {
        var reason: String
        var message: String
        var isWarning: Bool
    }

    let set: DaemonSet
    let hash: String
    let nodes: [Node]
    let now: Double
    private let byNode: [String: [Pod]]
    private(set) var creations: [String] = []
    private(set) var deletions: [(pod: Pod, reason: Reason?)] = []

    init(set: DaemonSet, hash: String, nodes: [Node], pods: [Pod], now: Double) {
        self.set = set
        self.hash = hash
        self.nodes = nodes.sorted { $0.metadata.name < $1.metadata.name }
        self.now = now
        byNode = Dictionary(grouping: pods, by: Self.nodeName)
    }

    private var minReadySeconds: Int { self.set.spec.minReadySeconds ?? 0 }

    /// The node a pod is on, or is meant for while it is not bound yet.
    private static func nodeName(_ pod: Pod) -> String {
        if !pod.spec.nodeName.isEmpty { return pod.spec.nodeName }
        let terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []
        return terms.lazy.flatMap(\.matchFields).first { $0.key == "metadata.name" && $0.operator == "In" }?.values.first ?? ""
    }

    /// Tolerations that let daemon pods run where nothing else may.
    private static func tolerations(_ spec: PodSpec) -> [Toleration] {
        var result = spec.tolerations
        var wanted: [(key: String, effect: String)] = [
            ("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unreachable", "NoExecute"),
            ("node.kubernetes.io/disk-pressure", "NoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule"),
            ("node.kubernetes.io/pid-pressure", "NoSchedule"), ("node.kubernetes.io/unschedulable", "NoSchedule"),
        ]
        if spec.hostNetwork == true { wanted.append(("node.kubernetes.io/network-unavailable", "NoSchedule")) }
        for (key, effect) in wanted
        where !result.contains(where: { $0.key == key && $0.effect == effect && $0.operator == "Exists" }) {
            var toleration = Toleration()
            toleration.key = key
            toleration.operator = "Exists"
            toleration.effect = effect
            result.append(toleration)
        }
        return result
    }

    static func pod(_ set: DaemonSet, hash: String, nodeName: String) -> Pod {
        var pod = PodControl.pod(from: set.spec.template, owner: set)
        pod.metadata.labels[TemplateHash.revisionLabel] = hash
        if let generation = set.metadata.annotations["deprecated.daemonset.template.generation"] {
            pod.metadata.labels["pod-template-generation"] = generation
        }
        pod.spec.tolerations = tolerations(set.spec.template.spec)
        // Bound to its node by affinity, so that the scheduler still checks resources and may preempt.
        var field = NodeSelectorRequirement()
        field.key = "metadata.name"
        field.operator = "In"
        field.values = [nodeName]
        var affinity = pod.spec.affinity ?? Affinity()
        var nodeAffinity = affinity.nodeAffinity ?? NodeAffinity()
        var required = nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution ?? NodeSelector()
        if required.nodeSelectorTerms.isEmpty { required.nodeSelectorTerms = [NodeSelectorTerm()] }
        for index in required.nodeSelectorTerms.indices { required.nodeSelectorTerms[index].matchFields = [field] }
        nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution = required
        affinity.nodeAffinity = nodeAffinity
        pod.spec.affinity = affinity
        return pod
    }

    private func fit(_ node: Node) -> (shouldRun: Bool, mayStay: Bool) {
        let spec = set.spec.template.spec
        if !spec.nodeName.isEmpty, spec.nodeName != node.metadata.name { return (false, false) }
        guard NodeFit.matches(spec, node) else { return (false, false) }
        let tolerations = Self.tolerations(spec)
        var taints = node.spec.taints
        if node.spec.unschedulable == true {
            var taint = Taint()
            taint.key = "node.kubernetes.io/unschedulable"
            taint.effect = "NoSchedule"
            taints.append(taint)
        }
        if NodeFit.untolerated(tolerations, taints, effects: ["NoSchedule", "NoExecute"]) != nil {
            return (false, NodeFit.untolerated(tolerations, taints, effects: ["NoExecute"]) == nil)
        }
        return (true, true)
    }

    private func isUpdated(_ pod: Pod) -> Bool { pod.metadata.labels[TemplateHash.revisionLabel] == hash }
    private func isAvailable(_ pod: Pod) -> Bool { pod.isAvailable(minReadySeconds: minReadySeconds, now: now) }
    private func oldestFirst(_ left: Pod, _ right: Pod) -> Bool {
        // A pod that already has its node is worth more than one that waits for it.
        if left.spec.nodeName.isEmpty != right.spec.nodeName.isEmpty { return !left.spec.nodeName.isEmpty }
        return (left.metadata.creationSeconds, left.metadata.name) < (right.metadata.creationSeconds, right.metadata.name)
    }

    private var desired: Int { nodes.count { fit($0).shouldRun } }
    private var surgeMax: Int {
        guard set.spec.updateStrategy?.type != "OnDelete" else { return 0 }
        return set.spec.updateStrategy?.rollingUpdate?.maxSurge?.scaled(total: desired, roundUp: true) ?? 0
    }

    mutating func plan() {
        let names = Set(nodes.map(\.metadata.name))
        let surge = surgeMax
        for node in nodes { planNode(node, surge: surge) }
        // Unbound pods of nodes that are gone.
        for (name, pods) in byNode where !names.contains(name) {
            for pod in pods where pod.spec.nodeName.isEmpty && !pod.metadata.isBeingDeleted { deletions.append((pod, nil)) }
        }
        if set.spec.updateStrategy?.type != "OnDelete" { planUpdate(surge: surge) }
    }

    private mutating func planNode(_ node: Node, surge: Int) {
        let pods = byNode[node.metadata.name] ?? []
        let (shouldRun, mayStay) = fit(node)
        if shouldRun && pods.isEmpty {
            creations.append(node.metadata.name)
            return
        }
        guard mayStay else {
            for pod in pods where !pod.metadata.isBeingDeleted { deletions.append((pod, nil)) }
            return
        }
        var running: [Pod] = []
        for pod in pods where !pod.metadata.isBeingDeleted {
            switch pod.status.phase {
            case "Failed":
                let message = "Found failed daemon pod \(pod.key) on node \(node.metadata.name), will try to kill it"
                deletions.append((pod, Reason(reason: "FailedDaemonPod", message: message, isWarning: true)))
            case "Succeeded":
                let message = "Found succeeded daemon pod \(pod.key) on node \(node.metadata.name), will try to delete it"
                deletions.append((pod, Reason(reason: "SucceededDaemonPod", message: message, isWarning: false)))
            default: running.append(pod)
            }
        }
        guard running.count > 1 else {
            // With surge, a replacement starts while the last pod ends.
            if shouldRun, running.isEmpty, surge > 0, pods.allSatisfy({ $0.metadata.isBeingDeleted }) {
                creations.append(node.metadata.name)
            }
            return
        }
        running.sort(by: oldestFirst)
        if surge > 0, let new = running.first(where: isUpdated), let old = running.first(where: { !isUpdated($0) }) {
            for pod in running where pod.metadata.uid != new.metadata.uid && pod.metadata.uid != old.metadata.uid {
                deletions.append((pod, nil))
            }
            if isAvailable(new) { deletions.append((old, nil)) }
            return
        }
        for pod in running.dropFirst() { deletions.append((pod, nil)) }
    }

    /// Replaces pods of older templates, as many at a time as the strategy allows.
    private mutating func planUpdate(surge: Int) {
        let unavailableMax: Int
        let setting = set.spec.updateStrategy?.rollingUpdate?.maxUnavailable
        let scaled = setting?.scaled(total: desired, roundUp: true) ?? 1
        unavailableMax = surge == 0 ? max(1, scaled) : scaled
        var unavailable = 0
        var surging = 0
        var replaceNow: [Pod] = []
        var candidates: [Pod] = []
        var surgeNodes: [String] = []
        for node in nodes where fit(node).shouldRun {
            let pods = (byNode[node.metadata.name] ?? []).filter { pod in !deletions.contains { $0.pod.metadata.uid == pod.metadata.uid } }
            let new = pods.filter { isUpdated($0) && !$0.metadata.isBeingDeleted }
            let old = pods.filter { !isUpdated($0) && !$0.metadata.isBeingDeleted }
            if surge > 0 {
                if !new.isEmpty, !old.isEmpty { surging += 1 }
                if let pod = old.first, new.isEmpty {
                    if isAvailable(pod) { surgeNodes.append(node.metadata.name) } else { replaceNow.append(pod) }
                }
                continue
            }
            if let pod = new.first {
                if !isAvailable(pod) { unavailable += 1 }
            } else if let pod = old.first {
                if isAvailable(pod) { candidates.append(pod) } else { replaceNow.append(pod); unavailable += 1 }
            } else {
                unavailable += 1
            }
        }
        // Old pods that do not work cost nothing to replace.
        for pod in replaceNow { deletions.append((pod, nil)) }
        if surge > 0 {
            creations += surgeNodes.prefix(max(0, surge - surging)).filter { !creations.contains($0) }
        } else {
            for pod in candidates.prefix(max(0, unavailableMax - unavailable)) { deletions.append((pod, nil)) }
        }
    }

    func status() -> DaemonSetStatus {
        var status = DaemonSetStatus()
        status.observedGeneration = set.metadata.generation
        var (updated, available) = (0, 0)
        for node in nodes {
            let pods = (byNode[node.metadata.name] ?? []).filter { !$0.metadata.isBeingDeleted || $0.spec.nodeName == node.metadata.name }
            if fit(node).shouldRun {
                status.desiredNumberScheduled += 1
                guard let pod = pods.sorted(by: oldestFirst).first else { continue }
                status.currentNumberScheduled += 1
                if pod.isReady {
                    status.numberReady += 1
                    if isAvailable(pod) { available += 1 }
                }
                // With surge the newer pod decides.
                if pods.contains(where: isUpdated) { updated += 1 }
            } else if pods.contains(where: { !$0.metadata.isBeingDeleted }) {
                status.numberMisscheduled += 1
            }
        }
        status.updatedNumberScheduled = updated.nonZero
        status.numberAvailable = available.nonZero
        status.numberUnavailable = max(0, status.desiredNumberScheduled - available).nonZero
        return status
    }

    var secondsToNextAvailable: Double? {
        byNode.values.joined().compactMap { $0.availableFromSeconds(minReadySeconds: minReadySeconds) }.map { $0 - now }.filter { $0 > 0 }
            .min()
    }
}
