import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Counts what a namespace uses of its quotas. Admission charges what is made; this gives back what has gone and repairs drift.
final class ResourceQuotaController: Controller {
    static let name = "resourcequota-controller"
    static let inputs = [ResourceQuota.resource, Pod.resource, Service.resource, PersistentVolumeClaim.resource]
    static let outputs = [ResourceQuota.resource]

    /// Kinds without an informer here are counted again this often, where a quota is about them.
    private static let recountSeconds = 2.0

    private let context: ControllerContext
    private let quotas: Informer<ResourceQuota>
    private let pods: Informer<Pod>
    private let services: Informer<Service>
    private let claims: Informer<PersistentVolumeClaim>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        quotas = context.informer(ResourceQuota.self)
        pods = context.informer(Pod.self)
        services = context.informer(Service.self)
        claims = context.informer(PersistentVolumeClaim.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        quotas.addHandler { [queue] event in
            switch event {
            case .added(let quota): queue.enqueue(quota.key)
            case .updated(let old, let new): if old.spec.json != new.spec.json { queue.enqueue(new.key) }
            case .deleted: break
            }
        }
        pods.addHandler { [quotas, queue] event in
            if case .added = event { return }
            if case .updated(let old, let new) = event, old.isTerminated == new.isTerminated,
                old.metadata.generation == new.metadata.generation
            {
                return
            }
            for quota in quotas.inNamespace(event.object.metadata.namespace) { queue.enqueue(quota.key) }
        }
        services.addHandler { [quotas, queue] event in
            if case .added = event { return }
            for quota in quotas.inNamespace(event.object.metadata.namespace) { queue.enqueue(quota.key) }
        }
        claims.addHandler { [quotas, queue] event in
            if case .added = event { return }
            for quota in quotas.inNamespace(event.object.metadata.namespace) { queue.enqueue(quota.key) }
        }
    }

    func run() async { await queue.run(workers: 4) { [self] key in try await sync(key) } }

    private func sync(_ key: String) async throws {
        guard var quota = quotas.get(key), !quota.metadata.isBeingDeleted else { return }
        var used: [String: Quantity] = [:]
        var needsRecount = false
        var counted: [Pod]?
        for name in quota.spec.hard.keys {
            if Self.isAboutPods(name) {
                let present = counted ?? pods.inNamespace(quota.metadata.namespace).filter { !$0.isTerminated && Self.isInScope($0, quota) }
                counted = present
                used[name] = present.reduce(.zero) { $0 + Self.usage($1, name) }
                continue
            }
            if let value = cachedUsage(name, quota.metadata.namespace) {
                used[name] = value
                continue
            }
            needsRecount = true
            used[name] = try await countedUsage(name, quota.metadata.namespace) ?? .zero
        }
        if needsRecount { await queue.add(key, afterSeconds: Self.recountSeconds) }
        func text(_ map: [String: Quantity]) -> [String: Int128] { map.mapValues(\.nanos) }
        guard text(quota.status.used) != text(used) || text(quota.status.hard) != text(quota.spec.hard) else { return }
        quota.status.hard = quota.spec.hard
        quota.status.used = used
        do { try await context.client.updateStatus(quota) } catch let status as APIStatus where status.isNotFound { return }
        // Admission may have charged something that the caches did not show yet.
        await queue.add(key, afterSeconds: Self.recountSeconds)
    }

    // MARK: Pods

    private static func isAboutPods(_ name: String) -> Bool {
        if ["pods", "count/pods", "cpu", "memory", "ephemeral-storage"].contains(name) { return true }
        if name.hasPrefix("limits.") || name.hasPrefix("hugepages-") { return true }
        return name.hasPrefix("requests.") && name != "requests.storage"
    }

    private static func isInScope(_ pod: Pod, _ quota: ResourceQuota) -> Bool {
        for scope in quota.spec.scopes where !matches(pod, scope, nil) { return false }
        for requirement in quota.spec.scopeSelector?.matchExpressions ?? [] where !matches(pod, requirement.scopeName, requirement) {
            return false
        }
        return true
    }

    private static func matches(_ pod: Pod, _ scope: String, _ requirement: ScopedResourceSelectorRequirement?) -> Bool {
        switch scope {
        case "Terminating": return pod.spec.activeDeadlineSeconds != nil
        case "NotTerminating": return pod.spec.activeDeadlineSeconds == nil
        case "BestEffort": return isBestEffort(pod)
        case "NotBestEffort": return !isBestEffort(pod)
        case "CrossNamespacePodAffinity": return hasCrossNamespaceAffinity(pod)
        case "PriorityClass":
            let name = pod.spec.priorityClassName ?? ""
            switch requirement?.operator {
            case "In": return requirement?.values.contains(name) ?? false
            case "NotIn": return !(requirement?.values.contains(name) ?? false)
            case "DoesNotExist": return name.isEmpty
            default: return !name.isEmpty
            }
        default: return true
        }
    }

    private static func isBestEffort(_ pod: Pod) -> Bool {
        (pod.spec.containers + pod.spec.initContainers).allSatisfy { container in
            let resources = container.resources
            return (Array((resources?.requests ?? [:]).keys) + Array((resources?.limits ?? [:]).keys)).allSatisfy {
                $0 != "cpu" && $0 != "memory"
            }
        }
    }

    private static func hasCrossNamespaceAffinity(_ pod: Pod) -> Bool {
        let affinity = pod.spec.affinity
        let terms =
            (affinity?.podAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
            + (affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [])
            + (affinity?.podAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(\.podAffinityTerm)
            + (affinity?.podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(\.podAffinityTerm)
        return terms.contains { !$0.namespaces.isEmpty || $0.namespaceSelector != nil }
    }

    private static func usage(_ pod: Pod, _ name: String) -> Quantity {
        if name == "pods" || name == "count/pods" { return Quantity(1) }
        let isLimit = name.hasPrefix("limits.")
        let resource = isLimit ? String(name.dropFirst(7)) : name.hasPrefix("requests.") ? String(name.dropFirst(9)) : name
        func amount(_ container: Container) -> Quantity {
            (isLimit ? container.resources?.limits : container.resources?.requests)?[resource] ?? .zero
        }
        var running = pod.spec.containers.reduce(Quantity.zero) { $0 + amount($1) }
        var sidecars = Quantity.zero
        var initial = Quantity.zero
        for container in pod.spec.initContainers {
            if container.restartPolicy == "Always" {
                running += amount(container)
                sidecars += amount(container)
                initial = max(initial, sidecars)
            } else {
                initial = max(initial, sidecars + amount(container))
            }
        }
        return max(running, initial) + (pod.spec.overhead[resource] ?? .zero)
    }

    // MARK: Other kinds

    private func cachedUsage(_ name: String, _ namespace: String) -> Quantity? {
        switch name {
        case "services", "count/services": return Quantity(Int64(services.inNamespace(namespace).count))
        case "services.loadbalancers": return Quantity(Int64(services.inNamespace(namespace).count { $0.spec.type == "LoadBalancer" }))
        case "services.nodeports":
            return Quantity(
                Int64(
                    services.inNamespace(namespace).reduce(0) { sum, service in
                        switch service.spec.type {
                        case "NodePort": sum + service.spec.ports.count
                        case "LoadBalancer":
                            sum
                                + (service.spec.allocateLoadBalancerNodePorts == false
                                    ? service.spec.ports.count { $0.nodePort ?? 0 != 0 } : service.spec.ports.count)
                        default: sum
                        }
                    }))
        case "persistentvolumeclaims", "count/persistentvolumeclaims": return Quantity(Int64(claims.inNamespace(namespace).count))
        case "requests.storage": return storage(claims.inNamespace(namespace))
        default:
            let suffix = ".storageclass.storage.k8s.io/"
            guard let range = Self.split(name, suffix) else { return nil }
            let mine = claims.inNamespace(namespace).filter { $0.spec.storageClassName == range.before }
            return range.after == "requests.storage" ? storage(mine) : Quantity(Int64(mine.count))
        }
    }

    private func storage(_ claims: [PersistentVolumeClaim]) -> Quantity {
        claims.reduce(.zero) { $0 + ($1.spec.resources?.requests["storage"] ?? .zero) }
    }

    private static func split(_ text: String, _ separator: String) -> (before: String, after: String)? {
        let (whole, mark) = (Array(text.utf8), Array(separator.utf8))
        guard whole.count >= mark.count else { return nil }
        for start in 0...(whole.count - mark.count) where Array(whole[start..<(start + mark.count)]) == mark {
            return (String(decoding: whole[..<start], as: UTF8.self), String(decoding: whole[(start + mark.count)...], as: UTF8.self))
        }
        return nil
    }

    /// Objects of a kind without an informer: `configmaps`, `count/deployments.apps`. Nil when there is no such kind.
    private func countedUsage(_ name: String, _ namespace: String) async throws -> Quantity? {
        let resource = name.hasPrefix("count/") ? String(name.dropFirst(6)) : name
        guard let kind = await context.resourceKinds().first(where: { $0.namespaced && $0.qualifiedName == resource }) else { return nil }
        let list = try await context.client.transport.send(KubeRequest(.list, kind, namespace: namespace))
        return Quantity(Int64(list["items"]?.array?.count ?? 0))
    }
}
