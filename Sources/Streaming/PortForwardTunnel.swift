package import NIOCore
package import NIOHTTP1
package import Wire

/// kubectl port-forward over WebSocket: binary messages carry the bytes of a SPDY/3.1 port-forward connection.
package enum PortForwardTunnel {
    package static let subprotocol = "SPDY/3.1+portforward.k8s.io"
    package static let protocolVersion = "portforward.k8s.io"

    /// Opens the SPDY port-forward connection behind; do it before accepting the WebSocket, so that a refusal can be passed on.
    package static func dial(tunnel: Tunnel, endpoint: StreamEndpoint, headers: HTTPHeaders = [:]) async throws -> any UpgradedConnection {
        var headers = headers
        headers.replaceOrAdd(name: "Upgrade", value: "SPDY/3.1")
        headers.replaceOrAdd(name: "X-Stream-Protocol-Version", value: protocolVersion)
        return try await tunnel.upgrade(headers: headers, to: endpoint).connection
    }

    /// Unwraps and wraps until either side has ended.
    package static func run(socket: WebSocketConnection, remote: any UpgradedConnection) async {
        await pipe(WebSocketBytes(socket: socket), remote)
    }
}

/// A WebSocket seen as raw bytes: the payloads of its messages, one after another.
package struct WebSocketBytes: UpgradedConnection {
    let socket: WebSocketConnection

    package init(socket: WebSocketConnection) { self.socket = socket }

    package var isOpen: Bool { socket.isOpen }

    package func read() async throws -> ByteBuffer? {
        while let message = try await socket.next() {
            switch message {
            case .binary(let bytes) where bytes.readableBytes > 0: return bytes
            case .binary: continue
            case .text: throw WireError.protocolViolation("text message in a byte tunnel")
            }
        }
        return nil
    }

    package func write(_ bytes: ByteBuffer) async throws { try await socket.send(.binary(bytes)) }
    package func closeOutput() async { await socket.close(.normal) }
    package func close() { socket.abort() }
}
