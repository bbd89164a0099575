import CRI
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Logging

/// Sees to it that a container's image is on the node: pull policy, back-off, pull secrets, few pulls at a time.
///
/// An image that is here because somebody imported it is used under policy `Always` too while its registry cannot be reached at all
/// (docs/decisions/0010-imported-images.md).
actor ImageManager {
    /// Why there is no image to start from: the waiting reason and its message.
    struct Failure: Error, Sendable {
        var reason: String
        var message: String
        /// Seconds after which another attempt makes sense.
        var retrySeconds: Double?
    }

    struct Found: Sendable {
        /// What containers are created with.
        var id: String
        var image: CRIImage
    }

    /// A registry that was found unreachable is not asked again for this long.
    private static let unreachableSeconds = 60.0
    /// How long a pull under `Always` may take to show that the registry answers at all, when the image is here already.
    private static let probeSeconds = 1.0

    private let runtime: CRIClient
    private let time: any TimeSource
    private let registries: RegistryReach
    private let pullsMax: Int
    private var pulls = 0
    private var queue: [CheckedContinuation<Void, Never>] = []
    private var backOff = BackOff()
    private var lastErrors: [String: (reason: String, message: String, at: Double)] = [:]
    private var unreachable: [String: (until: Double, why: String)] = [:]
    /// When each image was last used by a container start.
    private(set) var lastUsed: [String: Double] = [:]

    init(runtime: CRIClient, time: any TimeSource, pullsMax: Int, registries: RegistryReach = RegistryReach()) {
        self.runtime = runtime
        self.time = time
        self.pullsMax = pullsMax
        self.registries = registries
    }

    /// - Parameter event: records an event about the container.
    func ensure(
        _ container: Container, pod: Pod, secrets: [Secret], sandboxConfig: CRIPodSandboxConfig,
        event: @Sendable (EventRecorder.EventType, _ reason: String, _ message: String) -> Void
    ) async throws -> Found {
        guard let name = ImageName(container.image) else {
            let message = "Failed to apply default image tag \"\(container.image)\": couldn't parse image name \"\(container.image)\": invalid reference format"
            event(.warning, "InspectFailed", message)
            throw Failure(reason: "InvalidImageName", message: message)
        }
        let reference = name.text
        let policy = container.imagePullPolicy ?? name.defaultPullPolicy
        let present: CRIImage?
        do {
            present = try await runtime.imageStatus(reference)
        } catch {
            let message = "Failed to inspect image \"\(reference)\": \(error)"
            event(.warning, "InspectFailed", message)
            throw Failure(reason: "ImageInspectError", message: message)
        }
        if let present, policy != "Always" {
            event(.normal, "Pulled", "Container image \"\(container.image)\" already present on machine and can be accessed by the pod")
            return found(present)
        }
        if present == nil, policy == "Never" {
            let message = "Container image \"\(container.image)\" is not present with pull policy of Never"
            event(.warning, "ErrImageNeverPull", message)
            throw Failure(reason: "ErrImageNeverPull", message: message)
        }

        // Imported, and nobody to ask: the image we have is the newest there can be.
        if let present, Self.isImported(present), let why = await whyUnreachable(name.registry) {
            let message = "Container image \"\(container.image)\" was imported on this machine and its registry cannot be reached (\(why)): using the imported image"
            event(.normal, "Pulled", message)
            return found(present)
        }

        let key = "\(pod.metadata.uid)_\(container.image)"
        let now = time.now()
        if let last = lastErrors[key] {
            let left = backOff.remaining(key, since: last.at, now: now)
            if left > 0 {
                event(.normal, "BackOff", "Back-off pulling image \"\(container.image)\"")
                throw Failure(
                    reason: "ImagePullBackOff", message: "Back-off pulling image \"\(container.image)\": \(last.reason): \(last.message)", retrySeconds: left)
            }
        }
        event(.normal, "Pulling", "Pulling image \"\(container.image)\"")
        let started = time.now()
        await enter()
        let entered = time.now()
        defer { leave() }
        do {
            let pulled = try await pull(reference, name, secrets, sandboxConfig)
            lastErrors[key] = nil
            backOff.forget(key)
            let ended = time.now()
            let size = pulled.image.size
            event(
                .normal, "Pulled",
                "Successfully pulled image \"\(container.image)\" in \(Self.duration(ended - entered)) (\(Self.duration(ended - started)) including waiting). Image size: \(size) bytes.")
            return pulled
        } catch let error as CRIError where error.code == .canceled {
            throw CancellationError()
        } catch let error as CRIError {
            let text = "failed to pull image \"\(container.image)\": \(error)"
            event(.warning, "Failed", "Failed to pull image \"\(container.image)\": \(error)")
            event(.warning, "Failed", "Error: ErrImagePull")
            let failed = time.now()
            backOff.next(key, event: failed, now: failed)
            lastErrors[key] = ("ErrImagePull", text, failed)
            if lastErrors.count > 1024 { lastErrors = lastErrors.filter { failed - $0.value.at < 600 } }
            throw Failure(reason: "ErrImagePull", message: text, retrySeconds: backOff.remaining(key, since: failed, now: failed))
        }
    }

    private func found(_ image: CRIImage) -> Found {
        lastUsed[image.id] = time.now()
        return Found(id: image.id, image: image)
    }

    private func pull(_ reference: String, _ name: ImageName, _ secrets: [Secret], _ sandboxConfig: CRIPodSandboxConfig) async throws -> Found {
        let spec = configured(CRIImageSpec()) { $0.image = reference }
        let credentials = PullSecrets.credentials(for: name, in: secrets)
        var failure: CRIError?
        let attempts: [CRIAuthConfig?] = credentials.isEmpty ? [nil] : credentials
        for auth in attempts {
            do {
                let id = try await runtime.pullImage(spec, auth: auth, sandboxConfig: sandboxConfig)
                if let image = try await runtime.imageStatus(id) { return found(image) }
                failure = CRIError(code: .notFound, message: "image \"\(reference)\" not found after pull")
            } catch {
                failure = error
            }
        }
        throw failure ?? CRIError(code: .unknown, message: "no credentials")
    }

    /// An image pulled from a registry has a digest under its repository's name; an imported one has only its tag (or a digest that
    /// the import itself made, for the name it was given).
    private static func isImported(_ image: CRIImage) -> Bool { image.repoDigests.isEmpty || image.repoDigests.allSatisfy { $0.hasPrefix("import-") } }

    // MARK: registries

    private func whyUnreachable(_ registry: String) async -> String? {
        let now = time.now()
        if let known = unreachable[registry] {
            if known.until > now { return known.why }
            unreachable[registry] = nil
        }
        guard let why = await registries.whyUnreachable(registry, withinSeconds: Self.probeSeconds) else { return nil }
        unreachable[registry] = (now + Self.unreachableSeconds, why)
        return why
    }

    // MARK: few pulls at a time

    private func enter() async {
        if pulls < pullsMax {
            pulls += 1
            return
        }
        await withCheckedContinuation { queue.append($0) }
    }

    private func leave() {
        if queue.isEmpty { pulls -= 1 } else { queue.removeFirst().resume() }
    }

    /// As Go prints it, to the millisecond.
    static func duration(_ seconds: Double) -> String {
        if seconds < 1 { return "\(Int(seconds * 1000))ms" }
        let milliseconds = Int(seconds * 1000) % 1000
        let whole = Int(seconds)
        var fraction = String(milliseconds)
        fraction = milliseconds == 0 ? "" : "." + String(repeating: "0", count: 3 - fraction.count) + fraction
        while fraction.hasSuffix("0") { fraction.removeLast() }
        return whole < 60 ? "\(whole)\(fraction)s" : "\(whole / 60)m\(whole % 60)\(fraction)s"
    }
}
