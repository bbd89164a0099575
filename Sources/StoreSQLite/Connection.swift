import CSQLite
import Store
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// One SQLite connection, used by one thread at a time (opened without SQLite's own mutexes).
final class Connection {
    let handle: OpaquePointer
    private var statements: [String: Statement] = [:]

    init(path: String, create: Bool) throws(StoreError) {
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX
        let code = sqlite3_open_v2(path, &opened, flags, nil)
        guard let opened else { throw .unavailable("cannot open \(path): out of memory") }
        guard code == SQLITE_OK else {
            let error = storeError(code: code, handle: opened, doing: "open \(path)")
            sqlite3_close_v2(opened)
            throw error
        }
        handle = opened
        sqlite3_extended_result_codes(opened, 1)
        sqlite3_busy_timeout(opened, busyTimeoutMilliseconds)
    }

    deinit { close() }

    private var closed = false

    /// Finalizes the statements and closes the connection; nothing may be called afterwards.
    func close() {
        if closed { return }
        closed = true
        for statement in statements.values { sqlite3_finalize(statement.handle) }
        statements = [:]
        sqlite3_close_v2(handle)
    }

    /// Runs SQL text that returns nothing of interest.
    func execute(_ sql: String) throws(StoreError) {
        let code = sqlite3_exec(handle, sql, nil, nil, nil)
        guard code == SQLITE_OK else { throw storeError(code: code, handle: handle, doing: sql) }
    }

    /// The first column of the first row.
    func integer(_ sql: String) throws(StoreError) -> Int64? {
        let statement = try prepare(sql)
        defer { statement.reset() }
        guard try statement.step(), !statement.isNull(0) else { return nil }
        return statement.integer(0)
    }

    /// A prepared statement, kept for the life of the connection.
    func prepare(_ sql: String) throws(StoreError) -> Statement {
        if let statement = statements[sql] { return statement }
        var prepared: OpaquePointer?
        let code = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &prepared, nil)
        guard code == SQLITE_OK, let prepared else { throw storeError(code: code, handle: handle, doing: "prepare \(sql)") }
        let statement = Statement(handle: prepared, connection: handle)
        statements[sql] = statement
        return statement
    }

    var inTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }

    /// Gives up the open transaction, if any; SQLite may have done so by itself after an I/O error.
    func rollback() {
        if inTransaction { _ = sqlite3_exec(handle, "ROLLBACK", nil, nil, nil) }
    }
}

/// How long a connection waits for a lock of another one; only checkpoints and recovery hold any that matter.
let busyTimeoutMilliseconds: Int32 = 2000

/// A prepared statement. Bound bytes are copied by SQLite except where `stepping(withStatic:at:)` says otherwise.
final class Statement {
    let handle: OpaquePointer
    private let connection: OpaquePointer

    init(handle: OpaquePointer, connection: OpaquePointer) {
        self.handle = handle
        self.connection = connection
    }

    func bind(_ value: Int64, at index: Int32) { sqlite3_bind_int64(handle, index, value) }

    func bind(bytesOf text: String, at index: Int32) {
        var text = text
        text.withUTF8 { bind($0, at: index) }
    }

    func bind(bytes: [UInt8], at index: Int32) { bytes.withUnsafeBufferPointer { bind($0, at: index) } }

    private func bind(_ bytes: UnsafeBufferPointer<UInt8>, at index: Int32) {
        if let base = bytes.baseAddress, !bytes.isEmpty {
            sqlite3_bind_blob64(handle, index, base, UInt64(bytes.count), transientDestructor)
        } else {
            sqlite3_bind_zeroblob(handle, index, 0)
        }
    }

    /// Moves to the next row; false at the end.
    func step() throws(StoreError) -> Bool { try check(sqlite3_step(handle)) }

    /// Binds bytes without a copy (they outlive this step only) and runs the statement once.
    func run(withStatic bytes: [UInt8], at index: Int32) throws(StoreError) {
        let code = bytes.withUnsafeBufferPointer { buffer -> Int32 in
            if let base = buffer.baseAddress, !buffer.isEmpty {
                sqlite3_bind_blob64(handle, index, base, UInt64(buffer.count), nil)
            } else {
                sqlite3_bind_zeroblob(handle, index, 0)
            }
            let code = sqlite3_step(handle)
            if code != SQLITE_DONE && code != SQLITE_ROW { return code }
            sqlite3_reset(handle)
            sqlite3_bind_null(handle, index)
            return code
        }
        _ = try check(code)
    }

    /// Runs the statement to its end and makes it ready for the next use.
    func run() throws(StoreError) {
        defer { reset() }
        while try step() {}
    }

    func reset() { sqlite3_reset(handle) }

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(handle, column) }
    func isNull(_ column: Int32) -> Bool { sqlite3_column_type(handle, column) == SQLITE_NULL }

    func bytes(_ column: Int32) -> [UInt8] { withBytes(column) { [UInt8]($0) } }
    func text(_ column: Int32) -> String { withBytes(column) { String(decoding: $0, as: UTF8.self) } }

    /// The bytes of a column, valid only inside the closure.
    func withBytes<T>(_ column: Int32, _ body: (UnsafeBufferPointer<UInt8>) -> T) -> T {
        let base = sqlite3_column_blob(handle, column)
        let count = Int(sqlite3_column_bytes(handle, column))
        return body(UnsafeBufferPointer(start: base?.assumingMemoryBound(to: UInt8.self), count: base == nil ? 0 : count))
    }

    private func check(_ code: Int32) throws(StoreError) -> Bool {
        if code == SQLITE_ROW { return true }
        if code == SQLITE_DONE { return false }
        let error = storeError(code: code, handle: connection, doing: "step")
        reset()
        throw error
    }
}

/// SQLite copies the bytes during the bind call.
private let transientDestructor = unsafeBitCast(-1, to: sqlite3_destructor_type.self)

/// The one table from SQLite's result codes to the contract's errors.
func storeError(code: Int32, handle: OpaquePointer?, doing action: String) -> StoreError {
    let text = handle.flatMap { sqlite3_errmsg($0) }.map { String(cString: $0) } ?? String(cString: sqlite3_errstr(code))
    let systemError = handle.map { sqlite3_system_errno($0) } ?? 0
    let message = "sqlite: \(text) (code \(code)\(systemError == 0 ? "" : ", errno \(systemError)")) while: \(action)"
    switch code & 0xff {
    case SQLITE_FULL: return .full(message)
    case SQLITE_CORRUPT, SQLITE_NOTADB: return .corrupt(message)
    case SQLITE_IOERR where systemError == ENOSPC || systemError == EDQUOT: return .full(message)
    default: return .unavailable(message)
    }
}
