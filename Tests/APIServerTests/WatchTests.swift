import APIServer
import JSON
import StoreSQLite
import KubeAPI
import Store
import Testing

@Suite("Watchers") struct WatchTests {
    private static let maps = "/api/v1/namespaces/default/configmaps"

    private func make(_ server: TestServer, _ name: String, _ labels: JSON = [:]) async -> Answer {
        await server.post(Self.maps, ["metadata": ["name": .string(name), "labels": labels], "data": ["n": "0"]])
    }

    @Test("should observe add, update, and delete watch notifications on configmaps")
    func notifications() async throws {
        try await withServer { server in
            let start = await server.get(Self.maps).version
            let watch = try await server.watch("\(Self.maps)?watch=true&resourceVersion=\(start)")
            _ = await make(server, "a")
            await server.merge("\(Self.maps)/a", ["data": ["n": "1"]])
            await server.delete("\(Self.maps)/a")
            let events = await watch.waitFor(3)
            #expect(events.map(\.text) == ["ADDED a", "MODIFIED a", "DELETED a"])
            #expect(events.map(\.version) == events.map(\.version).sorted())
            #expect(events.last?.object["data"]?["n"]?.string == "1")
            await watch.stop()
        }
    }

    @Test("should be able to start watching from a specific resource version")
    func fromVersion() async throws {
        try await withServer { server in
            let first = await make(server, "a")
            await server.merge("\(Self.maps)/a", ["data": ["n": "1"]])
            await server.delete("\(Self.maps)/a")
            let watch = try await server.watch("\(Self.maps)?watch=true&resourceVersion=\(first.version)")
            #expect(await watch.waitFor(2).map(\.text) == ["MODIFIED a", "DELETED a"])
            await watch.stop()
        }
    }

    @Test("should observe an object deletion if it stops meeting the requirements of the selector")
    func selectorTransitions() async throws {
        try await withServer { server in
            let start = await server.get(Self.maps).version
            let watch = try await server.watch("\(Self.maps)?watch=true&resourceVersion=\(start)&labelSelector=in%3Dyes")
            _ = await make(server, "other", ["in": "no"])
            _ = await make(server, "a", ["in": "yes"])
            await server.merge("\(Self.maps)/a", ["metadata": ["labels": ["in": "no"]]])
            await server.merge("\(Self.maps)/a", ["data": ["n": "5"]])
            await server.merge("\(Self.maps)/a", ["metadata": ["labels": ["in": "yes"]]])
            await server.delete("\(Self.maps)/a")
            let events = await watch.waitFor(4)
            #expect(events.map(\.text) == ["ADDED a", "DELETED a", "ADDED a", "DELETED a"])
            await watch.stop()
        }
    }

    @Test("a field selector on the name follows one object")
    func fieldSelector() async throws {
        try await withServer { server in
            let watch = try await server.watch("\(Self.maps)?watch=true&fieldSelector=metadata.name%3Db")
            _ = await make(server, "a")
            _ = await make(server, "b")
            #expect(await watch.waitFor(1).map(\.text) == ["ADDED b"])
            await watch.stop()
        }
    }

    @Test("a streaming list sends the state, then a bookmark that says so, then changes")
    func sendInitialEvents() async throws {
        try await withServer { server in
            for name in ["a", "b"] { _ = await make(server, name) }
            let watch = try await server.watch(
                "\(Self.maps)?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
            let initial = await watch.waitFor(3)
            #expect(initial.map(\.type) == ["ADDED", "ADDED", "BOOKMARK"])
            let bookmark = try #require(initial.last)
            #expect(bookmark.object["metadata"]?["annotations"]?["k8s.io/initial-events-end"]?.string == "true")
            #expect(bookmark.version >= initial.map(\.version).max() ?? 0)
            _ = await make(server, "c")
            #expect(await watch.waitFor(4).last?.text == "ADDED c")
            await watch.stop()
        }
    }

    @Test("a version that is older than the remembered history is answered 410")
    func tooOld() async throws {
        try await withServer { server in
            _ = await make(server, "a")
            for start in stride(from: 0, to: 4200, by: 100) {
                _ = try await server.store.writeAll(
                    (start..<(start + 100)).map { n in
                        .create(
                            "/registry/core/configmaps/default/m\(n)",
                            Array("{\"metadata\":{\"name\":\"m\(n)\",\"namespace\":\"default\"}}".utf8))
                    })
            }
            let answer = await server.get("\(Self.maps)?watch=true&resourceVersion=2&timeoutSeconds=1")
            #expect(answer.text.hasPrefix("{\"type\":\"ERROR\""))
            let status = try JSON.parse(answer.text.split(separator: "\n").first.map(String.init) ?? "")["object"]
            #expect(status?["code"]?.int == 410)
            #expect(status?["reason"]?.string == "Expired")
        }
    }

    @Test("should receive events on concurrent watches in same order, without a gap, from a list made while others write")
    func noGap() async throws {
        try await withServer { server in
            let rounds = 6
            let writers = 4
            let each = 25
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<writers {
                    group.addTask {
                        for n in 0..<each { _ = await self.make(server, "w\(writer)-\(n)") }
                    }
                }
                for _ in 0..<rounds {
                    group.addTask {
                        let list = await server.get(Self.maps)
                        let watch = try await server.watch("\(Self.maps)?watch=true&resourceVersion=\(list.version)")
                        let wanted = writers * each
                        let known = Set(list.itemNames).filter { $0.hasPrefix("w") }
                        let events = await watch.waitFor(wanted - known.count)
                        await watch.stop()
                        let versions = events.map(\.version)
                        #expect(versions == versions.sorted() && Set(versions).count == versions.count)
                        // Every object is either in the list or in the watch after it.
                        #expect(known.union(events.map(\.name)).count == wanted)
                        #expect(known.isDisjoint(with: events.map(\.name)))
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a streaming list of more objects than a slow reader may leave is no slow reader")
    func largeInitialState() async throws {
        try await withServer { server in
            let total = 17_000
            for start in stride(from: 0, to: total, by: 100) {
                _ = try await server.store.writeAll(
                    (start..<(start + 100)).map { n in
                        .create(
                            "/registry/core/configmaps/default/m\(n)",
                            Array("{\"metadata\":{\"name\":\"m\(n)\",\"namespace\":\"default\"}}".utf8))
                    })
            }
            let resource = try #require(Schema.builtIn.resource(group: "", version: "v1", plural: "configmaps"))
            let cache = try #require(server.server.hub.cache(resource.identity))
            let filter = WatchFilter.everything(resource)
            let subscription = try #require(cache.subscribe(after: nil, filter: filter, current: { server.server.hub.revision }))
            _ = await make(server, "late")
            guard case .events(let initial) = await subscription.next() else {
                Issue.record("the watch was closed")
                return
            }
            #expect(initial.count >= total)
            guard case .initialEventsEnd = await subscription.next() else {
                Issue.record("no end of the initial state")
                return
            }
            #expect(subscription.bookmark(applied: server.server.hub.revision) == nil, "a change waits: no bookmark may run ahead of it")
            guard case .events(let later) = await subscription.next() else {
                Issue.record("the change is missing")
                return
            }
            #expect(later.map(\.object.name) == ["late"])
            #expect(subscription.bookmark(applied: server.server.hub.revision) == server.server.hub.revision)
            subscription.close()
        }
    }
}
