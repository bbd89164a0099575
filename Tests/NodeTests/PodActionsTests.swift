import JSON
import KubeTypes
import NodeAgent
import Testing

/// What happens next to a pod, decided from its spec and from what the runtime has.
@Suite("kubelet: what to do next")
struct PodActionsTests {
    private func pod(_ spec: JSON) -> Pod { Pod(json: ["metadata": ["name": "p", "namespace": "default", "uid": "u"], "spec": spec]) }

    private func record(_ name: String, _ state: ContainerRecord.State, exitCode: Int = 0, attempt: Int = 0, sandbox: String = "s") -> ContainerRecord {
        var record = ContainerRecord(id: "\(name)-\(attempt)", name: name, sandboxID: sandbox, attempt: attempt, state: state)
        record.exitCode = exitCode
        return record
    }

    private func runtime(_ containers: [ContainerRecord], ready: Bool = true) -> PodRuntime {
        PodRuntime(sandboxes: [SandboxRecord(id: "s", attempt: 0, isReady: ready, createdSeconds: 1)], containers: containers)
    }

    private func actions(_ spec: JSON, _ runtime: PodRuntime, _ probes: ProbeView = ProbeView()) -> PodActions {
        PodActions.compute(pod(spec), runtime, probes)
    }

    private let two: JSON = ["containers": [["name": "a", "image": "i"], ["name": "b", "image": "i"]]]

    @Test("a new pod gets a sandbox, then its containers in order")
    func new() {
        let actions = actions(two, PodRuntime())
        #expect(actions.createSandbox == 0)
        #expect(actions.start == ["a", "b"])
        #expect(!actions.killPod)
    }

    @Test("with init containers only the first one starts")
    func firstInit() {
        let spec: JSON = ["initContainers": [["name": "i", "image": "i"], ["name": "j", "image": "i"]], "containers": [["name": "a", "image": "i"]]]
        #expect(actions(spec, PodRuntime()).start == ["i"])
        #expect(actions(spec, runtime([record("i", .running)])).start == [])
        #expect(actions(spec, runtime([record("i", .exited)])).start == ["j"])
        #expect(actions(spec, runtime([record("j", .exited), record("i", .exited)])).start == ["a"])
    }

    @Test("a failed init container is tried again, but not under Never")
    func failedInit() {
        var spec: JSON = ["initContainers": [["name": "i", "image": "i"]], "containers": [["name": "a", "image": "i"]]]
        #expect(actions(spec, runtime([record("i", .exited, exitCode: 1)])).start == ["i"])
        spec["restartPolicy"] = "Never"
        #expect(actions(spec, runtime([record("i", .exited, exitCode: 1)])).isFinished)
    }

    @Test("a sidecar must have started before the next container does, and is restarted later")
    func sidecar() {
        let spec: JSON = [
            "initContainers": [["name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": ["exec": ["command": ["true"]]]]],
            "containers": [["name": "a", "image": "i"]],
        ]
        let running = runtime([record("s", .running)])
        #expect(actions(spec, running).start == [])
        var probes = ProbeView()
        probes.startup["s-0"] = .success
        #expect(actions(spec, running, probes).start == ["a"])
        #expect(actions(spec, runtime([record("a", .running), record("s", .exited)])).start == ["s"])
    }

    @Test("a pod is finished when its containers are, whatever sidecars still run")
    func finished() {
        let spec: JSON = [
            "restartPolicy": "OnFailure", "initContainers": [["name": "s", "image": "i", "restartPolicy": "Always"]],
            "containers": [["name": "a", "image": "i"]],
        ]
        #expect(actions(spec, runtime([record("a", .exited), record("s", .running)])).isFinished)
        #expect(!actions(spec, runtime([record("a", .exited, exitCode: 2), record("s", .running)])).isFinished)
    }

    @Test("restart policies", arguments: [("Always", 0, true), ("Always", 1, true), ("OnFailure", 0, false), ("OnFailure", 1, true), ("Never", 1, false)])
    func policies(policy: String, exitCode: Int, restarts: Bool) {
        #expect(PodActions.restarts(Container(json: ["name": "a"]), record("a", .exited, exitCode: exitCode), policy) == restarts)
    }

    @Test("a container's own restart rules come first")
    func rules() {
        let container = Container(json: [
            "name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [["action": "Restart", "exitCodes": ["operator": "In", "values": [42]]]],
        ])
        #expect(PodActions.restarts(container, record("a", .exited, exitCode: 42), "Never"))
        #expect(!PodActions.restarts(container, record("a", .exited, exitCode: 1), "Always"))
    }

    @Test("a failed liveness probe kills the container with upstream's words")
    func liveness() {
        var probes = ProbeView()
        probes.liveness["a-0"] = .failure
        let actions = actions(two, runtime([record("b", .running), record("a", .running)]), probes)
        #expect(actions.kill == [.init(id: "a-0", name: "a", message: "Container a failed liveness probe", reason: .livenessProbe)])
    }

    @Test("a dead sandbox is replaced with the next attempt, and what is left in it is stopped first")
    func deadSandbox() {
        let actions = actions(two, runtime([record("b", .running), record("a", .running)], ready: false))
        #expect(actions.createSandbox == 1)
        #expect(actions.killPod)
        #expect(actions.start == ["a", "b"])
    }

    @Test("a changed image replaces the container")
    func changed() {
        var old = record("a", .running)
        old.hash = "other"
        #expect(actions(two, runtime([record("b", .running), old])).kill.map(\.message) == ["Container a definition changed"])
    }

    @Test("the first restart is immediate, then 10 s doubling to 300 s, forgotten after ten quiet minutes")
    func backOff() {
        var backOff = BackOff()
        var now = 1000.0
        #expect(backOff.remaining("a", since: now, now: now) == 0)
        var waits: [Double] = []
        for _ in 0..<7 {
            backOff.next("a", event: now, now: now)
            waits.append(backOff.remaining("a", since: now, now: now))
            now += waits.last ?? 0
        }
        #expect(waits == [10, 20, 40, 80, 160, 300, 300])
        #expect(backOff.remaining("a", since: now + 1000, now: now + 1000) == 0)
        #expect(BackOff.text(80) == "1m20s")
    }
}
