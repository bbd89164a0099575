import KubeClient
import KubeMeta
import KubeTypes

/// What a pod's claims demand of a node, and what has to be decided about them once a node is chosen.
struct VolumeNeeds: Sendable {
    static let selectedNodeAnnotation = "volume.kubernetes.io/selected-node"

    /// Node terms of bound volumes: all must match.
    var boundTerms: [[NodeTerms.Term]] = []
    /// Claims that wait for their first consumer, with the volumes that would fit them.
    var waiting: [(claim: PersistentVolumeClaim, volumes: [PersistentVolume], canProvision: Bool, topologies: [TopologySelectorTerm])] = []
    /// A reason that holds for every node.
    var refusalEverywhere: String?

    var isEmpty: Bool { boundTerms.isEmpty && waiting.isEmpty }

    /// The informers that volumes are judged from.
    struct Sources: Sendable {
        let claims: Informer<PersistentVolumeClaim>
        let volumes: Informer<PersistentVolume>
        let classes: Informer<StorageClass>
    }

    init() {}

    init(_ pod: PodInfo, _ sources: Sources) {
        for name in pod.claims {
            guard let claim = sources.claims.get(namespace: pod.namespace, name: name) else {
                refusalEverywhere = "persistentvolumeclaim \"\(name)\" not found"
                return
            }
            if claim.metadata.isBeingDeleted {
                refusalEverywhere = "persistentvolumeclaim \"\(name)\" is being deleted"
                return
            }
            if let volumeName = claim.spec.volumeName, !volumeName.isEmpty {
                guard claim.metadata.annotations["pv.kubernetes.io/bind-completed"] != nil || claim.status.phase == "Bound" else {
                    refusalEverywhere = "pod has unbound immediate PersistentVolumeClaims"
                    return
                }
                if let terms = sources.volumes.get(volumeName)?.spec.nodeAffinity?.required?.nodeSelectorTerms {
                    boundTerms.append(terms.map(NodeTerms.Term.init))
                }
                continue
            }
            guard let className = claim.spec.storageClassName, let storageClass = sources.classes.get(className),
                storageClass.volumeBindingMode == "WaitForFirstConsumer"
            else {
                refusalEverywhere = "pod has unbound immediate PersistentVolumeClaims"
                return
            }
            let wanted = claim.spec.resources?.requests["storage"] ?? .zero
            let fitting = sources.volumes.all.filter { volume in
                volume.spec.storageClassName == className && !volume.metadata.isBeingDeleted
                    && (volume.spec.claimRef == nil
                        || volume.spec.claimRef?.name == name && volume.spec.claimRef?.namespace == pod.namespace)
                    && volume.status.phase != "Released" && volume.status.phase != "Failed"
                    && (volume.spec.capacity["storage"] ?? .zero) >= wanted
                    && Set(claim.spec.accessModes).isSubset(of: volume.spec.accessModes)
                    && volume.spec.volumeMode ?? "Filesystem" == claim.spec.volumeMode ?? "Filesystem"
                    && (claim.spec.selector.map { $0.selector.matches(volume.metadata.labels) } ?? true)
            }.sorted { ($0.spec.capacity["storage"] ?? .zero) < ($1.spec.capacity["storage"] ?? .zero) }
            waiting.append((claim, fitting, storageClass.provisioner != "kubernetes.io/no-provisioner", storageClass.allowedTopologies))
        }
    }

    private static func fits(_ volume: PersistentVolume, _ node: NodeState) -> Bool {
        guard let terms = volume.spec.nodeAffinity?.required?.nodeSelectorTerms else { return true }
        return terms.contains { NodeTerms.Term($0).matches(labels: node.labels, name: node.name) }
    }

    func refusal(_ node: NodeState) -> Refusal? {
        for terms in boundTerms where !terms.contains(where: { $0.matches(labels: node.labels, name: node.name) }) {
            return Refusal("node(s) didn't match PersistentVolume's node affinity", isFinal: true)
        }
        return waiting.isEmpty || choices(node) != nil
            ? nil : Refusal("node(s) didn't find available persistent volumes to bind", isFinal: true)
    }

    /// For each waiting claim the volume to take, or nil in its place when one is to be provisioned. Nil when the node does not do.
    func choices(_ node: NodeState) -> [(claim: PersistentVolumeClaim, volume: PersistentVolume?)]? {
        var result: [(claim: PersistentVolumeClaim, volume: PersistentVolume?)] = []
        var taken: Set<String> = []
        for need in waiting {
            if let selected = need.claim.metadata.annotations[Self.selectedNodeAnnotation], selected != node.name { return nil }
            if let volume = need.volumes.first(where: { !taken.contains($0.metadata.name) && Self.fits($0, node) }) {
                taken.insert(volume.metadata.name)
                result.append((need.claim, volume))
                continue
            }
            let allowed =
                need.topologies.isEmpty
                || need.topologies.contains { term in
                    term.matchLabelExpressions.allSatisfy { node.labels[$0.key].map($0.values.contains) ?? false }
                }
            guard need.canProvision, allowed else { return nil }
            result.append((need.claim, nil))
        }
        return result
    }
}
