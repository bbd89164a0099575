import CRI
package import KubeTypes

/// A `resolv.conf`, taken apart.
package struct ResolvConf: Equatable, Sendable {
    package var servers: [String] = []
    package var searches: [String] = []
    package var options: [String] = []

    package static let searchesMax = 32
    package static let serversMax = 3

    package init(servers: [String] = [], searches: [String] = [], options: [String] = []) {
        self.servers = servers
        self.searches = searches
        self.options = options
    }

    package init(text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
            guard let key = words.first, !key.hasPrefix("#"), !key.hasPrefix(";") else { continue }
            switch key {
            case "nameserver": if words.count > 1 { servers.append(words[1]) }
            case "search": searches = Array(words.dropFirst()).filter { $0 != "." }
            case "options": options += words.dropFirst()
            default: break
            }
        }
    }

    /// What a pod gets by its DNS policy and its own settings.
    package static func forPod(_ pod: Pod, host: ResolvConf, clusterDNS: [String], clusterDomain: String) -> ResolvConf {
        var policy = pod.spec.dnsPolicy ?? "ClusterFirst"
        if policy == "ClusterFirst", pod.usesHostNetwork { policy = "Default" }
        if policy == "ClusterFirstWithHostNet" { policy = "ClusterFirst" }
        var result: ResolvConf
        switch policy {
        case "None": result = ResolvConf()
        case "ClusterFirst" where !clusterDNS.isEmpty:
            let namespace = pod.metadata.namespace
            result = ResolvConf(
                servers: clusterDNS, searches: unique(["\(namespace).svc.\(clusterDomain)", "svc.\(clusterDomain)", clusterDomain] + host.searches),
                options: ["ndots:5"])
        default: result = host
        }
        if let own = pod.spec.dnsConfig {
            result.servers = unique(result.servers + own.nameservers)
            result.searches = unique(result.searches + own.searches)
            for option in own.options {
                let text = option.value.map { "\(option.name):\($0)" } ?? option.name
                result.options.removeAll { $0 == option.name || $0.hasPrefix(option.name + ":") }
                result.options.append(text)
            }
        }
        result.servers = Array(result.servers.prefix(serversMax))
        result.searches = Array(result.searches.prefix(searchesMax))
        return result
    }

    private static func unique(_ values: [String]) -> [String] {
        var seen: Set<String> = []
        return values.filter { seen.insert($0).inserted }
    }
}

/// The pod's `/etc/hosts`.
package enum HostsFile {
    package static func text(pod: Pod, addresses: [String], hostName: String, hostDomain: String?, hostFile: String) -> String {
        var text: String
        if pod.usesHostNetwork {
            text = "# Kubernetes-managed hosts file (host network).\n" + hostFile
        } else {
            text = """
                # Kubernetes-managed hosts file.
                127.0.0.1\tlocalhost
                ::1\tlocalhost ip6-localhost ip6-loopback
                fe00::\tip6-localnet
                fe00::\tip6-mcastprefix
                fe00::1\tip6-allnodes
                fe00::2\tip6-allrouters

                """
            for address in addresses {
                if let hostDomain {
                    text += "\(address)\t\(hostName).\(hostDomain)\t\(hostName)\n"
                } else {
                    text += "\(address)\t\(hostName)\n"
                }
            }
        }
        if !pod.spec.hostAliases.isEmpty {
            text += "\n# Entries added by HostAliases.\n"
            for alias in pod.spec.hostAliases { text += "\(alias.ip)\t\(alias.hostnames.joined(separator: "\t"))\n" }
        }
        return text
    }
}
