package import CRI
package import Cgroup
package import KubeClient
package import KubeMeta
import KubeTypes
package import Logging
import Synchronization

/// The kubelet: registers its node and runs the pods that are bound to it.
///
/// It ends without touching the containers; the next agent finds them by their labels and goes on.
package final class NodeAgent: Sendable {
    private let context: AgentContext
    private let factory: InformerFactory
    private let manager: PodManager
    private let reporter: NodeReporter
    private let server: KubeletServer?
    private let eviction: EvictionManager
    private let nodes: Informer<Node>?
    private let running = Mutex<Task<Void, any Error>?>(nil)
    /// A drill can hold every loop of the agent here.
    package let gate = RunGate()

    /// - Parameters:
    ///   - client: as `system:node:NAME` in `system:nodes`.
    ///   - cgroups: nil on a machine without usable cgroups: pods then have no cgroup of their own.
    package init(
        configuration: NodeAgentConfiguration, client: KubeClient, informers: InformerFactory? = nil, runtime: CRIClient, cgroups: CgroupHierarchy?,
        logger: Logger = Logger(label: "martlet.agent")
    ) throws {
        let factory = informers ?? InformerFactory(client: client)
        self.factory = factory
        let objects = ObjectCaches(client: client)
        let tokens = TokenCache(client: client)
        let slices = factory.informer(EndpointSlice.self)
        TrafficDrain.prepare(slices)
        let context = AgentContext(
            configuration: configuration, client: client, runtime: runtime, cgroups: cgroups,
            recorder: EventRecorder(client: client, component: "kubelet", host: configuration.nodeName),
            pods: factory.informer(Pod.self, scope: InformerScope(fieldSelector: "spec.nodeName=\(configuration.nodeName)")),
            services: factory.informer(Service.self), slices: slices,
            node: factory.informer(Node.self, scope: InformerScope(fieldSelector: "metadata.name=\(configuration.nodeName)")),
            images: ImageManager(runtime: runtime, time: client.time, pullsMax: configuration.imagePullsMax), objects: objects, tokens: tokens,
            http: HookClient(), facts: NodeFacts.read(configuration), logger: logger, gate: gate)
        self.context = context
        nodes = configuration.managesRoutes ? factory.informer(Node.self) : nil
        let manager = PodManager(context: context)
        self.manager = manager
        let pressure = NodePressure()
        let reporter = NodeReporter(context: context, pressure: pressure) { await manager.relistFailure }
        self.reporter = reporter
        eviction = EvictionManager(context: context, manager: manager, pressure: pressure) { reporter.nudge() }
        server = try configuration.serving.map { try KubeletServer(serving: $0, context: context, manager: manager) }
    }

    /// Runs until `stop()` or cancellation. Throws when the port is taken.
    package func run() async throws {
        let task = Task { try await work() }
        running.withLock { $0 = task }
        try await withTaskCancellationHandler { try await task.value } onCancel: { task.cancel() }
    }

    /// Ends the agent; containers run on.
    package func stop() async {
        let task = running.withLock { $0 }
        task?.cancel()
        _ = try? await task?.value
    }

    private func work() async throws {
        try await server?.start()
        let context = context, manager = manager, reporter = reporter
        await context.objects.setOnChange { uid in Task { await manager.wake(uid) } }
        context.pods.addHandler { manager.changed($0.object.key) }
        context.node.addHandler { _ in reporter.nudge() }
        if let nodes {
            nodes.addHandler { _ in Task { await reporter.applyRoutes(nodes.all) } }
        }
        await manager.relist()
        // Services come before pods: their variables must be complete.
        context.services.start()
        context.slices.start()
        context.node.start()
        nodes?.start()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await reporter.run() }
            group.addTask { await reporter.leaseLoop() }
            group.addTask {
                await Self.synced(context.services)
                context.pods.start()
                await Self.synced(context.pods)
                if Task.isCancelled { return }
                await manager.removeOrphans()
                await manager.housekeepingLoop()
            }
            group.addTask { await manager.relistLoop() }
            group.addTask { await LogRotation(context: context, manager: manager).run() }
            group.addTask { [eviction] in await eviction.run() }
            group.addTask { await ImageCollector(context: context).run() }
            group.addTask { await LocalPathReclaimer(context: context, volumes: Informer(client: context.client)).run() }
            if context.configuration.staticPodDirectory != nil { group.addTask { await StaticPods(context: context, manager: manager).run() } }
        }
        await manager.close()
        context.pods.stop()
        context.services.stop()
        context.node.stop()
        nodes?.stop()
        await context.objects.stop()
        await server?.stop()
        await context.http.shutdown()
    }

    /// As `waitForSync`, but ends with the task.
    private static func synced<Object: KubeObject>(_ informer: Informer<Object>) async {
        while !Task.isCancelled, !informer.isSynced { try? await SystemTime().sleep(seconds: 0.002) }
    }
}
