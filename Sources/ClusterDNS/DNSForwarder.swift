import NIOCore
import NIOPosix
import Synchronization

/// Asks the upstream servers, in order, and remembers their answers for a short time.
final class DNSForwarder: Sendable {
    struct Statistics: Sendable {
        var forwarded = 0
        var failures = 0
        var cacheHits = 0
    }

    private struct Cached {
        var reply: [UInt8]
        var ttlOffsets: [Int]
        var storedSeconds: Double
        var expiresSeconds: Double
    }

    private struct CacheKey: Hashable {
        var name: DNSName
        var type: UInt16
        var classCode: UInt16
        var wantsSecurity: Bool
        var isTCP: Bool
    }

    private struct State {
        var cache: [CacheKey: Cached] = [:]
        var underWay = 0
        var nextID = UInt16.random(in: 0...UInt16.max)
        /// The upstream that answered last is asked first.
        var preferred = 0
        var statistics = Statistics()
    }

    private static let cacheEntriesMax = 4096
    /// CoreDNS's default for its cache.
    private static let cacheSecondsMax = 30.0
    private static let underWayMax = 1000
    private static let answerMilliseconds: Int64 = 2000
    private static let attemptsMax = 3

    private let upstreams: [SocketAddress]
    private let group: any EventLoopGroup
    private let now: @Sendable () -> Double
    private let state = Mutex(State())

    init(upstreams: [SocketAddress], group: any EventLoopGroup, now: @escaping @Sendable () -> Double) {
        self.upstreams = upstreams
        self.group = group
        self.now = now
    }

    var statistics: Statistics { state.withLock { $0.statistics } }

    /// The upstream's answer to a client's query, with the client's id; nil when none could be had.
    func forward(_ query: DNSQuery, isTCP: Bool) async -> [UInt8]? {
        let key = CacheKey(
            name: query.name, type: query.type, classCode: query.classCode, wantsSecurity: query.wantsSecurity, isTCP: isTCP)
        if let hit = cached(key, query) { return hit }
        guard let reply = await exchange(query.bytes, question: query.question, isTCP: isTCP) else { return nil }
        remember(key, reply)
        return Self.addressed(reply, to: query)
    }

    /// The records an upstream has for a name: for names of ours that stand for others.
    func resolve(_ name: DNSName, type: UInt16) async -> (code: UInt8, records: [DNSRecord])? {
        guard case .query(let query) = DNSReader.query(DNSWriter.question(id: 0, name, type: type)),
            let reply = await forward(query, isTCP: false)
        else { return nil }
        var full = reply
        // Cut off: the rest over TCP.
        if reply.count > 2, reply[2] & 0x02 != 0, let longer = await forward(query, isTCP: true) { full = longer }
        guard let parsed = Self.records(full) else { return nil }
        return (full[3] & 15, parsed.filter { $0.section == 0 && $0.record.content.type != DNSType.opt }.map(\.record))
    }

    // MARK: Exchange

    private func exchange(_ bytes: [UInt8], question: ArraySlice<UInt8>, isTCP: Bool) async -> [UInt8]? {
        guard !upstreams.isEmpty, bytes.count >= 12 else { return nil }
        let start: (id: UInt16, preferred: Int)? = state.withLock { state in
            guard state.underWay < Self.underWayMax else {
                state.statistics.failures += 1
                return nil
            }
            state.underWay += 1
            state.statistics.forwarded += 1
            state.nextID = UInt16.random(in: 0...UInt16.max)
            return (state.nextID, state.preferred)
        }
        guard let start else { return nil }
        defer { state.withLock { $0.underWay -= 1 } }
        var message = bytes
        message[0] = UInt8(start.id >> 8)
        message[1] = UInt8(start.id & 255)
        for attempt in 0..<min(Self.attemptsMax, max(2, upstreams.count)) {
            let index = (start.preferred + attempt) % upstreams.count
            let address = upstreams[index]
            let reply = isTCP
                ? await askTCP(message, question: question, address) : await askUDP(message, question: question, address)
            if let reply {
                state.withLock { $0.preferred = index }
                return reply
            }
            if Task.isCancelled { break }
        }
        state.withLock { $0.statistics.failures += 1 }
        return nil
    }

    /// A socket a query: its random port makes forged answers hard (RFC 5452).
    private func askUDP(_ message: [UInt8], question: ArraySlice<UInt8>, _ address: SocketAddress) async -> [UInt8]? {
        let loop = group.next()
        let promise = loop.makePromise(of: [UInt8].self)
        let bootstrap = DatagramBootstrap(group: loop)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65536))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(DatagramReply(message, question, promise))
                }
            }
        return await ask(loop, promise, bootstrap.connect(to: address)) { channel in
            channel.writeAndFlush(AddressedEnvelope(remoteAddress: address, data: ByteBuffer(bytes: message)))
        }
    }

    private func askTCP(_ message: [UInt8], question: ArraySlice<UInt8>, _ address: SocketAddress) async -> [UInt8]? {
        let loop = group.next()
        let promise = loop.makePromise(of: [UInt8].self)
        let bootstrap = ClientBootstrap(group: loop).connectTimeout(.milliseconds(Self.answerMilliseconds)).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(DNSFrameDecoder()))
                try channel.pipeline.syncOperations.addHandler(StreamReply(message, question, promise))
            }
        }
        return await ask(loop, promise, bootstrap.connect(to: address)) { channel in
            channel.writeAndFlush(DNSFrameDecoder.frame(message))
        }
    }

    private func ask(
        _ loop: any EventLoop, _ promise: EventLoopPromise<[UInt8]>, _ connecting: EventLoopFuture<any Channel>,
        _ write: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) async -> [UInt8]? {
        let deadline = loop.scheduleTask(in: .milliseconds(Self.answerMilliseconds)) { promise.fail(ChannelError.connectTimeout(.zero)) }
        connecting.flatMap(write).cascadeFailure(to: promise)
        let reply = try? await promise.futureResult.get()
        deadline.cancel()
        connecting.whenSuccess { $0.close(promise: nil) }
        return reply
    }

    // MARK: Cache

    private func cached(_ key: CacheKey, _ query: DNSQuery) -> [UInt8]? {
        let now = now()
        let hit: Cached? = state.withLock { state in
            guard let hit = state.cache[key], hit.expiresSeconds > now else { return nil }
            state.statistics.cacheHits += 1
            return hit
        }
        guard let hit else { return nil }
        var reply = hit.reply
        let age = UInt32(max(0, now - hit.storedSeconds))
        for offset in hit.ttlOffsets where offset + 4 <= reply.count {
            let old = reply[offset..<(offset + 4)].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let new = old > age ? old - age : 0
            for byte in 0..<4 { reply[offset + byte] = UInt8(new >> UInt32(24 - 8 * byte) & 255) }
        }
        return Self.addressed(reply, to: query)
    }

    private func remember(_ key: CacheKey, _ reply: [UInt8]) {
        // Only plain answers and plain absence; and not what was cut off.
        guard reply.count > 3, reply[2] & 0x02 == 0, [0, 3].contains(reply[3] & 15), let parsed = Self.records(reply) else { return }
        let lifetimes = parsed.filter { $0.section < 2 && $0.record.content.type != DNSType.opt }.map { Double($0.record.ttlSeconds) }
        let seconds = min(Self.cacheSecondsMax, lifetimes.min() ?? 0)
        if seconds <= 0 { return }
        let now = now()
        let offsets = parsed.filter { $0.record.content.type != DNSType.opt }.map(\.ttlOffset)
        state.withLock { state in
            if state.cache.count >= Self.cacheEntriesMax {
                state.cache = state.cache.filter { $0.value.expiresSeconds > now }
                while state.cache.count >= Self.cacheEntriesMax, let any = state.cache.keys.first { state.cache[any] = nil }
            }
            state.cache[key] = Cached(reply: reply, ttlOffsets: offsets, storedSeconds: now, expiresSeconds: now + seconds)
        }
    }

    /// The reply with the client's id, and its question in the client's own spelling.
    private static func addressed(_ reply: [UInt8], to query: DNSQuery) -> [UInt8] {
        var reply = reply
        guard reply.count >= 12 + query.question.count else { return reply }
        reply[0] = UInt8(query.id >> 8)
        reply[1] = UInt8(query.id & 255)
        reply.replaceSubrange(12..<(12 + query.question.count), with: query.question)
        return reply
    }

    /// All records of a reply with one question.
    private static func records(_ reply: [UInt8]) -> [(section: Int, record: DNSRecord, ttlOffset: Int)]? {
        var reader = DNSReader(reply)
        guard reader.long() != nil, reader.word() == 1, let answers = reader.word(), let authorities = reader.word(),
            let additional = reader.word(), reader.name() != nil, reader.long() != nil
        else { return nil }
        var found: [(section: Int, record: DNSRecord, ttlOffset: Int)] = []
        for (section, count) in [answers, authorities, additional].enumerated() {
            for _ in 0..<count {
                guard let (record, _, offset) = reader.record() else { return nil }
                found.append((section, record, offset))
            }
        }
        return found
    }
}

/// Whether bytes answer a question: id, response flag, and the question itself.
private func answers(_ reply: [UInt8], _ message: [UInt8], _ question: ArraySlice<UInt8>) -> Bool {
    guard reply.count >= 12 + question.count, reply[0] == message[0], reply[1] == message[1], reply[2] & 0x80 != 0 else { return false }
    return zip(reply[12...], question).allSatisfy { DNSName.lower($0) == DNSName.lower($1) }
}

private final class DatagramReply: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    private let message: [UInt8]
    private let question: ArraySlice<UInt8>
    private let promise: EventLoopPromise<[UInt8]>

    init(_ message: [UInt8], _ question: ArraySlice<UInt8>, _ promise: EventLoopPromise<[UInt8]>) {
        self.message = message
        self.question = question
        self.promise = promise
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = Array(unwrapInboundIn(data).data.readableBytesView)
        if answers(bytes, message, question) { promise.succeed(bytes) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.fail(error) }
    func channelInactive(context: ChannelHandlerContext) { promise.fail(ChannelError.eof) }
}

private final class StreamReply: ChannelInboundHandler {
    typealias InboundIn = [UInt8]
    private let message: [UInt8]
    private let question: ArraySlice<UInt8>
    private let promise: EventLoopPromise<[UInt8]>

    init(_ message: [UInt8], _ question: ArraySlice<UInt8>, _ promise: EventLoopPromise<[UInt8]>) {
        self.message = message
        self.question = question
        self.promise = promise
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        if answers(bytes, message, question) { promise.succeed(bytes) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.fail(error) }
    func channelInactive(context: ChannelHandlerContext) { promise.fail(ChannelError.eof) }
}

/// Messages on a stream: two bytes of length before each (RFC 1035, 4.2.2).
struct DNSFrameDecoder: ByteToMessageDecoder {
    typealias InboundOut = [UInt8]

    mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        guard let length = buffer.getInteger(at: buffer.readerIndex, as: UInt16.self),
            buffer.readableBytes >= 2 + Int(length), let bytes = buffer.getBytes(at: buffer.readerIndex + 2, length: Int(length))
        else { return .needMoreData }
        buffer.moveReaderIndex(forwardBy: 2 + Int(length))
        context.fireChannelRead(wrapInboundOut(bytes))
        return .continue
    }

    mutating func decodeLast(context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool) throws -> DecodingState {
        try decode(context: context, buffer: &buffer)
    }

    static func frame(_ message: [UInt8]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(UInt16(clamping: message.count))
        buffer.writeBytes(message.prefix(Int(UInt16.max)))
        return buffer
    }
}
