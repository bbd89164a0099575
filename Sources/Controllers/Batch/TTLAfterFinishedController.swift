import KubeClient
import KubeMeta
import KubeTypes

/// Removes finished Jobs after their `ttlSecondsAfterFinished`.
final class TTLAfterFinishedController: Controller {
    static let name = "ttl-after-finished-controller"
    static let inputs = [Job.resource]
    static let outputs = [Job.resource]

    private let context: ControllerContext
    private let jobs: Informer<Job>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        jobs = context.informer(Job.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        jobs.addHandler { [queue] event in
            if case .deleted = event { return }
            if event.object.spec.ttlSecondsAfterFinished != nil, event.object.isFinished { queue.enqueue(event.object.key) }
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    private func remaining(_ job: Job) -> Double? {
        guard let seconds = job.spec.ttlSecondsAfterFinished, job.isFinished, !job.metadata.isBeingDeleted,
            let finished = job.status.conditions.first(where: { ($0.type == "Complete" || $0.type == "Failed") && $0.status == "True" })?
                .lastTransitionTime.flatMap(KubeTime.parse)
        else { return nil }
        return finished + Double(seconds) - context.time.now()
    }

    private func sync(_ key: String) async throws {
        guard let cached = jobs.get(key), let left = remaining(cached) else { return }
        if left > 0 { return await queue.add(key, afterSeconds: left) }
        // The live object decides: its time to live may have been extended.
        guard let job = try await context.client.find(Job.self, namespace: cached.metadata.namespace, name: cached.metadata.name),
            let left = remaining(job)
        else { return }
        if left > 0 { return await queue.add(key, afterSeconds: left) }
        do {
            try await context.client.delete(
                Job.self, namespace: job.metadata.namespace, name: job.metadata.name, uid: job.metadata.uid, propagation: .foreground)
        } catch let status as APIStatus where status.isNotFound {}
    }
}
