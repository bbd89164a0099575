import CZlib
import NIOCore

/// One-shot gzip, level 1 (upstream's choice: speed over size).
enum Gzip {
    static let level: Int32 = 1

    /// Nil when zlib refuses (out of memory): the caller then sends plain bytes.
    static func compress(_ buffers: [ByteBuffer]) -> ByteBuffer? {
        var stream = z_stream()
        let windowBits = MAX_WBITS + 16 // +16: gzip wrapper
        guard deflateInit2_(&stream, level, Z_DEFLATED, windowBits, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
                            Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
        defer { deflateEnd(&stream) }
        let size = buffers.reduce(0) { $0 + $1.readableBytes }
        var output = ByteBufferAllocator().buffer(capacity: max(1024, size / 6))
        for (index, buffer) in buffers.enumerated() {
            let last = index == buffers.count - 1
            guard deflatePart(&stream, buffer, last ? Z_FINISH : Z_NO_FLUSH, into: &output) else { return nil }
        }
        if buffers.isEmpty, !deflatePart(&stream, ByteBuffer(), Z_FINISH, into: &output) { return nil }
        return output
    }

    private static func deflatePart(_ stream: inout z_stream, _ input: ByteBuffer, _ flush: Int32, into output: inout ByteBuffer) -> Bool {
        input.withUnsafeReadableBytes { bytes in
            stream.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
            stream.avail_in = UInt32(bytes.count)
            while true {
                var status = Z_OK
                output.writeWithUnsafeMutableBytes(minimumWritableBytes: 16 * 1024) { space in
                    stream.next_out = space.bindMemory(to: UInt8.self).baseAddress
                    stream.avail_out = UInt32(clamping: space.count)
                    let offered = Int(stream.avail_out)
                    status = deflate(&stream, flush)
                    return offered - Int(stream.avail_out)
                }
                if status == Z_STREAM_END { return true }
                if status != Z_OK && status != Z_BUF_ERROR { return false }
                if flush == Z_NO_FLUSH && stream.avail_in == 0 { return true }
            }
        }
    }
}
