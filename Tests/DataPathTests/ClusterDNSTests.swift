import ClusterDNS
import KubeClient
import KubeTypes
import NIOCore
import NIOPosix
import Processes
import Synchronization
import Testing

/// A server on a port of its own, an upstream that answers with what a test says, and `dig`-like questions to it.
private struct DNSBench {
    let cluster = FakeCluster()
    let dns: ClusterDNS
    let factory: InformerFactory
    let upstream: any Channel
    let asked = Asked()
    private let running: Task<Void, Never>

    final class Asked: Sendable {
        let names = Mutex<[String]>([])
    }

    init(_ fill: (FakeCluster) -> Void) async throws {
        let asked = asked
        upstream = try await DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Upstream(asked)) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        fill(cluster)
        factory = InformerFactory(client: KubeClient(transport: cluster))
        dns = try ClusterDNS(
            factory: factory,
            options: .init(address: "127.0.0.1", port: 0, upstreams: ["127.0.0.1:\(upstream.localAddress?.port ?? 0)"]))
        running = Task { [dns] in await dns.run() }
        let ready = try await eventually { [dns] in dns.isReady }
        try #require(ready)
    }

    func stop() async throws {
        running.cancel()
        factory.stop()
        try await upstream.close()
    }

    /// "CODE answer, answer, ...": each as "type content", in the order of the text; with "TC" when cut off.
    func ask(_ name: String, _ type: UInt16 = DNSType.a, tcp: Bool = false, edns: Bool = true) async throws -> String {
        let question = try #require(DNSName(name))
        var bytes = DNSWriter.question(id: 99, question, type: type)
        if !edns {
            bytes.removeLast(11)
            bytes[11] = 0
        }
        let reply = try await exchange(bytes, tcp: tcp)
        try #require(reply.count > 12)
        #expect(reply[0...1] == [0, 99])
        // The question comes back as it was asked.
        let length = bytes.count - 12 - (edns ? 11 : 0)
        #expect(Array(reply[12..<(12 + length)]) == Array(bytes[12..<(12 + length)]))
        return Self.text(reply)
    }

    private static func text(_ reply: [UInt8]) -> String {
        let codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]
        var text = codes[Int(reply[3] & 15)] + (reply[2] & 2 == 0 ? "" : " TC")
        guard let sections = DNSBenchReader.records(reply) else { return "unreadable" }
        let answers = sections[0].sorted()
        if !answers.isEmpty { text += " " + answers.joined(separator: ", ") }
        if !sections[1].isEmpty { text += " | " + sections[1].joined(separator: ", ") }
        let additional = sections[2].filter { !$0.hasPrefix("41 ") }.sorted()
        if !additional.isEmpty { text += " + " + additional.joined(separator: ", ") }
        return text
    }

    private func exchange(_ bytes: [UInt8], tcp: Bool) async throws -> [UInt8] {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let promise = loop.makePromise(of: [UInt8].self)
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: dns.port)
        let channel: any Channel
        if tcp {
            channel = try await ClientBootstrap(group: loop).channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(StreamAnswer(promise)) }
            }.connect(to: address).get()
            var framed = ByteBuffer(integer: UInt16(bytes.count))
            framed.writeBytes(bytes)
            try await channel.writeAndFlush(framed)
        } else {
            channel = try await DatagramBootstrap(group: loop).channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(DatagramAnswer(promise)) }
            }.bind(host: "127.0.0.1", port: 0).get()
            try await channel.writeAndFlush(AddressedEnvelope(remoteAddress: address, data: ByteBuffer(bytes: bytes)))
        }
        let deadline = loop.scheduleTask(in: .seconds(8)) { promise.fail(ChannelError.eof) }
        defer { deadline.cancel() }
        let reply = try await promise.futureResult.get()
        try await channel.close()
        return reply
    }
}

/// Reads answers independently of the code under test, as far as these tests need it.
private enum DNSBenchReader {
    static func records(_ bytes: [UInt8]) -> [[String]]? {
        var at = 12
        func word(_ place: Int) -> Int { Int(bytes[place]) << 8 | Int(bytes[place + 1]) }
        func name(_ place: inout Int) -> String {
            var labels: [String] = [], here = place, jumped = false
            while bytes[here] != 0 {
                if bytes[here] >= 0xC0 {
                    if !jumped { place = here + 2 }
                    jumped = true
                    here = word(here) & 0x3FFF
                } else {
                    labels.append(String(decoding: bytes[(here + 1)...(here + Int(bytes[here]))], as: UTF8.self))
                    here += Int(bytes[here]) + 1
                }
            }
            if !jumped { place = here + 1 }
            return labels.joined(separator: ".")
        }
        let question = name(&at)
        at += 4
        var sections: [[String]] = []
        for section in 0..<3 {
            var found: [String] = []
            for _ in 0..<word(6 + 2 * section) {
                let owner = name(&at)
                let type = word(at), length = word(at + 8)
                var data = at + 10
                let end = data + length
                var text: String
                switch type {
                case 1: text = bytes[data..<end].map(String.init).joined(separator: ".")
                case 2, 5, 12: text = name(&data)
                case 6: text = "SOA"
                case 16: text = String(decoding: bytes[(data + 1)..<end], as: UTF8.self)
                case 33:
                    let port = word(data + 4)
                    data += 6
                    text = "\(port) \(name(&data))"
                default: text = "?"
                }
                if owner != question, section != 1 { text += " of \(owner)" }
                found.append("\(type) \(text)")
                at = end
            }
            sections.append(found)
        }
        return at == bytes.count ? sections : nil
    }
}

private final class DatagramAnswer: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    let promise: EventLoopPromise<[UInt8]>
    init(_ promise: EventLoopPromise<[UInt8]>) { self.promise = promise }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) { promise.succeed(Array(unwrapInboundIn(data).data.readableBytesView)) }
}

private final class StreamAnswer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    let promise: EventLoopPromise<[UInt8]>
    private var bytes: [UInt8] = []
    init(_ promise: EventLoopPromise<[UInt8]>) { self.promise = promise }
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        bytes += Array(unwrapInboundIn(data).readableBytesView)
        if bytes.count >= 2, bytes.count >= 2 + Int(bytes[0]) << 8 + Int(bytes[1]) { promise.succeed(Array(bytes.dropFirst(2))) }
    }
}

/// Asks the same again and again, 32 questions at a time.
private final class Hammer: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>
    private let question: [UInt8]
    private let address: SocketAddress
    private var left: Int
    private let done: EventLoopPromise<Void>

    init(_ question: [UInt8], _ address: SocketAddress, _ count: Int, _ done: EventLoopPromise<Void>) {
        self.question = question
        self.address = address
        left = count
        self.done = done
    }

    private func ask(_ context: ChannelHandlerContext) {
        context.writeAndFlush(wrapOutboundOut(AddressedEnvelope(remoteAddress: address, data: ByteBuffer(bytes: question))), promise: nil)
    }

    func channelActive(context: ChannelHandlerContext) { for _ in 0..<32 { ask(context) } }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        left -= 1
        if left == 0 { done.succeed() }
        if left > 0 { ask(context) }
    }
}

/// Answers `*.example` with 192.0.2.7 for 60 seconds, refuses `no.example`, and is silent for `silent.example`.
private final class Upstream: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>
    private let asked: DNSBench.Asked
    init(_ asked: DNSBench.Asked) { self.asked = asked }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard case .query(let query) = DNSReader.query(Array(envelope.data.readableBytesView)) else { return }
        asked.names.withLock { $0.append(query.name.description) }
        if query.name.key == "silent.example" { return }
        let reply = query.name.key == "no.example"
            ? DNSWriter.answer(query, .nameError, isAuthoritative: false, bytesMax: 1232)
            : DNSWriter.answer(
                query, .noError, answers: [DNSRecord(query.name, ttlSeconds: 60, .a([192, 0, 2, 7]))], isAuthoritative: false, bytesMax: 1232)
        context.writeAndFlush(wrapOutboundOut(AddressedEnvelope(remoteAddress: envelope.remoteAddress, data: ByteBuffer(bytes: reply))), promise: nil)
    }
}

private func withDNS(_ fill: (FakeCluster) -> Void = { _ in }, _ body: (DNSBench) async throws -> Void) async throws {
    let bench = try await DNSBench(fill)
    let result: Result<Void, any Error>
    do { result = .success(try await body(bench)) } catch { result = .failure(error) }
    try await bench.stop()
    try result.get()
}

private let http = TestPort(name: "http"), dnsUDP = TestPort(name: "dns", number: 53, target: 5353, proto: "UDP")
private let negative = "| 6 SOA"

private func fill(_ cluster: FakeCluster) {
    cluster.put(makeService("web", clusterIP: "10.96.0.20", ports: [http, dnsUDP]))
    cluster.put(makeService("db", namespace: "data", clusterIP: "None", ports: [http]))
    cluster.put(makeSlice("db", namespace: "data", ports: [http], [
        TestEndpoint(address: "10.244.1.2", hostname: "db-0"), TestEndpoint(address: "10.244.1.3"),
        TestEndpoint(address: "10.244.1.4", ready: false, hostname: "db-2"),
    ]))
    cluster.put(makeService("early", namespace: "data", clusterIP: "None", ports: [http]) { $0.spec.publishNotReadyAddresses = true })
    cluster.put(makeSlice("early", namespace: "data", ports: [http], [TestEndpoint(address: "10.244.1.9", ready: false, hostname: "e-0")]))
    for (name, target) in [("ext", "Outside.example."), ("near", "web.default.svc.cluster.local"), ("lost", "silent.example")] {
        cluster.put(makeService(name, clusterIP: "", ports: []) {
            $0.spec.type = "ExternalName"
            $0.spec.externalName = target
        })
    }
}

@Suite struct ClusterDNSTests {
    @Test("a service with a cluster IP has an address, ports and a reverse name", arguments: [false, true])
    func clusterIP(tcp: Bool) async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            #expect(try await bench.ask("web.default.svc.cluster.local", tcp: tcp) == "NOERROR 1 10.96.0.20")
            #expect(try await bench.ask("WEB.Default.svc.CLUSTER.local.", tcp: tcp) == "NOERROR 1 10.96.0.20")
            #expect(try await bench.ask("_http._tcp.web.default.svc.cluster.local", DNSType.srv, tcp: tcp)
                == "NOERROR 33 80 web.default.svc.cluster.local + 1 10.96.0.20 of web.default.svc.cluster.local")
            #expect(try await bench.ask("_dns._udp.web.default.svc.cluster.local", DNSType.srv, tcp: tcp)
                == "NOERROR 33 53 web.default.svc.cluster.local + 1 10.96.0.20 of web.default.svc.cluster.local")
            #expect(try await bench.ask("20.0.96.10.in-addr.arpa", DNSType.ptr, tcp: tcp) == "NOERROR 12 web.default.svc.cluster.local")
        }
    }

    @Test("a headless service has its ready endpoints' addresses, a name for each, and their ports")
    func headless() async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            #expect(try await bench.ask("db.data.svc.cluster.local") == "NOERROR 1 10.244.1.2, 1 10.244.1.3")
            #expect(try await bench.ask("db-0.db.data.svc.cluster.local") == "NOERROR 1 10.244.1.2")
            #expect(try await bench.ask("10-244-1-3.db.data.svc.cluster.local") == "NOERROR 1 10.244.1.3")
            #expect(try await bench.ask("db-2.db.data.svc.cluster.local") == "NXDOMAIN \(negative)")
            #expect(try await bench.ask("e-0.early.data.svc.cluster.local") == "NOERROR 1 10.244.1.9")
            #expect(try await bench.ask("_http._tcp.db.data.svc.cluster.local", DNSType.srv)
                == "NOERROR 33 8080 10-244-1-3.db.data.svc.cluster.local, 33 8080 db-0.db.data.svc.cluster.local"
                + " + 1 10.244.1.2 of db-0.db.data.svc.cluster.local, 1 10.244.1.3 of 10-244-1-3.db.data.svc.cluster.local")
            #expect(try await bench.ask("2.1.244.10.in-addr.arpa", DNSType.ptr) == "NOERROR 12 db-0.db.data.svc.cluster.local")
        }
    }

    @Test("names without the type asked for are NODATA, names that are not there NXDOMAIN, both with the SOA")
    func negatives() async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            for (name, type) in [
                ("web.default.svc.cluster.local", DNSType.aaaa), ("web.default.svc.cluster.local", DNSType.txt),
                ("default.svc.cluster.local", DNSType.a), ("svc.cluster.local", DNSType.a), ("cluster.local", DNSType.a),
                ("pod.cluster.local", DNSType.a), ("db-0.db.data.svc.cluster.local", DNSType.aaaa), ("_tcp.web.default.svc.cluster.local", DNSType.a),
                ("20.0.96.10.in-addr.arpa", DNSType.a), ("10-244-1-2.data.pod.cluster.local", DNSType.aaaa),
            ] {
                #expect(try await bench.ask(name, type) == "NOERROR \(negative)", "\(name) \(type)")
            }
            for name in [
                "nobody.default.svc.cluster.local", "web.nowhere.svc.cluster.local", "nowhere.svc.cluster.local", "x.cluster.local",
                "web.default.svc.cluster.local.default.svc.cluster.local", "_ftp._tcp.web.default.svc.cluster.local",
                "a.web.default.svc.cluster.local", "1-2-3.ns.pod.cluster.local", "1-2-3-999.ns.pod.cluster.local",
                "www.google.com.default.svc.cluster.local",
            ] {
                #expect(try await bench.ask(name) == "NXDOMAIN \(negative)", "\(name)")
            }
            #expect(bench.asked.names.withLock { $0 } == [])
        }
    }

    @Test("pods, the version of the specification, and the zone itself")
    func fixed() async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            #expect(try await bench.ask("10-244-1-2.data.pod.cluster.local") == "NOERROR 1 10.244.1.2")
            #expect(try await bench.ask("dns-version.cluster.local", DNSType.txt) == "NOERROR 16 1.1.0")
            #expect(try await bench.ask("cluster.local", DNSType.soa) == "NOERROR 6 SOA")
            #expect(try await bench.ask("cluster.local", DNSType.ns) == "NOERROR 2 ns.dns.cluster.local")
        }
    }

    @Test("an external name is an alias, followed inside the cluster and outside")
    func externalName() async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            #expect(try await bench.ask("ext.default.svc.cluster.local", DNSType.cname) == "NOERROR 5 Outside.example")
            #expect(try await bench.ask("ext.default.svc.cluster.local") == "NOERROR 1 192.0.2.7 of Outside.example, 5 Outside.example")
            #expect(try await bench.ask("near.default.svc.cluster.local")
                == "NOERROR 1 10.96.0.20 of web.default.svc.cluster.local, 5 web.default.svc.cluster.local")
        }
    }

    @Test("other names are forwarded, remembered for a short time, and are SERVFAIL when nobody answers")
    func forwarding() async throws {
        try await withDNS(fill) { (bench: DNSBench) async throws in
            #expect(try await bench.ask("Www.example") == "NOERROR 1 192.0.2.7")
            #expect(try await bench.ask("wWW.Example") == "NOERROR 1 192.0.2.7")
            #expect(try await bench.ask("no.example") == "NXDOMAIN")
            #expect(bench.asked.names.withLock { $0 } == ["Www.example", "no.example"])
            #expect(bench.dns.statistics.cacheHits == 1)
            #expect(try await bench.ask("silent.example") == "SERVFAIL")
            #expect(bench.dns.statistics.forwardFailures == 1)
        }
    }

    @Test("answers follow the objects: services and endpoints that come, change and go")
    func changes() async throws {
        try await withDNS { (bench: DNSBench) async throws in
            #expect(try await bench.ask("web.default.svc.cluster.local") == "NXDOMAIN \(negative)")
            fill(bench.cluster)
            #expect(try await eventually { try await bench.ask("web.default.svc.cluster.local") == "NOERROR 1 10.96.0.20" })
            bench.cluster.put(makeSlice("db", namespace: "data", ports: [http], [TestEndpoint(address: "10.244.1.7", hostname: "db-0")]))
            #expect(try await eventually { try await bench.ask("db-0.db.data.svc.cluster.local") == "NOERROR 1 10.244.1.7" })
            // No longer ours, so the upstream is asked.
            _ = try await bench.ask("2.1.244.10.in-addr.arpa", DNSType.ptr)
            #expect(bench.asked.names.withLock { $0 } == ["2.1.244.10.in-addr.arpa"])
            bench.cluster.delete(EndpointSlice.self, "data/db-a")
            #expect(try await eventually { try await bench.ask("db.data.svc.cluster.local") == "NXDOMAIN \(negative)" })
            bench.cluster.delete(Service.self, "default/web")
            #expect(try await eventually { try await bench.ask("web.default.svc.cluster.local") == "NXDOMAIN \(negative)" })
        }
    }

    @Test("a long answer is cut off over UDP and whole over TCP")
    func truncation() async throws {
        try await withDNS({ cluster in
            cluster.put(makeService("big", clusterIP: "None", ports: [http]))
            cluster.put(makeSlice("big", ports: [http], (1...200).map { TestEndpoint(address: "10.244.3.\($0)") }))
        }) { (bench: DNSBench) async throws in
            func count(_ text: String) -> Int { text.split(separator: ",").count }
            let small = try await bench.ask("big.default.svc.cluster.local", edns: false)
            #expect(small.hasPrefix("NOERROR TC 1 "))
            #expect(count(small) == 29)
            let large = try await bench.ask("big.default.svc.cluster.local")
            #expect(large.hasPrefix("NOERROR TC 1 "))
            let all = try await bench.ask("big.default.svc.cluster.local", tcp: true)
            #expect(!all.contains("TC"))
            #expect(count(all) == 200)
        }
    }

    @Test("ten thousand services: answers are quick whatever their number")
    func scale() async throws {
        try await withDNS({ cluster in
            for index in 0..<10_000 { cluster.put(makeService("s\(index)", clusterIP: "10.97.\(index / 250).\(index % 250)", ports: [http])) }
        }) { (bench: DNSBench) async throws in
            let question = DNSWriter.question(id: 1, try #require(DNSName("s77.default.svc.cluster.local")), type: DNSType.a)
            let address = try SocketAddress(ipAddress: "127.0.0.1", port: bench.dns.port)
            let loop = MultiThreadedEventLoopGroup.singleton.next()
            let done = loop.makePromise(of: Void.self)
            let count = 20_000
            let started = ContinuousClock.now
            let channel = try await DatagramBootstrap(group: loop).channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Hammer(question, address, count, done)) }
            }.bind(host: "127.0.0.1", port: 0).get()
            let deadline = loop.scheduleTask(in: .seconds(30)) { done.fail(ChannelError.eof) }
            try await done.futureResult.get()
            deadline.cancel()
            try await channel.close()
            print("DNS: \(Int(Double(count) / ((ContinuousClock.now - started) / .seconds(1)))) answers a second (debug build, client on the same cores)")
        }
    }

    @Test("name servers of resolv.conf")
    func resolvConf() {
        #expect(ClusterDNS.parseNameservers("# nameserver 1.1.1.1\nsearch a b\nnameserver 10.0.0.2\n  nameserver\t10.0.0.3 # x\nnameserver")
            == ["10.0.0.2", "10.0.0.3"])
    }
}
