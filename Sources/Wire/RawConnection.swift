package import NIOCore
import Synchronization

/// Raw bytes of one channel as an async object, with back pressure both ways: bytes are read from the socket only while
/// fewer than `inboundBytesHigh` wait here, and `write` returns only while the socket takes them.
package final class RawConnection: ChannelDuplexHandler, UpgradedConnection, @unchecked Sendable {
    // @unchecked: everything but `open` is touched on the channel's event loop only.
    package typealias InboundIn = ByteBuffer
    package typealias OutboundIn = ByteBuffer

    static let inboundBytesHigh = 128 * 1024

    package let eventLoop: any EventLoop
    private let stalledTimeout: TimeAmount
    private var context: ChannelHandlerContext?
    private var inbound = CircularBuffer<ByteBuffer>()
    private var inboundBytes = 0
    private var readHeld = false
    private var reader: EventLoopPromise<ByteBuffer?>?
    private var inputEnded = false
    private var failure: (any Error)?
    private var gate: WriteGate
    private let open = Atomic<Bool>(true)
    private var onClose: [@Sendable () -> Void] = []

    package init(eventLoop: any EventLoop, stalledReaderTimeoutSeconds: Int) {
        self.eventLoop = eventLoop
        self.stalledTimeout = .seconds(Int64(stalledReaderTimeoutSeconds))
        self.gate = WriteGate()
    }

    // MARK: - UpgradedConnection

    package var isOpen: Bool { open.load(ordering: .relaxed) }

    package func read() async throws -> ByteBuffer? {
        let promise = eventLoop.makePromise(of: ByteBuffer?.self)
        if eventLoop.inEventLoop { take(promise) } else { eventLoop.execute { self.take(promise) } }
        return try await withTaskCancellationHandler {
            try await promise.futureResult.get()
        } onCancel: {
            self.eventLoop.execute { self.reader?.fail(CancellationError()); self.reader = nil }
        }
    }

    package func write(_ bytes: ByteBuffer) async throws {
        if eventLoop.inEventLoop, let context, failure == nil, isOpen {
            context.writeAndFlush(NIOAny(bytes), promise: nil)
            if context.channel.isWritable { return }
        } else if eventLoop.inEventLoop {
            throw failure ?? WireError.closed
        } else {
            try await eventLoop.submit {
                guard let context = self.context, self.isOpen else { throw WireError.closed }
                context.writeAndFlush(NIOAny(bytes), promise: nil)
            }.get()
        }
        try await eventLoop.flatSubmit { self.waitUntilWritable() }.get()
    }

    package func closeOutput() async {
        try? await eventLoop.flatSubmit {
            let promise = self.eventLoop.makePromise(of: Void.self)
            if let context = self.context { context.close(mode: .output, promise: promise) } else { promise.succeed() }
            return promise.futureResult
        }.get()
    }

    package func close() {
        if eventLoop.inEventLoop { context?.close(promise: nil) } else { eventLoop.execute { self.context?.close(promise: nil) } }
    }

    /// Calls the closure once when the connection is closed (at once when it already is).
    package func whenClosed(_ body: @escaping @Sendable () -> Void) {
        eventLoop.execute { if self.isOpen { self.onClose.append(body) } else { body() } }
    }

    private func waitUntilWritable() -> EventLoopFuture<Void> {
        guard let context, isOpen else { return eventLoop.makeFailedFuture(WireError.closed) }
        return gate.wait(channel: context.channel, timeout: stalledTimeout) { self.close() }
    }

    private func take(_ promise: EventLoopPromise<ByteBuffer?>) {
        if let first = inbound.popFirst() {
            inboundBytes -= first.readableBytes
            promise.succeed(first)
            if readHeld && inboundBytes < Self.inboundBytesHigh { readHeld = false; context?.read() }
        } else if let failure {
            promise.fail(failure)
        } else if inputEnded || !isOpen {
            promise.succeed(nil)
        } else if reader != nil {
            promise.fail(WireError.protocolViolation("two readers on one connection"))
        } else {
            reader = promise
        }
    }

    // MARK: - ChannelHandler

    package func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    package func handlerRemoved(context: ChannelHandlerContext) { ended(nil) ; self.context = nil }

    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        guard bytes.readableBytes > 0 else { return }
        if let reader {
            self.reader = nil
            reader.succeed(bytes)
        } else {
            inbound.append(bytes)
            inboundBytes += bytes.readableBytes
        }
    }

    package func read(context: ChannelHandlerContext) {
        if inboundBytes < Self.inboundBytesHigh { context.read() } else { readHeld = true }
    }

    package func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { gate.open() }
        context.fireChannelWritabilityChanged()
    }

    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent {
            inputEnded = true
            reader?.succeed(nil)
            reader = nil
        }
        context.fireUserInboundEventTriggered(event)
    }

    package func channelInactive(context: ChannelHandlerContext) {
        ended(nil)
        context.fireChannelInactive()
    }

    package func errorCaught(context: ChannelHandlerContext, error: any Error) {
        ended(error)
        context.close(promise: nil)
    }

    private func ended(_ error: (any Error)?) {
        guard open.exchange(false, ordering: .relaxed) else { return }
        inputEnded = true
        // Bytes that arrived before the end are still delivered; the error comes after them.
        failure = error
        if let reader {
            self.reader = nil
            if let error { reader.fail(error) } else { reader.succeed(nil) }
        }
        gate.close()
        let listeners = onClose
        onClose = []
        for listener in listeners { listener() }
    }
}

/// Writers that wait for a channel to become writable. Loop-confined.
struct WriteGate {
    private var waiters: [EventLoopPromise<Void>] = []
    private var timer: Scheduled<Void>?

    /// A future that succeeds when the channel is writable and fails when it closes, or after `timeout` without progress.
    mutating func wait(channel: any Channel, timeout: TimeAmount, stalled: @escaping @Sendable () -> Void) -> EventLoopFuture<Void> {
        if channel.isWritable { return channel.eventLoop.makeSucceededVoidFuture() }
        let promise = channel.eventLoop.makePromise(of: Void.self)
        waiters.append(promise)
        if timer == nil { timer = channel.eventLoop.scheduleTask(in: timeout, stalled) }
        return promise.futureResult
    }

    mutating func open() {
        timer?.cancel()
        timer = nil
        let ready = waiters
        waiters = []
        for waiter in ready { waiter.succeed() }
    }

    mutating func close() {
        timer?.cancel()
        timer = nil
        let gone = waiters
        waiters = []
        for waiter in gone { waiter.fail(WireError.closed) }
    }
}
