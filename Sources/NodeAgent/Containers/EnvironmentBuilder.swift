import KubeMeta
package import KubeTypes

/// A container's environment: services, whole config maps and secrets, then single variables in their order.
package struct EnvironmentBuilder: Sendable {
    package var fields: FieldReferences
    /// Services of the cluster, for the older discovery by variables.
    package var services: [Service]
    package var configMaps: [String: ConfigMap]
    package var secrets: [String: Secret]

    package init(fields: FieldReferences, services: [Service] = [], configMaps: [String: ConfigMap] = [:], secrets: [String: Secret] = [:]) {
        self.fields = fields
        self.services = services
        self.configMaps = configMaps
        self.secrets = secrets
    }

    /// - Throws: what the event says, for example `configmap "x" not found`.
    package func build(_ container: Container) throws(AgentError) -> [(name: String, value: String)] {
        var variables = Variables()
        let fromServices = serviceVariables()
        for source in container.envFrom {
            let prefix = source.prefix ?? ""
            if let reference = source.configMapRef {
                guard let map = configMaps[reference.name] else {
                    if reference.optional == true { continue }
                    throw AgentError("configmap \"\(reference.name)\" not found")
                }
                for (key, value) in map.data.sorted(by: { $0.key < $1.key }) { variables.set(prefix + key, value) }
            } else if let reference = source.secretRef {
                guard let secret = secrets[reference.name] else {
                    if reference.optional == true { continue }
                    throw AgentError("secret \"\(reference.name)\" not found")
                }
                for (key, value) in secret.data.sorted(by: { $0.key < $1.key }) {
                    variables.set(prefix + key, String(decoding: Base64Text.decode(value) ?? [], as: UTF8.self))
                }
            }
        }
        for variable in container.env {
            if let source = variable.valueFrom {
                if let value = try self.value(source, container) { variables.set(variable.name, value) }
            } else {
                let known = variables.values
                variables.set(variable.name, Expansion.expand(variable.value ?? "") { known[$0] ?? fromServices[$0] })
            }
        }
        for (name, value) in fromServices.sorted(by: { $0.key < $1.key }) where variables.values[name] == nil { variables.set(name, value) }
        return variables.list
    }

    private struct Variables {
        private var order: [String] = []
        private(set) var values: [String: String] = [:]

        mutating func set(_ name: String, _ value: String) {
            if values.updateValue(value, forKey: name) == nil { order.append(name) }
        }

        var list: [(name: String, value: String)] { order.map { ($0, values[$0] ?? "") } }
    }

    /// Nil: an optional source that is not there.
    private func value(_ source: EnvVarSource, _ container: Container) throws(AgentError) -> String? {
        if let field = source.fieldRef { return try fields.value(field) }
        if let resource = source.resourceFieldRef { return try fields.value(resource, container: container) }
        let namespace = fields.pod.metadata.namespace
        if let key = source.configMapKeyRef {
            guard let map = configMaps[key.name] else {
                if key.optional == true { return nil }
                throw AgentError("configmap \"\(key.name)\" not found")
            }
            guard let value = map.data[key.key] else {
                if key.optional == true { return nil }
                throw AgentError("couldn't find key \(key.key) in ConfigMap \(namespace)/\(key.name)")
            }
            return value
        }
        if let key = source.secretKeyRef {
            guard let secret = secrets[key.name] else {
                if key.optional == true { return nil }
                throw AgentError("secret \"\(key.name)\" not found")
            }
            guard let value = secret.data[key.key] else {
                if key.optional == true { return nil }
                throw AgentError("couldn't find key \(key.key) in Secret \(namespace)/\(key.name)")
            }
            return String(decoding: Base64Text.decode(value) ?? [], as: UTF8.self)
        }
        throw AgentError("unsupported source of a variable")
    }

    /// The API's own service always; the namespace's unless `enableServiceLinks` is false.
    package func serviceVariables() -> [String: String] {
        var chosen: [String: Service] = [:]
        for service in services where service.metadata.namespace == "default" && service.metadata.name == "kubernetes" {
            chosen[service.metadata.name] = service
        }
        if fields.pod.spec.enableServiceLinks != false {
            for service in services where service.metadata.namespace == fields.pod.metadata.namespace { chosen[service.metadata.name] = service }
        }
        var result: [String: String] = [:]
        for service in chosen.values {
            guard let address = service.spec.clusterIP, !address.isEmpty, address != "None" else { continue }
            let name = Self.variableName(service.metadata.name)
            result["\(name)_SERVICE_HOST"] = address
            guard let first = service.spec.ports.first else { continue }
            result["\(name)_SERVICE_PORT"] = String(first.port)
            for port in service.spec.ports where !port.name.isEmpty { result["\(name)_SERVICE_PORT_\(Self.variableName(port.name))"] = String(port.port) }
            let bracketed = address.contains(":") ? "[\(address)]" : address
            for (index, port) in service.spec.ports.enumerated() {
                let kind = (port.protocol ?? "TCP")
                let url = "\(kind.lowercased())://\(bracketed):\(port.port)"
                if index == 0 { result["\(name)_PORT"] = url }
                let prefix = "\(name)_PORT_\(port.port)_\(kind.uppercased())"
                result[prefix] = url
                result["\(prefix)_PROTO"] = kind.lowercased()
                result["\(prefix)_PORT"] = String(port.port)
                result["\(prefix)_ADDR"] = address
            }
        }
        return result
    }

    private static func variableName(_ name: String) -> String {
        name.uppercased().split(separator: "-", omittingEmptySubsequences: false).joined(separator: "_")
    }
}
