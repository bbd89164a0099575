import CZlib
import NIOCore
import Wire

/// The frames of SPDY/3.1 that Kubernetes' streaming protocols use.
enum SPDYFrame {
    case synStream(id: UInt32, headers: [(name: String, value: String)], isFinal: Bool)
    case synReply(id: UInt32, headers: [(name: String, value: String)], isFinal: Bool)
    case reset(id: UInt32, status: UInt32)
    case headers(id: UInt32, headers: [(name: String, value: String)], isFinal: Bool)
    case ping(id: UInt32)
    case goAway
    case data(id: UInt32, bytes: ByteBuffer, isFinal: Bool)
    /// SETTINGS, WINDOW_UPDATE and whatever else: read over. (Flow control is not used: the peers of these protocols have none.)
    case ignored(type: UInt16)
}

/// Reads and writes frames. The zlib state of the header blocks runs through the whole connection, once a direction.
struct SPDYCodec: ~Copyable {
    private static let version: UInt16 = 0x8003
    private static let finFlag: UInt8 = 1
    /// Largest frame taken; containerd and kubelet send at most 32 KiB of data a frame.
    static let frameBytesMax = 4 * 1024 * 1024
    static let headerBlockBytesMax = 256 * 1024

    private enum FrameType {
        static let synStream: UInt16 = 1, synReply: UInt16 = 2, reset: UInt16 = 3, ping: UInt16 = 6, goAway: UInt16 = 7, headers: UInt16 = 8
    }

    private var deflater: UnsafeMutablePointer<z_stream>
    private var inflater: UnsafeMutablePointer<z_stream>

    init() throws {
        deflater = .allocate(capacity: 1)
        inflater = .allocate(capacity: 1)
        deflater.initialize(to: z_stream())
        inflater.initialize(to: z_stream())
        let size = Int32(MemoryLayout<z_stream>.size)
        let ready = deflateInit_(deflater, Z_BEST_SPEED, ZLIB_VERSION, size) == Z_OK
            && inflateInit_(inflater, ZLIB_VERSION, size) == Z_OK
            && deflateSetDictionary(deflater, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count)) == Z_OK
        guard ready else { throw WireError.protocolViolation("zlib cannot be set up") }
    }

    deinit {
        deflateEnd(deflater)
        inflateEnd(inflater)
        deflater.deallocate()
        inflater.deallocate()
    }

    // MARK: - Writing

    mutating func synStream(id: UInt32, headers: [(name: String, value: String)], isFinal: Bool = false) throws -> ByteBuffer {
        var body = ByteBuffer()
        body.writeInteger(id)
        body.writeInteger(UInt32(0)) // no associated stream
        body.writeInteger(UInt16(0)) // priority and credential slot
        try writeHeaders(headers, into: &body)
        return Self.control(FrameType.synStream, flags: isFinal ? Self.finFlag : 0, body)
    }

    mutating func synReply(id: UInt32, headers: [(name: String, value: String)] = [], isFinal: Bool = false) throws -> ByteBuffer {
        var body = ByteBuffer()
        body.writeInteger(id)
        try writeHeaders(headers, into: &body)
        return Self.control(FrameType.synReply, flags: isFinal ? Self.finFlag : 0, body)
    }

    static func reset(id: UInt32, status: UInt32) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeInteger(id)
        body.writeInteger(status)
        return control(FrameType.reset, flags: 0, body)
    }

    static func ping(id: UInt32) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeInteger(id)
        return control(FrameType.ping, flags: 0, body)
    }

    static func goAway(lastGoodID: UInt32) -> ByteBuffer {
        var body = ByteBuffer()
        body.writeInteger(lastGoodID)
        body.writeInteger(UInt32(0))
        return control(FrameType.goAway, flags: 0, body)
    }

    static func data(id: UInt32, _ bytes: ByteBuffer, isFinal: Bool) -> ByteBuffer {
        var bytes = bytes
        var out = ByteBufferAllocator().buffer(capacity: bytes.readableBytes + 8)
        out.writeInteger(id)
        out.writeInteger(UInt32(isFinal ? finFlag : 0) << 24 | UInt32(bytes.readableBytes))
        out.writeBuffer(&bytes)
        return out
    }

    private static func control(_ type: UInt16, flags: UInt8, _ body: ByteBuffer) -> ByteBuffer {
        var body = body
        var out = ByteBufferAllocator().buffer(capacity: body.readableBytes + 8)
        out.writeInteger(version)
        out.writeInteger(type)
        out.writeInteger(UInt32(flags) << 24 | UInt32(body.readableBytes))
        out.writeBuffer(&body)
        return out
    }

    private mutating func writeHeaders(_ headers: [(name: String, value: String)], into out: inout ByteBuffer) throws {
        var block = ByteBuffer()
        block.writeInteger(UInt32(headers.count))
        for (name, value) in headers {
            // Names travel in lower case (SPDY 3.1, 2.6.10).
            for text in [name.lowercased(), value] {
                block.writeInteger(UInt32(text.utf8.count))
                block.writeString(text)
            }
        }
        let stream = deflater
        try block.withUnsafeReadableBytes { bytes in
            stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
            stream.pointee.avail_in = UInt32(bytes.count)
            repeat {
                var status = Z_OK
                out.writeWithUnsafeMutableBytes(minimumWritableBytes: 1024) { space in
                    stream.pointee.next_out = space.bindMemory(to: UInt8.self).baseAddress
                    stream.pointee.avail_out = UInt32(clamping: space.count)
                    let offered = Int(stream.pointee.avail_out)
                    status = deflate(stream, Z_SYNC_FLUSH)
                    return offered - Int(stream.pointee.avail_out)
                }
                guard status == Z_OK || status == Z_BUF_ERROR else { throw WireError.protocolViolation("SPDY header compression") }
            } while stream.pointee.avail_out == 0
        }
    }

    // MARK: - Reading

    /// A whole frame from the front of the buffer; nil when there is none yet. Throws on what is not SPDY/3.1.
    mutating func read(from buffer: inout ByteBuffer) throws -> SPDYFrame? {
        var cursor = buffer
        guard let first = cursor.readInteger(as: UInt32.self), let second = cursor.readInteger(as: UInt32.self) else { return nil }
        let length = Int(second & 0xFF_FFFF), isFinal = UInt8(second >> 24) & Self.finFlag != 0
        guard length <= Self.frameBytesMax else { throw WireError.tooLarge("SPDY frame of \(length) bytes") }
        guard var body = cursor.readSlice(length: length) else { return nil }
        cursor.discardReadBytes()
        buffer = cursor
        guard first & 0x8000_0000 != 0 else { return .data(id: first, bytes: body, isFinal: isFinal) }
        guard UInt16(first >> 16) == Self.version else { throw WireError.protocolViolation("SPDY version \(first >> 16 & 0x7FFF)") }
        let type = UInt16(first & 0xFFFF)
        switch type {
        case FrameType.synStream:
            let id = try Self.streamID(&body)
            body.moveReaderIndex(forwardBy: min(6, body.readableBytes))
            return .synStream(id: id, headers: try readHeaders(body), isFinal: isFinal)
        case FrameType.synReply: return .synReply(id: try Self.streamID(&body), headers: try readHeaders(body), isFinal: isFinal)
        case FrameType.headers: return .headers(id: try Self.streamID(&body), headers: try readHeaders(body), isFinal: isFinal)
        case FrameType.reset:
            let id = try Self.streamID(&body)
            return .reset(id: id, status: body.readInteger() ?? 0)
        case FrameType.ping: return .ping(id: try Self.integer(&body))
        case FrameType.goAway: return .goAway
        default: return .ignored(type: type)
        }
    }

    private static func streamID(_ body: inout ByteBuffer) throws -> UInt32 { try integer(&body) & 0x7FFF_FFFF }

    private static func integer(_ body: inout ByteBuffer) throws -> UInt32 {
        guard let value = body.readInteger(as: UInt32.self) else { throw WireError.protocolViolation("SPDY frame too short") }
        return value
    }

    private mutating func readHeaders(_ body: ByteBuffer) throws -> [(name: String, value: String)] {
        var block = try inflateBlock(body)
        let count = try Self.integer(&block)
        var headers: [(name: String, value: String)] = []
        guard count <= 256 else { throw WireError.tooLarge("\(count) SPDY headers") }
        for _ in 0..<count {
            guard let name = block.readString(length: Int(try Self.integer(&block))),
                  let value = block.readString(length: Int(try Self.integer(&block))) else {
                throw WireError.protocolViolation("SPDY header block too short")
            }
            headers.append((name, value))
        }
        return headers
    }

    private mutating func inflateBlock(_ body: ByteBuffer) throws -> ByteBuffer {
        let stream = inflater
        var out = ByteBuffer()
        try body.withUnsafeReadableBytes { bytes in
            stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
            stream.pointee.avail_in = UInt32(bytes.count)
            while true {
                var status = Z_OK
                out.writeWithUnsafeMutableBytes(minimumWritableBytes: 1024) { space in
                    stream.pointee.next_out = space.bindMemory(to: UInt8.self).baseAddress
                    stream.pointee.avail_out = UInt32(clamping: space.count)
                    let offered = Int(stream.pointee.avail_out)
                    status = inflate(stream, Z_SYNC_FLUSH)
                    return offered - Int(stream.pointee.avail_out)
                }
                if status == Z_NEED_DICT {
                    guard inflateSetDictionary(stream, SPDYDictionary.bytes, UInt32(SPDYDictionary.bytes.count)) == Z_OK else {
                        throw WireError.protocolViolation("SPDY header dictionary")
                    }
                    continue
                }
                guard status == Z_OK || status == Z_BUF_ERROR else { throw WireError.protocolViolation("SPDY header block (zlib \(status))") }
                guard out.readableBytes <= Self.headerBlockBytesMax else { throw WireError.tooLarge("SPDY header block") }
                if stream.pointee.avail_in == 0 && stream.pointee.avail_out > 0 { return }
                if status == Z_BUF_ERROR { return }
            }
        }
        return out
    }
}
