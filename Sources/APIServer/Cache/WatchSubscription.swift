package import KubeAPI
package import KubeMeta
package import Store
import Synchronization

/// What a watch covers.
package struct WatchFilter: Sendable {
    package var namespace: String
    package var labels: Selector
    package var fieldSelector: FieldSelector
    package var fields: SelectableFields

    package var isEmpty: Bool { labels.isEmpty && fieldSelector.isEmpty }

    /// All objects of a resource.
    package static func everything(_ resource: ResourceSchema) -> WatchFilter {
        WatchFilter(
            namespace: "", labels: .everything, fieldSelector: FieldSelector(terms: []), fields: SelectableFields.of(resource.identity))
    }

    package func matches(_ object: StoredObject) -> Bool {
        if isEmpty { return true }
        if let name = fieldSelector.required("metadata.name"), fieldSelector.terms.count == 1, labels.isEmpty { return object.name == name }
        let attributes = object.attributes(fields)
        return labels.matches(attributes.labels) && fieldSelector.matches(attributes.fields)
    }
}

/// The queue between the cache and one watch. Bounded: a reader that falls behind is cut off and starts again.
package final class WatchSubscription: Sendable {
    /// Changes that may wait for one reader.
    static let pendingMax = 16_384

    package enum Batch: Sendable {
        case events([CacheEvent])
        /// The initial state has been delivered in full, at this revision.
        case initialEventsEnd(Revision)
        /// The reader was too slow, or the server ends the watch.
        case closed(tooSlow: Bool)
    }

    private struct State {
        var pending: [CacheEvent] = []
        var initialEnd: (after: Int, revision: Revision)?
        var waiting: CheckedContinuation<Void, Never>?
        var closed = false
        var tooSlow = false
        var at: Revision
        var onClose: (@Sendable () -> Void)?
    }

    package let filter: WatchFilter
    private let state: Mutex<State>

    init(filter: WatchFilter, at revision: Revision) {
        self.filter = filter
        state = Mutex(State(at: revision))
    }

    /// Adds a change if the filter lets it through; a change into or out of the selection becomes an addition or a deletion.
    func offer(_ event: CacheEvent, initial: Bool = false) {
        if !filter.namespace.isEmpty, event.object.namespace != filter.namespace { return }
        var event = event
        if !filter.isEmpty {
            let isIn = event.kind != .deleted && filter.matches(event.object)
            let wasIn = event.previous.map(filter.matches) ?? false
            switch (wasIn, isIn) {
            case (false, false): return
            case (false, true): event.kind = .added
            case (true, false): event.kind = .deleted
            case (true, true): event.kind = .modified
            }
        }
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.closed { return nil }
            // The initial state counts not: a large collection is no slow reader.
            if state.pending.count - (state.initialEnd?.after ?? 0) >= Self.pendingMax, !initial {
                state.closed = true
                state.tooSlow = true
                state.pending = []
                state.initialEnd = nil
            } else {
                state.pending.append(event)
            }
            state.at = max(state.at, event.revision)
            defer { state.waiting = nil }
            return state.waiting
        }
        waiter?.resume()
    }

    func endInitial() { state.withLock { $0.initialEnd = ($0.pending.count, $0.at) } }

    func note(_ revision: Revision) { state.withLock { $0.at = max($0.at, revision) } }

    /// The revision up to which everything has been handed out; nil while changes wait, so that a bookmark never runs ahead of them.
    ///
    /// - Parameter applied: the revision of the caches, read before.
    package func bookmark(applied: Revision) -> Revision? {
        state.withLock { $0.pending.isEmpty && $0.initialEnd == nil ? max($0.at, applied) : nil }
    }

    func onClose(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.onClose = body } }

    /// The next changes; waits until there are some. Returns an empty list when woken by `wake`.
    package func next() async -> Batch {
        if let ready = take() { return ready }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { state in
                    if state.closed || !state.pending.isEmpty || state.initialEnd != nil { return true }
                    state.waiting?.resume()
                    state.waiting = continuation
                    return false
                }
                if now { continuation.resume() }
            }
        } onCancel: { close() }
        return take() ?? .events([])
    }

    private func take() -> Batch? {
        state.withLock { state in
            if let end = state.initialEnd {
                if end.after == 0 {
                    state.initialEnd = nil
                    return .initialEventsEnd(end.revision)
                }
                let events = Array(state.pending.prefix(end.after))
                state.pending.removeFirst(end.after)
                state.initialEnd = (0, end.revision)
                return .events(events)
            }
            if !state.pending.isEmpty {
                defer { state.pending = [] }
                return .events(state.pending)
            }
            return state.closed ? .closed(tooSlow: state.tooSlow) : nil
        }
    }

    /// Ends a wait without a change (for bookmarks and time limits).
    package func wake() {
        let waiter = state.withLock { state in
            defer { state.waiting = nil }
            return state.waiting
        }
        waiter?.resume()
    }

    package func close() {
        let (waiter, onClose) = state.withLock { state in
            state.closed = true
            defer {
                state.waiting = nil
                state.onClose = nil
            }
            return (state.waiting, state.onClose)
        }
        waiter?.resume()
        onClose?()
    }
}
