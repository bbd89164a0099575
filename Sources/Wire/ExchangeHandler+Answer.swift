import NIOCore
import NIOHTTP1

/// Writing answers: HTTP/1.1 bytes, or HTTP/2 parts.
extension ExchangeHandler {
    /// Bytes written between two checks of writability.
    private static let sliceBytes = 256 * 1024
    private static let smallBufferBytes = 8 * 1024

    func answer(_ response: WireResponse, method: HTTPMethod, acceptsChunks: Bool) async {
        guard isOpen else { return }
        var response = response
        if response.closesConnection { closeAfterAnswer() }
        if response.gzip { await compress(&response) }
        do {
            switch response.body {
            case .none: sendJoined(response, body: nil, length: 0, method: method)
            case .bytes(let bytes):
                if method == .HEAD || bytes.readableBytes <= Self.joinedBodyBytesMax {
                    sendJoined(response, body: method == .HEAD ? nil : bytes, length: bytes.readableBytes, method: method)
                } else {
                    try await sendLarge(response, [bytes], length: bytes.readableBytes)
                }
            case .buffers(let buffers):
                let length = buffers.reduce(0) { $0 + $1.readableBytes }
                if method == .HEAD {
                    sendJoined(response, body: nil, length: length, method: method)
                } else {
                    try await sendLarge(response, buffers, length: length)
                }
            case .stream(let produce): return await sendStream(response, produce, method: method, chunked: acceptsChunks)
            case .upgrade(let name, let run): return await sendUpgrade(response, name, run)
            }
            // A client that pipelines requests without reading the answers waits here.
            try await waitUntilWritable()
            finished()
        } catch {
            cutOff()
        }
    }

    private func compress(_ response: inout WireResponse) async {
        let buffers: [ByteBuffer]
        switch response.body {
        case .bytes(let bytes): buffers = [bytes]
        case .buffers(let many): buffers = many
        case .none, .stream, .upgrade: return
        }
        let size = buffers.reduce(0) { $0 + $1.readableBytes }
        // A large list would hold the loop for long: compress it on the shared pool.
        let packed = size <= Self.gzipInlineBytesMax
            ? Gzip.compress(buffers) : await Task.detached(executorPreference: globalConcurrentExecutor) { Gzip.compress(buffers) }.value
        guard let packed else { return }
        response.headers.replaceOrAdd(name: "Content-Encoding", value: "gzip")
        response.headers.add(name: "Vary", value: "Accept-Encoding")
        response.body = .bytes(packed)
    }

    // MARK: - Heads

    func writeContinue() {
        guard let context else { return }
        switch version {
        case .http1: context.writeAndFlush(NIOAny(ByteBuffer(string: "HTTP/1.1 100 Continue\r\n\r\n")), promise: nil)
        case .http2:
            let part = HTTPServerResponsePart.head(HTTPResponseHead(version: .http2, status: .continue))
            context.writeAndFlush(NIOAny(part), promise: nil)
        }
    }

    private enum Framing { case length(Int), chunked, untilClose, upgrade(String) }

    /// The head of an HTTP/1.1 answer, with room behind it for `extra` bytes.
    private func head1(_ response: WireResponse, _ framing: Framing, extra: Int) -> ByteBuffer {
        var out = context?.channel.allocator.buffer(capacity: 512 + extra) ?? ByteBuffer()
        if response.status == .ok {
            out.writeStaticString("HTTP/1.1 200 OK\r\n")
        } else {
            out.writeStaticString("HTTP/1.1 ")
            out.writeString(String(response.status.code))
            out.writeStaticString(" ")
            out.writeString(response.status.reasonPhrase)
            out.writeStaticString("\r\n")
        }
        for (name, value) in response.headers {
            out.writeString(name)
            out.writeStaticString(": ")
            Self.writeValue(value, into: &out)
            out.writeStaticString("\r\n")
        }
        out.writeStaticString("Date: ")
        out.writeString(loop.date)
        switch framing {
        case .length(let length):
            // RFC 9110, 8.6: no Content-Length with 1xx and 204.
            if response.status.mayHaveResponseBody || response.status == .notModified {
                out.writeStaticString("\r\nContent-Length: ")
                out.writeString(String(length))
            }
        case .chunked: out.writeStaticString("\r\nTransfer-Encoding: chunked")
        case .untilClose: closeAfterAnswer()
        case .upgrade(let name):
            out.writeStaticString("\r\nConnection: Upgrade\r\nUpgrade: ")
            out.writeString(name)
        }
        if case .upgrade = framing {} else if closesAfterAnswer { out.writeStaticString("\r\nConnection: close") }
        out.writeStaticString("\r\n\r\n")
        return out
    }

    /// A header value never breaks its line, whatever a handler puts in it.
    private static func writeValue(_ value: String, into out: inout ByteBuffer) {
        if value.utf8.contains(where: { $0 == 13 || $0 == 10 || $0 == 0 }) {
            out.writeBytes(value.utf8.map { $0 == 13 || $0 == 10 || $0 == 0 ? 32 : $0 })
        } else {
            out.writeString(value)
        }
    }

    private func head2(_ response: WireResponse, length: Int?) -> HTTPServerResponsePart {
        var headers = response.headers
        headers.add(name: "date", value: loop.date)
        if let length, response.status.mayHaveResponseBody { headers.replaceOrAdd(name: "content-length", value: String(length)) }
        return .head(HTTPResponseHead(version: .http2, status: response.status, headers: headers))
    }

    // MARK: - Bodies

    private func sendJoined(_ response: WireResponse, body: ByteBuffer?, length: Int, method: HTTPMethod) {
        guard let context else { return }
        switch version {
        case .http1:
            var out = head1(response, .length(length), extra: body?.readableBytes ?? 0)
            if var body { out.writeBuffer(&body) }
            context.writeAndFlush(NIOAny(out), promise: nil)
        case .http2:
            context.write(NIOAny(head2(response, length: length)), promise: nil)
            if let body, body.readableBytes > 0 { context.write(NIOAny(HTTPServerResponsePart.body(.byteBuffer(body))), promise: nil) }
            context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
        }
    }

    /// Writes in slices, waiting for the socket between them: a slow reader of a large list costs no memory.
    private func sendLarge(_ response: WireResponse, _ buffers: [ByteBuffer], length: Int) async throws {
        var staging: ByteBuffer
        switch version {
        case .http1: staging = head1(response, .length(length), extra: Self.joinedBodyBytesMax)
        case .http2:
            context?.write(NIOAny(head2(response, length: length)), promise: nil)
            staging = ByteBuffer()
        }
        var unflushed = 0
        for buffer in buffers {
            var rest = buffer
            // Small pieces are joined so that each does not become a TLS record of its own.
            if rest.readableBytes <= Self.smallBufferBytes && staging.readableBytes + rest.readableBytes <= Self.joinedBodyBytesMax {
                staging.writeBuffer(&rest)
                continue
            }
            unflushed += put(staging)
            staging = context?.channel.allocator.buffer(capacity: Self.joinedBodyBytesMax) ?? ByteBuffer()
            if rest.readableBytes <= Self.smallBufferBytes {
                staging.writeBuffer(&rest)
            } else {
                while let slice = rest.readSlice(length: min(Self.sliceBytes, rest.readableBytes)), slice.readableBytes > 0 {
                    unflushed += put(slice)
                    if unflushed >= Self.sliceBytes {
                        unflushed = 0
                        context?.flush()
                        try await waitUntilWritable()
                    }
                }
            }
            if unflushed >= Self.sliceBytes {
                unflushed = 0
                context?.flush()
                try await waitUntilWritable()
            }
        }
        _ = put(staging)
        guard let context, isOpen else { throw WireError.closed }
        if version == .http2 { context.write(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil) }
        context.flush()
    }

    private func put(_ bytes: ByteBuffer) -> Int {
        guard bytes.readableBytes > 0, let context else { return 0 }
        switch version {
        case .http1: context.write(NIOAny(bytes), promise: nil)
        case .http2: context.write(NIOAny(HTTPServerResponsePart.body(.byteBuffer(bytes))), promise: nil)
        }
        return bytes.readableBytes
    }

    // MARK: - Streams

    private func sendStream(_ response: WireResponse, _ produce: @Sendable (any WireWriter) async throws -> Void,
                            method: HTTPMethod, chunked: Bool) async {
        guard let context else { return }
        switch version {
        case .http1: context.writeAndFlush(NIOAny(head1(response, chunked ? .chunked : .untilClose, extra: 0)), promise: nil)
        case .http2: context.writeAndFlush(NIOAny(head2(response, length: nil)), promise: nil)
        }
        beginStreaming()
        if method != .HEAD {
            do {
                try await produce(ExchangeWriter(exchange: self, chunked: version == .http1 && chunked))
            } catch {
                // A shutdown ends streams cleanly; anything else must be visible to the client as a cut.
                guard isQuiescing, error is CancellationError || error is WireError else { return cutOff() }
            }
        }
        await hopToLoop()
        guard let context = self.context, isOpen else { return }
        switch version {
        case .http1:
            if chunked && method != .HEAD { context.writeAndFlush(NIOAny(ByteBuffer(staticString: "0\r\n\r\n")), promise: nil) }
        case .http2: context.writeAndFlush(NIOAny(HTTPServerResponsePart.end(nil)), promise: nil)
        }
        finished()
    }

    private func sendUpgrade(_ response: WireResponse, _ name: String, _ run: @Sendable (any UpgradedConnection) async throws -> Void) async {
        guard version == .http1, let context else {
            sendJoined(.text(.badRequest, "connection upgrades need HTTP/1.1\n"), body: nil, length: 0, method: .HEAD)
            return finished()
        }
        context.writeAndFlush(NIOAny(head1(response, .upgrade(name), extra: 0)), promise: nil)
        guard let raw = try? await upgrade() else { return cutOff() }
        try? await run(raw)
        raw.close()
    }

    /// A closure may come back on another thread when it switched executors.
    private func hopToLoop() async {
        if !loop.eventLoop.inEventLoop { try? await loop.eventLoop.submit {}.get() }
    }

    /// One piece of a stream, flushed at once.
    func writePiece(_ bytes: ByteBuffer, chunked: Bool) throws {
        guard let context, isOpen else { throw WireError.closed }
        guard bytes.readableBytes > 0 else { return }
        guard version == .http1 else {
            context.writeAndFlush(NIOAny(HTTPServerResponsePart.body(.byteBuffer(bytes))), promise: nil)
            return
        }
        guard chunked else {
            context.writeAndFlush(NIOAny(bytes), promise: nil)
            return
        }
        var bytes = bytes
        let size = String(bytes.readableBytes, radix: 16)
        if bytes.readableBytes <= Self.joinedBodyBytesMax {
            var out = context.channel.allocator.buffer(capacity: bytes.readableBytes + 16)
            out.writeString(size)
            out.writeStaticString("\r\n")
            out.writeBuffer(&bytes)
            out.writeStaticString("\r\n")
            context.writeAndFlush(NIOAny(out), promise: nil)
        } else {
            context.write(NIOAny(ByteBuffer(string: size + "\r\n")), promise: nil)
            context.write(NIOAny(bytes), promise: nil)
            context.writeAndFlush(NIOAny(ByteBuffer(staticString: "\r\n")), promise: nil)
        }
    }
}

/// The writer a stream's closure gets.
struct ExchangeWriter: WireWriter {
    let exchange: ExchangeHandler
    let chunked: Bool

    var isOpen: Bool { exchange.isOpen }

    func write(_ bytes: ByteBuffer) async throws {
        try Task.checkCancellation()
        let loop = exchange.loop.eventLoop
        if loop.inEventLoop {
            try exchange.writePiece(bytes, chunked: chunked)
        } else {
            try await loop.submit { try exchange.writePiece(bytes, chunked: chunked) }.get()
        }
        try await loop.flatSubmitOnLoop { exchange.writability() }
    }

    func waitForClose() async {
        let future = exchange.loop.eventLoop.flatSubmit { exchange.waitForClose() }
        try? await future.get()
    }
}

extension EventLoop {
    /// Runs the closure on the loop and waits for its future; no wait at all when it gives none.
    func flatSubmitOnLoop(_ body: @escaping @Sendable () -> EventLoopFuture<Void>?) async throws {
        if inEventLoop {
            if let future = body() { try await future.get() }
        } else {
            try await flatSubmit { body() ?? self.makeSucceededVoidFuture() }.get()
        }
    }
}
