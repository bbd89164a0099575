package import KubeClient
package import KubeMeta
package import KubeTypes

/// What a controller is made of: the shared informers, the client, the clock and the options.
package struct ControllerContext: Sendable {
    package let factory: InformerFactory
    package let client: KubeClient
    package let options: ControllerOptions
    /// All stored kinds; see `ControllerOptions.resourceKinds`.
    package let resourceKinds: @Sendable () async -> [ResourceKind]

    package var time: any TimeSource { client.time }

    package init(factory: InformerFactory, client: KubeClient, options: ControllerOptions) {
        self.factory = factory
        self.client = client
        self.options = options
        if let given = options.resourceKinds {
            resourceKinds = given
        } else {
            let discovered = DiscoveredKinds(client: client)
            resourceKinds = { await discovered.kinds() }
        }
    }

    package func informer<K: KubeObject>(_ type: K.Type) -> Informer<K> { factory.informer(type) }

    package func recorder(_ component: String) -> EventRecorder { EventRecorder(client: client, component: component) }
}

/// One control loop. It reads its inputs from shared informers and writes its outputs through the API, nothing else; the declared kinds
/// let a reader (and a drill) draw who depends on what.
package protocol Controller: AnyObject, Sendable {
    /// Upstream's name, as `--controllers` and the event source use it: `deployment-controller`.
    static var name: String { get }
    /// The kinds it watches.
    static var inputs: [ResourceKind] { get }
    /// The kinds it creates, changes or deletes.
    static var outputs: [ResourceKind] { get }
    /// Registers handlers and indexes on the shared informers; they are started afterwards, once for all controllers.
    init(_ context: ControllerContext)
    /// Works until the task is cancelled. The informers have their first list by now.
    func run() async
    /// The gates of its run loops: a drill holds a controller here.
    var gates: [RunGate] { get }
}
