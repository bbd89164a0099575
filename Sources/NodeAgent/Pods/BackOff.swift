/// Growing delays, one a key: none before the first repetition, then 10 s doubling to 5 minutes; forgotten after 10 quiet minutes.
package struct BackOff: Sendable {
    private struct Entry {
        var seconds: Double
        var updated: Double
    }

    private let secondsMin: Double
    private let secondsMax: Double
    private var entries: [String: Entry] = [:]

    package init(secondsMin: Double = 10, secondsMax: Double = 300) {
        self.secondsMin = secondsMin
        self.secondsMax = secondsMax
    }

    /// Seconds the key's delay is long now; 0 before the first repetition.
    package func seconds(_ key: String) -> Double { entries[key]?.seconds ?? 0 }

    /// Seconds left to wait after something that happened at `event`; 0 when it may go on.
    package func remaining(_ key: String, since event: Double, now: Double) -> Double {
        guard let entry = entries[key], event - entry.updated <= secondsMax * 2 else { return 0 }
        return max(0, event + entry.seconds - now)
    }

    /// Notes one more repetition.
    package mutating func next(_ key: String, event: Double, now: Double) {
        if let entry = entries[key], event - entry.updated <= secondsMax * 2 {
            entries[key] = Entry(seconds: min(entry.seconds * 2, secondsMax), updated: now)
        } else {
            entries[key] = Entry(seconds: secondsMin, updated: now)
        }
    }

    package mutating func forget(_ key: String) { entries[key] = nil }

    /// `10s`, `1m20s`: as Go prints a duration.
    package static func text(_ seconds: Double) -> String {
        let whole = Int(seconds)
        return whole < 60 ? "\(whole)s" : "\(whole / 60)m\(whole % 60)s"
    }
}
