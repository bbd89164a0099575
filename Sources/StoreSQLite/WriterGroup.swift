import CSQLite
import Store
import Synchronization

/// A caller's write on its way through a group.
struct PendingWrite {
    var operations: [WriteOperation]
    /// `nil` for the store's own deletes of expired keys.
    var continuation: CheckedContinuation<WriteOutcome, Never>?
    var outcome: WriteOutcome = .success([])
}

extension StoreWriter {
    /// Commits a group and answers every caller in it. A failed compare fails its own write only; a failed disk fails all.
    func commit(_ group: inout [PendingWrite]) {
        if group.isEmpty { return }
        defer { group = [] }
        let started = monotonicMicroseconds()
        var events: [StoreEvent] = []
        var last = revision
        do throws(StoreError) {
            let connection = try currentConnection()
            last = revision
            try connection.execute("BEGIN IMMEDIATE")
            for index in group.indices {
                do throws(StoreError) {
                    let records = try apply(group[index].operations, at: last + 1, on: connection, events: &events)
                    if !records.isEmpty { last += 1 }
                    group[index].outcome = .success(records)
                } catch {
                    guard error.concernsOneWrite else { throw error }
                    group[index].outcome = .failure(error)
                }
            }
            if last == revision {
                connection.rollback()
            } else {
                if hasRowsToSweep { try sweep(rows: min(maximumSweptRowsInGroup, 2 * events.count + 16), on: connection) }
                if let beforeCommit = options.faults.beforeCommit { try beforeCommit(last) }
                try connection.execute("COMMIT")
                if let afterCommit = options.faults.afterCommit { try afterCommit(last) }
            }
        } catch {
            // Conflicts found in this group may rest on writes that are gone with it: everyone gets the group's error.
            dropConnection()
            for pending in group { pending.continuation?.resume(returning: .failure(error)) }
            return
        }
        if last > revision {
            let elapsed = monotonicMicroseconds() - started
            let count = events.count
            statistics.withLock {
                $0.commits += 1
                $0.writes += Int64(count)
                $0.commitLatency.add(microseconds: elapsed)
            }
            publish(events, upTo: last)
        }
        for pending in group { pending.continuation?.resume(returning: pending.outcome) }
        checkpointIfNeeded()
    }

    /// Checks all compares, then writes all rows of one caller's transaction. Nothing is written if a compare fails.
    private func apply(
        _ operations: [WriteOperation], at revision: Revision, on connection: Connection, events: inout [StoreEvent]
    ) throws(StoreError) -> [StoreRecord] {
        let reader = LogReader(connection: connection)
        var before: [LogReader.Row?] = []
        before.reserveCapacity(operations.count)
        for operation in operations {
            let newest = try reader.newest(key: operation.key)
            let live = newest.flatMap { $0.deleted ? nil : $0 }
            let holds = switch operation.compare {
            case .absent: live == nil
            case .modRevision(let wanted): live?.record.modRevision == wanted
            case .any: true
            }
            var missing = false
            if case .delete = operation.action { missing = live == nil }
            if !holds || missing { throw .conflict(current: live?.record) }
            before.append(live)
        }
        var records: [StoreRecord] = []
        records.reserveCapacity(operations.count)
        for (position, operation) in operations.enumerated() {
            let id = Schema.identifier(revision, position: position)
            let event = event(of: operation, replacing: before[position], at: revision)
            try insert(event, id: id, previous: before[position]?.id ?? 0, on: connection)
            events.append(event)
            records.append(event.record)
        }
        return records
    }

    private func event(of operation: WriteOperation, replacing before: LogReader.Row?, at revision: Revision) -> StoreEvent {
        switch operation.action {
        case .put(let value, let timeToLiveSeconds):
            let record = StoreRecord(
                key: operation.key, value: value, createRevision: before?.record.createRevision ?? revision,
                modRevision: revision, version: (before?.record.version ?? 0) + 1,
                expiresAtSeconds: timeToLiveSeconds.map { options.nowSeconds() + max(1, $0) })
            return StoreEvent(kind: .put, record: record, previous: before?.record)
        case .delete:
            var record = before?.record
                ?? StoreRecord(key: operation.key, value: [], createRevision: revision, modRevision: revision, version: 0)
            record.modRevision = revision
            return StoreEvent(kind: .delete, record: record, previous: before?.record)
        }
    }

    private func insert(_ event: StoreEvent, id: Int64, previous: Int64, on connection: Connection) throws(StoreError) {
        let deleted = event.kind == .delete
        let expires = deleted ? 0 : event.record.expiresAtSeconds ?? 0
        let statement = try connection.prepare("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
        statement.bind(id, at: 1)
        statement.bind(bytesOf: event.record.key, at: 2)
        statement.bind(previous, at: 3)
        statement.bind(event.record.createRevision, at: 4)
        statement.bind(event.record.version, at: 5)
        statement.bind(expires, at: 6)
        statement.bind(deleted ? 1 : 0, at: 7)
        try statement.run(withStatic: deleted ? [] : event.record.value, at: 8)
        if let old = event.previous?.expiresAtSeconds {
            let expiry = try connection.prepare("DELETE FROM expiry WHERE expires = ?1 AND id = ?2")
            expiry.bind(old, at: 1)
            expiry.bind(previous, at: 2)
            try expiry.run()
        }
        if expires != 0 {
            let expiry = try connection.prepare("INSERT INTO expiry VALUES (?1, ?2)")
            expiry.bind(expires, at: 1)
            expiry.bind(id, at: 2)
            try expiry.run()
        }
    }

    /// Deletes what has outlived its time to live, as ordinary deletes with a revision each.
    func deleteExpired() throws(StoreError) {
        var group: [PendingWrite] = []
        let connection = try currentConnection()
        let statement = try connection.prepare(
            "SELECT log.key, log.id FROM expiry JOIN log ON log.id = expiry.id WHERE expiry.expires <= ?1 ORDER BY expiry.expires LIMIT ?2")
        statement.bind(options.nowSeconds(), at: 1)
        statement.bind(Int64(options.groupLimit), at: 2)
        while try statement.step() {
            let operation = WriteOperation.delete(statement.text(0), ifModRevision: Schema.revision(of: statement.integer(1)))
            group.append(PendingWrite(operations: [operation], continuation: nil))
        }
        statement.reset()
        // A full group means that more are due: come back at once instead of a tick later.
        if group.count == options.groupLimit { lastTickMicroseconds = 0 }
        commit(&group)
    }
}

extension StoreError {
    /// The error is about the write itself, not about the store.
    fileprivate var concernsOneWrite: Bool {
        switch self {
        case .conflict, .invalid: true
        case .compacted, .futureRevision, .full, .unavailable, .corrupt, .newerFormat: false
        }
    }
}

/// How many obsolete rows a group removes along the way at most, so that it is never held up for long.
private let maximumSweptRowsInGroup = 128
