import JSON
import KubeMeta
import KubeTypes

/// The delay before a failed pod is replaced: 10 s, doubled with each failure in a row, at most 10 minutes.
struct JobBackOff: Sendable {
    static let secondsFirst = 10.0
    static let secondsMax = 600.0

    var failures = 0
    var lastFailureSeconds = 0.0

    mutating func note(failedAt seconds: Double) {
        failures += 1
        lastFailureSeconds = max(lastFailureSeconds, seconds)
    }

    func remainingSeconds(now: Double) -> Double {
        guard failures > 0 else { return 0 }
        let delay = min(Self.secondsMax, Self.secondsFirst * Double(1 << min(failures - 1, 10)))
        return max(0, lastFailureSeconds + delay - now)
    }
}

/// Works out one step of a job. Writes nothing by itself.
struct JobSync {
    struct Event {
        var reason: String
        var message: String
        var isWarning = false
    }

    var job: Job
    /// The status as the server has it.
    var written: JSON
    let pods: [Pod]
    let released: Set<String>
    let now: Double
    let needsSync: Bool
    var backOff: JobBackOff
    private(set) var events: [Event] = []
    /// Pods that are written down as uncounted and may lose their finalizer.
    private(set) var toRelease: [Pod] = []
    private(set) var deletions: [Pod] = []
    private(set) var creations: [(index: Int?, failures: Int?)] = []
    private(set) var lookAgainSeconds: Double?

    init(job: Job, pods: [Pod], released: Set<String>, now: Double, backOff: JobBackOff, needsSync: Bool) {
        self.job = job
        written = job.status.json
        self.pods = pods
        self.released = released
        self.now = now
        self.backOff = backOff
        self.needsSync = needsSync
    }

    private func isTracked(_ pod: Pod) -> Bool {
        pod.metadata.finalizers.contains(JobFacts.finalizer) && !released.contains(pod.metadata.uid)
    }

    private func hasFailed(_ pod: Pod) -> Bool {
        if pod.status.phase == "Failed" { return true }
        return pod.metadata.isBeingDeleted && pod.status.phase != "Succeeded" && !job.replacesOnlyFailed
    }

    private mutating func lookAgain(after seconds: Double) { lookAgainSeconds = min(lookAgainSeconds ?? seconds, seconds) }

    private static func finishSeconds(_ pod: Pod) -> Double? {
        (pod.status.containerStatuses.compactMap { $0.state?.terminated?.finishedAt } + [pod.metadata.deletionTimestamp].compactMap { $0 })
            .compactMap(KubeTime.parse).max()
    }

    private var limit: Int { job.spec.completions ?? 0 }

    mutating func plan() {
        if job.status.startTime == nil, !job.isSuspended { job.status.startTime = KubeTime.text(now) }
        var active = pods.filter { !$0.isTerminated && !$0.metadata.isBeingDeleted }
        let terminating = pods.filter { !$0.isTerminated && $0.metadata.isBeingDeleted }

        // Newly finished pods.
        var uncounted = job.status.uncountedTerminatedPods ?? UncountedTerminatedPods()
        let known = Set(uncounted.succeeded + uncounted.failed)
        var completed = CompletionIndexes(text: job.status.completedIndexes ?? "", limit: limit)
        var failedIndexes = CompletionIndexes(text: job.status.failedIndexes ?? "", limit: limit)
        var failJobMessage: String?
        var newlyFailed = 0
        for pod in pods where isTracked(pod) {
            let uid = pod.metadata.uid
            if known.contains(uid) {
                toRelease.append(pod)
                continue
            }
            if pod.status.phase == "Succeeded" {
                if job.isIndexed {
                    guard let index = JobFacts.index(pod), index < limit else { toRelease.append(pod); continue }
                    completed.insert(index)
                } else {
                    uncounted.succeeded.append(uid)
                }
                toRelease.append(pod)
                backOff = JobBackOff()
            } else if hasFailed(pod) {
                let verdict = pod.status.phase == "Failed" ? PodFailureVerdict(pod, job.spec.podFailurePolicy) : .count
                toRelease.append(pod)
                if case .failJob(let message) = verdict { failJobMessage = failJobMessage ?? message }
                if job.spec.backoffLimitPerIndex != nil, let index = JobFacts.index(pod) {
                    let failures = Int(pod.metadata.annotations[JobFacts.indexFailures] ?? "0") ?? 0
                    if verdict == .failIndex || verdict != .ignore && failures >= job.spec.backoffLimitPerIndex ?? 0 {
                        failedIndexes.insert(index)
                    }
                }
                guard verdict != .ignore else { continue }
                uncounted.failed.append(uid)
                newlyFailed += 1
                backOff.note(failedAt: Self.finishSeconds(pod) ?? now)
            }
        }
        job.status.uncountedTerminatedPods = uncounted
        if job.isIndexed {
            job.status.completedIndexes = completed.count > 0 ? completed.text : nil
            if job.spec.backoffLimitPerIndex != nil { job.status.failedIndexes = failedIndexes.text }
        }
        let succeeded = job.isIndexed ? completed.count : (job.status.succeeded ?? 0) + uncounted.succeeded.count
        let failed = (job.status.failed ?? 0) + uncounted.failed.count
        if job.isIndexed { job.status.succeeded = succeeded.nonZero }

        judgeFailure(active, failed, newlyFailed, failedIndexes, completed, failJobMessage)
        judgeSuccess(active, succeeded, completed, failedIndexes)
        let ending = job.has("FailureTarget") || job.has("SuccessCriteriaMet")
        if needsSync {
            if ending || job.isSuspended {
                deletions = active
            } else {
                planPods(&active, terminating, succeeded, completed, failedIndexes)
            }
        }
        if !ending { noteSuspension() }
        job.status.active = active.count.nonZero
        job.status.ready = active.count(where: \.isReady)
        job.status.terminating = terminating.count
        // The last word is said when nothing of the job runs any more.
        if ending, active.isEmpty, terminating.isEmpty, deletions.isEmpty { finish() }
    }

    /// Once the finalizers are off: the written-down pods are counted.
    mutating func count() {
        guard let uncounted = job.status.uncountedTerminatedPods, !uncounted.succeeded.isEmpty || !uncounted.failed.isEmpty else { return }
        job.status.succeeded = ((job.status.succeeded ?? 0) + uncounted.succeeded.count).nonZero
        job.status.failed = ((job.status.failed ?? 0) + uncounted.failed.count).nonZero
        job.status.uncountedTerminatedPods = UncountedTerminatedPods()
    }

    // MARK: The end

    private mutating func judgeFailure(
        _ active: [Pod], _ failed: Int, _ newlyFailed: Int, _ failedIndexes: CompletionIndexes, _ completed: CompletionIndexes,
        _ failJobMessage: String?
    ) {
        guard !job.has("FailureTarget"), !job.has("SuccessCriteriaMet") else { return }
        func target(_ reason: String, _ message: String) {
            job.status.set("FailureTarget", "True", reason: reason, message: message, now: now)
        }
        let backOffLimit = job.spec.backoffLimit ?? (job.spec.backoffLimitPerIndex != nil ? Int(Int32.max) : 6)
        if let failJobMessage { return target("PodFailurePolicy", failJobMessage) }
        let restarts = active.reduce(0) { sum, pod in
            sum + (pod.status.containerStatuses + pod.status.initContainerStatuses).reduce(0) { $0 + $1.restartCount }
        }
        let tooManyRestarts =
            job.spec.template.spec.restartPolicy == "OnFailure" && (backOffLimit == 0 ? restarts > 0 : restarts >= backOffLimit)
        if newlyFailed > 0 && failed > backOffLimit || tooManyRestarts {
            return target("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        }
        if let deadline = job.spec.activeDeadlineSeconds, !job.isSuspended, let start = job.status.startTime.flatMap(KubeTime.parse) {
            let left = start + Double(deadline) - now
            if left <= 0 { return target("DeadlineExceeded", "Job was active longer than specified deadline") }
            lookAgain(after: left)
        }
        if job.isIndexed, job.spec.backoffLimitPerIndex != nil {
            if let most = job.spec.maxFailedIndexes, failedIndexes.count > most {
                return target("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
            }
            if failedIndexes.count > 0, failedIndexes.count + completed.count >= limit {
                return target("FailedIndexes", "Job has failed indexes")
            }
        }
    }

    private mutating func judgeSuccess(
        _ active: [Pod], _ succeeded: Int, _ completed: CompletionIndexes, _ failedIndexes: CompletionIndexes
    ) {
        guard !job.has("FailureTarget"), !job.has("SuccessCriteriaMet") else { return }
        if job.isIndexed {
            for (number, rule) in (job.spec.successPolicy?.rules ?? []).enumerated() {
                var matching = completed
                if let text = rule.succeededIndexes {
                    let wanted = CompletionIndexes(text: text, limit: limit)
                    matching = CompletionIndexes(completed.indexes.intersection(wanted.indexes))
                    if rule.succeededCount == nil, matching.count < wanted.count { continue }
                }
                if let count = rule.succeededCount, matching.count < count { continue }
                return job.status.set(
                    "SuccessCriteriaMet", "True", reason: "SuccessPolicy", message: "Matched rules at index \(number)", now: now)
            }
        }
        let done: Bool
        if let completions = job.spec.completions { done = succeeded >= completions } else { done = succeeded > 0 && active.isEmpty }
        if done, !job.isSuspended || job.spec.completions != nil {
            job.status.set(
                "SuccessCriteriaMet", "True", reason: "CompletionsReached", message: "Reached expected number of succeeded pods", now: now)
        }
    }

    private mutating func finish() {
        if let target = job.condition("FailureTarget"), target.status == "True" {
            job.status.set("Failed", "True", reason: target.reason, message: target.message, now: now)
            events.append(Event(reason: target.reason, message: target.message, isWarning: true))
        } else if let target = job.condition("SuccessCriteriaMet"), target.status == "True" {
            job.status.set("Complete", "True", reason: target.reason, message: target.message, now: now)
            job.status.completionTime = KubeTime.text(now)
            events.append(Event(reason: "Completed", message: "Job completed"))
        }
        // A finished job has nothing uncounted: the API demands it in the same write.
        guard toRelease.isEmpty == false || job.status.uncountedTerminatedPods.map({ !$0.succeeded.isEmpty || !$0.failed.isEmpty }) == true
        else { return }
        if job.isFinished {
            // Counting comes first; the last word follows with the next sync.
            job.status.conditions.removeAll { $0.type == "Failed" || $0.type == "Complete" }
            job.status.completionTime = nil
            events.removeAll()
            lookAgain(after: 0.001)
        }
    }

    private mutating func noteSuspension() {
        if job.isSuspended {
            if job.condition("Suspended")?.status != "True" {
                job.status.set("Suspended", "True", reason: "JobSuspended", message: "Job suspended", now: now)
                events.append(Event(reason: "Suspended", message: "Job suspended"))
            }
            job.status.startTime = nil
        } else if job.condition("Suspended")?.status == "True" {
            job.status.set("Suspended", "False", reason: "JobResumed", message: "Job resumed", now: now)
            job.status.startTime = KubeTime.text(now)
            events.append(Event(reason: "Resumed", message: "Job resumed"))
        }
    }

    // MARK: Pods

    private mutating func planPods(
        _ active: inout [Pod], _ terminating: [Pod], _ succeeded: Int, _ completed: CompletionIndexes, _ failedIndexes: CompletionIndexes
    ) {
        if job.isIndexed {
            // Two pods of one index, or one of an index that is done: the later one goes.
            var seen: Set<Int> = []
            for pod in active.sorted(by: {
                ($0.metadata.creationSeconds, $0.metadata.name) < ($1.metadata.creationSeconds, $1.metadata.name)
            }) {
                guard let index = JobFacts.index(pod), index < limit, !completed.contains(index), !failedIndexes.contains(index),
                    seen.insert(index).inserted
                else {
                    deletions.append(pod)
                    continue
                }
            }
        }
        let kept = active.filter { pod in !deletions.contains { $0.metadata.uid == pod.metadata.uid } }
        let wanted: Int
        if let completions = job.spec.completions {
            wanted = max(0, min(completions - succeeded - (job.isIndexed ? failedIndexes.count : 0), job.parallelism))
        } else {
            wanted = succeeded > 0 ? min(kept.count, job.parallelism) : job.parallelism
        }
        if kept.count > wanted {
            deletions += PodDeletionRank.sorted(kept, now: now, podsOnNode: [:]).prefix(kept.count - wanted)
            return
        }
        var missing = wanted - kept.count
        if job.replacesOnlyFailed { missing -= terminating.count }
        guard missing > 0 else { return }
        let delay = backOff.remainingSeconds(now: now)
        if delay > 0, job.spec.backoffLimitPerIndex == nil { return lookAgain(after: delay) }
        guard job.isIndexed else {
            creations = Array(repeating: (nil, nil), count: min(missing, 500))
            return
        }
        var taken = Set(kept.compactMap(JobFacts.index))
        if job.replacesOnlyFailed { taken.formUnion(terminating.compactMap(JobFacts.index)) }
        for index in 0..<limit where creations.count < min(missing, 500) {
            guard !taken.contains(index), !completed.contains(index), !failedIndexes.contains(index) else { continue }
            guard job.spec.backoffLimitPerIndex != nil else {
                creations.append((index, nil))
                continue
            }
            let earlier = pods.filter { JobFacts.index($0) == index && hasFailed($0) }
            let counted = earlier.filter { PodFailureVerdict($0, job.spec.podFailurePolicy) != .ignore }.count
            var own = JobBackOff()
            for pod in earlier { own.note(failedAt: Self.finishSeconds(pod) ?? now) }
            let wait = own.remainingSeconds(now: now)
            if wait > 0 { lookAgain(after: wait) } else { creations.append((index, counted)) }
        }
    }
}
