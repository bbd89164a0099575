package import NIOCore
import Synchronization
package import Wire

/// One side of a SPDY/3.1 connection as spoken by kubectl, kubelet and containerd: streams with headers, no flow control;
/// a stream nobody reads holds the whole connection back, as it does at those peers.
package final class SPDYSession: Sendable {
    package enum Role: Sendable { case client, server }

    private struct State: ~Copyable {
        var codec: SPDYCodec
        var streams: [UInt32: SPDYStream] = [:]
        var nextID: UInt32
        var ended = false
    }

    /// Streams one peer may have open: far above what exec (5) or port-forward (2 a connection) needs.
    static let streamsMax = 4096

    private let connection: any UpgradedConnection
    private let role: Role
    private let state: Mutex<State>
    private let accept: @Sendable (SPDYStream) async -> Void

    /// - Parameter accept: called for each stream the peer opens, before its reply is sent; it must return soon.
    package init(connection: any UpgradedConnection, role: Role, accept: @escaping @Sendable (SPDYStream) async -> Void = { _ in }) throws {
        self.connection = connection
        self.role = role
        self.accept = accept
        state = Mutex(State(codec: try SPDYCodec(), nextID: role == .client ? 1 : 2))
    }

    /// Opens a stream. Call from one task at a time: header blocks must leave in the order in which they were compressed.
    package func openStream(headers: [(name: String, value: String)]) async throws -> SPDYStream {
        let (stream, frame) = try state.withLock { state in
            guard !state.ended else { throw WireError.closed }
            let id = state.nextID
            state.nextID += 2
            let stream = SPDYStream(id: id, headers: headers, connection: connection)
            state.streams[id] = stream
            return (stream, try state.codec.synStream(id: id, headers: headers))
        }
        try await connection.write(frame)
        return stream
    }

    /// Reads frames until the connection ends. Every stream has ended when it returns.
    package func run() async throws {
        var buffer = ByteBuffer()
        do {
            while var bytes = try await connection.read() {
                if buffer.readableBytes == 0 { buffer = bytes } else { buffer.writeBuffer(&bytes) }
                while let frame = try next(&buffer) { try await handle(frame) }
            }
            end(nil)
        } catch {
            end(error)
            connection.close()
            throw error
        }
    }

    package func close() {
        connection.close()
        end(nil)
    }

    private func next(_ buffer: inout ByteBuffer) throws -> SPDYFrame? {
        // The lock's closure cannot capture an inout buffer twice over: copy in, copy out (a reference each).
        var taken = buffer
        buffer = ByteBuffer()
        defer { buffer = taken }
        return try state.withLock { try $0.codec.read(from: &taken) }
    }

    private func handle(_ frame: SPDYFrame) async throws {
        switch frame {
        case .synStream(let id, let headers, let isFinal):
            let (stream, reply) = try state.withLock { state -> (SPDYStream, ByteBuffer) in
                guard state.streams[id] == nil, id % 2 == (role == .client ? 0 : 1) else {
                    throw WireError.protocolViolation("SPDY stream \(id) opened wrongly")
                }
                guard state.streams.count < Self.streamsMax else { throw WireError.tooLarge("SPDY streams") }
                let stream = SPDYStream(id: id, headers: headers, connection: connection)
                state.streams[id] = stream
                return (stream, try state.codec.synReply(id: id))
            }
            try await connection.write(reply)
            if isFinal { stream.inbound.finish() }
            await accept(stream)
        case .synReply(let id, _, let isFinal), .headers(let id, _, let isFinal):
            if isFinal { stream(id)?.inbound.finish() }
        case .data(let id, let bytes, let isFinal):
            guard let stream = stream(id) else {
                // Data for a stream that is gone: dropped, as the peer may not know yet.
                return
            }
            await stream.inbound.push(bytes)
            if isFinal {
                stream.inbound.finish()
                forgetIfDone(stream)
            }
        case .reset(let id, _):
            let stream = state.withLock { $0.streams.removeValue(forKey: id) }
            stream?.inbound.finish(WireError.closed)
        case .ping(let id):
            // Ours come back with our own parity; the peer's are echoed.
            if id % 2 == (role == .client ? 0 : 1) { try await connection.write(SPDYCodec.ping(id: id)) }
        case .goAway, .ignored: break
        }
    }

    private func stream(_ id: UInt32) -> SPDYStream? { state.withLock { $0.streams[id] } }

    private func forgetIfDone(_ stream: SPDYStream) {
        if stream.isOutputClosed { _ = state.withLock { $0.streams.removeValue(forKey: stream.id) } }
    }

    private func end(_ error: (any Error)?) {
        let streams = state.withLock { state in
            state.ended = true
            defer { state.streams = [:] }
            return Array(state.streams.values)
        }
        for stream in streams { stream.inbound.finish(error) }
    }
}

/// One stream of a SPDY session.
package final class SPDYStream: Sendable {
    static let inboundBytesHigh = 256 * 1024
    /// Data a frame, as upstream's copies of 32 KiB.
    static let dataBytesMax = 32 * 1024

    package let id: UInt32
    package let headers: [(name: String, value: String)]
    let inbound = ByteQueue(highBytes: inboundBytesHigh)
    private let connection: any UpgradedConnection
    private let outputClosed = Atomic(false)

    init(id: UInt32, headers: [(name: String, value: String)], connection: any UpgradedConnection) {
        self.id = id
        self.headers = headers
        self.connection = connection
    }

    package var isOutputClosed: Bool { outputClosed.load(ordering: .relaxed) }

    package func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }

    /// The next bytes; nil when the peer has ended its side. Throws when the connection broke or the stream was reset.
    package func read() async throws -> ByteBuffer? { try await inbound.pop() }

    package func write(_ bytes: ByteBuffer) async throws {
        guard !isOutputClosed else { throw WireError.closed }
        var rest = bytes
        while let piece = rest.readSlice(length: min(Self.dataBytesMax, rest.readableBytes)), piece.readableBytes > 0 {
            try await connection.write(SPDYCodec.data(id: id, piece, isFinal: false))
        }
    }

    /// Ends this side (a data frame with FIN); reading goes on.
    package func closeOutput() async throws {
        guard !outputClosed.exchange(true, ordering: .relaxed) else { return }
        try await connection.write(SPDYCodec.data(id: id, ByteBuffer(), isFinal: true))
    }

    /// Cancels the stream in both directions.
    package func reset() async throws {
        outputClosed.store(true, ordering: .relaxed)
        let cancel: UInt32 = 5
        try await connection.write(SPDYCodec.reset(id: id, status: cancel))
        inbound.finish(WireError.closed)
    }
}
