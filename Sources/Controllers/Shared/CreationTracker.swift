import KubeMeta
import Synchronization

/// Objects that a controller has just made under generated names and that its cache does not show yet: until it does, another sync would
/// make them twice.
final class CreationTracker: Sendable {
    private static let secondsMax = 10.0
    private let time: any TimeSource
    /// Owner's key -> keys of made objects -> when.
    private let made = Mutex<[String: [String: Double]]>([:])

    init(time: any TimeSource) { self.time = time }

    func created(_ owner: String, _ key: String) {
        let now = time.now()
        made.withLock { $0[owner, default: [:]][key] = now }
    }

    /// False while the cache lags behind what was made.
    func isCurrent(_ owner: String, isKnown: (String) -> Bool) -> Bool {
        let now = time.now()
        return made.withLock { made in
            guard let pending = made[owner] else { return true }
            let left = pending.filter { !isKnown($0.key) && now - $0.value < Self.secondsMax }
            made[owner] = left.isEmpty ? nil : left
            return left.isEmpty
        }
    }
}
