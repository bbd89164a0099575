import KubeMeta
package import KubeTypes

/// What probes have said so far about running containers, by container id.
package struct ProbeView: Sendable {
    package enum Verdict: Sendable { case unknown, success, failure }
    package var startup: [String: Verdict] = [:]
    package var liveness: [String: Verdict] = [:]
    package var readiness: [String: Verdict] = [:]

    package init() {}

    package func isStarted(_ container: Container, _ record: ContainerRecord?) -> Bool {
        guard let record, record.state == .running else { return false }
        return container.startupProbe == nil || startup[record.id] == .success
    }

    package func isReady(_ container: Container, _ record: ContainerRecord?) -> Bool {
        guard let record, record.state == .running, isStarted(container, record) else { return false }
        return container.readinessProbe == nil || readiness[record.id] == .success
    }
}

/// What has to happen for a pod to come closer to its spec. Computed without doing anything, so that the rules can be tested alone.
package struct PodActions: Equatable, Sendable {
    package struct Kill: Equatable, Sendable {
        package var id: String
        package var name: String
        package var message: String
        /// Upstream's reason, for the grace period of the probe that failed.
        package var reason: KillReason

        package init(id: String, name: String, message: String, reason: KillReason) {
            self.id = id
            self.name = name
            self.message = message
            self.reason = reason
        }
    }
    package enum KillReason: Equatable, Sendable { case startupProbe, livenessProbe, changed, unknownState, finished }

    /// The sandbox is gone or dead although containers ran in it: what is left is stopped first.
    package var killPod = false
    /// A sandbox is made, with this attempt.
    package var createSandbox: Int?
    /// In the order in which they start. Names are unique in a pod.
    package var start: [String] = []
    package var kill: [Kill] = []
    /// Every container has ended and none starts again.
    package var isFinished = false
    /// A container that would start is in its back-off.
    package var initializing = false

    package init() {}

    package static func compute(_ pod: Pod, _ runtime: PodRuntime, _ probes: ProbeView) -> PodActions {
        var actions = PodActions()
        let restartPolicy = pod.restartPolicy
        let mains = pod.spec.containers

        // Has everything ended for good? (Sidecars end with the others.)
        let hasRun = mains.allSatisfy { runtime.newest($0.name) != nil }
        let allEnded = hasRun && mains.allSatisfy { container in
            guard let record = runtime.newest(container.name) else { return false }
            return record.state == .exited && !restarts(container, record, restartPolicy)
        }
        if allEnded {
            actions.isFinished = true
            return actions
        }

        let sandbox = runtime.readySandbox
        guard let sandbox else {
            // An init container that failed for good ended the pod: no new sandbox for it.
            if restartPolicy == "Never", initFailure(pod, runtime, sandboxID: runtime.sandboxes.first?.id) != nil {
                actions.isFinished = true
                return actions
            }
            actions.createSandbox = (runtime.sandboxes.map(\.attempt).max() ?? -1) + 1
            actions.killPod = !runtime.sandboxes.isEmpty
            if let first = pod.spec.initContainers.first {
                actions.start = [first.name]
                actions.initializing = true
            } else {
                actions.start = mains.filter { container in
                    runtime.newest(container.name).map { $0.state != .exited || restarts(container, $0, restartPolicy) } ?? true
                }.map(\.name)
            }
            return actions
        }

        for container in pod.ephemeral where runtime.newest(container.name) == nil { actions.start.append(container.name) }

        // Once an ordinary container was started in this sandbox, ordinary init containers are history.
        let initialized = mains.contains { runtime.newest($0.name, in: sandbox.id) != nil }
        for container in pod.spec.initContainers {
            let record = runtime.newest(container.name, in: sandbox.id)
            if container.isSidecar {
                switch record?.state {
                case .running:
                    guard let record else { continue }
                    if let kill = judge(container, record, probes) { actions.kill.append(kill) }
                    if !initialized, !probes.isStarted(container, record) {
                        actions.initializing = true
                        return actions
                    }
                case nil, .created, .exited:
                    actions.start.append(container.name)
                    if !initialized {
                        actions.initializing = true
                        return actions
                    }
                case .unknown:
                    if let record { actions.kill.append(Kill(id: record.id, name: container.name, message: unknownState(container), reason: .unknownState)) }
                }
                continue
            }
            if initialized { continue }
            switch record?.state {
            case .exited where record?.exitCode == 0: continue
            case .exited where restartPolicy == "Never" && container.restartPolicy == nil && container.restartPolicyRules.isEmpty,
                .exited where record.map({ !restarts(container, $0, restartPolicy) }) ?? false:
                actions.isFinished = true
                return actions
            case nil, .created, .exited: actions.start.append(container.name)
            case .running: break
            case .unknown:
                if let record { actions.kill.append(Kill(id: record.id, name: container.name, message: unknownState(container), reason: .unknownState)) }
            }
            actions.initializing = true
            return actions
        }

        for container in mains {
            guard let record = runtime.newest(container.name) else {
                actions.start.append(container.name)
                continue
            }
            switch record.state {
            case .running:
                if !record.hash.isEmpty, record.hash != container.definitionHash {
                    let message = "Container \(container.name) definition changed"
                    actions.kill.append(Kill(id: record.id, name: container.name, message: message, reason: .changed))
                } else if let kill = judge(container, record, probes) {
                    actions.kill.append(kill)
                }
            case .exited: if restarts(container, record, restartPolicy) { actions.start.append(container.name) }
            case .created: actions.start.append(container.name)
            case .unknown:
                actions.kill.append(Kill(id: record.id, name: container.name, message: unknownState(container), reason: .unknownState))
            }
        }
        return actions
    }

    private static func unknownState(_ container: Container) -> String {
        "Container is in \"CONTAINER_UNKNOWN\" state, try killing it before restart"
    }

    /// The init container whose failure is final under `Never`.
    package static func initFailure(_ pod: Pod, _ runtime: PodRuntime, sandboxID: String?) -> ContainerRecord? {
        for container in pod.spec.initContainers where !container.isSidecar {
            if let record = runtime.newest(container.name), record.state == .exited, record.exitCode != 0,
                !restarts(container, record, pod.restartPolicy) {
                return record
            }
        }
        return nil
    }

    private static func judge(_ container: Container, _ record: ContainerRecord, _ probes: ProbeView) -> Kill? {
        if probes.startup[record.id] == .failure {
            let message = "Container \(container.name) failed startup probe"
            return Kill(id: record.id, name: container.name, message: message, reason: .startupProbe)
        }
        if probes.liveness[record.id] == .failure {
            let message = "Container \(container.name) failed liveness probe"
            return Kill(id: record.id, name: container.name, message: message, reason: .livenessProbe)
        }
        return nil
    }

    /// Whether an ended container runs again: its own rules first, then its own policy, then the pod's.
    package static func restarts(_ container: Container, _ record: ContainerRecord, _ podPolicy: String) -> Bool {
        for rule in container.restartPolicyRules {
            guard let codes = rule.exitCodes else { continue }
            let isListed = codes.values.contains(record.exitCode)
            if codes.operator == "In" ? isListed : !isListed { return rule.action == "Restart" }
        }
        switch container.restartPolicy ?? podPolicy {
        case "Never": return false
        case "OnFailure": return record.exitCode != 0
        default: return true
        }
    }
}
