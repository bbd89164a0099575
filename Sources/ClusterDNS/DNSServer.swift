import NIOCore
import NIOPosix

/// One address served over UDP and TCP.
final class DNSServer: Sendable {
    private static let connectionsBacklog: Int32 = 128
    private static let datagramBytesMax = 4096
    private static let idleSeconds: Int64 = 10
    /// Datagrams read in one system call.
    private static let datagramsAtOnce = 16

    private let datagrams: any Channel
    private let streams: any Channel

    let port: Int

    private init(_ datagrams: any Channel, _ streams: any Channel) {
        self.datagrams = datagrams
        self.streams = streams
        port = datagrams.localAddress?.port ?? 0
    }

    /// - Parameter port: 0: any port that is free for both.
    static func start(host: String, port: Int, responder: DNSResponder, group: any EventLoopGroup) async throws -> DNSServer {
        let datagrams = try await DatagramBootstrap(group: group)
            .channelOption(.socketOption(.so_reuseaddr), value: 1)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: datagramBytesMax * datagramsAtOnce))
            .channelOption(.datagramVectorReadMessageCount, value: datagramsAtOnce)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(DatagramHandler(responder)) }
            }
            .bind(host: host, port: port).get()
        do {
            let streams = try await ServerBootstrap(group: group)
                .serverChannelOption(.backlog, value: connectionsBacklog)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandlers([
                            IdleStateHandler(readTimeout: .seconds(idleSeconds)), ByteToMessageHandler(DNSFrameDecoder()),
                            StreamHandler(responder),
                        ])
                    }
                }
                .bind(host: host, port: datagrams.localAddress?.port ?? port).get()
            return DNSServer(datagrams, streams)
        } catch {
            try? await datagrams.close()
            throw error
        }
    }

    func stop() async {
        try? await datagrams.close()
        try? await streams.close()
    }

    var isOpen: Bool { datagrams.isActive && streams.isActive }
}

private final class DatagramHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>
    typealias OutboundOut = AddressedEnvelope<ByteBuffer>
    private let responder: DNSResponder

    init(_ responder: DNSResponder) { self.responder = responder }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        let client = envelope.remoteAddress
        // Port 0 cannot be answered.
        guard client.port != 0 else { return }
        switch responder.receive(Array(envelope.data.readableBytesView), isTCP: false) {
        case .reply(let reply): context.write(wrapOutboundOut(.init(remoteAddress: client, data: ByteBuffer(bytes: reply))), promise: nil)
        case .later(let query):
            Task { [responder, channel = context.channel] in
                let reply = await responder.finish(query, isTCP: false)
                channel.writeAndFlush(AddressedEnvelope(remoteAddress: client, data: ByteBuffer(bytes: reply)), promise: nil)
            }
        case .nothing: break
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) { context.flush() }

    /// An ICMP answer to one of our replies is no reason to stop.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}

private final class StreamHandler: ChannelInboundHandler {
    typealias InboundIn = [UInt8]
    typealias OutboundOut = ByteBuffer

    /// Queries of one connection that wait for an upstream; more are not read until some are answered.
    private static let waitingMax = 32
    private let responder: DNSResponder
    private var waiting = 0

    init(_ responder: DNSResponder) { self.responder = responder }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch responder.receive(unwrapInboundIn(data), isTCP: true) {
        case .reply(let reply): context.writeAndFlush(wrapOutboundOut(DNSFrameDecoder.frame(reply)), promise: nil)
        case .nothing: context.close(promise: nil)
        case .later(let query):
            waiting += 1
            guard waiting <= Self.waitingMax else {
                context.close(promise: nil)
                return
            }
            let done = context.eventLoop.makePromise(of: Void.self)
            done.futureResult.assumeIsolated().whenComplete { _ in self.waiting -= 1 }
            Task { [responder, channel = context.channel] in
                let reply = await responder.finish(query, isTCP: true)
                channel.writeAndFlush(DNSFrameDecoder.frame(reply), promise: nil)
                done.succeed()
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) } else { context.fireUserInboundEventTriggered(event) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
