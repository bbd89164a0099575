package import JSON
package import KubeMeta

/// One entry of `metadata.managedFields`: what one manager owns.
package struct ManagedEntry: Sendable, Equatable {
    package enum Operation: String, Sendable { case apply = "Apply", update = "Update" }

    package var manager: String
    package var operation: Operation
    package var apiVersion: String
    package var subresource: String
    /// RFC 3339; empty when absent.
    package var time: String
    package var fields: FieldSet

    package init(manager: String, operation: Operation, apiVersion: String, subresource: String, time: String, fields: FieldSet) {
        self.manager = manager
        self.operation = operation
        self.apiVersion = apiVersion
        self.subresource = subresource
        self.time = time
        self.fields = fields
    }

    init?(json: JSON) {
        guard let operation = Operation(rawValue: json["operation"]?.string ?? "") else { return nil }
        self.init(
            manager: json["manager"]?.string ?? "", operation: operation, apiVersion: json["apiVersion"]?.string ?? "",
            subresource: json["subresource"]?.string ?? "", time: json["time"]?.string ?? "", fields: FieldSet(json: json["fieldsV1"] ?? [:]))
    }

    var json: JSON {
        var object: JSON = [:]
        if !manager.isEmpty { object["manager"] = .string(manager) }
        object["operation"] = .string(operation.rawValue)
        if !apiVersion.isEmpty { object["apiVersion"] = .string(apiVersion) }
        if !time.isEmpty { object["time"] = .string(time) }
        object["fieldsType"] = "FieldsV1"
        object["fieldsV1"] = fields.json
        if !subresource.isEmpty { object["subresource"] = .string(subresource) }
        return object
    }

    func isSameManager(_ other: ManagedEntry) -> Bool {
        manager == other.manager && operation == other.operation && apiVersion == other.apiVersion && subresource == other.subresource
    }
}

/// Tracks who owns which field (KEP-555): plain writes take what they change, applies own what they say.
package enum ManagedFields {
    /// What no manager owns.
    private static let unowned: [[String]] = [
        ["f:apiVersion"], ["f:kind"], ["f:metadata", "f:name"], ["f:metadata", "f:namespace"], ["f:metadata", "f:creationTimestamp"],
        ["f:metadata", "f:selfLink"], ["f:metadata", "f:uid"], ["f:metadata", "f:generation"], ["f:metadata", "f:managedFields"],
        ["f:metadata", "f:resourceVersion"], ["f:metadata", "f:deletionTimestamp"], ["f:metadata", "f:deletionGracePeriodSeconds"],
    ]

    /// More managers than this by plain updates are folded into one (upstream's `ancient-changes`).
    private static let updateManagersMax = 10

    private static func strip(_ set: inout FieldSet, resetting: [[String]]) {
        for path in unowned { set.remove(path[...]) }
        for path in resetting { set.remove(path[...]) }
        if var metadata = set.children["f:metadata"] {
            metadata.isMember = false
            set.children["f:metadata"] = metadata.isEmpty ? nil : metadata
        }
        set.isMember = false
    }

    package static func entries(of object: JSON) -> [ManagedEntry] {
        (object["metadata"]?["managedFields"]?.array ?? []).compactMap(ManagedEntry.init(json:))
    }

    private static func write(_ entries: [ManagedEntry], into object: inout JSON) {
        let kept = entries.filter { !$0.fields.isEmpty }
        // Applies first, then updates by time, as upstream orders them.
        let sorted = kept.enumerated().sorted { left, right in
            if left.element.operation != right.element.operation { return left.element.operation == .apply }
            if left.element.time != right.element.time { return left.element.time < right.element.time }
            if left.element.manager != right.element.manager { return left.element.manager < right.element.manager }
            return left.offset < right.offset
        }.map(\.element)
        object.set(sorted.isEmpty ? nil : .array(sorted.map(\.json)), at: "metadata", "managedFields")
    }

    /// Records a plain create, update or patch.
    ///
    /// - Parameters:
    ///   - old: the object before; an empty object for a create.
    ///   - resetting: paths that this kind of write cannot change (status for a write of the main resource).
    package static func update(
        old: JSON, new: inout JSON, type: TypeSchema?, manager: String, apiVersion: String, subresource: String, time: String,
        resetting: [[String]]
    ) {
        // A client that sends no managed fields leaves them as they are; an explicit empty list resets them.
        var entries: [ManagedEntry]
        if let sent = new["metadata"]?["managedFields"]?.array, !sent.isEmpty {
            entries = sent.compactMap(ManagedEntry.init(json:))
        } else if new["metadata"]?["managedFields"] != nil, old["metadata"] != nil {
            new.set(nil, at: "metadata", "managedFields")
            return
        } else {
            entries = Self.entries(of: old)
        }
        var change = FieldWalk.compare(without(old), without(new), type)
        strip(&change.changed, resetting: resetting)
        strip(&change.removed, resetting: resetting)
        if !change.changed.isEmpty || !change.removed.isEmpty {
            let mine = ManagedEntry(
                manager: manager, operation: .update, apiVersion: apiVersion, subresource: subresource, time: time, fields: change.changed)
            var found = false
            for index in entries.indices {
                entries[index].fields.removeSubtrees(change.removed)
                if entries[index].isSameManager(mine) {
                    found = true
                    let before = entries[index].fields
                    entries[index].fields.formUnion(change.changed)
                    if entries[index].fields != before || !change.removed.isEmpty { entries[index].time = time }
                } else {
                    entries[index].fields.subtract(change.changed)
                }
            }
            if !found, !mine.fields.isEmpty { entries.append(mine) }
            fold(&entries)
        }
        write(entries, into: &new)
    }

    private static func fold(_ entries: inout [ManagedEntry]) {
        var updates = entries.indices.filter { entries[$0].operation == .update && entries[$0].subresource.isEmpty }
        guard updates.count > updateManagersMax else { return }
        updates.sort { entries[$0].time < entries[$1].time }
        let surplus = updates.prefix(updates.count - updateManagersMax + 1)
        guard let first = surplus.first else { return }
        for index in surplus.dropFirst() { entries[first].fields.formUnion(entries[index].fields) }
        entries[first].manager = "ancient-changes"
        let gone = Set(surplus.dropFirst())
        entries = entries.enumerated().filter { !gone.contains($0.offset) }.map(\.element)
    }

    private static func without(_ object: JSON) -> JSON {
        var copy = object
        if copy["metadata"]?["managedFields"] != nil { copy.set(nil, at: "metadata", "managedFields") }
        return copy
    }

    /// A field that another manager owns with another value.
    package struct Conflict: Sendable {
        package var entry: ManagedEntry
        package var path: String
    }

    package struct Conflicts: Error, Sendable { package var conflicts: [Conflict] }

    /// Server-side apply: the object that results from an applied configuration.
    ///
    /// - Parameters:
    ///   - live: the object as it is; an empty object when the apply creates it.
    ///   - applied: the configuration, decoded.
    /// - Throws: `Conflicts` when others own what the configuration changes, and `force` is not given.
    package static func apply(
        live: JSON, applied: JSON, type: TypeSchema?, manager: String, apiVersion: String, subresource: String, time: String,
        force: Bool, resetting: [[String]]
    ) throws(Conflicts) -> JSON {
        var wanted = FieldWalk.fields(of: applied, type)
        strip(&wanted, resetting: resetting)
        var entries = Self.entries(of: live)
        var mine = ManagedEntry(
            manager: manager, operation: .apply, apiVersion: apiVersion, subresource: subresource, time: time, fields: wanted)
        let before = entries.firstIndex { $0.operation == .apply && $0.manager == manager && $0.subresource == subresource }

        var result = FieldWalk.merge(without(live), without(applied), type)
        let change = FieldWalk.compare(without(live), result, type)
        var touched = change.changed
        touched.formUnion(change.removed)
        var conflicts: [Conflict] = []
        for index in entries.indices where index != before {
            let common = entries[index].fields.intersection(touched)
            if common.isEmpty { continue }
            if force {
                entries[index].fields.subtract(common)
            } else {
                conflicts += common.paths.map { Conflict(entry: entries[index], path: $0) }
            }
        }
        if !conflicts.isEmpty { throw Conflicts(conflicts: conflicts) }

        // What this manager applied before, applies no more, and nobody else owns, goes.
        if let before {
            var dropped = entries[before].fields
            dropped.subtract(wanted)
            for index in entries.indices where index != before { dropped.subtract(entries[index].fields) }
            if !dropped.isEmpty { result = FieldWalk.removing(dropped, from: result, type) }
            if entries[before].fields == wanted, without(live) == result { mine.time = entries[before].time }
            entries.remove(at: before)
        }
        entries.append(mine)
        write(entries, into: &result)
        return result
    }

    /// The message and causes of a refused apply, in upstream's words.
    package static func status(_ conflicts: [Conflict]) -> APIStatus {
        var groups: [(name: String, paths: [String])] = []
        for conflict in conflicts {
            let name = describe(conflict.entry)
            if let index = groups.firstIndex(where: { $0.name == name }) {
                groups[index].paths.append(conflict.path)
            } else {
                groups.append((name, [conflict.path]))
            }
        }
        groups.sort { $0.name < $1.name }
        let text: String
        if conflicts.count == 1, let only = groups.first {
            text = "Apply failed with 1 conflict: conflict with \(only.name): \(only.paths[0])"
        } else {
            let lines = groups.map { "conflicts with \($0.name):\n" + $0.paths.map { "- \($0)" }.joined(separator: "\n") }
            text = "Apply failed with \(conflicts.count) conflicts: " + lines.joined(separator: "\n")
        }
        return APIStatus(
            code: 409, reason: "Conflict", message: text,
            causes: conflicts.map { APIStatus.Cause(reason: "FieldManagerConflict", message: "conflict with \(describe($0.entry))", field: $0.path) })
    }

    private static func describe(_ entry: ManagedEntry) -> String {
        var text = "\"\(entry.manager)\""
        if !entry.subresource.isEmpty { text += " with subresource \"\(entry.subresource)\"" }
        if entry.operation == .update { text += " using \(entry.apiVersion)" + (entry.time.isEmpty ? "" : " at \(entry.time)") }
        return text
    }
}
