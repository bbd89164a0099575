import Glibc
package import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// An HTTPS server: HTTP/1.1 and HTTP/2 (by ALPN) on one port.
package final class WireServer: Sendable {
    package let configuration: WireConfiguration
    private let handler: any WireHandler
    private let ownedGroup: MultiThreadedEventLoopGroup?
    package let group: any EventLoopGroup
    private let loops: [ObjectIdentifier: LoopContext]
    private let state = Mutex(State())

    private struct State {
        var listener: (any Channel)?
        var context: NIOSSLContext?
        var connections: [ObjectIdentifier: any Channel] = [:]
        var stopping = false
    }

    /// Pending connections in the kernel.
    private static let backlog: Int32 = 1024

    /// - Parameter group: event loops to share with another server; nil: own ones, `configuration.eventLoopCount` of them.
    package init(configuration: WireConfiguration, handler: any WireHandler, group: (any EventLoopGroup)? = nil) {
        self.configuration = configuration
        self.handler = handler
        if let group {
            self.ownedGroup = nil
            self.group = group
        } else {
            let own = MultiThreadedEventLoopGroup(numberOfThreads: configuration.eventLoopCount)
            self.ownedGroup = own
            self.group = own
        }
        var loops: [ObjectIdentifier: LoopContext] = [:]
        for loop in self.group.makeIterator() { loops[ObjectIdentifier(loop)] = LoopContext(loop) }
        self.loops = loops
    }

    /// Binds and serves. Returns the bound address. Throws `WireError.bind` with Go's words when the port is taken.
    @discardableResult
    package func start() async throws -> SocketAddress {
        if let tls = configuration.tls { try reloadCertificate(tls) }
        let initializer = ConnectionInitializer(configuration: configuration, handler: handler)
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: Self.backlog)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.writeBufferWaterMark,
                                value: .init(low: configuration.writeBufferBytesHigh / 4, high: configuration.writeBufferBytesHigh))
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard self.admit(channel) else { throw WireError.closed }
                    let loop = self.loops[ObjectIdentifier(channel.eventLoop)] ?? LoopContext(channel.eventLoop)
                    if let context = self.state.withLock({ $0.context }) {
                        try initializer.secure(channel, loop: loop, context: context)
                    } else {
                        try initializer.plain(channel, loop: loop)
                    }
                }
            }
        do {
            let listener = try await bootstrap.bind(host: configuration.host, port: configuration.port).get()
            state.withLock { $0.listener = listener }
            guard let address = listener.localAddress else { throw WireError.bind("listener has no address") }
            return address
        } catch let error as IOError {
            throw WireError.bind("listen tcp \(configuration.host):\(configuration.port): bind: \(Self.goText(error.errnoCode))")
        } catch let error as NIOConnectionError {
            throw WireError.bind("listen tcp \(configuration.host):\(configuration.port): \(error)")
        }
    }

    /// Connections now open.
    package var connectionCount: Int { state.withLock { $0.connections.count } }

    /// New connections use this certificate; open ones keep theirs. Throws when the PEM texts do not fit together.
    package func reloadCertificate(_ tls: WireTLS) throws {
        let context = try TLSHandlers.makeContext(tls)
        state.withLock { $0.context = context }
    }

    /// Stops accepting, asks connections to end (GOAWAY, `Connection: close`, streams cancelled), closes what is left after
    /// the grace period.
    package func shutdown(graceSeconds: Int) async {
        let (listener, open) = state.withLock { state in
            state.stopping = true
            defer { state.listener = nil }
            return (state.listener, Array(state.connections.values))
        }
        try? await listener?.close().get()
        for channel in open { channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent()) }
        let deadline = ContinuousClock.now + .seconds(graceSeconds)
        while connectionCount > 0 && ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(10)) }
        for channel in state.withLock({ Array($0.connections.values) }) { channel.close(promise: nil) }
        let closing = ContinuousClock.now + .seconds(2)
        while connectionCount > 0 && ContinuousClock.now < closing { try? await Task.sleep(for: .milliseconds(5)) }
        if let ownedGroup { try? await ownedGroup.shutdownGracefully() }
    }

    private func admit(_ channel: any Channel) -> Bool {
        let id = ObjectIdentifier(channel)
        let admitted = state.withLock { state in
            guard !state.stopping, state.connections.count < configuration.connectionsMax else { return false }
            state.connections[id] = channel
            return true
        }
        if admitted { channel.closeFuture.whenComplete { _ in self.state.withLock { _ = $0.connections.removeValue(forKey: id) } } }
        return admitted
    }

    private static func goText(_ code: CInt) -> String {
        switch code {
        case EADDRINUSE: "address already in use"
        case EACCES: "permission denied"
        case EADDRNOTAVAIL: "cannot assign requested address"
        default: String(cString: strerror(code)).lowercased()
        }
    }
}
