package import NIOHTTP1
package import Wire

/// The server's side of the WebSocket opening handshake (RFC 6455, section 4.2).
package struct WebSocketHandshake: Sendable {
    /// The chosen subprotocol; empty when the client asked for none.
    package let subprotocol: String
    let accept: String

    package static func isRequested(_ request: WireRequest) -> Bool {
        request.headers[canonicalForm: "connection"].contains { $0.lowercased() == "upgrade" }
            && request.headers[canonicalForm: "upgrade"].contains { $0.lowercased() == "websocket" }
    }

    /// Checks the request and chooses the first of the client's subprotocols that is in `supported`. A client that names none
    /// gets "" when `supported` contains it. Throws `Refusal` with the answer to give.
    package init(_ request: WireRequest, supported: [String]) throws(Refusal) {
        guard request.method == .GET, Self.isRequested(request) else { throw Refusal(.badRequest, "not a WebSocket request") }
        guard request.headers.first(name: "sec-websocket-version") == "13" else {
            var refusal = Refusal(.badRequest, "missing or bad WebSocket Version")
            refusal.response.headers.add(name: "Sec-WebSocket-Version", value: "13")
            throw refusal
        }
        guard let key = request.headers.first(name: "sec-websocket-key"), Base64.decode(key.utf8)?.count == 16 else {
            throw Refusal(.badRequest, "missing or bad WebSocket key")
        }
        let asked = request.headers[canonicalForm: "sec-websocket-protocol"].map(String.init)
        if asked.isEmpty, supported.contains("") {
            subprotocol = ""
        } else if let chosen = asked.first(where: { supported.contains($0) }) {
            subprotocol = chosen
        } else {
            throw Refusal(.forbidden, "requested protocol(s) are not supported: [\(asked.joined(separator: " "))]; supports \(supported)")
        }
        accept = String(decoding: Base64.encode(SHA1.hash((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)), as: UTF8.self)
    }

    /// The 101; the connection is closed when the closure returns.
    package func response(_ run: @escaping @Sendable (WebSocketConnection) async throws -> Void) -> WireResponse {
        var headers: HTTPHeaders = ["Sec-WebSocket-Accept": accept]
        if subprotocol != "" { headers.add(name: "Sec-WebSocket-Protocol", value: subprotocol) }
        return WireResponse(status: .switchingProtocols, headers: headers, body: .upgrade(protocolName: "websocket") { connection in
            try await run(WebSocketConnection(connection: connection))
        })
    }

    package struct Refusal: Error {
        package var response: WireResponse

        init(_ status: HTTPResponseStatus, _ message: String) { response = .text(status, message + "\n") }
    }
}
