import KubeClient
import CRI
import Glibc
import KubeMeta
import KubeTypes

/// Brings one container from its spec to a running process.
struct ContainerStarter: Sendable {
    /// Why it did not start: what the container's status says, and when to try again.
    struct Failure: Error, Sendable {
        var waiting: WaitingReason
        var retrySeconds: Double?
        /// Nothing says whether the next attempt will be any better: the pod's own retry delay counts.
        static func configuration(_ message: String) -> Failure {
            Failure(waiting: WaitingReason(reason: "CreateContainerConfigError", message: message), retrySeconds: nil)
        }
    }

    let context: AgentContext
    let pod: Pod
    let sandboxID: String
    let sandboxConfig: CRIPodSandboxConfig
    let volumes: PreparedVolumes
    let addresses: [String]
    let secrets: [Secret]

    /// - Parameter attempt: how often the container has been restarted.
    func start(_ container: Container, attempt: Int, targetID: String? = nil) async throws -> String {
        @Sendable func event(_ type: EventKind, _ reason: String, _ message: String) {
            context.event(type == .normal ? .normal : .warning, pod, container: container.name, reason: reason, message)
        }
        let found: ImageManager.Found
        do {
            found = try await context.images.ensure(container, pod: pod, secrets: secrets, sandboxConfig: sandboxConfig) { type, reason, message in
                context.event(type, pod, container: container.name, reason: reason, message)
            }
        } catch let failure as ImageManager.Failure {
            throw Failure(waiting: WaitingReason(reason: failure.reason, message: failure.message), retrySeconds: failure.retrySeconds)
        }
        let config: CRIContainerConfig
        do {
            config = try await ContainerConfigBuilder(
                context: context, pod: pod, container: container, attempt: attempt, found: found, volumes: volumes, addresses: addresses,
                targetID: targetID).build()
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            event(.warning, "Failed", "Error: \(error)")
            throw Failure.configuration("\(error)")
        }
        let id: String
        do {
            id = try await createContainer(config)
        } catch {
            if error.code == .canceled { throw CancellationError() }
            event(.warning, "Failed", "Error: \(error.message)")
            throw Failure(waiting: WaitingReason(reason: "CreateContainerError", message: error.message), retrySeconds: nil)
        }
        event(.normal, "Created", "Container created")
        do {
            try await context.runtime.startContainer(id)
        } catch {
            if error.code == .canceled { throw CancellationError() }
            event(.warning, "Failed", "Error: \(error.message)")
            throw Failure(waiting: WaitingReason(reason: "RunContainerError", message: error.message), retrySeconds: nil)
        }
        event(.normal, "Started", "Container started")
        try? await linkLog(container, attempt, id)
        if let hook = container.lifecycle?.postStart {
            if let failure = await HookRunner(context: context, pod: pod, addresses: addresses).run(hook, container, id, timeoutSeconds: nil) {
                event(.warning, "FailedPostStartHook", "PostStartHook failed")
                let record = ContainerRecord(id: id, name: container.name, state: .running)
                try? await ContainerKiller(context: context, pod: pod, addresses: addresses)
                    .kill(record, container: container, message: "FailedPostStartHook", graceSeconds: pod.gracePeriodSeconds)
                throw Failure(waiting: WaitingReason(reason: "PostStartHookError", message: failure), retrySeconds: nil)
            }
        }
        return id
    }

    private enum EventKind { case normal, warning }

    /// A container that an interrupted attempt left behind has our name: it goes first.
    private func createContainer(_ config: CRIContainerConfig) async throws(CRIError) -> String {
        do {
            return try await context.runtime.createContainer(sandbox: sandboxID, config: config, sandboxConfig: sandboxConfig)
        } catch {
            guard error.message.contains("is reserved for") else { throw error }
            let quoted = error.message.split(separator: "\"").last { $0.count == 64 }
            guard let leftover = quoted.map({ String($0) }) else { throw error }
            try await context.runtime.removeContainer(leftover)
            return try await context.runtime.createContainer(sandbox: sandboxID, config: config, sandboxConfig: sandboxConfig)
        }
    }

    /// `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, where log collectors look.
    private func linkLog(_ container: Container, _ attempt: Int, _ id: String) async throws {
        let target = "\(context.podLogDirectory(pod))/\(container.name)/\(attempt).log"
        let directory = context.configuration.containerLogsDirectory
        let link = "\(directory)/\(pod.metadata.name)_\(pod.metadata.namespace)_\(container.name)-\(id).log"
        try await Blocking.run {
            try Files.makeDirectories(directory)
            symlink(target, link)
        }
    }
}
