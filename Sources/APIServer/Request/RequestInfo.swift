import KubeMeta

/// What a path and method ask for (upstream's `RequestInfo`).
package struct RequestInfo: Sendable {
    /// get, list, watch, create, update, patch, delete, deletecollection; or the lower-case HTTP method of a path that is no resource.
    package var verb: String
    package var isResource = false
    package var path: String
    package var group = ""
    package var version = ""
    package var namespace = ""
    package var resource = ""
    package var name = ""
    package var subresource = ""
    /// What follows the subresource: the path behind `proxy`.
    package var rest: [String] = []

    package init(method: String, path: String, isWatch: Bool) {
        self.path = path
        verb = method.lowercased()
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map(String.init)
        var remaining: ArraySlice<String>
        if parts.count >= 2, parts[0] == "api" {
            version = parts[1]
            remaining = parts[2...]
        } else if parts.count >= 3, parts[0] == "apis" {
            group = parts[1]
            version = parts[2]
            remaining = parts[3...]
        } else {
            return
        }
        while remaining.last == "" { remaining = remaining.dropLast() }
        guard let first = remaining.first, !first.isEmpty else { return }
        isResource = true
        var watchesByPath = false
        if first == "watch", remaining.count > 1 {
            watchesByPath = true
            remaining = remaining.dropFirst()
        }
        if remaining.first == "namespaces", remaining.count >= 2 {
            let start = remaining.startIndex
            namespace = remaining[start + 1]
            // `namespaces/x`, `namespaces/x/status` and `namespaces/x/finalize` are the namespace itself.
            let isOwn = remaining.count == 2 || (remaining.count == 3 && ["status", "finalize"].contains(remaining[start + 2]))
            if !isOwn { remaining = remaining.dropFirst(2) }
        }
        var pieces = remaining.makeIterator()
        resource = pieces.next() ?? ""
        name = pieces.next() ?? ""
        subresource = pieces.next() ?? ""
        while let piece = pieces.next() { rest.append(piece) }
        switch method {
        case "GET", "HEAD": verb = name.isEmpty ? (isWatch ? "watch" : "list") : "get"
        case "POST": verb = "create"
        case "PUT": verb = "update"
        case "PATCH": verb = "patch"
        case "DELETE": verb = name.isEmpty ? "deletecollection" : "delete"
        default: break
        }
        if watchesByPath { verb = "watch" }
    }
}

/// Decoded query parameters.
package struct QueryParameters: Sendable {
    private var values: [(name: String, value: String)] = []

    package init(_ query: Substring) {
        guard !query.isEmpty else { return }
        for pair in query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            values.append((PercentCoding.decode(parts[0], plusIsSpace: true), parts.count > 1 ? PercentCoding.decode(parts[1], plusIsSpace: true) : ""))
        }
    }

    package init(_ values: [(name: String, value: String)]) { self.values = values }

    package subscript(name: String) -> String? { values.first { $0.name == name }?.value }
    package func all(_ name: String) -> [String] { values.filter { $0.name == name }.map(\.value) }
    package func flag(_ name: String) -> Bool {
        switch self[name]?.lowercased() {
        case "1", "true", "t", "": self[name] != nil
        default: false
        }
    }
    package var isEmpty: Bool { values.isEmpty }
    package var pairs: [(name: String, value: String)] { values }
}

/// Percent coding of paths and queries (RFC 3986).
package enum PercentCoding {
    package static func decode(_ text: some StringProtocol, plusIsSpace: Bool = false) -> String {
        guard text.utf8.contains(where: { $0 == UInt8(ascii: "%") || (plusIsSpace && $0 == UInt8(ascii: "+")) }) else { return String(text) }
        var bytes: [UInt8] = []
        let source = Array(text.utf8)
        var index = 0
        while index < source.count {
            let byte = source[index]
            if byte == UInt8(ascii: "%"), index + 2 < source.count, let high = hexadecimal(source[index + 1]), let low = hexadecimal(source[index + 2]) {
                bytes.append(high << 4 | low)
                index += 3
                continue
            }
            bytes.append(plusIsSpace && byte == UInt8(ascii: "+") ? 0x20 : byte)
            index += 1
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }

    package static func encode(_ text: String) -> String {
        var bytes: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "~"): bytes.append(byte)
            default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
