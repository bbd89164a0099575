/// The durable, ordered, watchable key-value store below the API server. The semantics are etcd's: one global revision that
/// only grows, compare-and-swap on a key's modification revision, reads and watches at a revision, compaction.
///
/// Keys compare byte by byte (UTF-8). A prefix is a plain byte prefix of the key; the empty prefix is every key.
package protocol StoreBackend: Sendable {
    /// The revision of the newest durable write; 1 for a store that has never been written, as in etcd. Cheap: no I/O.
    var currentRevision: Revision { get }

    /// The live records under `prefix` in key order.
    ///
    /// - Parameters:
    ///   - startingAt: the first key that may be returned (inclusive); `nil` starts at the prefix. To continue after key K
    ///     hand in `K + "\0"`.
    ///   - limit: the most records to return; 0 or less is no limit.
    ///   - atRevision: the state to read; `nil` or 0 is the newest.
    /// - Throws: `.compacted` for a revision that is gone, `.futureRevision` for one that is not written yet.
    func range(prefix: String, startingAt: String?, limit: Int, atRevision: Revision?) async throws(StoreError) -> RangeResult

    /// The number of live records under `prefix` in the newest state.
    func count(prefix: String) async throws(StoreError) -> Int64

    /// The record of one key, `nil` if there is none at that revision (`nil` or 0: the newest).
    func get(key: String, atRevision: Revision?) async throws(StoreError) -> StoreRecord?

    /// One write, one transaction, one revision. Returns after the commit is durable and every watch has been told.
    ///
    /// - Returns: the record after a put; after a delete the last value with `modRevision` set to the delete's revision.
    /// - Throws: `.conflict` if the compare fails or the key of a delete does not exist.
    func write(_ operation: WriteOperation) async throws(StoreError) -> StoreRecord

    /// All operations in one transaction with one revision, or none of them. A key may occur only once.
    func writeAll(_ operations: [WriteOperation]) async throws(StoreError) -> [StoreRecord]

    /// Every event under `prefix` with `modRevision > revision`, in revision order, without gap or duplicate: history first,
    /// then live. `revision` 0 means "from now on". The first call of the observer may come before this function returns.
    func watch(prefix: String, after revision: Revision, observer: any StoreObserver) async throws(StoreError) -> any StoreWatch

    /// Forgets what only revisions below `revision` can see. Reads and watches that need it then throw `.compacted`.
    func compact(to revision: Revision) async throws(StoreError)

    /// Numbers for metrics and drills.
    func statistics() async -> StoreStatistics

    /// Finishes the writes already accepted, fails new ones with `.unavailable` and releases the data folder.
    func close() async
}

/// Who is told of writes. Called on a thread of the store (history may come from another one than live events), one call at
/// a time for each watch: return quickly, never block,
/// never call back into the store synchronously.
package protocol StoreObserver: AnyObject, Sendable {
    /// - Parameters:
    ///   - events: in revision order; may be empty.
    ///   - upTo: every event of the prefix up to this revision has now been delivered (the base of a watch bookmark).
    func receive(_ events: [StoreEvent], upTo revision: Revision)

    /// The watch ended on the store's side (compaction overtook its history, the store closed); no call follows.
    func ended(_ error: StoreError)
}

/// A running watch.
package protocol StoreWatch: Sendable {
    /// Ends the watch. A call of the observer that already runs on the writer thread may still finish.
    func cancel()
}

extension StoreBackend {
    /// The newest record of a key.
    package func get(key: String) async throws(StoreError) -> StoreRecord? {
        try await get(key: key, atRevision: nil)
    }

    /// All live records under a prefix in the newest state.
    package func range(prefix: String) async throws(StoreError) -> RangeResult {
        try await range(prefix: prefix, startingAt: nil, limit: 0, atRevision: nil)
    }
}
