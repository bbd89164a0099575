package import NIOCore
package import NIOHTTP1
package import Wire

/// Where a request is passed on to.
package struct StreamEndpoint: Sendable {
    package var host: String
    package var port: Int
    /// Path and query, as sent.
    package var uri: String

    package init(host: String, port: Int, uri: String) {
        self.host = host
        self.port = port
        self.uri = uri
    }
}

/// Passes a request on to another HTTP/1.1 server and the answer back: an upgrade becomes a pipe of raw bytes both ways with
/// back pressure and half-close, any other answer is streamed as it is (logs, proxied pages, refused upgrades).
package struct Tunnel: Sendable {
    /// What an upgrade or a head may take; the bytes after it may take for ever.
    static let headTimeoutSeconds = 30

    package let dialer: StreamDialer

    package init(dialer: StreamDialer) { self.dialer = dialer }

    /// Headers that belong to one hop (RFC 9110, 7.6.1).
    private static let hopHeaders: Set<String> = ["connection", "upgrade", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
                                                  "content-length", "host", "expect", "http2-settings"]

    /// The answer to give to the client. Throws when the other server cannot be reached or does not speak HTTP.
    /// - Parameter headers: the request's headers; `Authorization` must already be what the other server is to see.
    package func forward(method: HTTPMethod, headers: HTTPHeaders, body: ByteBuffer = ByteBuffer(), to endpoint: StreamEndpoint) async throws
        -> WireResponse {
        let connection = try await dialer.dial(host: endpoint.host, port: endpoint.port)
        let reader = ResponseReader(connection: connection)
        let timeout = connection.eventLoop.scheduleTask(in: .seconds(Int64(Self.headTimeoutSeconds))) { connection.close() }
        do {
            try await connection.write(Self.requestHead(method: method, headers: headers, bodyBytes: body.readableBytes, endpoint))
            if body.readableBytes > 0 { try await connection.write(body) }
            let (status, answered) = try await reader.readHead(method: method)
            timeout.cancel()
            var passed = HTTPHeaders()
            for (name, value) in answered where !Self.hopHeaders.contains(name.lowercased()) && name.lowercased() != "date" {
                passed.add(name: name, value: value)
            }
            if status == .switchingProtocols {
                let remote = reader.upgraded()
                let name = answered.first(name: "upgrade") ?? headers.first(name: "upgrade") ?? ""
                return WireResponse(status: status, headers: passed, body: .upgrade(protocolName: name) { client in await pipe(client, remote) })
            }
            if method == .HEAD || status == .noContent || status == .notModified {
                connection.close()
                return WireResponse(status: status, headers: passed)
            }
            return WireResponse(status: status, headers: passed, body: .stream { writer in
                defer { connection.close() }
                try await withTaskCancellationHandler {
                    while let piece = try await reader.nextPiece() { try await writer.write(piece) }
                } onCancel: {
                    connection.close()
                }
            })
        } catch {
            timeout.cancel()
            connection.close()
            throw error
        }
    }

    /// Opens an upgraded connection for this side's own use. Throws `TunnelError.refused` with the other server's answer.
    package func upgrade(method: HTTPMethod = .POST, headers: HTTPHeaders, to endpoint: StreamEndpoint) async throws
        -> (headers: HTTPHeaders, connection: any UpgradedConnection) {
        let connection = try await dialer.dial(host: endpoint.host, port: endpoint.port)
        let reader = ResponseReader(connection: connection)
        let timeout = connection.eventLoop.scheduleTask(in: .seconds(Int64(Self.headTimeoutSeconds))) { connection.close() }
        do {
            try await connection.write(Self.requestHead(method: method, headers: headers, bodyBytes: 0, endpoint))
            let (status, answered) = try await reader.readHead(method: method)
            timeout.cancel()
            if status == .switchingProtocols { return (answered, reader.upgraded()) }
            var text = ByteBuffer()
            while text.readableBytes < TunnelError.bodyBytesMax, var piece = try await reader.nextPiece() { text.writeBuffer(&piece) }
            throw TunnelError.refused(status: status, body: text)
        } catch {
            timeout.cancel()
            connection.close()
            throw error
        }
    }

    private static func requestHead(method: HTTPMethod, headers: HTTPHeaders, bodyBytes: Int, _ endpoint: StreamEndpoint) -> ByteBuffer {
        let host = endpoint.host.contains(":") ? "[\(endpoint.host)]" : endpoint.host
        var text = "\(method.rawValue) \(endpoint.uri) HTTP/1.1\r\nHost: \(host):\(endpoint.port)\r\n"
        for (name, value) in headers where !hopHeaders.contains(name.lowercased()) { text += "\(name): \(value)\r\n" }
        if let name = headers.first(name: "upgrade") {
            text += "Connection: Upgrade\r\nUpgrade: \(name)\r\n"
        } else {
            text += "Connection: close\r\n"
        }
        if bodyBytes > 0 || method == .POST || method == .PUT || method == .PATCH { text += "Content-Length: \(bodyBytes)\r\n" }
        return ByteBuffer(string: text + "\r\n")
    }
}

package enum TunnelError: Error, Sendable {
    static let bodyBytesMax = 64 * 1024
    /// The other server did not upgrade.
    case refused(status: HTTPResponseStatus, body: ByteBuffer)
}
