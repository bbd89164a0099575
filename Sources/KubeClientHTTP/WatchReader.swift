import AsyncHTTPClient
import JSON
import KubeClient
import KubeMeta
import NIOCore

/// Reads the events of a watch: one JSON object a line, in batches of what has arrived.
///
/// Not an actor, because the body's iterator may not cross into one; unchecked, because the stream that owns the reader calls `next` and
/// waits for its answer before it calls again.
final class WatchReader: @unchecked Sendable {
    /// An event is an object and a few bytes; servers keep objects below a few megabytes.
    private static let eventBytesMax = 64 << 20

    private var body: HTTPClientResponse.Body.AsyncIterator?
    private let host: String
    private var rest = ByteBuffer()
    /// Bytes of `rest` known to hold no line end.
    private var searched = 0
    /// An error that came after events of the same batch.
    private var pending: (any Error)?

    init(_ body: HTTPClientResponse.Body, host: String) {
        self.body = body.makeAsyncIterator()
        self.host = host
    }

    /// The next batch; nil at the end of the watch.
    func next() async throws -> [KubeWatchEvent]? {
        if let pending {
            self.pending = nil
            body = nil
            throw pending
        }
        while var iterator = body {
            body = nil
            let chunk: ByteBuffer?
            do {
                chunk = try await iterator.next()
            } catch {
                throw HTTPTransportError.translate(error, host: host)
            }
            guard var chunk else {
                if rest.readableBytes > 0, !rest.readableBytesView.allSatisfy({ $0 == 0x0A || $0 == 0x20 }) {
                    throw HTTPTransportError.broken("unexpected EOF")
                }
                return nil
            }
            body = iterator
            rest.writeBuffer(&chunk)
            let events = decode()
            if !events.isEmpty { return events }
            if let pending {
                self.pending = nil
                body = nil
                throw pending
            }
        }
        return nil
    }

    private func decode() -> [KubeWatchEvent] {
        var events: [KubeWatchEvent] = []
        while pending == nil {
            let view = rest.readableBytesView
            guard let end = view.dropFirst(searched).firstIndex(of: 0x0A) else {
                searched = view.count
                if searched > Self.eventBytesMax { pending = HTTPTransportError.malformed("an event of the watch is too large") }
                break
            }
            let length = end - view.startIndex
            searched = 0
            guard let line = rest.readSlice(length: length) else { break }
            rest.moveReaderIndex(forwardBy: 1)
            if line.readableBytes == 0 { continue }
            do {
                events.append(try Self.event(line))
            } catch {
                pending = error
            }
        }
        rest.discardReadBytes()
        return events
    }

    private static func event(_ line: ByteBuffer) throws -> KubeWatchEvent {
        let json = try HTTPTransport.parse(line)
        guard let name = json["type"]?.string, let object = json["object"] else {
            throw HTTPTransportError.malformed("an event of the watch has no type or object")
        }
        if name == "ERROR" { throw APIStatus(json: object) ?? APIStatus.internalError("watch failed") }
        guard let type = KubeWatchEvent.EventType(rawValue: name) else {
            throw HTTPTransportError.malformed("an event of the watch has the unknown type \"\(name)\"")
        }
        return KubeWatchEvent(type: type, object: object)
    }
}
