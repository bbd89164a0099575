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
    private let lazyAttributes = Mutex<ObjectAttributes?>(nil)

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
    package var json: JSON {
        var duplicates: [String] = []
        return (try? bytes.parseJSON(duplicates: &duplicates)) ?? .null
    }

    /// What selectors look at, read once.
    package func attributes(_ fields: SelectableFields) -> ObjectAttributes {
        if let known = lazyAttributes.withLock({ $0 }) { return known }
        let fresh = ObjectAttributes(json: json, fields: fields)
        lazyAttributes.withLock { $0 = fresh }
        return fresh
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
