import CRI

/// A container as the runtime knows it.
package struct ContainerRecord: Sendable, Equatable {
    package enum State: Sendable { case created, running, exited, unknown }

    package var id: String
    package var name: String
    package var sandboxID: String
    package var attempt: Int
    package var state: State
    /// Seconds since 1970; 0 when it has not happened.
    package var createdSeconds: Double
    package var startedSeconds = 0.0
    package var finishedSeconds = 0.0
    package var exitCode = 0
    package var reason = ""
    package var message = ""
    /// As the pod's spec says it.
    package var image = ""
    /// Digest reference, or the id.
    package var imageID = ""
    package var hash = ""
    package var logPath = ""
    package var gracePeriodSeconds: Int?

    package init(id: String, name: String, sandboxID: String = "", attempt: Int = 0, state: State, createdSeconds: Double = 0) {
        self.id = id
        self.name = name
        self.sandboxID = sandboxID
        self.attempt = attempt
        self.state = state
        self.createdSeconds = createdSeconds
    }
}

package struct SandboxRecord: Sendable, Equatable {
    package var id: String
    package var attempt: Int
    package var isReady: Bool
    package var createdSeconds: Double
    package var addresses: [String] = []

    package init(id: String, attempt: Int, isReady: Bool, createdSeconds: Double, addresses: [String] = []) {
        self.id = id
        self.attempt = attempt
        self.isReady = isReady
        self.createdSeconds = createdSeconds
        self.addresses = addresses
    }
}

/// Everything the runtime has of one pod, newest first.
package struct PodRuntime: Sendable, Equatable {
    package var sandboxes: [SandboxRecord] = []
    package var containers: [ContainerRecord] = []

    package init(sandboxes: [SandboxRecord] = [], containers: [ContainerRecord] = []) {
        self.sandboxes = sandboxes
        self.containers = containers
    }

    package var readySandbox: SandboxRecord? { sandboxes.first.flatMap { $0.isReady ? $0 : nil } }
    package func newest(_ name: String) -> ContainerRecord? { containers.first { $0.name == name } }
    /// The newest of a name in one sandbox.
    package func newest(_ name: String, in sandbox: String) -> ContainerRecord? { containers.first { $0.name == name && $0.sandboxID == sandbox } }
    /// The one before the newest.
    package func previous(_ name: String) -> ContainerRecord? { containers.filter { $0.name == name }.dropFirst().first }
    package var running: [ContainerRecord] { containers.filter { $0.state == .running } }
}

/// Labels and annotations that tie the runtime's objects to pods: upstream's own, so that its tools understand them.
enum RuntimeLabel {
    static let podName = "io.kubernetes.pod.name"
    static let podNamespace = "io.kubernetes.pod.namespace"
    static let podUID = "io.kubernetes.pod.uid"
    static let containerName = "io.kubernetes.container.name"
    static let hash = "io.kubernetes.container.hash"
    static let restartCount = "io.kubernetes.container.restartCount"
    static let terminationMessagePath = "io.kubernetes.container.terminationMessagePath"
    static let terminationMessagePolicy = "io.kubernetes.container.terminationMessagePolicy"
    static let gracePeriod = "io.kubernetes.pod.terminationGracePeriod"
    /// Ours: the host's side of the termination message file.
    static let terminationMessageHostPath = "martlet.dev/termination-message-file"
}

/// Reads a pod from the runtime; details of ended containers and addresses of sandboxes are read once.
struct PodRuntimeReader: Sendable {
    private let runtime: CRIClient
    private let uid: String
    private var details: [String: ContainerRecord] = [:]
    private var addresses: [String: [String]] = [:]

    init(runtime: CRIClient, uid: String) {
        self.runtime = runtime
        self.uid = uid
    }

    mutating func read() async throws -> PodRuntime {
        let uid = uid
        let runtime = runtime
        async let listedSandboxes = runtime.listPodSandboxes(configured(CRIPodSandboxFilter()) { $0.labelSelector = [RuntimeLabel.podUID: uid] })
        async let listedContainers = runtime.listContainers(configured(CRIContainerFilter()) { $0.labelSelector = [RuntimeLabel.podUID: uid] })
        let (sandboxes, containers) = try await (listedSandboxes, listedContainers)
        var result = PodRuntime()
        for sandbox in sandboxes.sorted(by: { $0.createdAt > $1.createdAt }) {
            var record = SandboxRecord(
                id: sandbox.id, attempt: Int(sandbox.metadata.attempt), isReady: sandbox.state == .sandboxReady,
                createdSeconds: Double(sandbox.createdAt) / 1e9)
            if record.isReady {
                if addresses[sandbox.id] == nil { addresses[sandbox.id] = try await readAddresses(sandbox.id) }
                record.addresses = addresses[sandbox.id] ?? []
            }
            result.sandboxes.append(record)
        }
        var seen: Set<String> = []
        for container in containers.sorted(by: { $0.createdAt > $1.createdAt }) {
            seen.insert(container.id)
            let state = Self.state(container.state)
            if let known = details[container.id], known.state == state {
                result.containers.append(known)
                continue
            }
            guard let detail = try await readDetail(container) else { continue }
            if detail.state == .running || detail.state == .exited { details[container.id] = detail }
            result.containers.append(detail)
        }
        details = details.filter { seen.contains($0.key) }
        addresses = addresses.filter { key, _ in sandboxes.contains { $0.id == key } }
        return result
    }

    private func readAddresses(_ id: String) async throws -> [String] {
        do {
            let network = try await runtime.podSandboxStatus(id).status.network
            return network.ip.isEmpty ? [] : [network.ip] + network.additionalIps.map(\.ip)
        } catch {
            if error.isNotFound { return [] }
            throw error
        }
    }

    private func readDetail(_ container: CRIContainer) async throws -> ContainerRecord? {
        do {
            let status = try await runtime.containerStatus(container.id).status
            var record = ContainerRecord(
                id: container.id, name: container.metadata.name, sandboxID: container.podSandboxID, attempt: Int(container.metadata.attempt),
                state: Self.state(status.state), createdSeconds: Double(status.createdAt) / 1e9)
            record.startedSeconds = Double(status.startedAt) / 1e9
            record.finishedSeconds = Double(status.finishedAt) / 1e9
            record.exitCode = Int(status.exitCode)
            record.reason = status.reason
            record.message = status.message
            record.image = status.image.image
            record.imageID = status.imageRef
            record.hash = status.annotations[RuntimeLabel.hash] ?? ""
            record.logPath = status.logPath
            record.gracePeriodSeconds = status.annotations[RuntimeLabel.gracePeriod].flatMap { Int($0) }
            if let count = status.annotations[RuntimeLabel.restartCount].flatMap({ Int($0) }) { record.attempt = count }
            if record.state == .exited {
                record.message = try await Blocking.run { TerminationMessage.read(status) }
            }
            return record
        } catch {
            if (error as? CRIError)?.isNotFound == true { return nil }
            throw error
        }
    }

    static func state(_ state: CRIContainerState) -> ContainerRecord.State {
        switch state {
        case .containerCreated: .created
        case .containerRunning: .running
        case .containerExited: .exited
        default: .unknown
        }
    }
}
