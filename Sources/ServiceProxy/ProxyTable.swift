import Nftables

/// What the kernel's table holds, and the transactions that change it.
struct ProxyTable: Sendable {
    private struct Element: Sendable {
        var value: String
        var owner: String
    }

    /// Bit of the packet mark that asks for masquerading (kube-proxy's own default, bit 14).
    private static let markBit = "0x4000"

    /// The chains of `skeleton`.
    static let fixedChains = [
        "mark-for-masquerade", "services", "nat-prerouting", "nat-output", "nat-postrouting", "reject-new", "no-endpoints", "filter-input",
        "filter-forward", "filter-output", "filter-output-after",
    ]

    let table: NftTable
    private(set) var services: [String: ServiceRules] = [:]
    private var elements: [ProxySet: [String: Element]] = [:]
    /// Services some of whose addresses and ports belong to another service already.
    private var blocked: Set<String> = []
    /// Address of a local endpoint -> number of services it serves.
    private var hairpins: [String: Int] = [:]

    /// A bridge whose inner service traffic has to be masqueraded.
    private let masqueradedBridge: String?

    init(table: NftTable, masqueradedBridge: String? = nil) {
        self.table = table
        self.masqueradedBridge = masqueradedBridge
    }

    // MARK: What is in it

    /// Chain -> number of rules, of the chains that come from services.
    var chainRuleCounts: [String: Int] {
        var counts: [String: Int] = [:]
        for rules in services.values { for (chain, lines) in rules.chains { counts[chain] = lines.count } }
        return counts
    }

    var elementCounts: [String: Int] {
        var counts = ["hairpins": hairpins.count]
        for set in ProxySet.allCases { counts[set.rawValue] = elements[set]?.count ?? 0 }
        return counts
    }

    // MARK: Changes

    /// Takes in what services have become (nil: nothing any more) and gives the transaction that makes it so.
    mutating func update(_ changes: [String: ServiceRules?]) -> NftTransaction {
        var difference = Difference()
        var touched = Set(changes.keys).union(blocked)
        touched = touched.filter { changes[$0] != nil || services[$0] != nil }
        var old: [String: ServiceRules] = [:], new: [String: ServiceRules] = [:]
        for name in touched {
            old[name] = services[name] ?? ServiceRules()
            new[name] = changes[name].map { $0 ?? ServiceRules() } ?? old[name]
        }
        blocked = []
        let order = touched.sorted()
        for name in order { release(name, old[name] ?? ServiceRules(), new[name] ?? ServiceRules(), &difference) }
        for name in order { claim(name, old[name] ?? ServiceRules(), new[name] ?? ServiceRules(), &difference) }
        for name in order {
            guard let before = old[name], let after = new[name] else { continue }
            difference.chains(before.chains, after.chains)
            for (set, seconds) in after.affinitySets where before.affinitySets[set] == nil { difference.newSets[set] = seconds }
            for set in before.affinitySets.keys where after.affinitySets[set] == nil { difference.goneSets.insert(set) }
            if let change = changes[name] { services[name] = change == ServiceRules() ? nil : change }
        }
        return difference.transaction(table)
    }

    /// Everything, in place of whatever is there.
    func fullTransaction() -> NftTransaction {
        var transaction = NftTransaction()
        transaction.delete(table)
        transaction.statement(skeleton)
        var difference = Difference()
        for rules in services.values {
            difference.chains([:], rules.chains)
            difference.newSets.merge(rules.affinitySets) { _, new in new }
        }
        for (set, members) in elements { difference.added[set.rawValue] = members.mapValues(\.value) }
        difference.added["hairpins"] = Dictionary(uniqueKeysWithValues: hairpins.keys.map { ("\($0) . \($0)", "") })
        transaction.statement(difference.transaction(table).text)
        return transaction
    }

    /// Gives up elements the service no longer has, or has with another value.
    private mutating func release(_ name: String, _ before: ServiceRules, _ after: ServiceRules, _ difference: inout Difference) {
        for (set, members) in before.elements {
            for (key, value) in members {
                guard let element = elements[set]?[key], element.owner == name, after.elements[set]?[key] != value else { continue }
                elements[set]?[key] = nil
                difference.remove(set.rawValue, key)
            }
        }
        for address in before.localAddresses.subtracting(after.localAddresses) {
            let count = (hairpins[address] ?? 1) - 1
            hairpins[address] = count > 0 ? count : nil
            if count <= 0 { difference.remove("hairpins", "\(address) . \(address)") }
        }
    }

    private mutating func claim(_ name: String, _ before: ServiceRules, _ after: ServiceRules, _ difference: inout Difference) {
        for (set, members) in after.elements {
            for (key, value) in members {
                if let element = elements[set]?[key] {
                    // First come, first served: an external address that two services claim.
                    if element.owner != name { blocked.insert(name) }
                    continue
                }
                elements[set, default: [:]][key] = Element(value: value, owner: name)
                difference.add(set.rawValue, key, value)
            }
        }
        for address in after.localAddresses.subtracting(before.localAddresses) {
            hairpins[address, default: 0] += 1
            if hairpins[address] == 1 { difference.add("hairpins", "\(address) . \(address)", "") }
        }
    }

    /// The part of the table that never changes.
    private var skeleton: String {
        """
        table \(table) {
          map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
          map service-nodeports { type inet_proto . inet_service : verdict; }
          map no-endpoint-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
          map no-endpoint-nodeports { type inet_proto . inet_service : verdict; }
          set cluster-ips { type ipv4_addr; }
          set hairpins { type ipv4_addr . ipv4_addr; }
          chain mark-for-masquerade { meta mark set meta mark or \(Self.markBit); }
          chain services {
            ip daddr . meta l4proto . th dport vmap @service-ips
            ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @service-nodeports
          }
          chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
          chain nat-output { type nat hook output priority -100; policy accept; jump services; }
          chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept;
            meta mark and \(Self.markBit) != 0 meta mark set meta mark xor \(Self.markBit) masquerade fully-random
            ct status dnat ip saddr . ip daddr @hairpins masquerade fully-random
            \(masqueradedBridge.map { "ct status dnat iifname \"\($0)\" oifname \"\($0)\" masquerade fully-random" } ?? "")
          }
          chain reject-new { meta l4proto tcp reject with tcp reset; reject; }
          chain no-endpoints {
            ip daddr . meta l4proto . th dport vmap @no-endpoint-ips
            ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports
          }
          chain filter-input { type filter hook input priority -110; policy accept; ct state new jump no-endpoints; }
          chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump no-endpoints
            ct state new ip daddr @cluster-ips jump reject-new; }
          chain filter-output { type filter hook output priority -110; policy accept; ct state new jump no-endpoints; }
          chain filter-output-after { type filter hook output priority -90; policy accept;
            ct state new ip daddr @cluster-ips jump reject-new; }
        }
        """
    }
}

/// What to change, collected before it is written in the order nft needs.
private struct Difference {
    var newSets: [String: Int] = [:]
    var goneSets: Set<String> = []
    var newChains: [String: [String]] = [:]
    var changedChains: [String: [String]] = [:]
    var goneChains: Set<String> = []
    var added: [String: [String: String]] = [:]
    var removed: [String: Set<String>] = [:]

    mutating func chains(_ before: [String: [String]], _ after: [String: [String]]) {
        for (name, rules) in after {
            if let known = before[name] {
                if known != rules { changedChains[name] = rules }
            } else {
                newChains[name] = rules
            }
        }
        for name in before.keys where after[name] == nil { goneChains.insert(name) }
    }

    mutating func add(_ set: String, _ key: String, _ value: String) { added[set, default: [:]][key] = value }
    mutating func remove(_ set: String, _ key: String) { removed[set, default: []].insert(key) }

    /// Chains before the rules and elements that lead to them; elements before the chains they led to.
    func transaction(_ table: NftTable) -> NftTransaction {
        var transaction = NftTransaction()
        for (name, seconds) in newSets.sorted(by: { $0.key < $1.key }) {
            transaction.addSet(table, name, "type ipv4_addr; flags dynamic,timeout; timeout \(seconds)s")
        }
        for name in newChains.keys.sorted() { transaction.addChain(table, name) }
        for name in changedChains.keys.sorted() { transaction.flushChain(table, name) }
        for (name, rules) in newChains.merging(changedChains, uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }) {
            for rule in rules { transaction.addRule(table, name, rule) }
        }
        for (set, keys) in removed.sorted(by: { $0.key < $1.key }) { transaction.deleteElements(table, set, keys.sorted()) }
        for (set, members) in added.sorted(by: { $0.key < $1.key }) where !members.isEmpty {
            transaction.addElements(
                table, set, members.sorted { $0.key < $1.key }.map { $0.value.isEmpty ? $0.key : "\($0.key) : \($0.value)" })
        }
        for name in goneChains.sorted() { transaction.flushChain(table, name) }
        for name in goneChains.sorted() { transaction.deleteChain(table, name) }
        for name in goneSets.sorted() { transaction.statement("delete set \(table) \(name)") }
        return transaction
    }
}
