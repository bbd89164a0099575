#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The offsets of a time zone from UTC, read from the system's zone files (TZif, RFC 9636). Read once per zone; they are a few kilobytes.
struct TimeZoneTable: Sendable {
    private static let folders = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo"]
    private static let fileBytesMax = 1 << 20

    /// Moments, seconds since 1970, from which an offset holds; ascending.
    private var transitions: [(at: Int64, offset: Int64)] = []
    private var first: Int64 = 0

    static let utc = TimeZoneTable()
    private init() {}

    /// Nil when there is no such zone.
    init?(name: String) {
        if name == "UTC" || name == "Etc/UTC" || name.isEmpty { return }
        guard !name.contains(".."), !name.hasPrefix("/"), let bytes = Self.read(name), parse(bytes) else { return nil }
    }

    func offsetSeconds(at unixSeconds: Int64) -> Int64 {
        var (low, high) = (0, transitions.count)
        while low < high {
            let middle = (low + high) / 2
            if transitions[middle].at <= unixSeconds { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? first : transitions[low - 1].offset
    }

    private static func read(_ name: String) -> [UInt8]? {
        for folder in folders {
            guard let file = fopen("\(folder)/\(name)", "rb") else { continue }
            defer { fclose(file) }
            var bytes = [UInt8](repeating: 0, count: fileBytesMax)
            let count = fread(&bytes, 1, bytes.count, file)
            if count > 44 { return Array(bytes.prefix(count)) }
        }
        return nil
    }

    private mutating func parse(_ bytes: [UInt8]) -> Bool {
        guard bytes.starts(with: Array("TZif".utf8)), bytes.count > 44 else { return false }
        func number(_ at: Int, _ width: Int) -> Int64? {
            guard at + width <= bytes.count else { return nil }
            var value: UInt64 = 0
            for byte in bytes[at..<(at + width)] { value = value << 8 | UInt64(byte) }
            return width == 4 ? Int64(Int32(truncatingIfNeeded: value)) : Int64(bitPattern: value)
        }
        func counts(_ at: Int) -> [Int]? {
            let values = (0..<6).compactMap { number(at + 20 + $0 * 4, 4).map(Int.init) }
            return values.count == 6 && values.allSatisfy { (0..<100_000).contains($0) } ? values : nil
        }
        guard let old = counts(0) else { return false }
        var start = 0
        var width = 4
        var sizes = old
        if bytes[4] >= UInt8(ascii: "2") {
            // The second block has 64-bit times.
            start = 44 + old[3] * 5 + old[4] * 6 + old[5] + old[2] * 8 + old[1] + old[0]
            width = 8
            guard let new = counts(start) else { return false }
            sizes = new
        }
        let (times, types) = (sizes[3], sizes[4])
        let data = start + 44
        let typeData = data + times * (width + 1)
        func offset(_ type: Int) -> Int64? { type < types ? number(typeData + type * 6, 4) : nil }
        guard let initial = offset(0) else { return false }
        first = initial
        for index in 0..<times {
            let position = data + times * width + index
            guard let at = number(data + index * width, width), position < bytes.count, let offset = offset(Int(bytes[position])) else {
                return false
            }
            transitions.append((at, offset))
        }
        extendByRule(bytes, typeData + types * 6 + sizes[5] + sizes[2] * (width + 4) + sizes[1] + sizes[0])
        return true
    }

    /// The rule in the file's footer (for example `CET-1CEST,M3.5.0,M10.5.0/3`) continues the table; it is unrolled for some decades.
    private mutating func extendByRule(_ bytes: [UInt8], _ start: Int) {
        guard start < bytes.count, bytes[start] == 0x0A else { return }
        let text = String(decoding: bytes[(start + 1)...].prefix { $0 != 0x0A }, as: UTF8.self)
        let parts = text.split(separator: ",")
        guard parts.count == 3, let zones = Self.zones(String(parts[0])), let begin = Self.rule(String(parts[1])),
            let end = Self.rule(String(parts[2]))
        else { return }
        let last = transitions.last?.at ?? 0
        for year in 2020...2100 {
            let changes = [
                (at: Self.moment(begin, year) - zones.standard, offset: zones.daylight),
                (at: Self.moment(end, year) - zones.daylight, offset: zones.standard),
            ].sorted { $0.at < $1.at }
            for change in changes where change.at > last { transitions.append(change) }
        }
    }

    private static func zones(_ text: String) -> (standard: Int64, daylight: Int64)? {
        var rest = text[...]
        func name() {
            if rest.first == "<" { rest = rest.drop { $0 != ">" }.dropFirst() } else { rest = rest.drop { $0.isLetter } }
        }
        func offset() -> Int64? {
            let digits = rest.prefix { $0.isNumber || $0 == "-" || $0 == "+" || $0 == ":" }
            guard !digits.isEmpty else { return nil }
            rest = rest.dropFirst(digits.count)
            return clock(String(digits))
        }
        name()
        guard let standard = offset() else { return nil }
        name()
        // POSIX counts west of Greenwich as positive.
        return (-standard, -(offset() ?? standard - 3600))
    }

    private static func clock(_ text: String) -> Int64? {
        let negative = text.hasPrefix("-")
        let parts = text.drop { $0 == "-" || $0 == "+" }.split(separator: ":").compactMap { Int64($0) }
        guard let hours = parts.first else { return nil }
        let seconds = hours * 3600 + (parts.count > 1 ? parts[1] * 60 : 0) + (parts.count > 2 ? parts[2] : 0)
        return negative ? -seconds : seconds
    }

    private struct Rule {
        var month: Int64
        var week: Int64
        var weekday: Int64
        var seconds: Int64
    }

    private static func rule(_ text: String) -> Rule? {
        let halves = text.split(separator: "/")
        guard let date = halves.first, date.hasPrefix("M") else { return nil }
        let numbers = date.dropFirst().split(separator: ".").compactMap { Int64($0) }
        guard numbers.count == 3 else { return nil }
        return Rule(
            month: numbers[0], week: numbers[1], weekday: numbers[2], seconds: halves.count > 1 ? clock(String(halves[1])) ?? 7200 : 7200)
    }

    private static func moment(_ rule: Rule, _ year: Int) -> Int64 {
        let first = CivilTime.days(year: Int64(year), month: rule.month, day: 1)
        var day = first + (rule.weekday - CivilTime.weekday(first) + 7) % 7 + (rule.week - 1) * 7
        let nextMonth =
            rule.month == 12
            ? CivilTime.days(year: Int64(year) + 1, month: 1, day: 1) : CivilTime.days(year: Int64(year), month: rule.month + 1, day: 1)
        while day >= nextMonth { day -= 7 }
        return day * 86_400 + rule.seconds
    }
}

/// Days and dates of the Gregorian calendar.
enum CivilTime {
    static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    /// 0 is Sunday.
    static func weekday(_ days: Int64) -> Int64 { ((days + 4) % 7 + 7) % 7 }

    static func date(_ days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let index = (5 * dayOfYear + 2) / 153
        let month = index < 10 ? index + 3 : index - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * index + 2) / 5 + 1)
    }
}
