import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Runs the pods of Jobs to completion. Each pod carries a finalizer until it is counted, so that no result is lost and none counted twice.
final class JobController: Controller {
    static let name = "job-controller"
    static let inputs = [Job.resource, Pod.resource]
    static let outputs = [Job.resource, Pod.resource, Event.resource]

    private static let staleSeconds = 0.005

    private struct Memory {
        /// Pods whose finalizer is off though the cache does not show it yet.
        var released: Set<String> = []
        /// Job key -> resource version of our last write.
        var written: [String: Int64] = [:]
        var backOff: [String: JobBackOff] = [:]
    }

    private let context: ControllerContext
    private let jobs: Informer<Job>
    private let pods: Informer<Pod>
    private let control: PodControl
    private let expectations: Expectations
    private let queue: WorkQueue<String>
    private let orphans: WorkQueue<String>
    private let memory = Mutex(Memory())
    var gates: [RunGate] { [queue.gate, orphans.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        jobs = context.informer(Job.self)
        pods = context.informer(Pod.self)
        control = PodControl(client: context.client, recorder: context.recorder(Self.name))
        expectations = Expectations(time: context.time)
        queue = WorkQueue(name: Self.name, time: context.time)
        orphans = WorkQueue(name: "\(Self.name)-orphans", time: context.time)
        PodControl.index(pods)
        jobs.addHandler { [weak self] event in self?.jobChanged(event) }
        pods.addHandler { [weak self] event in self?.podChanged(event) }
    }

    func run() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }
            group.addTask { [self] in await orphans.run(workers: 2) { [self] key in try await releaseOrphan(key) } }
        }
    }

    // MARK: Events

    private func jobChanged(_ event: InformerEvent<Job>) {
        let job = event.object
        if case .deleted = event {
            expectations.forget(job.key)
            memory.withLock { memory in
                memory.written[job.key] = nil
                memory.backOff[job.key] = nil
            }
            for pod in pods.indexed(PodControl.controllerIndex, job.metadata.uid) { orphans.enqueue(pod.key) }
            return
        }
        queue.enqueue(job.key)
    }

    private func podChanged(_ event: InformerEvent<Pod>) {
        let pod = event.object
        let tracked = pod.metadata.finalizers.contains(JobFacts.finalizer)
        if !tracked { memory.withLock { _ = $0.released.remove(pod.metadata.uid) } }
        guard let owner = pod.metadata.controller, owner.kind == Job.resource.kind else {
            if tracked, case .updated = event { orphans.enqueue(pod.key) }
            return
        }
        let key = "\(pod.metadata.namespace)/\(owner.name)"
        switch event {
        case .added: if !pod.metadata.isBeingDeleted { expectations.creationSeen(key) }
        case .updated: if pod.metadata.isBeingDeleted { expectations.deletionSeen(key, pod.metadata.uid) }
        case .deleted:
            expectations.deletionSeen(key, pod.metadata.uid)
            memory.withLock { _ = $0.released.remove(pod.metadata.uid) }
        }
        if tracked, jobs.get(key)?.metadata.uid != owner.uid { orphans.enqueue(pod.key) }
        queue.enqueue(key)
    }

    /// A pod whose job has gone is not counted any more: nothing may hold it back.
    private func releaseOrphan(_ key: String) async throws {
        guard let pod = pods.get(key), pod.metadata.finalizers.contains(JobFacts.finalizer) else { return }
        if let owner = pod.metadata.controller, owner.kind == Job.resource.kind {
            if jobs.get(namespace: pod.metadata.namespace, name: owner.name)?.metadata.uid == owner.uid { return }
            if let live = try await context.client.find(Job.self, namespace: pod.metadata.namespace, name: owner.name),
                live.metadata.uid == owner.uid
            {
                return
            }
        }
        try await release(pod)
    }

    private func release(_ pod: Pod) async throws {
        memory.withLock { _ = $0.released.insert(pod.metadata.uid) }
        do {
            try await context.client.patch(
                Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic,
                [
                    "metadata": [
                        "uid": .string(pod.metadata.uid),
                        "$deleteFromPrimitiveList/finalizers": [.string(JobFacts.finalizer)],
                    ]
                ])
        } catch let status as APIStatus where status.isNotFound {
        } catch {
            memory.withLock { _ = $0.released.remove(pod.metadata.uid) }
            throw error
        }
    }

    // MARK: Sync

    private func sync(_ key: String) async throws {
        guard let job = jobs.get(key), job.spec.managedBy ?? JobFacts.ownController == JobFacts.ownController else { return }
        let (written, released) = memory.withLock { ($0.written[key] ?? 0, $0.released) }
        if let version = Int64(job.metadata.resourceVersion), version < written {
            return await queue.add(key, afterSeconds: Self.staleSeconds)
        }
        let candidates =
            pods.indexed(PodControl.controllerIndex, job.metadata.uid)
            + (job.isFinished ? [] : pods.indexed(PodControl.controllerIndex, "orphan/\(job.metadata.namespace)"))
        let owned = try await Claimer<Job, Pod>(client: context.client, owner: job, selector: job.spec.selector?.selector ?? .nothing)
            .claim(candidates)
        if job.isFinished || job.metadata.isBeingDeleted {
            for pod in owned where pod.metadata.finalizers.contains(JobFacts.finalizer) && !released.contains(pod.metadata.uid) {
                if job.isFinished || pod.isTerminated { try await release(pod) }
            }
            return
        }
        let needsSync = expectations.isSatisfied(key)
        var sync = JobSync(
            job: job, pods: owned, released: released, now: context.time.now(),
            backOff: memory.withLock { $0.backOff[key] } ?? JobBackOff(), needsSync: needsSync)
        sync.plan()
        memory.withLock { $0.backOff[key] = sync.backOff }
        do { try await carryOut(&sync, key) } catch  where PodControl.isNamespaceTerminating(error) {
        } catch let status as APIStatus where status.isNotFound {}
    }

    private func write(_ sync: inout JobSync, _ key: String) async throws {
        guard sync.job.status.json != sync.written else { return }
        let saved = try await context.client.updateStatus(sync.job)
        sync.written = saved.status.json
        sync.job = saved
        memory.withLock { $0.written[key] = Int64(saved.metadata.resourceVersion) ?? 0 }
    }

    private func carryOut(_ sync: inout JobSync, _ key: String) async throws {
        for event in sync.events {
            control.recorder.record(event.isWarning ? .warning : .normal, about: sync.job, reason: event.reason, message: event.message)
        }
        // First the pods to be counted are written down, then they are let go, then they are counted.
        try await write(&sync, key)
        let counted = sync.toRelease
        let failures = await withTaskGroup(of: (any Error)?.self) { group in
            for pod in counted {
                group.addTask { [self] in do { try await release(pod); return nil } catch { return error } }
            }
            return await group.reduce(into: [any Error]()) { if let error = $1 { $0.append(error) } }
        }
        if let failure = failures.first { throw failure }
        sync.count()

        let job = sync.job
        expectations.expectDeletions(key, sync.deletions.map(\.metadata.uid))
        for pod in sync.deletions {
            do { try await control.delete(pod, for: job) } catch {
                expectations.deletionSeen(key, pod.metadata.uid)
                if (error as? APIStatus)?.isNotFound != true { throw error }
            }
        }
        let creations = sync.creations
        expectations.expectCreations(key, creations.count)
        let control = control
        let result = await PodControl.slowStart(creations.count) { index in
            let entry = creations[index]
            try await control.create(JobFacts.pod(job, index: entry.index, failures: entry.failures), for: job)
        }
        for _ in result.succeeded..<creations.count { expectations.creationSeen(key) }
        sync.job.status.active = ((sync.job.status.active ?? 0) + result.succeeded - sync.deletions.count).nonZero
        if !sync.deletions.isEmpty { sync.job.status.terminating = (sync.job.status.terminating ?? 0) + sync.deletions.count }
        try await write(&sync, key)
        if let error = result.error { throw error }
        if let seconds = sync.lookAgainSeconds { await queue.add(key, afterSeconds: seconds) }
    }
}
