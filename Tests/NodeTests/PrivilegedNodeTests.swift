import CRI
import Cgroup
import Foundation
import Glibc
import Hosts
import Nftables
import Processes
import Testing

/// Real namespaces, cgroups, containerd, CNI and containers. Needs root and the programs `HostCheck` lists; run on purpose:
/// `swift test --filter PrivilegedNodeTests`.
@Suite("privileged: hosts and containers", .serialized)
struct PrivilegedNodeTests {
    @Test("a cgroup limits, counts, freezes and kills")
    func cgroup() async throws {
        let cgroups = try CgroupHierarchy.detect()
        let path = "/martlet-test-\(getpid())/a"
        let top = "/martlet-test-\(getpid())"
        try cgroups.create(path)
        defer { try? cgroups.remove(top) }
        try cgroups.apply(CgroupLimits(cpuShares: 512, cpuQuotaMicroseconds: 50_000, memoryBytesMax: 64 << 20, pidsMax: 50), to: path)
        let child = try ChildProcess(["sh", "-c", "while :; do :; done"], logPath: "/dev/null")
        try cgroups.add(pid: child.pid, to: path)
        #expect(cgroups.processes(in: top) == [child.pid])
        try await Task.sleep(for: .milliseconds(300))
        let usage = try cgroups.usage(of: path)
        #expect(usage.cpuNanoseconds > 0)
        #expect(usage.memoryLimitBytes == 64 << 20)
        #expect(usage.pids == 1)
        #expect(usage.workingSetBytes <= usage.memoryBytes)
        try cgroups.setFrozen(true, top)
        let frozen = try cgroups.usage(of: path).cpuNanoseconds
        try await Task.sleep(for: .milliseconds(200))
        #expect(try cgroups.usage(of: path).cpuNanoseconds == frozen)
        #expect(cgroups.killAll(in: top))
        try cgroups.remove(top)
        #expect(!cgroups.exists(top))
    }

    @Test("a process beyond its memory limit is killed and counted")
    func outOfMemory() async throws {
        let cgroups = try CgroupHierarchy.detect()
        let path = "/martlet-oom-\(getpid())"
        try cgroups.create(path)
        try cgroups.apply(CgroupLimits(memoryBytesMax: 16 << 20), to: path)
        let child = try ChildProcess(["sh", "-c", "sleep 0.3; exec tail /dev/zero"], logPath: "/dev/null")
        try cgroups.add(pid: child.pid, to: path)
        #expect(await child.waitForExit() == .signaled(SIGKILL))
        #expect(try cgroups.usage(of: path).oomKills >= 1)
        try cgroups.remove(path)
    }

    @Test("an nft transaction is atomic, maps are updated by element")
    func nftables() async throws {
        let nft = Nft()
        let table = NftTable(.ip, "martlet-test-\(getpid())")
        var rules = NftTransaction()
        rules.add(table)
        rules.addMap(table, "services", "type ipv4_addr . inet_proto . inet_service : verdict")
        rules.addChain(table, "one")
        rules.addElements(table, "services", ["10.96.0.1 . tcp . 443 : goto one"])
        try await nft.apply(rules)
        var update = NftTransaction()
        update.deleteElements(table, "services", ["10.96.0.1 . tcp . 443"])
        update.addElements(table, "services", ["10.96.0.2 . tcp . 80 : goto one"])
        try await nft.apply(update)
        let listed = try #require(try await nft.list(table))
        let text = String(decoding: listed, as: UTF8.self)
        #expect(text.contains("10.96.0.2") && !text.contains("10.96.0.1"))
        var bad = NftTransaction()
        bad.addChain(table, "two")
        bad.addElements(table, "services", ["10.96.0.3 . tcp . 80 : goto nowhere"])
        await #expect(throws: ProcessError.self) { try await nft.apply(bad) }
        #expect(!String(decoding: try await nft.list(table) ?? [], as: UTF8.self).contains("two"))
        try await nft.delete(table)
        try await nft.delete(table)
        #expect(try await nft.list(table) == nil)
    }

    @Test("two hosts: containers run, reach each other and the root namespace, and nothing is left afterwards")
    func hosts() async throws {
        let data = "/tmp/martlet-hosts-\(getpid())"
        let images = try await testImages()
        let identity = ClusterIdentity(dataDirectory: data)
        let cgroups = try CgroupHierarchy.detect()
        let before = try await Leftovers.now()
        defer { try? FileManager.default.removeItem(atPath: data) }

        let plan = try ClusterPlan(
            identity: identity, nodes: ["node-0", "node-1"], dataDirectory: data,
            subnetPrefix: try await HostNetwork.chooseSubnet(identity), podPrefix: "10.199")
        try await HostNetwork.up(plan, cgroups: cgroups)
        // Again: everything is adopted.
        try await HostNetwork.up(plan, cgroups: cgroups)

        do {
            try await lifeOfTwoHosts(plan, cgroups, images)
        } catch {
            try await HostTearDown.tearDown(identity, cgroups: cgroups)
            throw error
        }
        let left = try await HostTearDown.tearDown(identity, cgroups: cgroups)
        #expect(left == [])
        #expect(try await HostTearDown.tearDown(identity, cgroups: cgroups) == [])
        #expect(try await Leftovers.now() == before)
    }

    private func lifeOfTwoHosts(_ plan: ClusterPlan, _ cgroups: CgroupHierarchy, _ images: String) async throws {
        let first = try await RunningHost(plan.hosts[0], cgroups, images)
        let second = try await RunningHost(plan.hosts[1], cgroups, images)
        let web = try await first.runPod("web", image: "nginx:1.14.2")
        #expect(web.ip.hasPrefix("10.199.0."))
        #expect(try await page(web.ip).contains("nginx:1.14.2"))

        let exec = try await first.client.execSync(web.container, command: ["cat", "/etc/hostname"], timeoutSeconds: 10)
        #expect(String(decoding: exec.stdout, as: UTF8.self) == "web\n")
        #expect(exec.exitCode == 0)

        // From a pod on the other host, through the hosts' routes.
        let client = try await second.runPod("client", image: "busybox:1.36", command: ["sleep", "3600"])
        let fetched = try await second.client.execSync(client.container, command: ["wget", "-q", "-O", "-", "http://\(web.ip)/"], timeoutSeconds: 10)
        #expect(String(decoding: fetched.stdout, as: UTF8.self).contains("Welcome to nginx!"))

        // Everything of the first host is below its cgroup: freezing it stops the machine.
        try cgroups.setFrozen(true, plan.hosts[0].cgroup)
        await #expect(throws: (any Error).self) { try await page(web.ip) }
        try cgroups.setFrozen(false, plan.hosts[0].cgroup)
        #expect(try await page(web.ip).contains("nginx"))

        // containerd killed: the container runs on, the supervisor brings containerd back, the same client works.
        let old = try #require(await first.supervisor.identity)
        kill(old.pid, SIGKILL)
        _ = await old.waitUntilEnded(timeout: .seconds(5))
        #expect(try await page(web.ip).contains("nginx"))
        let status = try await first.client.containerStatus(web.container)
        #expect(status.status.state == .containerRunning)

        // A new supervisor (a restarted Martlet) adopts it.
        await first.supervisor.release()
        let running = try #require(await first.supervisor.identity)
        let heir = try ContainerdSupervisor(ContainerdConfiguration(host: plan.hosts[0]), commandPrefix: plan.hosts[0].command([]))
        try await heir.start()
        #expect(await heir.identity == running)
        await heir.release()

        let clock = ContinuousClock()
        let started = clock.now
        try await first.client.stopContainer(web.container, gracePeriodSeconds: 10)
        #expect(clock.now - started < .seconds(5))
        #expect(try await first.client.containerStatus(web.container).status.state == .containerExited)
        try await first.client.stopPodSandbox(web.sandbox)
        try await first.client.removePodSandbox(web.sandbox)
        #expect(try await first.client.listPodSandboxes().isEmpty)
        await #expect(throws: CRIError.self) { try await first.client.containerStatus(web.container) }

        // The second host is torn down with its pod running, as after a crash.
        await second.supervisor.release()
    }

    private func page(_ ip: String) async throws -> String {
        try await ProcessRunner.runChecked(Command(["curl", "-sS", "--max-time", "2", "http://\(ip)/"])).outputText
    }

    private func testImages() async throws -> String {
        let script = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/Tools/make-test-images.sh"
        try await ProcessRunner.runChecked(Command([script, "/tmp/martlet-images"], timeout: .seconds(120)))
        return "/tmp/martlet-images"
    }
}

/// A host with a running containerd and the test images.
private struct RunningHost {
    let supervisor: ContainerdSupervisor
    let host: HostPlan
    var client: CRIClient { supervisor.client }

    init(_ host: HostPlan, _ cgroups: CgroupHierarchy, _ images: String) async throws {
        self.host = host
        let configuration = ContainerdConfiguration(host: host)
        try CNIConfiguration.write(
            directory: configuration.cniConfigurationDirectory, podCIDR: host.podCIDR, dataDirectory: host.runDirectory + "/cni")
        supervisor = try ContainerdSupervisor(configuration, commandPrefix: host.command([])) { process in
            try? cgroups.add(pid: process.pid, to: host.systemCgroup)
        }
        let clock = ContinuousClock()
        let start = clock.now
        try await supervisor.start()
        let up = clock.now
        try await PauseImage.ensure(supervisor.client)
        let pause = clock.now
        for image in ["busybox", "nginx-1.14.2"] { try await ImageImport.run(path: "\(images)/\(image).tar", socketPath: configuration.socketPath) }
        print("\(host.node): containerd answers after \(up - start), pause image \(pause - up), two test images \(clock.now - pause)")
    }

    func runPod(_ name: String, image: String, command: [String] = []) async throws -> (sandbox: String, container: String, ip: String) {
        let clock = ContinuousClock()
        let start = clock.now
        var sandbox = CRIPodSandboxConfig()
        sandbox.metadata.name = name
        sandbox.metadata.namespace = "default"
        sandbox.metadata.uid = "uid-\(name)"
        sandbox.hostname = name
        sandbox.logDirectory = host.dataDirectory + "/pods-log/default_\(name)"
        sandbox.linux.cgroupParent = host.cgroup + "/kubepods/besteffort/pod\(name)"
        sandbox.linux.securityContext.namespaceOptions.pid = .container
        let id = try await client.runPodSandbox(sandbox)
        let network = try await client.podSandboxStatus(id).status.network
        let sandboxUp = clock.now

        var container = CRIContainerConfig()
        container.metadata.name = name
        container.image.image = try #require(try await client.imageStatus(image)).id
        container.command = command
        container.logPath = "\(name)/0.log"
        container.linux.resources.cpuShares = 102
        container.linux.resources.memoryLimitInBytes = 128 << 20
        container.linux.securityContext.namespaceOptions.pid = .container
        let containerID = try await client.createContainer(sandbox: id, config: container, sandboxConfig: sandbox)
        try await client.startContainer(containerID)
        print("\(name): sandbox \(sandboxUp - start), container \(clock.now - sandboxUp)")
        try await Task.sleep(for: .milliseconds(200))
        return (id, containerID, network.ip)
    }
}

/// What a cluster could leave on the machine.
private struct Leftovers: Equatable {
    var links: [String]
    var namespaces: [String]
    var mounts: [String]
    var tables: [String]
    var cgroups: [String]
    var routes: [String]

    static func now() async throws -> Leftovers {
        func lines(_ arguments: [String]) async throws -> [String] {
            try await ProcessRunner.run(Command(arguments)).outputText.split(separator: "\n").map(String.init).sorted()
        }
        return Leftovers(
            links: SmallFile.list("/sys/class/net").sorted(),
            namespaces: SmallFile.list("/run/netns").sorted(),
            mounts: (SmallFile.read("/proc/self/mountinfo") ?? "").split(separator: "\n")
                .compactMap { $0.split(separator: " ").dropFirst(4).first.map(String.init) }.filter { $0.contains("martlet") }.sorted(),
            tables: try await lines(["nft", "list", "tables"]).filter { $0.contains("martlet") },
            cgroups: (try CgroupHierarchy.detect()).children(of: "/").filter { $0.contains("martlet") }.sorted(),
            routes: try await lines(["ip", "-4", "route", "show"]))
    }
}
