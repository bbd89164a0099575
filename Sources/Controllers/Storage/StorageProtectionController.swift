import KubeClient
import KubeMeta
import KubeTypes

/// Holds back the deletion of claims that pods use and of volumes that claims use, by finalizers.
final class StorageProtectionController: Controller {
    static let name = "persistentvolumeclaim-protection-controller"
    static let inputs = [PersistentVolumeClaim.resource, PersistentVolume.resource, Pod.resource]
    static let outputs = [PersistentVolumeClaim.resource, PersistentVolume.resource]

    private static let claimIndex = "claim"

    private enum Key: Hashable, Sendable { case claim(String), volume(String) }

    private let context: ControllerContext
    private let claims: Informer<PersistentVolumeClaim>
    private let volumes: Informer<PersistentVolume>
    private let pods: Informer<Pod>
    private let queue: WorkQueue<Key>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        claims = context.informer(PersistentVolumeClaim.self)
        volumes = context.informer(PersistentVolume.self)
        pods = context.informer(Pod.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        pods.addIndex(Self.claimIndex) { pod in Self.claimKeys(pod) }
        claims.addHandler { [queue] event in
            let claim = event.object
            if case .deleted = event { return }
            if claim.metadata.isBeingDeleted == claim.metadata.finalizers.contains(VolumeFacts.claimProtection) {
                queue.enqueue(.claim(claim.key))
            }
        }
        volumes.addHandler { [queue] event in
            let volume = event.object
            if case .deleted = event { return }
            if volume.metadata.isBeingDeleted == volume.metadata.finalizers.contains(VolumeFacts.volumeProtection) {
                queue.enqueue(.volume(volume.key))
            }
        }
        pods.addHandler { [queue, claims] event in
            var pod = event.object
            if case .deleted(let last) = event { pod = last } else if !pod.isTerminated { return }
            for key in Self.claimKeys(pod) where claims.get(key)?.metadata.isBeingDeleted == true { queue.enqueue(.claim(key)) }
        }
    }

    private static func claimKeys(_ pod: Pod) -> [String] {
        pod.spec.volumes.compactMap { volume in
            if let claim = volume.persistentVolumeClaim { return "\(pod.metadata.namespace)/\(claim.claimName)" }
            return volume.ephemeral == nil ? nil : "\(pod.metadata.namespace)/\(pod.metadata.name)-\(volume.name)"
        }
    }

    func run() async {
        await queue.run(workers: 2) { [self] key in
            switch key {
            case .claim(let key): try await syncClaim(key)
            case .volume(let key): try await syncVolume(key)
            }
        }
    }

    private func syncClaim(_ key: String) async throws {
        guard var claim = claims.get(key) else { return }
        if claim.metadata.isBeingDeleted {
            let users = pods.indexed(Self.claimIndex, key).filter { !$0.spec.nodeName.isEmpty && !$0.isTerminated }
            guard claim.metadata.finalizers.contains(VolumeFacts.claimProtection), users.isEmpty else { return }
            claim.metadata.finalizers.removeAll { $0 == VolumeFacts.claimProtection }
        } else {
            guard !claim.metadata.finalizers.contains(VolumeFacts.claimProtection) else { return }
            claim.metadata.finalizers.append(VolumeFacts.claimProtection)
        }
        do { try await context.client.update(claim) } catch let status as APIStatus where status.isNotFound {}
    }

    private func syncVolume(_ name: String) async throws {
        guard var volume = volumes.get(name) else { return }
        if volume.metadata.isBeingDeleted {
            guard volume.metadata.finalizers.contains(VolumeFacts.volumeProtection), volume.status.phase != "Bound" else { return }
            volume.metadata.finalizers.removeAll { $0 == VolumeFacts.volumeProtection }
        } else {
            guard !volume.metadata.finalizers.contains(VolumeFacts.volumeProtection) else { return }
            volume.metadata.finalizers.append(VolumeFacts.volumeProtection)
        }
        do { try await context.client.update(volume) } catch let status as APIStatus where status.isNotFound {}
    }
}
