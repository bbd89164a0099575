import JSON
import KubeAPI
import KubeMeta

/// LimitRanger: fills in requests and limits from the namespace's LimitRanges and refuses what is out of their bounds.
enum LimitRanges {
    static func apply(_ pod: inout JSON, ranges: [JSON], _ kind: ResourceKind) throws {
        guard !ranges.isEmpty else { return }
        var problems: [String] = []
        for range in ranges {
            for limit in range["spec"]?["limits"]?.array ?? [] where limit["type"]?.string == "Container" {
                let defaults = limit["default"]?.object ?? [:]
                let requests = limit["defaultRequest"]?.object ?? [:]
                pod.change("spec") { spec in
                    for list in ["initContainers", "containers"] {
                        spec.changeEach(list) { container in
                            container.fill("resources", [:])
                            container.change("resources") { resources in
                                if !defaults.isEmpty {
                                    resources.fill("limits", [:])
                                    resources.change("limits") { for (name, value) in defaults { $0.fill(name, value) } }
                                }
                                if !requests.isEmpty {
                                    resources.fill("requests", [:])
                                    resources.change("requests") { for (name, value) in requests { $0.fill(name, value) } }
                                }
                            }
                            check(container, limit, &problems)
                        }
                    }
                }
            }
        }
        guard let first = problems.first else { return }
        throw Admission.forbidden(kind, pod, problems.count == 1 ? first : "[\(problems.joined(separator: ", "))]")
    }

    private static func check(_ container: JSON, _ limit: JSON, _ problems: inout [String]) {
        let requests = container["resources"]?["requests"]
        let limits = container["resources"]?["limits"]
        for (name, bound) in limit["min"]?.object ?? [:] {
            let minimum = Quantity(json: bound)
            guard let value = requests?[name] else {
                problems.append("minimum \(name) usage per Container is \(minimum.text).  No request is specified")
                continue
            }
            let request = Quantity(json: value)
            if request < minimum { problems.append("minimum \(name) usage per Container is \(minimum.text), but request is \(request.text)") }
        }
        for (name, bound) in limit["max"]?.object ?? [:] {
            let maximum = Quantity(json: bound)
            guard let value = limits?[name] else {
                problems.append("maximum \(name) usage per Container is \(maximum.text).  No limit is specified")
                continue
            }
            let used = Quantity(json: value)
            if used > maximum { problems.append("maximum \(name) usage per Container is \(maximum.text), but limit is \(used.text)") }
        }
    }
}
