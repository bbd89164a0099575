import KubeClient
import KubeMeta
import KubeTypes

/// Makes a Job of every CronJob whenever its schedule says so.
final class CronJobController: Controller {
    static let name = "cronjob-controller"
    static let inputs = [CronJob.resource, Job.resource]
    static let outputs = [CronJob.resource, Job.resource, Event.resource]

    static let scheduledAnnotation = "batch.kubernetes.io/cronjob-scheduled-timestamp"
    /// More missed moments than this are a sign of a wrong clock.
    private static let missedMax = 100
    private static let requeueSlackSeconds = 0.1

    private let context: ControllerContext
    private let crons: Informer<CronJob>
    private let jobs: Informer<Job>
    private let recorder: EventRecorder
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        crons = context.informer(CronJob.self)
        jobs = context.informer(Job.self)
        recorder = context.recorder(Self.name)
        queue = WorkQueue(name: Self.name, time: context.time)
        PodControl.index(jobs)
        crons.addHandler { [queue] event in queue.enqueue(event.object.key) }
        jobs.addHandler { [queue] event in
            guard let owner = event.object.metadata.controller, owner.kind == CronJob.resource.kind else { return }
            queue.enqueue("\(event.object.metadata.namespace)/\(owner.name)")
        }
    }

    func run() async { await queue.run(workers: 4) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard var cron = crons.get(key) else { return }
        let written = cron.status.json
        let children = jobs.indexed(PodControl.controllerIndex, cron.metadata.uid)
        try await noteFinished(&cron, children)
        try await removeHistory(cron, children)
        var next: Double?
        if !cron.metadata.isBeingDeleted, cron.spec.suspend != true { next = try await start(&cron, children) }
        if cron.status.json != written {
            do { try await context.client.updateStatus(cron) } catch let status as APIStatus where status.isNotFound { return }
        }
        if let next { await queue.add(key, afterSeconds: max(0, next - context.time.now()) + Self.requeueSlackSeconds) }
    }

    private func noteFinished(_ cron: inout CronJob, _ children: [Job]) async throws {
        for job in children where job.isFinished {
            guard let index = cron.status.active.firstIndex(where: { $0.uid == job.metadata.uid }) else { continue }
            cron.status.active.remove(at: index)
            let condition = job.has("Complete") ? "Complete" : "Failed"
            recorder.record(
                .normal, about: cron, reason: "SawCompletedJob", message: "Saw completed job: \(job.metadata.name), condition: \(condition)"
            )
        }
        for job in children where job.has("Complete") {
            if let time = job.status.completionTime, time > cron.status.lastSuccessfulTime ?? "" { cron.status.lastSuccessfulTime = time }
        }
        // Jobs that were removed by hand.
        let known = Set(children.map(\.metadata.uid))
        for reference in cron.status.active where !known.contains(reference.uid) {
            let live = try await context.client.find(Job.self, namespace: reference.namespace, name: reference.name)
            if live?.metadata.uid == reference.uid { continue }
            recorder.record(.normal, about: cron, reason: "MissingJob", message: "Active job went missing: \(reference.name)")
            cron.status.active.removeAll { $0.uid == reference.uid }
        }
        for job in children where !job.isFinished && !cron.status.active.contains(where: { $0.uid == job.metadata.uid }) {
            cron.status.active.append(Self.reference(job))
        }
    }

    private static func reference(_ job: Job) -> ObjectReference { job.objectReference }

    private func removeHistory(_ cron: CronJob, _ children: [Job]) async throws {
        for (jobs, limit) in [
            (children.filter { $0.has("Complete") }, cron.spec.successfulJobsHistoryLimit),
            (children.filter { $0.has("Failed") }, cron.spec.failedJobsHistoryLimit),
        ] {
            guard let limit, jobs.count > limit else { continue }
            let oldest = jobs.sorted { ($0.status.startTime ?? "", $0.metadata.name) < ($1.status.startTime ?? "", $1.metadata.name) }
            for job in oldest.prefix(jobs.count - limit) { try await delete(job, of: cron) }
        }
    }

    private func delete(_ job: Job, of cron: CronJob) async throws {
        do {
            try await context.client.delete(
                Job.self, namespace: job.metadata.namespace, name: job.metadata.name, uid: job.metadata.uid, propagation: .background)
            recorder.record(.normal, about: cron, reason: "SuccessfulDelete", message: "Deleted job \(job.metadata.name)")
        } catch let status as APIStatus where status.isNotFound {}
    }

    /// Starts a job if one is due; the next moment to look again.
    private func start(_ cron: inout CronJob, _ children: [Job]) async throws -> Double? {
        if let zone = cron.spec.timeZone, TimeZoneTable(name: zone) == nil {
            recorder.record(
                .warning, about: cron, reason: "UnknownTimeZone", message: "invalid timeZone: \"\(zone)\": unknown time zone \(zone)")
            return nil
        }
        // The schedule may carry its zone, as old objects do.
        var text = cron.spec.schedule
        var zone = cron.spec.timeZone
        for prefix in ["TZ=", "CRON_TZ="] where text.hasPrefix(prefix) {
            let parts = text.dropFirst(prefix.count).split(separator: " ", maxSplits: 1)
            if parts.count == 2 { (zone, text) = (String(parts[0]), String(parts[1])) }
        }
        guard let schedule = CronSchedule(text, timeZone: zone) else {
            recorder.record(
                .warning, about: cron, reason: "UnparseableSchedule", message: "unparseable schedule: \"\(cron.spec.schedule)\"")
            return nil
        }
        let now = context.time.now()
        let next = schedule.next(after: now)
        var earliest = cron.status.lastScheduleTime.flatMap(KubeTime.parse) ?? cron.metadata.creationSeconds
        if let deadline = cron.spec.startingDeadlineSeconds { earliest = max(earliest, now - Double(deadline)) }
        var due: Double?
        var missed = 0
        var moment = schedule.next(after: earliest)
        while let time = moment, time <= now {
            due = time
            missed += 1
            if missed > Self.missedMax {
                recorder.record(
                    .warning, about: cron, reason: "TooManyMissedTimes",
                    message: "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
                // From here the last one is found by looking back instead of counting on.
                due = lastMoment(schedule, before: now) ?? time
                break
            }
            moment = schedule.next(after: time)
        }
        guard let due else { return next }
        let name = "\(cron.metadata.name)-\(Int(due) / 60)"
        if children.contains(where: { $0.metadata.name == name }) || cron.status.lastScheduleTime.flatMap(KubeTime.parse) == due {
            return next
        }
        switch cron.spec.concurrencyPolicy {
        case "Forbid" where !cron.status.active.isEmpty:
            recorder.record(
                .normal, about: cron, reason: "JobAlreadyActive",
                message: "Not starting job because prior execution is running and concurrency policy is Forbid")
            return next
        case "Replace":
            for reference in cron.status.active {
                if let job = children.first(where: { $0.metadata.uid == reference.uid }) { try await delete(job, of: cron) }
            }
            cron.status.active = []
        default: break
        }
        var job = Job()
        job.metadata = ObjectMeta()
        job.metadata.name = name
        job.metadata.namespace = cron.metadata.namespace
        job.metadata.labels = cron.spec.jobTemplate.metadata.labels
        job.metadata.annotations = cron.spec.jobTemplate.metadata.annotations
        job.metadata.annotations[Self.scheduledAnnotation] = KubeTime.text(due)
        job.metadata.ownerReferences = [cron.controllerReference]
        job.spec = cron.spec.jobTemplate.spec
        do {
            let made = try await context.client.create(job)
            recorder.record(.normal, about: cron, reason: "SuccessfulCreate", message: "Created job \(name)")
            cron.status.active.append(Self.reference(made))
        } catch let status as APIStatus where status.isAlreadyExists {
            // Made by an earlier sync that this cache does not show yet.
        } catch  where PodControl.isNamespaceTerminating(error) {
            return nil
        } catch {
            recorder.record(.warning, about: cron, reason: "FailedCreate", message: "Error creating job: \(error)")
            throw error
        }
        cron.status.lastScheduleTime = KubeTime.text(due)
        return next
    }

    /// The last moment of the schedule up to now, looked for in windows that grow.
    private func lastMoment(_ schedule: CronSchedule, before now: Double) -> Double? {
        var window = 120.0
        while window < 366 * 86_400 {
            var found: Double?
            var moment = schedule.next(after: now - window)
            while let time = moment, time <= now {
                found = time
                moment = schedule.next(after: time)
            }
            if let found { return found }
            window *= 2
        }
        return nil
    }
}
