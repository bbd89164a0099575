import JSON
import KubeMeta
import KubeTypes

/// What a kubelet would report of a pod, without containers behind it.
enum SimulatedPod {
    /// Seconds after its start at which the pod's containers exit.
    static let exitAfterAnnotation = "martlet.dev/simulated-exit-after-seconds"
    /// Their exit code; 0 when absent.
    static let exitCodeAnnotation = "martlet.dev/simulated-exit-code"

    /// Seconds until the containers exit; nil when they run for good.
    static func exitAfterSeconds(_ pod: Pod) -> Double? {
        guard pod.spec.restartPolicy == "Never" || pod.spec.restartPolicy == "OnFailure" else { return nil }
        return pod.metadata.annotations[exitAfterAnnotation].flatMap { Double($0) }
    }

    private static func condition(_ type: String, _ isTrue: Bool, _ now: String, _ pod: Pod, reason: String? = nil) -> JSON {
        let status = isTrue ? "True" : "False"
        let known = pod.status.conditions.first { $0.type == type }
        var condition: JSON = ["type": .string(type), "status": .string(status), "lastProbeTime": .null]
        condition["lastTransitionTime"] = .string(known?.status == status ? known?.lastTransitionTime ?? now : now)
        if let reason { condition["reason"] = .string(reason) }
        if let generation = pod.metadata.generation { condition["observedGeneration"] = JSON(generation) }
        return condition
    }

    private static func containerStatus(_ container: Container, _ pod: Pod, ready: Bool, _ state: JSON) -> JSON {
        [
            "name": .string(container.name), "image": .string(container.image), "imageID": .string(container.image),
            "containerID": .string("simulated://\(pod.metadata.uid)/\(container.name)"), "ready": .bool(ready), "started": .bool(ready),
            "restartCount": 0, "state": state,
        ]
    }

    /// A patch of the status that says that everything runs.
    static func running(_ pod: Pod, node: SimulatedNode, address: String, now: String) -> JSON {
        let ready = pod.spec.readinessGates.allSatisfy { gate in
            pod.status.conditions.contains { $0.type == gate.conditionType && $0.status == "True" }
        }
        let start = pod.status.startTime ?? now
        let podAddress = pod.spec.hostNetwork == true ? node.address : address
        var status: JSON = [
            "phase": "Running", "hostIP": .string(node.address), "hostIPs": [["ip": .string(node.address)]], "podIP": .string(podAddress),
            "podIPs": [["ip": .string(podAddress)]], "startTime": .string(start),
            "conditions": [
                condition("PodReadyToStartContainers", true, now, pod), condition("Initialized", true, now, pod),
                condition("Ready", ready, now, pod, reason: ready ? nil : "ReadinessGatesNotReady"),
                condition("ContainersReady", true, now, pod),
            ],
            "containerStatuses": .array(
                pod.spec.containers.map { containerStatus($0, pod, ready: true, ["running": ["startedAt": .string(start)]]) }),
        ]
        if let generation = pod.metadata.generation { status["observedGeneration"] = JSON(generation) }
        if !pod.spec.initContainers.isEmpty {
            let done: JSON = [
                "terminated": ["exitCode": 0, "reason": "Completed", "startedAt": .string(start), "finishedAt": .string(start)]
            ]
            status["initContainerStatuses"] = .array(
                pod.spec.initContainers.map { container in
                    let runs = container.restartPolicy == "Always"
                    return containerStatus(container, pod, ready: true, runs ? ["running": ["startedAt": .string(start)]] : done)
                })
        }
        return ["metadata": ["uid": .string(pod.metadata.uid)], "status": status]
    }

    /// A patch of the status that says that the containers have exited.
    static func finished(_ pod: Pod, now: String) -> JSON {
        let code = pod.metadata.annotations[exitCodeAnnotation].flatMap { Int($0) } ?? 0
        let terminated: JSON = [
            "terminated": [
                "exitCode": JSON(code), "reason": code == 0 ? "Completed" : "Error", "startedAt": .string(pod.status.startTime ?? now),
                "finishedAt": .string(now),
            ]
        ]
        let reason = code == 0 ? "PodCompleted" : "PodFailed"
        return [
            "metadata": ["uid": .string(pod.metadata.uid)],
            "status": [
                "phase": code == 0 ? "Succeeded" : "Failed",
                "conditions": [
                    condition("PodReadyToStartContainers", false, now, pod),
                    condition("Initialized", true, now, pod, reason: "PodCompleted"),
                    condition("Ready", false, now, pod, reason: reason), condition("ContainersReady", false, now, pod, reason: reason),
                ],
                "containerStatuses": .array(pod.spec.containers.map { containerStatus($0, pod, ready: false, terminated) }),
            ],
        ]
    }
}
