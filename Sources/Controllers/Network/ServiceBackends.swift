import KubeClient
import KubeMeta
import KubeTypes

/// What pods mean as backends of a service: shared by the Endpoints and the EndpointSlice controller.
enum ServiceBackends {
    static let headlessLabel = "service.kubernetes.io/headless"
    static let lastChangeAnnotation = "endpoints.kubernetes.io/last-change-trigger-time"

    /// A pod that has an address and is not over counts, even while it terminates.
    static func counts(_ pod: Pod) -> Bool { !pod.isTerminated && !pod.status.podIP.isEmpty }

    static func isHeadless(_ service: Service) -> Bool { service.spec.clusterIP == "None" }

    /// The number a service's port has on a pod; nil when the pod has no port of that name.
    static func portNumber(_ port: ServicePort, _ pod: Pod) -> Int? {
        switch port.targetPort {
        case nil: return port.port
        case .int(let number): return number == 0 ? port.port : number
        case .string(let name):
            let sidecars = pod.spec.initContainers.filter { $0.restartPolicy == "Always" }
            for container in pod.spec.containers + sidecars {
                for candidate in container.ports where candidate.name == name && candidate.protocol ?? "TCP" == port.protocol ?? "TCP" {
                    return candidate.containerPort
                }
            }
            return Int(name)
        }
    }

    /// A pod's name below a headless service that is its subdomain.
    static func hostname(_ pod: Pod, _ service: Service) -> String? {
        guard let hostname = pod.spec.hostname, !hostname.isEmpty, pod.spec.subdomain == service.metadata.name,
            pod.metadata.namespace == service.metadata.namespace
        else { return nil }
        return hostname
    }

    static func reference(_ pod: Pod) -> ObjectReference {
        var reference = ObjectReference()
        reference.kind = "Pod"
        reference.namespace = pod.metadata.namespace
        reference.name = pod.metadata.name
        reference.uid = pod.metadata.uid
        return reference
    }

    /// True when a change of a pod can change what services say about it.
    static func isRelevant(_ old: Pod, _ new: Pod) -> Bool {
        old.status.podIP != new.status.podIP || old.isReady != new.isReady || old.isTerminated != new.isTerminated
            || old.metadata.labels != new.metadata.labels || old.metadata.isBeingDeleted != new.metadata.isBeingDeleted
            || old.spec.nodeName != new.spec.nodeName || old.status.podIPs.map(\.ip) != new.status.podIPs.map(\.ip)
            || old.metadata.uid != new.metadata.uid
    }

    /// Puts the keys of the services that select a pod on a queue when the pod changes.
    static func watchPods(_ pods: Informer<Pod>, _ services: Informer<Service>, _ queue: WorkQueue<String>) {
        pods.addHandler { event in
            var labels = [event.object.metadata.labels]
            if case .updated(let old, let new) = event {
                guard isRelevant(old, new) else { return }
                if old.metadata.labels != new.metadata.labels { labels.append(old.metadata.labels) }
            }
            for service in services.inNamespace(event.object.metadata.namespace) where !service.spec.selector.isEmpty {
                let selector = service.spec.selector
                if labels.contains(where: { labels in selector.allSatisfy { labels[$0.key] == $0.value } }) { queue.enqueue(service.key) }
            }
        }
    }

    /// The pods a service selects.
    static func pods(_ service: Service, _ pods: Informer<Pod>) -> [Pod] {
        let selector = service.spec.selector
        return pods.inNamespace(service.metadata.namespace).filter { pod in selector.allSatisfy { pod.metadata.labels[$0.key] == $0.value }
        }
    }
}
