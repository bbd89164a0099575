import Store

/// Reads of the log over one connection; the caller holds a transaction when several reads must agree.
struct LogReader {
    let connection: Connection

    /// A row of the log. A tombstone has an empty value; the value it removed is that of `previous`.
    struct Row {
        var id: Int64
        var key: String
        var previous: Int64
        var deleted: Bool
        var record: StoreRecord
    }

    static let columns = "id, key, previous, created, version, expires, deleted, value"

    func compactedRevision() throws(StoreError) -> Revision {
        try connection.integer("SELECT value FROM meta WHERE name = 'compacted'") ?? 0
    }

    /// The newest revision. Compaction may have removed the tombstone that was the newest row, hence the maximum.
    func revision() throws(StoreError) -> Revision {
        let last = Schema.revision(of: try connection.integer("SELECT max(id) FROM log") ?? 0)
        return max(1, last, try compactedRevision())
    }

    /// The newest row of a key, tombstones included, not newer than `limit`.
    func newest(key: String, notAfter limit: Int64 = .max) throws(StoreError) -> Row? {
        let statement = try connection.prepare(
            "SELECT \(Self.columns) FROM log WHERE key = ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1")
        defer { statement.reset() }
        statement.bind(bytesOf: key, at: 1)
        statement.bind(limit, at: 2)
        return try statement.step() ? Self.row(statement) : nil
    }

    func row(id: Int64) throws(StoreError) -> Row? {
        let statement = try connection.prepare("SELECT \(Self.columns) FROM log WHERE id = ?1")
        defer { statement.reset() }
        statement.bind(id, at: 1)
        return try statement.step() ? Self.row(statement) : nil
    }

    /// The revision to read at, checked against what is there.
    func snapshot(at wanted: Revision?) throws(StoreError) -> Revision {
        let current = try revision()
        guard let wanted, wanted > 0 else { return current }
        if wanted > current { throw .futureRevision(current: current) }
        let compacted = try compactedRevision()
        if wanted < compacted { throw .compacted(oldest: compacted) }
        return wanted
    }

    func get(key: String, at wanted: Revision?) throws(StoreError) -> StoreRecord? {
        let revision = try snapshot(at: wanted)
        guard let row = try newest(key: key, notAfter: Schema.lastIdentifier(of: revision)), !row.deleted else { return nil }
        return row.record
    }

    /// Walks the covering index, keeps the last entry of each key, and fetches values only for the page that is returned.
    func range(prefix: String, startingAt: String?, limit: Int, at wanted: Revision?) throws(StoreError) -> RangeResult {
        let revision = try snapshot(at: wanted)
        var result = RangeResult(records: [], revision: revision, more: false, remaining: 0)
        var remaining: Int64 = 0
        try walk(prefix: prefix, startingAt: startingAt, notAfter: Schema.lastIdentifier(of: revision)) { id throws(StoreError) in
            if limit <= 0 || result.records.count < limit {
                guard let row = try row(id: id) else { throw .corrupt("the index names row \(id), which is not in the log") }
                result.records.append(row.record)
            } else {
                remaining += 1
            }
        }
        result.more = remaining > 0
        result.remaining = remaining
        return result
    }

    func count(prefix: String) throws(StoreError) -> Int64 {
        var count: Int64 = 0
        try walk(prefix: prefix, startingAt: nil, notAfter: .max) { _ throws(StoreError) in count += 1 }
        return count
    }

    /// Calls `body` with the id of the newest row of every live key, in key order.
    private func walk(
        prefix: String, startingAt: String?, notAfter limit: Int64, _ body: (Int64) throws(StoreError) -> Void
    ) throws(StoreError) {
        let statement = try connection.prepare("""
            SELECT key, id, deleted FROM log INDEXED BY log_key WHERE key >= ?1 AND key < ?2 AND id <= ?3 ORDER BY key, id
            """)
        defer { statement.reset() }
        let start = startingAt.map { $0.utf8.lexicographicallyPrecedes(prefix.utf8) ? prefix : $0 } ?? prefix
        statement.bind(bytesOf: start, at: 1)
        statement.bind(bytes: Self.upperBound(ofPrefix: prefix), at: 2)
        statement.bind(limit, at: 3)
        var key: [UInt8] = []
        var newest: Int64 = 0
        var live = false
        while try statement.step() {
            let same = statement.withBytes(0) { bytes in newest != 0 && bytes.elementsEqual(key) }
            if !same {
                if live { try body(newest) }
                key = statement.bytes(0)
            }
            newest = statement.integer(1)
            live = statement.integer(2) == 0
        }
        if live { try body(newest) }
    }

    struct EventSlice {
        var events: [StoreEvent]
        /// Every event up to this revision was looked at.
        var upTo: Revision
        /// Nothing newer is there.
        var complete: Bool
    }

    /// The events under a prefix after a revision, looking at about `limit` rows, always whole transactions.
    func events(prefix: String, after revision: Revision, limit: Int) throws(StoreError) -> EventSlice {
        let compacted = try compactedRevision()
        if revision < compacted { throw .compacted(oldest: compacted) }
        let statement = try connection.prepare("SELECT \(Self.columns) FROM log WHERE id > ?1 ORDER BY id")
        defer { statement.reset() }
        statement.bind(Schema.lastIdentifier(of: revision), at: 1)
        var slice = EventSlice(events: [], upTo: revision, complete: false)
        var looked = 0
        while try statement.step() {
            let id = statement.integer(0)
            if looked >= limit && Schema.revision(of: id) != slice.upTo { return slice }
            looked += 1
            slice.upTo = Schema.revision(of: id)
            guard statement.withBytes(1, { hasPrefix($0, prefix) }) else { continue }
            slice.events.append(try event(of: Self.row(statement)))
        }
        slice.upTo = max(slice.upTo, try self.revision())
        slice.complete = true
        return slice
    }

    private func event(of row: Row) throws(StoreError) -> StoreEvent {
        // A row that follows a tombstone is a create: what it replaced was already gone.
        let previous = row.previous == 0 ? nil : try self.row(id: row.previous)
        guard row.deleted else {
            let before = previous.flatMap { $0.deleted ? nil : $0.record }
            return StoreEvent(kind: .put, record: row.record, previous: before)
        }
        guard let previous else { throw .corrupt("tombstone \(row.id) has lost the row it deleted") }
        var record = previous.record
        record.modRevision = row.record.modRevision
        return StoreEvent(kind: .delete, record: record, previous: previous.record)
    }

    private static func row(_ statement: Statement) -> Row {
        let id = statement.integer(0)
        let key = statement.text(1)
        let expires = statement.integer(5)
        return Row(
            id: id, key: key, previous: statement.integer(2), deleted: statement.integer(6) != 0,
            record: StoreRecord(
                key: key, value: statement.bytes(7), createRevision: statement.integer(3), modRevision: Schema.revision(of: id),
                version: statement.integer(4), expiresAtSeconds: expires == 0 ? nil : expires))
    }

    /// The first key after all keys with the prefix. UTF-8 has no 0xFF byte, so that bounds everything.
    static func upperBound(ofPrefix prefix: String) -> [UInt8] {
        var bytes = Array(prefix.utf8)
        guard let last = bytes.last else { return [0xff] }
        bytes[bytes.count - 1] = last + 1
        return bytes
    }
}

/// Plain byte prefix (String.hasPrefix compares by Unicode equivalence).
func hasPrefix(_ bytes: UnsafeBufferPointer<UInt8>, _ prefix: String) -> Bool {
    var prefix = prefix
    return prefix.withUTF8 { $0.count <= bytes.count && bytes.prefix($0.count).elementsEqual($0) }
}
