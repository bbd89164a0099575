package import JSON

/// A set of field paths, in the form of `metadata.managedFields[].fieldsV1`: a trie whose steps are `f:name`, `k:{keys}`, `v:value`.
package struct FieldSet: Sendable, Equatable {
    /// The path that leads here is itself in the set.
    package var isMember: Bool
    package var children: [String: FieldSet]

    package init(isMember: Bool = false, children: [String: FieldSet] = [:]) {
        self.isMember = isMember
        self.children = children
    }

    package static let leaf = FieldSet(isMember: true)

    package var isEmpty: Bool { !isMember && children.isEmpty }

    package init(json: JSON) {
        guard let object = json.object, !object.isEmpty else {
            self = .leaf
            return
        }
        self.init()
        for (key, value) in object {
            if key == "." { isMember = true } else { children[key] = FieldSet(json: value) }
        }
    }

    package var json: JSON {
        var object = JSONObject()
        if isMember, !children.isEmpty { object.append(".", [:]) }
        for (key, child) in children.sorted(by: { $0.key < $1.key }) { object.append(key, child.json) }
        return .object(object)
    }

    package mutating func formUnion(_ other: FieldSet) {
        isMember = isMember || other.isMember
        for (key, child) in other.children { children[key, default: FieldSet()].formUnion(child) }
    }

    package mutating func subtract(_ other: FieldSet) {
        if other.isMember { isMember = false }
        for (key, child) in other.children {
            change(key) { $0.subtract(child) }
        }
    }

    /// Removes every path of the other set with all that lies below it.
    package mutating func removeSubtrees(_ other: FieldSet) {
        for (key, child) in other.children {
            if child.isMember { children[key] = nil } else { change(key) { $0.removeSubtrees(child) } }
        }
    }

    package func intersection(_ other: FieldSet) -> FieldSet {
        var result = FieldSet(isMember: isMember && other.isMember)
        for (key, child) in children {
            guard let theirs = other.children[key] else { continue }
            let common = child.intersection(theirs)
            if !common.isEmpty { result.children[key] = common }
        }
        return result
    }

    /// The set without the subtree below a path of steps.
    package mutating func remove(_ path: ArraySlice<String>) {
        guard let first = path.first else { return }
        if path.count == 1 {
            children[first] = nil
        } else {
            change(first) { $0.remove(path.dropFirst()) }
        }
    }

    /// Changes a child in its place, so that its table is not copied; a child left empty goes.
    private mutating func change(_ key: String, _ body: (inout FieldSet) -> Void) {
        guard let index = children.index(forKey: key) else { return }
        body(&children.values[index])
        if children.values[index].isEmpty { children.remove(at: index) }
    }

    package mutating func insert(_ path: ArraySlice<String>) {
        guard let first = path.first else {
            isMember = true
            return
        }
        children[first, default: FieldSet()].insert(path.dropFirst())
    }

    /// Every member path in the form of upstream's messages: `.spec.containers[name="c"].image`.
    package var paths: [String] {
        var found: [String] = []
        collect("", &found)
        return found
    }

    private func collect(_ prefix: String, _ found: inout [String]) {
        if isMember { found.append(prefix) }
        for (key, child) in children.sorted(by: { $0.key < $1.key }) {
            let rest = String(key.dropFirst(2))
            let step: String
            switch key.prefix(2) {
            case "f:": step = ".\(rest)"
            case "k:":
                let keys = (try? JSON.parse(rest))?.object ?? [:]
                step = "[" + keys.members.map { "\($0.key)=\($0.value.text)" }.joined(separator: ",") + "]"
            case "v:": step = "[=\(rest)]"
            default: step = "[\(rest)]"
            }
            child.collect(prefix + step, &found)
        }
    }
}

/// Comparing and merging values along the schema, field by field.
package enum FieldWalk {
    /// The step of a list element of a map-list: its keys in order of name, with the schema's default for an absent one.
    static func keyStep(_ element: JSON, _ keys: [String]) -> String {
        var object = JSONObject()
        for key in keys.sorted() {
            if let value = element[key] { object.append(key, value) } else if let known = keyDefaults[key] { object.append(key, known) }
        }
        return "k:" + JSON.object(object).text
    }

    /// Keys of map-lists that have a default, so that an element without the key is the same as one with the default.
    private static let keyDefaults: [String: JSON] = ["protocol": "TCP"]

    /// All fields of a value as server-side apply owns them: leaves, list elements, empty objects.
    package static func fields(of value: JSON, _ type: TypeSchema?) -> FieldSet {
        var set = FieldSet()
        guard let object = value.object else { return .leaf }
        for (key, member) in object {
            let field = type?.field(key)
            set.children["f:" + key] = fields(of: member, topology: field?.topology, field?.type)
        }
        return set
    }

    private static func fields(of value: JSON, topology: Topology?, _ type: ValueType?) -> FieldSet {
        switch (topology ?? deduced(value), value) {
        case (.granular, .object(let object)):
            if object.isEmpty { return .leaf }
            var set = FieldSet()
            for (key, member) in object {
                let (memberTopology, memberType) = inner(type, key, member)
                set.children["f:" + key] = fields(of: member, topology: memberTopology, memberType)
            }
            return set
        case (.map(let keys), .array(let elements)):
            var set = FieldSet()
            if elements.isEmpty { return .leaf }
            for element in elements {
                var child = fields(of: element, elementSchema(type))
                child.isMember = true
                set.children[keyStep(element, keys)] = child
            }
            return set
        case (.set, .array(let elements)):
            if elements.isEmpty { return .leaf }
            var set = FieldSet()
            for element in elements { set.children["v:" + element.text] = .leaf }
            return set
        default: return .leaf
        }
    }

    /// Untyped data (custom resources without a schema): objects are granular, lists are atomic.
    private static func deduced(_ value: JSON) -> Topology { if case .object = value { .granular } else { .atomic } }

    private static func elementSchema(_ type: ValueType?) -> TypeSchema? {
        if case .list(.object(let schema)) = type { schema } else { nil }
    }

    private static func inner(_ type: ValueType?, _ key: String, _ value: JSON) -> (Topology?, ValueType?) {
        switch type {
        case .object(let schema):
            let field = schema.field(key)
            return (field?.topology, field?.type)
        case .map(let element):
            switch element {
            case .object(let schema): return (schema.isAtomic ? .atomic : .granular, element)
            case .map: return (.granular, element)
            default: return (.atomic, element)
            }
        default: return (nil, nil)
        }
    }

    package struct Change: Sendable {
        /// Added or changed.
        package var changed = FieldSet()
        package var removed = FieldSet()
    }

    /// What differs between two objects. A node that is new is itself a member, as are all fields below it.
    package static func compare(_ old: JSON, _ new: JSON, _ type: TypeSchema?) -> Change {
        var change = Change()
        compareObjects(old.object ?? [:], new.object ?? [:], type.map { .object($0) }, &change)
        return change
    }

    private static func compareObjects(_ old: JSONObject, _ new: JSONObject, _ type: ValueType?, _ change: inout Change) {
        for (key, value) in new {
            let (topology, inner) = inner(type, key, value)
            let before = old[key] ?? (type.flatMap { zeroMember($0, key) })
            compareValues(before, value, topology ?? deduced(value), inner, "f:" + key, &change)
        }
        for (key, _) in old where new[key] == nil {
            change.removed.children["f:" + key] = .leaf
        }
    }

    /// Go's zero value of a struct has these members already, so that they never count as added: structs that are no pointers, and
    /// lists that are always written.
    private static let alwaysPresent: Set<String> = [
        "metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy", "containers", "selector", "scaleTargetRef",
        "roleRef", "involvedObject", "source", "podSelector", "names", "resources",
    ]
    private static let pointerSelectors: Set<String> = [
        "DeploymentSpec", "ReplicaSetSpec", "StatefulSetSpec", "DaemonSetSpec", "JobSpec", "PersistentVolumeClaimSpec", "PodDisruptionBudgetSpec",
    ]

    private static func zeroMember(_ type: ValueType, _ key: String) -> JSON? {
        guard case .object(let schema) = type, alwaysPresent.contains(key), let field = schema.field(key) else { return nil }
        if key == "selector", pointerSelectors.contains(schema.goName) { return nil }
        if key == "template", schema.goName == "ReplicationControllerSpec" { return nil }
        switch field.type {
        case .object: return [:]
        case .list: return []
        default: return nil
        }
    }

    private static func compareValues(
        _ old: JSON?, _ new: JSON, _ topology: Topology, _ type: ValueType?, _ step: String, _ change: inout Change
    ) {
        guard let old else {
            change.changed.children[step] = added(new, topology, type)
            return
        }
        if old == new {
            // An empty object that was there as the zero value counts as set once somebody sends it.
            return
        }
        var nested = Change()
        switch (topology, old, new) {
        case (.granular, .object(let before), .object(let after)):
            compareObjects(before, after, type, &nested)
        case (.map(let keys), .array(let before), .array(let after)):
            let schema = elementSchema(type)
            var known: [String: JSON] = [:]
            for element in before { known[keyStep(element, keys)] = element }
            for element in after {
                let name = keyStep(element, keys)
                if let match = known.removeValue(forKey: name) {
                    guard match != element else { continue }
                    var inner = Change()
                    compareObjects(match.object ?? [:], element.object ?? [:], schema.map { .object($0) }, &inner)
                    if !inner.changed.isEmpty { nested.changed.children[name] = inner.changed }
                    if !inner.removed.isEmpty { nested.removed.children[name] = inner.removed }
                } else {
                    var fresh = addedObject(element, schema)
                    fresh.isMember = true
                    nested.changed.children[name] = fresh
                }
            }
            for name in known.keys { nested.removed.children[name] = .leaf }
        case (.set, .array(let before), .array(let after)):
            for element in after where !before.contains(element) { nested.changed.children["v:" + element.text] = .leaf }
            for element in before where !after.contains(element) { nested.removed.children["v:" + element.text] = .leaf }
        default:
            nested.changed = .leaf
        }
        if !nested.changed.isEmpty { change.changed.children[step] = nested.changed }
        if !nested.removed.isEmpty { change.removed.children[step] = nested.removed }
    }

    private static func added(_ value: JSON, _ topology: Topology, _ type: ValueType?) -> FieldSet {
        var set = FieldSet(isMember: true)
        switch (topology, value) {
        case (.granular, .object(let object)):
            for (key, member) in object {
                let (memberTopology, memberType) = inner(type, key, member)
                set.children["f:" + key] = added(member, memberTopology ?? deduced(member), memberType)
            }
        case (.map(let keys), .array(let elements)):
            for element in elements {
                var child = addedObject(element, elementSchema(type))
                child.isMember = true
                set.children[keyStep(element, keys)] = child
            }
        case (.set, .array(let elements)):
            for element in elements { set.children["v:" + element.text] = .leaf }
        default: break
        }
        return set
    }

    private static func addedObject(_ element: JSON, _ schema: TypeSchema?) -> FieldSet {
        added(element, .granular, schema.map { .object($0) })
    }

    // MARK: Merging for apply

    /// The live value with the applied configuration laid over it.
    package static func merge(_ live: JSON, _ applied: JSON, _ type: TypeSchema?) -> JSON {
        mergeValues(live, applied, .granular, type.map { .object($0) })
    }

    private static func mergeValues(_ live: JSON?, _ applied: JSON, _ topology: Topology, _ type: ValueType?) -> JSON {
        guard let live else { return applied }
        switch (topology, live, applied) {
        case (.granular, .object(var object), .object(let changes)):
            for (key, value) in changes {
                let (memberTopology, memberType) = inner(type, key, value)
                object[key] = mergeValues(object[key], value, memberTopology ?? deduced(value), memberType)
            }
            return .object(object)
        case (.map(let keys), .array(let before), .array(let after)):
            let schema = elementSchema(type).map { ValueType.object($0) }
            return .array(interleave(before, after, { keyStep($0, keys) }, { mergeValues($0, $1, .granular, schema) }))
        case (.set, .array(let before), .array(let after)):
            return .array(interleave(before, after, { $0.text }, { $1 }))
        default: return applied
        }
    }

    /// The union of two lists: common elements stand in the order of the applied list, the live ones keep their neighbours.
    private static func interleave(
        _ live: [JSON], _ applied: [JSON], _ name: (JSON) -> String, _ merge: (JSON, JSON) -> JSON
    ) -> [JSON] {
        var known: [String: JSON] = [:]
        for element in live { known[name(element)] = element }
        let wanted = Set(applied.map(name))
        var result: [JSON] = []
        var left = live[...]
        var right = applied[...]
        while true {
            if let first = left.first, !wanted.contains(name(first)) {
                result.append(first)
                left = left.dropFirst()
            } else if let first = right.first {
                right = right.dropFirst()
                if let match = known[name(first)] {
                    result.append(merge(match, first))
                    left = left.dropFirst()
                } else {
                    result.append(first)
                }
            } else if left.isEmpty {
                return result
            } else {
                left = left.dropFirst()
            }
        }
    }

    /// Removes the fields of a set from a value: leaves and list elements that are members. Objects left empty go too.
    package static func removing(_ set: FieldSet, from value: JSON, _ type: TypeSchema?) -> JSON {
        removed(set, value, .granular, type.map { .object($0) }) ?? .object([:])
    }

    private static func removed(_ set: FieldSet, _ value: JSON, _ topology: Topology, _ type: ValueType?) -> JSON? {
        if set.children.isEmpty { return set.isMember ? nil : value }
        switch (topology, value) {
        case (.granular, .object(var object)):
            for (step, child) in set.children where step.hasPrefix("f:") {
                let key = String(step.dropFirst(2))
                guard let member = object[key] else { continue }
                let (memberTopology, memberType) = inner(type, key, member)
                object[key] = removed(child, member, memberTopology ?? deduced(member), memberType)
            }
            if object.isEmpty { return nil }
            return .object(object)
        case (.map(let keys), .array(let elements)):
            let schema = elementSchema(type)
            let kept = elements.compactMap { element -> JSON? in
                guard let child = set.children[keyStep(element, keys)] else { return element }
                if child.isMember { return nil }
                return removed(child, element, .granular, schema.map { .object($0) })
            }
            return kept.isEmpty ? nil : .array(kept)
        case (.set, .array(let elements)):
            let kept = elements.filter { set.children["v:" + $0.text] == nil }
            return kept.isEmpty ? nil : .array(kept)
        default: return set.isMember ? nil : value
        }
    }

    /// The part of a set that exists in a value.
    package static func existing(_ set: FieldSet, in value: JSON, _ type: TypeSchema?) -> FieldSet {
        var all = fields(of: value, type)
        // Inner nodes of an object are there too, whether or not they are members of the set of fields.
        markAll(&all)
        return set.intersection(all)
    }

    private static func markAll(_ set: inout FieldSet) {
        set.isMember = true
        for key in set.children.keys {
            guard var child = set.children[key] else { continue }
            set.children[key] = nil
            markAll(&child)
            set.children[key] = child
        }
    }
}
