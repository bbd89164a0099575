import JSON
import KubeMeta
import KubeTypes

enum JobFacts {
    static let finalizer = "batch.kubernetes.io/job-tracking"
    static let indexKey = "batch.kubernetes.io/job-completion-index"
    static let indexFailures = "batch.kubernetes.io/job-index-failure-count"
    static let ignoredIndexFailures = "batch.kubernetes.io/job-index-ignored-failure-count"
    static let ownController = "kubernetes.io/job-controller"
    static let nameLabel = "batch.kubernetes.io/job-name"
    static let uidLabel = "batch.kubernetes.io/controller-uid"

    static func index(_ pod: Pod) -> Int? { pod.metadata.annotations[indexKey].flatMap { Int($0) } }

    /// A pod of the job; for Indexed jobs with its index.
    static func pod(_ job: Job, index: Int?, failures: Int?) -> Pod {
        var pod = PodControl.pod(from: job.spec.template, owner: job)
        pod.metadata.finalizers = pod.metadata.finalizers.filter { $0 != finalizer } + [finalizer]
        guard let index else { return pod }
        pod.metadata.generateName = "\(job.metadata.name)-\(index)-"
        pod.metadata.annotations[indexKey] = String(index)
        pod.metadata.labels[indexKey] = String(index)
        if let failures { pod.metadata.annotations[indexFailures] = String(failures) }
        pod.spec.hostname = "\(job.metadata.name)-\(index)"
        var field = ObjectFieldSelector()
        field.fieldPath = "metadata.labels['\(indexKey)']"
        var source = EnvVarSource()
        source.fieldRef = field
        var variable = EnvVar()
        variable.name = "JOB_COMPLETION_INDEX"
        variable.valueFrom = source
        func add(_ containers: inout [Container]) {
            for position in containers.indices where !containers[position].env.contains(where: { $0.name == variable.name }) {
                containers[position].env.append(variable)
            }
        }
        add(&pod.spec.containers)
        add(&pod.spec.initContainers)
        return pod
    }
}

extension Job {
    var parallelism: Int { spec.parallelism ?? 1 }
    var isIndexed: Bool { spec.completionMode == "Indexed" }
    var isSuspended: Bool { spec.suspend ?? false }
    func condition(_ type: String) -> JobCondition? { status.conditions.first { $0.type == type } }
    func has(_ type: String) -> Bool { condition(type)?.status == "True" }
    var isFinished: Bool { has("Complete") || has("Failed") }
    var replacesOnlyFailed: Bool {
        spec.podReplacementPolicy == "Failed" || spec.podReplacementPolicy == nil && spec.podFailurePolicy != nil
    }
}

extension JobStatus {
    mutating func set(_ type: String, _ value: String, reason: String, message: String, now: Double) {
        if let index = conditions.firstIndex(where: { $0.type == type }) {
            guard conditions[index].status != value || conditions[index].reason != reason else { return }
            if conditions[index].status != value { conditions[index].lastTransitionTime = KubeTime.text(now) }
            conditions[index].status = value
            conditions[index].reason = reason
            conditions[index].message = message
            conditions[index].lastProbeTime = KubeTime.text(now)
            return
        }
        var condition = JobCondition()
        condition.type = type
        condition.status = value
        condition.reason = reason
        condition.message = message
        condition.lastProbeTime = KubeTime.text(now)
        condition.lastTransitionTime = KubeTime.text(now)
        conditions.append(condition)
    }
}

/// What a job's failure policy says about a failed pod.
enum PodFailureVerdict: Equatable {
    case count
    case ignore
    case failIndex
    case failJob(String)

    init(_ pod: Pod, _ policy: PodFailurePolicy?) {
        for (number, rule) in (policy?.rules ?? []).enumerated() {
            guard let match = Self.match(rule, pod, number) else { continue }
            switch rule.action {
            case "Ignore": self = .ignore
            case "FailJob": self = .failJob(match)
            case "FailIndex": self = .failIndex
            default: self = .count
            }
            return
        }
        self = .count
    }

    private static func match(_ rule: PodFailurePolicyRule, _ pod: Pod, _ number: Int) -> String? {
        if let codes = rule.onExitCodes {
            for status in pod.status.initContainerStatuses + pod.status.containerStatuses {
                if let name = codes.containerName, name != status.name { continue }
                guard let code = status.state?.terminated?.exitCode, code != 0 else { continue }
                if codes.values.contains(code) == (codes.operator == "In") {
                    return
                        "Container \(status.name) for pod \(pod.key) failed with exit code \(code) matching \(rule.action) rule at index \(number)"
                }
            }
        }
        for pattern in rule.onPodConditions {
            let wanted = pattern.status.isEmpty ? "True" : pattern.status
            if pod.status.conditions.contains(where: { $0.type == pattern.type && $0.status == wanted }) {
                return "Pod \(pod.key) has condition \(pattern.type) matching \(rule.action) rule at index \(number)"
            }
        }
        return nil
    }
}
