package import JSON
import KubeMeta

/// Strategic merge patch (API conventions, "Patch operations"): JSON merge in which lists merge by the keys of the schema, with the
/// directives `$patch`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…` and `$retainKeys`.
package enum StrategicMerge {
    package struct PatchError: Error, Sendable { package var message: String }

    private static let directive = "$patch"
    private static let retainKeys = "$retainKeys"
    private static let deletePrefix = "$deleteFromPrimitiveList/"
    private static let orderPrefix = "$setElementOrder/"

    package static func apply(_ patch: JSON, to target: inout JSON, type: TypeSchema?) throws(PatchError) {
        guard case .object(let changes) = patch else {
            throw PatchError(message: "cannot unmarshal \(patch.typeName) into Go value of type map[string]interface {}")
        }
        target = try merge(changes, into: target.object ?? [:], type)
    }

    private static func merge(_ patch: JSONObject, into target: JSONObject, _ type: TypeSchema?) throws(PatchError) -> JSON {
        if let name = patch[directive] {
            switch name.string {
            case "replace":
                var fresh = patch
                fresh[directive] = nil
                return .object(fresh)
            case "delete": return .object([:])
            case "merge": break
            default: throw PatchError(message: "unknown patch type found in patch")
            }
        }
        let before: JSONObject? = target
        var target = target
        if let keep = patch[retainKeys]?.array {
            let kept = Set(keep.compactMap(\.string))
            target.removeAll { !kept.contains($0.key) }
        }
        for (key, value) in patch {
            if key == directive || key == retainKeys { continue }
            if key.hasPrefix(deletePrefix) {
                let name = String(key.dropFirst(deletePrefix.count))
                let gone = value.array ?? []
                if var list = target[name]?.array {
                    list.removeAll { gone.contains($0) }
                    target[name] = .array(list)
                }
                continue
            }
            if key.hasPrefix(orderPrefix) { continue }
            let field = type?.field(key)
            switch value {
            case .null: target[key] = nil
            case .object(let changes):
                var inner: TypeSchema?
                var nested: ValueType?
                switch field?.type {
                case .object(let schema): inner = schema
                case .map(let element): nested = element
                default: break
                }
                if let nested, case .object(let schema) = nested {
                    target[key] = try mergeMap(changes, into: target[key]?.object ?? [:], schema)
                } else {
                    target[key] = try merge(changes, into: target[key]?.object ?? [:], inner)
                }
            case .array(let elements):
                target[key] = try mergeList(elements, into: target[key]?.array, field)
            default: target[key] = value
            }
        }
        for (key, value) in patch {
            guard value.array != nil, !key.hasPrefix("$"), patch[orderPrefix + key] == nil else { continue }
            guard let before, let field = type?.field(key), field.mergesList, let list = target[key]?.array else { continue }
            target[key] = .array(sorted(list, patch: value.array ?? [], before: before[key]?.array ?? [], mergeKey: field.mergeKey))
        }
        for (key, value) in patch where key.hasPrefix(orderPrefix) {
            let name = String(key.dropFirst(orderPrefix.count))
            guard let list = target[name]?.array, let order = value.array else { continue }
            target[name] = .array(reorder(list, order, mergeKey: type?.field(name)?.mergeKey))
        }
        return .object(target)
    }

    private static func mergeMap(_ patch: JSONObject, into target: JSONObject, _ type: TypeSchema) throws(PatchError) -> JSON {
        var target = target
        for (key, value) in patch {
            if value.isNull {
                target[key] = nil
            } else if case .object(let changes) = value {
                target[key] = try merge(changes, into: target[key]?.object ?? [:], type)
            } else {
                target[key] = value
            }
        }
        return .object(target)
    }

    private static func mergeList(_ patch: [JSON], into target: [JSON]?, _ field: FieldSchema?) throws(PatchError) -> JSON {
        guard let field, field.mergesList else { return .array(patch.filter { $0[directive] == nil || $0.object?.count ?? 0 > 1 }) }
        guard let mergeKey = field.mergeKey else {
            // A list of scalars that merges: new values are added at the end.
            var list = target ?? []
            for element in patch where !list.contains(element) { list.append(element) }
            return .array(list)
        }
        if patch.contains(where: { $0[directive]?.string == "replace" }) {
            return .array(
                patch.compactMap { element in
                    guard element[directive]?.string == "replace" else { return element }
                    guard var object = element.object, object.count > 1 else { return nil }
                    object[directive] = nil
                    return .object(object)
                })
        }
        var inner: TypeSchema?
        if case .list(.object(let schema)) = field.type { inner = schema }
        var list = target ?? []
        for element in patch {
            guard case .object(let changes) = element else { throw PatchError(message: "expected map, got \(element.typeName) in \(field.name)") }
            guard let key = changes[mergeKey] else {
                throw PatchError(message: "map: \(element.text) does not contain declared merge key: \(mergeKey)")
            }
            let position = list.firstIndex { $0[mergeKey] == key }
            if changes[directive]?.string == "delete" {
                list.removeAll { $0[mergeKey] == key }
            } else if let position {
                list[position] = try merge(changes, into: list[position].object ?? [:], inner)
            } else {
                list.append(try merge(changes, into: [:], inner))
            }
        }
        return .array(list)
    }

    /// Without an order in the patch: what the patch names comes in its order, the rest keeps its place among them.
    private static func sorted(_ list: [JSON], patch: [JSON], before: [JSON], mergeKey: String?) -> [JSON] {
        func identity(_ element: JSON) -> JSON { mergeKey.map { element[$0] ?? .null } ?? element }
        let wanted = patch.map(identity)
        let old = before.map(identity)
        func place(_ element: JSON) -> Int { old.firstIndex(of: identity(element)) ?? -1 }
        var named = wanted.compactMap { name in list.first { identity($0) == name } }[...]
        var others = list.filter { !wanted.contains(identity($0)) }[...]
        var result: [JSON] = []
        while let next = named.first {
            if let other = others.first, place(other) < place(next) {
                result.append(other)
                others = others.dropFirst()
            } else {
                result.append(next)
                named = named.dropFirst()
            }
        }
        return result + others
    }

    /// The elements that the order names come in that order; the others keep their place after the element they followed.
    private static func reorder(_ list: [JSON], _ order: [JSON], mergeKey: String?) -> [JSON] {
        func identity(_ element: JSON) -> JSON? { mergeKey.map { element[$0] ?? .null } ?? element }
        let wanted = order.map { identity($0) }
        func rank(_ element: JSON) -> Int? { wanted.firstIndex { $0 == identity(element) } }
        let named = list.filter { rank($0) != nil }.sorted { (rank($0) ?? 0) < (rank($1) ?? 0) }
        let others = list.enumerated().filter { rank($0.element) == nil }
        guard !others.isEmpty else { return named }
        // An unnamed element stands before the first named element that it preceded.
        var result: [JSON] = []
        var pending = others[...]
        for element in named {
            let original = list.firstIndex(of: element) ?? 0
            while let first = pending.first, first.offset < original {
                result.append(first.element)
                pending = pending.dropFirst()
            }
            result.append(element)
        }
        return result + pending.map(\.element)
    }
}
