import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Removes the folders of local-path volumes that are being deleted, then the finalizer that waited for it.
struct LocalPathReclaimer: Sendable {
    /// Finalizer, and annotation with the node's name, set by the provisioner (Controllers, `VolumeFacts.localPathNode`).
    static let node = "martlet.dev/local-path-node"

    let context: AgentContext
    let volumes: Informer<PersistentVolume>

    func run() async {
        let queue = WorkQueue<String>(name: "local-path-reclaimer", time: context.time)
        let name = context.configuration.nodeName
        volumes.addHandler { event in
            if case .deleted = event { return }
            if event.object.metadata.isBeingDeleted, event.object.metadata.annotations[Self.node] == name { queue.enqueue(event.object.metadata.name) }
        }
        volumes.start()
        await queue.run(workers: 1) { name in try await reclaim(name) }
        volumes.stop()
    }

    private func reclaim(_ name: String) async throws {
        guard let cached = volumes.get(name), cached.metadata.finalizers.contains(Self.node) else { return }
        // The newest one decides, and only a claim that is gone lets the folder go.
        guard let volume = try await context.client.find(PersistentVolume.self, name: name), volume.metadata.isBeingDeleted,
            volume.metadata.finalizers.contains(Self.node)
        else { return }
        if volume.spec.persistentVolumeReclaimPolicy == "Delete", let path = volume.spec.hostPath?.path ?? volume.spec.local?.path,
            path.hasPrefix(context.configuration.localVolumesDirectory + "/"), !path.split(separator: "/").contains("..") {
            try await Blocking.run { try Files.removeTree(path) }
        }
        let left = volume.metadata.finalizers.filter { $0 != Self.node }
        do {
            // With the version that was read: nobody's finalizer is lost.
            try await context.client.patch(
                PersistentVolume.self, name: name, .merge,
                ["metadata": ["resourceVersion": .string(volume.metadata.resourceVersion), "finalizers": JSON(left)]])
        } catch let status as APIStatus where status.isNotFound {}
    }
}
