import CRI
import Cgroup
import KubeClient
import KubeMeta
import KubeTypes

/// One pass over a pod that should run.
extension PodWorker {
    func syncRunning() async throws {
        let actions = PodActions.compute(pod, runtime, probeView)
        if actions.isFinished {
            beginEnd(graceSeconds: pod.spec.terminationGracePeriodSeconds ?? 30)
            wake()
            return
        }
        if actions.killPod {
            if !runtime.containers.isEmpty {
                context.event(.normal, pod, reason: "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            }
            await ContainerKiller(context: context, pod: pod, addresses: addresses).killAll(runtime, graceSeconds: pod.gracePeriodSeconds)
            for sandbox in runtime.sandboxes { try await context.runtime.stopPodSandbox(sandbox.id) }
            try Task.checkCancellation()
            try await refreshRuntime()
        }
        publish(buildStatus())
        updateProbes()
        try await prepareVolumes(isStarting: actions.createSandbox != nil || !actions.start.isEmpty)

        var changed = false
        for kill in actions.kill {
            try await self.kill(kill)
            changed = true
        }
        if actions.createSandbox != nil || !actions.start.isEmpty {
            let sandboxID = try await sandbox(attempt: actions.createSandbox)
            let secrets = try await pullSecrets()
            for name in actions.start {
                try Task.checkCancellation()
                guard let container = pod.container(named: name) else { continue }
                if try await start(container, sandboxID, secrets) { changed = true }
            }
        }
        if try await resize() { changed = true }
        if changed || actions.createSandbox != nil {
            try await refreshRuntime()
            lookSoon()
        }
        updateProbes()
        publish(buildStatus())
        await removeOldContainers()
        // The next init container follows at once.
        if actions.initializing, changed { callAgain(afterSeconds: 0.01) }
    }

    // MARK: sandbox

    private func sandbox(attempt: Int?) async throws -> String {
        if attempt == nil, let ready = runtime.readySandbox {
            if sandboxConfig == nil { sandboxConfig = try await makeSandboxConfig(attempt: ready.attempt) }
            return ready.id
        }
        let config = try await makeSandboxConfig(attempt: attempt ?? 0)
        try await makeCgroup()
        let handler = try await runtimeHandler()
        let logs = context.podLogDirectory(pod)
        try await Blocking.run { try Files.makeDirectories(logs) }
        let id: String
        do {
            id = try await context.runtime.runPodSandbox(config, runtimeHandler: handler)
        } catch {
            if error.code == .canceled { throw CancellationError() }
            context.event(.warning, pod, reason: "FailedCreatePodSandBox", "Failed to create pod sandbox: \(error)")
            throw error
        }
        sandboxConfig = config
        try await refreshRuntime()
        // The address is worth telling before images are pulled.
        publish(buildStatus())
        return id
    }

    /// The runtime's own name for the pod's RuntimeClass.
    private func runtimeHandler() async throws -> String {
        guard let name = pod.spec.runtimeClassName, !name.isEmpty else { return "" }
        guard let found = try await context.client.find(RuntimeClass.self, name: name) else {
            let message = "Failed to create pod sandbox: runtimeclass.node.k8s.io \"\(name)\" not found"
            context.event(.warning, pod, reason: "FailedCreatePodSandBox", message)
            throw AgentError(message)
        }
        return found.handler
    }

    private func makeSandboxConfig(attempt: Int) async throws -> CRIPodSandboxConfig {
        let configuration = context.configuration
        let host = try await Blocking.run { ResolvConf(text: Files.readText("/etc/resolv.conf")) }
        let resolvConf = ResolvConf.forPod(pod, host: host, clusterDNS: configuration.clusterDNS, clusterDomain: configuration.clusterDomain)
        return SandboxConfig(
            pod: pod, attempt: attempt, logDirectory: context.podLogDirectory(pod),
            cgroupParent: PodResources.cgroupParent(pod, root: configuration.cgroupRoot), resolvConf: resolvConf,
            clusterDomain: configuration.clusterDomain).build()
    }

    private func makeCgroup() async throws {
        guard let cgroups = context.cgroups else { return }
        let path = PodResources.cgroupParent(pod, root: context.configuration.cgroupRoot)
        let limits = PodResources.podLimits(pod)
        try await Blocking.run {
            try cgroups.create(path)
            try cgroups.apply(limits, to: path)
        }
    }

    // MARK: volumes

    /// Before something starts, and whenever content may have changed.
    private func prepareVolumes(isStarting: Bool) async throws {
        do {
            let prepared = try await VolumeManager(context: context).prepare(pod, addresses: addresses)
            volumes = prepared
            if let at = prepared.refreshAt { callAgain(afterSeconds: at - context.time.now()) }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            // What runs goes on with what it has.
            if isStarting { throw error }
            callAgain(afterSeconds: 5)
        }
    }

    private func pullSecrets() async throws -> [Secret] {
        var result: [Secret] = []
        for reference in pod.spec.imagePullSecrets {
            if let secret = try await context.objects.secret(namespace: pod.metadata.namespace, name: reference.name, user: uid) {
                result.append(secret)
            } else {
                context.event(
                    .warning, pod, reason: "FailedToRetrieveImagePullSecret",
                    "Unable to retrieve some image pull secrets (\(reference.name)); attempting to pull the image may not succeed.")
            }
        }
        return result
    }

    // MARK: containers

    /// True when it was started.
    private func start(_ container: Container, _ sandboxID: String, _ secrets: [Secret]) async throws -> Bool {
        guard let sandboxConfig, let volumes else { return false }
        let now = context.time.now()
        if let until = heldUntil[container.name], until > now {
            callAgain(afterSeconds: until - now)
            return false
        }
        heldUntil[container.name] = nil
        let record = runtime.newest(container.name)
        let key = "\(container.name)_\(container.definitionHash)"
        if let record, record.state == .exited {
            let left = backOff.remaining(key, since: record.finishedSeconds, now: now)
            if left > 0 {
                let text = "back-off \(BackOff.text(backOff.seconds(key))) restarting failed container=\(container.name) pod=\(pod.longName)"
                let why = WaitingReason(reason: "CrashLoopBackOff", message: text)
                if waiting[container.name] != why {
                    context.event(
                        .warning, pod, container: container.name, reason: "BackOff",
                        "Back-off restarting failed container \(container.name) in pod \(pod.longName)")
                    waiting[container.name] = why
                }
                callAgain(afterSeconds: left)
                return false
            }
            backOff.next(key, event: record.finishedSeconds, now: now)
        }
        if let record, record.state == .created { try? await context.runtime.removeContainer(record.id) }
        let attempt = nextAttempt(container, record)
        var targetID: String?
        if let ephemeral = pod.spec.ephemeralContainers.first(where: { $0.name == container.name }), let target = ephemeral.targetContainerName {
            targetID = runtime.newest(target)?.id
        }
        do {
            let starter = ContainerStarter(
                context: context, pod: pod, sandboxID: sandboxID, sandboxConfig: sandboxConfig, volumes: volumes, addresses: addresses, secrets: secrets)
            let id = try await starter.start(container, attempt: attempt, targetID: targetID)
            applied[id] = container.resources ?? ResourceRequirements()
            waiting[container.name] = nil
            return true
        } catch let failure as ContainerStarter.Failure {
            waiting[container.name] = failure.waiting
            if failure.waiting.reason == "ImagePullBackOff" { heldUntil[container.name] = now + (failure.retrySeconds ?? 10) }
            // The first failure is shown for a moment, then the back-off.
            callAgain(afterSeconds: failure.waiting.reason == "ErrImagePull" ? 1 : failure.retrySeconds ?? 10)
            // The runtime may have kept the failed container: its exit is part of the status.
            try await refreshRuntime()
            return false
        }
    }

    private func nextAttempt(_ container: Container, _ record: ContainerRecord?) -> Int {
        if let record { return record.state == .created ? record.attempt : record.attempt + 1 }
        let statuses = pod.status.containerStatuses + pod.status.initContainerStatuses
        // It ran before, and the runtime has forgotten it.
        if let old = statuses.first(where: { $0.name == container.name }), !old.containerID.isEmpty { return old.restartCount + 1 }
        return 0
    }

    private func kill(_ kill: PodActions.Kill) async throws {
        guard let record = runtime.containers.first(where: { $0.id == kill.id }) else { return }
        let container = pod.container(named: kill.name)
        var grace = pod.gracePeriodSeconds
        var message = kill.message
        switch kill.reason {
        case .startupProbe: grace = container?.startupProbe?.terminationGracePeriodSeconds ?? grace
        case .livenessProbe: grace = container?.livenessProbe?.terminationGracePeriodSeconds ?? grace
        default: break
        }
        if let container, PodActions.restarts(container, ContainerRecord(id: "", name: "", state: .exited).failing, pod.restartPolicy) {
            message += kill.reason == .changed || kill.reason == .unknownState ? "" : ", will be restarted"
        }
        try await ContainerKiller(context: context, pod: pod, addresses: addresses)
            .kill(record, container: container, message: message, graceSeconds: grace)
        forgetProbes(record.id)
        wake()
    }

    /// The newest and the one before it (`kubectl logs --previous`) stay.
    private func removeOldContainers() async {
        var seen: [String: Int] = [:]
        for record in runtime.containers {
            seen[record.name, default: 0] += 1
            guard record.state == .exited, seen[record.name, default: 0] > 2 else { continue }
            await removeLogLink(record)
            let log = record.logPath
            try? await context.runtime.removeContainer(record.id)
            _ = try? await Blocking.run {
                guard !log.isEmpty else { return }
                try Files.removeTree(log)
            }
        }
    }
}

extension ContainerRecord {
    fileprivate var failing: ContainerRecord {
        var record = self
        record.exitCode = 137
        return record
    }
}
