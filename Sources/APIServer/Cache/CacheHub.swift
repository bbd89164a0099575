package import KubeAPI
package import KubeMeta
package import Store
import Logging
import Synchronization

/// The caches of all resources, fed by one watch on the store.
package final class CacheHub: StoreObserver {
    private struct State {
        var caches: [String: ResourceCache] = [:]
        var watch: (any StoreWatch)?
        var failed: StoreError?
    }

    static let root = "/registry/"

    package let store: any StoreBackend
    private let state = Mutex(State())
    /// Every change up to here is in the caches. The store makes a revision visible before it tells its watches, so that the store's own
    /// figure can be ahead of what a list would show.
    private let applied = Atomic<Revision>(0)
    private let logger = Logger(label: "cache")

    package init(store: any StoreBackend) { self.store = store }

    private static func prefix(_ kind: ResourceKind) -> String { "\(root)\(kind.group.isEmpty ? "core" : kind.group)/\(kind.plural)/" }

    /// Makes the caches, loads them and follows the store from there.
    package func start(_ resources: [ResourceSchema]) async throws(StoreError) {
        for resource in resources where resource.verbs.contains("list") { add(resource.identity, SelectableFields.of(resource.identity)) }
        let everything = try await store.range(prefix: Self.root)
        var records: [String: [StoreRecord]] = [:]
        for record in everything.records {
            guard let prefix = Self.prefix(ofKey: record.key) else { continue }
            records[prefix, default: []].append(record)
        }
        let caches = state.withLock { $0.caches }
        for (prefix, cache) in caches { cache.load(records[prefix] ?? [], revision: everything.revision) }
        applied.store(everything.revision, ordering: .releasing)
        let watch = try await store.watch(prefix: Self.root, after: everything.revision, observer: self)
        state.withLock { $0.watch = watch }
    }

    @discardableResult
    package func add(_ kind: ResourceKind, _ fields: SelectableFields) -> ResourceCache {
        let prefix = Self.prefix(kind)
        return state.withLock { state in
            if let known = state.caches[prefix] { return known }
            let cache = ResourceCache(kind: kind, fields: fields, prefix: prefix)
            state.caches[prefix] = cache
            return cache
        }
    }

    package func cache(_ kind: ResourceKind) -> ResourceCache? {
        let prefix = Self.prefix(kind)
        return state.withLock { $0.caches[prefix] }
    }

    /// `/registry/<group>/<plural>/` of a key.
    private static func prefix(ofKey key: String) -> String? {
        var slashes = 0
        for index in key.utf8.indices where key.utf8[index] == UInt8(ascii: "/") {
            slashes += 1
            if slashes == 4 { return String(key.utf8[...index]) }
        }
        return nil
    }

    package func receive(_ events: [StoreEvent], upTo revision: Revision) {
        let caches = state.withLock { $0.caches }
        for event in events {
            guard let prefix = Self.prefix(ofKey: event.record.key), let cache = caches[prefix] else { continue }
            cache.apply(event)
        }
        applied.store(revision, ordering: .releasing)
    }

    package func ended(_ error: StoreError) {
        logger.error("the watch on the store ended: \(error)")
        state.withLock { $0.failed = error }
    }

    package var failure: StoreError? { state.withLock { $0.failed } }
    /// What readers may be told: the caches hold everything up to this revision.
    package var revision: Revision { applied.load(ordering: .acquiring) }

    package func stop() {
        let watch = state.withLock { $0.watch }
        watch?.cancel()
    }
}
