import KubeTypes
import Synchronization

/// What the informers and the binders tell the scheduling loop.
enum SchedulerEvent: Sendable {
    case pod(PodInfo)
    case podGone(uid: String, wasPlaced: Bool)
    case node(Node)
    case nodeGone(String)
    case namespace(name: String, labels: [String: String]?)
    /// A claim, volume or class changed.
    case volumesChanged
    case bound(uid: String)
    case bindFailed(PodInfo)
    case wake
}

/// Where events wait for the loop. It holds no more than the informers' caches have changed since the loop last looked.
final class SchedulerInbox: Sendable {
    private struct State {
        var events: [SchedulerEvent] = []
        var waiter: CheckedContinuation<Void, Never>?
        var closed = false
    }

    private let state = Mutex(State())

    func put(_ event: SchedulerEvent) {
        let waiter = state.withLock { state in
            if state.closed { return CheckedContinuation<Void, Never>?.none }
            state.events.append(event)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func take() -> [SchedulerEvent] {
        state.withLock { state in
            defer { state.events = [] }
            return state.events
        }
    }

    /// Returns when there is an event.
    func wait() async {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state in
                if !state.events.isEmpty || state.closed { return true }
                state.waiter = continuation
                return false
            }
            if ready { continuation.resume() }
        }
    }

    func close() {
        let waiter = state.withLock { state in
            state.closed = true
            state.events = []
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}
