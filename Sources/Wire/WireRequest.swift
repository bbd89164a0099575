package import NIOCore
package import NIOHTTP1

/// What the TLS layer knows about the client's certificate.
package enum ClientCertificate: Sendable, Equatable {
    /// The client presented none (or the server runs in plain text).
    case none
    /// The chain leads to the configured client CA; the leaf, in DER.
    case verified([UInt8])
    /// A certificate was presented and does not verify. Upstream refuses the *request* (401), not the connection.
    case invalid
}

/// The other end of a connection.
package struct WirePeer: Sendable {
    /// IP address without port, for example `127.0.0.1` or `::1`.
    package var address: String
    package var port: Int
    package var certificate: ClientCertificate
    package var isTLS: Bool

    package init(address: String, port: Int = 0, certificate: ClientCertificate = .none, isTLS: Bool = false) {
        self.address = address
        self.port = port
        self.certificate = certificate
        self.isTLS = isTLS
    }

    /// The verified leaf certificate in DER, nil when there is none or it did not verify.
    package var verifiedCertificateDER: [UInt8]? {
        if case .verified(let der) = certificate { der } else { nil }
    }
}

/// One complete request: the body is fully read and bounded by `WireConfiguration.bodyBytesMax`.
package struct WireRequest: Sendable {
    package var method: HTTPMethod
    /// Raw request target: path and query, not decoded.
    package var uri: String
    package var headers: HTTPHeaders
    /// Empty when the request has none.
    package var body: ByteBuffer
    package var peer: WirePeer
    /// The loop the request came in on; `handle` runs on its thread.
    package var eventLoop: any EventLoop
    /// 1 or 2. Connection upgrades exist in HTTP/1.1 only.
    package var httpMajorVersion: Int

    package init(method: HTTPMethod, uri: String, headers: HTTPHeaders = [:], body: ByteBuffer = ByteBuffer(), peer: WirePeer,
                 eventLoop: any EventLoop, httpMajorVersion: Int = 1) {
        self.method = method
        self.uri = uri
        self.headers = headers
        self.body = body
        self.peer = peer
        self.eventLoop = eventLoop
        self.httpMajorVersion = httpMajorVersion
    }

    /// The raw path, before the first `?`; not percent-decoded.
    package var path: Substring {
        let bytes = uri.utf8
        guard let mark = bytes.firstIndex(of: UInt8(ascii: "?")) else { return uri[...] }
        return uri[..<mark]
    }

    /// The raw query, after the first `?`; empty when there is none.
    package var query: Substring {
        let bytes = uri.utf8
        guard let mark = bytes.firstIndex(of: UInt8(ascii: "?")) else { return "" }
        return uri[bytes.index(after: mark)...]
    }
}
