/// Why a JSON patch could not be carried out. Texts are those that upstream's patch library gives to users.
public struct JSONPatchError: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable { case malformed, unappliable, testFailed }
    public var kind: Kind
    public var message: String
    public var description: String { message }
}

extension JSON {
    /// Operations in one JSON patch at the most (upstream's limit).
    public static let patchOperationsMax = 10_000

    /// RFC 7386: members of `patch` replace those of this value, null removes, objects merge.
    public mutating func applyMergePatch(_ patch: JSON) {
        guard case .object(let changes) = patch else {
            self = patch
            return
        }
        var target: JSONObject
        if case .object(let object) = self { target = object } else { target = JSONObject() }
        self = .null
        for (key, value) in changes {
            if value.isNull {
                target[key] = nil
            } else if case .object = value {
                var child = target[key] ?? .null
                child.applyMergePatch(value)
                target[key] = child
            } else {
                target[key] = value
            }
        }
        self = .object(target)
    }

    /// RFC 6902: add, remove, replace, move, copy and test, all or nothing.
    public mutating func applyJSONPatch(_ patch: JSON) throws(JSONPatchError) {
        guard case .array(let operations) = patch else {
            throw JSONPatchError(kind: .malformed, message: "json: cannot unmarshal \(patch.typeName) into Go value of type jsonpatch.Patch")
        }
        guard operations.count <= Self.patchOperationsMax else {
            throw JSONPatchError(
                kind: .malformed,
                message: "The allowed maximum operations in a JSON patch is \(Self.patchOperationsMax), got \(operations.count)")
        }
        var result = self
        var copiedBytes = 0
        for operation in operations { try result.applyOperation(operation, copiedBytes: &copiedBytes) }
        self = result
    }

    /// Bytes that all copies of one patch may add (upstream's limit, that of a request's body): copies of copies double each time.
    public static let patchCopiedBytesMax = 3 * 1024 * 1024

    /// A value put somewhere may not nest the whole deeper than a parsed text can be.
    private static func checkDepth(_ value: JSON, below depth: Int) throws(JSONPatchError) {
        guard value.isShallower(than: JSONLimits().depthMax - depth) else {
            throw JSONPatchError(kind: .unappliable, message: "exceeded max depth")
        }
    }

    /// Whether arrays and objects nest at most so deep.
    private func isShallower(than depth: Int) -> Bool {
        guard depth >= 0 else { return false }
        switch self {
        case .array(let elements): return depth > 0 && elements.allSatisfy { $0.isShallower(than: depth - 1) }
        case .object(let object): return depth > 0 && object.members.allSatisfy { $0.value.isShallower(than: depth - 1) }
        default: return true
        }
    }

    private mutating func applyOperation(_ operation: JSON, copiedBytes: inout Int) throws(JSONPatchError) {
        let name = operation["op"]?.string ?? "unknown"
        guard let pathText = operation["path"]?.string else {
            throw JSONPatchError(kind: .unappliable, message: "\(name) operation does not apply: missing path")
        }
        let path = Self.pointer(pathText)
        switch name {
        case "add":
            try Self.checkDepth(operation["value"] ?? .null, below: path.count)
            try add(operation["value"] ?? .null, at: path, pathText)
        case "remove":
            try remove(at: path, pathText, operation: "remove")
        case "replace":
            guard value(at: path) != nil else {
                throw JSONPatchError(
                    kind: .unappliable, message: "replace operation does not apply: doc is missing key: \(pathText): missing value")
            }
            try Self.checkDepth(operation["value"] ?? .null, below: path.count)
            try replace(operation["value"] ?? .null, at: path[...], pathText)
        case "move":
            let from = operation["from"]?.string ?? ""
            guard let moved = value(at: Self.pointer(from)) else {
                throw JSONPatchError(kind: .unappliable, message: "move operation does not apply: doc is missing key: \(from): missing value")
            }
            try Self.checkDepth(moved, below: path.count)
            try remove(at: Self.pointer(from), from, operation: "move")
            try add(moved, at: path, pathText)
        case "copy":
            let from = operation["from"]?.string ?? ""
            guard let copied = value(at: Self.pointer(from)) else {
                throw JSONPatchError(kind: .unappliable, message: "copy operation does not apply: doc is missing key: \(from): missing value")
            }
            copiedBytes += copied.encoded.count
            guard copiedBytes <= Self.patchCopiedBytesMax else {
                throw JSONPatchError(
                    kind: .unappliable,
                    message: "Unable to copy, the accumulated size increase of copy operation is \(copiedBytes), exceeding the limit \(Self.patchCopiedBytesMax)")
            }
            try Self.checkDepth(copied, below: path.count)
            try add(copied, at: path, pathText)
        case "test":
            let wanted = operation["value"] ?? .null
            guard (value(at: path) ?? .null) == wanted else {
                throw JSONPatchError(kind: .testFailed, message: "testing value \(pathText) failed: test failed")
            }
        default:
            throw JSONPatchError(kind: .unappliable, message: "Unexpected kind: \(name)")
        }
    }

    static func pointer(_ text: String) -> [String] {
        guard !text.isEmpty else { return [] }
        return text.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map { part in
            guard part.utf8.contains(UInt8(ascii: "~")) else { return String(part) }
            var result = ""
            var escaped = false
            for character in part {
                if escaped {
                    result += character == "1" ? "/" : character == "0" ? "~" : "~\(character)"
                    escaped = false
                } else if character == "~" {
                    escaped = true
                } else {
                    result.append(character)
                }
            }
            return result
        }
    }

    /// The value at a JSON pointer's steps.
    public func value(at path: [String]) -> JSON? {
        var current = self
        for step in path {
            switch current {
            case .object(let object):
                guard let next = object[step] else { return nil }
                current = next
            case .array(let elements):
                guard let index = Int(step), elements.indices.contains(index) else { return nil }
                current = elements[index]
            default: return nil
            }
        }
        return current
    }

    private mutating func add(_ value: JSON, at path: [String], _ text: String) throws(JSONPatchError) {
        guard let last = path.last else {
            self = value
            return
        }
        try change(at: path.dropLast(), operation: "add", text) { (parent: inout JSON) throws(JSONPatchError) in
            switch parent {
            case .object: parent[last] = value
            case .array(var elements):
                if last == "-" {
                    elements.append(value)
                } else {
                    guard let index = Int(last) else {
                        throw JSONPatchError(
                            kind: .unappliable, message: "add operation does not apply: doc is missing path: \"\(text)\": missing value")
                    }
                    guard index >= 0, index <= elements.count else {
                        throw JSONPatchError(
                            kind: .unappliable,
                            message: "add operation does not apply: doc is missing path: \"\(text)\": Unable to access invalid index: \(index): invalid index referenced")
                    }
                    elements.insert(value, at: index)
                }
                parent = .array(elements)
            default:
                throw JSONPatchError(
                    kind: .unappliable, message: "add operation does not apply: doc is missing path: \"\(text)\": missing value")
            }
        }
    }

    private mutating func remove(at path: [String], _ text: String, operation: String) throws(JSONPatchError) {
        guard let last = path.last else {
            self = .null
            return
        }
        try change(at: path.dropLast(), operation: operation, text) { (parent: inout JSON) throws(JSONPatchError) in
            switch parent {
            case .object(let object):
                guard object[last] != nil else {
                    throw JSONPatchError(
                        kind: .unappliable,
                        message: "\(operation) operation does not apply: doc is missing key: \(text): missing value")
                }
                parent[last] = nil
            case .array(var elements):
                guard let index = Int(last), elements.indices.contains(index) else {
                    throw JSONPatchError(
                        kind: .unappliable,
                        message: "\(operation) operation does not apply: error in remove for path: '\(text)': Unable to access invalid index: \(last): invalid index referenced")
                }
                elements.remove(at: index)
                parent = .array(elements)
            default:
                throw JSONPatchError(
                    kind: .unappliable, message: "\(operation) operation does not apply: doc is missing path: \"\(text)\": missing value")
            }
        }
    }

    private mutating func replace(_ value: JSON, at path: ArraySlice<String>, _ text: String) throws(JSONPatchError) {
        guard let last = path.last else {
            self = value
            return
        }
        try change(at: path.dropLast(), operation: "replace", text) { (parent: inout JSON) throws(JSONPatchError) in
            switch parent {
            case .object: parent[last] = value
            case .array(var elements):
                guard let index = Int(last), elements.indices.contains(index) else { return }
                elements[index] = value
                parent = .array(elements)
            default: break
            }
        }
    }

    private mutating func change(
        at path: ArraySlice<String>, operation: String, _ text: String, _ body: (inout JSON) throws(JSONPatchError) -> Void
    ) throws(JSONPatchError) {
        guard let step = path.first else {
            try body(&self)
            return
        }
        switch self {
        case .object(var object):
            guard var child = object[step] else { break }
            self = .null
            object[step] = .null
            defer {
                object[step] = child
                self = .object(object)
            }
            try child.change(at: path.dropFirst(), operation: operation, text, body)
            return
        case .array(var elements):
            guard let index = Int(step), elements.indices.contains(index) else { break }
            try elements[index].change(at: path.dropFirst(), operation: operation, text, body)
            self = .array(elements)
            return
        default: break
        }
        throw JSONPatchError(
            kind: .unappliable, message: "\(operation) operation does not apply: doc is missing path: \"\(text)\": missing value")
    }
}
