import ClusterDNS
import Testing

@Suite struct DNSCodecTests {
    private func query(_ bytes: [UInt8]) throws -> DNSQuery {
        guard case .query(let query) = DNSReader.query(bytes) else { throw Wrong() }
        return query
    }
    private struct Wrong: Error {}

    @Test("names compare without case and keep it; what is no name is none")
    func names() throws {
        let name = try #require(DNSName("Kubernetes.Default.svc."))
        #expect(name == DNSName("kubernetes.default.SVC"))
        #expect(name.description == "Kubernetes.Default.svc")
        #expect(name.key == "kubernetes.default.svc")
        #expect(name.prefix(under: try #require(DNSName("SVC"))) == ["kubernetes", "default"])
        #expect(DNSName("a..b") == nil)
        #expect(DNSName(String(repeating: "a", count: 64)) == nil)
        #expect(DNSName(Array(repeating: String(repeating: "a", count: 60), count: 5).joined(separator: ".")) == nil)
        // A dot inside a label does not make two of it.
        #expect(DNSName(labels: [Array("a.b".utf8)]).key != "a.b")
    }

    @Test("a question is read back; EDNS0 sets the size of answers")
    func questions() throws {
        let bytes = DNSWriter.question(id: 7, try #require(DNSName("a.Example")), type: DNSType.srv)
        let read = try query(bytes)
        #expect(read.id == 7)
        #expect(read.name.description == "a.Example")
        #expect(read.type == DNSType.srv)
        #expect(read.ednsBytesMax == 1232)
        #expect(DNSWriter.bytesMax(read, isTCP: false) == 1232)
        #expect(DNSWriter.bytesMax(read, isTCP: true) == 65535)
        // Without the OPT record, and with one that is smaller than the smallest.
        var plain = Array(bytes.dropLast(11))
        plain[11] = 0
        #expect(DNSWriter.bytesMax(try query(plain), isTCP: false) == 512)
    }

    @Test("names in answers are compressed, and too many records are cut off with the word")
    func answers() throws {
        let name = try #require(DNSName("web.ns.svc.cluster.local"))
        var plain = Array(DNSWriter.question(id: 7, name, type: DNSType.a).dropLast(11))
        plain[11] = 0
        let records = (0..<100).map { DNSRecord(name, ttlSeconds: 5, .a([10, 0, 0, UInt8($0)])) }
        let all = DNSWriter.answer(try query(plain), .noError, answers: records, bytesMax: 65535)
        // Each record: pointer 2, type 2, class 2, TTL 4, length 2, address 4.
        #expect(all.count == plain.count + 100 * 16)
        let cut = DNSWriter.answer(try query(plain), .noError, answers: records, bytesMax: 512)
        #expect(cut.count <= 512)
        #expect(cut[2] & 0x02 != 0)
        #expect(Int(cut[7]) == (512 - plain.count) / 16)
    }

    @Test("answers, empty texts, and other operations are dropped or refused")
    func refusals() throws {
        let bytes = DNSWriter.question(id: 7, try #require(DNSName("a")), type: DNSType.a)
        func outcome(_ bytes: [UInt8]) -> String {
            switch DNSReader.query(bytes) {
            case .query: "query"
            case .refuse(_, _, let code): "\(code)"
            case .drop: "drop"
            }
        }
        func with(_ changes: [Int: UInt8]) -> [UInt8] {
            var copy = bytes
            for (place, value) in changes { copy[place] = value }
            return copy
        }
        #expect(outcome(bytes) == "query")
        #expect(outcome([]) == "drop")
        #expect(outcome([0, 1, 0]) == "drop")
        #expect(outcome(with([2: 0x81])) == "drop")
        #expect(outcome(with([2: 0x28])) == "notImplemented")
        #expect(outcome(with([5: 0])) == "formatError")
        #expect(outcome(with([5: 2])) == "formatError")
        #expect(outcome(Array(bytes.prefix(14))) == "formatError")
        // A name that points at itself, or into the header.
        #expect(outcome(with([12: 0xC0, 13: 12])) == "formatError")
        #expect(outcome(with([12: 0xC0, 13: 2])) == "formatError")
        #expect(outcome(with([11: 9])) == "formatError")
    }

    @Test("random and damaged bytes never crash the codec or the zone", arguments: [1, 20_26] as [UInt64])
    func random(seed: UInt64) throws {
        var state = seed
        func next() -> UInt64 {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return state
        }
        let zone = DNSZone(domain: try #require(DNSName("cluster.local")), address: [10, 96, 0, 10])
        let index = DNSIndex()
        let sample = DNSWriter.question(id: 7, try #require(DNSName("_http._tcp.web.default.svc.cluster.local")), type: DNSType.srv)
        for round in 0..<50_000 {
            var bytes: [UInt8]
            if round % 2 == 0 {
                bytes = (0..<Int(next() % 80)).map { _ in UInt8(truncatingIfNeeded: next()) }
                if bytes.count > 6 { (bytes[2], bytes[4], bytes[5]) = (0, 0, 1) }
            } else {
                bytes = sample
                for _ in 0..<(1 + next() % 4) { bytes[Int(next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: next()) }
                bytes = Array(bytes.prefix(Int(next() % UInt64(bytes.count + 20))))
            }
            guard case .query(let query) = DNSReader.query(bytes) else { continue }
            _ = zone.meaning(of: query.name, type: query.type, in: index)
            let answer = DNSWriter.answer(
                query, .noError, answers: [DNSRecord(query.name, ttlSeconds: 5, .a([1, 2, 3, 4])), zone.authority],
                bytesMax: DNSWriter.bytesMax(query, isTCP: false))
            #expect(answer.count <= 1232)
        }
    }
}
