/// A point in the store's history. Every transaction gets the next one; the first write of a store is revision 2 (etcd: an
/// empty store is at revision 1), so 0 is free for "not given" and a list of an empty store has a usable version.
package typealias Revision = Int64

/// One key with its value and its place in history.
package struct StoreRecord: Sendable, Equatable {
    package var key: String
    /// The encoded object: plain JSON bytes without a `resourceVersion`.
    package var value: [UInt8]
    /// The revision that created the key (since its last delete).
    package var createRevision: Revision
    /// The revision of the last write of the key: the object's `resourceVersion`.
    package var modRevision: Revision
    /// How often the key was written since it was created; 1 after the create.
    package var version: Int64
    /// When the store deletes the key by itself, in Unix seconds.
    package var expiresAtSeconds: Int64?

    package init(
        key: String, value: [UInt8], createRevision: Revision, modRevision: Revision, version: Int64, expiresAtSeconds: Int64? = nil
    ) {
        self.key = key
        self.value = value
        self.createRevision = createRevision
        self.modRevision = modRevision
        self.version = version
        self.expiresAtSeconds = expiresAtSeconds
    }
}

/// One change of one key.
package struct StoreEvent: Sendable, Equatable {
    package enum Kind: Sendable { case put, delete }

    package var kind: Kind
    /// After a put the new record; after a delete the key, the last value, and the delete's own revision as `modRevision`.
    package var record: StoreRecord
    /// The record before the change, `nil` for a create.
    package var previous: StoreRecord?

    package init(kind: Kind, record: StoreRecord, previous: StoreRecord?) {
        self.kind = kind
        self.record = record
        self.previous = previous
    }

    /// The put made the key.
    package var isCreate: Bool { kind == .put && previous == nil }
}

/// What a write asks of the key before it happens.
package enum Compare: Sendable, Equatable {
    /// The key must not exist.
    case absent
    /// The key must exist and its last write must be this one.
    case modRevision(Revision)
    /// No condition.
    case any
}

/// One conditional change of one key.
package struct WriteOperation: Sendable {
    package enum Action: Sendable {
        /// Stores the value; with a time to live the store deletes the key that many seconds later.
        case put([UInt8], timeToLiveSeconds: Int64?)
        case delete
    }

    package var key: String
    package var compare: Compare
    package var action: Action

    package init(key: String, compare: Compare, action: Action) {
        self.key = key
        self.compare = compare
        self.action = action
    }

    /// A put of a key that must not exist.
    package static func create(_ key: String, _ value: [UInt8], timeToLiveSeconds: Int64? = nil) -> WriteOperation {
        WriteOperation(key: key, compare: .absent, action: .put(value, timeToLiveSeconds: timeToLiveSeconds))
    }

    /// A put over a known state of the key.
    package static func update(
        _ key: String, _ value: [UInt8], ifModRevision revision: Revision, timeToLiveSeconds: Int64? = nil
    ) -> WriteOperation {
        WriteOperation(key: key, compare: .modRevision(revision), action: .put(value, timeToLiveSeconds: timeToLiveSeconds))
    }

    /// A delete; without a revision of whatever is there.
    package static func delete(_ key: String, ifModRevision revision: Revision? = nil) -> WriteOperation {
        WriteOperation(key: key, compare: revision.map { .modRevision($0) } ?? .any, action: .delete)
    }
}

/// One page of a range read.
package struct RangeResult: Sendable {
    package var records: [StoreRecord]
    /// The revision the page shows; hand it back as `atRevision` for the next page.
    package var revision: Revision
    /// There are records after the last one.
    package var more: Bool
    /// How many there are after the last one, `nil` when the backend did not count.
    package var remaining: Int64?

    package init(records: [StoreRecord], revision: Revision, more: Bool, remaining: Int64?) {
        self.records = records
        self.revision = revision
        self.more = more
        self.remaining = remaining
    }
}
