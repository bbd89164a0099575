import CSQLite
import Store
import Synchronization

/// Compaction in two parts: `compacted` says what may be read (durable first), `swept` how far obsolete rows are removed.
extension StoreWriter {
    var hasRowsToSweep: Bool { connection != nil && swept < Schema.lastIdentifier(of: compacted) && compacted > 0 }

    /// Moves the compacted revision forward; the rows go in slices afterwards.
    func setCompacted(_ target: Revision) -> StoreError? {
        if target > revision { return .futureRevision(current: revision) }
        if target <= compacted { return target < compacted ? .compacted(oldest: compacted) : nil }
        do throws(StoreError) {
            let connection = try currentConnection()
            let statement = try connection.prepare("UPDATE meta SET value = ?1 WHERE name = 'compacted'")
            statement.bind(target, at: 1)
            try statement.run()
            compacted = target
            statistics.withLock { $0.compactedRevision = target }
            return nil
        } catch {
            dropConnection()
            return error
        }
    }

    /// Keeps history within `historySeconds` and `historyRevisions`.
    func compactAutomatically() throws(StoreError) {
        let now = options.nowSeconds()
        var target = revision - options.historyRevisions
        while let first = history.first, history.count > 1, now - history[1].seconds >= options.historySeconds {
            target = max(target, first.revision)
            history.removeFirst()
        }
        if let oldest = history.first, now - oldest.seconds >= options.historySeconds { target = max(target, oldest.revision) }
        if let newest = history.last, now - newest.seconds >= historySampleSeconds || now < newest.seconds {
            history.append((now, revision))
        }
        guard target > compacted, target > 1 else { return }
        if let error = setCompacted(target) { throw error }
    }

    /// Removes what the next `rows` rows of the log made obsolete, inside the caller's transaction.
    func sweep(rows: Int, on connection: Connection) throws(StoreError) {
        let end = Schema.lastIdentifier(of: compacted)
        let scan = try connection.prepare("SELECT id, previous, deleted FROM log WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")
        scan.bind(swept, at: 1)
        scan.bind(end, at: 2)
        scan.bind(Int64(rows), at: 3)
        var obsolete: [Int64] = []
        var looked = 0
        var last = swept
        while try scan.step() {
            looked += 1
            last = scan.integer(0)
            if scan.integer(1) != 0 { obsolete.append(scan.integer(1)) }
            if scan.integer(2) != 0 { obsolete.append(last) }
        }
        scan.reset()
        let delete = try connection.prepare("DELETE FROM log WHERE id = ?1")
        for id in obsolete {
            delete.bind(id, at: 1)
            try delete.run()
        }
        if looked < rows { last = end }
        let mark = try connection.prepare("UPDATE meta SET value = ?1 WHERE name = 'swept'")
        mark.bind(last, at: 1)
        try mark.run()
        // If the transaction fails the connection is dropped and `swept` is read again.
        swept = last
    }

    /// Nobody writes: a slice of its own.
    func sweepWhenIdle() {
        do throws(StoreError) {
            let connection = try currentConnection()
            try connection.execute("BEGIN IMMEDIATE")
            try sweep(rows: idleSweepRows, on: connection)
            try connection.execute("COMMIT")
            checkpointIfNeeded()
        } catch {
            dropConnection()
        }
    }

    /// Gives pages back to the file system when much of the file is free, a few at a time.
    func returnFreePages() throws(StoreError) {
        guard !hasRowsToSweep, let connection, mailbox.count == 0 else { return }
        let free = try connection.integer("PRAGMA freelist_count") ?? 0
        let all = try connection.integer("PRAGMA page_count") ?? 0
        if free > minimumFreePages && free * 4 > all {
            try connection.execute("PRAGMA incremental_vacuum(\(freePagesReturned))")
            checkpointIfNeeded()
        }
    }
}

private let historySampleSeconds: Int64 = 10
private let idleSweepRows = 256
private let minimumFreePages: Int64 = 1024
private let freePagesReturned = 256
