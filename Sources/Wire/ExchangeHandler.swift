import NIOCore
import NIOHTTP1
import Synchronization

/// Turns request parts into complete requests, one at a time and in order, and writes the answers.
///
/// One instance a connection for HTTP/1.1 (it writes bytes itself: one buffer, one flush for a small answer), one a stream
/// for HTTP/2 (it writes response parts to the stream's codec).
final class ExchangeHandler: ChannelDuplexHandler, RemovableChannelHandler, @unchecked Sendable {
    // @unchecked: all state is touched on the channel's event loop only.
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundIn = ByteBuffer

    enum Version { case http1, http2 }

    private enum Phase {
        /// Between requests.
        case idle
        case readingBody
        /// A request is with the handler, or its answer is being written.
        case answering
        /// The last answer is out; whatever still arrives is dropped until the close.
        case draining
        case upgraded
        case closed
    }

    /// Parsed parts of pipelined requests kept before reading stops.
    private static let pendingPartsMax = 32
    /// How long bytes of a refused request are dropped before the close, so that the client can read the answer first.
    private static let drainTimeout = TimeAmount.milliseconds(500)
    /// Bodies up to this size are copied behind the head: one write, one TLS record.
    static let joinedBodyBytesMax = 16 * 1024
    static let gzipInlineBytesMax = 64 * 1024

    let version: Version
    let configuration: WireConfiguration
    let handler: any WireHandler
    let loop: LoopContext
    let peer: WirePeer

    var context: ChannelHandlerContext?
    private var phase = Phase.idle
    private var head: HTTPRequestHead?
    private var body = ByteBuffer()
    private var pending = CircularBuffer<HTTPServerRequestPart>()
    private var readHeld = false
    private var keepAlive = true
    private var inputClosed = false
    private var quiescing = false
    private var refused = false
    private var resuming = false
    private var sawPart = false
    private var headPending = true
    private var deadline: NIODeadline
    private var timer: Scheduled<Void>?
    private var task: Task<Void, Never>?
    private var streaming = false
    private var gate = WriteGate()
    private var closeWaiters: [EventLoopPromise<Void>] = []
    private let open = Atomic<Bool>(true)

    init(version: Version, configuration: WireConfiguration, handler: any WireHandler, loop: LoopContext, peer: WirePeer) {
        self.version = version
        self.configuration = configuration
        self.handler = handler
        self.loop = loop
        self.peer = peer
        self.deadline = .now() + .seconds(Int64(configuration.headerReadTimeoutSeconds))
    }

    var isOpen: Bool { open.load(ordering: .relaxed) }

    // MARK: - Reading

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        if version == .http1 { startTimer() }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        ended()
        self.context = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch phase {
        case .upgraded: context.fireChannelRead(data)
        case .draining, .closed: break
        case .answering: pending.append(unwrapInboundIn(data))
        case .idle, .readingBody: take(unwrapInboundIn(data))
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if version == .http1, phase == .idle, !sawPart, !headPending {
            // Bytes came but no head yet: from now on the header timeout runs, not the idle one.
            headPending = true
            deadline = .now() + .seconds(Int64(configuration.headerReadTimeoutSeconds))
        }
        if version == .http2, phase == .readingBody, timer == nil { startTimer() }
        sawPart = false
        context.fireChannelReadComplete()
    }

    func read(context: ChannelHandlerContext) {
        if pending.count >= Self.pendingPartsMax || (phase == .answering && holdsInput) { readHeld = true } else { context.read() }
    }

    /// An upgrade is being decided: what follows belongs to the new protocol and must stay in the socket.
    private var holdsInput = false

    private func take(_ part: HTTPServerRequestPart) {
        sawPart = true
        switch part {
        case .head(let head): begin(head)
        case .body(var bytes):
            guard phase == .readingBody else { return }
            if body.readableBytes + bytes.readableBytes > configuration.bodyBytesMax {
                refuse(configuration.tooLargeResponse(configuration.bodyBytesMax))
            } else if body.readableBytes == 0 {
                body = bytes
            } else {
                body.writeBuffer(&bytes)
            }
        case .end:
            if phase == .readingBody { dispatch() }
        }
    }

    private func begin(_ head: HTTPRequestHead) {
        self.head = head
        headPending = false
        phase = .readingBody
        body = ByteBuffer()
        keepAlive = version == .http2 || head.isKeepAlive
        deadline = .now() + .seconds(Int64(configuration.bodyReadTimeoutSeconds))
        if let text = head.headers.first(name: "content-length"), let length = Int(text), length > configuration.bodyBytesMax {
            return refuse(configuration.tooLargeResponse(configuration.bodyBytesMax))
        }
        if let encoding = head.headers.first(name: "content-encoding"), encoding.lowercased() != "identity", encoding != "" {
            return refuse(.text(.unsupportedMediaType, "the request body's Content-Encoding \(encoding) is not supported\n"))
        }
        if let expectation = head.headers.first(name: "expect") {
            guard expectation.lowercased() == "100-continue" else { return refuse(.text(.expectationFailed, "")) }
            writeContinue()
        }
    }

    /// Answers before the request is complete; the connection cannot be used after it.
    private func refuse(_ response: WireResponse) {
        keepAlive = false
        refused = true
        phase = .answering
        body = ByteBuffer()
        let method = head?.method ?? .GET
        loopTask { await self.answer(response, method: method, acceptsChunks: true) }
    }

    private func dispatch() {
        guard let head else { return }
        self.head = nil
        phase = .answering
        let request = WireRequest(method: head.method, uri: head.uri, headers: head.headers, body: body, peer: peer,
                                  eventLoop: loop.eventLoop, httpMajorVersion: version == .http1 ? 1 : 2)
        body = ByteBuffer()
        // After an upgrade request the decoder parses no further, so without an upgrade the connection ends here.
        holdsInput = version == .http1 && (head.method == .CONNECT || Self.asksForUpgrade(head.headers))
        if holdsInput { keepAlive = false }
        let method = head.method
        let acceptsChunks = version == .http2 || head.version != .http1_0
        loopTask { await self.answer(await self.handler.handle(request), method: method, acceptsChunks: acceptsChunks) }
    }

    private static func asksForUpgrade(_ headers: HTTPHeaders) -> Bool {
        headers.contains(name: "upgrade") && headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
    }

    /// Starts at once on this thread and resumes on it.
    private func loopTask(_ body: @escaping @Sendable () async -> Void) {
        let task = Task.immediate(executorPreference: loop) { await body() }
        // The answer may already be complete, and the next pipelined request begun by it.
        if phase == .answering && self.task == nil { self.task = task }
    }

    // MARK: - After an answer

    func finished() {
        task = nil
        streaming = false
        holdsInput = false
        guard phase == .answering else { return }
        for waiter in closeWaiters { waiter.succeed() }
        closeWaiters = []
        if version == .http2 {
            phase = .draining
            // A refused request may still be sending: the stream is reset when it does not end by itself.
            if refused { _ = context?.eventLoop.scheduleTask(in: Self.drainTimeout) { self.context?.close(promise: nil) } }
            return
        }
        guard keepAlive, !quiescing else { return drainAndClose() }
        if inputClosed && pending.isEmpty { context?.close(promise: nil); return }
        phase = .idle
        deadline = .now() + .seconds(Int64(configuration.idleTimeoutSeconds))
        // Answers given at once come back here from inside `take`: the loop goes on instead of recursing once a request.
        guard !resuming else { return }
        resuming = true
        while phase == .idle || phase == .readingBody, let part = pending.popFirst() { take(part) }
        resuming = false
        if readHeld && pending.count < Self.pendingPartsMax { readHeld = false; context?.read() }
    }

    /// Cuts the answer off so that the client sees that it is incomplete.
    func cutOff() {
        task = nil
        phase = .draining
        context?.close(promise: nil)
    }

    private func drainAndClose() {
        phase = .draining
        pending.removeAll()
        guard let context, !inputClosed else { self.context?.close(promise: nil); return }
        readHeld = false
        context.close(mode: .output, promise: nil)
        context.read()
        _ = context.eventLoop.scheduleTask(in: Self.drainTimeout) { self.context?.close(promise: nil) }
    }

    // MARK: - Upgrade

    /// Hands the connection's bytes to a `RawConnection` behind this handler, which passes everything on from now on.
    func upgrade() async throws -> RawConnection {
        guard let context, phase == .answering else { throw WireError.closed }
        let raw = RawConnection(eventLoop: context.eventLoop, stalledReaderTimeoutSeconds: configuration.stalledReaderTimeoutSeconds)
        try context.pipeline.syncOperations.addHandler(raw, position: .last)
        phase = .upgraded
        timer?.cancel()
        timer = nil
        let decoder = try context.pipeline.syncOperations.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self)
        context.pipeline.syncOperations.removeHandler(decoder, promise: nil)
        if inputClosed { context.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }
        readHeld = false
        context.read()
        return raw
    }

    // MARK: - Writing helpers used by the encoder

    var closesAfterAnswer: Bool { !keepAlive || quiescing }
    func closeAfterAnswer() { keepAlive = false }
    func beginStreaming() { streaming = true }
    var isQuiescing: Bool { quiescing }

    func waitUntilWritable() async throws {
        if let future = writability() { try await future.get() }
    }

    /// Nil when more can be written now. On the loop.
    func writability() -> EventLoopFuture<Void>? {
        guard let context, isOpen else { return loop.eventLoop.makeFailedFuture(WireError.closed) }
        if context.channel.isWritable { return nil }
        return gate.wait(channel: context.channel, timeout: .seconds(Int64(configuration.stalledReaderTimeoutSeconds))) {
            self.context?.close(promise: nil)
        }
    }

    func waitForClose() -> EventLoopFuture<Void> {
        guard isOpen, streaming else { return loop.eventLoop.makeSucceededVoidFuture() }
        let promise = loop.eventLoop.makePromise(of: Void.self)
        closeWaiters.append(promise)
        return promise.futureResult
    }

    // MARK: - Events

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { gate.open() }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent {
            inputClosed = true
            switch phase {
            case .idle, .readingBody, .draining: if version == .http1 { context.close(promise: nil) }
            case .answering:
                // As upstream: a client that has hung up its side ends a watch; a plain answer is still delivered.
                if version == .http1, streaming { task?.cancel() }
            case .upgraded, .closed: break
            }
        } else if event is ChannelShouldQuiesceEvent {
            quiescing = true
            if streaming { task?.cancel() }
            if version == .http1, phase == .idle { context.close(promise: nil) }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard phase != .upgraded else { return context.fireErrorCaught(error) }
        guard let parserError = error as? HTTPParserError, version == .http1 else { context.close(promise: nil); return }
        switch phase {
        case .idle, .readingBody:
            let tooLarge = if case .headerOverflow = parserError { true } else { false }
            let line = tooLarge ? "431 Request Header Fields Too Large" : "400 Bad Request"
            context.writeAndFlush(NIOAny(ByteBuffer(string:
                "HTTP/1.1 \(line)\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\(line)")), promise: nil)
            drainAndClose()
        case .answering: keepAlive = false
        case .draining, .upgraded, .closed: break
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        let wasUpgraded = phase == .upgraded
        ended()
        if wasUpgraded { phase = .upgraded }
        context.fireChannelInactive()
    }

    private func ended() {
        guard open.exchange(false, ordering: .relaxed) else { return }
        phase = .closed
        timer?.cancel()
        timer = nil
        pending.removeAll()
        body = ByteBuffer()
        task?.cancel()
        task = nil
        gate.close()
        for waiter in closeWaiters { waiter.succeed() }
        closeWaiters = []
    }

    // MARK: - Time limits

    /// One coarse timer a connection instead of one a request: it fires at half of the smallest limit and looks at `deadline`.
    private func startTimer() {
        let limit = min(configuration.headerReadTimeoutSeconds, configuration.bodyReadTimeoutSeconds, configuration.idleTimeoutSeconds)
        let period = TimeAmount.milliseconds(Int64(max(1, limit)) * 500)
        timer = loop.eventLoop.scheduleTask(in: period) {
            self.timer = nil
            switch self.phase {
            case .idle, .readingBody:
                if NIODeadline.now() >= self.deadline { self.context?.close(promise: nil) } else { self.startTimer() }
            case .answering: self.startTimer()
            case .draining, .upgraded, .closed: break
            }
        }
    }
}
