/// Why the hosts of a cluster, or their container runtime, could not be made.
package struct HostsError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
