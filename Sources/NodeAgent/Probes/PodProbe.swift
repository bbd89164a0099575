import CRI
import KubeMeta
import KubeTypes

/// One probe of one running container.
struct PodProbe: Hashable, Sendable {
    enum Kind: String, Sendable { case startup = "Startup", liveness = "Liveness", readiness = "Readiness" }
    var containerID: String
    var kind: Kind
}

/// Counts results in a row: a verdict changes when its threshold is reached.
struct ProbeThresholds: Sendable {
    var failureThreshold: Int
    var successThreshold: Int
    private var lastWasSuccess: Bool?
    private var inARow = 0

    init(failureThreshold: Int, successThreshold: Int) {
        self.failureThreshold = failureThreshold
        self.successThreshold = successThreshold
    }

    /// The verdict, if this result decides one.
    mutating func note(success: Bool) -> ProbeView.Verdict? {
        inARow = lastWasSuccess == success ? inARow + 1 : 1
        lastWasSuccess = success
        if success { return inARow >= successThreshold ? .success : nil }
        return inARow >= failureThreshold ? .failure : nil
    }
}

extension PodWorker {
    /// Starts probes of containers that run, ends those of others.
    func updateProbes() {
        var wanted: Set<PodProbe> = []
        for container in pod.spec.containers + pod.spec.initContainers.filter(\.isSidecar) {
            guard let record = runtime.newest(container.name), record.state == .running else { continue }
            let probes: [(PodProbe.Kind, Probe?)] = [
                (.startup, container.startupProbe), (.liveness, container.livenessProbe), (.readiness, container.readinessProbe),
            ]
            for (kind, probe) in probes {
                guard let probe else { continue }
                let key = PodProbe(containerID: record.id, kind: kind)
                wanted.insert(key)
                if probeTasks[key] == nil {
                    let runner = ProbeRunner(context: context, pod: pod, container: container, record: record, kind: kind, probe: probe, podIP: addresses.first ?? "")
                    probeTasks[key] = Task { [weak self] in
                        await runner.run(
                            mayRun: { [weak self] in await self?.mayProbe(container, record.id, kind) ?? false },
                            report: { [weak self] verdict in await self?.noteProbe(key, verdict) })
                    }
                }
            }
        }
        for (key, task) in probeTasks where !wanted.contains(key) {
            task.cancel()
            probeTasks[key] = nil
            setVerdict(key, nil)
        }
    }

    func stopProbes() {
        for task in probeTasks.values { task.cancel() }
        probeTasks = [:]
    }

    func forgetProbes(_ containerID: String) {
        for (key, task) in probeTasks where key.containerID == containerID {
            task.cancel()
            probeTasks[key] = nil
            setVerdict(key, nil)
        }
    }

    /// Until the startup probe has succeeded the others wait; after that it is over.
    private func mayProbe(_ container: Container, _ id: String, _ kind: PodProbe.Kind) -> Bool {
        let isStarted = container.startupProbe == nil || probeView.startup[id] == .success
        return kind == .startup ? !isStarted : isStarted
    }

    private func noteProbe(_ key: PodProbe, _ verdict: ProbeView.Verdict) {
        guard probeTasks[key] != nil, self.verdict(key) != verdict else { return }
        setVerdict(key, verdict)
        wake()
    }

    private func verdict(_ key: PodProbe) -> ProbeView.Verdict? {
        switch key.kind {
        case .startup: probeView.startup[key.containerID]
        case .liveness: probeView.liveness[key.containerID]
        case .readiness: probeView.readiness[key.containerID]
        }
    }

    private func setVerdict(_ key: PodProbe, _ verdict: ProbeView.Verdict?) {
        switch key.kind {
        case .startup: probeView.startup[key.containerID] = verdict
        case .liveness: probeView.liveness[key.containerID] = verdict
        case .readiness: probeView.readiness[key.containerID] = verdict
        }
    }
}
