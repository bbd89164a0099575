/// What is wrong with a JSON text, and where.
public struct JSONParseError: Error, Sendable, Equatable, CustomStringConvertible {
    public var message: String
    /// Bytes before the place of the error.
    public var offset: Int
    public var description: String { message }

    public init(message: String, offset: Int) {
        self.message = message
        self.offset = offset
    }
}

/// Bounds on what the parser accepts.
public struct JSONLimits: Sendable {
    /// Nested arrays and objects. Go's decoder stops at 10,000; so deep a value would also overflow our stack on release.
    public var depthMax: Int
    public init(depthMax: Int = 512) { self.depthMax = depthMax }
}

extension JSON {
    /// Parses a whole text. Duplicate members are reported through `duplicates` by their path (the last one wins, as in Go).
    public static func parse(_ bytes: [UInt8], limits: JSONLimits = JSONLimits()) throws(JSONParseError) -> JSON {
        var duplicates: [String] = []
        return try parse(bytes, limits: limits, duplicates: &duplicates)
    }

    public static func parse(
        _ bytes: [UInt8], limits: JSONLimits = JSONLimits(), duplicates: inout [String]
    ) throws(JSONParseError) -> JSON {
        var result: Result<JSON, JSONParseError> = .success(.null)
        var found: [String] = []
        bytes.withUnsafeBufferPointer { buffer in
            var parser = JSONParser(UnsafeRawBufferPointer(buffer), limits: limits)
            do throws(JSONParseError) { result = .success(try parser.parseDocument()) } catch { result = .failure(error) }
            found = parser.duplicates
        }
        duplicates = found
        return try result.get()
    }

    public static func parse(_ buffer: UnsafeRawBufferPointer, duplicates: inout [String]) throws(JSONParseError) -> JSON {
        var parser = JSONParser(buffer, limits: JSONLimits())
        defer { duplicates = parser.duplicates }
        return try parser.parseDocument()
    }

    public static func parse(_ text: String) throws(JSONParseError) -> JSON { try parse(Array(text.utf8)) }
}

/// A strict RFC 8259 parser over bytes it does not own. Messages are those of Go's encoding/json where a user sees them.
struct JSONParser {
    private let input: UnsafeRawBufferPointer
    private var position = 0
    private let limits: JSONLimits
    private var depth = 0
    /// Duplicate members: only this many are remembered.
    private static let duplicatesMax = 20
    var duplicates: [String] = []
    private var path: [PathStep] = []

    private enum PathStep {
        case key(String)
        case index(Int)
    }

    init(_ input: UnsafeRawBufferPointer, limits: JSONLimits) {
        self.input = input
        self.limits = limits
    }

    mutating func parseDocument() throws(JSONParseError) -> JSON {
        skipSpace()
        let value = try parseValue()
        skipSpace()
        guard position == input.count else { throw unexpected("after top-level value") }
        return value
    }

    private mutating func skipSpace() {
        while position < input.count {
            switch input[position] {
            case 0x20, 0x0A, 0x0D, 0x09: position &+= 1
            default: return
            }
        }
    }

    private func unexpected(_ context: String) -> JSONParseError {
        guard position < input.count else { return JSONParseError(message: "unexpected end of JSON input", offset: position) }
        let byte = input[position]
        let shown: String
        switch byte {
        case 0x27: shown = "'\\''"
        case 0x5C: shown = "'\\\\'"
        case 0x20..<0x7F: shown = "'\(Character(UnicodeScalar(byte)))'"
        case 0x0A: shown = "'\\n'"
        case 0x0D: shown = "'\\r'"
        case 0x09: shown = "'\\t'"
        // Go prints a byte above ASCII as the code point of its number, and what cannot be printed as an escape.
        case 0x80...0xA0, 0xAD: shown = "'\\u00\(String(byte, radix: 16))'"
        case 0xA1...0xFF: shown = "'\(Character(UnicodeScalar(byte)))'"
        default: shown = "'\\x\(byte < 0x10 ? "0" : "")\(String(byte, radix: 16))'"
        }
        return JSONParseError(message: "invalid character \(shown) \(context)", offset: position)
    }

    private mutating func parseValue() throws(JSONParseError) -> JSON {
        guard position < input.count else { throw unexpected("") }
        switch input[position] {
        case UInt8(ascii: "{"): return try parseObject()
        case UInt8(ascii: "["): return try parseArray()
        case UInt8(ascii: "\""): return .string(try parseString())
        case UInt8(ascii: "t"):
            try expect("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try expect("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try expect("null")
            return .null
        case UInt8(ascii: "-"), 0x30...0x39: return try parseNumber()
        default: throw unexpected("looking for beginning of value")
        }
    }

    private mutating func expect(_ literal: StaticString) throws(JSONParseError) {
        let start = position
        let count = literal.utf8CodeUnitCount
        for offset in 0..<count {
            guard position < input.count, input[position] == literal.utf8Start[offset] else {
                let wanted = String(UnicodeScalar(literal.utf8Start[offset]))
                throw unexpected("in literal \(literal) (expecting '\(wanted)')")
            }
            position &+= 1
        }
        precondition(position == start + count)
    }

    private mutating func enter() throws(JSONParseError) {
        depth += 1
        guard depth <= limits.depthMax else { throw JSONParseError(message: "exceeded max depth", offset: position) }
    }

    private mutating func parseObject() throws(JSONParseError) -> JSON {
        try enter()
        defer { depth -= 1 }
        position &+= 1
        var members: [JSONObject.Member] = []
        var seen: [String: Int]? = nil
        skipSpace()
        if position < input.count, input[position] == UInt8(ascii: "}") {
            position &+= 1
            return .object(JSONObject())
        }
        members.reserveCapacity(4)
        while true {
            guard position < input.count, input[position] == UInt8(ascii: "\"") else {
                throw unexpected("looking for beginning of object key string")
            }
            let key = try parseString()
            skipSpace()
            guard position < input.count, input[position] == UInt8(ascii: ":") else { throw unexpected("after object key") }
            position &+= 1
            skipSpace()
            path.append(.key(key))
            let value = try parseValue()
            path.removeLast()

            var existing: Int? = nil
            if seen != nil {
                existing = seen?[key]
            } else {
                for index in members.indices where members[index].key == key { existing = index }
            }
            if let existing {
                members[existing].value = value
                noteDuplicate(key)
            } else {
                members.append((key, value))
                if seen != nil {
                    seen?[key] = members.count - 1
                } else if members.count > 24 {
                    var fresh: [String: Int] = [:]
                    for index in members.indices { fresh[members[index].key] = index }
                    seen = fresh
                }
            }

            skipSpace()
            guard position < input.count else { throw unexpected("") }
            if input[position] == UInt8(ascii: ",") {
                position &+= 1
                skipSpace()
            } else if input[position] == UInt8(ascii: "}") {
                position &+= 1
                return .object(JSONObject(unique: members))
            } else {
                throw unexpected("after object key:value pair")
            }
        }
    }

    private mutating func noteDuplicate(_ key: String) {
        guard duplicates.count < Self.duplicatesMax else { return }
        var text = ""
        for step in path {
            switch step {
            case .key(let name): text += (text.isEmpty ? "" : ".") + name
            case .index(let index): text += "[\(index)]"
            }
        }
        duplicates.append((text.isEmpty ? "" : text + ".") + key)
    }

    private mutating func parseArray() throws(JSONParseError) -> JSON {
        try enter()
        defer { depth -= 1 }
        position &+= 1
        var elements: [JSON] = []
        skipSpace()
        if position < input.count, input[position] == UInt8(ascii: "]") {
            position &+= 1
            return .array(elements)
        }
        while true {
            path.append(.index(elements.count))
            elements.append(try parseValue())
            path.removeLast()
            skipSpace()
            guard position < input.count else { throw unexpected("") }
            if input[position] == UInt8(ascii: ",") {
                position &+= 1
                skipSpace()
            } else if input[position] == UInt8(ascii: "]") {
                position &+= 1
                return .array(elements)
            } else {
                throw unexpected("after array element")
            }
        }
    }

    private mutating func parseNumber() throws(JSONParseError) -> JSON {
        let start = position
        var negative = false
        if input[position] == UInt8(ascii: "-") {
            negative = true
            position &+= 1
        }
        guard position < input.count, case 0x30...0x39 = input[position] else { throw unexpected("in numeric literal") }
        var magnitude: UInt64 = 0
        var overflow = false
        if input[position] == 0x30 {
            position &+= 1
        } else {
            while position < input.count, case 0x30...0x39 = input[position] {
                let (product, first) = magnitude.multipliedReportingOverflow(by: 10)
                let (sum, second) = product.addingReportingOverflow(UInt64(input[position] &- 0x30))
                overflow = overflow || first || second
                magnitude = sum
                position &+= 1
            }
        }
        var whole = true
        if position < input.count, input[position] == UInt8(ascii: ".") {
            whole = false
            position &+= 1
            guard position < input.count, case 0x30...0x39 = input[position] else {
                throw unexpected("after decimal point in numeric literal")
            }
            while position < input.count, case 0x30...0x39 = input[position] { position &+= 1 }
        }
        if position < input.count, input[position] | 0x20 == UInt8(ascii: "e") {
            whole = false
            position &+= 1
            if position < input.count, input[position] == UInt8(ascii: "+") || input[position] == UInt8(ascii: "-") { position &+= 1 }
            guard position < input.count, case 0x30...0x39 = input[position] else {
                throw unexpected("in exponent of numeric literal")
            }
            while position < input.count, case 0x30...0x39 = input[position] { position &+= 1 }
        }
        if whole, !overflow {
            if negative, magnitude <= UInt64(Int64.max) + 1 { return .int(Int64(truncatingIfNeeded: 0 &- magnitude)) }
            if !negative, magnitude <= UInt64(Int64.max) { return .int(Int64(magnitude)) }
        }
        let text = String(decoding: UnsafeRawBufferPointer(rebasing: input[start..<position]), as: UTF8.self)
        guard let value = Double(text), value.isFinite else {
            throw JSONParseError(message: "number \(text) out of range", offset: start)
        }
        return .double(value)
    }

    private mutating func parseString() throws(JSONParseError) -> String {
        position &+= 1
        let start = position
        // The common case has no escapes: the text is taken as it stands.
        while position < input.count {
            let byte = input[position]
            if byte == UInt8(ascii: "\"") {
                let slice = UnsafeRawBufferPointer(rebasing: input[start..<position])
                position &+= 1
                return String(decoding: slice, as: UTF8.self)
            }
            if byte == UInt8(ascii: "\\") { break }
            if byte < 0x20 { throw unexpected("in string literal") }
            position &+= 1
        }
        var text = Array(input[start..<position])
        while position < input.count {
            let byte = input[position]
            if byte == UInt8(ascii: "\"") {
                position &+= 1
                return String(decoding: text, as: UTF8.self)
            }
            if byte < 0x20 { throw unexpected("in string literal") }
            position &+= 1
            guard byte == UInt8(ascii: "\\") else {
                text.append(byte)
                continue
            }
            guard position < input.count else { throw unexpected("") }
            let escape = input[position]
            switch escape {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(escape)
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "f"): text.append(0x0C)
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "r"): text.append(0x0D)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "u"):
                position &+= 1
                var scalar = UInt32(try parseHexadecimal())
                if (0xD800..<0xDC00).contains(scalar), position + 1 < input.count, input[position] == UInt8(ascii: "\\"),
                    input[position + 1] == UInt8(ascii: "u")
                {
                    let saved = position
                    position &+= 2
                    let low = UInt32(try parseHexadecimal())
                    if (0xDC00..<0xE000).contains(low) {
                        scalar = 0x10000 + ((scalar - 0xD800) << 10) + (low - 0xDC00)
                    } else {
                        position = saved
                    }
                }
                // A lone surrogate becomes the replacement character, as in Go.
                let valid = UnicodeScalar(scalar) ?? "\u{FFFD}"
                text.append(contentsOf: UTF8.encode(valid) ?? UTF8.encodedReplacementCharacter)
                continue
            default: throw unexpected("in string escape code")
            }
            position &+= 1
        }
        throw unexpected("")
    }

    private mutating func parseHexadecimal() throws(JSONParseError) -> UInt16 {
        var value: UInt16 = 0
        for _ in 0..<4 {
            guard position < input.count else { throw unexpected("") }
            let digit: UInt8
            switch input[position] {
            case 0x30...0x39: digit = input[position] - 0x30
            case 0x41...0x46: digit = input[position] - 0x41 + 10
            case 0x61...0x66: digit = input[position] - 0x61 + 10
            default: throw unexpected("in \\u hexadecimal character escape")
            }
            value = value << 4 | UInt16(digit)
            position &+= 1
        }
        return value
    }
}
