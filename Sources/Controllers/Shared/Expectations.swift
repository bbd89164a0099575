import KubeMeta
import Synchronization

/// What a controller has asked for but not yet seen in its cache. Until it has, it must not count its pods again, else it would make
/// them twice. Forgotten after five minutes, so that a lost event cannot stop a controller for good.
final class Expectations: Sendable {
    private struct Entry {
        var creations = 0
        var deletions: Set<String> = []
        var since: Double
    }

    private static let secondsMax = 300.0
    private let time: any TimeSource
    private let entries = Mutex<[String: Entry]>([:])

    init(time: any TimeSource) { self.time = time }

    func expectCreations(_ key: String, _ count: Int) {
        let now = time.now()
        entries.withLock {
            $0[key, default: Entry(since: now)].creations += count; $0[key]?.since = now
        }
    }

    func expectDeletions(_ key: String, _ uids: some Sequence<String>) {
        let now = time.now()
        entries.withLock {
            $0[key, default: Entry(since: now)].deletions.formUnion(uids); $0[key]?.since = now
        }
    }

    func creationSeen(_ key: String) {
        entries.withLock { entries in
            if let entry = entries[key], entry.creations > 0 { entries[key]?.creations -= 1 }
        }
    }

    func deletionSeen(_ key: String, _ uid: String) { entries.withLock { _ = $0[key]?.deletions.remove(uid) } }
    func forget(_ key: String) { entries.withLock { $0[key] = nil } }

    func isSatisfied(_ key: String) -> Bool {
        let now = time.now()
        return entries.withLock { entries in
            guard let entry = entries[key] else { return true }
            if entry.creations <= 0 && entry.deletions.isEmpty { entries[key] = nil; return true }
            return now - entry.since > Self.secondsMax
        }
    }
}
