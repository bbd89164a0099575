import KubeMeta
import KubeTypes

/// The order in which surplus pods go: those that are missed least first.
enum PodDeletionRank {
    static let costAnnotation = "controller.kubernetes.io/pod-deletion-cost"

    private struct Ranked {
        var pod: Pod
        var unassigned: Bool
        var phase: Int
        var ready: Bool
        var cost: Int
        var doubled: Int
        var readyAge: Int
        var restarts: Int
        var age: Int
    }

    /// - Parameter podsOnNode: how many related pods run on a node; crowded nodes lose pods first.
    static func sorted(_ pods: [Pod], now: Double, podsOnNode: [String: Int]) -> [Pod] {
        let phases = ["Pending": 0, "Unknown": 1, "Running": 2]
        return pods.map { pod in
            let ready = pod.condition("Ready")
            let readySince = ready?.status == "True" ? ready?.lastTransitionTime.flatMap(KubeTime.parse) : nil
            return Ranked(
                pod: pod, unassigned: pod.spec.nodeName.isEmpty, phase: phases[pod.status.phase] ?? 0, ready: pod.isReady,
                cost: pod.metadata.annotations[costAnnotation].flatMap { Int($0) } ?? 0,
                doubled: podsOnNode[pod.spec.nodeName] ?? 0, readyAge: bucket(now - (readySince ?? now)), restarts: pod.restartCountMax,
                age: bucket(now - pod.metadata.creationSeconds))
        }.sorted { left, right in
            if left.unassigned != right.unassigned { return left.unassigned }
            if left.phase != right.phase { return left.phase < right.phase }
            if left.ready != right.ready { return !left.ready }
            if left.cost != right.cost { return left.cost < right.cost }
            if left.doubled != right.doubled { return left.doubled > right.doubled }
            if left.readyAge != right.readyAge { return left.readyAge < right.readyAge }
            if left.restarts != right.restarts { return left.restarts > right.restarts }
            if left.age != right.age { return left.age < right.age }
            return left.pod.metadata.uid < right.pod.metadata.uid
        }.map(\.pod)
    }

    /// Ages in powers of two (upstream `LogarithmicScaleDown`): pods of about the same age are taken at random, that is by UID.
    private static func bucket(_ seconds: Double) -> Int {
        guard seconds >= 1 else { return 0 }
        return Int.bitWidth - Int(seconds).leadingZeroBitCount
    }
}
