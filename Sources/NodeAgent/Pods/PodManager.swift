import CRI
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// Gives each pod of this node its worker, tells workers what changed in the API and in the runtime, and removes what no pod owns.
actor PodManager {
    private let context: AgentContext
    private var workers: [String: PodWorker] = [:]
    private var tasks: [String: Task<Void, Never>] = [:]
    /// `namespace/name` -> UID of the pod that has the name now.
    private var uids: [String: String] = [:]
    private var lastSeen: [String: Set<String>] = [:]
    private var pending: Set<String> = []
    private var isDelivering = false
    private var isClosed = false
    /// Static pods live without the API.
    private var staticPods: [String: Pod] = [:]
    private(set) var lastRelistSeconds = 0.0
    private(set) var relistFailure: String?

    init(context: AgentContext) { self.context = context }

    // MARK: pods from the API

    /// For the informer's handler. Keys are folded: what counts is what the cache holds when it is looked at.
    nonisolated func changed(_ key: String) { Task { await enqueue(key) } }

    private func enqueue(_ key: String) async {
        pending.insert(key)
        if isDelivering { return }
        isDelivering = true
        while let next = pending.popFirst() { await deliver(next) }
        isDelivering = false
    }

    private func deliver(_ key: String) async {
        if isClosed { return }
        let pod = context.pods.get(key)
        // A mirror says nothing about the static pod it shows.
        if pod?.isMirror == true || uids[key].map({ staticPods[$0] != nil }) == true { return }
        if let known = uids[key], known != pod?.metadata.uid {
            uids[key] = nil
            await workers[known]?.podGone()
        }
        guard let pod else { return }
        uids[key] = pod.metadata.uid
        if let worker = workers[pod.metadata.uid] { await worker.update(pod) } else { start(pod) }
    }

    private func start(_ pod: Pod) {
        let uid = pod.metadata.uid
        let worker = PodWorker(pod: pod, context: context)
        workers[uid] = worker
        tasks[uid] = Task { [weak self] in
            await worker.run()
            await self?.ended(uid)
        }
    }

    private func ended(_ uid: String) {
        workers[uid] = nil
        tasks[uid] = nil
        // The object may be there again under the same name, or a write of ours came too late to be seen.
        for (key, known) in uids where known == uid { uids[key] = nil }
    }

    func wake(_ uid: String) async { await workers[uid]?.wake() }

    func worker(namespace: String, name: String) -> PodWorker? { uids["\(namespace)/\(name)"].flatMap { workers[$0] } }
    var allWorkers: [PodWorker] { Array(workers.values) }

    // MARK: pods from files

    /// The static pods as they should be now.
    func setStaticPods(_ pods: [Pod]) async {
        let wanted = Dictionary(pods.map { ($0.metadata.uid, $0) }, uniquingKeysWith: { $1 })
        for uid in staticPods.keys where wanted[uid] == nil { await workers[uid]?.podGone() }
        staticPods = wanted
        for (uid, pod) in wanted where workers[uid] == nil {
            uids[pod.key] = uid
            start(pod)
        }
    }

    // MARK: the runtime

    /// Compares the runtime with what was there a moment ago and wakes the workers of pods that changed.
    func relist() async {
        do {
            async let listedSandboxes = context.runtime.listPodSandboxes()
            async let listedContainers = context.runtime.listContainers()
            let (sandboxes, containers) = try await (listedSandboxes, listedContainers)
            var seen: [String: Set<String>] = [:]
            for sandbox in sandboxes {
                if let uid = sandbox.labels[RuntimeLabel.podUID] { seen[uid, default: []].insert("\(sandbox.id)/\(sandbox.state.rawValue)") }
            }
            for container in containers {
                if let uid = container.labels[RuntimeLabel.podUID] { seen[uid, default: []].insert("\(container.id)/\(container.state.rawValue)") }
            }
            for uid in Set(seen.keys).union(lastSeen.keys) where seen[uid] != lastSeen[uid] { await workers[uid]?.wake() }
            lastSeen = seen
            lastRelistSeconds = context.time.now()
            relistFailure = nil
        } catch {
            relistFailure = "\(error)"
        }
    }

    func relistLoop() async {
        while !Task.isCancelled {
            await context.gate.pass()
            await relist()
            if (try? await context.time.sleep(seconds: context.configuration.relistSeconds)) == nil { return }
        }
    }

    // MARK: what nobody owns

    /// Ends and removes sandboxes of pods that are not in the API. Only right after the server's list has been seen.
    func removeOrphans() async {
        guard context.pods.isSynced, let sandboxes = try? await context.runtime.listPodSandboxes() else { return }
        let known = Set(context.pods.all.map(\.metadata.uid)).union(workers.keys).union(staticPods.keys)
        for sandbox in sandboxes {
            guard let uid = sandbox.labels[RuntimeLabel.podUID], !known.contains(uid) else { continue }
            var pod = Pod()
            pod.metadata.name = sandbox.labels[RuntimeLabel.podName] ?? sandbox.metadata.name
            pod.metadata.namespace = sandbox.labels[RuntimeLabel.podNamespace] ?? sandbox.metadata.namespace
            pod.metadata.uid = uid
            if workers[uid] == nil {
                start(pod)
                await workers[uid]?.podGone()
            }
        }
        await removeOrphanFolders(known)
    }

    /// Folders of pods whose sandboxes are gone altogether (the machine was restarted).
    private func removeOrphanFolders(_ known: Set<String>) async {
        let root = context.configuration.rootDirectory + "/pods"
        let folders = (try? await Blocking.run { Files.list(root) }) ?? []
        for uid in folders where !known.contains(uid) && workers[uid] == nil { try? await VolumeManager(context: context).tearDown(uid: uid) }
    }

    func housekeepingLoop() async {
        while !Task.isCancelled {
            if (try? await context.time.sleep(seconds: 2)) == nil { return }
            await context.gate.pass()
            await removeOrphans()
            // A pod that a worker has finished with may still be in the cache: it is looked at again.
            for pod in context.pods.all where !pod.isMirror && workers[pod.metadata.uid] == nil { await enqueue(pod.key) }
        }
    }

    func close() async {
        isClosed = true
        for worker in workers.values { await worker.close() }
        for task in tasks.values { await task.value }
    }
}
