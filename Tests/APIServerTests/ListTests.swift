import JSON
import StoreSQLite
import Testing

@Suite("Servers with support for API chunking") struct ListTests {
    private static let maps = "/api/v1/namespaces/default/configmaps"

    private func fill(_ server: TestServer, _ count: Int) async {
        for n in 0..<count { await server.post(Self.maps, ["metadata": ["name": .string("m\(n < 10 ? "0" : "")\(n)")]]) }
    }

    private func chunk(_ server: TestServer, _ limit: Int, _ token: String = "") async -> Answer {
        await server.get("\(Self.maps)?limit=\(limit)" + (token.isEmpty ? "" : "&continue=\(token)"))
    }

    @Test("should return chunks of results for list calls")
    func chunks() async throws {
        try await withServer { server in
            await fill(server, 10)
            var names: [String] = []
            var token = ""
            var versions: Set<String> = []
            repeat {
                let page = await chunk(server, 3, token)
                #expect(page.status == 200)
                #expect(page.items.count <= 3)
                names += page.itemNames
                versions.insert(page.version)
                token = page.body["metadata"]?["continue"]?.string ?? ""
                let remaining = page.body["metadata"]?["remainingItemCount"]?.int
                #expect(remaining == (token.isEmpty ? nil : Int64(10 - names.count)))
            } while !token.isEmpty
            #expect(names == names.sorted() && names.count == 10)
            #expect(versions.count == 1, "all pages show one version")
        }
    }

    @Test("a list that continues shows the version it began with, while others write")
    func consistentSnapshot() async throws {
        try await withServer { server in
            await fill(server, 6)
            let first = await chunk(server, 2)
            let token = first.body["metadata"]?["continue"]?.string ?? ""
            await server.delete("\(Self.maps)/m04")
            await server.post(Self.maps, ["metadata": ["name": "m99"]])
            let rest = await chunk(server, 0, token)
            #expect(first.itemNames + rest.itemNames == ["m00", "m01", "m02", "m03", "m04", "m05"])
            #expect(rest.version == first.version)
        }
    }

    @Test("should continue listing from the last key if the original version has been compacted away, though the list is inconsistent")
    func compacted() async throws {
        try await withServer { server in
            await fill(server, 6)
            let first = await chunk(server, 2)
            let token = first.body["metadata"]?["continue"]?.string ?? ""
            await server.post(Self.maps, ["metadata": ["name": "m99"]])
            try await server.store.compact(to: server.store.currentRevision)
            let expired = await chunk(server, 2, token)
            #expect(expired.status == 410)
            #expect(expired.reason == "Expired")
            let inconsistent = expired.body["metadata"]?["continue"]?.string ?? ""
            try #require(!inconsistent.isEmpty, "a 410 carries the token for the rest")
            let rest = await chunk(server, 0, inconsistent)
            #expect(rest.itemNames == ["m02", "m03", "m04", "m05", "m99"])
        }
    }

    @Test("a garbled continue token is a bad request")
    func garbled() async throws {
        try await withServer { server in
            for token in ["abc", "e30", "_", "eyJydiI6MX0"] {
                let answer = await chunk(server, 2, token)
                #expect(answer.status == 400, "\(token): \(answer.text)")
            }
        }
    }

    @Test("resourceVersion rules: exact, not older than, too large, invalid")
    func versions() async throws {
        try await withServer { server in
            await fill(server, 1)
            let before = await server.get(Self.maps).version
            await fill(server, 3)
            let exact = await server.get("\(Self.maps)?resourceVersion=\(before)&resourceVersionMatch=Exact")
            #expect(exact.itemNames == ["m00"])
            #expect(exact.version == before)
            #expect(await server.get("\(Self.maps)?resourceVersion=\(before)&resourceVersionMatch=NotOlderThan").itemNames.count == 3)
            #expect(await server.get("\(Self.maps)?resourceVersion=0").itemNames.count == 3)
            let future = await server.get("\(Self.maps)?resourceVersion=1000000")
            #expect(future.status == 504)
            #expect(future.message.hasPrefix("Too large resource version: 1000000, current:"))
            #expect(await server.get("\(Self.maps)?resourceVersion=x").status == 400)
            #expect(await server.get("\(Self.maps)?resourceVersionMatch=Exact").status == 422)
            #expect(await server.get("\(Self.maps)?resourceVersion=0&resourceVersionMatch=Exact").status == 422)
            #expect(await server.get("\(Self.maps)?limit=x").status == 400)
        }
    }

    @Test("label and field selectors choose; an unknown field and a bad selector are refused")
    func selectors() async throws {
        try await withServer { server in
            await server.post(Self.maps, ["metadata": ["name": "a", "labels": ["app": "x"]]])
            await server.post(Self.maps, ["metadata": ["name": "b", "labels": ["app": "y"]]])
            #expect(await server.get("\(Self.maps)?labelSelector=app%20in%20(x)").itemNames == ["a"])
            #expect(await server.get("\(Self.maps)?labelSelector=app!%3Dx").itemNames == ["b"])
            #expect(await server.get("\(Self.maps)?fieldSelector=metadata.name%3Db").itemNames == ["b"])
            #expect(await server.get("\(Self.maps)?fieldSelector=spec.x%3Db").status == 400)
            let bad = await server.get("\(Self.maps)?labelSelector=%3D%3D")
            #expect(bad.status == 400)
            #expect(bad.message.hasPrefix("unable to parse requirement: "))
        }
    }
}
