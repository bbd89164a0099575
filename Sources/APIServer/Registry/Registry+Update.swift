package import JSON
package import KubeAPI
package import KubeMeta
import Store

/// Which part of an object a write may change.
package enum WriteScope: Sendable, Equatable {
    case main
    case status
    /// Another subresource that writes the object itself: ephemeralcontainers, resize, approval, finalize.
    case subresource(String)

    var name: String {
        switch self {
        case .main: ""
        case .status: "status"
        case .subresource(let name): name
        }
    }
}

extension Registry {
    /// Replaces an object (PUT).
    package func update(
        _ resource: ResourceSchema, namespace: String, name: String, _ raw: JSON, scope: WriteScope = .main, _ options: WriteOptions,
        duplicates: [String] = []
    ) async throws -> ObjectResult {
        let kind = resource.identity
        let decoded = try decode(raw, resource, validation: options.fieldValidation, duplicates: duplicates)
        let sentName = decoded.object["metadata"]?["name"]?.string ?? ""
        guard sentName.isEmpty || sentName == name else {
            throw APIStatus.badRequest("the name of the object (\(sentName)) does not match the name on the URL (\(name))")
        }
        let sentNamespace = decoded.object["metadata"]?["namespace"]?.string ?? ""
        guard sentNamespace.isEmpty || sentNamespace == namespace else {
            throw APIStatus.badRequest("the namespace of the provided object does not match the namespace sent on the request")
        }
        let strategy = strategy(resource)
        if strategy.allowsCreateOnUpdate, scope == .main, find(resource, namespace: namespace, name: name) == nil {
            return try await create(resource, namespace: namespace, raw, options)
        }
        var sent = Views.toStorage(decoded.object, kind)
        sent.set(.string(name), at: "metadata", "name")
        let version = sent["metadata"]?["resourceVersion"]?.string ?? ""
        let object = sent
        var result = try await modify(resource, namespace: namespace, name: name, scope: scope, options, expected: version) { current in
            if let uid = object["metadata"]?["uid"]?.string, !uid.isEmpty, let found = current["metadata"]?["uid"]?.string, uid != found {
                throw APIStatus.conflict(
                    kind, name: name,
                    "StorageError: invalid object, Code: 4, Key: /registry/\(kind.plural)/\(namespace.isEmpty ? "" : namespace + "/")\(name), ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: \(uid), UID in object meta: \(found)")
            }
            return object
        }
        result.warnings = decoded.warnings + result.warnings
        return result
    }

    /// Applies a patch of any form.
    package func patch(
        _ resource: ResourceSchema, namespace: String, name: String, _ form: PatchForm, _ patch: JSON, scope: WriteScope = .main,
        _ options: WriteOptions
    ) async throws -> ObjectResult {
        let kind = resource.identity
        if case .apply(let force) = form {
            return try await apply(resource, namespace: namespace, name: name, patch, force: force, scope: scope, options)
        }
        var findings: [String] = []
        var result = try await modify(resource, namespace: namespace, name: name, scope: scope, options, expected: "") { current in
            var object = Views.fromStorage(current, kind)
            object = Self.withKind(object, kind)
            switch form {
            case .json:
                do throws(JSONPatchError) { try object.applyJSONPatch(patch) } catch {
                    if error.kind == .malformed { throw APIStatus.badRequest(error.message) }
                    throw APIStatus(
                        code: 422, reason: "Invalid", message: "the server rejected our request due to an error in our request", name: "")
                }
            case .merge: object.applyMergePatch(patch)
            case .strategic:
                do throws(StrategicMerge.PatchError) { try StrategicMerge.apply(patch, to: &object, type: resource.type) } catch {
                    throw APIStatus.badRequest(error.message)
                }
            case .apply: break
            }
            if let sent = object["metadata"]?["name"]?.string, sent != name {
                throw APIStatus.invalid(
                    group: kind.group, kind: kind.kind, name: name,
                    [.invalid("metadata.name", .string(sent), "field is immutable")])
            }
            // A resource version in the patch is a precondition.
            if let wanted = object["metadata"]?["resourceVersion"]?.string, let found = current["metadata"]?["resourceVersion"]?.string,
                !wanted.isEmpty, wanted != found
            {
                throw APIStatus.staleWrite(kind, name: name)
            }
            let decoded = try self.decode(object, resource, validation: options.fieldValidation)
            findings = decoded.warnings
            return Views.toStorage(decoded.object, kind)
        }
        result.warnings = findings + result.warnings
        return result
    }

    private func apply(
        _ resource: ResourceSchema, namespace: String, name: String, _ raw: JSON, force: Bool, scope: WriteScope, _ options: WriteOptions
    ) async throws -> ObjectResult {
        let kind = resource.identity
        var raw = raw
        if raw["metadata"]?["managedFields"]?.array?.isEmpty == false {
            throw APIStatus.badRequest("metadata.managedFields must be nil")
        }
        if let sent = raw["metadata"]?["name"]?.string, !sent.isEmpty, sent != name {
            throw APIStatus.badRequest("the name of the object (\(sent)) does not match the name on the URL (\(name))")
        }
        raw.set(.string(name), at: "metadata", "name")
        let decoded = try decode(raw, resource, validation: options.fieldValidation, keepsEmpty: true)
        let strategy = strategy(resource)
        let type = storageType(resource)
        let configuration = Views.toStorage(decoded.object, kind)
        let time = KubeTime.text(time.now())

        func merged(_ live: JSON) throws -> JSON {
            do throws(ManagedFields.Conflicts) {
                return try ManagedFields.apply(
                    live: live, applied: configuration, type: type, manager: options.fieldManager, apiVersion: kind.apiVersion,
                    subresource: scope.name, time: time, force: force, resetting: scope == .main ? strategy.resetPaths : [["f:spec"]])
            } catch {
                throw ManagedFields.status(error.conflicts)
            }
        }

        if find(resource, namespace: namespace, name: name) == nil {
            guard scope == .main else { throw APIStatus.notFound(kind, name: name) }
            if let uid = raw["metadata"]?["uid"]?.string, !uid.isEmpty { throw APIStatus.conflict(kind, name: name, "uid mismatch: the provided object specified uid \(uid), and no existing object was found") }
            var empty: JSON = [:]
            empty["metadata"] = [:]
            var fresh = try merged(empty)
            fresh = Self.withKind(fresh, Views.storageKind(kind))
            do {
                var result = try await createDecoded(resource, namespace: namespace, fresh, options, applied: true)
                result.warnings = decoded.warnings + result.warnings
                return result
            } catch let status as APIStatus where status.isAlreadyExists {
                // Somebody was faster: it is an update now.
            }
        }
        var result = try await modify(
            resource, namespace: namespace, name: name, scope: scope, options, expected: "", applied: true
        ) { current in
            if let wanted = configuration["metadata"]?["resourceVersion"]?.string, !wanted.isEmpty,
                wanted != current["metadata"]?["resourceVersion"]?.string
            {
                throw APIStatus.staleWrite(kind, name: name)
            }
            return try merged(current)
        }
        result.warnings = decoded.warnings + result.warnings
        return result
    }

    /// Reads, changes and writes an object, again when somebody else was faster.
    ///
    /// - Parameters:
    ///   - expected: the resource version that must be current; empty for any.
    ///   - applied: managed fields are already right.
    ///   - change: the new object in storage form, from the current one (with its resource version).
    package func modify(
        _ resource: ResourceSchema, namespace: String, name: String, scope: WriteScope, _ options: WriteOptions, expected: String,
        applied: Bool = false, change: (JSON) throws -> JSON
    ) async throws -> ObjectResult {
        let kind = resource.identity
        let cache = try cache(resource)
        let strategy = strategy(resource)
        let type = storageType(resource)
        let storageKind = Views.storageKind(kind)
        for attempt in 1... {
            guard let current = cache.get(namespace: namespace, name: name) else { throw APIStatus.notFound(kind, name: name) }
            if !expected.isEmpty, expected != "0", expected != String(current.revision) { throw APIStatus.staleWrite(kind, name: name) }
            let old = Self.withKind(current.recentJSON, storageKind)
            var new = Self.withKind(try change(old), storageKind)
            keepMetadata(&new, old)
            if applied { try dropEmpty(&new, type) }
            Defaults.apply(to: &new, type: type)
            keepOtherScope(&new, old, scope, strategy, kind)
            try KindRules.prepareForUpdate(&new, old, kind, scope, registry: self)
            if strategy.hasGeneration {
                let before = old["metadata"]?["generation"]?.int ?? 1
                let changed = scope != .status && scope != .subresource("binding") && Self.specDiffers(old, new)
                new.set(.int(changed ? before + 1 : before), at: "metadata", "generation")
            } else {
                new.set(old["metadata"]?["generation"], at: "metadata", "generation")
            }
            if !applied {
                ManagedFields.update(
                    old: old, new: &new, type: type, manager: options.fieldManager, apiVersion: kind.apiVersion, subresource: scope.name,
                    // Upstream's entries of the scale subresource carry no time.
                    time: scope == .subresource("scale") ? "" : KubeTime.text(time.now()),
                    resetting: scope == .main ? strategy.resetPaths : scope == .status ? [["f:spec"], ["f:data"]] : [])
            }
            let warnings = try await admission.admitUpdate(&new, old, resource, namespace: namespace, scope, options)
            let errors = Validation.update(new, old, kind, scope, strategy)
            if !errors.isEmpty { throw APIStatus.invalid(group: kind.group, kind: kind.kind, name: name, errors) }

            if Self.sameContent(old, new) { return ObjectResult(stored: current, warnings: warnings) }
            let allocation = try await allocators.reallocate(&new, old, kind)
            if options.dryRun {
                allocation.undo()
                return ObjectResult(json: Views.fromStorage(new, kind), warnings: warnings)
            }
            do {
                let key = cache.key(namespace: namespace, name: name)
                if Self.isFinished(new) {
                    // The last finalizer is gone from an object that waits for its deletion.
                    _ = try await hub.store.write(.delete(key, ifModRevision: current.revision))
                    allocation.commit()
                    await allocators.release(new, kind)
                    return ObjectResult(json: Views.fromStorage(new, kind), warnings: warnings)
                }
                let record = try await hub.store.write(
                    .update(
                        key, StoredCodec.encode(new), ifModRevision: current.revision, timeToLiveSeconds: KindRules.timeToLiveSeconds(kind)))
                allocation.commit()
                let stored = cache.get(namespace: namespace, name: name)
                let mine = stored?.revision == record.modRevision ? stored : StoredObject(record: record, namespace: namespace, name: name)
                return ObjectResult(stored: mine, warnings: warnings)
            } catch {
                allocation.undo()
                guard case .conflict(let found) = error else { throw Self.status(error, kind, name: name) }
                if found == nil { throw APIStatus.notFound(kind, name: name) }
                if !expected.isEmpty || attempt >= Self.conflictRetriesMax { throw APIStatus.staleWrite(kind, name: name) }
            }
        }
        throw APIStatus.staleWrite(kind, name: name)
    }

    /// An applied configuration may leave empty lists and maps, which are not stored.
    func dropEmpty(_ object: inout JSON, _ type: TypeSchema) throws {
        var findings = DecodeFindings()
        do throws(DecodeError) { try ObjectDecoder.decode(&object, as: type, findings: &findings) } catch {
            throw APIStatus.badRequest(error.message)
        }
    }

    /// Deletion can be completed: no finalizer holds the object, and no grace period runs.
    static func isFinished(_ object: JSON) -> Bool {
        guard let metadata = object["metadata"], metadata["deletionTimestamp"] != nil else { return false }
        return (metadata["finalizers"]?.array?.isEmpty ?? true) && (metadata["deletionGracePeriodSeconds"]?.int ?? 0) == 0
            && !(object["kind"]?.string == "Namespace" && object["spec"]?["finalizers"]?.array?.isEmpty == false)
    }

    /// What a client cannot change in an object's metadata.
    private func keepMetadata(_ new: inout JSON, _ old: JSON) {
        for field in ["namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            new.set(old["metadata"]?[field], at: "metadata", field)
        }
        new.set(old["metadata"]?["resourceVersion"], at: "metadata", "resourceVersion")
    }

    private func keepOtherScope(_ new: inout JSON, _ old: JSON, _ scope: WriteScope, _ strategy: Strategy, _ kind: ResourceKind) {
        switch scope {
        case .main:
            if !strategy.resetPaths.isEmpty { new["status"] = old["status"] }
        case .status:
            // Everything but the status stays; of the metadata, labels and annotations and finalizers too, as upstream's strategies do.
            let status = new["status"]
            let managed = new["metadata"]?["managedFields"]
            let annotations = new["metadata"]?["annotations"]
            let labels = new["metadata"]?["labels"]
            var kept = old
            kept["status"] = status
            kept.set(managed, at: "metadata", "managedFields")
            if kind.kind == "Pod" || kind.kind == "Node" {
                kept.set(annotations, at: "metadata", "annotations")
                kept.set(labels, at: "metadata", "labels")
            }
            new = kept
        case .subresource: break
        }
    }

    private static func specDiffers(_ old: JSON, _ new: JSON) -> Bool {
        if old["metadata"]?["deletionTimestamp"] == nil, new["metadata"]?["deletionTimestamp"] != nil { return true }
        for (key, value) in new.object ?? [:] where !["metadata", "status", "kind", "apiVersion"].contains(key) {
            if old[key] != value { return true }
        }
        for (key, _) in old.object ?? [:] where !["metadata", "status"].contains(key) && new[key] == nil { return true }
        return false
    }

    /// Equal but for the times of managed fields: such a write changes nothing.
    private static func sameContent(_ old: JSON, _ new: JSON) -> Bool {
        if old == new { return true }
        func plain(_ object: JSON) -> JSON {
            var copy = object
            copy.change("metadata") { metadata in
                metadata["resourceVersion"] = nil
                metadata.changeEach("managedFields") { $0["time"] = nil }
            }
            return copy
        }
        return plain(old) == plain(new)
    }
}

/// The forms of a patch, without what belongs to a client.
package enum PatchForm: Sendable, Equatable {
    case json, merge, strategic
    case apply(force: Bool)
}
