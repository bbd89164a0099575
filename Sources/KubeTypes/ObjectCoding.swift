import JSON
import KubeMeta

/// Readers of members for the generated types: absent or of another type reads as nothing.
extension JSONObject {
    func string(_ key: String) -> String? { self[key]?.string }
    func int(_ key: String) -> Int? { self[key]?.int.map(Int.init) }
    func bool(_ key: String) -> Bool? { self[key]?.bool }
    func double(_ key: String) -> Double? { self[key]?.double }

    func value<V: KubeValue>(_ key: String) -> V? {
        guard let value = self[key], case .object = value else { return nil }
        return V(json: value)
    }

    func values<V: KubeValue>(_ key: String) -> [V] { (self[key]?.array ?? []).map(V.init(json:)) }
    func values(_ key: String) -> [Quantity] { (self[key]?.array ?? []).map(Quantity.init(json:)) }
    func values(_ key: String) -> [IntOrString] { (self[key]?.array ?? []).map(IntOrString.init(json:)) }
    func raws(_ key: String) -> [JSON] { self[key]?.array ?? [] }
    func strings(_ key: String) -> [String] { (self[key]?.array ?? []).compactMap(\.string) }
    func ints(_ key: String) -> [Int] { (self[key]?.array ?? []).compactMap { $0.int.map(Int.init) } }

    private func map<T>(_ key: String, _ read: (JSON) -> T?) -> [String: T] {
        guard let object = self[key]?.object else { return [:] }
        var result: [String: T] = [:]
        result.reserveCapacity(object.count)
        for (name, value) in object { result[name] = read(value) }
        return result
    }

    func stringMap(_ key: String) -> [String: String] { map(key) { $0.string } }
    func quantityMap(_ key: String) -> [String: Quantity] { map(key, Quantity.init(json:)) }
    func stringsMap(_ key: String) -> [String: [String]] { map(key) { ($0.array ?? []).compactMap(\.string) } }
    func valueMap<V: KubeValue>(_ key: String) -> [String: V] { map(key, V.init(json:)) }
}

/// Builds an object; what is empty or absent is left out.
struct ObjectWriter {
    private var object: JSONObject

    init() { object = JSONObject() }
    init(apiVersion: String, kind: String) { object = ["kind": .string(kind), "apiVersion": .string(apiVersion)] }

    var json: JSON { .object(object) }

    mutating func raw(_ key: String, _ value: JSON?) {
        if let value { object.append(key, value) }
    }
    mutating func string(_ key: String, _ value: String) { if !value.isEmpty { object.append(key, .string(value)) } }
    mutating func optionalString(_ key: String, _ value: String?) { if let value { object.append(key, .string(value)) } }
    mutating func int(_ key: String, _ value: Int?) { if let value { object.append(key, JSON(value)) } }
    mutating func bool(_ key: String, _ value: Bool?) { if let value { object.append(key, .bool(value)) } }
    mutating func double(_ key: String, _ value: Double?) { if let value { object.append(key, .double(value)) } }
    mutating func value(_ key: String, _ value: (some KubeValue)?) { if let value { object.append(key, value.json) } }
    mutating func values(_ key: String, _ values: [some KubeValue]) { list(key, values.map(\.json)) }
    mutating func values(_ key: String, _ values: [Quantity]) { list(key, values.map(\.json)) }
    mutating func values(_ key: String, _ values: [IntOrString]) { list(key, values.map(\.json)) }
    mutating func raws(_ key: String, _ values: [JSON]) { list(key, values) }
    mutating func strings(_ key: String, _ values: [String]) { list(key, values.map(JSON.string)) }
    mutating func ints(_ key: String, _ values: [Int]) { list(key, values.map { JSON($0) }) }
    mutating func stringMap(_ key: String, _ map: [String: String]) { members(key, map) { .string($0) } }
    mutating func quantityMap(_ key: String, _ map: [String: Quantity]) { members(key, map) { $0.json } }
    mutating func stringsMap(_ key: String, _ map: [String: [String]]) { members(key, map) { JSON($0) } }
    mutating func valueMap(_ key: String, _ map: [String: some KubeValue]) { members(key, map) { $0.json } }

    private mutating func list(_ key: String, _ values: [JSON]) { if !values.isEmpty { object.append(key, .array(values)) } }

    private mutating func members<T>(_ key: String, _ map: [String: T], _ write: (T) -> JSON) {
        guard !map.isEmpty else { return }
        object.append(key, .object(JSONObject(map.sorted { $0.key < $1.key }.map { ($0.key, write($0.value)) })))
    }
}
