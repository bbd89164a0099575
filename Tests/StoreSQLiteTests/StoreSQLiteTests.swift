import Foundation
import Store
import StoreSQLite
import StoreTesting
import Synchronization
import Testing

/// A folder that goes away with the test.
func withFolder<T>(_ body: (String) async throws -> T) async throws -> T {
    let folder = NSTemporaryDirectory() + "martlet-store-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try await body(folder)
}

@Suite("the SQLite store keeps the store contract")
struct StoreContractTests {
    @Test("rule", arguments: StoreBackendSuite.rules.map(\.name))
    func rule(name: String) async throws {
        let rule = try #require(StoreBackendSuite.rules.first { $0.name == name }?.rule)
        try await withFolder { folder in
            let store = try SQLiteStore(folder: folder)
            try await rule(store)
            try await store.verify()
            await store.close()
        }
    }

    @Test("keys with a time to live are deleted by the store")
    func timeToLive() async throws {
        try await withFolder { folder in
            let clock = Box<Int64>(1_000_000)
            var options = SQLiteStoreOptions()
            options.tickMilliseconds = 10
            options.nowSeconds = { clock.withLock { $0 } }
            let store = try SQLiteStore(folder: folder, options: options)
            try await StoreBackendSuite.timeToLive(store) { seconds in clock.withLock { $0 += seconds } }
            await store.close()
        }
    }

    @Test("a random history is explained by a model", arguments: [UInt64(1), 2, 3, .random(in: 4 ... .max)])
    func randomizedHistory(seed: UInt64) async throws {
        try await withFolder { folder in
            let store = try SQLiteStore(folder: folder)
            try await StoreBackendSuite.randomizedHistory(store, seed: seed)
            await store.close()
        }
    }
}

@Suite("the SQLite store in trouble")
struct StoreTroubleTests {
    @Test("a second open of the folder names the process that holds it")
    func folderInUse() async throws {
        try await withFolder { folder in
            let store = try SQLiteStore(folder: folder)
            #expect(throws: StoreError.unavailable("data folder \(folder) is in use by process \(getpid())")) {
                _ = try SQLiteStore(folder: folder)
            }
            await store.close()
            let again = try SQLiteStore(folder: folder)
            await again.close()
        }
    }

    @Test("a folder of a newer format is refused and not touched")
    func newerFormat() async throws {
        try await withFolder { folder in
            let store = try SQLiteStore(folder: folder)
            _ = try await store.write(.create("/a", [1]))
            await store.close()
            let path = folder + "/" + SQLiteStore.fileName
            // The format version is the user version: four bytes at offset 60 of the file.
            var data = try Data(contentsOf: URL(fileURLWithPath: path))
            data[63] = 99
            try data.write(to: URL(fileURLWithPath: path))
            #expect(throws: StoreError.newerFormat(found: 99, supported: 1)) { _ = try SQLiteStore(folder: folder) }
            #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == data)
        }
    }

    @Test("a file that is not a database is reported as corrupt")
    func notADatabase() async throws {
        try await withFolder { folder in
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try Data(repeating: 7, count: 8192).write(to: URL(fileURLWithPath: folder + "/" + SQLiteStore.fileName))
            do throws(StoreError) {
                _ = try SQLiteStore(folder: folder)
                Issue.record("opened")
            } catch {
                guard case .corrupt = error else { Issue.record("\(error)"); return }
            }
        }
    }

    @Test("a full store refuses writes, keeps what it has, and takes deletes and writes again when there is room")
    func full() async throws {
        try await withFolder { folder in
            var options = SQLiteStoreOptions()
            options.maximumBytes = 1 << 20
            let store = try SQLiteStore(folder: folder, options: options)
            let value = [UInt8](repeating: 1, count: 10_000)
            var written = 0
            var failure: StoreError?
            while failure == nil && written < 1000 {
                do throws(StoreError) {
                    _ = try await store.write(.create("/a/\(written)", value))
                    written += 1
                } catch {
                    failure = error
                }
            }
            guard case .full = failure else { Issue.record("\(String(describing: failure))"); return }
            #expect(try await store.count(prefix: "/a/") == Int64(written))
            #expect(store.currentRevision == Revision(written) + 1)
            await store.close()
            let again = try SQLiteStore(folder: folder)
            _ = try await again.write(.create("/b", value))
            await again.close()
        }
    }

    @Test("a group that cannot be committed fails every write in it, and the store goes on")
    func failedCommit() async throws {
        try await withFolder { folder in
            let shared = Shared(Atomic(false))
            var options = SQLiteStoreOptions()
            options.faults.beforeCommit = { (_) throws(StoreError) in
                if shared.flag.load(ordering: .relaxed) { throw .unavailable("disk on fire") }
            }
            let store = try SQLiteStore(folder: folder, options: options)
            _ = try await store.write(.create("/a", [1]))
            shared.flag.store(true, ordering: .relaxed)
            await #expect(throws: StoreError.unavailable("disk on fire")) { _ = try await store.write(.create("/b", [1])) }
            shared.flag.store(false, ordering: .relaxed)
            #expect(try await store.get(key: "/b") == nil)
            #expect(try await store.write(.create("/c", [1])).modRevision == 3)
            await store.close()
        }
    }

    @Test("a write whose fsync failed is refused; if it survived, watches see it in order")
    func failedSync() async throws {
        try await withFolder { folder in
            let shared = Shared(Atomic(false))
            var options = SQLiteStoreOptions()
            options.faults.afterCommit = { (_) throws(StoreError) in
                if shared.flag.exchange(false, ordering: .relaxed) { throw .unavailable("fsync failed") }
            }
            let store = try SQLiteStore(folder: folder, options: options)
            let observer = RecordingObserver()
            let watch = try await store.watch(prefix: "", after: 0, observer: observer)
            _ = try await store.write(.create("/a", [1]))
            shared.flag.store(true, ordering: .relaxed)
            await #expect(throws: StoreError.unavailable("fsync failed")) { _ = try await store.write(.create("/b", [1])) }
            _ = try await store.write(.create("/c", [1]))
            #expect(observer.events.map(\.record.key) == ["/a", "/b", "/c"])
            #expect(observer.events.map(\.record.modRevision) == [2, 3, 4])
            #expect(observer.violation == nil)
            watch.cancel()
            await store.close()
        }
    }

    @Test("whatever moment the machine stops, every acknowledged write is there and no revision is missing")
    func crashCopies() async throws {
        try await withFolder { folder in
            let acknowledged = Box<[String: Revision]>([:])
            let copies = Box<[(folder: String, acknowledged: [String: Revision])]>([])
            let counter = Box(0)
            var options = SQLiteStoreOptions()
            options.checkpointPages = 50
            options.forcedCheckpointPages = 200
            options.historyRevisions = 300
            options.tickMilliseconds = 20
            // The writer stands still in the hook. Data file first, then the log: a checkpoint only copies what the log still has.
            let copy: @Sendable (Revision) -> Void = { _ in
                let number = counter.withLock { $0 += 1; return $0 }
                guard number % 37 == 0 else { return }
                let known = acknowledged.withLock { $0 }
                let target = folder + "/copy-\(number)"
                try? FileManager.default.createDirectory(atPath: target, withIntermediateDirectories: true)
                for suffix in ["", "-wal"] {
                    try? FileManager.default.copyItem(
                        atPath: folder + "/live/state.db" + suffix, toPath: target + "/state.db" + suffix)
                }
                copies.withLock { $0.append((target, known)) }
            }
            options.faults.beforeCommit = { (revision) throws(StoreError) in copy(revision) }
            options.faults.afterCommit = { (revision) throws(StoreError) in copy(revision) }
            let store = try SQLiteStore(folder: folder + "/live", options: options)
            await withTaskGroup(of: Void.self) { tasks in
                for writer in 0..<6 {
                    tasks.addTask {
                        for number in 0..<120 {
                            let key = "/w/\(writer)/\(number % 20)"
                            let put = WriteOperation(
                                key: key, compare: .any, action: .put([UInt8](repeating: 5, count: 900), timeToLiveSeconds: nil))
                            guard let record = try? await store.write(put) else { continue }
                            acknowledged.withLock { $0[key] = record.modRevision }
                        }
                    }
                }
            }
            await store.close()
            let taken = copies.withLock { $0 }
            #expect(taken.count >= 3)
            for copy in taken {
                let opened = try SQLiteStore(folder: copy.folder)
                try await opened.verify()
                let records = try await opened.range(prefix: "").records
                let found = Dictionary(uniqueKeysWithValues: records.map { ($0.key, $0.modRevision) })
                for (key, revision) in copy.acknowledged { #expect(found[key, default: 0] >= revision, "\(key) in \(copy.folder)") }
                let compacted = await opened.statistics().compactedRevision
                let observer = RecordingObserver()
                _ = try await opened.watch(prefix: "", after: max(1, compacted), observer: observer)
                #expect(observer.events.map(\.record.modRevision) == Array((max(1, compacted) + 1)..<(opened.currentRevision + 1)))
                await opened.close()
            }
        }
    }

    @Test("history is compacted by itself and the data survives a reopen")
    func automaticCompaction() async throws {
        try await withFolder { folder in
            var options = SQLiteStoreOptions()
            options.historyRevisions = 100
            options.tickMilliseconds = 10
            let store = try SQLiteStore(folder: folder, options: options)
            for number in 0..<600 {
                let put = WriteOperation(key: "/k/\(number % 3)", compare: .any, action: .put([1], timeToLiveSeconds: nil))
                _ = try await store.write(put)
            }
            try await Task.sleep(for: .milliseconds(200))
            let statistics = await store.statistics()
            #expect(statistics.compactedRevision >= 500)
            #expect(statistics.records == 3)
            #expect(statistics.commitLatency.p99Microseconds > 0)
            _ = try await store.write(.delete("/k/0"))
            try await store.compact(to: store.currentRevision)
            let revision = store.currentRevision
            try await Task.sleep(for: .milliseconds(100))
            await store.close()
            let again = try SQLiteStore(folder: folder)
            #expect(again.currentRevision == revision)
            #expect(try await again.range(prefix: "").records.map(\.key) == ["/k/1", "/k/2"])
            await again.close()
        }
    }

    @Test("writes after close are refused, accepted ones are finished")
    func closing() async throws {
        try await withFolder { folder in
            let store = try SQLiteStore(folder: folder)
            _ = try await store.write(.create("/a", []))
            let observer = RecordingObserver()
            _ = try await store.watch(prefix: "", after: 0, observer: observer)
            await store.close()
            await #expect(throws: StoreError.unavailable("the store is closed")) { _ = try await store.write(.create("/b", [])) }
            #expect(observer.endedWith == .unavailable("the store is closed"))
        }
    }
}

/// A flag that a hook and a test share.
final class Shared: Sendable {
    let flag: Atomic<Bool>
    init(_ flag: consuming Atomic<Bool>) { self.flag = flag }
}

/// A value that hooks and tests share.
final class Box<Value: Sendable>: Sendable {
    private let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
    func withLock<Result: Sendable>(_ body: (inout sending Value) -> sending Result) -> Result { value.withLock(body) }
}
