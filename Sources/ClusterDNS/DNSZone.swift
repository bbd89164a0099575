/// What names in the cluster domain mean (Kubernetes DNS-Based Service Discovery, version 1.1.0).
package struct DNSZone: Sendable {
    package enum Meaning: Sendable {
        case records([DNSRecord], additional: [DNSRecord] = [])
        /// The name exists, but not with this type.
        case noData
        case noName
        /// Another name, which is not ours to resolve alone.
        case alias(DNSRecord, target: DNSName)
        /// Not in this zone.
        case elsewhere
    }

    package static let specificationVersion = "1.1.0"
    /// As CoreDNS, so that clients notice changes as soon as they do upstream.
    private static let ttl: UInt32 = 5
    private static let reverseZone = DNSName(labels: [Array("in-addr".utf8), Array("arpa".utf8)])

    package let domain: DNSName
    /// The address this server is reached at.
    private let address: [UInt8]
    private let version: DNSName
    private let server: DNSName

    package init(domain: DNSName, address: [UInt8]) {
        self.domain = domain
        self.address = address
        version = DNSName(labels: [Array("dns-version".utf8)] + domain.labels)
        server = DNSName(labels: [Array("ns".utf8), Array("dns".utf8)] + domain.labels)
    }

    /// The record that says how long a missing name may be remembered.
    package var authority: DNSRecord {
        DNSRecord(
            domain, ttlSeconds: Self.ttl,
            .soa(
                server: server, mailbox: DNSName(labels: [Array("hostmaster".utf8)] + domain.labels), serial: 1, refresh: 7200, retry: 1800,
                expire: 86400, minimum: Self.ttl))
    }

    package func meaning(of name: DNSName, type: UInt16, in index: DNSIndex) -> Meaning {
        if let labels = name.prefix(under: domain) { return inDomain(name, labels, type, index) }
        if let labels = name.prefix(under: Self.reverseZone) { return reverse(name, labels, type, index) }
        return .elsewhere
    }

    // MARK: Forward

    private func inDomain(_ name: DNSName, _ labels: [String], _ type: UInt16, _ index: DNSIndex) -> Meaning {
        guard let last = labels.last else {
            switch type {
            case DNSType.soa: return .records([DNSRecord(name, ttlSeconds: Self.ttl, authority.content)])
            case DNSType.ns: return .records([DNSRecord(name, ttlSeconds: Self.ttl, .name(type: DNSType.ns, server))])
            default: return .noData
            }
        }
        switch last {
        case "svc": return service(name, labels.dropLast(), type, index)
        case "pod": return pod(name, labels.dropLast(), type, index)
        case "dns-version" where labels.count == 1:
            return type == DNSType.txt ? .records([DNSRecord(name, ttlSeconds: 28800, .txt(Self.specificationVersion))]) : .noData
        case "dns" where labels.count == 1: return .noData
        case "dns" where labels == ["ns", "dns"]: return addresses(name, type, [address])
        default: return .noName
        }
    }

    private func service(_ name: DNSName, _ labels: ArraySlice<String>, _ type: UInt16, _ index: DNSIndex) -> Meaning {
        guard let namespace = labels.last else { return .noData }
        let rest = Array(labels.dropLast())
        guard let service = rest.last else { return index.hasNamespace(namespace) ? .noData : .noName }
        guard let entry = index.entry(namespace: namespace, service: service) else { return .noName }
        switch rest.count {
        case 1: return ofService(name, entry, type)
        case 2: return ofHost(name, rest[0], entry, type)
        case 3: return ofPort(name, portLabel: rest[0], protocolLabel: rest[1], entry, type)
        default: return .noName
        }
    }

    private func ofService(_ name: DNSName, _ entry: DNSIndex.Entry, _ type: UInt16) -> Meaning {
        switch entry.kind {
        case .externalName(let target):
            return .alias(DNSRecord(name, ttlSeconds: Self.ttl, .name(type: DNSType.cname, target)), target: target)
        case .clusterIP(let address):
            return type == DNSType.srv ? services(name, entry) { _ in true } : addresses(name, type, [address])
        case .headless(let endpoints):
            // A service whose endpoints are all gone has, for CoreDNS as for its clients, no name.
            if endpoints.isEmpty { return .noName }
            return type == DNSType.srv ? services(name, entry) { _ in true } : addresses(name, type, unique(endpoints.map(\.address)))
        }
    }

    private func ofHost(_ name: DNSName, _ host: String, _ entry: DNSIndex.Entry, _ type: UInt16) -> Meaning {
        // `_tcp.service`: nothing itself, but names below it exist.
        if host.hasPrefix("_") {
            return allPorts(entry).contains { "_\($0.protocolName)" == host } ? .noData : .noName
        }
        guard case .headless(let endpoints) = entry.kind, let positions = entry.hosts[host] else { return .noName }
        return addresses(name, type, unique(positions.map { endpoints[$0].address }))
    }

    private func ofPort(
        _ name: DNSName, portLabel: String, protocolLabel: String, _ entry: DNSIndex.Entry, _ type: UInt16
    ) -> Meaning {
        guard portLabel.hasPrefix("_"), protocolLabel.hasPrefix("_") else { return .noName }
        let matches: (DNSIndex.Port) -> Bool = { "_\($0.name)" == portLabel && "_\($0.protocolName)" == protocolLabel }
        guard allPorts(entry).contains(where: matches) else { return .noName }
        if type == DNSType.srv { return services(name, entry, matches) }
        switch entry.kind {
        case .clusterIP(let address): return addresses(name, type, [address])
        case .headless(let endpoints): return addresses(name, type, unique(endpoints.filter { $0.ports.contains(where: matches) }.map(\.address)))
        case .externalName: return .noName
        }
    }

    private func allPorts(_ entry: DNSIndex.Entry) -> [DNSIndex.Port] {
        if case .headless(let endpoints) = entry.kind { return unique(endpoints.flatMap(\.ports)) }
        return entry.ports
    }

    /// SRV records, and the addresses of their targets along with them.
    private func services(_ name: DNSName, _ entry: DNSIndex.Entry, _ matches: (DNSIndex.Port) -> Bool) -> Meaning {
        var found: [(target: DNSName, port: UInt16, address: [UInt8])] = []
        switch entry.kind {
        case .clusterIP(let address):
            let target = fullName(entry)
            found = entry.ports.filter(matches).map { (target, $0.number, address) }
        case .headless(let endpoints):
            for endpoint in endpoints {
                let target = fullName(entry, host: endpoint.host)
                found += endpoint.ports.filter(matches).map { (target, $0.number, endpoint.address) }
            }
        case .externalName: return .noData
        }
        if found.isEmpty { return .noData }
        let weight = UInt16(max(1, 100 / found.count))
        return .records(
            unique(found.map { DNSRecord(name, ttlSeconds: Self.ttl, .srv(priority: 0, weight: weight, port: $0.port, $0.target)) }),
            additional: unique(found.map { DNSRecord($0.target, ttlSeconds: Self.ttl, .a($0.address)) }))
    }

    /// `1-2-3-4.namespace.pod`: the address is in the name; whether there is such a pod is not checked (CoreDNS, `pods insecure`).
    private func pod(_ name: DNSName, _ labels: ArraySlice<String>, _ type: UInt16, _ index: DNSIndex) -> Meaning {
        guard !labels.isEmpty else { return .noData }
        guard labels.count == 2, let first = labels.first else { return labels.count == 1 ? .noData : .noName }
        let parts = first.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 4, let address = DNSIndex.address(parts.joined(separator: ".")) else { return .noName }
        return addresses(name, type, [address])
    }

    // MARK: Reverse

    private func reverse(_ name: DNSName, _ labels: [String], _ type: UInt16, _ index: DNSIndex) -> Meaning {
        guard labels.count == 4, let address = DNSIndex.address(labels.reversed().joined(separator: ".")) else { return .elsewhere }
        let owners = index.owners(of: address)
        if owners.isEmpty { return .elsewhere }
        guard type == DNSType.ptr || type == DNSType.any else { return .noData }
        return .records(
            owners.map { DNSRecord(name, ttlSeconds: Self.ttl, .name(type: DNSType.ptr, fullName($0.entry, host: $0.host))) })
    }

    // MARK: Records

    private func addresses(_ name: DNSName, _ type: UInt16, _ addresses: [[UInt8]]) -> Meaning {
        guard type == DNSType.a || type == DNSType.any else { return .noData }
        // In a new order each time: simple clients take the first.
        return .records(addresses.shuffled().map { DNSRecord(name, ttlSeconds: Self.ttl, .a($0)) })
    }

    private func fullName(_ entry: DNSIndex.Entry, host: String = "") -> DNSName {
        let labels = (host.isEmpty ? [] : [host]) + [entry.name, entry.namespace, "svc"]
        return DNSName(labels: labels.map { Array($0.utf8.prefix(DNSName.labelBytesMax)) } + domain.labels)
    }

    private func unique<Value: Hashable>(_ values: [Value]) -> [Value] {
        var seen: Set<Value> = []
        return values.filter { seen.insert($0).inserted }
    }
}
