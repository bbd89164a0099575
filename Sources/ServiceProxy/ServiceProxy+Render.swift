import KubeClient
package import KubeTypes
import Nftables

/// The proxy's work without a kernel: for tests, and to look at the rules a cluster's objects would become.
extension ServiceProxy {
    /// The whole table for some services and their slices, as text for `nft -f`.
    package static func renderRules(_ services: [(Service, [EndpointSlice])], nodeName: String, options: Options) -> String {
        var table = ProxyTable(table: NftTable(.ip, tableName))
        _ = table.update(contents(services, nodeName, options).mapValues { .some($0) })
        return table.fullTransaction().text
    }

    /// The updates from one state of the cluster to the next, beginning with none.
    package static func renderUpdates(_ states: [[(Service, [EndpointSlice])]], nodeName: String, options: Options) -> [String] {
        var table = ProxyTable(table: NftTable(.ip, tableName))
        return states.map { state in
            let contents = contents(state, nodeName, options)
            var changes: [String: ServiceRules?] = contents.filter { table.services[$0.key] != $0.value }.mapValues { .some($0) }
            for name in table.services.keys where contents[name] == nil { changes[name] = .some(nil) }
            return table.update(changes).text
        }
    }

    /// The flows of a `conntrack -L` listing that one UDP service's cleaning would delete.
    package static func staleFlows(_ listing: String, service: String, port: Int, nodePort: Int, endpoints: Set<String>) -> [String] {
        ConntrackCleaner.stale(listing, [.address(service, port: port): endpoints, .nodePort(nodePort): endpoints])
            .map { "\($0.destination):\($0.port) \($0.answerer)" }.sorted()
    }

    private static func contents(_ services: [(Service, [EndpointSlice])], _ nodeName: String, _ options: Options) -> [String: ServiceRules] {
        var result: [String: ServiceRules] = [:]
        for (service, slices) in services {
            result[service.key] = ServiceRules(
                service: service, slices: slices, nodeName: nodeName, clusterCIDR: options.clusterCIDR,
                ignoredAddresses: options.localAddresses)
        }
        return result
    }
}
