import FoundationEssentials
import JSON
import Processes

/// What a cluster was made with, kept in `cluster.json`, so that the next `up` finds the same cluster.
struct ClusterState: Sendable {
    /// Format of the file; a newer one is refused.
    static let formatSupported = 1

    var nodes: Int
    var simulatedNodes: Int
    var port: Int
    /// First three octets of the hosts' network; empty without hosts.
    var subnetPrefix: String
    /// First two octets of the pod network.
    var podPrefix: String

    static func load(_ folder: DataFolder) throws -> ClusterState? {
        guard let text = SmallFile.read(folder.state) else { return nil }
        let json: JSON
        do throws(JSONParseError) { json = try JSON.parse(text) } catch {
            throw CommandFailure("\(folder.state) is damaged (\(error)); `martlet down --data-dir \(folder.path)` removes the cluster's remains")
        }
        let format = json["format"]?.int ?? 0
        guard format <= formatSupported else {
            throw CommandFailure(
                "the data in \(folder.path) was written by a newer Martlet (format \(format), this one knows up to \(formatSupported)); nothing was changed. Use the newer program, or another --data-dir")
        }
        return ClusterState(
            nodes: Int(json["nodes"]?.int ?? 0), simulatedNodes: Int(json["simulatedNodes"]?.int ?? 0), port: Int(json["port"]?.int ?? 6443),
            subnetPrefix: json["subnetPrefix"]?.string ?? "", podPrefix: json["podPrefix"]?.string ?? "10.244")
    }

    func save(_ folder: DataFolder) throws {
        let json: JSON = [
            "format": JSON(Self.formatSupported), "nodes": JSON(nodes), "simulatedNodes": JSON(simulatedNodes), "port": JSON(port),
            "subnetPrefix": .string(subnetPrefix), "podPrefix": .string(podPrefix),
        ]
        try SmallFile.write(json.prettyText + "\n", to: folder.state)
    }

    var nodeNames: [String] { (0..<nodes).map { "node-\($0 + 1)" } }
}
