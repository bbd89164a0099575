package import NIOCore
package import NIOHTTP1

/// What a handler answers. `Date`, `Content-Length`, `Transfer-Encoding` and `Connection` are written by Wire.
package struct WireResponse: Sendable {
    package var status: HTTPResponseStatus
    package var headers: HTTPHeaders
    package var body: Body
    /// Compress `bytes` and `buffers` with gzip, level 1. The handler decides (it has read Accept-Encoding); Wire adds
    /// `Content-Encoding: gzip` and `Vary: Accept-Encoding`.
    package var gzip: Bool
    /// Close the connection after this response (HTTP/1.1).
    package var closesConnection: Bool

    package enum Body: Sendable {
        case none
        case bytes(ByteBuffer)
        /// Written one after another without joining copies.
        case buffers([ByteBuffer])
        /// Chunked (HTTP/1.1) or DATA frames (HTTP/2) until the closure returns. Its task is cancelled when the peer goes
        /// away. When it throws, the response is cut off so that the client sees it as incomplete.
        case stream(@Sendable (any WireWriter) async throws -> Void)
        /// 101 Switching Protocols with the response's headers and `Upgrade: protocolName`, then raw bytes both ways
        /// until the closure returns; the connection is then closed. HTTP/1.1 only.
        case upgrade(protocolName: String, @Sendable (any UpgradedConnection) async throws -> Void)
    }

    package init(status: HTTPResponseStatus, headers: HTTPHeaders = [:], body: Body = .none, gzip: Bool = false, closesConnection: Bool = false) {
        self.status = status
        self.headers = headers
        self.body = body
        self.gzip = gzip
        self.closesConnection = closesConnection
    }

    /// A response with one content type and a text body.
    package static func text(_ status: HTTPResponseStatus, _ text: String, contentType: String = "text/plain; charset=utf-8") -> WireResponse {
        WireResponse(status: status, headers: ["Content-Type": contentType], body: .bytes(ByteBuffer(string: text)))
    }
}
