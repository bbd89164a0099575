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
        var waiting: [(revision: Revision, continuation: CheckedContinuation<Void, Never>)] = []
    }

    /// Changes before the start that are read back from the store, so that watches of before go on without a new list.
    private static let replayedRevisions: Revision = 2000

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
        let current = store.currentRevision
        // The caches start a little in the past and replay the store's history: it becomes the history of their watches.
        let everything = try await state(at: max(1, current - Self.replayedRevisions))
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
        await reached(current)
    }

    /// All objects at a revision, or at the oldest one that is still there.
    private func state(at revision: Revision) async throws(StoreError) -> RangeResult {
        do {
            return try await store.range(prefix: Self.root, startingAt: nil, limit: 0, atRevision: revision)
        } catch {
            guard case .compacted(let oldest) = error, oldest > revision else { throw error }
            return try await store.range(prefix: Self.root, startingAt: nil, limit: 0, atRevision: oldest)
        }
    }

    /// Returns when the caches have every change up to a revision.
    private func reached(_ revision: Revision) async {
        await withCheckedContinuation { continuation in
            let done = state.withLock { state in
                if applied.load(ordering: .acquiring) >= revision || state.failed != nil { return true }
                state.waiting.append((revision, continuation))
                return false
            }
            if done { continuation.resume() }
        }
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
        let woken = state.withLock { state in
            if state.waiting.isEmpty { return [] as [CheckedContinuation<Void, Never>] }
            let ready = state.waiting.filter { $0.revision <= revision }.map(\.continuation)
            state.waiting.removeAll { $0.revision <= revision }
            return ready
        }
        for continuation in woken { continuation.resume() }
    }

    package func ended(_ error: StoreError) {
        logger.error("the watch on the store ended: \(error)")
        let woken = state.withLock { state in
            state.failed = error
            defer { state.waiting = [] }
            return state.waiting.map(\.continuation)
        }
        for continuation in woken { continuation.resume() }
    }

    package var failure: StoreError? { state.withLock { $0.failed } }
    /// What readers may be told: the caches hold everything up to this revision.
    package var revision: Revision { applied.load(ordering: .acquiring) }

    package func stop() {
        let watch = state.withLock { $0.watch }
        watch?.cancel()
    }
}
