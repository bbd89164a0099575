import KubeMeta

/// What the client wants to read.
struct Negotiation: Sendable {
    enum Shape: Sendable, Equatable { case object, table, partialMetadata, partialMetadataList }
    enum Encoding: Sendable { case json, yaml }

    var encoding: Encoding = .json
    var shape: Shape = .object
    var pretty = false

    private static let refusal =
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"

    static var notAcceptable: APIStatus { APIStatus(code: 406, reason: "NotAcceptable", message: refusal, name: "") }

    /// The first acceptable entry of an Accept header. Protobuf is passed over: clients that prefer it name JSON as well.
    init(accept: String?, query: QueryParameters, userAgent: String) throws {
        pretty = query.flag("pretty")
        guard let accept, !accept.isEmpty else { return }
        for entry in accept.split(separator: ",") {
            let parts = entry.split(separator: ";").map { $0.drop { $0 == " " } }
            guard let media = parts.first else { continue }
            var parameters: [Substring: Substring] = [:]
            for part in parts.dropFirst() {
                let pair = part.split(separator: "=", maxSplits: 1)
                if pair.count == 2 { parameters[pair[0]] = pair[1] }
            }
            switch media {
            case "application/json", "*/*", "application/*": encoding = .json
            case "application/yaml": encoding = .yaml
            default: continue
            }
            switch parameters["as"] {
            case nil: shape = .object
            case "Table"? where parameters["g"] == "meta.k8s.io" && parameters["v"] == "v1": shape = .table
            case "PartialObjectMetadata"? where parameters["g"] == "meta.k8s.io": shape = .partialMetadata
            case "PartialObjectMetadataList"? where parameters["g"] == "meta.k8s.io": shape = .partialMetadataList
            default: continue
            }
            return
        }
        throw Self.notAcceptable
    }
}
