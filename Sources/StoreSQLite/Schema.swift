import CSQLite
import Store
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The data file: one log, found by key through a covering index.
///
/// `log.id` is `revision << 12 | position in its transaction`. `previous` is the id of the row this one replaces (0: none), so
/// compaction walks the log once, forward, and knows for every row which older one it made obsolete. Keys are blobs: SQLite
/// then compares them with memcmp, which is the order of the contract. `expiry` holds only live rows with a time to live.
enum Schema {
    /// `PRAGMA user_version`. A higher number on disk means a newer program wrote it: refuse, touch nothing.
    static let formatVersion = 1
    /// At most this many operations share one revision.
    static let positionBits: Int64 = 12
    static let maximumOperationsInTransaction = 1 << 12

    static func identifier(_ revision: Revision, position: Int) -> Int64 { revision << positionBits | Int64(position) }
    static func revision(of identifier: Int64) -> Revision { identifier >> positionBits }
    /// The largest id of a revision.
    static func lastIdentifier(of revision: Revision) -> Int64 {
        revision >= Int64.max >> positionBits ? Int64.max : (revision + 1) << positionBits - 1
    }

    /// Opens the writer's connection, creating the tables in a new file.
    static func openWriter(path: String, options: SQLiteStoreOptions) throws(StoreError) -> Connection {
        if access(path, F_OK) != 0, errno == ENOENT { try createFile(path, options) }
        let connection = try Connection(path: path, create: true)
        do throws(StoreError) {
            let found = Int(try connection.integer("PRAGMA user_version") ?? 0)
            if found > formatVersion { throw .newerFormat(found: found, supported: formatVersion) }
            if found == 0 {
                let tables = try connection.integer("SELECT count(*) FROM sqlite_master") ?? 0
                if tables != 0 { throw .corrupt("\(path) is a SQLite file of another program") }
                try connection.execute("PRAGMA page_size = \(options.pageSizeBytes)")
                try connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            }
            try configure(connection, cacheKibibytes: options.writerCacheKibibytes, options: options)
            if found == 0 { try create(connection) }
            if let maximum = options.maximumBytes {
                try connection.execute("PRAGMA max_page_count = \(max(16, maximum / Int64(options.pageSizeBytes)))")
            }
        } catch {
            connection.close()
            throw error
        }
        return connection
    }

    /// Makes the empty data file beside its place and renames it: two syncs instead of the dozen of SQLite's own steps, because nothing is
    /// lost with a file that did not get its name. The folder's lock is held.
    private static func createFile(_ path: String, _ options: SQLiteStoreOptions) throws(StoreError) {
        let temporary = path + ".new"
        // The log of a data file that is gone must not be taken for one of the new file's.
        for leftover in [temporary, temporary + "-wal", temporary + "-shm", path + "-wal", path + "-shm", path + "-journal"] { unlink(leftover) }
        let connection = try Connection(path: temporary, create: true)
        do throws(StoreError) {
            try connection.execute("PRAGMA synchronous = OFF")
            try connection.execute("PRAGMA page_size = \(options.pageSizeBytes)")
            try connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            try connection.execute("PRAGMA journal_mode = WAL")
            try create(connection)
            // The log's content moves into the file, so that the file alone is the database.
            try connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        } catch {
            connection.close()
            throw error
        }
        connection.close()
        try sync(temporary)
        guard rename(temporary, path) == 0 else { throw systemFailure("rename \(temporary)") }
        try sync(path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ".")
    }

    /// Makes a file, or the names in a folder, durable.
    private static func sync(_ path: String) throws(StoreError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemFailure("open \(path)") }
        let code = fsync(descriptor)
        let failure = systemFailure("sync \(path)")
        close(descriptor)
        guard code == 0 else { throw failure }
    }

    private static func systemFailure(_ action: String) -> StoreError {
        let text = "cannot \(action): \(String(cString: strerror(errno)))"
        return errno == ENOSPC || errno == EDQUOT ? .full(text) : .unavailable(text)
    }

    /// Opens a connection that only reads (or checkpoints).
    static func openReader(path: String, options: SQLiteStoreOptions) throws(StoreError) -> Connection {
        let connection = try Connection(path: path, create: false)
        try configure(connection, cacheKibibytes: options.readerCacheKibibytes, options: options)
        return connection
    }

    private static func configure(
        _ connection: Connection, cacheKibibytes: Int, options: SQLiteStoreOptions
    ) throws(StoreError) {
        try connection.execute("PRAGMA journal_mode = WAL")
        try connection.execute("PRAGMA synchronous = FULL")
        try connection.execute("PRAGMA wal_autocheckpoint = 0")
        try connection.execute("PRAGMA journal_size_limit = \(options.walLimitBytes)")
        try connection.execute("PRAGMA temp_store = MEMORY")
        try connection.execute("PRAGMA cache_size = -\(cacheKibibytes)")
        try connection.execute("PRAGMA mmap_size = \(options.memoryMapBytes)")
    }

    private static func create(_ connection: Connection) throws(StoreError) {
        try connection.execute("""
            BEGIN IMMEDIATE;
            CREATE TABLE log (
                id INTEGER PRIMARY KEY, key BLOB NOT NULL, previous INTEGER NOT NULL, created INTEGER NOT NULL,
                version INTEGER NOT NULL, expires INTEGER NOT NULL, deleted INTEGER NOT NULL, value BLOB NOT NULL);
            CREATE INDEX log_key ON log (key, id, deleted);
            CREATE TABLE expiry (expires INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (expires, id)) WITHOUT ROWID;
            CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
            INSERT INTO meta VALUES ('compacted', 0), ('swept', 0);
            PRAGMA user_version = \(formatVersion);
            COMMIT;
            """)
    }
}
