package import NIOCore
import NIOPosix
import NIOSSL
package import Wire

/// How to reach a TLS server: whom to trust and which client certificate to show. PEM texts.
package struct StreamTLS: Sendable {
    /// nil: the server's certificate is not verified (a kubelet with a self-signed one, as upstream without --kubelet-certificate-authority).
    package var authorityPEM: String?
    package var clientCertificatePEM: String?
    package var clientKeyPEM: String?
    /// The name the server's certificate must have; nil: the host dialled.
    package var serverName: String?

    package init(authorityPEM: String? = nil, clientCertificatePEM: String? = nil, clientKeyPEM: String? = nil, serverName: String? = nil) {
        self.authorityPEM = authorityPEM
        self.clientCertificatePEM = clientCertificatePEM
        self.clientKeyPEM = clientKeyPEM
        self.serverName = serverName
    }
}

/// Opens byte connections to other servers. Keep one per set of credentials: it holds the parsed TLS context.
package final class StreamDialer: Sendable {
    private let group: any EventLoopGroup
    private let context: NIOSSLContext?
    private let serverName: String?
    private let connectTimeoutSeconds: Int
    private let stalledReaderTimeoutSeconds: Int

    /// - Parameter tls: nil for plain TCP.
    package init(group: any EventLoopGroup, tls: StreamTLS? = nil, connectTimeoutSeconds: Int = 10, stalledReaderTimeoutSeconds: Int = 60) throws {
        self.group = group
        self.connectTimeoutSeconds = connectTimeoutSeconds
        self.stalledReaderTimeoutSeconds = stalledReaderTimeoutSeconds
        self.serverName = tls?.serverName
        self.context = try tls.map { tls in
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = ["http/1.1"]
            if let authority = tls.authorityPEM {
                configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(authority.utf8)))
            } else {
                configuration.certificateVerification = .none
            }
            if let certificate = tls.clientCertificatePEM, let key = tls.clientKeyPEM {
                configuration.certificateChain = try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8)).map { .certificate($0) }
                configuration.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem))
            }
            return try NIOSSLContext(configuration: configuration)
        }
    }

    /// Connects. A TLS fault shows at the first read or write.
    package func dial(host: String, port: Int) async throws -> RawConnection {
        let context = context, name = serverName ?? host
        let stalled = stalledReaderTimeoutSeconds
        let channel = try await ClientBootstrap(group: group)
            .connectTimeout(.seconds(Int64(connectTimeoutSeconds)))
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context {
                        // SNI carries names only; an address is still checked against the certificate.
                        let isAddress = (try? SocketAddress(ipAddress: name, port: 0)) != nil
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : name))
                    }
                    try channel.pipeline.syncOperations.addHandler(
                        RawConnection(eventLoop: channel.eventLoop, stalledReaderTimeoutSeconds: stalled))
                }
            }
            .connect(host: host, port: port).get()
        return try await channel.pipeline.handler(type: RawConnection.self).get()
    }
}
