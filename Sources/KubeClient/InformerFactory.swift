public import KubeTypes
import Synchronization

/// Informers shared by all components of a process: one cache and one watch for each kind and scope.
public final class InformerFactory: Sendable {
    private struct Key: Hashable {
        var type: ObjectIdentifier
        var scope: InformerScope
    }

    private struct Entry: Sendable {
        var informer: any Sendable
        var start: @Sendable () -> Void
        var stop: @Sendable () -> Void
        var waitForSync: @Sendable () async -> Void
    }

    public let client: KubeClient
    private let entries = Mutex<[Key: Entry]>([:])

    public init(client: KubeClient) { self.client = client }

    public func informer<K: KubeObject>(_ type: K.Type, scope: InformerScope = InformerScope()) -> Informer<K> {
        entries.withLock { entries in
            let key = Key(type: ObjectIdentifier(type), scope: scope)
            if let known = entries[key]?.informer as? Informer<K> { return known }
            let informer = Informer<K>(client: client, scope: scope)
            entries[key] = Entry(
                informer: informer, start: { informer.start() }, stop: { informer.stop() }, waitForSync: { await informer.waitForSync() })
            return informer
        }
    }

    /// Starts every informer that has been asked for and waits until all have their first list.
    public func startAndSync() async {
        let all = entries.withLock { Array($0.values) }
        for entry in all { entry.start() }
        for entry in all { await entry.waitForSync() }
    }

    public func stop() {
        for entry in entries.withLock({ Array($0.values) }) { entry.stop() }
    }
}
