import KubeTypes

/// The maps and sets of the table whose elements come from services.
enum ProxySet: String, CaseIterable, Sendable {
    /// (address, protocol, port) -> chain.
    case serviceIPs = "service-ips"
    /// (protocol, port) -> chain, for addresses of the node itself.
    case nodePorts = "service-nodeports"
    case noEndpointIPs = "no-endpoint-ips"
    case noEndpointNodePorts = "no-endpoint-nodeports"
    /// Every cluster IP: other ports of it are refused rather than routed to nowhere.
    case clusterIPs = "cluster-ips"
}

/// What clients of a UDP service address.
enum UDPFrontend: Hashable, Sendable {
    case address(String, port: Int)
    case nodePort(Int)
}

/// Everything one service contributes to the table.
struct ServiceRules: Equatable, Sendable {
    /// Chain -> rules.
    var chains: [String: [String]] = [:]
    /// Sets that remember clients -> seconds.
    var affinitySets: [String: Int] = [:]
    /// Set or map -> key -> verdict, empty for sets.
    var elements: [ProxySet: [String: String]] = [:]
    /// Addresses of local endpoints: their own traffic to the service comes back to them and has to be masqueraded.
    var localAddresses: Set<String> = []
    /// Endpoint addresses that may have flows, for conntrack.
    var udp: [UDPFrontend: Set<String>] = [:]
    var endpointCount = 0

    static let masquerade = "jump mark-for-masquerade"
    private static let reject = "goto reject-new"
    private static let affinitySecondsDefault = 10800
    private static let affinitySecondsMax = 86400

    init() {}

    /// - Parameter clusterCIDR: the range of all pods; nil: unknown, nothing counts as a pod.
    init(service: Service, slices: [EndpointSlice], nodeName: String, clusterCIDR: String?, ignoredAddresses: Set<String>) {
        let spec = service.spec
        guard Self.isProxied(service), let clusterIP = spec.clusterIP, IPv4.isAddress(clusterIP),
            !ignoredAddresses.contains(clusterIP)
        else { return }
        put(.clusterIPs, clusterIP, "")
        for port in spec.ports {
            let name = port.protocol ?? "TCP"
            guard (1...65535).contains(port.port), ["TCP", "UDP", "SCTP"].contains(name) else { continue }
            let endpoints = ProxyEndpoint.collect(slices, portName: port.name, protocol: name, nodeName: nodeName)
            var builder = PortRules(
                id: "\(service.key)/\(name)/\(port.name)", protocolName: name.lowercased(), port: port.port, spec: spec,
                clusterCIDR: clusterCIDR)
            if spec.sessionAffinity == "ClientIP" {
                let seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? Self.affinitySecondsDefault
                builder.affinitySeconds = min(max(1, seconds), Self.affinitySecondsMax)
            }
            builder.cluster = ProxyEndpoint.usable(endpoints)
            builder.local = ProxyEndpoint.usable(endpoints.filter(\.isLocal))
            endpointCount += builder.cluster.count
            addPort(port, builder, clusterIP: clusterIP, service: service, spec: spec)
        }
    }

    private static func isProxied(_ service: Service) -> Bool {
        // KEP-2447: services that another proxy, or none, takes care of.
        service.metadata.labels["service.kubernetes.io/service-proxy-name"] == nil
            && service.metadata.labels["service.kubernetes.io/headless"] == nil && service.spec.type != "ExternalName"
    }

    private mutating func addPort(_ port: ServicePort, _ builder: PortRules, clusterIP: String, service: Service, spec: ServiceSpec) {
        var builder = builder
        let frontend = "\(builder.protocolName) . \(port.port)"
        let clusterKey = "\(clusterIP) . \(frontend)"
        let externals = spec.externalIPs.filter(IPv4.isAddress)
        // In mode Proxy the load balancer delivers to node ports, and its address must not be short-circuited.
        let balancers = (service.status.loadBalancer?.ingress ?? []).filter { $0.ipMode != "Proxy" }.map(\.ip).filter(IPv4.isAddress)
        let nodePort = port.nodePort.flatMap { (1...65535).contains($0) ? $0 : nil }
        let isUDP = builder.protocolName == "udp"

        if isUDP {
            let flows = Set((builder.cluster + builder.local).map(\.address))
            for address in [clusterIP] + externals + balancers { udp[.address(address, port: port.port)] = flows }
            if let nodePort { udp[.nodePort(nodePort)] = flows }
        }
        if builder.cluster.isEmpty {
            for address in [clusterIP] + externals + balancers { put(.noEndpointIPs, "\(address) . \(frontend)", Self.reject) }
            if let nodePort { put(.noEndpointNodePorts, "\(builder.protocolName) . \(nodePort)", Self.reject) }
            return
        }
        if builder.internalIsLocal && builder.local.isEmpty {
            put(.noEndpointIPs, clusterKey, "drop")
        } else {
            put(.serviceIPs, clusterKey, "goto \(builder.internalChain(clusterIP: clusterIP))")
        }
        if !externals.isEmpty || !balancers.isEmpty || nodePort != nil {
            let chain = builder.externalChain()
            for address in externals { put(.serviceIPs, "\(address) . \(frontend)", "goto \(chain)") }
            let guarded = builder.balancerChain(sourceRanges: spec.loadBalancerSourceRanges, external: chain)
            for address in balancers { put(.serviceIPs, "\(address) . \(frontend)", "goto \(guarded)") }
            if let nodePort { put(.nodePorts, "\(builder.protocolName) . \(nodePort)", "goto \(chain)") }
        }
        chains.merge(builder.chains) { _, new in new }
        affinitySets.merge(builder.affinitySets) { _, new in new }
        localAddresses.formUnion((builder.cluster + builder.local).filter(\.isLocal).map(\.address))
    }

    private mutating func put(_ set: ProxySet, _ key: String, _ value: String) { elements[set, default: [:]][key] = value }
}

/// Builds the chains of one service port.
private struct PortRules {
    let id: String
    /// `tcp`, `udp` or `sctp`.
    let protocolName: String
    let port: Int
    let internalIsLocal: Bool
    let externalIsLocal: Bool
    let clusterCIDR: String?
    /// 0: no affinity.
    var affinitySeconds = 0
    var cluster: [ProxyEndpoint] = []
    var local: [ProxyEndpoint] = []
    private(set) var chains: [String: [String]] = [:]
    private(set) var affinitySets: [String: Int] = [:]

    init(id: String, protocolName: String, port: Int, spec: ServiceSpec, clusterCIDR: String?) {
        self.id = id
        self.protocolName = protocolName
        self.port = port
        internalIsLocal = spec.internalTrafficPolicy == "Local"
        externalIsLocal = spec.externalTrafficPolicy == "Local"
        self.clusterCIDR = clusterCIDR
    }

    /// For traffic to the cluster IP.
    mutating func internalChain(clusterIP: String) -> String {
        let chain = pickChain(isLocal: internalIsLocal)
        if let clusterCIDR {
            chains[chain]?.insert("ip daddr \(clusterIP) ip saddr != \(clusterCIDR) \(ServiceRules.masquerade)", at: 0)
        }
        return chain
    }

    /// For traffic to node ports and external addresses.
    mutating func externalChain() -> String {
        let chain = ProxyNames.chain("ext", id)
        let all = pickChain(isLocal: false)
        var rules: [String] = []
        if externalIsLocal {
            // From inside the cluster the policy Local does not count: there is no client address to keep.
            if let clusterCIDR { rules.append("ip saddr \(clusterCIDR) goto \(all)") }
            rules.append("fib saddr type local \(ServiceRules.masquerade)")
            rules.append("fib saddr type local goto \(all)")
            rules.append(local.isEmpty ? "drop" : "goto \(pickChain(isLocal: true))")
        } else {
            rules = [ServiceRules.masquerade, "goto \(all)"]
        }
        chains[chain] = rules
        return chain
    }

    /// For traffic to load balancer addresses: only from the ranges the service allows.
    mutating func balancerChain(sourceRanges: [String], external: String) -> String {
        let ranges = sourceRanges.map { $0.filter { !$0.isWhitespace } }.filter(IPv4.isNetwork)
        if ranges.isEmpty || ranges.contains(where: { $0.hasSuffix("/0") }) { return external }
        let chain = ProxyNames.chain("fw", id)
        // One rule a range: ranges may overlap, which an anonymous set does not allow.
        chains[chain] = ranges.map { "ip saddr \($0) goto \(external)" } + ["drop"]
        return chain
    }

    private mutating func pickChain(isLocal: Bool) -> String {
        let chain = ProxyNames.chain(isLocal ? "local" : "svc", id)
        if chains[chain] == nil { chains[chain] = pick(isLocal ? local : cluster) }
        return chain
    }

    private mutating func pick(_ endpoints: [ProxyEndpoint]) -> [String] {
        if affinitySeconds > 0 {
            var known: [String] = [], verdicts: [String] = []
            for (index, endpoint) in endpoints.enumerated() {
                let target = "\(endpoint.address):\(endpoint.port)"
                let set = ProxyNames.chain("aff", "\(id)/\(affinitySeconds)/\(target)")
                let chain = ProxyNames.chain("ep", "\(id)/\(affinitySeconds)/\(target)")
                affinitySets[set] = affinitySeconds
                chains[chain] = ["update @\(set) { ip saddr }", "meta l4proto \(protocolName) dnat to \(target)"]
                known.append("ip saddr @\(set) goto \(chain)")
                verdicts.append("\(index) : goto \(chain)")
            }
            return known + ["numgen random mod \(endpoints.count) vmap { \(verdicts.joined(separator: ", ")) }"]
        }
        if endpoints.count == 1 {
            return ["meta l4proto \(protocolName) dnat to \(endpoints[0].address):\(endpoints[0].port)"]
        }
        let targets = endpoints.enumerated().map { "\($0) : \($1.address) . \($1.port)" }.joined(separator: ", ")
        return ["meta l4proto \(protocolName) dnat ip addr . port to numgen random mod \(endpoints.count) map { \(targets) }"]
    }
}

/// Names of chains and sets: a hash that makes them unique, and a readable rest.
enum ProxyNames {
    /// The kernel's limit is 128 with the final zero.
    private static let lengthMax = 100

    static func chain(_ kind: String, _ id: String) -> String {
        // FNV-1a, 64 bits: stable over restarts, unlike Swift's own hash.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in id.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let digits = String(hash, radix: 36)
        var name = "\(kind)-\(digits)-"
        for byte in id.utf8.prefix(lengthMax - name.utf8.count) {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"):
                name.unicodeScalars.append(Unicode.Scalar(byte))
            default: name += "_"
            }
        }
        return name
    }
}
