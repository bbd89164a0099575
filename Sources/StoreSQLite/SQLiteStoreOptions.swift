package import Store

/// Settings of the embedded store. The defaults are what `martlet server` uses.
package struct SQLiteStoreOptions: Sendable {
    package var pageSizeBytes = 4096
    package var writerCacheKibibytes = 8192
    package var readerCacheKibibytes = 1024
    package var memoryMapBytes: Int64 = 64 << 20
    package var readerThreads = 2
    /// The most operations one commit takes together.
    package var groupLimit = 512
    /// The most requests that wait for the writer; more are refused with `.unavailable`.
    package var queueLimit = 8192
    /// The write-ahead log is copied into the data file in the background every so many pages, by the writer itself at the
    /// second number, and cut to `walLimitBytes` when it starts over.
    package var checkpointPages = 1000
    package var forcedCheckpointPages = 6000
    package var walLimitBytes: Int64 = 32 << 20
    /// The data file may not grow beyond this; `nil`: the disk is the limit.
    package var maximumBytes: Int64?
    /// Automatic compaction keeps this much history, whichever is less.
    package var historySeconds: Int64 = 300
    package var historyRevisions: Int64 = 100_000
    /// How often the writer looks at expired keys and old history.
    package var tickMilliseconds = 1000
    /// Unix time in seconds.
    package var nowSeconds: @Sendable () -> Int64 = unixSeconds
    package var faults = StoreFaults()

    package init() {}
}

/// Where drills and tests reach into the writer thread. All `nil` in production: one branch each.
package struct StoreFaults: Sendable {
    /// Before COMMIT of a group with this last revision; throwing fails the group as a failed write would: nothing is stored.
    package var beforeCommit: (@Sendable (Revision) throws(StoreError) -> Void)?
    /// After COMMIT returned; throwing stands for a failed fsync: the group is refused although its bytes may survive.
    package var afterCommit: (@Sendable (Revision) throws(StoreError) -> Void)?

    package init() {}
}
