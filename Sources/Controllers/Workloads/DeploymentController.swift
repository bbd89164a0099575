import KubeClient
import KubeMeta
import KubeTypes

/// Rolls a Deployment's pods from one template to the next through ReplicaSets.
final class DeploymentController: Controller {
    static let name = "deployment-controller"
    static let inputs = [Deployment.resource, ReplicaSet.resource, Pod.resource]
    static let outputs = [Deployment.resource, ReplicaSet.resource, Event.resource]

    private let context: ControllerContext
    private let deployments: Informer<Deployment>
    private let replicaSets: Informer<ReplicaSet>
    private let pods: Informer<Pod>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        deployments = context.informer(Deployment.self)
        replicaSets = context.informer(ReplicaSet.self)
        pods = context.informer(Pod.self)
        recorder = context.recorder(Self.name)
        queue = WorkQueue(name: Self.name, time: context.time)
        PodControl.index(replicaSets)
        PodControl.index(pods)
        deployments.addHandler { [queue] event in queue.enqueue(event.object.key) }
        replicaSets.addHandler { [weak self] event in self?.replicaSetChanged(event) }
        pods.addHandler { [weak self] event in
            if case .deleted(let pod) = event { self?.podDeleted(pod) }
        }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func ownerKey(_ replicaSet: ReplicaSet) -> String? {
        guard let controller = replicaSet.metadata.controller, controller.kind == Deployment.resource.kind else { return nil }
        return "\(replicaSet.metadata.namespace)/\(controller.name)"
    }

    private func replicaSetChanged(_ event: InformerEvent<ReplicaSet>) {
        let replicaSet = event.object
        if case .updated(let old, _) = event, let before = ownerKey(old), before != ownerKey(replicaSet) { queue.enqueue(before) }
        if let key = ownerKey(replicaSet) {
            queue.enqueue(key)
        } else if replicaSet.metadata.controller == nil {
            for deployment in deployments.inNamespace(replicaSet.metadata.namespace)
            where deployment.spec.selector.selector.matches(replicaSet.metadata.labels) { queue.enqueue(deployment.key) }
        }
    }

    /// A Recreate deployment waits for its last old pod.
    private func podDeleted(_ pod: Pod) {
        guard let controller = pod.metadata.controller, controller.kind == ReplicaSet.resource.kind,
            let replicaSet = replicaSets.get(namespace: pod.metadata.namespace, name: controller.name), let key = ownerKey(replicaSet),
            let deployment = deployments.get(key), !deployment.isRollingUpdate
        else { return }
        queue.enqueue(key)
    }

    private func sync(_ key: String) async throws {
        guard let deployment = deployments.get(key) else { return }
        let selector = deployment.spec.selector.selector
        guard !selector.isEmpty else {
            recorder.record(
                .warning, about: deployment, reason: "SelectingAll",
                message: "This deployment is selecting all pods. A non-empty selector is required.")
            return
        }
        let candidates =
            replicaSets.indexed(PodControl.controllerIndex, deployment.metadata.uid)
            + replicaSets.indexed(PodControl.controllerIndex, "orphan/\(deployment.metadata.namespace)")
        let owned = try await Claimer<Deployment, ReplicaSet>(client: context.client, owner: deployment, selector: selector).claim(
            candidates)
        var rollout = DeploymentRollout(client: context.client, recorder: recorder, deployment: deployment, replicaSets: owned)
        do {
            if deployment.metadata.isBeingDeleted {
                try await rollout.writeStatus(rollout.calculatedStatus())
            } else {
                try await rollout.run { [pods] replicaSet in pods.indexed(PodControl.controllerIndex, replicaSet.metadata.uid) }
            }
        } catch  where PodControl.isNamespaceTerminating(error) {
            return
        } catch let status as APIStatus where status.isNotFound {
            return  // Gone meanwhile: its event brings the key back if there is anything left to do.
        }
        if let seconds = rollout.secondsToDeadline() { await queue.add(key, afterSeconds: seconds) }
    }
}
