/// Random parts of names and identifiers, from the generator that the caller gives.
public enum RandomNames {
    /// The letters of generated names: no vowels and no look-alikes, so that no words arise (upstream `rand.String`).
    private static let alphabet = Array("bcdfghjklmnpqrstvwxz2456789".utf8)

    /// A random suffix, as `generateName` adds it.
    public static func suffix(_ count: Int = 5) -> String {
        var generator = SystemRandomNumberGenerator()
        return suffix(count, using: &generator)
    }

    public static func suffix(_ count: Int, using generator: inout some RandomNumberGenerator) -> String {
        String(decoding: (0..<count).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] }, as: UTF8.self)
    }

    /// Maps text to the same letters (upstream `SafeEncodeString`, for the hashes in names of ReplicaSets).
    public static func safeEncode(_ text: String) -> String {
        String(decoding: text.utf8.map { alphabet[Int($0) % alphabet.count] }, as: UTF8.self)
    }

    /// A random UUID (RFC 9562, version 4) in lower case.
    public static func uuid() -> String {
        var generator = SystemRandomNumberGenerator()
        return uuid(using: &generator)
    }

    public static func uuid(using generator: inout some RandomNumberGenerator) -> String {
        var bytes = withUnsafeBytes(of: (generator.next(), generator.next())) { Array($0) }
        bytes[6] = bytes[6] & 0x0F | 0x40
        bytes[8] = bytes[8] & 0x3F | 0x80
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(36)
        for (index, byte) in bytes.enumerated() {
            if index == 4 || index == 6 || index == 8 || index == 10 { text.append(UInt8(ascii: "-")) }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
