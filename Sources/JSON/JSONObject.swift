/// The members of a JSON object, in the order they were added.
///
/// Kubernetes objects have few members, where a linear search is fastest; above `indexThreshold` members an index is kept, so that a
/// hostile object with a million members does not cost a quadratic time.
public struct JSONObject: Sendable {
    public typealias Member = (key: String, value: JSON)

    @usableFromInline static var indexThreshold: Int { 24 }

    public private(set) var members: [Member]
    @usableFromInline var index: [String: Int]?

    public init() {
        members = []
        index = nil
    }

    /// Later members with the same name win, in the place of the first.
    public init(_ members: [(String, JSON)]) {
        self.init()
        self.members.reserveCapacity(members.count)
        for (key, value) in members { self[key] = value }
    }

    /// For the parser, which has made sure that the names differ.
    init(unique members: [Member]) {
        self.members = members
        index = nil
        if members.count > Self.indexThreshold { rebuildIndex() }
    }

    public var count: Int { members.count }
    public var isEmpty: Bool { members.isEmpty }
    public var keys: some Sequence<String> { members.lazy.map(\.key) }

    public func position(of key: String) -> Int? {
        if let index { return index[key] }
        for position in members.indices where members[position].key == key { return position }
        return nil
    }

    public subscript(key: String) -> JSON? {
        get { position(of: key).map { members[$0].value } }
        set {
            switch (position(of: key), newValue) {
            case (let position?, let value?): members[position].value = value
            case (let position?, nil):
                members.remove(at: position)
                if index != nil { rebuildIndex() }
            case (nil, let value?):
                members.append((key, value))
                if index != nil {
                    index?[key] = members.count - 1
                } else if members.count > Self.indexThreshold {
                    rebuildIndex()
                }
            case (nil, nil): break
            }
        }
    }

    /// Changes a member in place. The closure is not called when there is no such member.
    public mutating func update(_ key: String, _ change: (inout JSON) throws -> Void) rethrows {
        guard let position = position(of: key) else { return }
        try change(&members[position].value)
    }

    /// Changes every member's value in place.
    public mutating func updateAll(_ change: (String, inout JSON) throws -> Void) rethrows {
        for position in members.indices { try change(members[position].key, &members[position].value) }
    }

    /// Adds a member known to be new, or replaces it. Faster than the subscript for a new object.
    public mutating func append(_ key: String, _ value: JSON) { self[key] = value }

    public mutating func removeAll(where condition: (Member) -> Bool) {
        members.removeAll(where: condition)
        if index != nil { rebuildIndex() }
    }

    private mutating func rebuildIndex() {
        guard members.count > Self.indexThreshold else {
            index = nil
            return
        }
        var fresh: [String: Int] = [:]
        fresh.reserveCapacity(members.count)
        for position in members.indices { fresh[members[position].key] = position }
        index = fresh
    }
}

extension JSONObject: Sequence {
    public func makeIterator() -> IndexingIterator<[Member]> { members.makeIterator() }
}

/// Two objects are equal when they have the same members, in any order.
extension JSONObject: Hashable {
    public static func == (left: JSONObject, right: JSONObject) -> Bool {
        guard left.count == right.count else { return false }
        for (position, member) in left.members.enumerated() {
            // Objects that come from one another keep their order, so the same place is tried first.
            if right.members[position].key == member.key {
                if right.members[position].value != member.value { return false }
            } else {
                guard let other = right[member.key], other == member.value else { return false }
            }
        }
        return true
    }

    public func hash(into hasher: inout Hasher) {
        var sum = 0
        for (key, value) in members {
            var member = Hasher()
            member.combine(key)
            member.combine(value)
            sum &+= member.finalize()
        }
        hasher.combine(sum)
    }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
    public init(dictionaryLiteral elements: (String, JSON)...) { self.init(elements) }
}
