package import JSON
import Yams

/// YAML bodies, read and written as the JSON they stand for.
package enum YAML {
    package struct Failure: Error { package var message: String }

    /// Nodes of one document: aliases are expanded, so this also bounds what a small text can blow up to.
    private static let nodesMax = 200_000

    package static func decode(_ bytes: some Collection<UInt8>) throws(Failure) -> JSON {
        let text = String(decoding: bytes, as: UTF8.self)
        var budget = nodesMax
        do {
            guard let node = try Yams.compose(yaml: text) else { return .null }
            return try json(node, &budget)
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(message: "error converting YAML to JSON: yaml: \(error)")
        }
    }

    /// All documents of a text; empty ones are left out.
    package static func decodeAll(_ text: String) throws(Failure) -> [JSON] {
        var budget = nodesMax
        do {
            return try Array(Yams.compose_all(yaml: text)).map { try json($0, &budget) }.filter { !$0.isNull }
        } catch let failure as Failure {
            throw failure
        } catch {
            throw Failure(message: "error converting YAML to JSON: yaml: \(error)")
        }
    }

    private static func json(_ node: Node, _ budget: inout Int) throws -> JSON {
        budget -= 1
        guard budget > 0 else { throw Failure(message: "error converting YAML to JSON: yaml: document contains excessive aliasing") }
        switch node {
        case .mapping(let mapping):
            var object = JSONObject()
            for (key, value) in mapping { object[key.scalar?.string ?? ""] = try json(value, &budget) }
            return .object(object)
        case .sequence(let sequence): return .array(try sequence.map { try json($0, &budget) })
        case .scalar(let scalar): return self.scalar(scalar)
        case .alias: throw Failure(message: "error converting YAML to JSON: yaml: unresolved alias")
        }
    }

    private static func scalar(_ scalar: Node.Scalar) -> JSON {
        guard scalar.style == .plain || scalar.style == .any else { return .string(scalar.string) }
        if scalar.tag == .init(.str) { return .string(scalar.string) }
        switch scalar.string {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
        case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
        default: break
        }
        let text = scalar.string
        if let first = text.utf8.first, first == 0x2D || first == 0x2B || first == 0x2E || (0x30...0x39).contains(first) {
            if let value = Int64(text) {
                // A leading zero means octal in YAML 1.1.
                if text.utf8.count > 1, text.first == "0", let octal = Int64(text, radix: 8) { return .int(octal) }
                return .int(value)
            }
            if text.hasPrefix("0x"), let value = Int64(text.dropFirst(2), radix: 16) { return .int(value) }
            if text.hasPrefix("0o"), let value = Int64(text.dropFirst(2), radix: 8) { return .int(value) }
            if text.utf8.allSatisfy({ (0x30...0x39).contains($0) || [0x2B, 0x2D, 0x2E, 0x45, 0x65].contains($0) }), let value = Double(text) {
                return .double(value)
            }
        }
        return .string(text)
    }

    package static func encode(_ value: JSON) -> String { (try? Yams.serialize(node: node(value), sortKeys: true)) ?? value.text }

    private static func node(_ value: JSON) -> Node {
        switch value {
        case .null: return Node("null", Tag(.null))
        case .bool(let flag): return Node(flag ? "true" : "false", Tag(.bool))
        case .int(let number): return Node(String(number), Tag(.int))
        case .double: return Node(value.text, Tag(.float))
        case .string(let text):
            // What would read as something else is quoted.
            let plain = scalar(Node.Scalar(text))
            let style: Node.Scalar.Style = plain == value && !text.contains("\n") ? .any : text.contains("\n") ? .literal : .doubleQuoted
            return .scalar(Node.Scalar(text, Tag(.str), style))
        case .array(let elements): return Node(elements.map(node))
        case .object(let object): return Node(object.map { (Node($0.key), node($0.value)) })
        }
    }
}
