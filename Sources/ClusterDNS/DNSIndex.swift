package import KubeTypes

/// What the zone knows, by name: changed one service at a time.
package struct DNSIndex: Sendable {
    package struct Port: Hashable, Sendable {
        package var name: String
        /// `tcp`, `udp` or `sctp`.
        package var protocolName: String
        package var number: UInt16
    }

    package struct HeadlessEndpoint: Hashable, Sendable {
        package var address: [UInt8]
        /// The pod's host name, or its address with dashes.
        package var host: String
        package var ports: [Port]
    }

    package enum Kind: Sendable {
        case clusterIP([UInt8])
        case headless([HeadlessEndpoint])
        case externalName(DNSName)
    }

    package struct Entry: Sendable {
        package var name: String
        package var namespace: String
        package var kind: Kind
        package var ports: [Port]
        /// Host name -> endpoints that have it.
        package var hosts: [String: [Int]] = [:]
        /// Address -> names it stands for, left of the service's own.
        var reverse: [[UInt8]: Set<String>] = [:]
    }

    private var entries: [String: Entry] = [:]
    private var namespaces: [String: Int] = [:]
    /// Address -> service -> host names; an empty host name is the service itself.
    private var reverse: [[UInt8]: [String: Set<String>]] = [:]

    package init() {}

    package var count: Int { entries.count }
    package func entry(namespace: String, service: String) -> Entry? { entries["\(namespace)/\(service)"] }
    package func hasNamespace(_ namespace: String) -> Bool { namespaces[namespace] != nil }

    /// The host names (empty: none) and services an address belongs to.
    package func owners(of address: [UInt8]) -> [(host: String, entry: Entry)] {
        (reverse[address] ?? [:]).sorted { $0.key < $1.key }.flatMap { key, hosts in
            entries[key].map { entry in hosts.sorted().map { ($0, entry) } } ?? []
        }
    }

    /// Takes in what a service has become; nil: it has gone.
    package mutating func update(_ key: String, _ entry: Entry?) {
        if let old = entries[key] {
            for address in old.reverse.keys {
                reverse[address]?[key] = nil
                if reverse[address]?.isEmpty == true { reverse[address] = nil }
            }
            let count = (namespaces[old.namespace] ?? 1) - 1
            namespaces[old.namespace] = count > 0 ? count : nil
        }
        entries[key] = entry
        guard let entry else { return }
        namespaces[entry.namespace, default: 0] += 1
        for (address, hosts) in entry.reverse { reverse[address, default: [:]][key] = hosts }
    }

    /// What a service is in DNS; nil when it has no name there.
    package static func entry(_ service: Service, slices: [EndpointSlice]) -> Entry? {
        let ports = service.spec.ports.compactMap { port(name: $0.name, $0.protocol, $0.port) }
        var entry = Entry(
            name: service.metadata.name.lowercased(), namespace: service.metadata.namespace.lowercased(), kind: .headless([]), ports: ports)
        if service.spec.type == "ExternalName" {
            guard let target = service.spec.externalName.flatMap({ DNSName($0) }), !target.labels.isEmpty else { return nil }
            entry.kind = .externalName(target)
            return entry
        }
        if let text = service.spec.clusterIP, let address = address(text) {
            entry.kind = .clusterIP(address)
            entry.reverse = [address: [""]]
            return entry
        }
        guard service.spec.clusterIP == "None" else { return nil }
        let all = service.spec.publishNotReadyAddresses == true
        var found: [HeadlessEndpoint] = [], seen: Set<HeadlessEndpoint> = []
        for slice in slices where slice.addressType == "IPv4" {
            let ports = slice.ports.compactMap { item in item.port.flatMap { port(name: item.name ?? "", item.protocol, $0) } }
            for endpoint in slice.endpoints where all || endpoint.conditions?.ready ?? true {
                guard let text = endpoint.addresses.first, let address = address(text) else { continue }
                let host = endpoint.hostname.flatMap { $0.isEmpty ? nil : $0.lowercased() } ?? text.split(separator: ".").joined(separator: "-")
                let candidate = HeadlessEndpoint(address: address, host: host, ports: ports)
                if seen.insert(candidate).inserted { found.append(candidate) }
            }
        }
        for (index, endpoint) in found.enumerated() {
            entry.hosts[endpoint.host, default: []].append(index)
            entry.reverse[endpoint.address, default: []].insert(endpoint.host)
        }
        entry.kind = .headless(found)
        return entry
    }

    private static func port(name: String, _ protocolName: String?, _ number: Int) -> Port? {
        UInt16(exactly: number).map { Port(name: name.lowercased(), protocolName: (protocolName ?? "TCP").lowercased(), number: $0) }
    }

    /// The four bytes of an IPv4 address.
    package static func address(_ text: String) -> [UInt8]? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        let bytes = parts.compactMap { $0.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt8($0) : nil }
        return parts.count == 4 && bytes.count == 4 ? bytes : nil
    }
}
