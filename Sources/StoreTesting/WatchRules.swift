package import Store

extension StoreBackendSuite {
    static func watchFromHistory(_ store: any StoreBackend) async throws {
        for number in 0..<30 { _ = try await store.write(.create("/a/\(number)", [])) }
        let observer = RecordingObserver()
        let watch = try await store.watch(prefix: "/a/", after: 10, observer: observer)
        for number in 30..<40 { _ = try await store.write(.create("/a/\(number)", [])) }
        try expect(observer.events.map(\.record.modRevision) == Array(11...41), "revisions \(observer.events.map(\.record.modRevision))")
        try expect(observer.violation == nil, observer.violation ?? "")
        watch.cancel()
        _ = try await store.write(.create("/a/after", []))
        try expect(observer.events.count == 31, "an event after the cancel")
    }

    static func watchBeforeReturn(_ store: any StoreBackend) async throws {
        let observer = RecordingObserver()
        let watch = try await store.watch(prefix: "", after: 0, observer: observer)
        for number in 0..<20 {
            let record = try await store.write(.create("/a/\(number)", []))
            try expect(observer.events.last?.record == record, "write \(number) returned before the watch saw it")
            try expect(observer.upTo == record.modRevision, "upTo \(observer.upTo)")
        }
        watch.cancel()
    }

    static func watchPrefixAndDelete(_ store: any StoreBackend) async throws {
        let observer = RecordingObserver()
        let watch = try await store.watch(prefix: "/a/", after: store.currentRevision, observer: observer)
        let created = try await store.write(.create("/a/1", bytes("1")))
        let other = try await store.write(.create("/ab", bytes("x")))
        try expect(observer.upTo == other.modRevision, "upTo does not follow other prefixes")
        let updated = try await store.write(.update("/a/1", bytes("2"), ifModRevision: created.modRevision))
        let deleted = try await store.write(.delete("/a/1"))
        let wanted = [
            StoreEvent(kind: .put, record: created, previous: nil), StoreEvent(kind: .put, record: updated, previous: created),
            StoreEvent(kind: .delete, record: deleted, previous: updated),
        ]
        try expect(observer.events == wanted, "live events \(observer.events)")
        try expect(deleted.value == bytes("2"), "the delete lost the value")
        let late = RecordingObserver()
        let again = try await store.watch(prefix: "/a/", after: 1, observer: late)
        try expect(late.events == wanted, "history differs from live: \(late.events)")
        watch.cancel()
        again.cancel()
    }

    static func watchUnderLoad(_ store: any StoreBackend) async throws {
        let observers = (0..<6).map { _ in RecordingObserver() }
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            for writer in 0..<8 {
                tasks.addTask {
                    for number in 0..<50 { _ = try await store.write(.create("/w/\(writer)/\(number)", [])) }
                }
            }
            for observer in observers {
                tasks.addTask {
                    await Task.yield()
                    _ = try await store.watch(prefix: "/w/", after: 1, observer: observer)
                }
            }
            try await tasks.waitForAll()
        }
        for observer in observers {
            try expect(observer.violation == nil, observer.violation ?? "")
            try expect(observer.events.map(\.record.modRevision) == Array(2...401), "a watch missed or repeated events")
        }
    }

    static func oneWinner(_ store: any StoreBackend) async throws {
        var last = try await store.write(.create("/a", []))
        for _ in 0..<10 {
            let expected = last.modRevision
            let winners = await withTaskGroup(of: StoreRecord?.self) { tasks in
                for writer in 0..<8 {
                    tasks.addTask { try? await store.write(.update("/a", [UInt8(writer)], ifModRevision: expected)) }
                }
                return await tasks.reduce(into: [StoreRecord]()) { if let record = $1 { $0.append(record) } }
            }
            try expect(winners.count == 1, "\(winners.count) winners")
            last = winners[0]
        }
        try expect(try await store.get(key: "/a") == last, "the winner is not what is stored")
    }

    /// Keys with a time to live go by themselves, with an ordinary delete event. `pass` lets the seconds pass.
    package static func timeToLive(_ store: any StoreBackend, pass: (Int64) async throws -> Void) async throws {
        let observer = RecordingObserver()
        let watch = try await store.watch(prefix: "", after: 0, observer: observer)
        let short = try await store.write(.create("/short", bytes("s"), timeToLiveSeconds: 2))
        try expect(short.expiresAtSeconds != nil, "no expiry in the record")
        _ = try await store.write(.create("/renewed", bytes("r"), timeToLiveSeconds: 2))
        let renewed = try await store.write(
            WriteOperation(key: "/renewed", compare: .any, action: .put(bytes("r2"), timeToLiveSeconds: 1000)))
        _ = try await store.write(.create("/forever", bytes("f")))
        try await pass(3)
        for _ in 0..<100 where observer.events.last?.kind != .delete { try await Task.sleep(for: .milliseconds(20)) }
        try expect(try await store.get(key: "/short") == nil, "the key has outlived its time")
        try expect(try await store.get(key: "/renewed") == renewed, "a renewed key was deleted")
        try expect(observer.events.filter { $0.kind == .delete }.map(\.record.key) == ["/short"], "events \(observer.events)")
        try expect(observer.events.last?.previous?.value == bytes("s"), "the delete event has no last value")
        watch.cancel()
    }

    /// Many tasks write random keys with random compares. Replaying the watch in a model must explain every answer, and the
    /// state at every revision must equal the model's at that point. Prints nothing; the seed is in the violation.
    package static func randomizedHistory(_ store: any StoreBackend, seed: UInt64, operations: Int = 60) async throws {
        let observer = RecordingObserver()
        let watch = try await store.watch(prefix: "", after: 0, observer: observer)
        let start = store.currentRevision
        let answers = await withTaskGroup(of: [StoreRecord].self) { tasks in
            for writer in 0..<6 {
                tasks.addTask {
                    var random = SeededGenerator(seed: seed &+ UInt64(writer) &* 7919)
                    var known: [String: StoreRecord] = [:]
                    var answers: [StoreRecord] = []
                    for _ in 0..<operations {
                        let key = "/k/\(random.next() % 5)"
                        let value = withUnsafeBytes(of: random.next()) { Array($0) }
                        let operation: WriteOperation = switch random.next() % 4 {
                        case 0: .create(key, value)
                        case 1: .delete(key, ifModRevision: known[key]?.modRevision)
                        default: known[key].map { .update(key, value, ifModRevision: $0.modRevision) } ?? .create(key, value)
                        }
                        do throws(StoreError) {
                            let record = try await store.write(operation)
                            answers.append(record)
                            known[key] = record.version > 0 ? record : nil
                        } catch {
                            if case .conflict(let current) = error { known[key] = current }
                        }
                    }
                    return answers
                }
            }
            return await tasks.reduce(into: [StoreRecord]()) { $0 += $1 }
        }
        let events = observer.events
        try expect(observer.violation == nil, "seed \(seed): \(observer.violation ?? "")")
        try expect(events.map(\.record.modRevision) == Array((start + 1)..<(start + 1 + Revision(events.count))), "seed \(seed): gap")
        try expect(
            answers.sorted { $0.modRevision < $1.modRevision } == events.map(\.record), "seed \(seed): answers are not the events")
        var model: [String: StoreRecord] = [:]
        for event in events {
            try expect(model[event.record.key] == event.previous, "seed \(seed): previous of \(event.record.modRevision)")
            model[event.record.key] = event.kind == .put ? event.record : nil
            if event.record.modRevision % 7 == 0 {
                let range = try await store.range(prefix: "", startingAt: nil, limit: 0, atRevision: event.record.modRevision)
                try expect(
                    range.records == model.values.sorted { $0.key < $1.key }, "seed \(seed): state at \(event.record.modRevision)")
            }
        }
        watch.cancel()
    }
}

/// A small generator (SplitMix64) so that a seed replays a test.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }
    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
