import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Spreads endpoints over slices with as few writes as it can, for both controllers that make slices.
enum EndpointSlices {
    static let endpointsMax = 100

    typealias Part = (ports: [DiscoveryEndpointPort], endpoints: [Endpoint])

    private static func identity(_ endpoint: Endpoint) -> String {
        endpoint.targetRef.map { $0.uid } ?? endpoint.addresses.joined(separator: ",")
    }

    /// Endpoints stay in the slice they are in; new ones fill the slices up; what is left makes new slices.
    static func distribute(_ ports: [DiscoveryEndpointPort], _ endpoints: [Endpoint], _ existing: [EndpointSlice]) -> [Part] {
        let portsText = JSON.array(ports.map(\.json)).text
        let same = existing.filter { JSON.array($0.ports.map(\.json)).text == portsText }.sorted { $0.metadata.name < $1.metadata.name }
        var left = Dictionary(endpoints.map { (identity($0), $0) }, uniquingKeysWith: { first, _ in first })
        var parts: [[Endpoint]] = same.map { slice in slice.endpoints.compactMap { left.removeValue(forKey: identity($0)) } }
        var rest = endpoints.filter { left[identity($0)] != nil }
        for index in parts.indices where !rest.isEmpty && parts[index].count < endpointsMax {
            let count = min(endpointsMax - parts[index].count, rest.count)
            parts[index] += rest.prefix(count)
            rest.removeFirst(count)
        }
        while !rest.isEmpty {
            parts.append(Array(rest.prefix(endpointsMax)))
            rest.removeFirst(min(endpointsMax, rest.count))
        }
        return parts.filter { !$0.isEmpty }.map { (ports, $0) }
    }

    /// Makes the slices say what is wanted: changes those that are nearest, makes what is missing, removes what is too much.
    static func write(
        _ wanted: [Part], over existing: [EndpointSlice], client: KubeClient, template: (inout EndpointSlice) -> Void,
        labels: [String: String],
        created: (String) -> Void
    ) async throws {
        var unused = existing.sorted { $0.metadata.name < $1.metadata.name }
        var creations: [Part] = []
        var updates: [EndpointSlice] = []
        func json(_ ports: [DiscoveryEndpointPort]) -> JSON { .array(ports.map(\.json)) }
        var open: [Part] = []
        // First those whose ports fit and which share an endpoint (or are empty as well).
        for part in wanted {
            let ids = Set(part.endpoints.map(identity))
            let match = unused.firstIndex { slice in
                json(slice.ports) == json(part.ports)
                    && (slice.endpoints.contains { ids.contains(identity($0)) } || slice.endpoints.isEmpty == ids.isEmpty && ids.isEmpty)
            }
            guard let match else { open.append(part); continue }
            let slice = unused.remove(at: match)
            if JSON.array(slice.endpoints.map(\.json)) != JSON.array(part.endpoints.map(\.json)) || slice.metadata.labels != labels {
                var changed = slice
                changed.endpoints = part.endpoints
                changed.metadata.labels = labels
                updates.append(changed)
            }
        }
        for part in open {
            if unused.isEmpty { creations.append(part); continue }
            var changed = unused.removeFirst()
            changed.ports = part.ports
            changed.endpoints = part.endpoints
            changed.metadata.labels = labels
            updates.append(changed)
        }
        for part in creations {
            var slice = EndpointSlice()
            template(&slice)
            slice.metadata.labels = labels
            slice.ports = part.ports
            slice.endpoints = part.endpoints
            created(try await client.create(slice).key)
        }
        for slice in updates { try await client.update(slice) }
        for slice in unused {
            do {
                try await client.delete(
                    EndpointSlice.self, namespace: slice.metadata.namespace, name: slice.metadata.name, uid: slice.metadata.uid)
            } catch let status as APIStatus where status.isNotFound {}
        }
    }
}
