import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Empties a namespace that is being deleted - pods first, then all the rest - and then takes the finalizer `kubernetes` off it.
final class NamespaceController: Controller {
    static let name = "namespace-controller"
    static let inputs = [Namespace.resource, Pod.resource]
    static let outputs = [Namespace.resource] + BuiltInKinds.all.filter(\.namespaced)

    private static let finalizer = "kubernetes"
    /// How soon the contents are looked at again while something is left.
    private static let retrySeconds = 1.0

    private let context: ControllerContext
    private let namespaces: Informer<Namespace>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        namespaces = context.informer(Namespace.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        namespaces.addHandler { [queue] event in
            if event.object.metadata.isBeingDeleted { queue.enqueue(event.object.metadata.name) }
        }
        context.informer(Pod.self).addHandler { [namespaces, queue] event in
            // The last pod's end is what most deletions wait for.
            guard case .deleted(let pod) = event, namespaces.get(pod.metadata.namespace)?.metadata.isBeingDeleted == true else { return }
            queue.enqueue(pod.metadata.namespace)
        }
    }

    func run() async { await queue.run(workers: context.options.workers) { [self] key in try await sync(key) } }

    private func sync(_ name: String) async throws {
        guard namespaces.get(name) != nil, let namespace = try await context.client.find(Namespace.self, name: name),
            namespace.metadata.isBeingDeleted
        else { return }
        guard namespace.spec.finalizers.contains(Self.finalizer) else { return }

        let kinds = await context.resourceKinds().filter(\.namespaced)
        var contents = Contents()
        let pods = kinds.filter { $0.plural == "pods" && $0.group.isEmpty }
        for kind in pods { await empty(kind, name, &contents) }
        if contents.remaining.isEmpty && contents.errors.isEmpty {
            // In parallel, in a few lanes: most kinds are empty, and each costs a request.
            let rest = kinds.filter { !pods.contains($0) && $0.plural != "events" } + kinds.filter { $0.plural == "events" }
            for batch in stride(from: 0, to: rest.count, by: 8).map({ rest[$0..<min($0 + 8, rest.count)] }) {
                let parts = await withTaskGroup(of: Contents.self) { group in
                    for kind in batch {
                        group.addTask { [self] in
                            var part = Contents()
                            await empty(kind, name, &part)
                            return part
                        }
                    }
                    return await group.reduce(into: []) { $0.append($1) }
                }
                for part in parts { contents.merge(part) }
            }
        }
        try await writeConditions(name, contents)
        if contents.remaining.isEmpty && contents.errors.isEmpty {
            try await finalize(name)
        } else {
            await queue.add(name, afterSeconds: Self.retrySeconds)
        }
    }

    private struct Contents: Sendable {
        /// Qualified resource name -> objects left.
        var remaining: [String: Int] = [:]
        var finalizers: [String: Int] = [:]
        var errors: [String] = []

        mutating func merge(_ other: Contents) {
            remaining.merge(other.remaining, uniquingKeysWith: +)
            finalizers.merge(other.finalizers, uniquingKeysWith: +)
            errors += other.errors
        }
    }

    private func empty(_ kind: ResourceKind, _ namespace: String, _ contents: inout Contents) async {
        do {
            let transport = context.client.transport
            func items() async throws -> [JSON] {
                try await transport.send(KubeRequest(.list, kind, namespace: namespace))["items"]?.array ?? []
            }
            guard try await !items().isEmpty else { return }
            _ = try await transport.send(
                KubeRequest(
                    .deleteCollection, kind, namespace: namespace,
                    body: ["kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"]))
            let left = try await items()
            guard !left.isEmpty else { return }
            contents.remaining[kind.group.isEmpty ? "\(kind.plural)." : kind.qualifiedName, default: 0] += left.count
            for item in left {
                for finalizer in item["metadata"]?["finalizers"]?.array ?? [] {
                    if let finalizer = finalizer.string { contents.finalizers[finalizer, default: 0] += 1 }
                }
            }
        } catch let status as APIStatus where status.isNotFound || status.code == 405 {
            // The kind has gone, or has no collection.
        } catch {
            contents.errors.append("\(error)")
        }
    }

    private func writeConditions(_ name: String, _ contents: Contents) async throws {
        guard var namespace = try await context.client.find(Namespace.self, name: name) else { return }
        let before = namespace.status.json
        func list(_ counts: [String: Int], _ text: (String, Int) -> String) -> String {
            counts.sorted { $0.key < $1.key }.map(text).joined(separator: ", ")
        }
        let now = KubeTime.text(context.time.now())
        func set(_ type: String, _ failed: Bool, _ reason: (String, String), _ message: (String, String)) {
            var condition = NamespaceCondition()
            condition.type = type
            condition.status = failed ? "True" : "False"
            condition.reason = failed ? reason.0 : reason.1
            condition.message = failed ? message.0 : message.1
            let old = namespace.status.conditions.first { $0.type == type }
            condition.lastTransitionTime = old?.status == condition.status ? old?.lastTransitionTime : now
            if let index = namespace.status.conditions.firstIndex(where: { $0.type == type }) {
                namespace.status.conditions[index] = condition
            } else {
                namespace.status.conditions.append(condition)
            }
        }
        set(
            "NamespaceDeletionDiscoveryFailure", false, ("DiscoveryFailed", "ResourcesDiscovered"),
            ("", "All resources successfully discovered"))
        set(
            "NamespaceDeletionGroupVersionParsingFailure", false, ("GroupVersionParsingFailed", "ParsedGroupVersions"),
            ("", "All legacy kube types successfully parsed"))
        set(
            "NamespaceDeletionContentFailure", !contents.errors.isEmpty, ("ContentDeletionFailed", "ContentDeleted"),
            (
                "Failed to delete all resource types, \(contents.errors.count) remaining: \(contents.errors.sorted().joined(separator: ", "))",
                "All content successfully deleted, may be waiting on finalization"
            ))
        set(
            "NamespaceContentRemaining", !contents.remaining.isEmpty, ("SomeResourcesRemain", "ContentRemoved"),
            (
                "Some resources are remaining: \(list(contents.remaining) { "\($0) has \($1) resource instances" })",
                "All content successfully removed"
            ))
        set(
            "NamespaceFinalizersRemaining", !contents.finalizers.isEmpty, ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
            (
                "Some content in the namespace has finalizers remaining: \(list(contents.finalizers) { "\($0) in \($1) resource instances" })",
                "All content-preserving finalizers finished"
            ))
        guard namespace.status.json != before else { return }
        do { try await context.client.updateStatus(namespace) } catch let status as APIStatus where status.isNotFound {}
    }

    private func finalize(_ name: String) async throws {
        guard var namespace = try await context.client.find(Namespace.self, name: name) else { return }
        namespace.spec.finalizers.removeAll { $0 == Self.finalizer }
        do { try await context.client.update(namespace, subresource: "finalize") } catch let status as APIStatus where status.isNotFound {}
    }
}
