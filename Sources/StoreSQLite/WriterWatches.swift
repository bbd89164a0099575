import CSQLite
import Store
import Synchronization

/// A watch of the store; the writer thread holds it while it runs.
final class SQLiteWatch: StoreWatch {
    let prefix: String
    let observer: any StoreObserver
    private let cancelled = Atomic(false)

    init(prefix: String, observer: any StoreObserver) {
        self.prefix = prefix
        self.observer = observer
    }

    func cancel() { cancelled.store(true, ordering: .releasing) }
    var isCancelled: Bool { cancelled.load(ordering: .acquiring) }
}

extension StoreWriter {
    /// Delivers what came after the history that a reader has already delivered, and goes live.
    func start(_ watch: SQLiteWatch, after: Revision) -> StoreError? {
        do throws(StoreError) {
            let connection = try currentConnection()
            if after > revision { throw .futureRevision(current: revision) }
            if after > 0 && after < revision {
                let slice = try LogReader(connection: connection).events(prefix: watch.prefix, after: after, limit: .max)
                watch.observer.receive(slice.events, upTo: revision)
            } else {
                watch.observer.receive([], upTo: revision)
            }
        } catch {
            return error
        }
        watches.append(watch)
        statistics.withLock { $0.watches = watches.count }
        return nil
    }

    /// Makes a durable group visible: first the revision, then every watch; the callers follow.
    func publish(_ events: [StoreEvent], upTo revision: Revision) {
        published.store(revision, ordering: .releasing)
        var anyCancelled = false
        for watch in watches {
            if watch.isCancelled {
                anyCancelled = true
                continue
            }
            watch.observer.receive(events.filter { keyHasPrefix($0.record.key, watch.prefix) }, upTo: revision)
        }
        if anyCancelled { watches.removeAll { $0.isCancelled } }
    }

    /// Asks the checkpointer for help, or helps itself when the log is long: a commit must not wait for a big copy.
    func checkpointIfNeeded() {
        guard let connection else { return }
        let pages = walPages.pointee
        if pages < signalledWALPages { signalledWALPages = 0 }
        if pages >= Int32(options.forcedCheckpointPages) {
            // Most is copied already; once all is, the next write starts the log from its beginning.
            sqlite3_wal_checkpoint_v2(connection.handle, nil, SQLITE_CHECKPOINT_PASSIVE, nil, nil)
        } else if pages - signalledWALPages >= Int32(options.checkpointPages) {
            signalledWALPages = pages
            checkpointer.signal()
        }
    }
}

/// Plain byte prefix of a key.
private func keyHasPrefix(_ key: String, _ prefix: String) -> Bool {
    if prefix.isEmpty { return true }
    var key = key
    return key.withUTF8 { hasPrefix($0, prefix) }
}
