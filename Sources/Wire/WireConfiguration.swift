import NIOCore
import NIOHTTP1

/// PEM texts for the serving side of TLS.
package struct WireTLS: Sendable {
    /// The serving certificate, leaf first, then intermediates.
    package var certificateChainPEM: String
    package var privateKeyPEM: String
    /// CAs that client certificates must lead to; nil: client certificates are not asked for.
    package var clientCAPEM: String?

    package init(certificateChainPEM: String, privateKeyPEM: String, clientCAPEM: String? = nil) {
        self.certificateChainPEM = certificateChainPEM
        self.privateKeyPEM = privateKeyPEM
        self.clientCAPEM = clientCAPEM
    }
}

/// Where a server listens and every limit it keeps.
package struct WireConfiguration: Sendable {
    package var host: String
    /// 0: any free port; `start()` returns the one taken.
    package var port: Int
    /// nil: plain text (tests only).
    package var tls: WireTLS?
    package var eventLoopCount = 2

    /// Largest request body (upstream's limit for resource bodies, 3 MiB).
    package var bodyBytesMax = 3 * 1024 * 1024
    /// Largest request head: request line and headers together (Go's default, 1 MiB, is more than any client needs).
    package var headerBytesMax = 64 * 1024
    /// From the connection (or the first byte of a request on it) to the end of its headers.
    package var headerReadTimeoutSeconds = 30
    /// From the end of the headers to the end of the body.
    package var bodyReadTimeoutSeconds = 60
    /// A connection without a request is closed after this.
    package var idleTimeoutSeconds = 180
    /// A streamed response whose reader takes nothing for this long is cut off.
    package var stalledReaderTimeoutSeconds = 60
    package var connectionsMax = 20_000
    /// Concurrent requests on one HTTP/2 connection (upstream's figure).
    package var http2StreamsMax = 250
    /// Bytes buffered towards one connection before writers wait.
    package var writeBufferBytesHigh = 256 * 1024
    /// Makes the answer to a body over the limit.
    package var tooLargeResponse: @Sendable (_ bodyBytesMax: Int) -> WireResponse = WireConfiguration.requestEntityTooLarge

    package init(host: String = "0.0.0.0", port: Int = 6443, tls: WireTLS? = nil) {
        self.host = host
        self.port = port
        self.tls = tls
    }

    /// The answer of the upstream API server, word for word.
    package static func requestEntityTooLarge(bodyBytesMax: Int) -> WireResponse {
        WireResponse.text(.payloadTooLarge, """
            {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",\
            "message":"Request entity too large: limit is \(bodyBytesMax)","reason":"RequestEntityTooLarge","code":413}

            """, contentType: "application/json")
    }
}
