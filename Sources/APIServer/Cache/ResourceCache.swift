package import KubeMeta
import NIOCore
package import Store
import Synchronization

/// A change as watchers see it.
package struct CacheEvent: Sendable {
    package enum Kind: Sendable { case added, modified, deleted }

    package var kind: Kind
    /// The object after the change; for a deletion its last state, with the revision of the deletion.
    package var object: StoredObject
    package var previous: StoredObject?
    package var revision: Revision { object.revision }
}

/// All objects of one resource in memory, and the latest changes. Fed by the store, in revision order, on the store's thread.
package final class ResourceCache: Sendable {
    /// Changes remembered for watches that start in the past.
    static let historyMax = 4096

    private struct State {
        var objects = SortedObjects()
        /// A ring of the latest changes.
        var history: [CacheEvent] = []
        var historyStart = 0
        /// Every change after this revision is in `history`.
        var historyBase: Revision = 0
        /// The revision of the last change of this resource.
        var lastChange: Revision = 0
        var watchers: [Int: WatchSubscription] = [:]
        var nextWatcher = 0
    }

    package let kind: ResourceKind
    package let fields: SelectableFields
    /// `/registry/<group>/<plural>/`
    package let prefix: String
    private let state: Mutex<State>

    init(kind: ResourceKind, fields: SelectableFields, prefix: String) {
        self.kind = kind
        self.fields = fields
        self.prefix = prefix
        state = Mutex(State())
    }

    package func key(namespace: String, name: String) -> String {
        kind.namespaced ? "\(prefix)\(namespace)/\(name)" : "\(prefix)\(name)"
    }

    func split(_ key: String) -> (namespace: String, name: String) {
        let rest = key.utf8.dropFirst(prefix.utf8.count)
        guard kind.namespaced, let slash = rest.firstIndex(of: UInt8(ascii: "/")) else { return ("", String(Substring(rest))) }
        return (String(Substring(rest[..<slash])), String(Substring(rest[rest.index(after: slash)...])))
    }

    private func object(_ record: StoreRecord) -> StoredObject {
        let (namespace, name) = split(record.key)
        return StoredObject(record: record, namespace: namespace, name: name)
    }

    /// Fills the cache at start, before anything reads it.
    func load(_ records: [StoreRecord], revision: Revision) {
        let objects = records.map(object)
        state.withLock { state in
            for object in objects { state.objects.put(object) }
            state.historyBase = revision
            state.lastChange = objects.map(\.revision).max() ?? 0
        }
    }

    /// Applies one change. Called in revision order.
    func apply(_ event: StoreEvent) {
        let object = object(event.record)
        state.withLock { state in
            let change: CacheEvent
            switch event.kind {
            case .put:
                let previous = state.objects.put(object)
                change = CacheEvent(kind: previous == nil ? .added : .modified, object: object, previous: previous)
            case .delete:
                guard let previous = state.objects.remove(object.key) else { return }
                change = CacheEvent(kind: .deleted, object: object, previous: previous)
            }
            state.lastChange = object.revision
            if state.history.count < Self.historyMax {
                state.history.append(change)
            } else {
                state.historyBase = state.history[state.historyStart].revision
                state.history[state.historyStart] = change
                state.historyStart = (state.historyStart + 1) % Self.historyMax
            }
            for watcher in state.watchers.values { watcher.offer(change) }
        }
    }

    /// Tells watchers how far the store has come without a change of theirs.
    func progress(_ revision: Revision) {
        let watchers = state.withLock { Array($0.watchers.values) }
        for watcher in watchers { watcher.note(revision) }
    }

    // MARK: Reading

    package func get(namespace: String, name: String) -> StoredObject? {
        let key = key(namespace: namespace, name: name)
        return state.withLock { $0.objects.find(key) }
    }

    package var count: Int { state.withLock { $0.objects.count } }
    package var lastChange: Revision { state.withLock { $0.lastChange } }

    package func all(namespace: String = "") -> [StoredObject] {
        let prefix = namespace.isEmpty || !kind.namespaced ? prefix : "\(prefix)\(namespace)/"
        return state.withLock { state in
            var found: [StoredObject] = []
            if prefix == self.prefix { found.reserveCapacity(state.objects.count) }
            state.objects.scan(prefix: prefix) {
                found.append($0)
                return true
            }
            return found
        }
    }

    /// Up to `limit` matching objects from a key on, whether there are more, how many follow (when nothing is filtered), and the last
    /// change that they show.
    func page(
        namespace: String, from start: String?, limit: Int, matches: ((StoredObject) -> Bool)?
    ) -> (objects: [StoredObject], more: Bool, remaining: Int, lastChange: Revision) {
        let prefix = namespace.isEmpty || !kind.namespaced ? prefix : "\(prefix)\(namespace)/"
        let (snapshot, lastChange) = state.withLock { state -> ([StoredObject], Revision) in
            var found: [StoredObject] = []
            state.objects.scan(prefix: prefix, from: start) {
                found.append($0)
                return true
            }
            return (found, state.lastChange)
        }
        guard let matches else {
            if limit > 0, snapshot.count > limit { return (Array(snapshot.prefix(limit)), true, snapshot.count - limit, lastChange) }
            return (snapshot, false, 0, lastChange)
        }
        var page: [StoredObject] = []
        for object in snapshot where matches(object) {
            if limit > 0, page.count == limit { return (page, true, 0, lastChange) }
            page.append(object)
        }
        return (page, false, 0, lastChange)
    }

    // MARK: Watching

    /// A subscription to every change after a revision; nil when those changes are no longer remembered.
    ///
    /// - Parameter revision: nil to start with the present state as `added` events.
    package func subscribe(after revision: Revision?, filter: WatchFilter, current: () -> Revision) -> WatchSubscription? {
        state.withLock { state in
            let subscription: WatchSubscription
            if let revision {
                if revision < state.historyBase, state.lastChange > revision { return nil }
                let count = state.history.count
                var missed: [CacheEvent] = []
                for offset in 0..<count {
                    let event = state.history[(state.historyStart + offset) % max(count, 1)]
                    if event.revision > revision { missed.append(event) }
                }
                subscription = WatchSubscription(filter: filter, at: max(revision, state.lastChange))
                for event in missed { subscription.offer(event) }
            } else {
                subscription = WatchSubscription(filter: filter, at: current())
                let prefix = filter.namespace.isEmpty || !kind.namespaced ? prefix : "\(prefix)\(filter.namespace)/"
                state.objects.scan(prefix: prefix) { object in
                    subscription.offer(CacheEvent(kind: .added, object: object, previous: nil), initial: true)
                    return true
                }
                subscription.endInitial()
            }
            let id = state.nextWatcher
            state.nextWatcher += 1
            state.watchers[id] = subscription
            subscription.onClose { [weak self] in self?.state.withLock { $0.watchers[id] = nil } }
            return subscription
        }
    }

    var watcherCount: Int { state.withLock { $0.watchers.count } }
}
