package import NIOCore
package import Wire

/// What a client of exec or attach sends.
package enum RemoteCommandInput: Sendable, Equatable {
    case standardInput(ByteBuffer)
    /// v5: the client has closed its standard input and stays for the output.
    case standardInputClosed
    /// JSON: `{"Width":80,"Height":24}`.
    case resize(ByteBuffer)
}

/// One exec or attach session as its client sees it. One task reads, any may write.
package protocol RemoteCommandStreams: Sendable {
    /// The next input; nil when the client has gone.
    func nextInput() async throws -> RemoteCommandInput?
    func writeStandardOutput(_ bytes: ByteBuffer) async throws
    func writeStandardError(_ bytes: ByteBuffer) async throws
    /// Ends the session. `statusJSON` is a `metav1.Status` object.
    func finish(statusJSON: ByteBuffer) async throws
}

/// The WebSocket channel protocols of exec and attach: the first byte of a message is the channel
/// (0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; v5 adds 255: close the channel that follows).
package final class WebSocketRemoteCommand: RemoteCommandStreams {
    /// Newest first. "" is a client that names none: the oldest, binary, protocol.
    package static let subprotocols = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
                                       "base64.channel.k8s.io", ""]

    package enum Channel {
        package static let standardInput: UInt8 = 0, standardOutput: UInt8 = 1, standardError: UInt8 = 2, error: UInt8 = 3, resize: UInt8 = 4
        package static let close: UInt8 = 255
    }

    private let socket: WebSocketConnection
    private let isBase64: Bool
    /// v4 and later end with a Status object, the oldest protocol with its message as text (nothing on success).
    private let sendsStatus: Bool
    private let hasClose: Bool

    package init(socket: WebSocketConnection, subprotocol: String) {
        self.socket = socket
        isBase64 = subprotocol.hasSuffix("base64.channel.k8s.io")
        sendsStatus = subprotocol.hasPrefix("v")
        hasClose = subprotocol == "v5.channel.k8s.io"
    }

    /// An empty message on a channel the client listens to: upstream's sign that the session is up.
    package func announce(channel: UInt8 = Channel.standardOutput) async throws { try await send(channel, ByteBuffer()) }

    package func nextInput() async throws -> RemoteCommandInput? {
        while let message = try await socket.next() {
            var bytes: ByteBuffer
            switch message {
            case .binary(let payload): bytes = payload
            case .text(let payload): bytes = payload
            }
            guard var channel = bytes.readInteger(as: UInt8.self) else { continue }
            if isBase64 {
                // The channel is a digit character in the base64 protocols.
                channel = channel &- UInt8(ascii: "0")
                guard let decoded = Base64.decode(bytes.readableBytesView) else {
                    await socket.close(.protocolError, reason: "bad base64")
                    throw WireError.protocolViolation("bad base64 in a channel message")
                }
                bytes = ByteBuffer(bytes: decoded)
            }
            switch channel {
            case Channel.standardInput where bytes.readableBytes > 0: return .standardInput(bytes)
            case Channel.resize where bytes.readableBytes > 0: return .resize(bytes)
            case Channel.close where hasClose:
                if bytes.readInteger(as: UInt8.self) == Channel.standardInput { return .standardInputClosed }
            default: break
            }
        }
        return nil
    }

    package func writeStandardOutput(_ bytes: ByteBuffer) async throws { try await send(Channel.standardOutput, bytes) }
    package func writeStandardError(_ bytes: ByteBuffer) async throws { try await send(Channel.standardError, bytes) }

    package func finish(statusJSON: ByteBuffer) async throws {
        if sendsStatus {
            try await send(Channel.error, statusJSON)
        } else if let message = Self.failureMessage(statusJSON) {
            try await send(Channel.error, ByteBuffer(string: message))
        }
        await socket.close(.normal)
    }

    private func send(_ channel: UInt8, _ bytes: ByteBuffer) async throws {
        guard isBase64 else { return try await socket.sendBinary(channel: channel, bytes) }
        var text = ByteBuffer(bytes: [channel + UInt8(ascii: "0")])
        text.writeBytes(Base64.encode(bytes.readableBytesView))
        try await socket.send(.text(text))
    }

    /// The message of a failed Status; nil on success. This module has no JSON: it looks for the one string it needs.
    private static func failureMessage(_ statusJSON: ByteBuffer) -> String? {
        let text = String(buffer: statusJSON)
        let compact = text.filter { $0 != " " && $0 != "\n" }
        guard !compact.contains("\"status\":\"Success\"") else { return nil }
        guard let key = text.range(of: "\"message\":") else { return text }
        var message = "", escaped = false, opened = false
        for character in text[key.upperBound...] {
            if !opened { opened = character == "\""; continue }
            if escaped {
                message.append(character == "n" ? "\n" : character == "t" ? "\t" : character)
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == "\"" {
                return message
            } else {
                message.append(character)
            }
        }
        return text
    }
}

extension String {
    /// The first occurrence of a text (the standard library has none without Foundation).
    fileprivate func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
