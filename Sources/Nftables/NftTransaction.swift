/// Text for one `nft -f -`: statements in order, applied all or none.
///
/// It saves the caller the syntax, not the thinking: expressions (`ip saddr 10.0.0.0/8 accept`) are nft's own language.
package struct NftTransaction: Sendable {
    /// Elements per statement: long lines make nft's parser slow.
    private static let elementsPerStatementMax = 1000

    package private(set) var text = ""

    package init() {}

    package var isEmpty: Bool { text.isEmpty }

    package mutating func add(_ table: NftTable) { line("add table \(table)") }

    /// Removes all rules, keeps chains, sets and maps.
    package mutating func flush(_ table: NftTable) { line("flush table \(table)") }

    /// Works also when the table does not exist.
    package mutating func delete(_ table: NftTable) {
        add(table)
        line("delete table \(table)")
    }

    /// An ordinary chain, jumped to by others.
    package mutating func addChain(_ table: NftTable, _ chain: String) { line("add chain \(table) \(chain)") }

    /// A chain the kernel calls: `hook` such as `type nat hook prerouting priority dstnat`.
    package mutating func addChain(_ table: NftTable, _ chain: String, hook: String, policy: String = "accept") {
        line("add chain \(table) \(chain) { \(hook); policy \(policy); }")
    }

    package mutating func flushChain(_ table: NftTable, _ chain: String) { line("flush chain \(table) \(chain)") }

    package mutating func deleteChain(_ table: NftTable, _ chain: String) { line("delete chain \(table) \(chain)") }

    package mutating func addRule(_ table: NftTable, _ chain: String, _ rule: String) {
        line("add rule \(table) \(chain) \(rule)")
    }

    /// `definition` such as `type ipv4_addr . inet_proto . inet_service : verdict`.
    package mutating func addMap(_ table: NftTable, _ map: String, _ definition: String) {
        line("add map \(table) \(map) { \(definition); }")
    }

    package mutating func addSet(_ table: NftTable, _ set: String, _ definition: String) {
        line("add set \(table) \(set) { \(definition); }")
    }

    /// Elements of a set (`10.0.0.1 . tcp . 80`) or a map (`10.0.0.1 . tcp . 80 : goto service-x`).
    package mutating func addElements(_ table: NftTable, _ set: String, _ elements: [String]) {
        statements("add element \(table) \(set)", elements)
    }

    /// Elements by key. Deleting one that is not there fails the whole transaction.
    package mutating func deleteElements(_ table: NftTable, _ set: String, _ keys: [String]) {
        statements("delete element \(table) \(set)", keys)
    }

    package mutating func flushElements(_ table: NftTable, _ set: String, isMap: Bool) {
        line("flush \(isMap ? "map" : "set") \(table) \(set)")
    }

    /// Anything else.
    package mutating func statement(_ text: String) { line(text) }

    private mutating func statements(_ head: String, _ elements: [String]) {
        var rest = elements[...]
        while !rest.isEmpty {
            line("\(head) { \(rest.prefix(Self.elementsPerStatementMax).joined(separator: ", ")) }")
            rest = rest.dropFirst(Self.elementsPerStatementMax)
        }
    }

    private mutating func line(_ line: String) {
        text += line
        text += "\n"
    }
}
