/// Standard base64 (RFC 4648, section 4), as the API carries bytes.
package enum Base64 {
    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x41...0x5A: byte - 0x41
        case 0x61...0x7A: byte - 0x61 + 26
        case 0x30...0x39: byte - 0x30 + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }

    /// The place of the first byte that Go's decoder refuses; nil for good text. Line breaks are ignored, as there.
    package static func firstIllegalByte(_ text: String) -> Int? {
        var count = 0
        var padding = 0
        var last = 0
        for (offset, byte) in text.utf8.enumerated() {
            last = offset + 1
            if byte == 0x0A || byte == 0x0D { continue }
            if byte == UInt8(ascii: "=") {
                padding += 1
                guard padding <= 2, count % 4 >= 2, (count + padding) % 4 == 0 || padding == 1 else { return offset }
                continue
            }
            guard padding == 0, digit(byte) != nil else { return offset }
            count += 1
        }
        return (count + padding) % 4 == 0 ? nil : last
    }

    package static func decode(_ text: String) -> [UInt8]? {
        guard firstIllegalByte(text) == nil else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count * 3 / 4)
        var buffer: UInt32 = 0
        var bits = 0
        for byte in text.utf8 {
            guard let value = digit(byte) else { continue }
            buffer = buffer << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: buffer >> UInt32(bits)))
            }
        }
        return bytes
    }

    package static func encode(_ bytes: some Collection<UInt8>, urlSafe: Bool = false) -> String {
        let digits = Array((urlSafe ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/").utf8)
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        var buffer: UInt32 = 0
        var bits = 0
        for byte in bytes {
            buffer = buffer << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                text.append(digits[Int(buffer >> UInt32(bits) & 63)])
            }
        }
        if bits > 0 { text.append(digits[Int(buffer << UInt32(6 - bits) & 63)]) }
        if !urlSafe { while text.count % 4 != 0 { text.append(UInt8(ascii: "=")) } }
        return String(decoding: text, as: UTF8.self)
    }
}
