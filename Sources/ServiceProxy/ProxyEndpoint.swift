import KubeTypes

/// One address behind a service port, as the proxy sees it.
struct ProxyEndpoint: Hashable, Comparable, Sendable {
    var address: String
    var port: Int
    var isLocal: Bool
    var isReady: Bool
    var isServing: Bool
    var isTerminating: Bool

    static func < (left: Self, right: Self) -> Bool { (left.address, left.port) < (right.address, right.port) }

    /// The IPv4 endpoints of a service port, over all slices of the service, each address once.
    static func collect(_ slices: [EndpointSlice], portName: String, protocol wanted: String, nodeName: String) -> [ProxyEndpoint] {
        var found: [String: ProxyEndpoint] = [:]
        for slice in slices where slice.addressType == "IPv4" {
            for port in slice.ports {
                guard (port.name ?? "") == portName, (port.protocol ?? "TCP") == wanted, let number = port.port,
                    (1...65535).contains(number)
                else { continue }
                for endpoint in slice.endpoints {
                    guard let address = endpoint.addresses.first, IPv4.isAddress(address) else { continue }
                    let ready = endpoint.conditions?.ready ?? true
                    let candidate = ProxyEndpoint(
                        address: address, port: number, isLocal: endpoint.nodeName == nodeName, isReady: ready,
                        isServing: endpoint.conditions?.serving ?? ready, isTerminating: endpoint.conditions?.terminating ?? false)
                    let key = "\(address):\(number)"
                    // A pod that moves from one slice to another may be in both for a moment.
                    if let known = found[key], known.isReady || !candidate.isReady { continue }
                    found[key] = candidate
                }
            }
        }
        return found.values.sorted()
    }

    /// Those that may get traffic: the ready ones; when there is none, those that still serve while they terminate (KEP-1669).
    static func usable(_ endpoints: [ProxyEndpoint]) -> [ProxyEndpoint] {
        let ready = endpoints.filter(\.isReady)
        return ready.isEmpty ? endpoints.filter { $0.isServing && $0.isTerminating } : ready
    }
}

/// Texts that go into rules are checked here.
enum IPv4 {
    /// Four decimal numbers of 0 to 255.
    static func isAddress(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { number($0, max: 255) != nil }
    }

    static func isNetwork(_ text: String) -> Bool {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        return parts.count == 2 && isAddress(String(parts[0])) && number(parts[1].utf8[...], max: 32) != nil
    }

    private static func number(_ digits: Substring.UTF8View.SubSequence, max: Int) -> Int? {
        guard (1...3).contains(digits.count) else { return nil }
        var value = 0
        for digit in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
            value = value * 10 + Int(digit - UInt8(ascii: "0"))
        }
        return value <= max ? value : nil
    }
}
