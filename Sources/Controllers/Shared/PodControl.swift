import KubeClient
import KubeMeta
import KubeTypes
import JSON

/// Makes, removes and adopts pods for a controller, and writes the events about it.
struct PodControl: Sendable {
    static let controllerIndex = "controller"

    let client: KubeClient
    let recorder: EventRecorder

    /// Objects by the UID of their controller, and those without one by `orphan/<namespace>`.
    static func index(_ objects: Informer<some KubeObject>) {
        objects.addIndex(controllerIndex) { [$0.metadata.controller?.uid ?? "orphan/\($0.metadata.namespace)"] }
    }

    /// A pod as the template says, owned by the controller.
    static func pod(from template: PodTemplateSpec, owner: some KubeObject) -> Pod {
        var pod = Pod()
        pod.metadata.namespace = owner.metadata.namespace
        pod.metadata.generateName = "\(owner.metadata.name)-"
        pod.metadata.labels = template.metadata.labels
        pod.metadata.annotations = template.metadata.annotations
        pod.metadata.finalizers = template.metadata.finalizers
        pod.metadata.ownerReferences = [owner.controllerReference]
        pod.spec = template.spec
        return pod
    }

    @discardableResult
    func create(_ pod: Pod, for owner: some KubeObject) async throws -> Pod {
        do {
            let made = try await client.create(pod)
            recorder.record(.normal, about: owner, reason: "SuccessfulCreate", message: "Created pod: \(made.metadata.name)")
            return made
        } catch {
            if !Self.isNamespaceTerminating(error) {
                recorder.record(.warning, about: owner, reason: "FailedCreate", message: "Error creating: \(error)")
            }
            throw error
        }
    }

    func delete(_ pod: Pod, for owner: some KubeObject) async throws {
        do {
            try await client.delete(Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, uid: pod.metadata.uid)
            recorder.record(.normal, about: owner, reason: "SuccessfulDelete", message: "Deleted pod: \(pod.metadata.name)")
        } catch let status as APIStatus where status.isNotFound {
            throw status
        } catch {
            recorder.record(.warning, about: owner, reason: "FailedDelete", message: "Error deleting: \(error)")
            throw error
        }
    }

    static func isNamespaceTerminating(_ error: any Error) -> Bool {
        guard let status = error as? APIStatus else { return false }
        return status.causes.contains { $0.reason == "NamespaceTerminating" }
    }

    /// Runs `count` calls in batches of 1, 2, 4, ...; stops at the first batch with a failure. (A bad template then costs one call, not all.)
    static func slowStart(_ count: Int, _ call: @escaping @Sendable (Int) async throws -> Void) async -> (
        succeeded: Int, error: (any Error)?
    ) {
        var done = 0
        var batch = 1
        while done < count {
            let size = min(batch, count - done)
            let first = done
            let results = await withTaskGroup(of: (any Error)?.self) { group in
                for index in 0..<size {
                    group.addTask { do { try await call(first + index); return nil } catch { return error } }
                }
                var errors: [any Error] = []
                for await error in group { if let error { errors.append(error) } }
                return errors
            }
            done += size - results.count
            if let error = results.first { return (done, error) }
            batch *= 2
        }
        return (done, nil)
    }
}

/// Which dependents belong to a controller: those it controls and selects; matching orphans are taken, others are let go.
struct Claimer<Owner: KubeObject, Dependent: KubeObject>: Sendable {
    let client: KubeClient
    let owner: Owner
    let selector: Selector

    /// - Parameter candidates: dependents with the owner as controller, and orphans of its namespace.
    func claim(_ candidates: [Dependent]) async throws -> [Dependent] {
        var claimed: [Dependent] = []
        var mayAdopt: Bool?
        for object in candidates {
            let matches = selector.matches(object.metadata.labels)
            if let controller = object.metadata.controller {
                guard controller.uid == owner.metadata.uid else { continue }
                if matches {
                    claimed.append(object)
                } else if !owner.metadata.isBeingDeleted {
                    try await release(object)
                }
                continue
            }
            guard matches, !owner.metadata.isBeingDeleted, !object.metadata.isBeingDeleted else { continue }
            if mayAdopt == nil {
                // A look at the live owner: a stale cache must not let a deleted owner adopt.
                let live = try await client.find(Owner.self, namespace: owner.metadata.namespace, name: owner.metadata.name)
                mayAdopt = live.map { $0.metadata.uid == owner.metadata.uid && !$0.metadata.isBeingDeleted } ?? false
            }
            if mayAdopt == true, let adopted = try await adopt(object) { claimed.append(adopted) }
        }
        return claimed
    }

    private func adopt(_ object: Dependent) async throws -> Dependent? {
        let patch: JSON = [
            "metadata": ["uid": .string(object.metadata.uid), "ownerReferences": [owner.controllerReference.json]]
        ]
        do {
            return try await client.patch(
                Dependent.self, namespace: object.metadata.namespace, name: object.metadata.name, .strategic, patch)
        } catch let status as APIStatus where status.isNotFound { return nil }
    }

    private func release(_ object: Dependent) async throws {
        let patch: JSON = [
            "metadata": [
                "uid": .string(object.metadata.uid),
                "ownerReferences": [["$patch": "delete", "uid": .string(owner.metadata.uid)]],
            ]
        ]
        do {
            try await client.patch(Dependent.self, namespace: object.metadata.namespace, name: object.metadata.name, .strategic, patch)
        } catch let status as APIStatus where status.isNotFound || status.reason == "Invalid" {
            // Gone, or another object of the same name by now: nothing to let go.
        }
    }
}
