import CSQLite
import Store
import Synchronization

typealias WriteOutcome = Result<[StoreRecord], StoreError>

/// What the writer thread is asked to do.
enum WriterRequest: Sendable {
    case write([WriteOperation], CheckedContinuation<WriteOutcome, Never>)
    /// Delivers what is newer than the revision and keeps the watch.
    case watch(SQLiteWatch, after: Revision, CheckedContinuation<StoreError?, Never>)
    case compact(Revision, CheckedContinuation<StoreError?, Never>)
    case close(CheckedContinuation<Void, Never>?)
}

/// The only writer of the data file, on its own thread. It takes everything that waits, makes one transaction of it (one
/// fsync), tells the watches, and only then the callers.
///
/// `@unchecked Sendable`: all `var`s without a lock belong to the writer thread; they are touched before the thread starts
/// (`init`) and on it.
final class StoreWriter: @unchecked Sendable {
    let path: String
    let options: SQLiteStoreOptions
    let mailbox: Mailbox<WriterRequest>
    let readers: ReaderPool
    let checkpointer: Checkpointer
    let folderLock: DataFolderLock
    /// The newest revision that watches have been told of (or are being told of).
    let published: Atomic<Revision>
    let statistics = Mutex(StoreStatistics())

    var connection: Connection?
    var watches: [SQLiteWatch] = []
    /// Where history was at a time, oldest first, one entry every `historySampleSeconds`.
    var history: [(seconds: Int64, revision: Revision)] = []
    var lastTickMicroseconds: Int64 = 0
    /// The compaction goal, and how far rows have been removed (an id of the log).
    var compacted: Revision = 0
    var swept: Int64 = 0
    /// Pages in the write-ahead log after the last commit, written by SQLite's hook.
    let walPages = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
    var signalledWALPages: Int32 = 0

    init(path: String, options: SQLiteStoreOptions, folderLock: DataFolderLock) throws(StoreError) {
        self.path = path
        self.options = options
        self.folderLock = folderLock
        walPages.initialize(to: 0)
        mailbox = Mailbox(capacity: options.queueLimit)
        let opened = try Schema.openWriter(path: path, options: options)
        readers = try ReaderPool(path: path, options: options)
        checkpointer = try Checkpointer(path: path, options: options)
        connection = opened
        published = Atomic(try LogReader(connection: opened).revision())
        try adopt(opened)
        history = [(options.nowSeconds(), revision)]
    }

    deinit { walPages.deallocate() }

    var revision: Revision { published.load(ordering: .acquiring) }

    /// Takes over a freshly opened connection.
    private func adopt(_ opened: Connection) throws(StoreError) {
        sqlite3_wal_hook(opened.handle, { context, _, _, pages in
            context?.assumingMemoryBound(to: Int32.self).pointee = pages
            return SQLITE_OK
        }, walPages)
        compacted = try LogReader(connection: opened).compactedRevision()
        swept = try opened.integer("SELECT value FROM meta WHERE name = 'swept'") ?? 0
        connection = opened
        signalledWALPages = 0
    }

    /// The thread's body.
    func run() {
        lastTickMicroseconds = monotonicMicroseconds()
        while true {
            let sinceTick = Int((monotonicMicroseconds() - lastTickMicroseconds) / 1000)
            let wait = hasRowsToSweep ? 0 : max(1, options.tickMilliseconds - sinceTick)
            let requests = mailbox.take(upTo: options.groupLimit, waitingMilliseconds: wait)
            if requests.isEmpty && hasRowsToSweep { sweepWhenIdle() }
            if let closing = serve(requests) {
                shutDown()
                closing.continuation?.resume()
                return
            }
            if monotonicMicroseconds() - lastTickMicroseconds >= Int64(options.tickMilliseconds) * 1000 { tick() }
        }
    }

    private struct Closing { var continuation: CheckedContinuation<Void, Never>? }

    /// Handles a batch in its order: neighbouring writes become one group.
    private func serve(_ requests: [WriterRequest]) -> Closing? {
        var group: [PendingWrite] = []
        var closing: Closing?
        for request in requests {
            if case .write(let operations, let continuation) = request {
                group.append(PendingWrite(operations: operations, continuation: continuation))
                continue
            }
            commit(&group)
            switch request {
            case .write: break
            case .watch(let watch, let after, let continuation): continuation.resume(returning: start(watch, after: after))
            case .compact(let target, let continuation): continuation.resume(returning: setCompacted(target))
            case .close(let continuation): closing = Closing(continuation: continuation)
            }
        }
        commit(&group)
        return closing
    }

    /// The connection, reopened if an earlier failure dropped it. Writes whose fate was unknown may have survived: then
    /// `published` moves forward and the watches are told.
    func currentConnection() throws(StoreError) -> Connection {
        if let connection { return connection }
        let opened = try Schema.openWriter(path: path, options: options)
        try adopt(opened)
        let found = try LogReader(connection: opened).revision()
        if found > revision {
            let slice = try LogReader(connection: opened).events(prefix: "", after: revision, limit: .max)
            publish(slice.events, upTo: found)
        }
        return opened
    }

    /// After a failed write the page cache and the log's end cannot be trusted.
    func dropConnection() {
        connection?.rollback()
        connection?.close()
        connection = nil
    }

    /// Once a `tickMilliseconds`: expired keys, old history, watch bookkeeping, space.
    private func tick() {
        lastTickMicroseconds = monotonicMicroseconds()
        watches.removeAll { $0.isCancelled }
        statistics.withLock { $0.watches = watches.count }
        do throws(StoreError) {
            if connection == nil { _ = try currentConnection() }
            try deleteExpired()
            try compactAutomatically()
            try returnFreePages()
        } catch {
            dropConnection()
        }
    }

    private func shutDown() {
        let error = StoreError.unavailable("the store is closed")
        for watch in watches where !watch.isCancelled { watch.observer.ended(error) }
        watches = []
        readers.close()
        checkpointer.close()
        if let connection {
            sqlite3_wal_checkpoint_v2(connection.handle, nil, SQLITE_CHECKPOINT_TRUNCATE, nil, nil)
            connection.close()
        }
        connection = nil
        folderLock.release()
    }
}
