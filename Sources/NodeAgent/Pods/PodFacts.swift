package import KubeMeta
package import KubeTypes

/// Pod quality of service (`status.qosClass`).
package enum QualityOfService: String, Sendable { case guaranteed = "Guaranteed", burstable = "Burstable", bestEffort = "BestEffort" }

extension Pod {
    /// `name_namespace(uid)`: how the kubelet's messages name a pod.
    package var longName: String { "\(metadata.name)_\(metadata.namespace)(\(metadata.uid))" }

    package var isFinished: Bool { status.phase == "Succeeded" || status.phase == "Failed" }
    package var usesHostNetwork: Bool { spec.hostNetwork == true }
    package var restartPolicy: String { spec.restartPolicy ?? "Always" }
    package var ephemeral: [Container] { spec.ephemeralContainers.map { Container(json: $0.json) } }
    package var allContainers: [Container] { spec.initContainers + spec.containers + ephemeral }
    package func container(named name: String) -> Container? { allContainers.first { $0.name == name } }

    /// A static pod's mirror in the API has this annotation.
    package static var mirrorAnnotation: String { "kubernetes.io/config.mirror" }
    package static var sourceAnnotation: String { "kubernetes.io/config.source" }
    package static var hashAnnotation: String { "kubernetes.io/config.hash" }
    package var isMirror: Bool { metadata.annotations[Self.mirrorAnnotation] != nil }
    package var isStatic: Bool { metadata.annotations[Self.sourceAnnotation].map { $0 != "api" } ?? false }

    package var isCritical: Bool { isStatic || isMirror || (spec.priority ?? 0) >= 2_000_000_000 }

    package func fieldPath(ofContainer name: String) -> String {
        if spec.initContainers.contains(where: { $0.name == name }) { return "spec.initContainers{\(name)}" }
        if spec.ephemeralContainers.contains(where: { $0.name == name }) { return "spec.ephemeralContainers{\(name)}" }
        return "spec.containers{\(name)}"
    }

    /// Upstream's rule: only cpu and memory of containers and init containers count, zero is nothing.
    package var qualityOfService: QualityOfService {
        if let known = status.qosClass.flatMap(QualityOfService.init) { return known }
        var anything = false
        var guaranteed = true
        for container in spec.initContainers + spec.containers {
            let requests = container.resources?.requests ?? [:]
            let limits = container.resources?.limits ?? [:]
            for resource in ["cpu", "memory"] {
                let limit = limits[resource] ?? .zero
                let request = requests[resource] ?? limit
                if limit > .zero || request > .zero { anything = true }
                if limit == .zero || request != limit { guaranteed = false }
            }
        }
        if !anything { return .bestEffort }
        return guaranteed ? .guaranteed : .burstable
    }

    /// The name seen inside: at most 63 characters.
    package var hostName: String {
        if let override = spec.hostnameOverride, !override.isEmpty { return override }
        if let name = spec.hostname, !name.isEmpty { return name }
        var name = String(metadata.name.prefix(63))
        while let last = name.last, last == "-" || last == "." { name.removeLast() }
        return name
    }

    /// `subdomain.namespace.svc.DOMAIN`, when the pod is part of a headless service's domain.
    package func hostDomain(clusterDomain: String) -> String? {
        guard spec.hostnameOverride == nil, let subdomain = spec.subdomain, !subdomain.isEmpty else { return nil }
        return "\(subdomain).\(metadata.namespace).svc.\(clusterDomain)"
    }

    /// Grace a pod's end gets: what the deletion says, else what the pod says, else 30 s.
    package var gracePeriodSeconds: Int { metadata.deletionGracePeriodSeconds ?? spec.terminationGracePeriodSeconds ?? 30 }
}

extension Container {
    /// An init container that runs beside the others (`restartPolicy: Always`).
    package var isSidecar: Bool { restartPolicy == "Always" }

    /// Changes when the runtime's container must be replaced: name and image, as upstream.
    package var definitionHash: String {
        var hash: UInt32 = 2_166_136_261
        for byte in "\(name)\u{0}\(image)".utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        return String(hash, radix: 16)
    }
}

extension [Quantity] {
    package var sum: Quantity { reduce(.zero, +) }
}
