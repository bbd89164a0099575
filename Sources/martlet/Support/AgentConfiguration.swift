import JSON
import Processes

/// What an agent is started with.
struct AgentConfiguration: Sendable {
    var nodeName: String
    var nodeAddress: String
    var podCIDR: String
    var clusterCIDR: String
    var kubeconfig: String
    var dataDirectory: String
    var runDirectory: String
    /// Volumes of the local-path provisioner.
    var volumesDirectory: String
    /// The host's cgroup; pods go below it.
    var cgroup: String
    var servingCertificatePEM: String
    var servingKeyPEM: String
    var clientAuthorityPEM: String
    /// The cgroup containerd is moved to; nil: it stays in its parent's.
    var systemCgroup: String?
    /// Kubelet, logs and network state below `dataDirectory` instead of in /var: the host has no view of its own on those.
    var keepsFoldersInData = false

    func save(_ path: String) throws {
        let json: JSON = [
            "nodeName": .string(nodeName), "nodeAddress": .string(nodeAddress), "podCIDR": .string(podCIDR),
            "clusterCIDR": .string(clusterCIDR), "kubeconfig": .string(kubeconfig), "dataDirectory": .string(dataDirectory),
            "runDirectory": .string(runDirectory), "volumesDirectory": .string(volumesDirectory), "cgroup": .string(cgroup), "servingCertificate": .string(servingCertificatePEM),
            "servingKey": .string(servingKeyPEM), "clientAuthority": .string(clientAuthorityPEM),
        ]
        try SmallFile.write(json.prettyText + "\n", to: path, mode: 0o600)
    }

    static func load(_ path: String) throws -> AgentConfiguration {
        guard let text = SmallFile.read(path) else { throw CommandFailure("the configuration \(path) cannot be read") }
        let json: JSON
        do throws(JSONParseError) { json = try JSON.parse(text) } catch { throw CommandFailure("\(path): \(error)") }
        func need(_ key: String) throws -> String {
            guard let value = json[key]?.string else { throw CommandFailure("\(path): \"\(key)\" is missing") }
            return value
        }
        return AgentConfiguration(
            nodeName: try need("nodeName"), nodeAddress: try need("nodeAddress"), podCIDR: try need("podCIDR"),
            clusterCIDR: try need("clusterCIDR"), kubeconfig: try need("kubeconfig"), dataDirectory: try need("dataDirectory"),
            runDirectory: try need("runDirectory"), volumesDirectory: try need("volumesDirectory"), cgroup: try need("cgroup"), servingCertificatePEM: try need("servingCertificate"),
            servingKeyPEM: try need("servingKey"), clientAuthorityPEM: try need("clientAuthority"))
    }
}
