import KubeMeta
package import KubeTypes

/// Why a container is waiting, from the last attempt to start it.
package struct WaitingReason: Sendable, Equatable {
    package var reason: String
    package var message: String

    package init(reason: String, message: String) {
        self.reason = reason
        self.message = message
    }
}

/// Computes a pod's status from what the runtime and the probes say. Pure: the same input gives the same status.
package struct PodStatusBuilder {
    package var pod: Pod
    package var runtime: PodRuntime
    package var probes: ProbeView
    package var waiting: [String: WaitingReason] = [:]
    package var nodeIP: String
    package var now: Double
    /// Set when the pod is ended by the agent (deadline, eviction): the phase is `Failed` with these.
    package var failure: (reason: String, message: String)?
    /// The pod is being stopped: nothing is ready any more.
    package var isTerminating = false
    /// All containers have ended and will not start again; only then may the phase become final.
    package var isTerminal = false
    /// Requests and limits that running containers have now, by name; the spec's where nothing is known.
    package var resourcesInForce: [String: ResourceRequirements] = [:]
    /// Why a wanted change of them cannot be made.
    package var resizeProblem: String?

    package init(
        pod: Pod, runtime: PodRuntime, probes: ProbeView = ProbeView(), waiting: [String: WaitingReason] = [:], nodeIP: String, now: Double,
        failure: (reason: String, message: String)? = nil, isTerminating: Bool = false, isTerminal: Bool = false
    ) {
        self.pod = pod
        self.runtime = runtime
        self.probes = probes
        self.waiting = waiting
        self.nodeIP = nodeIP
        self.now = now
        self.failure = failure
        self.isTerminating = isTerminating
        self.isTerminal = isTerminal
    }

    private var old: PodStatus { pod.status }

    package func build() -> PodStatus {
        var status = PodStatus()
        status.qosClass = pod.qualityOfService.rawValue
        status.startTime = old.startTime ?? KubeTime.text(now)
        status.hostIP = nodeIP
        status.hostIPs = [hostIP(nodeIP)]
        status.observedGeneration = pod.metadata.generation
        status.nominatedNodeName = old.nominatedNodeName
        status.resize = old.resize
        status.resourceClaimStatuses = old.resourceClaimStatuses
        // Addresses stay visible after the sandbox is gone.
        var addresses = pod.usesHostNetwork ? [nodeIP] : runtime.sandboxes.first?.addresses ?? []
        if addresses.isEmpty, runtime.readySandbox == nil { addresses = old.podIPs.map(\.ip) }
        status.podIP = addresses.first ?? ""
        status.podIPs = addresses.map { var ip = PodIP(); ip.ip = $0; return ip }

        let hasInit = !pod.spec.initContainers.isEmpty
        status.initContainerStatuses = pod.spec.initContainers.map { containerStatus($0, old.initContainerStatuses, isInit: true, defaultReason: "PodInitializing") }
        let initialized = initializedContainers(status.initContainerStatuses)
        let defaultReason = hasInit ? "PodInitializing" : "ContainerCreating"
        status.containerStatuses = pod.spec.containers.map { containerStatus($0, old.containerStatuses, isInit: false, defaultReason: defaultReason) }
        status.ephemeralContainerStatuses = pod.ephemeral.map {
            containerStatus($0, old.ephemeralContainerStatuses, isInit: false, defaultReason: "ContainerCreating")
        }

        status.phase = phase(status, initialized.incomplete)
        status.reason = old.reason
        status.message = old.message
        if let failure {
            status.reason = failure.reason
            status.message = failure.message
            status.phase = isTerminal ? "Failed" : status.phase == "Pending" ? "Pending" : "Running"
        }
        // A final phase never changes again.
        if pod.isFinished { status.phase = old.phase }
        status.conditions = conditions(status, initialized)
        return status
    }

    private func hostIP(_ ip: String) -> HostIP {
        var result = HostIP()
        result.ip = ip
        return result
    }

    // MARK: containers

    private func containerStatus(_ container: Container, _ olds: [ContainerStatus], isInit: Bool, defaultReason: String) -> ContainerStatus {
        let old = olds.first { $0.name == container.name }
        var status = ContainerStatus()
        status.name = container.name
        status.image = container.image
        status.lastState = ContainerState()
        guard let record = runtime.newest(container.name) else {
            return withoutRecord(container, old, status, defaultReason)
        }
        status.containerID = "containerd://\(record.id)"
        status.imageID = record.imageID
        status.image = record.image.isEmpty ? container.image : record.image
        status.restartCount = max(record.attempt, old?.restartCount ?? 0)
        let inForce = record.state == .running ? resourcesInForce[container.name] ?? container.resources : container.resources
        status.allocatedResources = inForce?.requests ?? [:]
        status.resources = inForce
        status.volumeMounts = old?.volumeMounts ?? []
        status.user = old?.user
        if status.volumeMounts.isEmpty { status.volumeMounts = container.volumeMounts.map(Self.mountStatus) }

        let previous = runtime.previous(container.name)
        var state = ContainerState()
        var last = ContainerState()
        if let previous, previous.state == .exited { last.terminated = Self.terminated(previous) } else if let old = old?.lastState { last = old }
        switch record.state {
        case .running:
            var running = ContainerStateRunning()
            running.startedAt = KubeTime.text(record.startedSeconds)
            state.running = running
        case .exited:
            if let why = waiting[container.name], !isTerminating, !isTerminal {
                state.waiting = Self.waitingState(why)
                last.terminated = Self.terminated(record)
            } else {
                state.terminated = Self.terminated(record)
            }
        case .created, .unknown:
            if record.state == .unknown {
                var terminated = ContainerStateTerminated()
                terminated.reason = "ContainerStatusUnknown"
                terminated.message = "The container could not be located when the pod was terminated"
                terminated.exitCode = 137
                state.terminated = terminated
            } else {
                state.waiting = Self.waitingState(waiting[container.name] ?? WaitingReason(reason: defaultReason, message: ""))
                if let previous, previous.state == .exited { last.terminated = Self.terminated(previous) }
            }
        }
        status.state = state
        status.lastState = last
        status.started = state.running != nil && probes.isStarted(container, record)
        if isInit, !container.isSidecar {
            status.ready = record.state == .exited && record.exitCode == 0
            if state.running == nil { status.started = false }
        } else {
            status.ready = !isTerminating && !isTerminal && probes.isReady(container, record)
        }
        if let user = record.state == .running ? old?.user : nil { status.user = user }
        return status
    }

    /// The runtime has nothing: not started yet, or lost.
    private func withoutRecord(_ container: Container, _ old: ContainerStatus?, _ fresh: ContainerStatus, _ defaultReason: String) -> ContainerStatus {
        var status = fresh
        status.restartCount = old?.restartCount ?? 0
        status.lastState = old?.lastState ?? ContainerState()
        status.started = false
        var state = ContainerState()
        if let ended = old?.state?.terminated {
            // Ended earlier and cleaned up since: what we said then stays true.
            if let old, isTerminal || pod.isFinished || waiting[container.name] == nil {
                var kept = old
                kept.ready = old.ready && ended.exitCode == 0
                return kept
            }
            status.lastState?.terminated = ended
        } else if let old, old.state?.running != nil {
            var lost = ContainerStateTerminated()
            lost.reason = "ContainerStatusUnknown"
            lost.message = "The container could not be located when the pod was terminated"
            lost.exitCode = 137
            lost.containerID = old.containerID
            if isTerminal || isTerminating {
                state.terminated = lost
                status.state = state
                status.containerID = old.containerID
                status.imageID = old.imageID
                return status
            }
            status.lastState?.terminated = lost
        }
        let why = waiting[container.name] ?? WaitingReason(reason: defaultReason, message: "")
        state.waiting = Self.waitingState(why)
        status.state = state
        return status
    }

    private static func mountStatus(_ mount: VolumeMount) -> VolumeMountStatus {
        var status = VolumeMountStatus()
        status.name = mount.name
        status.mountPath = mount.mountPath
        if mount.readOnly == true {
            status.readOnly = true
            status.recursiveReadOnly = "Disabled"
        }
        return status
    }

    private static func waitingState(_ why: WaitingReason) -> ContainerStateWaiting {
        var state = ContainerStateWaiting()
        state.reason = why.reason
        state.message = why.message
        return state
    }

    package static func terminated(_ record: ContainerRecord) -> ContainerStateTerminated {
        var state = ContainerStateTerminated()
        state.exitCode = record.exitCode
        state.reason = record.reason.isEmpty ? (record.exitCode == 0 ? "Completed" : "Error") : record.reason
        state.message = record.message
        // A container that never started has no start time of its own.
        state.startedAt = KubeTime.text(max(0, record.startedSeconds))
        state.finishedAt = KubeTime.text(record.finishedSeconds)
        state.containerID = "containerd://\(record.id)"
        return state
    }

    // MARK: phase

    private func initializedContainers(_ statuses: [ContainerStatus]) -> (incomplete: [String], failed: Bool) {
        var incomplete: [String] = []
        var failed = false
        // Ordinary containers that ran prove that initialization is over, whatever was cleaned up since.
        let startedMain = pod.spec.containers.contains { runtime.newest($0.name) != nil }
        for (container, status) in zip(pod.spec.initContainers, statuses) {
            if container.isSidecar {
                if !startedMain, status.started != true { incomplete.append(container.name) }
            } else if let ended = status.state?.terminated ?? status.lastState?.terminated, status.state?.terminated != nil || startedMain {
                if ended.exitCode != 0, !startedMain {
                    incomplete.append(container.name)
                    if status.state?.terminated != nil, pod.restartPolicy == "Never" { failed = true }
                }
            } else if !startedMain {
                incomplete.append(container.name)
            }
        }
        return (incomplete, failed)
    }

    private func phase(_ status: PodStatus, _ uninitialized: [String]) -> String {
        let initFailed = PodActions.initFailure(pod, runtime, sandboxID: nil) != nil
        if initFailed, status.containerStatuses.allSatisfy({ $0.state?.running == nil && $0.state?.terminated == nil }) {
            return isTerminal ? "Failed" : "Pending"
        }
        if !uninitialized.isEmpty { return isTerminal && isTerminating ? "Failed" : "Pending" }
        var running = 0, waiting = 0, stopped = 0, succeeded = 0
        for status in status.containerStatuses {
            if status.state?.running != nil {
                running += 1
            } else if let ended = status.state?.terminated {
                stopped += 1
                if ended.exitCode == 0 { succeeded += 1 }
            } else if status.lastState?.terminated != nil {
                stopped += 1
            } else {
                waiting += 1
            }
        }
        if waiting > 0 { return isTerminal ? "Failed" : running + stopped > 0 && old.phase == "Running" ? "Running" : "Pending" }
        if running > 0 { return "Running" }
        guard isTerminal else { return "Running" }
        return stopped == succeeded ? "Succeeded" : "Failed"
    }

    // MARK: conditions

    private func conditions(_ status: PodStatus, _ initialized: (incomplete: [String], failed: Bool)) -> [PodCondition] {
        var own: [PodCondition] = []
        own.append(condition("PodReadyToStartContainers", runtime.readySandbox != nil))
        if status.phase == "Succeeded" {
            own.append(condition("Initialized", true, "PodCompleted"))
        } else if initialized.incomplete.isEmpty {
            own.append(condition("Initialized", true))
        } else {
            let message = "containers with incomplete status: [\(initialized.incomplete.joined(separator: " "))]"
            own.append(condition("Initialized", false, "ContainersNotInitialized", message))
        }

        let checked = zip(pod.spec.containers, status.containerStatuses).map { ($0.0, $0.1) }
            + zip(pod.spec.initContainers, status.initContainerStatuses).filter { $0.0.isSidecar }.map { ($0.0, $0.1) }
        let unready = checked.filter { !$0.1.ready }.map { $0.0.name }
        let containersReady: PodCondition
        if status.phase == "Succeeded" {
            containersReady = condition("ContainersReady", false, "PodCompleted")
        } else if status.phase == "Failed" {
            containersReady = condition("ContainersReady", false, "PodFailed")
        } else if !unready.isEmpty {
            let message = "containers with unready status: [\(unready.joined(separator: " "))]"
            containersReady = condition("ContainersReady", false, "ContainersNotReady", message)
        } else {
            containersReady = condition("ContainersReady", true)
        }
        var ready = containersReady
        ready.type = "Ready"
        if containersReady.status == "True" {
            var messages: [String] = []
            for gate in pod.spec.readinessGates {
                guard let gateCondition = old.conditions.first(where: { $0.type == gate.conditionType }) else {
                    messages.append("corresponding condition of pod readiness gate \"\(gate.conditionType)\" does not exist.")
                    continue
                }
                if gateCondition.status != "True" {
                    messages.append("the status of pod readiness gate \"\(gate.conditionType)\" is not \"True\", but \(gateCondition.status)")
                }
            }
            if !messages.isEmpty { ready = condition("Ready", false, "ReadinessGatesNotReady", messages.joined(separator: ", ")) }
        }
        own.append(ready)
        own.append(containersReady)
        own.append(condition("PodScheduled", true))
        if let resizeProblem { own.append(condition("PodResizePending", true, "Infeasible", resizeProblem)) }

        for index in own.indices {
            own[index].observedGeneration = pod.metadata.generation
            let previous = old.conditions.first { $0.type == own[index].type }
            let unchanged = previous?.status == own[index].status
            own[index].lastTransitionTime = unchanged ? previous?.lastTransitionTime ?? KubeTime.text(now) : KubeTime.text(now)
        }
        let ownTypes = Set(own.map(\.type))
        return own + old.conditions.filter { !ownTypes.contains($0.type) }
    }

    private func condition(_ type: String, _ isTrue: Bool, _ reason: String = "", _ message: String = "") -> PodCondition {
        var condition = PodCondition()
        condition.type = type
        condition.status = isTrue ? "True" : "False"
        condition.reason = reason
        condition.message = message
        return condition
    }
}
