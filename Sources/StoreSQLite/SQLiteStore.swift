package import Store
import Synchronization
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The embedded store: one SQLite file in a data folder, one process.
package final class SQLiteStore: StoreBackend {
    /// The data file inside the folder.
    package static let fileName = "state.db"

    private let writer: StoreWriter
    private var readers: ReaderPool { writer.readers }

    /// Opens or creates the store in `folder`.
    ///
    /// - Throws: `.unavailable` when another process holds the folder, `.newerFormat`, `.corrupt`.
    package init(folder: String, options: SQLiteStoreOptions = SQLiteStoreOptions()) throws(StoreError) {
        let lock = try DataFolderLock(folder: folder)
        let writer = try StoreWriter(path: folder + "/" + Self.fileName, options: options, folderLock: lock)
        self.writer = writer
        do {
            try startThread { writer.run() }
        } catch {
            throw .unavailable("cannot start the writer thread (code \(error.code))")
        }
    }

    deinit { _ = writer.mailbox.put(.close(nil), closing: true) }

    package var currentRevision: Revision { writer.revision }

    package func range(
        prefix: String, startingAt: String?, limit: Int, atRevision: Revision?
    ) async throws(StoreError) -> RangeResult {
        try await readers.read { (reader) throws(StoreError) in
            try reader.range(prefix: prefix, startingAt: startingAt, limit: limit, at: atRevision)
        }
    }

    package func count(prefix: String) async throws(StoreError) -> Int64 {
        try await readers.read { (reader) throws(StoreError) in try reader.count(prefix: prefix) }
    }

    package func get(key: String, atRevision: Revision?) async throws(StoreError) -> StoreRecord? {
        try await readers.read { (reader) throws(StoreError) in try reader.get(key: key, at: atRevision) }
    }

    package func write(_ operation: WriteOperation) async throws(StoreError) -> StoreRecord {
        guard let record = try await writeAll([operation]).first else { throw .unavailable("the write returned no record") }
        return record
    }

    package func writeAll(_ operations: [WriteOperation]) async throws(StoreError) -> [StoreRecord] {
        try Self.check(operations)
        let outcome: WriteOutcome = await withCheckedContinuation { continuation in
            if let error = submit(.write(operations, continuation)) { continuation.resume(returning: .failure(error)) }
        }
        return try outcome.get()
    }

    private static func check(_ operations: [WriteOperation]) throws(StoreError) {
        if operations.isEmpty { throw .invalid("a transaction without operations") }
        for operation in operations where operation.key.isEmpty { throw .invalid("an empty key") }
        if operations.count == 1 { return }
        if operations.count > Schema.maximumOperationsInTransaction { throw .invalid("too many operations in one transaction") }
        if Set(operations.map(\.key)).count != operations.count { throw .invalid("duplicate key given in one transaction") }
    }

    package func watch(
        prefix: String, after revision: Revision, observer: any StoreObserver
    ) async throws(StoreError) -> any StoreWatch {
        let watch = SQLiteWatch(prefix: prefix, observer: observer)
        var after = revision
        // Long history is read beside the writer; the writer then adds the little that was written meanwhile.
        while after > 0 && after < currentRevision {
            let from = after
            let slice = try await readers.read { (reader) throws(StoreError) in
                let slice = try reader.events(prefix: prefix, after: from, limit: historySliceRows)
                if !slice.events.isEmpty { observer.receive(slice.events, upTo: slice.upTo) }
                return (upTo: slice.upTo, complete: slice.complete)
            }
            after = max(after, slice.upTo)
            if slice.complete { break }
        }
        let from = after
        let failure: StoreError? = await withCheckedContinuation { continuation in
            if let error = submit(.watch(watch, after: from, continuation)) { continuation.resume(returning: error) }
        }
        if let failure { throw failure }
        return watch
    }

    package func compact(to revision: Revision) async throws(StoreError) {
        let failure: StoreError? = await withCheckedContinuation { continuation in
            if let error = submit(.compact(revision, continuation)) { continuation.resume(returning: error) }
        }
        if let failure { throw failure }
    }

    package func statistics() async -> StoreStatistics {
        var statistics = writer.statistics.withLock { $0 }
        statistics.revision = currentRevision
        statistics.waiting = writer.mailbox.count
        statistics.bytes = fileSize(writer.path)
        statistics.walBytes = fileSize(writer.path + "-wal")
        if let counted = try? await readers.read({ (reader) throws(StoreError) in
            (records: try reader.count(prefix: ""), compacted: try reader.compactedRevision())
        }) {
            statistics.records = counted.records
            statistics.compactedRevision = counted.compacted
        }
        return statistics
    }

    /// Checks the whole file (`PRAGMA quick_check`); slow on a big store, does not hold up writers.
    package func verify() async throws(StoreError) {
        let text = try await readers.read { (reader) throws(StoreError) -> String in
            let statement = try reader.connection.prepare("PRAGMA quick_check(1)")
            defer { statement.reset() }
            return try statement.step() ? statement.text(0) : "no answer"
        }
        if text != "ok" { throw .corrupt(text) }
    }

    package func close() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            if writer.mailbox.put(.close(continuation), closing: true) != .accepted { continuation.resume() }
        }
    }

    /// Hands a request to the writer; an error if it was not taken.
    private func submit(_ request: WriterRequest) -> StoreError? {
        switch writer.mailbox.put(request) {
        case .accepted: nil
        case .full: .unavailable("too many requests are waiting for the store")
        case .closed: .unavailable("the store is closed")
        }
    }
}

/// How many rows of history a watch reads in one go.
private let historySliceRows = 1000

private func fileSize(_ path: String) -> Int64 {
    var status = stat()
    return stat(path, &status) == 0 ? Int64(status.st_size) : 0
}

/// The wall clock.
package func unixSeconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec)
}
