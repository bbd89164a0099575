import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Writes the scheduler's decisions to the API.
struct Binder: Sendable {
    /// How long a pod's volumes may take to be bound.
    static let volumesSecondsMax = 600.0
    private static let volumesPollSeconds = 0.02

    let client: KubeClient
    let recorder: EventRecorder
    let sources: VolumeNeeds.Sources

    /// Binds the pod's volumes, waits for them, and binds the pod.
    func bind(_ pod: PodInfo, nodeName: String, _ choices: [(claim: PersistentVolumeClaim, volume: PersistentVolume?)]) async throws {
        if !choices.isEmpty {
            for choice in choices { try await decide(choice.claim, choice.volume, nodeName) }
            try await waitForVolumes(choices.map(\.claim))
        }
        var target = ObjectReference()
        target.kind = "Node"
        target.name = nodeName
        var binding = Binding()
        binding.metadata.name = pod.pod.metadata.name
        binding.metadata.namespace = pod.namespace
        binding.metadata.uid = pod.uid
        binding.target = target
        try await client.createSubresource(
            Pod.resource, namespace: pod.namespace, name: pod.pod.metadata.name, subresource: "binding", binding.json)
        recorder.record(
            .normal, about: pod.pod, reason: "Scheduled",
            message: "Successfully assigned \(pod.namespace)/\(pod.pod.metadata.name) to \(nodeName)")
    }

    private func decide(_ claim: PersistentVolumeClaim, _ volume: PersistentVolume?, _ nodeName: String) async throws {
        guard var volume else {
            try await client.patch(
                PersistentVolumeClaim.self, namespace: claim.metadata.namespace, name: claim.metadata.name, .merge,
                ["metadata": ["annotations": [VolumeNeeds.selectedNodeAnnotation: .string(nodeName)]]])
            return
        }
        var reference = claim.objectReference
        reference.resourceVersion = claim.metadata.resourceVersion
        volume.spec.claimRef = reference
        volume.metadata.annotations["pv.kubernetes.io/bound-by-controller"] = "yes"
        try await client.update(volume)
    }

    private func waitForVolumes(_ claims: [PersistentVolumeClaim]) async throws {
        let end = client.time.now() + Self.volumesSecondsMax
        while client.time.now() < end {
            var allBound = true
            for claim in claims {
                guard let live = sources.claims.get(claim.key), live.metadata.uid == claim.metadata.uid else {
                    throw APIStatus.notFound(PersistentVolumeClaim.resource, name: claim.metadata.name)
                }
                // The provisioner gave the node back: the pod is scheduled afresh.
                if live.status.phase != "Bound" { allBound = false }
            }
            if allBound { return }
            try await client.time.sleep(seconds: Self.volumesPollSeconds)
        }
        throw APIStatus.internalError("binding volumes: timed out waiting for the condition")
    }

    /// Says on the pod why it has no node.
    func reportFailure(_ pod: PodInfo, message: String, nominatedNode: String?) async {
        recorder.record(.warning, about: pod.pod, reason: "FailedScheduling", message: message)
        let known = pod.pod.status.conditions.first { $0.type == "PodScheduled" }
        if known?.status == "False", known?.reason == "Unschedulable", known?.message == message, nominatedNode == nil { return }
        var condition: JSON = ["type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": .string(message)]
        condition["lastProbeTime"] = .null
        let changed = known?.status == "False" ? known?.lastTransitionTime : nil
        condition["lastTransitionTime"] = .string(changed ?? KubeTime.text(client.time.now()))
        if let generation = pod.pod.metadata.generation { condition["observedGeneration"] = JSON(generation) }
        var status: JSON = ["conditions": [condition]]
        if let nominatedNode { status["nominatedNodeName"] = .string(nominatedNode) }
        _ = try? await client.patch(
            Pod.self, namespace: pod.namespace, name: pod.pod.metadata.name, .strategic,
            ["metadata": ["uid": .string(pod.uid)], "status": status],
            subresource: "status")
    }

    /// Removes a pod so that a more important one finds room.
    func evict(_ victim: PodInfo, for pod: PodInfo, nodeName: String) async {
        let condition: JSON = [
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
            "lastTransitionTime": .string(KubeTime.text(client.time.now())),
        ]
        _ = try? await client.patch(
            Pod.self, namespace: victim.namespace, name: victim.pod.metadata.name, .strategic,
            ["metadata": ["uid": .string(victim.uid)], "status": ["conditions": [condition]]], subresource: "status")
        do {
            try await client.delete(Pod.self, namespace: victim.namespace, name: victim.pod.metadata.name, uid: victim.uid)
            recorder.record(.normal, about: victim.pod, reason: "Preempted", message: "Preempted by pod \(pod.uid) on node \(nodeName)")
        } catch {
            // Gone already, or refused: the pod that needs the room is tried again anyway.
        }
    }
}
