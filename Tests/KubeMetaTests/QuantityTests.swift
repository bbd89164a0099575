import JSON
import KubeMeta
import Testing

@Suite("Quantity") struct QuantityTests {
    @Test(
        "texts take their canonical form",
        arguments: [
            ("0", "0"), ("1", "1"), ("+5", "5"), ("-5", "-5"), ("0.5", "500m"), (".5", "500m"), ("5.", "5"), ("1000m", "1"), ("1500m", "1500m"),
            ("1.5", "1500m"), ("1000", "1k"), ("1001", "1001"), ("1000k", "1M"), ("1e3", "1e3"), ("1000e0", "1e3"), ("12E6", "12e6"), ("1E", "1E"),
            ("1Ki", "1Ki"), ("1024Ki", "1Mi"), ("0.5Gi", "512Mi"), ("1.5Ki", "1536"), ("0.5Ki", "512"), ("1000Ki", "1000Ki"), ("128974848", "128974848"),
            ("129e6", "129e6"), ("129M", "129M"), ("123Mi", "123Mi"), ("100u", "100u"), ("100000n", "100u"), ("0.1n", "1n"), ("0.0000000001", "1n"),
            ("-0.1n", "-1n"), ("0Ki", "0"), ("1e-3", "1e-3"), ("000001", "1"), ("1000000000000000000000", "1000E"),
        ])
    func canonical(_ text: String, _ wanted: String) { #expect(Quantity(text)?.text == wanted) }

    @Test(
        "texts that are no quantity are refused",
        arguments: [
            "", " ", "a", "1a", "1 ", " 1", "1.2.3", "--1", "+-1", "1i", "1KI", "1ki", "1K", "1mi", "e3", "1e", "1e+", "1e++3", "1e+-3", "1e--3", "1e3.5",
            "1e9999", ".", "-", "+", "0x10", "1Kii", "1,5", "٣", "99999999999999999999999999999999999999999",
        ])
    func bad(_ text: String) { #expect(Quantity(text) == nil) }

    @Test("whole numbers and thousandths round away from zero")
    func rounding() {
        #expect(Quantity("1.1")?.value == 2 && Quantity("1m")?.value == 1 && Quantity("1")?.value == 1)
        #expect(Quantity("0.1m")?.milliValue == 1 && Quantity("1.0001")?.milliValue == 1001)
        #expect(Quantity("-1.1")?.value == -2 && Quantity("-1m")?.value == -1)
        #expect(Quantity("100E")?.value == .max && Quantity("-100E")?.value == .min)
    }

    @Test("sums and differences keep the format of the first amount that is not zero")
    func arithmetic() throws {
        let one = try #require(Quantity("1Gi"))
        let half = try #require(Quantity("512Mi"))
        #expect((one + half).text == "1536Mi" && (one - half).text == "512Mi" && (Quantity.zero + half).text == "512Mi")
        #expect(half < one && !(one < half))
        #expect(Quantity("1000m")?.nanos == Quantity("1")?.nanos)
        var sum = Quantity.zero
        for _ in 0..<10 { sum += try #require(Quantity("100m")) }
        #expect(sum.text == "1")
    }

    @Test("sums of amounts that a client can send never overflow")
    func largeSums() throws {
        let large = try #require(Quantity("100000000000Ei"))
        #expect((large + large) >= large)
        #expect((Quantity.zero - large - large) <= Quantity.zero)
    }

    @Test("random texts never crash, and canonical texts are stable", arguments: [1, 2] as [UInt64])
    func random(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let letters = Array("0123456789.+-eEinumkKMGTP")
        for _ in 0..<20_000 {
            let text = String((0..<Int.random(in: 0..<12, using: &generator)).map { _ in letters[Int.random(in: 0..<letters.count, using: &generator)] })
            guard let quantity = Quantity(text) else { continue }
            let again = Quantity(quantity.text)
            #expect(again?.nanos == quantity.nanos && again?.text == quantity.text, "seed \(seed): \(text)")
        }
    }

    @Test("JSON numbers are taken too, unreadable values are zero")
    func json() {
        #expect(Quantity(json: 5).text == "5" && Quantity(json: 0.5).text == "500m" && Quantity(json: "x").text == "0" && Quantity(json: []).text == "0")
    }
}

@Suite("IntOrString") struct IntOrStringTests {
    @Test("percentages of a total are rounded as asked")
    func scaling() {
        #expect(IntOrString.int(3).scaled(total: 100, roundUp: true) == 3)
        #expect(IntOrString.string("25%").scaled(total: 10, roundUp: true) == 3)
        #expect(IntOrString.string("25%").scaled(total: 10, roundUp: false) == 2)
        #expect(IntOrString.string("100%").scaled(total: 7, roundUp: false) == 7)
        #expect(IntOrString.string("0%").scaled(total: 7, roundUp: true) == 0)
        #expect(IntOrString.string("25").scaled(total: 7, roundUp: true) == nil)
        #expect(IntOrString.string("a%").scaled(total: 7, roundUp: true) == nil)
    }

    @Test("absurd percentages do not overflow")
    func overflow() {
        #expect(IntOrString.string("9223372036854775807%").scaled(total: 1, roundUp: true) ?? 1 > 0)
        #expect(IntOrString.string("9223372036854775807%").scaled(total: 100, roundUp: true) == nil)
    }

    @Test("a value reads and writes itself")
    func json() {
        #expect(IntOrString(json: 8080).json == 8080 && IntOrString(json: "http").json == "http" && IntOrString(json: "25%").text == "25%")
    }
}
