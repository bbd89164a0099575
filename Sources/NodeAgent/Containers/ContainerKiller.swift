import KubeClient
import Logging
import CRI
import KubeMeta
import KubeTypes

/// Ends containers: preStop hook, stop signal, grace, kill.
struct ContainerKiller: Sendable {
    /// What is left to a container when its hook has eaten the whole grace period (upstream).
    static let graceSecondsMin = 2

    let context: AgentContext
    let pod: Pod
    let addresses: [String]

    /// - Parameters:
    ///   - graceSeconds: 0 kills at once, without hook.
    func kill(_ record: ContainerRecord, container: Container?, message: String, graceSeconds: Int) async throws {
        context.event(.normal, pod, container: record.name, reason: "Killing", message)
        var left = graceSeconds
        if left > 0, let hook = container?.lifecycle?.preStop, let container {
            let started = context.time.now()
            await runPreStop(hook, container, record.id, graceSeconds: left)
            left -= Int(context.time.now() - started)
        }
        // A grace of 0 stays 0; a used up one still leaves the process a moment.
        if graceSeconds > 0 { left = max(left, Self.graceSecondsMin) }
        do {
            try await context.runtime.stopContainer(record.id, gracePeriodSeconds: Int64(left))
        } catch {
            if !error.isNotFound { throw error }
        }
    }

    private func runPreStop(_ hook: LifecycleHandler, _ container: Container, _ id: String, graceSeconds: Int) async {
        let time = context.time
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                if let failure = await HookRunner(context: context, pod: pod, addresses: addresses)
                    .run(hook, container, id, timeoutSeconds: graceSeconds) {
                    if !Task.isCancelled { context.event(.warning, pod, container: container.name, reason: "FailedPreStopHook", "PreStopHook failed") }
                    context.logger.debug("preStop hook failed", metadata: ["pod": "\(pod.longName)", "error": "\(failure)"])
                }
            }
            group.addTask { try? await time.sleep(seconds: Double(graceSeconds)) }
            await group.next()
            group.cancelAll()
        }
    }

    /// Ends every running container: ordinary ones at once, then sidecars, last started first.
    func killAll(_ runtime: PodRuntime, graceSeconds: Int) async {
        let sidecarNames = pod.spec.initContainers.filter(\.isSidecar).map(\.name)
        let alive = runtime.containers.filter { $0.state == .running || $0.state == .unknown || $0.state == .created }
        let started = context.time.now()
        if !alive.isEmpty { await TrafficDrain(slices: context.slices, time: context.time).wait(pod, graceSeconds: graceSeconds) }
        if Task.isCancelled { return }
        await withTaskGroup(of: Void.self) { group in
            for record in alive where !sidecarNames.contains(record.name) {
                group.addTask { await killQuietly(record, graceSeconds) }
            }
        }
        for name in sidecarNames.reversed() {
            if Task.isCancelled { return }
            let used = Int(context.time.now() - started)
            let left = graceSeconds == 0 ? 0 : max(Self.graceSecondsMin, graceSeconds - used)
            for record in alive where record.name == name { await killQuietly(record, left) }
        }
    }

    private func killQuietly(_ record: ContainerRecord, _ graceSeconds: Int) async {
        if record.state == .created {
            try? await context.runtime.removeContainer(record.id)
            return
        }
        do {
            try await kill(record, container: pod.container(named: record.name), message: "Stopping container \(record.name)", graceSeconds: graceSeconds)
        } catch {
            context.logger.debug("stopping a container failed", metadata: ["pod": "\(pod.longName)", "container": "\(record.name)", "error": "\(error)"])
        }
    }
}

/// Runs one lifecycle hook.
struct HookRunner: Sendable {
    let context: AgentContext
    let pod: Pod
    let addresses: [String]

    /// Nil on success.
    func run(_ hook: LifecycleHandler, _ container: Container, _ id: String, timeoutSeconds: Int?) async -> String? {
        if let exec = hook.exec {
            do {
                let answer = try await context.runtime.execSync(id, command: exec.command, timeoutSeconds: Int64(timeoutSeconds ?? 0))
                if answer.exitCode == 0 { return nil }
                let output = String(decoding: answer.stdout + answer.stderr, as: UTF8.self)
                return "command '\(exec.command.joined(separator: " "))' exited with \(answer.exitCode): \(output)"
            } catch {
                return "\(error)"
            }
        }
        if let sleep = hook.sleep {
            do { try await context.time.sleep(seconds: Double(sleep.seconds)) } catch { return "container terminated before sleep hook finished" }
            return nil
        }
        let timeout = Double(timeoutSeconds ?? 30)
        if let get = hook.httpGet {
            // Upstream: an HTTPS hook that meets a plain server is tried again without TLS; any answer of the server is a success.
            var action = get
            for attempt in 0..<2 {
                switch await context.http.get(action, container: container, podIP: addresses.first ?? "", timeoutSeconds: timeout, agent: "kube-lifecycle/1.36") {
                case .success: return nil
                case .failure(let text) where text.hasPrefix("HTTP probe failed"): return nil
                case .failure(let text):
                    if attempt == 0, action.scheme == "HTTPS" { action.scheme = "HTTP" } else { return text }
                }
            }
        }
        if let socket = hook.tcpSocket {
            if case .failure(let text) = await context.http.connect(socket, container: container, podIP: addresses.first ?? "", timeoutSeconds: timeout) {
                return text
            }
        }
        return nil
    }
}
