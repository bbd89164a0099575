package import JSON
import KubeAPI
import KubeMeta

/// Checks an object as the server would, without a server: strict decoding, defaults, validation. What depends on other objects (names taken,
/// namespaces, quotas, admission) is not checked.
package struct OfflineValidator: Sendable {
    package struct Finding: Sendable {
        /// `Deployment.apps "web"`, as far as it is known.
        package var subject: String
        /// In the server's words; empty when the object is valid.
        package var problems: [String]

        package init(subject: String, problems: [String]) {
            self.subject = subject
            self.problems = problems
        }
    }

    private let schema = Schema.builtIn

    package init() {}

    package func check(_ document: JSON) -> [Finding] {
        // A List is what stands in it.
        if document["kind"]?.string == "List", let items = document["items"]?.array { return items.flatMap(check) }
        let kind = document["kind"]?.string ?? ""
        let version = document["apiVersion"]?.string ?? ""
        let name = document["metadata"]?["name"]?.string ?? document["metadata"]?["generateName"]?.string ?? ""
        var finding = Finding(subject: "\(kind.isEmpty ? "object" : kind) \"\(name)\"", problems: [])
        guard !kind.isEmpty else { return [failing(finding, "Object 'Kind' is missing")] }
        guard !version.isEmpty else { return [failing(finding, "Object 'apiVersion' is missing")] }
        guard let type = schema.type(apiVersion: version, kind: kind),
            let resource = schema.resources.first(where: { $0.identity.kind == kind && $0.identity.apiVersion == version })
        else {
            return [failing(finding, "no matches for kind \"\(kind)\" in version \"\(version)\"" + nearest(kind))]
        }
        var object = document
        var findings = DecodeFindings()
        do throws(DecodeError) {
            try ObjectDecoder.decode(&object, as: type, findings: &findings)
        } catch {
            return [failing(finding, "\(kind) in version \"\(type.version)\" cannot be handled as a \(kind): \(error.message)")]
        }
        finding.problems += findings.strict
        Defaults.apply(to: &object, type: type)
        if name.isEmpty == false, object["metadata"]?["name"] == nil { object.set(.string(name + "x"), at: "metadata", "name") }
        finding.problems += Validation.create(object, resource.identity, Strategy.of(resource)).map(\.text)
        return [finding]
    }

    private func failing(_ finding: Finding, _ problem: String) -> Finding {
        var finding = finding
        finding.problems.append(problem)
        return finding
    }

    /// The kind that was probably meant: the same letters in another case, or one letter off.
    private func nearest(_ kind: String) -> String {
        let wanted = kind.lowercased()
        let known = schema.resources.map(\.identity)
        let match = known.first { $0.kind.lowercased() == wanted } ?? known.first { Self.isNear($0.kind.lowercased(), wanted) }
        return match.map { "; did you mean \($0.kind) in version \"\($0.apiVersion)\"?" } ?? ""
    }

    private static func isNear(_ left: String, _ right: String) -> Bool {
        let a = Array(left.utf8)
        let b = Array(right.utf8)
        guard abs(a.count - b.count) <= 1 else { return false }
        let front = zip(a, b).prefix { $0 == $1 }.count
        let back = zip(a.reversed(), b.reversed()).prefix { $0 == $1 }.count
        return front + back >= max(a.count, b.count) - 1
    }
}
