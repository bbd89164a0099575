package import JSON
package import KubeAPI
package import KubeMeta
import Store

extension Registry {
    /// The result of a deletion: the object that still waits for its end, or the one that is gone.
    package struct Deletion: Sendable {
        package var object: JSON
        package var isGone: Bool
    }

    private static let foregroundFinalizer = "foregroundDeletion"
    private static let orphanFinalizer = "orphan"

    /// Deletes an object: at once, after its grace period (pods), or when its finalizers are gone.
    package func delete(
        _ resource: ResourceSchema, namespace: String, name: String, _ options: DeletionOptions, user: UserInfo
    ) async throws -> Deletion {
        let kind = resource.identity
        let cache = try cache(resource)
        for attempt in 1... {
            guard let current = cache.get(namespace: namespace, name: name) else { throw APIStatus.notFound(kind, name: name) }
            let old = Self.withKind(current.json, Views.storageKind(kind))
            try checkPreconditions(options, old, current, kind, name: name)
            try admission.admitDelete(old, resource, namespace: namespace, name: name, user)
            var object = old
            let finalizers = self.finalizers(object, kind, options.propagation)
            object.set(finalizers.isEmpty ? nil : JSON(finalizers), at: "metadata", "finalizers")

            var grace = KindRules.gracePeriodSeconds(object, kind, options.gracePeriodSeconds)
            let alreadyDeleting = object["metadata"]?["deletionTimestamp"] != nil
            if alreadyDeleting, let running = object["metadata"]?["deletionGracePeriodSeconds"]?.int {
                // A running grace period can only be shortened.
                grace = options.gracePeriodSeconds == nil ? running : min(grace, running)
            }
            let waits = !finalizers.isEmpty || grace > 0
                || (kind.kind == "Namespace" && kind.group.isEmpty && object["spec"]?["finalizers"]?.array?.isEmpty == false)
            let unchanged = alreadyDeleting && grace == old["metadata"]?["deletionGracePeriodSeconds"]?.int
                && old["metadata"]?["finalizers"] == object["metadata"]?["finalizers"]
            if waits, unchanged { return Deletion(object: Views.fromStorage(old, kind), isGone: false) }

            if !alreadyDeleting || grace < old["metadata"]?["deletionGracePeriodSeconds"]?.int ?? 0 {
                object.set(.string(KubeTime.text(time.now() + Double(grace))), at: "metadata", "deletionTimestamp")
            }
            object.set(.int(grace), at: "metadata", "deletionGracePeriodSeconds")
            if !alreadyDeleting, strategy(resource).hasGeneration, let generation = object["metadata"]?["generation"]?.int {
                object.set(.int(generation + 1), at: "metadata", "generation")
            }
            if kind.kind == "Namespace", kind.group.isEmpty { object.set("Terminating", at: "status", "phase") }
            if options.dryRun { return Deletion(object: Views.fromStorage(object, kind), isGone: !waits) }

            let key = cache.key(namespace: namespace, name: name)
            do {
                if waits {
                    let record = try await hub.store.write(.update(key, StoredCodec.encode(object), ifModRevision: current.revision))
                    object.set(.string(String(record.modRevision)), at: "metadata", "resourceVersion")
                    return Deletion(object: Views.fromStorage(object, kind), isGone: false)
                }
                _ = try await hub.store.write(.delete(key, ifModRevision: current.revision))
                await allocators.release(object, kind)
                return Deletion(object: Views.fromStorage(object, kind), isGone: true)
            } catch {
                guard case .conflict(let found) = error else { throw Self.status(error, kind, name: name) }
                if found == nil { throw APIStatus.notFound(kind, name: name) }
                if attempt >= Self.conflictRetriesMax { throw APIStatus.staleWrite(kind, name: name) }
            }
        }
        throw APIStatus.staleWrite(kind, name: name)
    }

    /// Deletes every object that a list would give, and returns them.
    package func deleteCollection(
        _ resource: ResourceSchema, list: ListOptions, _ options: DeletionOptions, user: UserInfo
    ) async throws -> [StoredObject] {
        let filter = WatchFilter(
            namespace: list.namespace, labels: list.labels, fieldSelector: list.fields, fields: SelectableFields.of(resource.identity))
        let objects = try cache(resource).all(namespace: list.namespace).filter(filter.matches)
        for object in objects {
            do {
                _ = try await delete(resource, namespace: object.namespace, name: object.name, options, user: user)
            } catch let status as APIStatus where status.isNotFound {
                continue
            }
        }
        return objects
    }

    private func checkPreconditions(
        _ options: DeletionOptions, _ old: JSON, _ current: StoredObject, _ kind: ResourceKind, name: String
    ) throws {
        let found = old["metadata"]?["uid"]?.string ?? ""
        if let wanted = options.uid, wanted != found {
            var status = APIStatus.conflict(kind, name: name, "")
            status.message =
                "Operation cannot be fulfilled on \(kind.kind) \"\(name)\": the UID in the precondition (\(wanted)) does not match the UID in record (\(found)). The object might have been deleted and then recreated"
            status.detailsKind = kind.kind
            throw status
        }
        if let wanted = options.resourceVersion, wanted != String(current.revision) {
            var status = APIStatus.conflict(kind, name: name, "")
            status.message =
                "Operation cannot be fulfilled on \(kind.kind) \"\(name)\": the ResourceVersion in the precondition (\(wanted)) does not match the ResourceVersion in record (\(current.revision)). The object might have been modified"
            status.detailsKind = kind.kind
            throw status
        }
    }

    private func finalizers(_ object: JSON, _ kind: ResourceKind, _ propagation: String?) -> [String] {
        var names = (object["metadata"]?["finalizers"]?.array ?? []).compactMap(\.string)
        switch propagation {
        case "Orphan":
            names.removeAll { $0 == Self.foregroundFinalizer }
            if !names.contains(Self.orphanFinalizer) { names.append(Self.orphanFinalizer) }
        case "Foreground":
            names.removeAll { $0 == Self.orphanFinalizer }
            if !names.contains(Self.foregroundFinalizer) { names.append(Self.foregroundFinalizer) }
        case "Background": names.removeAll { $0 == Self.foregroundFinalizer || $0 == Self.orphanFinalizer }
        default: break
        }
        return names
    }
}
