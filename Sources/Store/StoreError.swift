/// Why the store did not do what it was asked.
package enum StoreError: Error, Sendable, Equatable {
    /// A compare failed (or the key of a delete is absent); `current` is the record that is there.
    case conflict(current: StoreRecord?)
    /// The history asked for is gone; `oldest` is the oldest revision that can still be read.
    case compacted(oldest: Revision)
    /// The revision asked for is not written yet.
    case futureRevision(current: Revision)
    /// The disk or the store's quota is full: nothing was written.
    case full(String)
    /// The store cannot serve now; the write did not happen unless the message says that its outcome is unknown.
    case unavailable(String)
    /// The data on disk is damaged.
    case corrupt(String)
    /// The data was written by a newer program; it was not touched.
    case newerFormat(found: Int, supported: Int)
    /// The operation itself makes no sense (the same key twice in one transaction, an empty key).
    case invalid(String)
}
