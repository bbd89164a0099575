import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import Wire

/// Watches: a stream of change frames made from the stored bytes.
extension APIServer {
    /// A watch without a time limit ends after this and twice this (upstream's `--min-request-timeout`).
    private static let watchSecondsMin = 1800.0
    private static let bookmarkSeconds = 60.0

    func watch(_ resource: ResourceSchema, _ context: RequestContext) throws -> WireResponse {
        let negotiation = try context.negotiation()
        let options = try listOptions(resource, context)
        let kind = resource.identity
        let subscription: WatchSubscription
        do {
            subscription = try registry.watch(resource, options)
        } catch let status as APIStatus where status.code == 410 {
            // The watch begins, and its first event is the error: clients look for it there.
            return stream(negotiation) { writer in
                try await writer.write(Self.frame("ERROR", ByteBuffer(bytes: status.json.encoded)))
            }
        }
        let limit = options.timeoutSeconds.map { Double($0) } ?? Double.random(in: Self.watchSecondsMin...(Self.watchSecondsMin * 2))
        let time = time
        let includeObject = context.query["includeObject"]
        let wantsBookmarks = options.bookmarks
        let shape = negotiation.shape
        return stream(negotiation) { [self] writer in
            defer { subscription.close() }
            let end = time.now() + limit
            let clock = Task {
                // Wakes the loop for bookmarks and for the end.
                while !Task.isCancelled {
                    let left = end - time.now()
                    try await time.sleep(seconds: max(0.01, min(left, Self.bookmarkSeconds)))
                    subscription.wake()
                }
            }
            defer { clock.cancel() }
            var lastBookmark = time.now()
            var sentColumns = false
            while writer.isOpen {
                let batch = await subscription.next()
                var out = ByteBuffer()
                switch batch {
                case .events(let events):
                    for event in events {
                        let object: ByteBuffer
                        switch shape {
                        case .object:
                            object = Views.isView(kind)
                                ? ByteBuffer(bytes: view(event.object, kind).encoded) : Responses.object(event.object, kind, newline: false)
                        case .table:
                            var table = Tables.table([view(event.object, kind)], kind, now: time.now(), includeObject: includeObject)
                            table["metadata"] = ["resourceVersion": .string(String(event.object.revision))]
                            if sentColumns { table["columnDefinitions"] = nil }
                            sentColumns = true
                            object = ByteBuffer(bytes: table.encoded)
                        case .partialMetadata, .partialMetadataList: object = ByteBuffer(bytes: partial(event.object.json).encoded)
                        }
                        Self.write(event.kind, object, into: &out)
                    }
                case .initialEventsEnd(let revision):
                    if wantsBookmarks { out = Self.bookmark(kind, shape, revision, initialEnd: true) }
                case .closed(let tooSlow):
                    if tooSlow {
                        let status = APIStatus.expired("the watch fell too far behind and was closed")
                        try await writer.write(Self.frame("ERROR", ByteBuffer(bytes: status.json.encoded)))
                    }
                    return
                }
                if out.readableBytes > 0 { try await writer.write(out) }
                let now = time.now()
                if now >= end { return }
                if wantsBookmarks, now - lastBookmark >= Self.bookmarkSeconds * 0.95,
                    let revision = subscription.bookmark(applied: hub.revision)
                {
                    lastBookmark = now
                    try await writer.write(Self.bookmark(kind, shape, revision, initialEnd: false))
                }
            }
        }
    }

    private func stream(_ negotiation: Negotiation, _ body: @escaping @Sendable (any WireWriter) async throws -> Void) -> WireResponse {
        WireResponse(status: .ok, headers: ["Content-Type": "application/json", "Cache-Control": "no-cache, private"], body: .stream(body))
    }

    private static func write(_ kind: CacheEvent.Kind, _ object: ByteBuffer, into buffer: inout ByteBuffer) {
        switch kind {
        case .added: buffer.writeStaticString("{\"type\":\"ADDED\",\"object\":")
        case .modified: buffer.writeStaticString("{\"type\":\"MODIFIED\",\"object\":")
        case .deleted: buffer.writeStaticString("{\"type\":\"DELETED\",\"object\":")
        }
        buffer.writeImmutableBuffer(object)
        buffer.writeStaticString("}\n")
    }

    private static func frame(_ type: String, _ object: ByteBuffer) -> ByteBuffer {
        var buffer = ByteBuffer(string: "{\"type\":\"\(type)\",\"object\":")
        buffer.writeImmutableBuffer(object)
        buffer.writeString("}\n")
        return buffer
    }

    private static func bookmark(_ kind: ResourceKind, _ shape: Negotiation.Shape, _ revision: Int64, initialEnd: Bool) -> ByteBuffer {
        var metadata: JSON = ["resourceVersion": .string(String(revision)), "creationTimestamp": .null]
        if initialEnd { metadata["annotations"] = ["k8s.io/initial-events-end": "true"] }
        var object: JSON
        switch shape {
        case .object: object = ["kind": .string(kind.kind), "apiVersion": .string(kind.apiVersion), "metadata": metadata]
        case .table:
            object = ["kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": .null, "rows": []]
        case .partialMetadata, .partialMetadataList:
            object = ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata]
        }
        return frame("BOOKMARK", ByteBuffer(bytes: object.encoded))
    }
}
