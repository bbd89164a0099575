import KubeClient
import KubeMeta
import KubeTypes

/// The loop: takes events in, takes the next pod, finds a node, counts the pod there and lets the binder write it.
actor SchedulingLoop {
    /// Bindings that are being written at a time.
    private static let bindingsMax = 256
    /// Pods scheduled between two looks at the inbox.
    private static let batchMax = 32

    private let inbox: SchedulerInbox
    private let binder: Binder
    private let siblings: Siblings
    private let budgets: Informer<PodDisruptionBudget>
    private let time: any TimeSource
    private let gate: RunGate

    private let cluster = ClusterState()
    private var queue = SchedulingQueue()
    /// Pods being bound: counted on their node until the informer shows them there.
    private var binding: Set<String> = []
    private var startIndex = 0
    /// What selects the pods of an owner and of its services, by the owner's UID; good for a second.
    private var siblingSelectors: (byOwner: [String: Selector?], since: Double) = ([:], 0)
    private var timer: (due: Double, task: Task<Void, Never>)?

    init(
        inbox: SchedulerInbox, binder: Binder, siblings: Siblings, budgets: Informer<PodDisruptionBudget>, time: any TimeSource,
        gate: RunGate
    ) {
        self.inbox = inbox
        self.binder = binder
        self.siblings = siblings
        self.budgets = budgets
        self.time = time
        self.gate = gate
    }

    func run() async {
        while !Task.isCancelled {
            await gate.pass()
            let now = time.now()
            for event in inbox.take() { handle(event, now) }
            queue.flush(now: now)
            var scheduled = 0
            while scheduled < Self.batchMax, binding.count < Self.bindingsMax, let pod = queue.pop() {
                schedule(pod)
                scheduled += 1
            }
            if scheduled == 0 || binding.count >= Self.bindingsMax {
                setTimer()
                await inbox.wait()
            } else {
                await Task.yield()
            }
        }
        timer?.task.cancel()
    }

    private func setTimer() {
        guard let due = queue.nextDueSeconds else { return }
        if let timer, timer.due <= due, timer.due > time.now() { return }
        timer?.task.cancel()
        let (time, inbox) = (time, inbox)
        let task = Task {
            do { try await time.sleep(seconds: max(0.001, due - time.now())) } catch { return }
            inbox.put(.wake)
        }
        timer = (due, task)
    }

    // MARK: Events

    private func handle(_ event: SchedulerEvent, _ now: Double) {
        switch event {
        case .pod(let pod): podChanged(pod, now)
        case .podGone(let uid, let wasPlaced):
            queue.remove(uid)
            dropNomination(uid)
            if !binding.contains(uid) || wasPlaced { cluster.removePod(uid) }
            queue.moveAll(now: now)
        case .node(let node): if cluster.setNode(node) { queue.moveAll(now: now) }
        case .nodeGone(let name): cluster.removeNode(name)
        case .namespace(let name, let labels):
            let changed = cluster.namespaceLabels[name] != labels
            cluster.namespaceLabels[name] = labels
            if changed { queue.moveAll(now: now) { !$0.requiredAffinity.isEmpty || !$0.requiredAntiAffinity.isEmpty } }
        case .volumesChanged: queue.moveAll(now: now) { !$0.claims.isEmpty }
        case .bound(let uid):
            binding.remove(uid)
            queue.forget(uid)
        case .bindFailed(let pod):
            guard binding.remove(pod.uid) != nil else { return }
            cluster.removePod(pod.uid)
            queue.putBackOff(pod, now: now)
            queue.moveAll(now: now)
        case .wake: break
        }
    }

    private func podChanged(_ pod: PodInfo, _ now: Double) {
        let nodeName = pod.pod.spec.nodeName
        if !nodeName.isEmpty {
            queue.remove(pod.uid)
            dropNomination(pod.uid)
            let isNew = cluster.placed[pod.uid] != nodeName
            cluster.addPod(pod, nodeName: nodeName)
            if isNew || !pod.requiredAntiAffinity.isEmpty {
                // Others may have waited for company.
                queue.moveAll(now: now) { !$0.requiredAffinity.isEmpty || $0.spreadConstraints.contains(where: \.isHard) }
            }
            return
        }
        guard pod.pod.spec.schedulerName.isEmpty || pod.pod.spec.schedulerName == Scheduler.name else { return }
        if pod.pod.metadata.isBeingDeleted || !pod.pod.spec.schedulingGates.isEmpty {
            queue.remove(pod.uid)
            dropNomination(pod.uid)
            return
        }
        if binding.contains(pod.uid) { return }
        if let known = queue.pod(pod.uid), known.pod.metadata.generation == pod.pod.metadata.generation, known.labels == pod.labels {
            queue.refresh(pod)
        } else {
            queue.add(pod, now: now)
        }
        if let nominated = pod.pod.status.nominatedNodeName, !nominated.isEmpty {
            cluster.nominated[nominated, default: [:]][pod.uid] = pod
        }
    }

    private func dropNomination(_ uid: String) {
        guard !cluster.nominated.isEmpty else { return }
        for (name, pods) in cluster.nominated where pods[uid] != nil {
            cluster.nominated[name]?[uid] = nil
            if cluster.nominated[name]?.isEmpty == true { cluster.nominated[name] = nil }
        }
    }

    // MARK: One pod

    private func schedule(_ pod: PodInfo) {
        let volumes = pod.claims.isEmpty ? VolumeNeeds() : VolumeNeeds(pod, binder.sources)
        guard cluster.nodeCount > 0 else { return fail(pod, "no nodes available to schedule pods", nil) }
        if let refusal = volumes.refusalEverywhere {
            let help = "\(cluster.nodeCount) Preemption is not helpful for scheduling."
            return fail(
                pod,
                "0/\(cluster.nodeCount) nodes are available: \(refusal). preemption: 0/\(cluster.nodeCount) nodes are available: \(help)",
                nil)
        }
        let filters = Filters(pod: pod, cluster: cluster, volumes: volumes)
        var refusals: [(node: NodeState, refusal: Refusal)] = []
        let feasible = feasibleNodes(pod, filters, &refusals)
        guard let node = best(feasible, pod) else { return handleNoNode(pod, filters, refusals) }
        assume(pod, on: node, volumes)
    }

    /// Enough nodes that can take the pod: all in a small cluster, a share of them in a large one, starting where the last pod ended.
    private func feasibleNodes(_ pod: PodInfo, _ filters: Filters, _ refusals: inout [(node: NodeState, refusal: Refusal)]) -> [NodeState] {
        if let nominated = pod.pod.status.nominatedNodeName, let node = cluster.node(nominated), filters.refusal(node) == nil {
            return [node]
        }
        if let names = pod.nodeTerms?.onlyNames {
            var feasible: [NodeState] = []
            for name in names {
                guard let node = cluster.node(name) else { continue }
                if let refusal = filters.refusal(node) { refusals.append((node, refusal)) } else { feasible.append(node) }
            }
            if feasible.isEmpty {
                let other = Refusal("node(s) didn't satisfy plugin(s) [NodeAffinity]", isFinal: true)
                for node in cluster.allNodes where !names.contains(node.name) { refusals.append((node, other)) }
            }
            return feasible
        }
        let nodes = cluster.nodes
        let wanted = Self.feasibleMax(cluster.nodeCount)
        var feasible: [NodeState] = []
        var index = startIndex % max(1, nodes.count)
        for _ in nodes.indices {
            let node = nodes[index]
            index += 1
            if index == nodes.count { index = 0 }
            guard let node else { continue }
            if let refusal = filters.refusal(node) {
                refusals.append((node, refusal))
            } else {
                feasible.append(node)
                if feasible.count >= wanted { break }
            }
        }
        startIndex = index
        return feasible
    }

    /// Upstream's adaptive share: 50 % less one for every 125 nodes, at least 5 % and 100 nodes.
    private static func feasibleMax(_ nodes: Int) -> Int {
        if nodes < 100 { return nodes }
        return max(100, nodes * max(5, 50 - nodes / 125) / 100)
    }

    private func best(_ nodes: [NodeState], _ pod: PodInfo) -> NodeState? {
        if nodes.count <= 1 { return nodes.first }
        let siblings = pod.spreadConstraints.isEmpty ? siblingSelector(pod) : nil
        let scores = Scores(pod: pod, cluster: cluster, siblings: siblings).scores(nodes)
        var best = 0
        var equals = 1
        for index in 1..<nodes.count {
            if scores[index] > scores[best] {
                best = index
                equals = 1
            } else if scores[index] == scores[best] {
                // Each of the equals with the same chance.
                equals += 1
                if Int.random(in: 0..<equals) == 0 { best = index }
            }
        }
        return nodes[best]
    }

    private func siblingSelector(_ pod: PodInfo) -> Selector? {
        // Pods of a replica set have the same labels; others are looked at one by one.
        guard let owner = pod.pod.metadata.ownerReferences.first(where: { $0.controller == true && $0.kind.hasPrefix("Replica") }) else {
            return siblings.selector(pod)
        }
        let now = time.now()
        if now - siblingSelectors.since > 1 { siblingSelectors = ([:], now) }
        if let known = siblingSelectors.byOwner[owner.uid] { return known }
        let selector = siblings.selector(pod)
        siblingSelectors.byOwner[owner.uid] = .some(selector)
        return selector
    }

    private func assume(_ pod: PodInfo, on node: NodeState, _ volumes: VolumeNeeds) {
        cluster.addPod(pod, nodeName: node.name)
        dropNomination(pod.uid)
        binding.insert(pod.uid)
        let choices = volumes.waiting.isEmpty ? [] : volumes.choices(node) ?? []
        let (binder, inbox, name) = (binder, inbox, node.name)
        Task {
            do {
                try await binder.bind(pod, nodeName: name, choices)
                inbox.put(.bound(uid: pod.uid))
            } catch {
                inbox.put(.bindFailed(pod))
            }
        }
    }

    // MARK: No node

    private func handleNoNode(_ pod: PodInfo, _ filters: Filters, _ refusals: [(node: NodeState, refusal: Refusal)]) {
        var counts: [String: Int] = [:]
        for entry in refusals { for reason in [entry.refusal.reason] + entry.refusal.more { counts[reason, default: 0] += 1 } }
        let total = cluster.nodeCount
        let reasons = counts.map { "\($0.value) \($0.key)" }.sorted().joined(separator: ", ")
        var message = "0/\(total) nodes are available: \(reasons)."
        let helpful = refusals.filter { !$0.refusal.isFinal }.map(\.node)

        if pod.pod.spec.preemptionPolicy == "Never" {
            message += " preemption: not eligible due to preemptionPolicy=Never."
            return fail(pod, message, nil)
        }
        if let nominated = pod.pod.status.nominatedNodeName, let node = cluster.node(nominated),
            node.pods.values.contains(where: { $0.pod.metadata.isBeingDeleted && $0.priority < pod.priority })
        {
            message += " preemption: not eligible due to a terminating pod on the nominated node."
            return fail(pod, message, nil)
        }
        if let plan = helpful.isEmpty ? nil : Preemption(pod: pod, cluster: cluster, budgets: budgets.all).plan(helpful, filters) {
            let (binder, name) = (binder, plan.node.name)
            cluster.nominated[name, default: [:]][pod.uid] = pod
            let victims = plan.victims.filter { !$0.pod.metadata.isBeingDeleted }
            Task { for victim in victims { await binder.evict(victim, for: pod, nodeName: name) } }
            return fail(pod, message, name)
        }
        var parts: [String] = []
        if !helpful.isEmpty { parts.append("\(helpful.count) No preemption victims found for incoming pod") }
        if total > helpful.count { parts.append("\(total - helpful.count) Preemption is not helpful for scheduling") }
        message += " preemption: 0/\(total) nodes are available: \(parts.sorted().joined(separator: ", "))."
        fail(pod, message, nil)
    }

    private func fail(_ pod: PodInfo, _ message: String, _ nominatedNode: String?) {
        queue.putUnschedulable(pod, now: time.now())
        let binder = binder
        Task { await binder.reportFailure(pod, message: message, nominatedNode: nominatedNode) }
    }
}
