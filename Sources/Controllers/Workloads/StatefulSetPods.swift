import KubeMeta
import KubeTypes

/// How a StatefulSet's pods and claims look.
enum StatefulSetPods {
    static let nameLabel = "statefulset.kubernetes.io/pod-name"
    static let indexLabel = "apps.kubernetes.io/pod-index"

    static func ordinal(_ pod: Pod, of set: StatefulSet) -> Int? {
        let prefix = "\(set.metadata.name)-"
        guard pod.metadata.name.hasPrefix(prefix) else { return nil }
        let digits = pod.metadata.name.dropFirst(prefix.count)
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(digits)
    }

    static func claimName(_ template: PersistentVolumeClaim, _ set: StatefulSet, _ ordinal: Int) -> String {
        "\(template.metadata.name)-\(set.metadata.name)-\(ordinal)"
    }

    static func claims(_ set: StatefulSet, _ ordinal: Int) -> [PersistentVolumeClaim] {
        set.spec.volumeClaimTemplates.map { template in
            var claim = template
            claim.metadata.name = claimName(template, set, ordinal)
            claim.metadata.namespace = set.metadata.namespace
            claim.metadata.labels.merge(set.spec.selector.matchLabels) { _, new in new }
            claim.status = PersistentVolumeClaimStatus()
            if set.spec.persistentVolumeClaimRetentionPolicy?.whenDeleted == "Delete" {
                var owner = set.controllerReference
                owner.blockOwnerDeletion = true
                claim.metadata.ownerReferences = [owner]
            }
            return claim
        }
    }

    static func pod(_ set: StatefulSet, _ template: PodTemplateSpec, revision: String, _ ordinal: Int) -> Pod {
        var pod = PodControl.pod(from: template, owner: set)
        pod.metadata.generateName = ""
        pod.metadata.name = "\(set.metadata.name)-\(ordinal)"
        setIdentity(&pod, set, ordinal)
        pod.metadata.labels[TemplateHash.revisionLabel] = revision
        pod.spec.hostname = pod.metadata.name
        pod.spec.subdomain = set.spec.serviceName
        return pod
    }

    /// The labels and claims that make a pod this very replica.
    static func setIdentity(_ pod: inout Pod, _ set: StatefulSet, _ ordinal: Int) {
        pod.metadata.labels[nameLabel] = pod.metadata.name
        pod.metadata.labels[indexLabel] = String(ordinal)
        for template in set.spec.volumeClaimTemplates {
            var volume = Volume()
            volume.name = template.metadata.name
            var source = PersistentVolumeClaimVolumeSource()
            source.claimName = claimName(template, set, ordinal)
            volume.persistentVolumeClaim = source
            if let index = pod.spec.volumes.firstIndex(where: { $0.name == volume.name }) {
                if pod.spec.volumes[index].persistentVolumeClaim?.claimName != source.claimName { pod.spec.volumes[index] = volume }
            } else {
                pod.spec.volumes.append(volume)
            }
        }
    }
}
