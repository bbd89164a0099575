package import JSON
package import NIOCore
package import Store
import Synchronization

/// One version of one object as it is kept in memory: the encoded bytes, shared by every reader.
///
/// The bytes are those of a list item: without `kind` and `apiVersion`, with the resource version spliced into the metadata. GET and
/// WATCH put the kind in front.
package final class StoredObject: Sendable {
    package let key: String
    package let namespace: String
    package let name: String
    package let revision: Revision
    package let createRevision: Revision
    package let bytes: ByteBuffer
    private let decoded = Mutex(Decoded())

    /// What was read out of the bytes so far.
    private struct Decoded {
        var attributes: ObjectAttributes?
        var tree: JSON?
        /// The tree stays as long as the object.
        var isKept = false
    }

    /// What a stored value begins with: the codec writes metadata first.
    static let metadataPrefix = Array("{\"metadata\":{".utf8)

    package init(record: StoreRecord, namespace: String, name: String) {
        key = record.key
        self.namespace = namespace
        self.name = name
        revision = record.modRevision
        createRevision = record.createRevision
        var buffer = ByteBufferAllocator().buffer(capacity: record.value.count + 44)
        let prefix = Self.metadataPrefix
        if record.value.count > prefix.count, record.value.starts(with: prefix) {
            buffer.writeBytes(prefix)
            buffer.writeString("\"resourceVersion\":\"\(record.modRevision)\"")
            if record.value[prefix.count] != UInt8(ascii: "}") { buffer.writeInteger(UInt8(ascii: ",")) }
            buffer.writeBytes(record.value[prefix.count...])
        } else {
            buffer.writeBytes(record.value)
        }
        bytes = buffer
    }

    /// The decoded value. It is not kept: a tree takes several times the room of its bytes.
    package var json: JSON { decoded.withLock { $0.tree } ?? decode() }

    /// The decoded value of an object that has just changed: several readers in this process look at it soon after one another (informers,
    /// selectors, the next write), so the tree stays a while.
    package var recentJSON: JSON { tree(keeping: false) }

    /// The decoded value of an object that many other requests look at, such as the namespace of what they create: decoded once.
    package var keptJSON: JSON { tree(keeping: true) }

    private func tree(keeping: Bool) -> JSON {
        guard bytes.readableBytes <= RecentTrees.objectBytesMax else { return decode() }
        var isFresh = false
        // Decoded under the lock: a second reader waits some microseconds instead of doing the work again.
        let tree = decoded.withLock { decoded in
            if keeping { decoded.isKept = true }
            if let known = decoded.tree { return known }
            isFresh = true
            let tree = decode()
            decoded.tree = tree
            return tree
        }
        if isFresh, !keeping { RecentTrees.shared.note(self) }
        return tree
    }

    private func decode() -> JSON {
        var duplicates: [String] = []
        return (try? bytes.parseJSON(duplicates: &duplicates)) ?? .null
    }

    fileprivate func forgetTree() {
        // Taken out under the lock, freed after it.
        _ = decoded.withLock { decoded -> JSON? in
            guard !decoded.isKept else { return nil }
            defer { decoded.tree = nil }
            return decoded.tree
        }
    }

    /// What selectors look at, read once.
    package func attributes(_ fields: SelectableFields) -> ObjectAttributes {
        if let known = decoded.withLock({ $0.attributes }) { return known }
        let fresh = ObjectAttributes(json: json, fields: fields)
        decoded.withLock { $0.attributes = fresh }
        return fresh
    }
}

/// The objects whose trees are in memory for now: a ring, so that their number is bounded.
private final class RecentTrees: Sendable {
    static let shared = RecentTrees()
    private static let treesMax = 256
    /// The tree of a larger object is never shared.
    static let objectBytesMax = 16 << 10

    private struct Ring {
        var objects: [StoredObject] = []
        var next = 0
    }

    private let ring = Mutex(Ring())

    func note(_ object: StoredObject) {
        let leaving: StoredObject? = ring.withLock { ring in
            if ring.objects.count < Self.treesMax {
                ring.objects.append(object)
                return nil
            }
            defer {
                ring.objects[ring.next] = object
                ring.next = (ring.next + 1) % Self.treesMax
            }
            return ring.objects[ring.next]
        }
        leaving?.forgetTree()
    }
}

/// Labels and selectable fields of an object.
package struct ObjectAttributes: Sendable {
    package var labels: [String: String]
    package var fields: [String: String]

    init(json: JSON, fields selectable: SelectableFields) {
        var labels: [String: String] = [:]
        for (key, value) in json["metadata"]?["labels"]?.object ?? [:] { labels[key] = value.string ?? "" }
        self.labels = labels
        fields = selectable.values(of: json)
    }
}

/// Encoding for the store: metadata first, no kind, no resource version.
package enum StoredCodec {
    package static func encode(_ object: JSON) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(1024)
        bytes.append(contentsOf: "{\"metadata\":".utf8)
        var metadata = object["metadata"]?.object ?? [:]
        metadata["resourceVersion"] = nil
        metadata["selfLink"] = nil
        JSON.object(metadata).write(into: &bytes)
        for (key, value) in object.object ?? [:] where key != "metadata" && key != "kind" && key != "apiVersion" {
            bytes.append(UInt8(ascii: ","))
            JSON.writeString(key, into: &bytes)
            bytes.append(UInt8(ascii: ":"))
            value.write(into: &bytes)
        }
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}
