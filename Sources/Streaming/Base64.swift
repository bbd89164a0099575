/// RFC 4648 base64, standard alphabet with padding.
enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encode(_ bytes: some Collection<UInt8>) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity((bytes.count + 2) / 3 * 4)
        var word: UInt32 = 0, count = 0
        func emit(_ characters: Int) {
            for index in 0..<4 { out.append(index < characters ? alphabet[Int(word >> UInt32(18 - 6 * index) & 63)] : 61) }
        }
        for byte in bytes {
            word |= UInt32(byte) << UInt32(16 - 8 * count)
            count += 1
            if count == 3 { emit(4); word = 0; count = 0 }
        }
        if count > 0 { emit(count + 1) }
        return out
    }

    /// Nil when the text is not base64.
    static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var out: [UInt8] = []
        var word: UInt32 = 0, bits: UInt32 = 0, padding = 0, count = 0
        for character in text {
            count += 1
            let value: UInt32
            switch character {
            case 65...90: value = UInt32(character) - 65
            case 97...122: value = UInt32(character) - 71
            case 48...57: value = UInt32(character) + 4
            case 43: value = 62
            case 47: value = 63
            case 61: padding += 1; continue
            default: return nil
            }
            guard padding == 0 else { return nil }
            word = word << 6 | value
            bits += 6
            if bits >= 8 {
                bits -= 8
                out.append(UInt8(word >> bits & 255))
                word &= (1 << bits) - 1
            }
        }
        return count % 4 == 0 && padding <= 2 ? out : nil
    }
}
