import Store

/// Threads with a read connection each: reads see a snapshot of the log and never wait for the writer.
final class ReaderPool: Sendable {
    /// A read; `nil` instead of a connection when none could be opened.
    typealias Job = @Sendable (Result<LogReader, StoreError>) -> Void

    private let mailbox: Mailbox<Job>

    init(path: String, options: SQLiteStoreOptions) throws(StoreError) {
        mailbox = Mailbox(capacity: options.queueLimit)
        let mailbox = mailbox
        do {
            for _ in 0..<max(1, options.readerThreads) {
                try startThread {
                    var connection: Connection?
                    while let job = mailbox.takeOne() {
                        do throws(StoreError) {
                            let opened = if let connection { connection } else { try Schema.openReader(path: path, options: options) }
                            connection = opened
                            job(.success(LogReader(connection: opened)))
                        } catch {
                            job(.failure(error))
                        }
                    }
                    connection?.close()
                }
            }
        } catch {
            throw .unavailable("cannot start a reader thread (code \(error.code))")
        }
    }

    /// Runs `body` on a reader thread inside one read transaction.
    func read<T: Sendable>(_ body: @escaping @Sendable (LogReader) throws(StoreError) -> T) async throws(StoreError) -> T {
        let result: Result<T, StoreError> = await withCheckedContinuation { continuation in
            let put = mailbox.put { opened in
                continuation.resume(returning: opened.flatMap { reader in Self.inTransaction(reader, body) })
            }
            switch put {
            case .accepted: break
            case .full: continuation.resume(returning: .failure(.unavailable("too many reads are waiting")))
            case .closed: continuation.resume(returning: .failure(.unavailable("the store is closed")))
            }
        }
        return try result.get()
    }

    private static func inTransaction<T>(_ reader: LogReader, _ body: (LogReader) throws(StoreError) -> T) -> Result<T, StoreError> {
        do throws(StoreError) {
            try reader.connection.execute("BEGIN")
            defer { reader.connection.rollback() }
            return .success(try body(reader))
        } catch {
            return .failure(error)
        }
    }

    /// Reads already accepted are still answered.
    func close() { mailbox.close() }
}
