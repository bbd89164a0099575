import CSQLite
import Store

/// Copies the write-ahead log into the data file on its own thread and connection, while the writer goes on.
final class Checkpointer: Sendable {
    private let mailbox = Mailbox<Void>(capacity: 1)

    init(path: String, options: SQLiteStoreOptions) throws(StoreError) {
        let mailbox = mailbox
        do {
            try startThread {
                guard let connection = try? Schema.openReader(path: path, options: options) else { return }
                while mailbox.takeOne() != nil {
                    sqlite3_wal_checkpoint_v2(connection.handle, nil, SQLITE_CHECKPOINT_PASSIVE, nil, nil)
                }
                connection.close()
            }
        } catch {
            throw .unavailable("cannot start the checkpoint thread (code \(error.code))")
        }
    }

    /// Asks for a checkpoint; one that waits already is enough.
    func signal() { _ = mailbox.put(()) }

    func close() { mailbox.close() }
}
