import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOSSL
import NIOTLS

/// Builds the pipeline of an accepted connection.
struct ConnectionInitializer: Sendable {
    let configuration: WireConfiguration
    let handler: any WireHandler

    /// Client libraries cancel watches with RST_STREAM and probe with PING: the library's defaults (200 in 30 s) would
    /// cut off an honest informer-heavy client.
    static let http2ResetsMax = 20_000
    static let http2ControlFramesMax = 20_000
    static let http2RateWindowSeconds: Int64 = 30
    static let http2WindowBytes = 1024 * 1024

    func plain(_ channel: any Channel, loop: LoopContext) throws {
        try http1(channel, loop: loop, peer: peer(channel))
    }

    func secure(_ channel: any Channel, loop: LoopContext, context: NIOSSLContext) throws {
        let verifier = ClientCertificateVerifier()
        let tls = try TLSHandlers.makeServerHandler(context: context, verifier: verifier)
        let selector = ProtocolSelector(timeoutSeconds: configuration.headerReadTimeoutSeconds) { context, negotiated in
            var peer = self.peer(context.channel)
            peer.isTLS = true
            peer.certificate = verifier.outcome(peer: tls.peerCertificate)
            if negotiated == "h2" {
                try self.http2(context.channel, loop: loop, peer: peer)
            } else {
                try self.http1(context.channel, loop: loop, peer: peer)
            }
        }
        try channel.pipeline.syncOperations.addHandler(tls)
        try channel.pipeline.syncOperations.addHandler(selector)
    }

    private func peer(_ channel: any Channel) -> WirePeer {
        WirePeer(address: channel.remoteAddress?.ipAddress ?? "", port: channel.remoteAddress?.port ?? 0)
    }

    private func http1(_ channel: any Channel, loop: LoopContext, peer: WirePeer) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = configuration.headerBytesMax
        limits.maxHeaderListSize = configuration.headerBytesMax
        let decoder = HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, informationalResponseStrategy: .drop, limitConfiguration: limits)
        try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
        try channel.pipeline.syncOperations.addHandler(ByteToMessageHandler(decoder))
        try channel.pipeline.syncOperations.addHandler(
            ExchangeHandler(version: .http1, configuration: configuration, handler: handler, loop: loop, peer: peer))
    }

    private func http2(_ channel: any Channel, loop: LoopContext, peer: WirePeer) throws {
        let manager = NIOHTTP2ServerConnectionManagementHandler(
            eventLoop: channel.eventLoop,
            configuration: .init(maxIdleTime: .seconds(Int64(configuration.idleTimeoutSeconds)), maxAge: nil, maxGraceTime: nil,
                                 keepalive: .init(pingInterval: .seconds(30), ackTimeout: .seconds(15))))
        var connection = NIOHTTP2Handler.ConnectionConfiguration()
        connection.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: configuration.http2StreamsMax),
            HTTP2Setting(parameter: .maxHeaderListSize, value: configuration.headerBytesMax),
            HTTP2Setting(parameter: .initialWindowSize, value: Self.http2WindowBytes),
        ]
        connection.targetWindowSize = Self.http2WindowBytes
        connection.controlFrameRateLimit.maximumCount = Self.http2ControlFramesMax
        connection.controlFrameRateLimit.windowLength = .seconds(Self.http2RateWindowSeconds)
        var stream = NIOHTTP2Handler.StreamConfiguration()
        stream.targetWindowSize = Self.http2WindowBytes
        stream.outboundBufferSizeHighWatermark = configuration.writeBufferBytesHigh
        stream.outboundBufferSizeLowWatermark = configuration.writeBufferBytesHigh / 4
        stream.streamResetFrameRateLimit.maximumCount = Self.http2ResetsMax
        stream.streamErrorRateLimit.maximumCount = Self.http2ResetsMax
        let configuration = configuration, handler = handler
        _ = try channel.pipeline.syncOperations.configureHTTP2Pipeline(
            mode: .server, connectionConfiguration: connection, streamConfiguration: stream, streamDelegate: manager.http2StreamDelegate
        ) { streamChannel in
            streamChannel.eventLoop.makeCompletedFuture {
                try streamChannel.pipeline.syncOperations.addHandler(HTTP2FramePayloadToHTTP1ServerCodec())
                try streamChannel.pipeline.syncOperations.addHandler(
                    ExchangeHandler(version: .http2, configuration: configuration, handler: handler, loop: loop, peer: peer))
            }
        }
        try channel.pipeline.syncOperations.addHandler(manager)
        try channel.pipeline.syncOperations.addHandler(ErrorCloser())
    }
}

/// Waits for the end of the TLS handshake, then builds the rest of the pipeline in the same turn of the loop.
final class ProtocolSelector: ChannelInboundHandler, RemovableChannelHandler, @unchecked Sendable {
    // @unchecked: loop-confined.
    typealias InboundIn = ByteBuffer
    private let timeoutSeconds: Int
    private let configure: (ChannelHandlerContext, String?) throws -> Void
    private var timer: Scheduled<Void>?

    init(timeoutSeconds: Int, configure: @escaping (ChannelHandlerContext, String?) throws -> Void) {
        self.timeoutSeconds = timeoutSeconds
        self.configure = configure
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let channel = context.channel
        timer = context.eventLoop.scheduleTask(in: .seconds(Int64(timeoutSeconds))) { channel.close(promise: nil) }
    }

    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .handshakeCompleted(let negotiated) = event as? TLSUserEvent else {
            context.fireUserInboundEventTriggered(event)
            return
        }
        timer?.cancel()
        do {
            try configure(context, negotiated)
            context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
        } catch {
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// The end of a pipeline: any error that nobody handled closes the connection.
final class ErrorCloser: ChannelInboundHandler {
    typealias InboundIn = Any
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
