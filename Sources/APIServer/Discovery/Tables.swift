import JSON
import KubeAPI
import KubeMeta

/// The columns that `kubectl get` prints, kind by kind.
enum Tables {
    struct Column: Sendable {
        var name: String
        var type = "string"
        /// Columns above 0 are shown by `-o wide` alone.
        var priority = 0
        var description: String
        var cell: @Sendable (JSON, Double) -> JSON

        init(_ name: String, type: String = "string", wide: Bool = false, description: String = "", _ cell: @escaping @Sendable (JSON, Double) -> JSON) {
            self.name = name
            self.type = type
            priority = wide ? 1 : 0
            self.description = description
            self.cell = cell
        }

        /// The value at a path.
        init(_ name: String, type: String = "string", wide: Bool = false, path: String, fallback: JSON = "", description: String = "") {
            let steps = path.split(separator: ".").map(String.init)
            self.init(name, type: type, wide: wide, description: description) { object, _ in
                switch object.value(at: steps) {
                case nil, .null?: fallback
                case let value?: value
                }
            }
        }
    }

    /// - Parameter includeObject: `None`, `Metadata` (the default) or `Object`: what a row carries besides its cells.
    static func table(_ objects: [JSON], _ kind: ResourceKind, now: Double, includeObject: String?) -> JSON {
        let columns = TableColumns.of(kind)
        let rows = objects.map { object -> JSON in
            var row: JSON = ["cells": .array(columns.map { $0.cell(object, now) })]
            switch includeObject {
            case "None"?: break
            case "Object"?: row["object"] = object
            default:
                row["object"] = ["kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] ?? [:]]
            }
            return row
        }
        return [
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": [:],
            "columnDefinitions": .array(
                columns.map { column in
                    [
                        "name": .string(column.name), "type": .string(column.type), "format": column.name == "Name" ? "name" : "",
                        "description": .string(column.description), "priority": JSON(column.priority),
                    ]
                }), "rows": .array(rows),
        ]
    }

    /// A time as the age it has now: `5s`, `3m20s`, `4h12m`, `2d3h`, `40d`, `2y30d` (upstream `HumanDuration`).
    static func age(_ time: JSON?, _ now: Double) -> JSON {
        guard let text = time?.string, let then = KubeTime.parse(text) else { return "<unknown>" }
        return .string(duration(now - then))
    }

    static func duration(_ interval: Double) -> String {
        let seconds = Int(interval)
        if seconds < -1 { return "<invalid>" }
        if seconds < 0 { return "0s" }
        if seconds < 120 { return "\(seconds)s" }
        let minutes = seconds / 60
        if minutes < 10 { return seconds % 60 == 0 ? "\(minutes)m" : "\(minutes)m\(seconds % 60)s" }
        if minutes < 180 { return "\(minutes)m" }
        let hours = seconds / 3600
        if hours < 8 { return minutes % 60 == 0 ? "\(hours)h" : "\(hours)h\(minutes % 60)m" }
        if hours < 48 { return "\(hours)h" }
        let days = hours / 24
        if hours < 192 { return hours % 24 == 0 ? "\(days)d" : "\(days)d\(hours % 24)h" }
        if days < 730 { return "\(days)d" }
        let years = days / 365
        if days < 2920 { return days % 365 == 0 ? "\(years)y" : "\(years)y\(days % 365)d" }
        return "\(years)y"
    }
}
