import KubeMeta
import Testing

@Suite("KubeTime (RFC 3339)") struct KubeTimeTests {
    @Test(
        "a time is written and read",
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (951_782_400, "2000-02-29T00:00:00Z"), (1_709_164_800, "2024-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"), (-2_203_977_600, "1900-02-28T00:00:00Z"), (-2_203_891_200, "1900-03-01T00:00:00Z"),
            (1_795_449_845, "2026-11-23T16:04:05Z"), (253_402_300_799, "9999-12-31T23:59:59Z"), (-62_135_596_800, "0001-01-01T00:00:00Z"),
        ])
    func roundTrip(_ seconds: Int, _ text: String) {
        #expect(KubeTime.text(Double(seconds)) == text)
        #expect(KubeTime.parse(text) == Double(seconds))
    }

    @Test("every day of four centuries round-trips")
    func days() {
        for day in stride(from: -100_000, to: 100_000, by: 37) {
            let seconds = Double(day) * 86_400 + 43_199
            #expect(KubeTime.parse(KubeTime.text(seconds)) == seconds)
        }
    }

    @Test("offsets and fractions are read")
    func offsets() {
        #expect(KubeTime.parse("2026-11-23T18:04:05+02:00") == KubeTime.parse("2026-11-23T16:04:05Z"))
        #expect(KubeTime.parse("2026-11-23T10:34:05-05:30") == KubeTime.parse("2026-11-23T16:04:05Z"))
        #expect(KubeTime.parse("1970-01-01T00:00:01.5Z") == 1.5)
        #expect(KubeTime.parse("1970-01-01t00:00:01z") == 1)
        #expect(KubeTime.microText(1.25) == "1970-01-01T00:00:01.250000Z")
        #expect(KubeTime.microText(-0.5) == "1969-12-31T23:59:59.500000Z")
        #expect(KubeTime.text(1.999) == "1970-01-01T00:00:01Z")
    }

    @Test("a micro time that is read and written again is the same")
    func micro() throws {
        for n in 0..<2000 {
            let text = KubeTime.microText(1_795_449_845 + Double(n) * 0.000_501)
            #expect(KubeTime.microText(try #require(KubeTime.parse(text))) == text)
        }
    }

    @Test(
        "texts that are no time are refused",
        arguments: [
            "", "2026", "2026-11-23", "2026-11-23T16:04:05", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-32T00:00:00Z", "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "1900-02-29T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+1:00", "2026-01-01T00:00:00Zx", "2026-01-01 00:00:00Z", "x026-01-01T00:00:00Z",
            "2026-01-01T00:00:00+99:00", "2026-01-01T00:00:00+02-00",
        ])
    func bad(_ text: String) { #expect(KubeTime.parse(text) == nil) }
}
