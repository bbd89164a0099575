/// Why a selector's text was refused, in upstream's words.
public struct SelectorError: Error, Sendable, Equatable, CustomStringConvertible {
    public var message: String
    public var description: String { message }
}

extension Selector {
    /// Parses the text of a `labelSelector` parameter: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    public static func parse(_ text: String) throws(SelectorError) -> Selector {
        var parser = SelectorTextParser(text)
        return try parser.parse()
    }
}

/// A lexer and parser of selector texts with the tokens and messages of upstream's.
private struct SelectorTextParser {
    private enum Token: Equatable {
        case identifier(String), comma, open, close, equals, notEquals, exclamation, greater, less, end

        var literal: String {
            switch self {
            case .identifier(let text): text
            case .comma: ","
            case .open: "("
            case .close: ")"
            case .equals: "="
            case .notEquals: "!="
            case .exclamation: "!"
            case .greater: ">"
            case .less: "<"
            case .end: ""
            }
        }
    }

    private var tokens: [Token] = []
    private var position = 0

    init(_ text: String) {
        var word: [UInt8] = []
        func flush(_ tokens: inout [Token]) {
            if !word.isEmpty { tokens.append(.identifier(String(decoding: word, as: UTF8.self))) }
            word = []
        }
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : 0
            var token: Token?
            switch byte {
            case UInt8(ascii: ","): token = .comma
            case UInt8(ascii: "("): token = .open
            case UInt8(ascii: ")"): token = .close
            case UInt8(ascii: ">"): token = .greater
            case UInt8(ascii: "<"): token = .less
            case UInt8(ascii: "="):
                token = .equals
                if next == UInt8(ascii: "=") { index += 1 }
            case UInt8(ascii: "!"):
                token = next == UInt8(ascii: "=") ? .notEquals : .exclamation
                if next == UInt8(ascii: "=") { index += 1 }
            case 0x20, 0x09, 0x0A, 0x0D: flush(&tokens)
            default: word.append(byte)
            }
            if let token {
                flush(&tokens)
                tokens.append(token)
            }
            index += 1
        }
        flush(&tokens)
    }

    private var current: Token { position < tokens.count ? tokens[position] : .end }

    mutating func parse() throws(SelectorError) -> Selector {
        var requirements: [Selector.Requirement] = []
        while current != .end {
            requirements.append(try parseRequirement())
            switch current {
            case .end: break
            case .comma:
                position += 1
                switch current {
                case .identifier, .exclamation: break
                default: throw SelectorError(message: "found '\(current.literal)', expected: identifier after ','")
                }
            default: throw SelectorError(message: "found '\(current.literal)', expected: ',' or 'end of string'")
            }
        }
        return Selector(requirements)
    }

    private mutating func parseRequirement() throws(SelectorError) -> Selector.Requirement {
        var negated = false
        if current == .exclamation {
            negated = true
            position += 1
        }
        guard case .identifier(let key) = current else {
            throw SelectorError(message: "found '\(current.literal)', expected: identifier")
        }
        position += 1
        try checkKey(key)
        if negated { return Selector.Requirement(key: key, operator: .doesNotExist, values: []) }
        switch current {
        case .end, .comma: return Selector.Requirement(key: key, operator: .exists, values: [])
        case .equals:
            position += 1
            return try Selector.Requirement(key: key, operator: .in, values: [exactValue(key)])
        case .notEquals:
            position += 1
            return try Selector.Requirement(key: key, operator: .notIn, values: [exactValue(key)])
        case .greater, .less:
            let kind: Selector.Operator = current == .greater ? .greaterThan : .lessThan
            position += 1
            let value = try exactValue(key)
            guard Int64(value) != nil else {
                throw SelectorError(message: "values[0][\(key)]: Invalid value: \"\(value)\": for 'Gt', 'Lt' operators, the value must be an integer")
            }
            return Selector.Requirement(key: key, operator: kind, values: [value])
        case .identifier("in"), .identifier("notin"):
            let kind: Selector.Operator = current == .identifier("in") ? .in : .notIn
            position += 1
            return try Selector.Requirement(key: key, operator: kind, values: valueList(key))
        default:
            throw SelectorError(message: "found '\(current.literal)', expected: in, notin, =, ==, !=, gt, lt")
        }
    }

    private mutating func exactValue(_ key: String) throws(SelectorError) -> String {
        switch current {
        case .end, .comma: return ""
        case .identifier(let value):
            position += 1
            try checkValue(key, value)
            return value
        default: throw SelectorError(message: "found '\(current.literal)', expected: identifier")
        }
    }

    private mutating func valueList(_ key: String) throws(SelectorError) -> [String] {
        guard current == .open else { throw SelectorError(message: "found '\(current.literal)' expected: '('") }
        position += 1
        var values: [String] = []
        var afterComma = true
        while true {
            switch current {
            case .identifier(let value):
                position += 1
                try checkValue(key, value)
                values.append(value)
                afterComma = false
                guard current == .comma || current == .close else {
                    throw SelectorError(message: "found '\(current.literal)', expected: ',' or ')'")
                }
            case .comma:
                position += 1
                if afterComma { values.append("") }
                afterComma = true
            case .close:
                position += 1
                if afterComma { values.append("") }
                return values
            default: throw SelectorError(message: "found '\(current.literal)', expected: ',', ')' or identifier")
            }
        }
    }

    private func checkKey(_ key: String) throws(SelectorError) {
        if let message = NameRules.qualifiedNameErrors(key).first {
            throw SelectorError(message: "key: Invalid value: \"\(key)\": \(message)")
        }
    }

    private func checkValue(_ key: String, _ value: String) throws(SelectorError) {
        if let message = NameRules.labelValueErrors(value).first {
            throw SelectorError(message: "values[0][\(key)]: Invalid value: \"\(value)\": \(message)")
        }
    }
}
