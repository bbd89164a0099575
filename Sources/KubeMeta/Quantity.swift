public import JSON

/// An amount of a resource: a decimal number with an optional SI (`m`, `k`, `M`, ...), binary (`Ki`, `Mi`, ...) or exponent suffix.
/// (API conventions; upstream `resource.Quantity`.)
///
/// The number is held as a whole count of 10⁻⁹ in 128 bits: upstream rounds anything finer up as well.
public struct Quantity: Sendable, Hashable, Comparable {
    public enum Format: Sendable, Hashable { case decimalSI, binarySI, decimalExponent }

    /// The amount in billionths.
    public var nanos: Int128
    public var format: Format

    public init(nanos: Int128, format: Format) {
        self.nanos = nanos
        self.format = format
    }

    public init(_ whole: Int64, format: Format = .decimalSI) { self.init(nanos: Int128(whole) * 1_000_000_000, format: format) }
    public init(milli: Int64, format: Format = .decimalSI) { self.init(nanos: Int128(milli) * 1_000_000, format: format) }

    public static let zero = Quantity(0)

    /// Upstream's message for a text that is no quantity.
    public static let formatMessage =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"

    /// Nil when the text is not a quantity.
    public init?(_ text: String) {
        var bytes = Array(text.utf8)[...]
        var negative = false
        if let first = bytes.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
            negative = first == UInt8(ascii: "-")
            bytes = bytes.dropFirst()
        }
        var whole: [UInt8] = []
        var fraction: [UInt8] = []
        var sawDot = false
        while let byte = bytes.first {
            if (0x30...0x39).contains(byte) {
                if sawDot { fraction.append(byte - 0x30) } else { whole.append(byte - 0x30) }
            } else if byte == UInt8(ascii: "."), !sawDot {
                sawDot = true
            } else {
                break
            }
            bytes = bytes.dropFirst()
        }
        guard !(whole.isEmpty && fraction.isEmpty) else { return nil }
        guard whole.count <= 28, fraction.count <= 40 else { return nil }

        var multiplier = Int128(1)
        var exponent = 0
        let suffix = String(decoding: bytes, as: UTF8.self)
        switch suffix {
        case "": format = .decimalSI
        case "n": (exponent, format) = (-9, .decimalSI)
        case "u": (exponent, format) = (-6, .decimalSI)
        case "m": (exponent, format) = (-3, .decimalSI)
        case "k": (exponent, format) = (3, .decimalSI)
        case "M": (exponent, format) = (6, .decimalSI)
        case "G": (exponent, format) = (9, .decimalSI)
        case "T": (exponent, format) = (12, .decimalSI)
        case "P": (exponent, format) = (15, .decimalSI)
        case "E": (exponent, format) = (18, .decimalSI)
        case "Ki": (multiplier, format) = (1 << 10, .binarySI)
        case "Mi": (multiplier, format) = (1 << 20, .binarySI)
        case "Gi": (multiplier, format) = (1 << 30, .binarySI)
        case "Ti": (multiplier, format) = (1 << 40, .binarySI)
        case "Pi": (multiplier, format) = (1 << 50, .binarySI)
        case "Ei": (multiplier, format) = (1 << 60, .binarySI)
        default:
            guard let first = bytes.first, first | 0x20 == UInt8(ascii: "e") else { return nil }
            let digits = suffix.dropFirst()
            let magnitude = digits.first == "+" || digits.first == "-" ? digits.dropFirst() : digits
            guard magnitude.utf8.first.map({ (0x30...0x39).contains($0) }) == true, let value = Int(digits), (-30...18).contains(value) else { return nil }
            exponent = value
            format = .decimalExponent
        }

        // amount = digits × 10^(9 + exponent − fraction digits) × multiplier, rounded up to a whole billionth.
        var digits = Int128(0)
        for digit in whole + fraction {
            let (product, overflow) = digits.multipliedReportingOverflow(by: 10)
            guard !overflow else { return nil }
            digits = product + Int128(digit)
        }
        let (scaled, overflow) = digits.multipliedReportingOverflow(by: multiplier)
        guard !overflow else { return nil }
        digits = scaled
        var power = 9 + exponent - fraction.count
        var remainder = false
        while power > 0 {
            let (product, overflow) = digits.multipliedReportingOverflow(by: 10)
            guard !overflow else { return nil }
            digits = product
            power -= 1
        }
        while power < 0 {
            remainder = remainder || digits % 10 != 0
            digits /= 10
            power += 1
        }
        if remainder { digits += 1 }
        nanos = negative ? -digits : digits
    }

    public static func < (left: Quantity, right: Quantity) -> Bool { left.nanos < right.nanos }
    /// Sums stay within 128 bits: what a client can send adds up to more.
    public static func + (left: Quantity, right: Quantity) -> Quantity {
        let (sum, overflow) = left.nanos.addingReportingOverflow(right.nanos)
        return Quantity(nanos: overflow ? (right.nanos < 0 ? -.max : .max) : sum, format: left.nanos == 0 ? right.format : left.format)
    }

    public static func - (left: Quantity, right: Quantity) -> Quantity {
        let (difference, overflow) = left.nanos.subtractingReportingOverflow(right.nanos)
        return Quantity(nanos: overflow ? (right.nanos < 0 ? .max : -.max) : difference, format: left.format)
    }

    public static func += (left: inout Quantity, right: Quantity) { left = left + right }

    /// The amount rounded away from zero to a whole number (bytes, counts), held within Int64.
    public var value: Int64 { Self.clamp(Self.roundAway(nanos, 1_000_000_000)) }
    /// The amount in thousandths rounded away from zero (milli-CPUs), held within Int64.
    public var milliValue: Int64 { Self.clamp(Self.roundAway(nanos, 1_000_000)) }

    private static func roundAway(_ value: Int128, _ divisor: Int128) -> Int128 {
        let quotient = value / divisor
        return value % divisor == 0 ? quotient : value > 0 ? quotient + 1 : quotient - 1
    }

    private static func clamp(_ value: Int128) -> Int64 {
        value > Int128(Int64.max) ? .max : value < Int128(Int64.min) ? .min : Int64(value)
    }

    /// The canonical text: the largest suffix that leaves a whole number.
    public var text: String {
        if nanos == 0 { return "0" }
        let sign = nanos < 0 ? "-" : ""
        let magnitude = nanos < 0 ? -nanos : nanos
        if format == .binarySI, magnitude % 1_000_000_000 == 0, magnitude >= 1024 * 1_000_000_000 {
            var amount = magnitude / 1_000_000_000
            var step = 0
            let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
            while step < 6, amount % 1024 == 0 {
                amount /= 1024
                step += 1
            }
            return "\(sign)\(amount)\(suffixes[step])"
        }
        var amount = magnitude
        var exponent = -9
        while exponent < 18, amount % 1000 == 0 {
            amount /= 1000
            exponent += 3
        }
        if format == .decimalExponent { return exponent == 0 ? "\(sign)\(amount)" : "\(sign)\(amount)e\(exponent)" }
        let suffix: String
        switch exponent {
        case -9: suffix = "n"
        case -6: suffix = "u"
        case -3: suffix = "m"
        case 3: suffix = "k"
        case 6: suffix = "M"
        case 9: suffix = "G"
        case 12: suffix = "T"
        case 15: suffix = "P"
        case 18: suffix = "E"
        default: suffix = ""
        }
        return "\(sign)\(amount)\(suffix)"
    }

    public var json: JSON { .string(text) }

    /// Lenient: numbers are taken too, anything unreadable is zero. For values that the server has checked.
    public init(json: JSON) {
        switch json {
        case .string(let text): self = Quantity(text) ?? .zero
        case .int(let value): self = Quantity(value)
        case .double(let value): self = Quantity(value.description) ?? .zero
        default: self = .zero
        }
    }
}
