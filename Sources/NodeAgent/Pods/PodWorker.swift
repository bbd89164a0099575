import Logging
import CRI
import Cgroup
import KubeClient
import KubeMeta
import KubeTypes

/// Owns one pod on this node, from its first sight to its removal. Everything about the pod happens on this worker's loop, one thing
/// after another; ending the containers runs beside it, so that the pod's status stays current meanwhile.
///
/// `running` --(deleted, finished, deadline, evicted)--> `terminating` --(everything has stopped)--> `terminated` --> gone
actor PodWorker {
    enum Phase: Sendable { case running, terminating, terminated }

    private static let retrySecondsMin = 0.5
    private static let retrySecondsMax = 122.0
    /// After a start the runtime is looked at again quickly: short-lived containers must not wait for the next relist.
    private static let looksAfterStart = [0.02, 0.05, 0.12, 0.3]

    let uid: String
    let context: AgentContext
    var pod: Pod
    private(set) var phase = Phase.running
    private(set) var isFinished = false
    var runtime = PodRuntime()
    var waiting: [String: WaitingReason] = [:]
    var backOff = BackOff()
    /// Containers whose image is backed off, and until when.
    var heldUntil: [String: Double] = [:]
    var probeView = ProbeView()
    var probeTasks: [PodProbe: Task<Void, Never>] = [:]
    var volumes: PreparedVolumes?
    var sandboxConfig: CRIPodSandboxConfig?
    /// Requests and limits in force, by container id.
    var applied: [String: ResourceRequirements] = [:]
    /// Why a wanted change of resources cannot be made on this node.
    var resizeProblem: String?
    private var isAdopted = false
    /// Refused at admission: it never had containers, and its status says so.
    private var isRejected = false
    private var reader: PodRuntimeReader
    /// The API no longer has the pod.
    private var isGone = false
    private var failure: (reason: String, message: String)?
    private var graceSeconds: Int?
    private var killing: Task<Void, Never>?
    private var isKilled = false
    private var failures = 0
    private var looks: [Double] = []

    private var isDirty = true
    private var sleeper: CheckedContinuation<Void, Never>?
    private var alarm: Task<Void, Never>?
    private var alarmAt = Double.infinity
    private var syncing: Task<Void, Never>?
    private var isClosed = false

    private var lastStatus: PodStatus?
    private var wanted: PodStatus?
    private var publishing: Task<Void, Never>?

    init(pod: Pod, context: AgentContext) {
        uid = pod.metadata.uid
        self.pod = pod
        self.context = context
        reader = PodRuntimeReader(runtime: context.runtime, uid: pod.metadata.uid)
    }

    // MARK: what the outside says

    func update(_ newer: Pod) {
        guard newer.metadata.uid == uid else { return }
        // The answer to our own write may be newer than what the watch brings.
        if let have = Int(pod.metadata.resourceVersion), let got = Int(newer.metadata.resourceVersion), got < have { return }
        pod = newer
        if newer.metadata.isBeingDeleted { interruptIfEnding(graceSeconds: newer.gracePeriodSeconds) }
        wake()
    }

    /// The API object is gone (deleted by force, or replaced by another of the same name).
    func podGone() {
        isGone = true
        interruptIfEnding(graceSeconds: graceSeconds.map { min($0, 1) } ?? 1)
        wake()
    }

    /// The agent itself ends the pod.
    func fail(reason: String, message: String, graceSeconds: Int) {
        guard phase == .running, failure == nil else { return }
        failure = (reason, message)
        interruptIfEnding(graceSeconds: graceSeconds)
        wake()
    }

    func wake() {
        isDirty = true
        sleeper?.resume()
        sleeper = nil
    }

    func close() {
        isClosed = true
        syncing?.cancel()
        killing?.cancel()
        alarm?.cancel()
        stopProbes()
        wake()
    }

    /// Ready to be looked at: what eviction and the server need.
    var snapshot: (pod: Pod, runtime: PodRuntime, phase: Phase) { (pod, runtime, phase) }

    // MARK: the loop

    func run() async {
        while !isClosed, !isFinished {
            if !isDirty { await withCheckedContinuation { sleeper = $0 } }
            isDirty = false
            if isClosed { break }
            await context.gate.pass()
            alarmAt = .infinity
            let task = Task { await syncOnce() }
            syncing = task
            await task.value
            syncing = nil
            if !looks.isEmpty { callAgain(afterSeconds: looks.removeFirst()) }
            setAlarm()
        }
        alarm?.cancel()
        stopProbes()
        if !isClosed { await publishing?.value }
    }

    private func syncOnce() async {
        do {
            try await sync()
            failures = 0
        } catch is CancellationError {
            isDirty = true
        } catch {
            if Task.isCancelled {
                isDirty = true
                return
            }
            failures += 1
            context.logger.debug("pod sync failed", metadata: ["pod": "\(pod.longName)", "error": "\(error)"])
            callAgain(afterSeconds: min(Self.retrySecondsMax, Self.retrySecondsMin * Double(1 << min(failures - 1, 10))))
        }
    }

    /// The earliest wish counts; the loop sets the alarm when it is done.
    func callAgain(afterSeconds seconds: Double) { alarmAt = min(alarmAt, context.time.now() + max(0, seconds)) }

    private func setAlarm() {
        alarm?.cancel()
        alarm = nil
        callAgain(afterSeconds: context.configuration.syncSeconds)
        let seconds = alarmAt - context.time.now()
        let time = context.time
        alarm = Task { [weak self] in
            do { try await time.sleep(seconds: max(0, seconds)) } catch { return }
            await self?.wake()
        }
    }

    /// A pod that does not fit is refused before anything of it runs; one that runs already has been admitted.
    private func admit() {
        guard !isAdopted, !pod.isStatic, !pod.isFinished, !pod.metadata.isBeingDeleted, runtime.sandboxes.isEmpty, pod.status.startTime == nil else { return }
        // Of pods that came together the earlier ones have the room.
        let others = context.pods.all.filter { $0.status.startTime != nil || $0.metadata.creationSeconds < pod.metadata.creationSeconds }
        if let rejection = PodAdmission.check(pod, others: others, allocatable: context.facts.allocatable) {
            context.event(.warning, pod, reason: rejection.reason, rejection.message)
            failure = (rejection.reason, rejection.message)
            graceSeconds = 0
            isRejected = true
        }
    }

    private func sync() async throws {
        try await refreshRuntime()
        admit()
        adopt()
        if phase == .running, let grace = reasonToEnd() { beginEnd(graceSeconds: grace) }
        switch phase {
        case .running: try await syncRunning()
        case .terminating: try await syncTerminating()
        case .terminated: try await syncTerminated()
        }
    }

    /// A container that an earlier agent started keeps the verdicts it had: a new agent must not make it unready until it is probed.
    private func adopt() {
        if isAdopted { return }
        isAdopted = true
        for status in pod.status.containerStatuses + pod.status.initContainerStatuses {
            guard let record = runtime.newest(status.name), record.state == .running, status.containerID == "containerd://\(record.id)" else { continue }
            if status.started == true { probeView.startup[record.id] = .success }
            if status.ready { probeView.readiness[record.id] = .success }
        }
    }

    func refreshRuntime() async throws {
        var reader = reader
        runtime = try await reader.read()
        self.reader = reader
    }

    // MARK: the end

    private func reasonToEnd() -> Int? {
        if isGone { return graceSeconds ?? min(pod.gracePeriodSeconds, 1) }
        if pod.metadata.isBeingDeleted { return pod.gracePeriodSeconds }
        if failure != nil { return graceSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30 }
        if pod.isFinished { return pod.spec.terminationGracePeriodSeconds ?? 30 }
        if let seconds = pod.spec.activeDeadlineSeconds, let start = (pod.status.startTime ?? lastStatus?.startTime).flatMap(KubeTime.parse) {
            let left = start + Double(seconds) - context.time.now()
            if left <= 0 {
                failure = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
                context.event(.normal, pod, reason: "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
                return pod.spec.terminationGracePeriodSeconds ?? 30
            }
            callAgain(afterSeconds: left)
        }
        return nil
    }

    private func interruptIfEnding(graceSeconds grace: Int) {
        switch phase {
        case .running:
            graceSeconds = grace
            syncing?.cancel()
        case .terminating:
            // Only ever shorter.
            if let have = graceSeconds, grace < have {
                graceSeconds = grace
                killing?.cancel()
                killing = nil
                isKilled = false
            }
        case .terminated: break
        }
    }

    func beginEnd(graceSeconds grace: Int) {
        phase = .terminating
        graceSeconds = grace
        looks = []
        stopProbes()
    }

    private func syncTerminating() async throws {
        publish(buildStatus(isTerminating: true))
        if killing == nil, !isKilled {
            let killer = ContainerKiller(context: context, pod: pod, addresses: addresses)
            let runtime = runtime, grace = graceSeconds ?? 30
            let sandboxes = runtime.sandboxes
            killing = Task { [weak self] in
                await killer.killAll(runtime, graceSeconds: grace)
                if Task.isCancelled { return }
                for sandbox in sandboxes { try? await killer.context.runtime.stopPodSandbox(sandbox.id) }
                if Task.isCancelled { return }
                await self?.killEnded()
            }
        }
        guard isKilled else { return }
        if !runtime.running.isEmpty || runtime.sandboxes.contains(where: \.isReady) {
            isKilled = false
            callAgain(afterSeconds: 0.2)
            return
        }
        phase = .terminated
        try await syncTerminated()
    }

    private func killEnded() {
        killing = nil
        isKilled = true
        wake()
    }

    private func syncTerminated() async throws {
        publish(buildStatus(isTerminating: true, isTerminal: true))
        await publishing?.value
        let mustGo = isGone || pod.metadata.isBeingDeleted
        try await VolumeManager(context: context).tearDown(uid: uid, keepsFiles: !mustGo)
        try await removeCgroup()
        await context.objects.release(user: uid)
        await context.tokens.release(user: uid)
        guard mustGo else { return }
        for container in runtime.containers {
            await removeLogLink(container)
            try await context.runtime.removeContainer(container.id)
        }
        for sandbox in runtime.sandboxes { try await context.runtime.removePodSandbox(sandbox.id) }
        let logs = context.podLogDirectory(pod)
        try await Blocking.run { try Files.removeTree(logs) }
        if !isGone {
            do {
                try await context.client.delete(
                    Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: uid, gracePeriodSeconds: 0)
            } catch let status as APIStatus where status.isNotFound || status.isConflict {}
        }
        isFinished = true
    }

    private func removeCgroup() async throws {
        guard let cgroups = context.cgroups else { return }
        let path = PodResources.cgroupParent(pod, root: context.configuration.cgroupRoot)
        try await Blocking.run {
            guard cgroups.exists(path) else { return }
            cgroups.killAll(in: path)
            try cgroups.remove(path)
        }
    }

    func removeLogLink(_ record: ContainerRecord) async {
        let link = "\(context.configuration.containerLogsDirectory)/\(pod.metadata.name)_\(pod.metadata.namespace)_\(record.name)-\(record.id).log"
        _ = try? await Blocking.run { try Files.removeTree(link) }
    }

    // MARK: status

    var addresses: [String] {
        if pod.usesHostNetwork { return [context.configuration.nodeIP] }
        let known = runtime.sandboxes.first?.addresses ?? []
        return known.isEmpty ? pod.status.podIPs.map(\.ip) : known
    }

    func buildStatus(isTerminating: Bool = false, isTerminal: Bool = false) -> PodStatus {
        if isRejected, let failure {
            var status = PodStatus()
            status.phase = "Failed"
            status.reason = failure.reason
            status.message = failure.message
            status.qosClass = pod.qualityOfService.rawValue
            status.startTime = pod.status.startTime ?? lastStatus?.startTime ?? KubeTime.text(context.time.now())
            status.observedGeneration = pod.metadata.generation
            status.conditions = pod.status.conditions
            return status
        }
        var view = pod
        if let lastStatus {
            // What others write (readiness gates) comes from the API, the rest from our last word.
            let ours = Set(["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"])
            var base = lastStatus
            base.conditions = lastStatus.conditions.filter { ours.contains($0.type) }
                + pod.status.conditions.filter { !ours.contains($0.type) && $0.type != "PodResizePending" }
            if pod.isFinished { base = pod.status }
            view.status = base
        }
        var builder = PodStatusBuilder(
            pod: view, runtime: runtime, probes: probeView, waiting: waiting, nodeIP: context.configuration.nodeIP, now: context.time.now(),
            failure: failure, isTerminating: isTerminating, isTerminal: isTerminal)
        builder.resourcesInForce = resourcesInForce
        builder.resizeProblem = resizeProblem
        return builder.build()
    }

    /// Writes the status soon; of several wishes only the newest is written.
    func publish(_ status: PodStatus) {
        // What a finished pod was is no longer ours to change.
        if pod.isFinished || isGone { return }
        lastStatus = status
        wanted = status
        if publishing == nil { publishing = Task { await publishLoop() } }
    }

    private func publishLoop() async {
        var delay = 0.05
        while let status = wanted, !isClosed, !isGone {
            wanted = nil
            // A static pod is shown by its mirror, which has a UID of its own and may not be there yet.
            let mirror = pod.isStatic ? context.pods.get(pod.key) : nil
            if pod.isStatic, mirror?.isMirror != true {
                callAgain(afterSeconds: 2)
                break
            }
            let shownUID = mirror?.metadata.uid ?? uid
            guard let patch = StatusPatch.make(uid: shownUID, old: mirror?.status ?? pod.status, new: status) else { continue }
            do {
                let updated = try await context.client.patch(
                    Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .merge, patch, subresource: "status")
                if updated.metadata.uid == uid { update(updated) }
                if mirror != nil { pod.status = updated.status }
                delay = 0.05
            } catch let error as APIStatus where error.isNotFound {
                break
            } catch {
                context.logger.debug("status write failed", metadata: ["pod": "\(pod.longName)", "error": "\(error)"])
                if wanted == nil { wanted = status }
                if let fresh = try? await context.client.get(Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name) { update(fresh) }
                try? await context.time.sleep(seconds: delay)
                delay = min(delay * 2, 5)
            }
        }
        publishing = nil
    }

    func lookSoon() { looks = Self.looksAfterStart }
}
