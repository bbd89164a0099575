import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("job, cronjob, ttl after finished")
struct BatchTests {
    private func job(_ spec: String, restart: String = "Never") -> String {
        """
        {"metadata":{"name":"j","namespace":"default"},"spec":{\(spec),
        "template":{"metadata":{},"spec":{"restartPolicy":"\(restart)","containers":[{"name":"c","image":"a"}]}}}}
        """
    }

    private func live(_ cluster: ClusterFixture) async throws -> Job {
        try await cluster.client.get(Job.self, namespace: "default", name: "j")
    }

    private func finishAll(_ cluster: ClusterFixture, phase: String = "Succeeded", code: Int = 0) async throws {
        for pod in try await cluster.list(Pod.self) where pod.isActive { try await cluster.finish(pod, phase: phase, exitCode: code) }
    }

    @Test("Job should run to completion when tasks succeed; pods are counted once and lose their finalizer")
    func completes() async throws {
        let cluster = ClusterFixture(["job-controller"])
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":4,\"parallelism\":2,\"backoffLimit\":6")))
        try await cluster.eventually("complete") {
            #expect(try await cluster.list(Pod.self).count(where: \.isActive) <= 2)
            try await finishAll(cluster)
            return try await live(cluster).status.conditions.contains { $0.type == "Complete" && $0.status == "True" }
        }
        let done = try await live(cluster)
        #expect(done.status.succeeded == 4)
        #expect(done.status.completionTime != nil)
        #expect(done.status.active == nil)
        #expect(done.status.conditions.map(\.type) == ["SuccessCriteriaMet", "Complete"])
        #expect(done.status.conditions.last?.reason == "CompletionsReached")
        let pods = try await cluster.list(Pod.self)
        #expect(pods.count == 4)
        try await cluster.eventually("no finalizers") { try await cluster.list(Pod.self).allSatisfy(\.metadata.finalizers.isEmpty) }
        #expect(pods.allSatisfy { $0.metadata.labels["batch.kubernetes.io/job-name"] == "j" })
    }

    @Test("Job should create pods for an Indexed job with completion indexes and specified hostname")
    func indexed() async throws {
        let cluster = ClusterFixture(["job-controller"])
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":3,\"parallelism\":3,\"completionMode\":\"Indexed\"")))
        try await cluster.eventually("three pods") { try await cluster.list(Pod.self).count == 3 }
        let pods = try await cluster.list(Pod.self)
        #expect(Set(pods.compactMap { $0.metadata.annotations["batch.kubernetes.io/job-completion-index"] }) == ["0", "1", "2"])
        #expect(Set(pods.compactMap(\.spec.hostname)) == ["j-0", "j-1", "j-2"])
        #expect(pods[0].spec.containers[0].env.map(\.name) == ["JOB_COMPLETION_INDEX"])
        try await finishAll(cluster)
        try await cluster.eventually("complete") { try await live(cluster).status.conditions.contains { $0.type == "Complete" } }
        #expect(try await live(cluster).status.completedIndexes == "0-2")
    }

    @Test("Job should fail to exceed backoffLimit")
    func backoffLimit() async throws {
        let cluster = ClusterFixture(["job-controller"])
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":1,\"parallelism\":1,\"backoffLimit\":0")))
        try await cluster.eventually("failed") {
            try await finishAll(cluster, phase: "Failed", code: 1)
            return try await live(cluster).status.conditions.contains { $0.type == "Failed" && $0.reason == "BackoffLimitExceeded" }
        }
        let status = try await live(cluster).status
        #expect(status.failed == 1)
        #expect(status.conditions.map(\.type) == ["FailureTarget", "Failed"])
    }

    @Test("Job should allow to use the pod failure policy on exit code to fail the job early")
    func failurePolicy() async throws {
        let cluster = ClusterFixture(["job-controller"])
        let policy = #""podFailurePolicy":{"rules":[{"action":"FailJob","onExitCodes":{"operator":"In","values":[42]}}]}"#
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":2,\"parallelism\":2,\"backoffLimit\":6,\(policy)")))
        try await cluster.eventually("failed") {
            try await finishAll(cluster, phase: "Failed", code: 42)
            return try await live(cluster).status.conditions.contains { $0.type == "Failed" && $0.reason == "PodFailurePolicy" }
        }
    }

    @Test("Job should delete pods when suspended, and go on when resumed")
    func suspend() async throws {
        let cluster = ClusterFixture(["job-controller"])
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":2,\"parallelism\":2")))
        try await cluster.eventually("two pods") { try await cluster.list(Pod.self).count == 2 }
        try await cluster.client.patch(Job.self, namespace: "default", name: "j", .merge, ["spec": ["suspend": true]])
        try await cluster.eventually("no pods") { try await cluster.list(Pod.self).isEmpty }
        let suspended = try await live(cluster)
        #expect(suspended.status.conditions.contains { $0.type == "Suspended" && $0.status == "True" })
        #expect(suspended.status.startTime == nil)
    }

    @Test("Finished jobs go after their time to live")
    func timeToLive() async throws {
        let cluster = ClusterFixture(["job-controller", "ttl-after-finished-controller", "garbage-collector-controller"])
        try await cluster.client.create(cluster.object(Job.self, job("\"completions\":1,\"parallelism\":1,\"ttlSecondsAfterFinished\":0")))
        try await cluster.eventually("gone with its pods") {
            try await finishAll(cluster)
            let jobs = try await cluster.list(Job.self)
            let pods = try await cluster.list(Pod.self)
            return jobs.isEmpty && pods.isEmpty
        }
    }

    @Test(
        "Schedules in all their forms",
        arguments: [
            ("*/15 * * * *", "2026-01-01T00:01:00Z", "2026-01-01T00:15:00Z"),
            ("0 9-17/4 * * mon-fri", "2026-01-03T10:00:00Z", "2026-01-05T09:00:00Z"),
            ("30 2 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T02:30:00Z"), ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("0 0 1,15 * 5", "2026-01-02T12:00:00Z", "2026-01-09T00:00:00Z"), ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ])
    func schedule(_ text: String, _ after: String, _ next: String) throws {
        let schedule = try #require(CronSchedule(text))
        let moment = try #require(schedule.next(after: KubeTime.parse(after) ?? 0))
        #expect(KubeTime.text(moment) == next)
    }

    @Test("A schedule follows its time zone, through changes of summer time")
    func zone() throws {
        guard let schedule = CronSchedule("0 8 * * *", timeZone: "Europe/Berlin") else { return }
        #expect(schedule.next(after: KubeTime.parse("2026-01-10T12:00:00Z") ?? 0).map(KubeTime.text) == "2026-01-11T07:00:00Z")
        #expect(schedule.next(after: KubeTime.parse("2026-07-10T12:00:00Z") ?? 0).map(KubeTime.text) == "2026-07-11T06:00:00Z")
        #expect(CronSchedule("61 * * * *") == nil)
        #expect(CronSchedule("0 8 * * *", timeZone: "No/Where") == nil)
    }

    @Test("CronJob should schedule a job and note it as active")
    func cron() async throws {
        let cluster = ClusterFixture(["cronjob-controller"])
        try await cluster.client.create(
            cluster.object(
                CronJob.self,
                #"{"metadata":{"name":"c","namespace":"default"},"spec":{"schedule":"@every 1s","concurrencyPolicy":"Forbid","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"a"}]}}}}}}"#
            ))
        try await cluster.eventually("a job") { try await cluster.list(Job.self).count == 1 }
        let job = try #require(try await cluster.list(Job.self).first)
        #expect(job.metadata.name.hasPrefix("c-"))
        #expect(job.metadata.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"] != nil)
        try await cluster.eventually("active") {
            try await cluster.client.get(CronJob.self, namespace: "default", name: "c").status.active.map(\.name) == [job.metadata.name]
        }
        #expect(try await cluster.client.get(CronJob.self, namespace: "default", name: "c").status.lastScheduleTime != nil)
    }
}
