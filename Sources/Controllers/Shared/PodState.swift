import KubeMeta
package import KubeTypes

package extension Pod {
    func condition(_ type: String) -> PodCondition? { status.conditions.first { $0.type == type } }
    var isReady: Bool { condition("Ready")?.status == "True" }
    var isTerminated: Bool { status.phase == "Succeeded" || status.phase == "Failed" }
    /// Neither finished nor on its way out.
    var isActive: Bool { !isTerminated && !metadata.isBeingDeleted }

    /// The moment from which the pod has been ready for long enough; nil when it is not ready.
    func availableFromSeconds(minReadySeconds: Int) -> Double? {
        guard let ready = condition("Ready"), ready.status == "True" else { return nil }
        if minReadySeconds == 0 { return 0 }
        return (ready.lastTransitionTime.flatMap(KubeTime.parse) ?? 0) + Double(minReadySeconds)
    }

    func isAvailable(minReadySeconds: Int, now: Double) -> Bool {
        availableFromSeconds(minReadySeconds: minReadySeconds).map { $0 <= now } ?? false
    }

    /// Highest restart count of its containers.
    var restartCountMax: Int { (status.containerStatuses + status.initContainerStatuses).map(\.restartCount).max() ?? 0 }
}

extension Int {
    /// Absent in the JSON form when zero, as Go's `omitempty` writes it.
    var nonZero: Int? { self == 0 ? nil : self }
}
