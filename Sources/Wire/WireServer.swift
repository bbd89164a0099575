package import NIOCore

/// An HTTPS server: HTTP/1.1 and HTTP/2 on one port.
package final class WireServer: Sendable {
    let configuration: WireConfiguration
    let handler: any WireHandler

    package init(configuration: WireConfiguration, handler: any WireHandler) {
        self.configuration = configuration
        self.handler = handler
    }

    /// Binds and serves. Returns the bound address.
    package func start() async throws -> SocketAddress {
        throw WireError.bind("not written yet")
    }

    /// Stops accepting, asks connections to end (GOAWAY, `Connection: close`), closes what is left after the grace period.
    package func shutdown(graceSeconds: Int) async {}

    /// New connections use this certificate; open ones keep theirs. Throws when the PEM texts do not fit together.
    package func reloadCertificate(_ tls: WireTLS) throws {}
}
