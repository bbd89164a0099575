import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Brings claims and volumes together, and says what becomes of a volume whose claim has gone.
final class VolumeBinderController: Controller {
    static let name = "persistentvolume-binder-controller"
    static let inputs = [PersistentVolumeClaim.resource, PersistentVolume.resource, StorageClass.resource, Pod.resource]
    static let outputs = [PersistentVolumeClaim.resource, PersistentVolume.resource, Event.resource]

    enum Key: Hashable, Sendable { case claim(String), volume(String) }

    private let context: ControllerContext
    private let claims: Informer<PersistentVolumeClaim>
    private let volumes: Informer<PersistentVolume>
    private let classes: Informer<StorageClass>
    private let recorder: EventRecorder
    private let queue: WorkQueue<Key>
    var gates: [RunGate] { [queue.gate] }
    private var client: KubeClient { context.client }

    init(_ context: ControllerContext) {
        self.context = context
        claims = context.informer(PersistentVolumeClaim.self)
        volumes = context.informer(PersistentVolume.self)
        classes = context.informer(StorageClass.self)
        recorder = context.recorder("persistentvolume-controller")
        queue = WorkQueue(name: Self.name, time: context.time)
        claims.addHandler { [queue] event in
            let claim = event.object
            queue.enqueue(.claim(claim.key))
            if let volume = claim.spec.volumeName, !volume.isEmpty { queue.enqueue(.volume(volume)) }
        }
        volumes.addHandler { [queue, claims] event in
            let volume = event.object
            queue.enqueue(.volume(volume.metadata.name))
            if let reference = volume.spec.claimRef {
                queue.enqueue(.claim("\(reference.namespace)/\(reference.name)"))
            } else {
                // A free volume: any waiting claim may want it.
                for claim in claims.all where claim.status.phase != "Bound" { queue.enqueue(.claim(claim.key)) }
            }
        }
        classes.addHandler { [queue, claims] _ in
            for claim in claims.all where claim.status.phase != "Bound" { queue.enqueue(.claim(claim.key)) }
        }
    }

    func run() async {
        // One worker: two claims must not take the same volume.
        await queue.run(workers: 1) { [self] key in
            switch key {
            case .claim(let key): if let claim = claims.get(key) { try await sync(claim) }
            case .volume(let name): if let volume = volumes.get(name) { try await sync(volume) }
            }
        }
    }

    // MARK: Claims

    private func sync(_ claim: PersistentVolumeClaim) async throws {
        if claim.metadata.annotations[VolumeFacts.bindCompleted] != nil { return try await syncBound(claim) }
        if let name = claim.spec.volumeName, !name.isEmpty {
            guard let volume = volumes.get(name), volume.spec.claimRef == nil || VolumeFacts.isFor(volume, claim),
                VolumeFacts.satisfies(volume, claim)
            else { return try await setPhase(claim, "Pending") }
            return try await bind(volume, claim)
        }
        if let named = volumes.all.first(where: { VolumeFacts.isFor($0, claim) && !$0.metadata.isBeingDeleted }),
            VolumeFacts.satisfies(named, claim)
        {
            return try await bind(named, claim)
        }
        if claim.spec.storageClassName == nil, let fallback = defaultClass() {
            var changed = claim
            changed.spec.storageClassName = fallback
            try await client.update(changed)
            return
        }
        let storageClass = classes.get(claim.spec.storageClassName ?? "")
        let waits = storageClass?.volumeBindingMode == "WaitForFirstConsumer" && claim.metadata.annotations[VolumeFacts.selectedNode] == nil
        if !waits, let volume = bestMatch(claim) { return try await bind(volume, claim) }
        if waits {
            recorder.record(
                .normal, about: claim, reason: "WaitForFirstConsumer", message: "waiting for first consumer to be created before binding")
        } else if let storageClass {
            try await markProvisioner(claim, storageClass)
        } else {
            let name = claim.spec.storageClassName ?? ""
            recorder.record(
                name.isEmpty ? .normal : .warning, about: claim, reason: name.isEmpty ? "FailedBinding" : "ProvisioningFailed",
                message: name.isEmpty
                    ? "no persistent volumes available for this claim and no storage class is set"
                    : "storageclass.storage.k8s.io \"\(name)\" not found")
        }
        try await setPhase(claim, "Pending")
    }

    private func defaultClass() -> String? {
        classes.all.filter { $0.metadata.annotations[VolumeFacts.defaultClass] == "true" }
            .max { ($0.metadata.creationSeconds, $1.metadata.name) < ($1.metadata.creationSeconds, $0.metadata.name) }?.metadata.name
    }

    /// The smallest free volume that does.
    private func bestMatch(_ claim: PersistentVolumeClaim) -> PersistentVolume? {
        volumes.all.filter { volume in
            volume.spec.claimRef == nil && !volume.metadata.isBeingDeleted && volume.status.phase != "Released"
                && volume.status.phase != "Failed"
                && VolumeFacts.satisfies(volume, claim) && (claim.spec.selector.map { $0.selector.matches(volume.metadata.labels) } ?? true)
        }.min { left, right in
            let (a, b) = (left.spec.capacity["storage"] ?? .zero, right.spec.capacity["storage"] ?? .zero)
            return a != b ? a < b : left.metadata.name < right.metadata.name
        }
    }

    private func markProvisioner(_ claim: PersistentVolumeClaim, _ storageClass: StorageClass) async throws {
        let provisioner = storageClass.provisioner
        guard provisioner != "kubernetes.io/no-provisioner" else {
            recorder.record(
                .normal, about: claim, reason: "FailedBinding",
                message: "no persistent volumes available for this claim and no storage class is set")
            return
        }
        if claim.metadata.annotations[VolumeFacts.storageProvisioner] != provisioner {
            try await client.patch(
                PersistentVolumeClaim.self, namespace: claim.metadata.namespace, name: claim.metadata.name, .merge,
                [
                    "metadata": [
                        "annotations": [
                            VolumeFacts.storageProvisioner: .string(provisioner), VolumeFacts.betaStorageProvisioner: .string(provisioner),
                        ]
                    ]
                ])
        }
        recorder.record(
            .normal, about: claim, reason: "ExternalProvisioning",
            message: "Waiting for a volume to be created either by the external provisioner '\(provisioner)' or manually by the system "
                + "administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.")
    }

    private func syncBound(_ claim: PersistentVolumeClaim) async throws {
        let name = claim.spec.volumeName ?? ""
        guard !name.isEmpty else {
            return try await lose(claim, "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
        }
        guard let volume = volumes.get(name) else {
            if try await client.find(PersistentVolume.self, name: name) != nil { return }
            return try await lose(claim, "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        }
        if volume.spec.claimRef == nil || VolumeFacts.isFor(volume, claim) { return try await bind(volume, claim) }
        if volume.spec.claimRef?.uid != claim.metadata.uid {
            try await lose(claim, "Two claims are bound to the same volume, this one is bound incorrectly")
        }
    }

    private func lose(_ claim: PersistentVolumeClaim, _ message: String) async throws {
        if claim.status.phase != "Lost" { recorder.record(.warning, about: claim, reason: "ClaimLost", message: message) }
        try await setPhase(claim, "Lost")
    }

    private func setPhase(_ claim: PersistentVolumeClaim, _ phase: String) async throws {
        guard claim.status.phase != phase else { return }
        var changed = claim
        changed.status.phase = phase
        try await client.updateStatus(changed)
    }

    /// Four writes, each left out when it was done before: the volume's reference and phase, the claim's and its phase.
    private func bind(_ volume: PersistentVolume, _ claim: PersistentVolumeClaim) async throws {
        var volume = volume
        if volume.spec.claimRef?.uid != claim.metadata.uid {
            if volume.spec.claimRef == nil { volume.metadata.annotations[VolumeFacts.boundByController] = "yes" }
            volume.spec.claimRef = claim.objectReference
            volume = try await client.update(volume)
        }
        try await setPhase(&volume, "Bound")

        var claim = claim
        if claim.spec.volumeName != volume.metadata.name || claim.metadata.annotations[VolumeFacts.bindCompleted] == nil {
            if claim.spec.volumeName != volume.metadata.name {
                claim.spec.volumeName = volume.metadata.name
                claim.metadata.annotations[VolumeFacts.boundByController] = "yes"
            }
            claim.metadata.annotations[VolumeFacts.bindCompleted] = "yes"
            claim = try await client.update(claim)
        }
        let before = claim.status.json
        if claim.status.phase != "Bound" { claim.status.capacity["storage"] = volume.spec.capacity["storage"] }
        claim.status.phase = "Bound"
        claim.status.accessModes = volume.spec.accessModes
        if claim.status.json != before { try await client.updateStatus(claim) }
    }

    // MARK: Volumes

    private func setPhase(_ volume: inout PersistentVolume, _ phase: String, reason: String = "", message: String = "") async throws {
        guard volume.status.phase != phase else { return }
        volume.status.phase = phase
        volume.status.reason = reason
        volume.status.message = message
        volume.status.lastPhaseTransitionTime = KubeTime.text(context.time.now())
        volume = try await client.updateStatus(volume)
    }

    private func sync(_ volume: PersistentVolume) async throws {
        var volume = volume
        guard let reference = volume.spec.claimRef, !reference.uid.isEmpty else { return try await setPhase(&volume, "Available") }
        let cached = claims.get(namespace: reference.namespace, name: reference.name)
        // Before a volume is given up, the server itself is asked: the cache may lag.
        let claim =
            cached?.metadata.uid == reference.uid
            ? cached : try await client.find(PersistentVolumeClaim.self, namespace: reference.namespace, name: reference.name)
        if let claim, claim.metadata.uid == reference.uid {
            let name = claim.spec.volumeName ?? ""
            if name.isEmpty || name == volume.metadata.name { return await queue.add(.claim(claim.key)) }
            // The claim took another volume: this one is free again, or goes if it was made for the claim.
            if volume.metadata.annotations[VolumeFacts.provisionedBy] == nil {
                if volume.metadata.annotations[VolumeFacts.boundByController] != nil {
                    volume.spec.claimRef = nil
                    volume.metadata.annotations[VolumeFacts.boundByController] = nil
                } else {
                    volume.spec.claimRef?.uid = ""
                }
                volume = try await client.update(volume)
                return try await setPhase(&volume, "Available")
            }
        }
        if volume.status.phase != "Failed" { try await setPhase(&volume, "Released") }
        guard volume.spec.persistentVolumeReclaimPolicy == "Delete", !volume.metadata.isBeingDeleted else { return }
        guard volume.metadata.annotations[VolumeFacts.provisionedBy] == VolumeFacts.localPathProvisioner || volume.spec.csi == nil else {
            return
        }
        if volume.metadata.annotations[VolumeFacts.provisionedBy] == nil, volume.spec.hostPath == nil {
            recorder.record(
                .warning, about: volume, reason: "VolumeFailedDelete",
                message: "error getting deleter volume plugin for volume \"\(volume.metadata.name)\": no deletable volume plugin matched")
            return try await setPhase(
                &volume, "Failed", reason: "VolumeFailedDelete",
                message: "error getting deleter volume plugin for volume \"\(volume.metadata.name)\": no deletable volume plugin matched")
        }
        do { try await client.delete(PersistentVolume.self, name: volume.metadata.name, uid: volume.metadata.uid) } catch let status
            as APIStatus
            where status.isNotFound
        {}
    }
}
