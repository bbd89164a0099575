/// Addresses of requests, percent-encoded (RFC 3986).
enum RequestURL {
    static func make(server: String, path: String, query: [(name: String, value: String)] = []) -> String {
        var url = server
        while url.utf8.last == UInt8(ascii: "/") { url.removeLast() }
        append(path, to: &url, keeping: isPathByte)
        for (index, item) in query.enumerated() {
            url += index == 0 ? "?" : "&"
            append(item.name, to: &url, keeping: isUnreserved)
            url += "="
            append(item.value, to: &url, keeping: isUnreserved)
        }
        return url
    }

    /// `host:port` as messages name the server.
    static func host(_ server: String) -> String {
        let rest = server.range(of: "://").map { server[$0.upperBound...] } ?? server[...]
        return String(rest.prefix { $0 != "/" })
    }

    private static func append(_ text: String, to url: inout String, keeping: (UInt8) -> Bool) {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            if keeping(byte) {
                bytes.append(byte)
            } else {
                bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        url += String(decoding: bytes, as: UTF8.self)
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    private static func isPathByte(_ byte: UInt8) -> Bool { isUnreserved(byte) || "/:@!$&'()*+,;=".utf8.contains(byte) }
}

extension String {
    /// The first occurrence of a text; the standard library has none that takes a string without Foundation.
    func range(of text: String) -> Range<Index>? { self.ranges(of: text).first }
}
