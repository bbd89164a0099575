import CRI
import Hosts
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Logging

/// Registers the node, and keeps its status and its lease current.
actor NodeReporter {
    private static let imagesMax = 50
    private let context: AgentContext
    private let pressure: NodePressure
    /// The last relist's failure: a runtime that cannot list is not healthy.
    private let runtimeFailure: @Sendable () async -> String?
    private var name: String { context.configuration.nodeName }
    private var reportedAt = 0.0
    private var reported: NodeStatus?
    private var networkWrittenFor: String?
    private var routes: Set<Route>?
    private var runtimeVersion = ""
    private var isReady: Bool?
    private var images: [ContainerImage] = []
    private var imagesReadAt = 0.0
    private var sleeper: CheckedContinuation<Void, Never>?
    private var isDirty = false
    private var fastUntil = 0.0

    init(context: AgentContext, pressure: NodePressure, runtimeFailure: @escaping @Sendable () async -> String?) {
        self.context = context
        self.pressure = pressure
        self.runtimeFailure = runtimeFailure
    }

    // MARK: loops

    /// Registers and reports until cancelled.
    func run() async {
        fastUntil = context.time.now() + 20
        await register()
        while !Task.isCancelled {
            await context.gate.pass()
            do {
                try await report()
            } catch {
                context.logger.warning("node status could not be written", metadata: ["error": "\(error)"])
            }
            // Until the node is ready every chance is taken; later changes wake us and the rest is routine.
            let seconds = isReady != true && context.time.now() < fastUntil ? 0.02 : isReady != true ? 1 : context.configuration.statusUpdateSeconds
            await sleep(seconds)
        }
    }

    nonisolated func nudge() { Task { await wake() } }

    private func wake() {
        isDirty = true
        sleeper?.resume()
        sleeper = nil
    }

    private func sleep(_ seconds: Double) async {
        if isDirty {
            isDirty = false
            return
        }
        let time = context.time
        let timer = Task {
            try? await time.sleep(seconds: seconds)
            wake()
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { sleeper = $0 }
        } onCancel: {
            nudge()
        }
        timer.cancel()
        isDirty = false
    }

    /// The lease that says the node is alive; the node controller looks at nothing else.
    func leaseLoop() async {
        while !Task.isCancelled {
            await context.gate.pass()
            do {
                try await renewLease()
                if (try? await context.time.sleep(seconds: context.configuration.leaseRenewSeconds)) == nil { return }
            } catch {
                context.logger.warning("lease could not be renewed", metadata: ["error": "\(error)"])
                if (try? await context.time.sleep(seconds: 0.5)) == nil { return }
            }
        }
    }

    private func renewLease() async throws {
        let now = KubeTime.microText(context.time.now())
        let namespace = "kube-node-lease"
        do {
            try await context.client.patch(
                Lease.self, namespace: namespace, name: name, .merge,
                ["spec": ["holderIdentity": .string(name), "leaseDurationSeconds": JSON(context.configuration.leaseSeconds), "renewTime": .string(now)]])
        } catch let status as APIStatus where status.isNotFound {
            var lease = Lease()
            lease.metadata.name = name
            lease.metadata.namespace = namespace
            if let node = context.node.get(name) {
                var owner = OwnerReference()
                owner.apiVersion = "v1"
                owner.kind = "Node"
                owner.name = name
                owner.uid = node.metadata.uid
                lease.metadata.ownerReferences = [owner]
            }
            lease.spec.holderIdentity = name
            lease.spec.leaseDurationSeconds = context.configuration.leaseSeconds
            lease.spec.renewTime = now
            try await context.client.create(lease)
        }
    }

    // MARK: registration

    private var labels: [String: String] {
        let architecture = context.facts.info.architecture
        return context.configuration.labels.merging([
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture, "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": architecture,
        ]) { own, _ in own }
    }

    private func register() async {
        var delay = 0.05
        while !Task.isCancelled {
            do {
                if let existing = try await context.client.find(Node.self, name: name) {
                    let missing = labels.filter { existing.metadata.labels[$0.key] != $0.value }
                    if !missing.isEmpty {
                        try await context.client.patch(Node.self, name: name, .merge, ["metadata": ["labels": JSON(missing)]])
                    }
                    return
                }
                var node = Node()
                node.metadata.name = name
                node.metadata.labels = labels
                node.metadata.annotations = ["volumes.kubernetes.io/controller-managed-attach-detach": "true"]
                node.spec.taints = context.configuration.taints
                node.status = try await status(nil)
                try await context.client.create(node)
                context.nodeEvent(.normal, reason: "Starting", "Starting kubelet.")
                return
            } catch let status as APIStatus where status.isAlreadyExists {
                continue
            } catch {
                context.logger.warning("node could not be registered", metadata: ["error": "\(error)"])
                try? await context.time.sleep(seconds: delay)
                delay = min(delay * 2, 5)
            }
        }
    }

    // MARK: status

    private func report() async throws {
        guard let node = try await currentNode() else {
            // Deleted by hand: the agent makes it anew, as upstream does at its next start.
            await register()
            return
        }
        try await configureNetwork(node)
        let new = try await status(node.status)
        let now = context.time.now()
        let changed = StatusDifference.matters(node.status, new)
        guard changed || now - reportedAt >= context.configuration.statusReportSeconds else { return }
        var patch: JSON = ["status": [:]]
        let before = node.status.json, after = new.json
        for (key, value) in after.object ?? [:] where before[key] != value { patch["status"]?[key] = value }
        try await context.client.patch(Node.self, name: name, .merge, patch, subresource: "status")
        reportedAt = now
        announce(old: node.status, new: new)
    }

    private func currentNode() async throws -> Node? {
        if isReady == true, let cached = context.node.get(name) { return cached }
        return try await context.client.find(Node.self, name: name)
    }

    private func announce(old: NodeStatus, new: NodeStatus) {
        let ready = new.conditions.first { $0.type == "Ready" }?.status == "True"
        let was = old.conditions.first { $0.type == "Ready" }?.status == "True"
        if ready != was {
            context.nodeEvent(.normal, reason: ready ? "NodeReady" : "NodeNotReady", "Node \(name) status is now: \(ready ? "NodeReady" : "NodeNotReady")")
        }
        isReady = ready
        for (type, has, hasNot) in [
            ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"), ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
            ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ] {
            let now = new.conditions.first { $0.type == type }?.status, before = old.conditions.first { $0.type == type }?.status
            if now != before {
                let reason = now == "True" ? has : hasNot
                context.nodeEvent(.normal, reason: reason, "Node \(name) status is now: \(reason)")
            }
        }
    }

    private func status(_ old: NodeStatus?) async throws -> NodeStatus {
        let now = context.time.now()
        var status = old ?? NodeStatus()
        status.capacity = context.facts.capacity
        status.allocatable = context.facts.allocatable
        var internalIP = NodeAddress()
        internalIP.type = "InternalIP"
        internalIP.address = context.configuration.nodeIP
        var hostname = NodeAddress()
        hostname.type = "Hostname"
        hostname.address = name
        status.addresses = [internalIP, hostname]
        var endpoint = DaemonEndpoint()
        endpoint.Port = context.configuration.serving?.port ?? 10250
        var endpoints = NodeDaemonEndpoints()
        endpoints.kubeletEndpoint = endpoint
        status.daemonEndpoints = endpoints
        var info = context.facts.info
        if runtimeVersion.isEmpty, let version = try? await context.runtime.version() {
            runtimeVersion = "\(version.runtimeName)://\(version.runtimeVersion)"
        }
        info.containerRuntimeVersion = runtimeVersion
        status.nodeInfo = info
        if now - imagesReadAt > 60 || (imagesReadAt == 0 && isReady == true) {
            if let listed = try? await context.runtime.listImages() {
                imagesReadAt = now
                images = listed.sorted { $0.size > $1.size }.prefix(Self.imagesMax).map { image in
                    var entry = ContainerImage()
                    entry.names = image.repoDigests + image.repoTags
                    entry.sizeBytes = Int(clamping: image.size)
                    return entry
                }.filter { !$0.names.isEmpty }
            }
        }
        status.images = images
        status.conditions = await conditions(old, now)
        return status
    }

    private func conditions(_ old: NodeStatus?, _ now: Double) async -> [NodeCondition] {
        let pressure = pressure.current
        func condition(_ type: String, _ isTrue: Bool, _ reason: String, _ message: String) -> NodeCondition {
            var condition = NodeCondition()
            condition.type = type
            condition.status = isTrue ? "True" : "False"
            condition.reason = reason
            condition.message = message
            condition.lastHeartbeatTime = KubeTime.text(now)
            let previous = old?.conditions.first { $0.type == type }
            condition.lastTransitionTime = previous?.status == condition.status ? previous?.lastTransitionTime ?? KubeTime.text(now) : KubeTime.text(now)
            return condition
        }
        var result = [
            condition(
                "MemoryPressure", pressure.memory, pressure.memory ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory",
                pressure.memory ? "kubelet has insufficient memory available" : "kubelet has sufficient memory available"),
            condition(
                "DiskPressure", pressure.disk, pressure.disk ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
                pressure.disk ? "kubelet has disk pressure" : "kubelet has no disk pressure"),
            condition(
                "PIDPressure", pressure.pid, pressure.pid ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID",
                pressure.pid ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available"),
        ]
        if let why = await whyNotReady() {
            result.append(condition("Ready", false, "KubeletNotReady", why))
        } else {
            result.append(condition("Ready", true, "KubeletReady", "kubelet is posting ready status"))
        }
        let ours = Set(result.map(\.type))
        return (old?.conditions ?? []).filter { !ours.contains($0.type) } + result
    }

    private func whyNotReady() async -> String? {
        if let failure = await runtimeFailure() { return "[container runtime is down, PLEG is not healthy: \(failure)]" }
        do {
            let conditions = try await context.runtime.status(deadline: .seconds(3)).status.conditions
            for condition in conditions where !condition.status {
                switch condition.type {
                case "RuntimeReady": return "container runtime not ready: RuntimeReady=false reason:\(condition.reason) message:\(condition.message)"
                case "NetworkReady":
                    return "container runtime network not ready: NetworkReady=false reason:\(condition.reason) message:\(condition.message)"
                default: break
                }
            }
            return nil
        } catch {
            return "container runtime is down: \(error)"
        }
    }

    // MARK: network

    private func configureNetwork(_ node: Node) async throws {
        guard let directory = context.configuration.cniConfigurationDirectory else { return }
        let cidr = node.spec.podCIDR.flatMap { $0.isEmpty ? nil : $0 } ?? context.configuration.podCIDR
        guard let cidr, cidr != networkWrittenFor else { return }
        let data = context.configuration.cniDataDirectory
        try await Blocking.run { try CNIConfiguration.write(directory: directory, podCIDR: cidr, dataDirectory: data) }
        networkWrittenFor = cidr
    }

    /// Routes to the other nodes' pods.
    func applyRoutes(_ nodes: [Node]) async {
        let wanted = nodes.compactMap { node -> Route? in
            guard node.metadata.name != name, let cidr = node.spec.podCIDR, !cidr.isEmpty,
                let address = node.status.addresses.first(where: { $0.type == "InternalIP" })?.address
            else { return nil }
            return Route(destination: cidr, via: address)
        }
        guard Set(wanted) != routes else { return }
        do {
            try await HostRoutes.apply(wanted, networkNamespace: nil)
            routes = Set(wanted)
        } catch {
            context.logger.warning("routes could not be set", metadata: ["error": "\(error)"])
        }
    }
}

/// Heartbeat times alone are no change worth a write.
enum StatusDifference {
    static func matters(_ old: NodeStatus, _ new: NodeStatus) -> Bool {
        stripped(old) != stripped(new)
    }

    private static func stripped(_ status: NodeStatus) -> JSON {
        var status = status
        for index in status.conditions.indices { status.conditions[index].lastHeartbeatTime = nil }
        return status.json
    }
}
