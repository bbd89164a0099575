public import JSON

/// A selection by labels: all requirements must hold.
public struct Selector: Sendable, Hashable {
    public enum Operator: Sendable, Hashable { case `in`, notIn, exists, doesNotExist, greaterThan, lessThan }

    public struct Requirement: Sendable, Hashable {
        public var key: String
        public var `operator`: Operator
        public var values: [String]

        public init(key: String, operator: Operator, values: [String]) {
            self.key = key
            self.operator = `operator`
            self.values = values
        }

        public func matches(_ value: String?) -> Bool {
            switch `operator` {
            case .in: return value.map(values.contains) ?? false
            case .notIn: return value.map { !values.contains($0) } ?? true
            case .exists: return value != nil
            case .doesNotExist: return value == nil
            case .greaterThan, .lessThan:
                guard let value = value.flatMap({ Int64($0) }), let bound = values.first.flatMap({ Int64($0) }) else { return false }
                return `operator` == .greaterThan ? value > bound : value < bound
            }
        }
    }

    public var requirements: [Requirement]
    /// Selects no object at all (a nil LabelSelector).
    public var selectsNothing: Bool

    public init(_ requirements: [Requirement] = [], selectsNothing: Bool = false) {
        self.requirements = requirements
        self.selectsNothing = selectsNothing
    }

    public static let everything = Selector()
    public static let nothing = Selector(selectsNothing: true)

    public init(matchLabels: [String: String]) {
        self.init(matchLabels.sorted { $0.key < $1.key }.map { Requirement(key: $0.key, operator: .in, values: [$0.value]) })
    }

    public var isEmpty: Bool { requirements.isEmpty && !selectsNothing }

    public func matches(_ labels: [String: String]) -> Bool { matches { labels[$0] } }

    public func matches(_ label: (String) -> String?) -> Bool {
        if selectsNothing { return false }
        for requirement in requirements where !requirement.matches(label(requirement.key)) { return false }
        return true
    }

    /// The selection that a `LabelSelector` object describes; absent selects nothing, empty selects everything.
    public init(labelSelector: JSON?) {
        guard let labelSelector, case .object = labelSelector else {
            self = .nothing
            return
        }
        var requirements: [Requirement] = []
        for (key, value) in (labelSelector["matchLabels"]?.object ?? [:]).members.sorted(by: { $0.key < $1.key }) {
            requirements.append(Requirement(key: key, operator: .in, values: [value.string ?? ""]))
        }
        for expression in labelSelector["matchExpressions"]?.array ?? [] {
            let kind: Operator
            switch expression["operator"]?.string {
            case "In": kind = .in
            case "NotIn": kind = .notIn
            case "Exists": kind = .exists
            case "DoesNotExist": kind = .doesNotExist
            case "Gt": kind = .greaterThan
            case "Lt": kind = .lessThan
            default: continue
            }
            requirements.append(
                Requirement(
                    key: expression["key"]?.string ?? "", operator: kind,
                    values: (expression["values"]?.array ?? []).compactMap(\.string)))
        }
        self.init(requirements)
    }

    /// The canonical text, as `status.selector` of a Scale carries it.
    public var text: String {
        requirements.map { requirement in
            let values = requirement.values.sorted().joined(separator: ",")
            switch requirement.operator {
            case .in: return requirement.values.count == 1 ? "\(requirement.key)=\(values)" : "\(requirement.key) in (\(values))"
            case .notIn: return "\(requirement.key) notin (\(values))"
            case .exists: return requirement.key
            case .doesNotExist: return "!\(requirement.key)"
            case .greaterThan: return "\(requirement.key)>\(values)"
            case .lessThan: return "\(requirement.key)<\(values)"
            }
        }.joined(separator: ",")
    }
}
