public import JSON

/// A number, or a name or percentage (API conventions, `IntOrString`).
public enum IntOrString: Sendable, Hashable {
    case int(Int)
    case string(String)

    public init(json: JSON) {
        if let value = json.int { self = .int(Int(truncatingIfNeeded: value)) } else { self = .string(json.string ?? "") }
    }

    public var json: JSON {
        switch self {
        case .int(let value): JSON(value)
        case .string(let value): .string(value)
        }
    }

    public var text: String {
        switch self {
        case .int(let value): String(value)
        case .string(let value): value
        }
    }

    /// The number, or the percentage of `total` rounded up or down. Nil when a string is not a percentage.
    public func scaled(total: Int, roundUp: Bool) -> Int? {
        switch self {
        case .int(let value): return value
        case .string(let text):
            guard text.hasSuffix("%"), let percent = Int(text.dropLast()) else { return nil }
            let (product, overflow) = percent.multipliedReportingOverflow(by: total)
            guard !overflow else { return nil }
            return roundUp && product % 100 > 0 ? product / 100 + 1 : product / 100
        }
    }
}
