import KubeMeta
import Synchronization

/// A clock that moves only when a test moves it. Sleepers are released in the order of their dates.
final class VirtualTime: TimeSource {
    private struct Sleeper {
        var id: Int
        var due: Double
        var continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var now: Double
        var nextID = 0
        var sleepers: [Sleeper] = []
        var cancelled: Set<Int> = []
        /// Sleeps that ever began: tells that something happens.
        var begun = 0
    }

    private let state: Mutex<State>

    init(_ start: Double) { state = Mutex(State(now: start)) }

    func now() -> Double { state.withLock { $0.now } }

    func sleep(seconds: Double) async throws {
        let id = state.withLock { state in
            state.nextID += 1
            state.begun += 1
            return state.nextID
        }
        let slept = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
                let atOnce: Bool? = state.withLock { state in
                    if state.cancelled.remove(id) != nil { return false }
                    if seconds <= 0 { return true }
                    state.sleepers.append(Sleeper(id: id, due: state.now + seconds, continuation: continuation))
                    return nil
                }
                if let atOnce { continuation.resume(returning: atOnce) }
            }
        } onCancel: {
            let sleeper: Sleeper? = state.withLock { state in
                guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else {
                    state.cancelled.insert(id)
                    return nil
                }
                return state.sleepers.remove(at: index)
            }
            sleeper?.continuation.resume(returning: false)
        }
        if !slept { throw CancellationError() }
    }

    var begun: Int { state.withLock { $0.begun } }

    /// Moves to the next date on which somebody wakes, at most to `end`; false when that is reached.
    func step(to end: Double) -> Bool {
        let (due, more) = state.withLock { state -> ([Sleeper], Bool) in
            guard let next = state.sleepers.map(\.due).min(), next <= end else {
                state.now = max(state.now, end)
                return ([], false)
            }
            // What is due within the same tenth of a second wakes together: fewer rounds.
            state.now = min(end, max(state.now, next + 0.1))
            let now = state.now
            let due = state.sleepers.filter { $0.due <= now }.sorted { ($0.due, $0.id) < ($1.due, $1.id) }
            state.sleepers.removeAll { $0.due <= now }
            return (due, true)
        }
        for sleeper in due { sleeper.continuation.resume(returning: true) }
        return more
    }
}
