import KubeMeta
import KubeTypes

/// Names and rules about volumes and claims.
enum VolumeFacts {
    static let bindCompleted = "pv.kubernetes.io/bind-completed"
    static let boundByController = "pv.kubernetes.io/bound-by-controller"
    static let provisionedBy = "pv.kubernetes.io/provisioned-by"
    static let selectedNode = "volume.kubernetes.io/selected-node"
    static let storageProvisioner = "volume.kubernetes.io/storage-provisioner"
    static let betaStorageProvisioner = "volume.beta.kubernetes.io/storage-provisioner"
    static let defaultClass = "storageclass.kubernetes.io/is-default-class"
    static let claimProtection = "kubernetes.io/pvc-protection"
    static let volumeProtection = "kubernetes.io/pv-protection"

    /// The provisioner of folders on nodes, and its StorageClass.
    static let localPathProvisioner = "martlet.dev/local-path"
    static let localPathClass = "local-path"
    /// On a provisioned volume: as an annotation the node that has the folder, as a finalizer the promise to remove it. The node's agent
    /// removes the folder of a volume that is being deleted and then the finalizer.
    static let localPathNode = "martlet.dev/local-path-node"

    static func isFor(_ volume: PersistentVolume, _ claim: PersistentVolumeClaim) -> Bool {
        guard let reference = volume.spec.claimRef, reference.name == claim.metadata.name, reference.namespace == claim.metadata.namespace
        else {
            return false
        }
        return reference.uid.isEmpty || reference.uid == claim.metadata.uid
    }

    /// Whether a volume has what a claim asks for; nodes are not looked at.
    static func satisfies(_ volume: PersistentVolume, _ claim: PersistentVolumeClaim) -> Bool {
        (volume.spec.capacity["storage"] ?? .zero) >= (claim.spec.resources?.requests["storage"] ?? .zero)
            && volume.spec.storageClassName ?? "" == claim.spec.storageClassName ?? ""
            && volume.spec.volumeMode ?? "Filesystem" == claim.spec.volumeMode ?? "Filesystem"
            && Set(claim.spec.accessModes).isSubset(of: volume.spec.accessModes)
    }
}
