internal import Processes

/// The CNI network of one host, as the reference plugins read it.
package enum CNIConfiguration {
    package static let networkName = "martlet"

    /// Writes `DIRECTORY/10-martlet.conflist`, where containerd watches for it.
    ///
    /// - Parameters:
    ///   - dataDirectory: where host-local keeps this host's address leases.
    ///   - bridge: the pods' bridge on this host.
    package static func write(
        directory: String, podCIDR: String, dataDirectory: String, bridge: String = "cni0", mtu: Int? = nil
    ) throws {
        try SmallFile.makeDirectories(directory)
        try SmallFile.makeDirectories(dataDirectory)
        try SmallFile.write(
            conflist(podCIDR: podCIDR, dataDirectory: dataDirectory, bridge: bridge, mtu: mtu), to: directory + "/10-martlet.conflist")
    }

    /// `ipMasq` is off: pods keep their address inside the cluster, and the machine's own table masquerades what leaves it.
    static func conflist(podCIDR: String, dataDirectory: String, bridge: String, mtu: Int?) -> String {
        """
        {
          "cniVersion": "1.0.0",
          "name": "\(networkName)",
          "plugins": [
            {
              "type": "bridge",
              "bridge": "\(bridge)",
              "isDefaultGateway": true,
              "hairpinMode": true,
              "ipMasq": false,
              "forceAddress": true,\(mtu.map { "\n      \"mtu\": \($0)," } ?? "")
              "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "\(podCIDR)" }]],
                "dataDir": "\(dataDirectory)"
              }
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }
          ]
        }

        """
    }
}
