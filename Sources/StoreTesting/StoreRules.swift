import Store

extension StoreBackendSuite {
    static func emptyStore(_ store: any StoreBackend) async throws {
        try expect(store.currentRevision == 1, "revision \(store.currentRevision)")
        let range = try await store.range(prefix: "")
        try expect(range.records.isEmpty && range.revision == 1 && !range.more, "not empty: \(range)")
        try expect(try await store.get(key: "/a") == nil, "a record out of nothing")
    }

    static func createNeedsAbsentKey(_ store: any StoreBackend) async throws {
        let first = try await store.write(.create("/a", bytes("1")))
        try await expectError("second create", { $0 == .conflict(current: first) }) { () throws(StoreError) in
            _ = try await store.write(.create("/a", self.bytes("2")))
        }
        _ = try await store.write(.delete("/a"))
        let again = try await store.write(.create("/a", bytes("3")))
        try expect(again.version == 1 && again.createRevision == again.modRevision, "recreated as \(again)")
    }

    static func compareAndSwap(_ store: any StoreBackend) async throws {
        let first = try await store.write(.create("/a", bytes("1")))
        let second = try await store.write(.update("/a", bytes("2"), ifModRevision: first.modRevision))
        try expect(second.version == 2 && second.createRevision == first.createRevision, "updated to \(second)")
        try await expectError("stale update", { $0 == .conflict(current: second) }) { () throws(StoreError) in
            _ = try await store.write(.update("/a", self.bytes("3"), ifModRevision: first.modRevision))
        }
        try await expectError("stale delete", isConflict) { () throws(StoreError) in
            _ = try await store.write(.delete("/a", ifModRevision: first.modRevision))
        }
        try expect(try await store.get(key: "/a") == second, "a failed compare changed the key")
        let deleted = try await store.write(.delete("/a", ifModRevision: second.modRevision))
        try expect(deleted.value == bytes("2") && deleted.modRevision > second.modRevision, "deleted \(deleted)")
        try expect(try await store.get(key: "/a") == nil, "still there")
    }

    static func deleteOfAbsentKey(_ store: any StoreBackend) async throws {
        try await expectError("delete", { $0 == .conflict(current: nil) }) { () throws(StoreError) in
            _ = try await store.write(.delete("/none"))
        }
        try await expectError("update", { $0 == .conflict(current: nil) }) { () throws(StoreError) in
            _ = try await store.write(.update("/none", [], ifModRevision: 5))
        }
        try expect(store.currentRevision == 1, "a failed write took a revision")
    }

    static func revisionsGrow(_ store: any StoreBackend) async throws {
        for number in 1...20 {
            let record = try await store.write(WriteOperation(key: "/a", compare: .any, action: .put([], timeToLiveSeconds: nil)))
            try expect(record.modRevision == Revision(number) + 1 && record.version == Int64(number), "write \(number) is \(record)")
            try expect(store.currentRevision == record.modRevision, "current revision \(store.currentRevision)")
        }
    }

    static func transactions(_ store: any StoreBackend) async throws {
        let records = try await store.writeAll([.create("/a", bytes("1")), .create("/b", bytes("1"))])
        try expect(Set(records.map(\.modRevision)) == [2], "revisions \(records.map(\.modRevision))")
        try await expectError("one bad compare", isConflict) { () throws(StoreError) in
            _ = try await store.writeAll([.create("/c", []), .create("/a", [])])
        }
        try expect(try await store.get(key: "/c") == nil, "half a transaction")
        try expect(store.currentRevision == 2, "a failed transaction took a revision")
        try await expectError("the same key twice", { if case .invalid = $0 { true } else { false } }) { () throws(StoreError) in
            _ = try await store.writeAll([.create("/d", []), .create("/d", [])])
        }
    }

    static func rangePages(_ store: any StoreBackend) async throws {
        for number in 0..<10 { _ = try await store.write(.create("/p/\(number)", bytes("\(number)"))) }
        _ = try await store.write(.create("/q/0", []))
        let first = try await store.range(prefix: "/p/", startingAt: nil, limit: 4, atRevision: nil)
        try expect(first.records.map(\.key) == (0..<4).map { "/p/\($0)" }, "page \(first.records.map(\.key))")
        try expect(first.more && (first.remaining ?? 6) == 6, "more \(first.more), remaining \(String(describing: first.remaining))")
        _ = try await store.write(.delete("/p/5"))
        _ = try await store.write(.create("/p/55", []))
        let rest = try await store.range(prefix: "/p/", startingAt: "/p/3\0", limit: 0, atRevision: first.revision)
        try expect(rest.records.map(\.key) == (4..<10).map { "/p/\($0)" }, "rest \(rest.records.map(\.key))")
        try expect(!rest.more && rest.revision == first.revision, "rest at \(rest.revision)")
        try expect(try await store.count(prefix: "/p/") == 10, "count")
    }

    static func readsInThePast(_ store: any StoreBackend) async throws {
        let first = try await store.write(.create("/a", bytes("1")))
        let second = try await store.write(.update("/a", bytes("2"), ifModRevision: first.modRevision))
        let deleted = try await store.write(.delete("/a"))
        try expect(try await store.get(key: "/a", atRevision: first.modRevision) == first, "first")
        try expect(try await store.get(key: "/a", atRevision: second.modRevision) == second, "second")
        try expect(try await store.get(key: "/a", atRevision: deleted.modRevision) == nil, "deleted")
        try expect(try await store.get(key: "/a", atRevision: first.modRevision - 1) == nil, "before")
    }

    static func futureRevision(_ store: any StoreBackend) async throws {
        try await expectError("read", { $0 == .futureRevision(current: 1) }) { () throws(StoreError) in
            _ = try await store.get(key: "/a", atRevision: 99)
        }
        try await expectError("watch", { $0 == .futureRevision(current: 1) }) { () throws(StoreError) in
            _ = try await store.watch(prefix: "", after: 99, observer: RecordingObserver())
        }
    }

    static func compaction(_ store: any StoreBackend) async throws {
        for number in 0..<50 {
            _ = try await store.write(WriteOperation(key: "/a", compare: .any, action: .put(bytes("\(number)"), timeToLiveSeconds: nil)))
        }
        _ = try await store.write(.create("/gone", []))
        _ = try await store.write(.delete("/gone"))
        let revision = store.currentRevision
        let observer = RecordingObserver()
        let before = try await store.get(key: "/a")
        try await store.compact(to: revision)
        try await expectError("read", isCompacted) { () throws(StoreError) in
            _ = try await store.range(prefix: "", startingAt: nil, limit: 0, atRevision: revision - 1)
        }
        try await expectError("watch", isCompacted) { () throws(StoreError) in
            _ = try await store.watch(prefix: "", after: revision - 1, observer: observer)
        }
        try expect(try await store.get(key: "/a") == before, "the present changed")
        try expect(try await store.get(key: "/a", atRevision: revision) == before, "the compacted revision itself is readable")
        let watch = try await store.watch(prefix: "", after: revision, observer: observer)
        _ = try await store.write(.delete("/a"))
        try expect(observer.events.map(\.record.modRevision) == [revision + 1], "events \(observer.events)")
        watch.cancel()
    }

    static func values(_ store: any StoreBackend) async throws {
        for size in [0, 1, 4095, 4096, 70_000, 1_400_000] {
            let value = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            _ = try await store.write(.create("/v/\(size)", value))
            try expect(try await store.get(key: "/v/\(size)")?.value == value, "value of \(size) bytes")
        }
    }
}
