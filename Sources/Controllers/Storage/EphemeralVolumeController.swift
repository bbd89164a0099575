import KubeClient
import KubeMeta
import KubeTypes

/// Makes the claims of generic ephemeral volumes, owned by their pods.
final class EphemeralVolumeController: Controller {
    static let name = "ephemeral-volume-controller"
    static let inputs = [Pod.resource, PersistentVolumeClaim.resource]
    static let outputs = [PersistentVolumeClaim.resource, Event.resource]

    private let context: ControllerContext
    private let pods: Informer<Pod>
    private let claims: Informer<PersistentVolumeClaim>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        pods = context.informer(Pod.self)
        claims = context.informer(PersistentVolumeClaim.self)
        recorder = context.recorder("ephemeral_volume")
        queue = WorkQueue(name: Self.name, time: context.time)
        pods.addHandler { [queue] event in
            if case .added(let pod) = event, pod.spec.volumes.contains(where: { $0.ephemeral != nil }) { queue.enqueue(pod.key) }
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard let pod = pods.get(key), pod.isActive else { return }
        for volume in pod.spec.volumes {
            guard let template = volume.ephemeral?.volumeClaimTemplate else { continue }
            var claim = PersistentVolumeClaim()
            claim.metadata = ObjectMeta()
            claim.metadata.name = "\(pod.metadata.name)-\(volume.name)"
            claim.metadata.namespace = pod.metadata.namespace
            if let known = claims.get(claim.key) {
                guard known.metadata.controller?.uid != pod.metadata.uid else { continue }
                let message = "PVC \"\(claim.key)\" was not created for pod \"\(pod.key)\" (pod is not owner)"
                recorder.record(.warning, about: pod, reason: "FailedBinding", message: "ephemeral volume \"\(volume.name)\": \(message)")
                continue
            }
            claim.metadata.labels = template.metadata.labels
            claim.metadata.annotations = template.metadata.annotations
            claim.metadata.ownerReferences = [pod.controllerReference]
            claim.spec = template.spec
            do { try await context.client.create(claim) } catch let status as APIStatus where status.isAlreadyExists {}
        }
    }
}
