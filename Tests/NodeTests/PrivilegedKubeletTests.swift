import CRI
import Cgroup
import Foundation
import Hosts
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import NodeAgent
import Processes
import Testing

/// The kubelet on a real containerd. Needs root and the programs `HostCheck` lists; run on purpose:
/// `swift test --filter PrivilegedKubeletTests`.
@Suite("privileged: kubelet", .serialized)
struct PrivilegedKubeletTests {
    private func busybox(_ command: String..., more: JSON = [:]) -> JSON {
        var container: JSON = ["name": "c", "image": "busybox:1.36", "command": JSON(command)]
        for (key, value) in more.object ?? [:] { container[key] = value }
        return container
    }

    @Test("nginx becomes ready with an address, survives a new agent, answers logs, and is deleted gracefully")
    func nginx() async throws {
        try await KubeletBench.run { bench in
            let clock = ContinuousClock()
            let first = try bench.agent()
            let started = clock.now
            while try await bench.client.find(Node.self, name: "node-0")?.status.conditions.contains(where: { $0.type == "Ready" && $0.status == "True" }) != true {
                try await Task.sleep(for: .milliseconds(2))
                if clock.now - started > .seconds(10) { break }
            }
            print("node ready after \(clock.now - started)")
            let node = try await bench.client.get(Node.self, name: "node-0")
            #expect(node.status.conditions.first { $0.type == "Ready" }?.reason == "KubeletReady")
            #expect(node.metadata.labels["kubernetes.io/hostname"] == "node-0")
            #expect(node.status.nodeInfo?.kubeletVersion == "v1.36.2")
            #expect(node.status.allocatable["pods"]?.value == 110)

            let created = clock.now
            try await bench.create("web", [
                "containers": [["name": "nginx", "image": "nginx:1.14.2", "readinessProbe": ["httpGet": ["port": 80, "path": "/"]]]]
            ])
            let pod = try await bench.waitReady("web")
            print("nginx ready after \(clock.now - created)")
            #expect(pod.status.podIP.hasPrefix("10.197.0."))
            #expect(pod.status.phase == "Running" && pod.status.qosClass == "BestEffort")
            #expect(try await ProcessRunner.runChecked(Command(["curl", "-sS", "http://\(pod.status.podIP)/"])).outputText.contains("Welcome to nginx"))

            try await first.stop()
            let second = try bench.agent()
            try await Task.sleep(for: .seconds(1.5))
            let same = try await bench.waitReady("web")
            #expect(same.status.containerStatuses[0].containerID == pod.status.containerStatuses[0].containerID)
            #expect(same.status.containerStatuses[0].restartCount == 0)
            #expect(same.status.conditions.first { $0.type == "Ready" }?.lastTransitionTime == pod.status.conditions.first { $0.type == "Ready" }?.lastTransitionTime)

            #expect(try await bench.get("/healthz", asServer: false) == "ok")
            #expect(try await bench.get("/pods", asServer: false) == "Unauthorized")
            #expect(try await bench.get("/containerLogs/default/web/nginx?tailLines=1").contains("GET / HTTP/1.1"))
            #expect(try await bench.get("/containerLogs/default/web/nginx?previous=true") == "previous terminated container \"nginx\" in pod \"web\" not found")
            #expect(try await bench.get("/stats/summary").contains("\"podRef\":{\"name\":\"web\""))

            try await bench.delete("web")
            try await bench.waitGone("web")
            #expect(try await bench.runtime.listPodSandboxes().isEmpty)
            #expect(SmallFile.list(bench.data + "/kubelet/pods") == [])
            #expect(SmallFile.list(bench.data + "/logs") == [])
            #expect(bench.cgroups.children(of: bench.host.cgroup + "/kubepods/besteffort") == [])
            let reasons = Set(try await bench.events("web").compactMap(\.reason))
            #expect(reasons.isSuperset(of: ["Pulled", "Created", "Started", "Killing"]))
            try await second.stop()
        }
    }

    @Test("containers that fail: crash loop, out of memory, a failing liveness probe, a missing image")
    func failures() async throws {
        try await KubeletBench.run { bench in
            let agent = try bench.agent()
            try await bench.create("crash", ["containers": [busybox("sh", "-c", "echo last words > /dev/termination-log; exit 3")]])
            try await bench.create("oom", [
                "restartPolicy": "Never", "containers": [busybox("tail", "/dev/zero", more: ["resources": ["limits": ["memory": "20Mi"]]])],
            ])
            try await bench.create("sick", [
                "terminationGracePeriodSeconds": 1,
                "containers": [busybox("sleep", "1000", more: ["livenessProbe": ["exec": ["command": ["false"]], "periodSeconds": 1, "failureThreshold": 1]])],
            ])
            try await bench.create("noimage", ["containers": [["name": "c", "image": "never.invalid/x:1"]]])
            try await bench.create("badname", ["containers": [["name": "c", "image": "UPPER"]]])
            try await bench.create("root", ["containers": [busybox("true", more: ["securityContext": ["runAsNonRoot": true]])]])

            let crash = try await bench.wait("crash", "in back-off") { $0.status.containerStatuses.first?.state?.waiting?.reason == "CrashLoopBackOff" }
            let status = crash.status.containerStatuses[0]
            #expect(status.state?.waiting?.message == "back-off 10s restarting failed container=c pod=crash_default(\(crash.metadata.uid))")
            #expect(status.lastState?.terminated?.message == "last words\n")
            #expect(status.lastState?.terminated?.exitCode == 3)
            #expect(status.restartCount == 1)

            let oom = try await bench.wait("oom", "failed") { $0.status.phase == "Failed" }
            #expect(oom.status.containerStatuses[0].state?.terminated?.reason == "OOMKilled")
            #expect(oom.status.containerStatuses[0].state?.terminated?.exitCode == 137)

            try await bench.wait("sick", "restarted") { $0.status.containerStatuses.first?.restartCount ?? 0 > 0 }
            #expect(try await bench.events("sick").contains { $0.message == "Container c failed liveness probe, will be restarted" })

            try await bench.wait("noimage", seconds: 60, "in back-off") { $0.status.containerStatuses.first?.state?.waiting?.reason == "ImagePullBackOff" }
            try await bench.wait("badname", "refused") { $0.status.containerStatuses.first?.state?.waiting?.reason == "InvalidImageName" }
            let root = try await bench.wait("root", "refused") { $0.status.containerStatuses.first?.state?.waiting?.reason == "CreateContainerConfigError" }
            #expect(root.status.containerStatuses[0].state?.waiting?.message.hasPrefix("container has runAsNonRoot and image will run as root (pod: ") == true)
            for name in ["crash", "oom", "sick", "noimage", "badname", "root"] { try await bench.delete(name, graceSeconds: 1) }
            for name in ["crash", "oom", "sick", "noimage", "badname", "root"] { try await bench.waitGone(name) }
            try await agent.stop()
        }
    }

    @Test("init containers run in order, a sidecar runs beside the others and ends last")
    func order() async throws {
        try await KubeletBench.run { bench in
            let agent = try bench.agent()
            let mount: JSON = ["volumeMounts": [["name": "log", "mountPath": "/log"]]]
            func note(_ name: String, _ command: String) -> JSON {
                var container = busybox("sh", "-c", command, more: mount)
                container["name"] = .string(name)
                return container
            }
            var sidecar = note("side", "trap 'echo side-ends >> /log/o; exit 0' TERM; echo side >> /log/o; while :; do sleep 0.1; done")
            sidecar["restartPolicy"] = "Always"
            try await bench.create("order", [
                "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
                "initContainers": [note("one", "echo one >> /log/o"), sidecar, note("two", "echo two >> /log/o")],
                "containers": [note("main", "echo main >> /log/o; sleep 0.5; echo main-ends >> /log/o")],
                "volumes": [["name": "log", "hostPath": ["path": .string(bench.data + "/order"), "type": "DirectoryOrCreate"]]],
            ])
            let done = try await bench.wait("order", "succeeded") { $0.status.phase == "Succeeded" }
            #expect(SmallFile.read(bench.data + "/order/o") == "one\nside\ntwo\nmain\nmain-ends\nside-ends\n")
            #expect(done.status.conditions.first { $0.type == "Initialized" }?.reason == "PodCompleted")
            #expect(try await bench.get("/containerLogs/default/order/main") == "")
            try await bench.delete("order")
            try await bench.waitGone("order")
            try await agent.stop()
        }
    }

    @Test("a changed config map shows in the pod, fsGroup owns its volumes, a read-only root is one")
    func volumes() async throws {
        try await KubeletBench.run { bench in
            let agent = try bench.agent()
            try await bench.client.create(ConfigMap(json: ["metadata": ["name": "cm", "namespace": "default"], "data": ["a": "one"]]))
            try await bench.create("vol", [
                "terminationGracePeriodSeconds": 1, "securityContext": ["runAsUser": 1000, "runAsNonRoot": true, "fsGroup": 2000],
                "containers": [
                    busybox(
                        "sleep", "1000",
                        more: [
                            "securityContext": ["readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": ["drop": ["ALL"]]],
                            "volumeMounts": [
                                ["name": "cm", "mountPath": "/cm"], ["name": "e", "mountPath": "/e"], ["name": "e", "mountPath": "/sub", "subPath": "x/y"],
                                ["name": "t", "mountPath": "/t"],
                            ],
                        ])
                ],
                "volumes": [
                    ["name": "cm", "configMap": ["name": "cm"]], ["name": "e", "emptyDir": ["medium": "Memory", "sizeLimit": "8Mi"]],
                    ["name": "t", "projected": ["sources": [["serviceAccountToken": ["path": "token"]], ["downwardAPI": ["items": [["path": "ns", "fieldRef": ["fieldPath": "metadata.namespace"]]]]]]]],
                ],
            ])
            try await bench.waitReady("vol")
            #expect(try await bench.shell("vol", "cat /cm/a /t/ns; id -u; id -G") == "onedefault1000\n0 2000\n")
            #expect(try await bench.shell("vol", "touch /x").contains("Read-only file system"))
            #expect(try await bench.shell("vol", "echo hi > /sub/f && cat /e/x/y/f && stat -c %g /e/x/y/f") == "hi\n2000\n")
            #expect(try await bench.shell("vol", "df -k /e | tail -1").contains(" 8192 "))
            #expect(try await bench.shell("vol", "grep NoNewPrivs /proc/self/status; grep CapEff /proc/self/status") == "NoNewPrivs:\t1\nCapEff:\t0000000000000000\n")
            try await bench.client.patch(ConfigMap.self, namespace: "default", name: "cm", .merge, ["data": ["a": "two"]])
            try await Task.sleep(for: .milliseconds(500))
            #expect(try await bench.shell("vol", "cat /cm/a") == "two")

            // A missing config map holds the pod back, and its arrival lets it go at once.
            try await bench.create("late", [
                "terminationGracePeriodSeconds": 1, "containers": [busybox("sleep", "1000", more: ["volumeMounts": [["name": "cm", "mountPath": "/cm"]]])],
                "volumes": [["name": "cm", "configMap": ["name": "late"]]],
            ])
            try await Task.sleep(for: .milliseconds(500))
            #expect(try await bench.events("late").contains { $0.message == "MountVolume.SetUp failed for volume \"cm\" : configmap \"late\" not found" })
            try await bench.client.create(ConfigMap(json: ["metadata": ["name": "late", "namespace": "default"], "data": ["a": "b"]]))
            try await bench.waitReady("late")
            for name in ["vol", "late"] { try await bench.delete(name) }
            for name in ["vol", "late"] { try await bench.waitGone(name) }
            try await agent.stop()
        }
    }

    @Test("preStop runs before the stop signal, a deleted pod is unready at once, a forced deletion ends it too")
    func endings() async throws {
        try await KubeletBench.run { bench in
            let agent = try bench.agent()
            let volumes: JSON = [["name": "log", "hostPath": ["path": .string(bench.data + "/end"), "type": "DirectoryOrCreate"]]]
            try await bench.create("hook", [
                "terminationGracePeriodSeconds": 10,
                "containers": [
                    busybox(
                        "sh", "-c", "trap 'echo term >> /log/o; exit 0' TERM; while :; do sleep 0.1; done",
                        more: [
                            "volumeMounts": [["name": "log", "mountPath": "/log"]],
                            "lifecycle": ["preStop": ["exec": ["command": ["sh", "-c", "sleep 0.5; echo prestop >> /log/o"]]]],
                        ])
                ], "volumes": volumes,
            ])
            try await bench.waitReady("hook")
            try await bench.delete("hook")
            try await bench.wait("hook", seconds: 0.4, "unready") { $0.status.conditions.contains { $0.type == "Ready" && $0.status == "False" } }
            try await bench.waitGone("hook")
            #expect(SmallFile.read(bench.data + "/end/o") == "prestop\nterm\n")

            try await bench.create("force", ["containers": [busybox("sleep", "1000")]])
            try await bench.waitReady("force")
            try await bench.delete("force", graceSeconds: 0)
            let end = ContinuousClock.now + .seconds(10)
            while try await !bench.runtime.listPodSandboxes().isEmpty, ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(50)) }
            #expect(try await bench.runtime.listPodSandboxes().isEmpty)

            try await bench.create("deadline", ["activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1, "containers": [busybox("sleep", "1000")]])
            let failed = try await bench.wait("deadline", "failed") { $0.status.phase == "Failed" }
            #expect(failed.status.reason == "DeadlineExceeded")
            #expect(failed.status.message == "Pod was active on the node longer than the specified deadline")
            try await bench.delete("deadline")
            try await bench.waitGone("deadline")
            try await agent.stop()
        }
    }
}
