import Glibc
import NIOPosix
import Synchronization

/// A bearer token in a file that another program may replace (a mounted service account token, for example).
final class TokenFile: Sendable {
    /// As client-go: the file is looked at this often.
    private static let checkSeconds = 10.0
    private static let bytesMax = 1 << 20

    private struct State {
        var token = ""
        var checkedSeconds = -Double.infinity
    }

    private let path: String
    private let state = Mutex(State())

    init(path: String) { self.path = path }

    /// The token as it is now.
    func token() async throws -> String {
        let now = Self.monotonicSeconds()
        if let token = state.withLock({ now - $0.checkedSeconds < Self.checkSeconds ? $0.token : nil }) { return token }
        let path = path
        do {
            let text = try await NIOThreadPool.singleton.runIfActive { try Self.read(path) }
            state.withLock { $0 = State(token: text, checkedSeconds: now) }
            return text
        } catch {
            // A file that is being replaced may be away for a moment: the old token is as good as it was.
            if let old = state.withLock({ $0.token.isEmpty ? nil : $0.token }) { return old }
            throw error
        }
    }

    /// Forgets the token, so that the next request reads the file: for a server that has refused it.
    func invalidate() { state.withLock { $0.checkedSeconds = -.infinity } }

    private static func read(_ path: String) throws -> String {
        let text = String(decoding: try FileBytes.read(path, bytesMax: bytesMax), as: UTF8.self)
        guard let first = text.firstIndex(where: { !$0.isWhitespace }), let last = text.lastIndex(where: { !$0.isWhitespace }) else {
            throw HTTPTransportError.configuration("token file \"\(path)\" is empty")
        }
        return String(text[first...last])
    }

    private static func monotonicSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// Whole small files, without Foundation. Blocks: start-up, or a thread pool, only.
enum FileBytes {
    static func read(_ path: String, bytesMax: Int) throws -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while true {
            let count = withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { buffer in
                let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                if count > 0 { bytes.append(contentsOf: buffer[0..<count]) }
                return count
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure(path)
            }
            if count == 0 { return bytes }
            guard bytes.count <= bytesMax else { throw HTTPTransportError.configuration("\(path): file is too large") }
        }
    }

    private static func failure(_ path: String) -> HTTPTransportError {
        .configuration("open \(path): \(String(cString: strerror(errno)).lowercased())")
    }
}
