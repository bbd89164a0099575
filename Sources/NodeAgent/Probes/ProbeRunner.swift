import KubeClient
import CRI
import KubeMeta
import KubeTypes

/// Probes one container again and again until it is cancelled.
struct ProbeRunner: Sendable {
    /// A server needs a moment between its start and its first answer: within it a readiness or startup probe without initial delay is
    /// asked again at once, silently, so that a pod need not wait a whole period to become ready.
    static let quickSeconds = 1.0
    static let quickIntervalSeconds = 0.05
    private static let outputBytesMax = 10 << 10

    enum Answer: Sendable {
        case success
        case failure(String)
        /// The probe itself could not be carried out: it counts for nothing (upstream).
        case unknown(String)
    }

    let context: AgentContext
    let pod: Pod
    let container: Container
    let record: ContainerRecord
    let kind: PodProbe.Kind
    let probe: Probe
    let podIP: String

    func run(mayRun: @Sendable () async -> Bool, report: @Sendable (ProbeView.Verdict) async -> Void) async {
        var thresholds = ProbeThresholds(failureThreshold: probe.failureThreshold ?? 3, successThreshold: probe.successThreshold ?? 1)
        let period = Double(probe.periodSeconds ?? 10)
        let time = context.time
        let initial = record.startedSeconds + Double(probe.initialDelaySeconds ?? 0) - time.now()
        if initial > 0, (try? await time.sleep(seconds: initial)) == nil { return }
        let mayBeQuick = kind != .liveness && (probe.initialDelaySeconds ?? 0) == 0
        while !Task.isCancelled {
            guard await mayRun() else {
                // Another probe decides first; it takes a look at it often enough not to be late.
                if kind == .startup { return }
                if (try? await time.sleep(seconds: min(period, 0.1))) == nil { return }
                continue
            }
            switch await ask() {
            case .success: if let verdict = thresholds.note(success: true) { await report(verdict) }
            case .failure(let text):
                if Task.isCancelled { return }
                if mayBeQuick, time.now() - record.startedSeconds < Self.quickSeconds {
                    if (try? await time.sleep(seconds: Self.quickIntervalSeconds)) == nil { return }
                    continue
                }
                context.event(.warning, pod, container: container.name, reason: "Unhealthy", "\(kind.rawValue) probe failed: \(text)")
                if let verdict = thresholds.note(success: false) { await report(verdict) }
            case .unknown(let text):
                if Task.isCancelled { return }
                context.event(
                    .warning, pod, container: container.name, reason: "Unhealthy",
                    "\(kind.rawValue) probe errored and resulted in unknown state: \(text)")
            }
            if (try? await time.sleep(seconds: period)) == nil { return }
        }
    }

    private func ask() async -> Answer {
        let timeout = Double(max(1, probe.timeoutSeconds ?? 1))
        if let exec = probe.exec {
            let values = Dictionary(container.env.compactMap { variable in variable.value.map { (variable.name, $0) } }, uniquingKeysWith: { $1 })
            let command = exec.command.map { Expansion.expand($0) { values[$0] } }
            do {
                let answer = try await context.runtime.execSync(record.id, command: command, timeoutSeconds: Int64(timeout))
                if answer.exitCode == 0 { return .success }
                return .failure(String(decoding: (answer.stdout + answer.stderr).prefix(Self.outputBytesMax), as: UTF8.self))
            } catch {
                if error.code == .deadlineExceeded {
                    return .failure("command timed out: \"\(command.joined(separator: " "))\" timed out after \(Int(timeout))s")
                }
                return .unknown("\(error)")
            }
        }
        let outcome: HookClient.Outcome
        if let get = probe.httpGet {
            outcome = await context.http.get(get, container: container, podIP: podIP, timeoutSeconds: timeout, agent: "kube-probe/1.36")
        } else if let socket = probe.tcpSocket {
            outcome = await context.http.connect(socket, container: container, podIP: podIP, timeoutSeconds: timeout)
        } else if let grpc = probe.grpc {
            let address = podIP.contains(":") ? "[\(podIP)]" : podIP
            switch await GRPCHealth.check(host: podIP, port: grpc.port, service: grpc.service ?? "", timeout: .seconds(timeout)) {
            case .serving: outcome = .success("service healthy")
            case .notServing(let status): outcome = .failure("service unhealthy (responded with \"\(status)\")")
            case .unreachable:
                outcome = .failure("timeout: failed to connect service \"\(address):\(grpc.port)\" within \(Int(timeout))s: context deadline exceeded")
            case .failed(let text): outcome = .failure("error: health rpc probe failed: \(text)")
            }
        } else {
            return .unknown("missing probe handler for \(pod.longName):\(container.name)")
        }
        switch outcome {
        case .success: return .success
        case .failure(let text): return .failure(text)
        }
    }
}
