import JSON
import Testing

/// A small generator with a seed, so that a failure can be run again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

private func message(_ text: String) -> String {
    do throws(JSONParseError) {
        return "parsed: \(try JSON.parse(text).text)"
    } catch {
        return error.message
    }
}

@Suite("JSON parser (RFC 8259)") struct JSONParserTests {
    @Test(
        "valid texts are read and written back in compact form",
        arguments: [
            ("null", "null"), (" true ", "true"), ("\t\r\nfalse\n", "false"), ("0", "0"), ("-0", "0"), ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"), ("1.5", "1.5"), ("-2.25e2", "-225"), ("1E+2", "100"), ("1e-3", "0.001"), ("[]", "[]"),
            ("{}", "{}"), ("[ 1 , [ ] , { } ]", "[1,[],{}]"), (#"{ "a" : 1 , "b" : [ "c" ] }"#, #"{"a":1,"b":["c"]}"#), (#""""#, #""""#),
            (#""\"\\\/\b\f\n\r\t""#, #""\"\\/\u0008\u000c\n\r\t""#), (#""\u0041\u00e9\u20AC""#, "\"Aé€\""), (#""\ud83d\ude00""#, "\"😀\""),
            ("\"\u{7F}\"", "\"\u{7F}\""),
        ])
    func valid(_ text: String, _ compact: String) throws { #expect(try JSON.parse(text).text == compact) }

    @Test(
        "invalid texts are refused with Go's messages",
        arguments: [
            ("", "unexpected end of JSON input"), ("   ", "unexpected end of JSON input"), ("{", "unexpected end of JSON input"),
            ("[1", "unexpected end of JSON input"), (#"{"a""#, "unexpected end of JSON input"), ("\"abc", "unexpected end of JSON input"),
            (#""\u12"#, "unexpected end of JSON input"), ("tru", "unexpected end of JSON input"), ("-", "unexpected end of JSON input"),
            ("1.", "unexpected end of JSON input"), ("1e", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"), ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"), ("{,}", "invalid character ',' looking for beginning of object key string"),
            (#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (#"{a:1}"#, "invalid character 'a' looking for beginning of object key string"), (#"{"a" 1}"#, "invalid character '1' after object key"),
            (#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"), ("[1 2]", "invalid character '2' after array element"),
            ("1 2", "invalid character '2' after top-level value"), ("01", "invalid character '1' after top-level value"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"), ("nul1", "invalid character '1' in literal null (expecting 'l')"),
            ("-a", "invalid character 'a' in numeric literal"), ("1.a", "invalid character 'a' after decimal point in numeric literal"),
            ("1ea", "invalid character 'a' in exponent of numeric literal"), (#""\x""#, "invalid character 'x' in string escape code"),
            (#""\u00g0""#, "invalid character 'g' in \\u hexadecimal character escape"), ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("+1", "invalid character '+' looking for beginning of value"), (".5", "invalid character '.' looking for beginning of value"),
            ("NaN", "invalid character 'N' looking for beginning of value"), ("\u{FEFF}1", "invalid character 'ï' looking for beginning of value"),
        ])
    func invalid(_ text: String, _ wanted: String) { #expect(message(text) == wanted) }

    @Test("whole numbers beyond 64 bits become doubles; numbers beyond doubles are refused")
    func largeNumbers() throws {
        #expect(try JSON.parse("9223372036854775808") == .double(9_223_372_036_854_775_808))
        #expect(try JSON.parse("-9223372036854775809").double == -9_223_372_036_854_775_809)
        #expect(throws: JSONParseError.self) { try JSON.parse("1e400") }
        #expect(try JSON.parse("1.0").int == 1)
        #expect(JSON.double(1e300).int == nil)
    }

    @Test("lone surrogates and broken UTF-8 become the replacement character, as in Go")
    func surrogates() throws {
        #expect(try JSON.parse(#""\ud800""#).string == "\u{FFFD}")
        #expect(try JSON.parse(#""\ude00x""#).string == "\u{FFFD}x")
        #expect(try JSON.parse(#""\ud800\ud83d\ude00""#).string == "\u{FFFD}😀")
        #expect(try JSON.parse(#""\ud800\n""#).string == "\u{FFFD}\n")
        #expect(try JSON.parse([0x22, 0xFF, 0x22]).string == "\u{FFFD}")
    }

    @Test("duplicate members are reported by their path, and the last one wins")
    func duplicates() throws {
        var found: [String] = []
        let text = #"{"a":1,"b":{"c":1,"c":2},"l":[{"x":1},{"x":1,"x":3}],"a":9}"#
        let value = try JSON.parse(Array(text.utf8), duplicates: &found)
        #expect(found == ["b.c", "l[1].x", "a"])
        #expect(value["a"] == 9 && value["b"]?["c"] == 2 && value["l"]?[1]?["x"] == 3)
    }

    @Test("duplicates are found in objects that are indexed, too")
    func duplicatesInLargeObjects() throws {
        let members = (0..<40).map { "\"k\($0)\":\($0)" } + ["\"k3\":100", "\"k39\":200"]
        var found: [String] = []
        let value = try JSON.parse(Array("{\(members.joined(separator: ","))}".utf8), duplicates: &found)
        #expect(found == ["k3", "k39"])
        #expect(value["k3"] == 100 && value["k39"] == 200 && value["k20"] == 20)
    }

    @Test("nesting is bounded, for arrays and objects alike")
    func depth() throws {
        #expect(throws: Never.self) { try JSON.parse(String(repeating: "[", count: 512) + String(repeating: "]", count: 512)) }
        #expect(message(String(repeating: "[", count: 513)) == "exceeded max depth")
        #expect(message(String(repeating: "{\"a\":", count: 100_000)) == "exceeded max depth")
    }

    @Test("random bytes never crash the parser, and what it reads it writes and reads again", arguments: [1, 2, 3, 4] as [UInt64])
    func randomBytes(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let alphabet = Array(#"{}[]":,\u0eE+-.19tfn ald"#.utf8) + [0x00, 0x0A, 0x80, 0xC3, 0xE2, 0xFF]
        for _ in 0..<5000 {
            let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] }
            guard let value = try? JSON.parse(bytes) else { continue }
            let written = value.encoded
            #expect(try JSON.parse(written).encoded == written, "seed \(seed): \(bytes)")
        }
    }

    @Test("random values survive writing and reading, plain and pretty", arguments: [11, 12] as [UInt64])
    func randomValues(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        func value(_ depth: Int) -> JSON {
            switch Int.random(in: 0..<(depth > 4 ? 5 : 7), using: &generator) {
            case 0: .null
            case 1: .bool(.random(using: &generator))
            case 2: .int(Int64.random(in: .min ... .max, using: &generator))
            case 3: .double(Double.random(in: -1e9...1e9, using: &generator) + 0.5)
            case 4: .string(text())
            case 5: .array((0..<Int.random(in: 0..<5, using: &generator)).map { _ in value(depth + 1) })
            default: .object(JSONObject((0..<Int.random(in: 0..<30, using: &generator)).map { ("k\($0)" + text(), value(depth + 1)) }))
            }
        }
        func text() -> String {
            String(String.UnicodeScalarView((0..<Int.random(in: 0..<6, using: &generator)).compactMap { _ in
                UnicodeScalar(UInt32.random(in: 0..<0x3000, using: &generator))
            }))
        }
        for _ in 0..<200 {
            let original = value(0)
            #expect(try JSON.parse(original.encoded).encoded == original.encoded, "seed \(seed)")
            #expect(try JSON.parse(original.prettyText).encoded == original.encoded, "seed \(seed)")
        }
    }
}

@Suite("JSON values and writer") struct JSONValueTests {
    @Test("strings are escaped as Go's encoder does it")
    func escapes() {
        #expect(JSON.string("<a & b>").text == #""\u003ca \u0026 b\u003e""#)
        #expect(JSON.string("\u{2028}\u{2029}\u{2027}€").text == "\"\\u2028\\u2029\u{2027}€\"")
        #expect(JSON.string("\u{0}\u{1f}").text == #""\u0000\u001f""#)
        #expect(JSON.double(.infinity).text == "null")
    }

    @Test("pretty text is indented by two spaces, empty values stay short")
    func pretty() {
        let value: JSON = ["a": [1, ["b": []]], "c": [:]]
        #expect(value.prettyText == "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"c\": {}\n}")
    }

    @Test("objects with more than 24 members keep order, find, replace and remove as small ones do")
    func largeObjects() {
        var object = JSONObject()
        for n in 0..<60 { object["k\(n)"] = JSON(n) }
        object["k30"] = "changed"
        for n in 0..<60 where n % 2 == 1 { object["k\(n)"] = nil }
        #expect(object.count == 30)
        #expect(Array(object.keys).first == "k0" && Array(object.keys).last == "k58")
        #expect(object["k30"] == "changed" && object["k31"] == nil && object["k58"] == 58)
        for n in 0..<60 where n > 10 { object["k\(n)"] = nil }
        #expect(object["k4"] == 4 && object["k58"] == nil)
        object.removeAll { $0.key == "k4" }
        #expect(object["k4"] == nil && object["k6"] == 6)
    }

    @Test("objects are equal in any order, and equal objects hash alike")
    func equality() {
        let left: JSON = ["a": 1, "b": ["c": 2, "d": 3]]
        let right: JSON = ["b": ["d": 3, "c": 2], "a": 1]
        #expect(left == right && left.hashValue == right.hashValue)
        #expect(left != ["a": 1, "b": ["c": 2, "d": 4]])
        #expect(left != ["a": 1])
    }

    @Test("a path sets, makes and removes members")
    func paths() {
        var value: JSON = [:]
        value.set(1, at: "a", "b", "c")
        #expect(value.text == #"{"a":{"b":{"c":1}}}"#)
        value.set(nil, at: "x", "y")
        value.set(nil, at: "a", "b", "c")
        #expect(value.text == #"{"a":{"b":{}}}"#)
        #expect(value[path: "a", "b"] == [:] && value[path: "a", "z"] == nil)
    }
}
