package import JSON
import KubeMeta

/// The fields of a kind that a `fieldSelector` may name.
package struct SelectableFields: Sendable {
    /// Field name -> path in the object; every kind has metadata.name and metadata.namespace besides.
    private let paths: [(name: String, path: [String], fallback: String)]

    private init(_ paths: [(String, [String], String)]) { self.paths = paths.map { (name: $0.0, path: $0.1, fallback: $0.2) } }

    package static let none = SelectableFields([])

    private static func plain(_ names: String..., fallbacks: [String: String] = [:]) -> SelectableFields {
        SelectableFields(names.map { ($0, $0.split(separator: ".").map(String.init), fallbacks[$0] ?? "") })
    }

    /// Field labels of upstream's conversion functions.
    private static let builtIn: [String: SelectableFields] = [
        "pods": plain(
            "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase",
            "status.podIP", "status.nominatedNodeName", fallbacks: ["spec.hostNetwork": "false"]),
        "events": SelectableFields(
            ["involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion",
                "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "type"].map {
                    ($0, $0.split(separator: ".").map(String.init), "")
                } + [("source", ["source", "component"], "")]),
        "events.events.k8s.io": SelectableFields(
            ["reason", "type", "reportingController"].map { ($0, [$0 == "reportingController" ? "reportingComponent" : $0], "") }
                + ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"].map {
                    ("regarding.\($0)", ["involvedObject", $0], "")
                }),
        "nodes": plain("spec.unschedulable", fallbacks: ["spec.unschedulable": "false"]),
        "namespaces": plain("status.phase"),
        "secrets": plain("type"),
        "services": plain("spec.clusterIP", "spec.type"),
        "replicationcontrollers": plain("status.replicas", fallbacks: ["status.replicas": "0"]),
        "replicasets.apps": plain("status.replicas", fallbacks: ["status.replicas": "0"]),
        "jobs.batch": plain("status.successful", fallbacks: ["status.successful": "0"]),
        "certificatesigningrequests.certificates.k8s.io": plain("spec.signerName"),
        "resourceslices.resource.k8s.io": plain("spec.nodeName", "spec.driver"),
    ]

    static func of(_ kind: ResourceKind) -> SelectableFields { builtIn[kind.qualifiedName] ?? .none }

    package func supports(_ name: String) -> Bool {
        name == "metadata.name" || name == "metadata.namespace" || paths.contains { $0.name == name }
    }

    package func values(of object: JSON) -> [String: String] {
        var values: [String: String] = [
            "metadata.name": object["metadata"]?["name"]?.string ?? "", "metadata.namespace": object["metadata"]?["namespace"]?.string ?? "",
        ]
        for (name, path, fallback) in paths {
            switch object.value(at: path) {
            case .string(let text)?: values[name] = text.isEmpty ? fallback : text
            case .bool(let flag)?: values[name] = flag ? "true" : "false"
            case .int(let number)?: values[name] = String(number)
            default: values[name] = fallback
            }
        }
        return values
    }
}

/// A parsed `fieldSelector`: all terms must hold.
package struct FieldSelector: Sendable, Equatable {
    package struct Term: Sendable, Equatable {
        package var field: String
        package var value: String
        package var equals: Bool
    }

    package var terms: [Term]
    package var isEmpty: Bool { terms.isEmpty }

    package func matches(_ fields: [String: String]) -> Bool {
        terms.allSatisfy { (fields[$0.field] == $0.value) == $0.equals }
    }

    /// The value that the selector demands of a field, if it does.
    package func required(_ field: String) -> String? { terms.first { $0.field == field && $0.equals }?.value }

    package static func parse(_ text: String) throws -> FieldSelector {
        var terms: [Term] = []
        for part in text.split(separator: ",") {
            let piece = String(part)
            if let range = piece.firstRange(of: "!=") {
                terms.append(Term(field: String(piece[..<range.lowerBound]), value: String(piece[range.upperBound...]), equals: false))
            } else if let range = piece.firstRange(of: "==") ?? piece.firstRange(of: "=") {
                terms.append(Term(field: String(piece[..<range.lowerBound]), value: String(piece[range.upperBound...]), equals: true))
            } else {
                throw APIStatus.badRequest("invalid selector: '\(text)'; can't understand '\(piece)'")
            }
        }
        return FieldSelector(terms: terms)
    }
}
