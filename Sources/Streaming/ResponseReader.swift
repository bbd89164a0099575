import NIOCore
import NIOHTTP1
import Wire

/// Reads one HTTP/1.1 response from a connection: the head, then the body piece by piece; what follows a 101 stays raw.
final class ResponseReader: @unchecked Sendable {
    // @unchecked: used by one task at a time.
    static let headBytesMax = 64 * 1024

    private enum Framing { case none, length(Int), chunked(left: Int), untilClose, done }

    let connection: any UpgradedConnection
    private var buffer = ByteBuffer()
    private var framing = Framing.none

    init(connection: any UpgradedConnection) { self.connection = connection }

    /// Throws `WireError.protocolViolation` when the peer does not speak HTTP.
    func readHead(method: HTTPMethod) async throws -> (status: HTTPResponseStatus, headers: HTTPHeaders) {
        while true {
            let lines = try await headLines()
            let parts = (lines.first ?? "").split(separator: " ", maxSplits: 2)
            guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), let code = Int(parts[1]), (100...999).contains(code) else {
                throw WireError.protocolViolation("malformed HTTP response \"\(lines.first ?? "")\"")
            }
            if code < 200 && code != 101 { continue }
            var headers = HTTPHeaders()
            for line in lines.dropFirst() {
                guard let colon = line.firstIndex(of: ":") else { throw WireError.protocolViolation("malformed HTTP header \"\(line)\"") }
                let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
                headers.add(name: String(line[..<colon]), value: String(value))
            }
            let status = HTTPResponseStatus(statusCode: code, reasonPhrase: parts.count > 2 ? String(parts[2]) : "")
            if code == 101 || method == .HEAD || code == 204 || code == 304 {
                framing = .done
            } else if headers.first(name: "transfer-encoding")?.lowercased() == "chunked" {
                framing = .chunked(left: 0)
            } else if let text = headers.first(name: "content-length") {
                guard let length = Int(text), length >= 0 else { throw WireError.protocolViolation("malformed Content-Length \"\(text)\"") }
                framing = .length(length)
            } else {
                framing = .untilClose
            }
            return (status, headers)
        }
    }

    /// The next piece of the body, nil at its end.
    func nextPiece() async throws -> ByteBuffer? {
        switch framing {
        case .none, .done: return nil
        case .untilClose:
            if let rest = takeRest() { return rest }
            return try await connection.read()
        case .length(let left):
            guard left > 0 else { framing = .done; return nil }
            guard let piece = try await take(upTo: left) else { throw WireError.closed }
            framing = .length(left - piece.readableBytes)
            return piece
        case .chunked(var left):
            if left == 0 {
                let line = try await readLine()
                guard let size = Int(line.prefix { $0 != ";" && $0 != " " }, radix: 16), size >= 0 else {
                    throw WireError.protocolViolation("malformed chunk size \"\(line)\"")
                }
                guard size > 0 else {
                    while try await readLine() != "" {}
                    framing = .done
                    return nil
                }
                left = size
            }
            guard let piece = try await take(upTo: left) else { throw WireError.closed }
            left -= piece.readableBytes
            if left == 0 { _ = try await readLine() }
            framing = .chunked(left: left)
            return piece
        }
    }

    /// The raw connection behind a 101, beginning with the bytes already read.
    func upgraded() -> any UpgradedConnection {
        guard let rest = takeRest() else { return connection }
        return PrefixedConnection(prefix: rest, connection: connection)
    }

    private func takeRest() -> ByteBuffer? {
        guard buffer.readableBytes > 0 else { return nil }
        defer { buffer = ByteBuffer() }
        return buffer
    }

    private func take(upTo limit: Int) async throws -> ByteBuffer? {
        if buffer.readableBytes == 0 {
            guard let more = try await connection.read() else { return nil }
            buffer = more
        }
        return buffer.readSlice(length: min(limit, buffer.readableBytes))
    }

    private func readLine() async throws -> String {
        while true {
            let view = buffer.readableBytesView
            if let end = view.firstIndex(of: 10) {
                var line = buffer.readString(length: end - view.startIndex) ?? ""
                buffer.moveReaderIndex(forwardBy: 1)
                if line.utf8.last == 13 { line.unicodeScalars.removeLast() }
                return line
            }
            guard view.count < Self.headBytesMax else { throw WireError.protocolViolation("HTTP line too long") }
            guard var more = try await connection.read() else { throw WireError.closed }
            buffer.writeBuffer(&more)
        }
    }

    private func headLines() async throws -> [String] {
        var lines: [String] = []
        var size = 0
        while true {
            let line = try await readLine()
            if line == "" && !lines.isEmpty { return lines }
            if line != "" { lines.append(line) }
            size += line.utf8.count
            guard size <= Self.headBytesMax else { throw WireError.protocolViolation("HTTP response head too large") }
        }
    }
}

/// A connection with some bytes put back in front.
final class PrefixedConnection: UpgradedConnection, @unchecked Sendable {
    // @unchecked: `prefix` belongs to the one reader.
    private var prefix: ByteBuffer?
    private let connection: any UpgradedConnection

    init(prefix: ByteBuffer, connection: any UpgradedConnection) {
        self.prefix = prefix
        self.connection = connection
    }

    var isOpen: Bool { connection.isOpen }
    func read() async throws -> ByteBuffer? {
        if let prefix { self.prefix = nil; return prefix }
        return try await connection.read()
    }
    func write(_ bytes: ByteBuffer) async throws { try await connection.write(bytes) }
    func closeOutput() async { await connection.closeOutput() }
    func close() { connection.close() }
}
