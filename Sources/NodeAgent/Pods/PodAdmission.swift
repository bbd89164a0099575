import KubeMeta
import KubeTypes

/// The kubelet's own check of a pod that was bound to it: it must fit beside those that are here already.
enum PodAdmission {
    struct Rejection: Equatable, Sendable {
        var reason: String
        var message: String
    }

    /// Nil when the pod may run.
    static func check(_ pod: Pod, others: [Pod], allocatable: [String: Quantity]) -> Rejection? {
        let active = others.filter { !$0.isFinished && $0.metadata.uid != pod.metadata.uid }
        func reject(_ resource: String, _ requested: Int64, _ used: Int64, _ capacity: Int64) -> Rejection {
            Rejection(
                reason: "OutOf\(resource)",
                message: "Pod was rejected: Node didn't have enough resource: \(resource), requested: \(requested), used: \(used), capacity: \(capacity)")
        }
        let slots = allocatable["pods"]?.value ?? 110
        if Int64(active.count) >= slots { return reject("pods", 1, Int64(active.count), slots) }
        for resource in ["cpu", "memory"] {
            let request = PodResources.request(pod, resource)
            guard request > .zero else { continue }
            let used = active.map { PodResources.request($0, resource) }.sum
            let room = allocatable[resource] ?? .zero
            if used + request > room {
                if resource == "cpu" { return reject(resource, request.milliValue, used.milliValue, room.milliValue) }
                return reject(resource, request.value, used.value, room.value)
            }
        }
        return nil
    }
}
