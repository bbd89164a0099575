import Synchronization

/// The pressure conditions, as eviction last saw them.
final class NodePressure: Sendable {
    struct State: Sendable, Equatable {
        var memory = false
        var disk = false
        var pid = false
    }
    private let state = Mutex(State())

    var current: State { state.withLock { $0 } }

    /// True when something changed.
    func set(_ new: State) -> Bool {
        state.withLock { old in
            defer { old = new }
            return old != new
        }
    }
}
