/// Times as the API writes them: RFC 3339 in UTC, whole seconds (`metav1.Time`) or microseconds (`metav1.MicroTime`).
public enum KubeTime {
    /// `2026-11-23T16:04:05Z`
    public static func text(_ unixSeconds: Double) -> String { format(Int64(unixSeconds.rounded(.down)), microseconds: nil) }

    /// `2026-11-23T16:04:05.123456Z`
    public static func microText(_ unixSeconds: Double) -> String {
        let whole = unixSeconds.rounded(.down)
        return format(Int64(whole), microseconds: min(999_999, Int64(((unixSeconds - whole) * 1_000_000).rounded())))
    }

    private static func format(_ seconds: Int64, microseconds: Int64?) -> String {
        let days = Int64((Double(seconds) / 86_400).rounded(.down))
        let rest = seconds - days * 86_400
        // Days to a civil date by eras of 400 years, counted from 0000-03-01.
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
        let month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        // Every object that is written carries some times: digits into one buffer, no strings between.
        return String(unsafeUninitializedCapacity: 27) { buffer in
            var count = 0
            func put(_ value: Int64, _ width: Int, _ end: Unicode.Scalar) {
                var left = value.magnitude
                for place in stride(from: width - 1, through: 0, by: -1) {
                    buffer[count + place] = UInt8(ascii: "0") + UInt8(left % 10)
                    left /= 10
                }
                buffer[count + width] = UInt8(ascii: end)
                count += width + 1
            }
            put(min(max(year, 0), 9999), 4, "-")  // RFC 3339 has years of four digits.
            put(month, 2, "-")
            put(day, 2, "T")
            put(rest / 3600, 2, ":")
            put(rest / 60 % 60, 2, ":")
            put(rest % 60, 2, microseconds == nil ? "Z" : ".")
            if let microseconds { put(microseconds, 6, "Z") }
            return count
        }
    }

    private static func dayCount(_ year: Int64, _ month: Int64) -> Int64 {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }

    /// Seconds since 1970 of an RFC 3339 time, with a fraction or an offset if it has one. Nil when the text is none.
    public static func parse(_ text: String) -> Double? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20 else { return nil }
        func number(_ start: Int, _ count: Int) -> Int64? {
            var value: Int64 = 0
            for index in start..<(start + count) {
                guard index < bytes.count, (0x30...0x39).contains(bytes[index]) else { return nil }
                value = value * 10 + Int64(bytes[index] - 0x30)
            }
            return value
        }
        guard let year = number(0, 4), bytes[4] == 0x2D, let month = number(5, 2), bytes[7] == 0x2D, let day = number(8, 2),
            bytes[10] | 0x20 == UInt8(ascii: "t"), let hour = number(11, 2), bytes[13] == 0x3A, let minute = number(14, 2), bytes[16] == 0x3A,
            let second = number(17, 2), (1...12).contains(month), day >= 1, day <= dayCount(year, month), hour < 24, minute < 60, second < 60
        else { return nil }
        var position = 19
        var fraction = 0.0
        if bytes[position] == UInt8(ascii: ".") {
            position += 1
            var scale = 0.1
            let start = position
            while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
                fraction += Double(bytes[position] - 0x30) * scale
                scale /= 10
                position += 1
            }
            guard position > start else { return nil }
        }
        guard position < bytes.count else { return nil }
        var offset: Int64 = 0
        switch bytes[position] {
        case UInt8(ascii: "Z"), UInt8(ascii: "z"):
            guard position == bytes.count - 1 else { return nil }
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard let hours = number(position + 1, 2), bytes.count == position + 6, bytes[position + 3] == 0x3A,
                let minutes = number(position + 4, 2), hours < 24, minutes < 60
            else { return nil }
            offset = (hours * 3600 + minutes * 60) * (bytes[position] == UInt8(ascii: "-") ? -1 : 1)
        default: return nil
        }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let days = era * 146_097 + dayOfEra - 719_468
        return Double(days * 86_400 + hour * 3600 + minute * 60 + second - offset) + fraction
    }
}
