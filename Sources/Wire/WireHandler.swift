package import NIOCore

/// Answers requests. `handle` starts on the event loop's own thread and resumes there: it must not block.
package protocol WireHandler: Sendable {
    func handle(_ request: WireRequest) async -> WireResponse
}

/// A handler made of a closure.
package struct ClosureHandler: WireHandler {
    let body: @Sendable (WireRequest) async -> WireResponse

    package init(_ body: @escaping @Sendable (WireRequest) async -> WireResponse) { self.body = body }

    package func handle(_ request: WireRequest) async -> WireResponse { await body(request) }
}

/// The body of a streamed response.
package protocol WireWriter: Sendable {
    /// Sends the bytes at once; returns when the connection can take more (back pressure).
    /// Throws `WireError.closed` when the peer is gone and `WireError.stalled` when it has not read for the configured time.
    func write(_ bytes: ByteBuffer) async throws
    /// False once the peer has gone away. The stream's task is cancelled at the same moment.
    var isOpen: Bool { get }
    /// Returns when the peer has gone away or the response has ended.
    func waitForClose() async
}

/// Raw bytes both ways: a connection after 101, or one dialled by `Streaming.Tunnel`.
package protocol UpgradedConnection: Sendable {
    /// The next bytes, nil when the peer has closed its sending side. One reader at a time. Reading is what lets more bytes in.
    func read() async throws -> ByteBuffer?
    /// Sends the bytes; returns when the connection can take more.
    func write(_ bytes: ByteBuffer) async throws
    /// Half-close: no more bytes will be sent; reading goes on.
    func closeOutput() async
    /// Closes both directions; idempotent.
    func close()
    /// False once the connection is closed.
    var isOpen: Bool { get }
}

/// What can go wrong on the wire.
package enum WireError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The listening address cannot be used; Go's words, as users know them.
    case bind(String)
    case closed
    /// The peer did not read for the time given in the configuration.
    case stalled
    case invalidCertificate(String)
    case protocolViolation(String)
    case tooLarge(String)

    package var description: String {
        switch self {
        case .bind(let message): message
        case .closed: "connection closed"
        case .stalled: "the peer has stopped reading"
        case .invalidCertificate(let message): message
        case .protocolViolation(let message): message
        case .tooLarge(let message): message
        }
    }
}
