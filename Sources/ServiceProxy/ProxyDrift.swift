import JSON

/// Compares the kernel's table with what it should be.
enum ProxyDrift {
    struct Picture: Equatable {
        /// Chain -> rules.
        var chainRuleCounts: [String: Int] = [:]
        var elementCounts: [String: Int] = [:]
        /// Of everything but handles, counters, and what clients' traffic adds.
        var hash = 0
    }

    /// Reads `nft -j list table`. Nil when it is not what nft writes.
    static func picture(_ listing: [UInt8]) -> Picture? {
        guard let items = (try? JSON.parse(listing))?["nftables"]?.array else { return nil }
        var picture = Picture()
        var hasher = Hasher()
        for item in items {
            if let chain = item["chain"], let name = chain["name"]?.string {
                picture.chainRuleCounts[name, default: 0] += 0
                hasher.combine(without(chain, ["handle"]))
            } else if let rule = item["rule"], let name = rule["chain"]?.string {
                picture.chainRuleCounts[name, default: 0] += 1
                hasher.combine(without(rule, ["handle"]))
            } else if let set = item["map"] ?? item["set"], let name = set["name"]?.string {
                let isDynamic = set["timeout"] != nil
                if !isDynamic { picture.elementCounts[name] = set["elem"]?.array?.count ?? 0 }
                // Elements are listed in the order of a hash table that is seeded anew for each set.
                hasher.combine(without(set, ["handle", "elem"]))
                if !isDynamic { hasher.combine(Set(set["elem"]?.array ?? [])) }
            }
        }
        picture.hash = hasher.finalize()
        return picture
    }

    private static func without(_ value: JSON, _ keys: [String]) -> JSON {
        var value = value
        for key in keys { value[key] = nil }
        return value
    }

    /// Whether chains and elements are as many as they should be.
    static func matches(_ picture: Picture, _ table: ProxyTable) -> Bool {
        let wanted = table.chainRuleCounts
        for (chain, count) in wanted where picture.chainRuleCounts[chain] != count { return false }
        for chain in ProxyTable.fixedChains where (picture.chainRuleCounts[chain] ?? 0) == 0 { return false }
        guard picture.chainRuleCounts.count == wanted.count + ProxyTable.fixedChains.count else { return false }
        return table.elementCounts.allSatisfy { picture.elementCounts[$0.key] == $0.value }
    }
}
