import JSON
import KubeTypes
import NodeAgent
import Testing

/// The status that a pod's runtime state becomes.
@Suite("kubelet: pod status")
struct PodStatusTests {
    private func pod(_ spec: JSON, status: JSON = [:]) -> Pod {
        Pod(json: ["metadata": ["name": "p", "namespace": "default", "uid": "u", "generation": 3], "spec": spec, "status": status])
    }

    private func record(_ name: String, _ state: ContainerRecord.State, exitCode: Int = 0, attempt: Int = 0) -> ContainerRecord {
        var record = ContainerRecord(id: "\(name)-\(attempt)", name: name, sandboxID: "s", attempt: attempt, state: state, createdSeconds: 100)
        record.startedSeconds = 100
        record.finishedSeconds = state == .exited ? 110 : 0
        record.exitCode = exitCode
        return record
    }

    private func runtime(_ containers: [ContainerRecord]) -> PodRuntime {
        PodRuntime(sandboxes: [SandboxRecord(id: "s", attempt: 0, isReady: true, createdSeconds: 1, addresses: ["10.0.0.2"])], containers: containers)
    }

    private func status(_ pod: Pod, _ runtime: PodRuntime, terminal: Bool = false, waiting: [String: WaitingReason] = [:], probes: ProbeView = ProbeView())
        -> PodStatus {
        PodStatusBuilder(
            pod: pod, runtime: runtime, probes: probes, waiting: waiting, nodeIP: "172.30.0.10", now: 1000, isTerminal: terminal).build()
    }

    private func condition(_ status: PodStatus, _ type: String) -> PodCondition? { status.conditions.first { $0.type == type } }
    private let one: JSON = ["containers": [["name": "a", "image": "i"]]]

    @Test("before anything runs a pod is pending and its containers are being created")
    func pending() {
        let status = status(pod(one), PodRuntime())
        #expect(status.phase == "Pending")
        #expect(status.containerStatuses[0].state?.waiting?.reason == "ContainerCreating")
        #expect(condition(status, "Ready")?.reason == "ContainersNotReady")
        #expect(condition(status, "Ready")?.message == "containers with unready status: [a]")
        #expect(condition(status, "PodReadyToStartContainers")?.status == "False")
        #expect(status.qosClass == "BestEffort")
        #expect(status.observedGeneration == 3)
    }

    @Test("a running container without probes makes the pod ready")
    func running() {
        let status = status(pod(one), runtime([record("a", .running)]))
        #expect(status.phase == "Running")
        #expect(status.podIP == "10.0.0.2")
        #expect(status.containerStatuses[0].ready)
        #expect(condition(status, "Ready")?.status == "True")
    }

    @Test("a readiness probe must have succeeded, and its startup probe before it")
    func probes() {
        let spec: JSON = ["containers": [["name": "a", "image": "i", "readinessProbe": ["periodSeconds": 1], "startupProbe": ["periodSeconds": 1]]]]
        var probes = ProbeView()
        probes.readiness["a-0"] = .success
        #expect(!status(pod(spec), runtime([record("a", .running)]), probes: probes).containerStatuses[0].ready)
        probes.startup["a-0"] = .success
        let done = status(pod(spec), runtime([record("a", .running)]), probes: probes).containerStatuses[0]
        #expect(done.ready && done.started == true)
    }

    @Test("while init containers run the others wait with PodInitializing")
    func initializing() {
        let spec: JSON = ["initContainers": [["name": "i", "image": "i"]], "containers": [["name": "a", "image": "i"]]]
        let status = status(pod(spec), runtime([record("i", .running)]))
        #expect(status.phase == "Pending")
        #expect(status.containerStatuses[0].state?.waiting?.reason == "PodInitializing")
        #expect(condition(status, "Initialized")?.message == "containers with incomplete status: [i]")
    }

    @Test("a crashed container in back-off shows why it waits and how it ended")
    func crashLoop() {
        let why = WaitingReason(reason: "CrashLoopBackOff", message: "back-off 10s restarting failed container=a pod=p_default(u)")
        let status = status(pod(one), runtime([record("a", .exited, exitCode: 3, attempt: 2)]), waiting: ["a": why])
        #expect(status.phase == "Running")
        #expect(status.containerStatuses[0].state?.waiting?.reason == "CrashLoopBackOff")
        #expect(status.containerStatuses[0].lastState?.terminated?.exitCode == 3)
        #expect(status.containerStatuses[0].lastState?.terminated?.reason == "Error")
        #expect(status.containerStatuses[0].restartCount == 2)
    }

    @Test("the phase becomes final only when everything has stopped", arguments: [(0, "Succeeded"), (1, "Failed")])
    func final(exitCode: Int, phase: String) {
        var spec = one
        spec["restartPolicy"] = "Never"
        let runtime = runtime([record("a", .exited, exitCode: exitCode)])
        #expect(status(pod(spec), runtime).phase == "Running")
        let done = status(pod(spec), runtime, terminal: true)
        #expect(done.phase == phase)
        #expect(condition(done, "Ready")?.reason == (phase == "Succeeded" ? "PodCompleted" : "PodFailed"))
    }

    @Test("readiness gates hold the pod back until others set their conditions")
    func gates() {
        var spec = one
        spec["readinessGates"] = [["conditionType": "x/ready"]]
        let missing = status(pod(spec), runtime([record("a", .running)]))
        #expect(condition(missing, "Ready")?.reason == "ReadinessGatesNotReady")
        #expect(condition(missing, "Ready")?.message == "corresponding condition of pod readiness gate \"x/ready\" does not exist.")
        let set = status(pod(spec, status: ["conditions": [["type": "x/ready", "status": "True"]]]), runtime([record("a", .running)]))
        #expect(condition(set, "Ready")?.status == "True")
        #expect(condition(set, "x/ready") != nil)
    }

    @Test("a condition that stays as it was keeps its transition time")
    func transitionTimes() {
        let old = pod(one, status: ["conditions": [["type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"]]])
        #expect(condition(status(old, runtime([record("a", .running)])), "Ready")?.lastTransitionTime == "2020-01-01T00:00:00Z")
    }

    @Test("a patch has only what differs, and null for what is gone")
    func patch() {
        let old = PodStatus(json: ["phase": "Running", "message": "m", "podIP": "10.0.0.2"])
        let new = PodStatus(json: ["phase": "Succeeded", "podIP": "10.0.0.2"])
        #expect(StatusPatch.make(uid: "u", old: old, new: new) == ["metadata": ["uid": "u"], "status": ["phase": "Succeeded", "message": .null]])
        #expect(StatusPatch.make(uid: "u", old: old, new: old) == nil)
    }
}
