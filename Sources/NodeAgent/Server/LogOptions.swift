import KubeMeta

/// The query of `/containerLogs` (PodLogOptions).
package struct LogOptions: Equatable, Sendable {
    package var follow = false
    package var previous = false
    package var timestamps = false
    package var tailLines: Int?
    package var limitBytes: Int?
    /// Seconds since 1970.
    package var since: Double?
    /// `Stdout`, `Stderr`; nil for both.
    package var stream: String?

    /// - Throws: a text for a 400.
    package init(query: [(name: String, value: String)], now: Double) throws(AgentError) {
        for (name, value) in query {
            switch name {
            case "follow": follow = Self.bool(value)
            case "previous": previous = Self.bool(value)
            case "timestamps": timestamps = Self.bool(value)
            case "tailLines":
                guard let number = Int(value), number >= 0 else { throw AgentError("Invalid parameter \"tailLines\": must be greater than or equal to 0") }
                tailLines = number
            case "limitBytes":
                guard let number = Int(value), number >= 1 else { throw AgentError("Invalid parameter \"limitBytes\": must be greater than 0") }
                limitBytes = number
            case "sinceSeconds":
                guard let number = Double(value), number >= 1 else { throw AgentError("Invalid parameter \"sinceSeconds\": must be greater than 0") }
                since = now - number
            case "sinceTime":
                guard let time = KubeTime.parse(value) else { throw AgentError("Invalid parameter \"sinceTime\": \(value)") }
                since = time
            case "stream": stream = value == "All" || value.isEmpty ? nil : value
            default: break
            }
        }
    }

    private static func bool(_ value: String) -> Bool { ["1", "t", "true", "T", "TRUE", "True", ""].contains(value) }

    /// What the reader sees of a line; nil when it is left out.
    package func text(of line: LogLine) -> String? {
        if let stream, stream.lowercased() != line.stream { return nil }
        if let since, let time = KubeTime.parse(line.time), time < since { return nil }
        return timestamps ? "\(line.time) \(line.text)" : line.text
    }
}
