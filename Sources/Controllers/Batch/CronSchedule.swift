/// A schedule in the five fields of cron, or one of its short names (`@hourly`, `@every 1h30m`).
package struct CronSchedule: Sendable {
    private enum Form {
        case fields(minutes: UInt64, hours: UInt64, days: UInt64, months: UInt64, weekdays: UInt64, anyDay: Bool, anyWeekday: Bool)
        case every(seconds: Int64)
    }

    private static let shortNames = [
        "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@daily": "0 0 * * *",
        "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
    ]
    private static let monthNames = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    private static let weekdayNames = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
    /// A schedule with no moment within this many years never happens.
    private static let yearsMax: Int64 = 5

    private let form: Form
    private let zone: TimeZoneTable

    /// - Parameter timeZone: an IANA name; nil is UTC. Nil when the schedule or the zone is none.
    package init?(_ text: String, timeZone: String? = nil) {
        guard let zone = timeZone.map({ TimeZoneTable(name: $0) }) ?? TimeZoneTable.utc else { return nil }
        self.zone = zone
        if text.hasPrefix("@every ") {
            guard let seconds = Self.duration(String(text.dropFirst(7))), seconds >= 1 else { return nil }
            form = .every(seconds: seconds)
            return
        }
        let parts = (Self.shortNames[text] ?? text).split(separator: " ").map { $0.lowercased() }
        guard parts.count == 5, let minutes = Self.field(parts[0], 0, 59, []), let hours = Self.field(parts[1], 0, 23, []),
            let days = Self.field(parts[2], 1, 31, []), let months = Self.field(parts[3], 1, 12, Self.monthNames),
            let weekdays = Self.field(parts[4], 0, 7, Self.weekdayNames)
        else { return nil }
        func isAny(_ part: String) -> Bool { part == "?" || part.hasPrefix("*") }
        // 7 is Sunday as well.
        let sundays = weekdays & 1 << 7 != 0 ? weekdays | 1 : weekdays
        form = .fields(
            minutes: minutes, hours: hours, days: days, months: months, weekdays: sundays, anyDay: isAny(parts[2]),
            anyWeekday: isAny(parts[4]))
    }

    /// The set of numbers a field means, as bits.
    private static func field(_ text: String, _ low: Int, _ high: Int, _ names: [String]) -> UInt64? {
        func number(_ text: Substring) -> Int? {
            if let index = names.firstIndex(of: String(text)) { return index + low }
            return Int(text)
        }
        var bits: UInt64 = 0
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: "/", omittingEmptySubsequences: false)
            guard let range = halves.first, halves.count <= 2 else { return nil }
            let step = halves.count == 2 ? Int(halves[1]) : 1
            guard let step, step > 0 else { return nil }
            var (from, to) = (low, high)
            if range != "*", range != "?" {
                let ends = range.split(separator: "-", omittingEmptySubsequences: false)
                guard ends.count <= 2, let first = number(ends[0]) else { return nil }
                from = first
                // `5/10` starts at 5 and goes on.
                to = halves.count == 2 ? high : first
                if ends.count == 2 {
                    guard let last = number(ends[1]) else { return nil }
                    to = last
                }
            } else if names.count == 7 {
                to = 6
            }
            guard from >= low, to <= high, from <= to else { return nil }
            for value in stride(from: from, through: to, by: step) { bits |= 1 << UInt64(value) }
        }
        return bits
    }

    private static func duration(_ text: String) -> Int64? {
        var total = 0.0
        var digits = ""
        var unit = ""
        func flush() -> Bool {
            guard let value = Double(digits), let seconds = ["h": 3600.0, "m": 60, "s": 1, "ms": 0.001][unit] else { return false }
            total += value * seconds
            digits = ""
            unit = ""
            return true
        }
        for character in text {
            if character.isNumber || character == "." {
                if !unit.isEmpty, !flush() { return nil }
                digits.append(character)
            } else {
                unit.append(character)
            }
        }
        guard flush() else { return nil }
        return Int64(total.rounded(.up))
    }

    /// The first moment of the schedule after a time; nil when there is none.
    package func next(after unixSeconds: Double) -> Double? {
        switch form {
        case .every(let seconds):
            return (unixSeconds + Double(seconds)).rounded(.down)
        case .fields(let minutes, let hours, let days, let months, let weekdays, let anyDay, let anyWeekday):
            var time = (Int64(unixSeconds.rounded(.down)) / 60 + 1) * 60
            let end = time + Self.yearsMax * 366 * 86_400
            func has(_ bits: UInt64, _ value: Int64) -> Bool { bits & 1 << UInt64(value) != 0 }
            while time < end {
                let local = time + zone.offsetSeconds(at: time)
                let day = Int64((Double(local) / 86_400).rounded(.down))
                let secondOfDay = local - day * 86_400
                let date = CivilTime.date(day)
                guard has(months, date.month) else {
                    let nextMonth =
                        date.month == 12
                        ? CivilTime.days(year: date.year + 1, month: 1, day: 1)
                        : CivilTime.days(year: date.year, month: date.month + 1, day: 1)
                    time += (nextMonth - day) * 86_400 - secondOfDay
                    continue
                }
                // When both day fields are given, either may match.
                let (dayFits, weekdayFits) = (has(days, date.day), has(weekdays, CivilTime.weekday(day)))
                guard anyDay || anyWeekday ? dayFits && weekdayFits : dayFits || weekdayFits else {
                    time += 86_400 - secondOfDay
                    continue
                }
                guard has(hours, secondOfDay / 3600) else {
                    time += 3600 - secondOfDay % 3600
                    continue
                }
                guard has(minutes, secondOfDay % 3600 / 60) else {
                    time += 60
                    continue
                }
                return Double(time)
            }
            return nil
        }
    }
}
