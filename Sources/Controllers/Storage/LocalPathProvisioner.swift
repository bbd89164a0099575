import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Makes volumes that are folders on a node, for claims of class `local-path` (the default class). The folder itself is made by the node
/// when a pod mounts it, and removed by the node's agent when the volume is deleted (see `VolumeFacts.localPathNode`).
final class LocalPathProvisioner: Controller {
    static let name = "local-path-provisioner"
    static let inputs = [PersistentVolumeClaim.resource, StorageClass.resource, Node.resource, PersistentVolume.resource]
    static let outputs = [PersistentVolume.resource, StorageClass.resource, Event.resource]

    private let context: ControllerContext
    private let claims: Informer<PersistentVolumeClaim>
    private let volumes: Informer<PersistentVolume>
    private let classes: Informer<StorageClass>
    private let nodes: Informer<Node>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    private let orphans: WorkQueue<String>
    var gates: [RunGate] { [queue.gate, orphans.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        claims = context.informer(PersistentVolumeClaim.self)
        volumes = context.informer(PersistentVolume.self)
        classes = context.informer(StorageClass.self)
        nodes = context.informer(Node.self)
        recorder = context.recorder(VolumeFacts.localPathProvisioner)
        queue = WorkQueue(name: Self.name, time: context.time)
        orphans = WorkQueue(name: "\(Self.name)-orphans", time: context.time)
        claims.addHandler { [queue] event in
            if case .deleted = event { return }
            if event.object.metadata.annotations[VolumeFacts.storageProvisioner] == VolumeFacts.localPathProvisioner {
                queue.enqueue(event.object.key)
            }
        }
        volumes.addHandler { [orphans] event in
            if event.object.metadata.isBeingDeleted { orphans.enqueue(event.object.metadata.name) }
        }
        nodes.addHandler { [orphans, volumes] event in
            guard case .deleted = event else { return }
            for volume in volumes.all where volume.metadata.isBeingDeleted { orphans.enqueue(volume.metadata.name) }
        }
    }

    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await makeClass() }
            group.addTask { [self] in await queue.run(workers: 2) { [self] key in try await sync(key) } }
            group.addTask { [self] in await orphans.run(workers: 1) { [self] name in try await forgetNode(name) } }
        }
    }

    private func makeClass() async {
        guard context.options.createsLocalPathStorageClass, classes.get(VolumeFacts.localPathClass) == nil else { return }
        var storageClass = StorageClass()
        storageClass.metadata.name = VolumeFacts.localPathClass
        storageClass.metadata.annotations = [VolumeFacts.defaultClass: "true"]
        storageClass.provisioner = VolumeFacts.localPathProvisioner
        storageClass.reclaimPolicy = "Delete"
        storageClass.volumeBindingMode = "WaitForFirstConsumer"
        _ = try? await context.client.create(storageClass)
    }

    private func sync(_ key: String) async throws {
        guard let claim = claims.get(key), claim.spec.volumeName ?? "" == "", !claim.metadata.isBeingDeleted,
            let storageClass = classes.get(claim.spec.storageClassName ?? ""), storageClass.provisioner == VolumeFacts.localPathProvisioner
        else { return }
        let name = "pvc-\(claim.metadata.uid)"
        guard volumes.get(name) == nil else { return }
        guard let nodeName = claim.metadata.annotations[VolumeFacts.selectedNode] ?? nodes.all.map(\.metadata.name).min(), !nodeName.isEmpty
        else {
            throw APIStatus.internalError("no node to make the volume on")
        }
        guard claim.spec.volumeMode ?? "Filesystem" == "Filesystem" else {
            recorder.record(
                .warning, about: claim, reason: "ProvisioningFailed",
                message: "failed to provision volume with StorageClass \"\(storageClass.metadata.name)\": block volumes are not supported")
            return
        }
        recorder.record(
            .normal, about: claim, reason: "Provisioning",
            message: "External provisioner is provisioning volume for claim \"\(claim.key)\"")
        do { try await context.client.create(volume(name, claim, storageClass, nodeName)) } catch let status as APIStatus
            where status.isAlreadyExists
        { return }
        recorder.record(.normal, about: claim, reason: "ProvisioningSucceeded", message: "Successfully provisioned volume \(name)")
    }

    private func volume(_ name: String, _ claim: PersistentVolumeClaim, _ storageClass: StorageClass, _ nodeName: String)
        -> PersistentVolume
    {
        var volume = PersistentVolume()
        volume.metadata.name = name
        volume.metadata.annotations = [
            VolumeFacts.provisionedBy: VolumeFacts.localPathProvisioner, VolumeFacts.localPathNode: nodeName,
        ]
        volume.metadata.finalizers = [VolumeFacts.volumeProtection, VolumeFacts.localPathNode]
        volume.spec.capacity["storage"] = claim.spec.resources?.requests["storage"]
        volume.spec.accessModes = claim.spec.accessModes
        volume.spec.persistentVolumeReclaimPolicy = storageClass.reclaimPolicy ?? "Delete"
        volume.spec.storageClassName = storageClass.metadata.name
        volume.spec.volumeMode = "Filesystem"
        volume.spec.mountOptions = storageClass.mountOptions
        volume.spec.claimRef = claim.objectReference
        var path = HostPathVolumeSource()
        path.path = "\(context.options.localPathFolder(nodeName))/\(name)_\(claim.metadata.namespace)_\(claim.metadata.name)"
        path.type = "DirectoryOrCreate"
        volume.spec.hostPath = path
        var requirement = NodeSelectorRequirement()
        requirement.key = "kubernetes.io/hostname"
        requirement.operator = "In"
        requirement.values = [nodes.get(nodeName)?.metadata.labels["kubernetes.io/hostname"] ?? nodeName]
        var term = NodeSelectorTerm()
        term.matchExpressions = [requirement]
        var selector = NodeSelector()
        selector.nodeSelectorTerms = [term]
        var affinity = VolumeNodeAffinity()
        affinity.required = selector
        volume.spec.nodeAffinity = affinity
        return volume
    }

    /// No agent will remove the folder of a node that is gone, or that never had folders.
    private func forgetNode(_ name: String) async throws {
        guard var volume = volumes.get(name), volume.metadata.isBeingDeleted,
            volume.metadata.finalizers.contains(VolumeFacts.localPathNode),
            let nodeName = volume.metadata.annotations[VolumeFacts.localPathNode]
        else { return }
        if let node = nodes.get(nodeName), node.metadata.labels["martlet.dev/simulated"] == nil { return }
        volume.metadata.finalizers.removeAll { $0 == VolumeFacts.localPathNode }
        do { try await context.client.update(volume) } catch let status as APIStatus where status.isNotFound {}
    }
}
