package import JSON
package import KubeMeta
import KubeAPI
import Synchronization

/// Gives Services their cluster addresses and node ports, each at most once.
package final class Allocators: Sendable {
    private struct State {
        var addresses: Set<UInt32> = []
        var ports: Set<Int> = []
        var nextAddress: UInt32 = 0
    }

    /// First address and size of the service network.
    private let base: UInt32
    private let size: UInt32
    private let portRange: ClosedRange<Int>
    private let state = Mutex(State())

    /// - Parameter serviceCIDR: for example `10.96.0.0/12`.
    package init(serviceCIDR: String, portRange: ClosedRange<Int> = 30000...32767) {
        let parts = serviceCIDR.split(separator: "/")
        let bits = parts.count == 2 ? UInt32(parts[1]) ?? 12 : 12
        base = Self.number(String(parts.first ?? "10.96.0.0")) ?? 0x0A60_0000
        size = 1 << (32 - min(max(bits, 8), 30))
        self.portRange = portRange
    }

    static func number(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard let byte = UInt8(part), part.count == 1 || part.first != "0" else { return nil }
            value = value << 8 | UInt32(byte)
        }
        return value
    }

    static func text(_ value: UInt32) -> String { "\(value >> 24).\(value >> 16 & 255).\(value >> 8 & 255).\(value & 255)" }

    /// Remembers what the stored Services hold. Called once at start.
    func load(_ services: [JSON]) {
        state.withLock { state in
            for service in services {
                for address in Self.addresses(service) { state.addresses.insert(address) }
                for port in Self.ports(service) { state.ports.insert(port) }
            }
        }
    }

    private static func addresses(_ service: JSON) -> [UInt32] {
        var texts = (service["spec"]?["clusterIPs"]?.array ?? []).compactMap(\.string)
        if let single = service["spec"]?["clusterIP"]?.string { texts.append(single) }
        return texts.compactMap(number)
    }

    private static func ports(_ service: JSON) -> [Int] {
        var ports = (service["spec"]?["ports"]?.array ?? []).compactMap { $0["nodePort"]?.int.map(Int.init) }
        if let health = service["spec"]?["healthCheckNodePort"]?.int { ports.append(Int(health)) }
        return ports
    }

    private static func isService(_ kind: ResourceKind) -> Bool { kind.plural == "services" && kind.group.isEmpty }

    /// Fills in addresses and ports of a new Service. The returned closure gives them back.
    func allocate(_ object: inout JSON, _ kind: ResourceKind, dryRun: Bool) async throws -> @Sendable () -> Void {
        guard Self.isService(kind) else { return {} }
        return try assign(&object, old: nil).undo
    }

    /// What has been taken for a write, and what to do when the write has failed or gone through.
    struct Allocation: Sendable {
        /// Gives back what was taken.
        var undo: @Sendable () -> Void = {}
        /// Frees what the object held before and holds no longer. Not before the write is stored: somebody else could take it.
        var commit: @Sendable () -> Void = {}
    }

    /// The same for a changed Service: what it had stays its own.
    func reallocate(_ object: inout JSON, _ old: JSON, _ kind: ResourceKind) async throws -> Allocation {
        guard Self.isService(kind) else { return Allocation() }
        return try assign(&object, old: old)
    }

    func release(_ object: JSON, _ kind: ResourceKind) async {
        guard Self.isService(kind) else { return }
        state.withLock { state in
            for address in Self.addresses(object) { state.addresses.remove(address) }
            for port in Self.ports(object) { state.ports.remove(port) }
        }
    }

    private func invalid(_ object: JSON, _ error: FieldError) -> APIStatus {
        APIStatus.invalid(group: "", kind: "Service", name: object["metadata"]?["name"]?.string ?? "", [error])
    }

    private func assign(_ object: inout JSON, old: JSON?) throws -> Allocation {
        guard var spec = object["spec"] else { return Allocation() }
        let type = spec["type"]?.string ?? "ClusterIP"
        var takenAddresses: [UInt32] = []
        var takenPorts: [Int] = []
        let oldAddresses = Set(old.map(Self.addresses) ?? [])
        let oldPorts = Set(old.map(Self.ports) ?? [])
        func undo() {
            state.withLock { state in
                for address in takenAddresses { state.addresses.remove(address) }
                for port in takenPorts { state.ports.remove(port) }
            }
        }
        do {
            if type == "ExternalName" {
                spec["clusterIP"] = nil
                spec["clusterIPs"] = nil
            } else {
                var wanted = spec["clusterIP"]?.string ?? spec["clusterIPs"]?[0]?.string ?? ""
                if wanted.isEmpty, let before = old?["spec"]?["clusterIP"]?.string { wanted = before }
                if wanted.isEmpty {
                    guard let address = takeAddress() else {
                        throw APIStatus.internalError("failed to allocate a serviceIP: range is full")
                    }
                    takenAddresses.append(address)
                    wanted = Self.text(address)
                } else if wanted != "None", let address = Self.number(wanted), !oldAddresses.contains(address) {
                    guard address >= base, address < base + size else {
                        throw invalid(
                            object,
                            .invalid(
                                "spec.clusterIPs", .array([.string(wanted)]),
                                "failed to allocate IP \(wanted): the provided network does not match the current range"))
                    }
                    guard state.withLock({ $0.addresses.insert(address).inserted }) else {
                        throw invalid(
                            object,
                            .invalid(
                                "spec.clusterIPs", .array([.string(wanted)]), "failed to allocate IP \(wanted): provided IP is already allocated"))
                    }
                    takenAddresses.append(address)
                }
                spec["clusterIP"] = .string(wanted)
                spec["clusterIPs"] = [.string(wanted)]
                spec.fill("ipFamilies", ["IPv4"])
                spec.fill("ipFamilyPolicy", "SingleStack")
            }
            if type == "NodePort" || type == "LoadBalancer" {
                var ports = spec["ports"]?.array ?? []
                for index in ports.indices {
                    var wanted = ports[index]["nodePort"]?.int.map(Int.init) ?? 0
                    if wanted == 0, let before = old?["spec"]?["ports"]?.array?.first(where: { $0["port"] == ports[index]["port"] && $0["protocol"] == ports[index]["protocol"] })?["nodePort"]?.int {
                        wanted = Int(before)
                    }
                    // The same number may serve TCP and UDP of one Service.
                    if wanted == 0 {
                        guard let port = takePort() else { throw APIStatus.internalError("failed to allocate a nodePort: range is full") }
                        takenPorts.append(port)
                        wanted = port
                    } else if !oldPorts.contains(wanted), !takenPorts.contains(wanted) {
                        guard portRange.contains(wanted) else {
                            throw invalid(
                                object,
                                .invalid(
                                    "spec.ports[\(index)].nodePort", JSON(wanted),
                                    "provided port is not in the valid range. The range of valid ports is \(portRange.lowerBound)-\(portRange.upperBound)"))
                        }
                        guard state.withLock({ $0.ports.insert(wanted).inserted }) else {
                            throw invalid(object, .invalid("spec.ports[\(index)].nodePort", JSON(wanted), "provided port is already allocated"))
                        }
                        takenPorts.append(wanted)
                    }
                    ports[index]["nodePort"] = JSON(wanted)
                }
                spec["ports"] = .array(ports)
            } else if var ports = spec["ports"]?.array {
                // A Service that became ClusterIP gives its ports back, unless the client still names them.
                if old?["spec"]?["type"]?.string ?? type != type {
                    for index in ports.indices { ports[index]["nodePort"] = nil }
                    spec["ports"] = .array(ports)
                }
            }
        } catch {
            undo()
            throw error
        }
        object["spec"] = spec
        let gonePorts = oldPorts.subtracting(Self.ports(object))
        let goneAddresses = oldAddresses.subtracting(Self.addresses(object))
        let addresses = takenAddresses
        let ports = takenPorts
        return Allocation(
            undo: { [self] in
                state.withLock { state in
                    for address in addresses { state.addresses.remove(address) }
                    for port in ports { state.ports.remove(port) }
                }
            },
            commit: { [self] in
                state.withLock { state in
                    state.addresses.subtract(goneAddresses)
                    state.ports.subtract(gonePorts)
                }
            })
    }

    /// Addresses are given out from the upper part; the first ones are left for those who ask for a certain one (KEP-3070).
    private func takeAddress() -> UInt32? {
        state.withLock { state in
            let reserved = min(max(16, size / 16), 256)
            let span = size - 1 - reserved
            var offset = state.nextAddress == 0 ? UInt32.random(in: 0..<max(1, span)) : state.nextAddress
            for _ in 0..<span {
                offset = (offset + 1) % span
                let candidate = base + reserved + offset
                if state.addresses.insert(candidate).inserted {
                    state.nextAddress = offset
                    return candidate
                }
            }
            return nil
        }
    }

    private func takePort() -> Int? {
        state.withLock { state in
            let start = Int.random(in: portRange)
            for offset in 0..<portRange.count {
                let candidate = portRange.lowerBound + (start - portRange.lowerBound + offset) % portRange.count
                if state.ports.insert(candidate).inserted { return candidate }
            }
            return nil
        }
    }
}
