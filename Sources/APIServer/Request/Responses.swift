import JSON
import KubeMeta
import NIOCore
import NIOHTTP1
import Wire

/// Builds answers.
enum Responses {
    static func json(_ value: JSON, status: HTTPResponseStatus = .ok, pretty: Bool = false, contentType: String = "application/json") -> WireResponse {
        var buffer: ByteBuffer
        if pretty {
            buffer = ByteBuffer(string: value.prettyText)
        } else {
            buffer = ByteBuffer(bytes: value.encoded)
        }
        buffer.writeInteger(UInt8(ascii: "\n"))
        return WireResponse(status: status, headers: ["Content-Type": contentType], body: .bytes(buffer))
    }

    static func status(_ status: APIStatus) -> WireResponse {
        var response = json(status.json, status: HTTPResponseStatus(statusCode: status.code))
        if let seconds = status.retryAfterSeconds { response.headers.add(name: "Retry-After", value: String(seconds)) }
        if status.code == 401 { response.headers.add(name: "WWW-Authenticate", value: "Bearer") }
        return response
    }

    static var pageNotFound: WireResponse { .text(.notFound, "404 page not found\n") }

    /// `{"kind":"Pod","apiVersion":"v1",`
    static func kindPrefix(_ kind: ResourceKind, suffix: String = "") -> [UInt8] {
        Array("{\"kind\":\"\(kind.kind)\(suffix)\",\"apiVersion\":\"\(kind.apiVersion)\",".utf8)
    }

    /// The bytes of one object with its kind in front.
    static func object(_ object: StoredObject, _ kind: ResourceKind, newline: Bool = true) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: object.bytes.readableBytes + 96)
        buffer.writeBytes(kindPrefix(kind))
        buffer.writeImmutableBuffer(object.bytes.getSlice(at: object.bytes.readerIndex + 1, length: object.bytes.readableBytes - 1) ?? ByteBuffer())
        if newline { buffer.writeInteger(UInt8(ascii: "\n")) }
        return buffer
    }

    static func addWarnings(_ warnings: [String], to response: inout WireResponse) {
        for warning in warnings {
            let quoted = warning.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
            response.headers.add(name: "Warning", value: "299 - \"\(quoted)\"")
        }
    }
}
