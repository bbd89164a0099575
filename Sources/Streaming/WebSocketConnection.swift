package import NIOCore
import Synchronization
package import Wire

/// Messages over a WebSocket (RFC 6455). Fragments are joined, pings answered, the closing handshake done.
package final class WebSocketConnection: Sendable {
    package enum Role: Sendable { case server, client }

    package enum Message: Sendable, Equatable {
        case text(ByteBuffer)
        case binary(ByteBuffer)
    }

    /// Close codes (RFC 6455, 7.4.1).
    package enum CloseCode: UInt16, Sendable {
        case normal = 1000, goingAway = 1001, protocolError = 1002, messageTooBig = 1009, internalError = 1011
    }

    private enum Opcode {
        static let continuation: UInt8 = 0, text: UInt8 = 1, binary: UInt8 = 2, close: UInt8 = 8, ping: UInt8 = 9, pong: UInt8 = 10
    }

    /// Largest message taken from a client, fragments joined.
    package static let messageBytesMax = 4 * 1024 * 1024

    private struct Frame {
        var isFinal: Bool
        var opcode: UInt8
        var payload: ByteBuffer
    }

    private struct State {
        var buffer = ByteBuffer()
        var message: ByteBuffer?
        var messageOpcode: UInt8 = 0
        var closeSent = false
    }

    private let connection: any UpgradedConnection
    private let role: Role
    private let state = Mutex(State())

    package init(connection: any UpgradedConnection, role: Role = .server) {
        self.connection = connection
        self.role = role
    }

    package var isOpen: Bool { connection.isOpen }

    /// The next message; nil when the peer has closed. One reader at a time. On a violation the connection is closed with
    /// its code and the error thrown.
    package func next() async throws -> Message? {
        do {
            while true {
                guard let frame = try nextBufferedFrame() else {
                    guard var more = try await connection.read() else { return nil }
                    state.withLock { state in
                        if state.buffer.readableBytes == 0 { state.buffer = more } else { state.buffer.writeBuffer(&more) }
                    }
                    continue
                }
                switch frame.opcode {
                case Opcode.ping: try await send(Opcode.pong, frame.payload)
                case Opcode.pong: break
                case Opcode.close:
                    await close(.normal)
                    return nil
                default:
                    if let message = try join(frame) { return message }
                }
            }
        } catch let error as WireError {
            switch error {
            case .tooLarge: await close(.messageTooBig)
            case .protocolViolation: await close(.protocolError)
            default: break
            }
            throw error
        }
    }

    package func send(_ message: Message) async throws {
        switch message {
        case .text(let bytes): try await send(Opcode.text, bytes)
        case .binary(let bytes): try await send(Opcode.binary, bytes)
        }
    }

    /// Sends one binary message made of a leading byte and the payload (the channel protocols).
    package func sendBinary(channel: UInt8, _ payload: ByteBuffer) async throws {
        var payload = payload
        var bytes = ByteBufferAllocator().buffer(capacity: payload.readableBytes + 1)
        bytes.writeInteger(channel)
        bytes.writeBuffer(&payload)
        try await send(Opcode.binary, bytes)
    }

    package func ping() async throws { try await send(Opcode.ping, ByteBuffer()) }

    /// Sends the close frame once. The peer's own close frame is awaited by `next()`, or not at all.
    package func close(_ code: CloseCode, reason: String = "") async {
        guard state.withLock({ state in
            defer { state.closeSent = true }
            return !state.closeSent
        }) else { return }
        var payload = ByteBuffer()
        payload.writeInteger(code.rawValue)
        payload.writeString(String(reason.utf8.prefix(120)) ?? "")
        try? await connection.write(frame(Opcode.close, payload))
    }

    /// Closes without a handshake.
    package func abort() { connection.close() }

    private func send(_ opcode: UInt8, _ payload: ByteBuffer) async throws {
        guard state.withLock({ !$0.closeSent }) else { throw WireError.closed }
        try await connection.write(frame(opcode, payload))
    }

    // MARK: - Frames

    private func frame(_ opcode: UInt8, _ payload: ByteBuffer) -> ByteBuffer {
        var payload = payload
        let count = payload.readableBytes
        var out = ByteBufferAllocator().buffer(capacity: count + 14)
        out.writeInteger(0x80 | opcode)
        let maskBit: UInt8 = role == .client ? 0x80 : 0
        if count < 126 {
            out.writeInteger(maskBit | UInt8(count))
        } else if count <= 0xFFFF {
            out.writeInteger(maskBit | 126)
            out.writeInteger(UInt16(count))
        } else {
            out.writeInteger(maskBit | 127)
            out.writeInteger(UInt64(count))
        }
        guard role == .client else {
            out.writeBuffer(&payload)
            return out
        }
        let mask = (0..<4).map { _ in UInt8.random(in: 0...255) }
        out.writeBytes(mask)
        out.writeBytes(payload.readableBytesView.enumerated().map { $1 ^ mask[$0 & 3] })
        return out
    }

    /// A whole frame out of the bytes at hand; nil when there is none yet.
    private func nextBufferedFrame() throws -> Frame? {
        try state.withLock { state in
            var cursor = state.buffer
            guard let first = cursor.readInteger(as: UInt8.self), let second = cursor.readInteger(as: UInt8.self) else { return nil }
            guard first & 0x70 == 0 else { throw WireError.protocolViolation("WebSocket extension bits set") }
            let opcode = first & 0x0F, isFinal = first & 0x80 != 0, isMasked = second & 0x80 != 0
            guard isMasked == (role == .server) else { throw WireError.protocolViolation("WebSocket mask bit") }
            var length = UInt64(second & 0x7F)
            if length == 126 {
                guard let long = cursor.readInteger(as: UInt16.self) else { return nil }
                length = UInt64(long)
            } else if length == 127 {
                guard let long = cursor.readInteger(as: UInt64.self) else { return nil }
                length = long
            }
            guard opcode < 8 || (length <= 125 && isFinal) else { throw WireError.protocolViolation("WebSocket control frame too long") }
            guard opcode <= 2 || (8...10).contains(opcode) else { throw WireError.protocolViolation("WebSocket opcode \(opcode)") }
            guard length <= UInt64(Self.messageBytesMax) else { throw WireError.tooLarge("WebSocket message too large") }
            var mask: [UInt8] = []
            if isMasked {
                guard let bytes = cursor.readBytes(length: 4) else { return nil }
                mask = bytes
            }
            guard var payload = cursor.readSlice(length: Int(length)) else { return nil }
            if isMasked, payload.readableBytes > 0 {
                payload.withUnsafeMutableReadableBytes { bytes in
                    for index in bytes.indices { bytes[index] ^= mask[index & 3] }
                }
            }
            cursor.discardReadBytes()
            state.buffer = cursor
            return Frame(isFinal: isFinal, opcode: opcode, payload: payload)
        }
    }

    private func join(_ frame: Frame) throws -> Message? {
        try state.withLock { state in
            var payload = frame.payload
            if frame.opcode == Opcode.continuation {
                guard var message = state.message else { throw WireError.protocolViolation("WebSocket continuation without a start") }
                guard message.readableBytes + payload.readableBytes <= Self.messageBytesMax else {
                    throw WireError.tooLarge("WebSocket message too large")
                }
                state.message = nil
                message.writeBuffer(&payload)
                state.message = message
            } else {
                guard state.message == nil else { throw WireError.protocolViolation("WebSocket message inside another") }
                state.message = payload
                state.messageOpcode = frame.opcode
            }
            guard frame.isFinal, let message = state.message else { return nil }
            state.message = nil
            return state.messageOpcode == Opcode.text ? .text(message) : .binary(message)
        }
    }
}
