import KubeMeta
import KubeTypes

/// Amounts of resources as plain integers: milli-CPUs, bytes, counts.
struct ResourceAmounts: Sendable, Equatable {
    var milliCPU: Int64 = 0
    var memoryBytes: Int64 = 0
    var ephemeralBytes: Int64 = 0
    /// Extended resources and huge pages.
    var others: [String: Int64] = [:]

    init() {}

    init(_ quantities: [String: Quantity]) {
        for (name, quantity) in quantities {
            switch name {
            case "cpu": milliCPU = quantity.milliValue
            case "memory": memoryBytes = quantity.value
            case "ephemeral-storage": ephemeralBytes = quantity.value
            case "pods": break
            default: others[name] = quantity.value
            }
        }
    }

    static func += (left: inout ResourceAmounts, right: ResourceAmounts) { left.add(right, sign: 1) }
    static func -= (left: inout ResourceAmounts, right: ResourceAmounts) { left.add(right, sign: -1) }

    private mutating func add(_ other: ResourceAmounts, sign: Int64) {
        milliCPU &+= sign &* other.milliCPU
        memoryBytes &+= sign &* other.memoryBytes
        ephemeralBytes &+= sign &* other.ephemeralBytes
        if !other.others.isEmpty { for (name, amount) in other.others { others[name, default: 0] &+= sign &* amount } }
    }

    mutating func formMaximum(_ other: ResourceAmounts) {
        milliCPU = max(milliCPU, other.milliCPU)
        memoryBytes = max(memoryBytes, other.memoryBytes)
        ephemeralBytes = max(ephemeralBytes, other.ephemeralBytes)
        for (name, amount) in other.others { others[name] = max(others[name] ?? 0, amount) }
    }
}

struct HostPort: Sendable, Hashable {
    var address: String
    var networkProtocol: String
    var port: Int

    func conflicts(with other: HostPort) -> Bool {
        port == other.port && networkProtocol == other.networkProtocol
            && (address == other.address || address == "0.0.0.0" || other.address == "0.0.0.0")
    }
}

/// A term of pod (anti-)affinity, compiled. Hashable: equal terms of many pods are counted together.
struct PodTerm: Sendable, Hashable {
    var topologyKey: String
    /// Empty together with a nil `namespaceSelector` never happens: the pod's own namespace is filled in.
    var namespaces: [String]
    var namespaceSelector: Selector?
    var selector: Selector
}

struct SpreadConstraint: Sendable, Hashable {
    var topologyKey: String
    var maxSkew: Int
    var minDomains: Int
    var isHard: Bool
    var selector: Selector
    var honorsAffinity: Bool
    var honorsTaints: Bool
}

/// A pod with everything that scheduling needs computed once.
final class PodInfo: Sendable {
    let pod: Pod
    let key: String
    let uid: String
    let namespace: String
    let labels: [String: String]
    let priority: Int
    let requests: ResourceAmounts
    /// Requests for scoring: containers without any count as 100 m and 200 Mi.
    let scoredMilliCPU: Int64
    let scoredMemoryBytes: Int64
    let hostPorts: [HostPort]
    let tolerations: [Toleration]
    let nodeTerms: NodeTerms?
    let requiredAffinity: [PodTerm]
    let requiredAntiAffinity: [PodTerm]
    let preferredAffinity: [(term: PodTerm, weight: Int)]
    let preferredAntiAffinity: [(term: PodTerm, weight: Int)]
    let spreadConstraints: [SpreadConstraint]
    let claims: [String]
    let createdSeconds: Double

    private static let scoredMilliCPUDefault: Int64 = 100
    private static let scoredMemoryDefault: Int64 = 200 * 1024 * 1024

    init(_ pod: Pod) {
        self.pod = pod
        key = pod.key
        uid = pod.metadata.uid
        namespace = pod.metadata.namespace
        labels = pod.metadata.labels
        createdSeconds = pod.metadata.creationSeconds
        let spec = pod.spec
        priority = spec.priority ?? 0
        let sums = Self.sums(spec)
        requests = sums.requests
        scoredMilliCPU = sums.scoredMilliCPU
        scoredMemoryBytes = sums.scoredMemoryBytes
        hostPorts = (spec.containers + spec.initContainers.filter { $0.restartPolicy == "Always" }).flatMap { container in
            container.ports.compactMap { port in
                guard let hostPort = port.hostPort, hostPort > 0 else { return nil }
                return HostPort(
                    address: port.hostIP.isEmpty ? "0.0.0.0" : port.hostIP, networkProtocol: port.protocol ?? "TCP", port: hostPort)
            }
        }
        tolerations = spec.tolerations
        nodeTerms = NodeTerms(spec)
        let (ns, labels) = (namespace, labels)
        func compile(_ terms: [PodAffinityTerm]) -> [PodTerm] { terms.map { Self.term($0, ns, labels) } }
        let affinity = spec.affinity
        requiredAffinity = compile(affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
        requiredAntiAffinity = compile(affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
        preferredAffinity = (affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map {
            (Self.term($0.podAffinityTerm, ns, labels), $0.weight)
        }
        preferredAntiAffinity = (affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map {
            (Self.term($0.podAffinityTerm, ns, labels), $0.weight)
        }
        spreadConstraints = spec.topologySpreadConstraints.map { constraint in
            var selector = Selector(labelSelector: constraint.labelSelector?.json)
            for key in constraint.matchLabelKeys {
                if let value = labels[key] { selector.requirements.append(.init(key: key, operator: .in, values: [value])) }
            }
            return SpreadConstraint(
                topologyKey: constraint.topologyKey, maxSkew: constraint.maxSkew, minDomains: constraint.minDomains ?? 1,
                isHard: constraint.whenUnsatisfiable != "ScheduleAnyway", selector: selector,
                honorsAffinity: constraint.nodeAffinityPolicy != "Ignore", honorsTaints: constraint.nodeTaintsPolicy == "Honor")
        }
        claims = spec.volumes.compactMap { volume in
            if let claim = volume.persistentVolumeClaim { return claim.claimName }
            return volume.ephemeral == nil ? nil : "\(pod.metadata.name)-\(volume.name)"
        }
    }

    private static func term(_ term: PodAffinityTerm, _ namespace: String, _ labels: [String: String]) -> PodTerm {
        var selector = Selector(labelSelector: term.labelSelector?.json)
        for key in term.matchLabelKeys {
            if let value = labels[key] { selector.requirements.append(.init(key: key, operator: .in, values: [value])) }
        }
        for key in term.mismatchLabelKeys {
            if let value = labels[key] { selector.requirements.append(.init(key: key, operator: .notIn, values: [value])) }
        }
        let namespaces = term.namespaces.isEmpty && term.namespaceSelector == nil ? [namespace] : term.namespaces.sorted()
        return PodTerm(
            topologyKey: term.topologyKey, namespaces: namespaces,
            namespaceSelector: term.namespaceSelector.map { Selector(labelSelector: $0.json) }, selector: selector)
    }

    /// The larger of what runs together and what any init step needs on top of the sidecars started before it; plus the overhead.
    private static func sums(_ spec: PodSpec) -> (requests: ResourceAmounts, scoredMilliCPU: Int64, scoredMemoryBytes: Int64) {
        struct Sum {
            var exact = ResourceAmounts()
            var scored = ResourceAmounts()
            mutating func add(_ other: Sum) { exact += other.exact; scored += other.scored }
            mutating func formMaximum(_ other: Sum) { exact.formMaximum(other.exact); scored.formMaximum(other.scored) }
        }
        func sum(_ container: Container) -> Sum {
            let requests = container.resources?.requests ?? [:]
            let exact = ResourceAmounts(requests)
            var scored = ResourceAmounts()
            scored.milliCPU = requests["cpu"] == nil ? scoredMilliCPUDefault : exact.milliCPU
            scored.memoryBytes = requests["memory"] == nil ? scoredMemoryDefault : exact.memoryBytes
            return Sum(exact: exact, scored: scored)
        }
        var running = Sum()
        for container in spec.containers { running.add(sum(container)) }
        var sidecars = Sum()
        var initial = Sum()
        for container in spec.initContainers {
            var step = sum(container)
            if container.restartPolicy == "Always" {
                running.add(step)
                sidecars.add(step)
                step = sidecars
            } else {
                step.add(sidecars)
            }
            initial.formMaximum(step)
        }
        running.formMaximum(initial)
        if let podLevel = spec.resources?.requests, !podLevel.isEmpty {
            let exact = ResourceAmounts(podLevel)
            if podLevel["cpu"] != nil { running.exact.milliCPU = exact.milliCPU; running.scored.milliCPU = exact.milliCPU }
            if podLevel["memory"] != nil { running.exact.memoryBytes = exact.memoryBytes; running.scored.memoryBytes = exact.memoryBytes }
        }
        let overhead = ResourceAmounts(spec.overhead)
        running.exact += overhead
        running.scored += overhead
        return (running.exact, running.scored.milliCPU, running.scored.memoryBytes)
    }
}
