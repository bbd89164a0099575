package import JSON
package import KubeAPI
package import KubeMeta
import Store

extension Registry {
    /// Names longer than this are cut before the generated suffix.
    private static let generateNamePrefixMax = 58
    /// Tries at a generated name that is taken.
    private static let generateNameTriesMax = 8

    /// Creates an object.
    ///
    /// - Parameter raw: as the client sent it.
    package func create(
        _ resource: ResourceSchema, namespace: String, _ raw: JSON, _ options: WriteOptions, duplicates: [String] = []
    ) async throws -> ObjectResult {
        let decoded = try decode(raw, resource, validation: options.fieldValidation, duplicates: duplicates)
        let generated = decoded.object["metadata"]?["name"]?.string?.isEmpty ?? true
        for attempt in 1...Self.generateNameTriesMax {
            do {
                var result = try await createDecoded(resource, namespace: namespace, decoded.object, options)
                result.warnings = decoded.warnings + result.warnings
                return result
            } catch let status as APIStatus where status.isAlreadyExists && generated && attempt < Self.generateNameTriesMax {
                continue
            }
        }
        throw APIStatus.internalError("no free name was found")
    }

    /// Creates an object that is already decoded: also what apply and upsert come to.
    func createDecoded(
        _ resource: ResourceSchema, namespace: String, _ decoded: JSON, _ options: WriteOptions, applied: Bool = false
    ) async throws -> ObjectResult {
        let kind = resource.identity
        let cache = try cache(resource)
        let strategy = strategy(resource)
        var object = Views.toStorage(decoded, kind)
        try placeInNamespace(&object, namespace, kind)
        prepareMetadata(&object)
        if let status = strategy.initialStatus { object["status"] = status }
        if applied { try dropEmpty(&object, storageType(resource)) }
        Defaults.apply(to: &object, type: storageType(resource))
        if strategy.hasGeneration { object.set(1, at: "metadata", "generation") } else { object.set(nil, at: "metadata", "generation") }
        try KindRules.prepareForCreate(&object, kind, registry: self)

        if !applied {
            ManagedFields.update(
                old: [:], new: &object, type: storageType(resource), manager: options.fieldManager, apiVersion: kind.apiVersion, subresource: "",
                time: KubeTime.text(time.now()), resetting: strategy.resetPaths)
        }
        let warnings = try await admission.admitCreate(&object, resource, namespace: namespace, options)
        try KindRules.afterAdmission(&object, kind)

        let errors = Validation.create(object, kind, strategy)
        let name = object["metadata"]?["name"]?.string ?? ""
        if !errors.isEmpty {
            throw APIStatus.invalid(group: kind.group, kind: kind.kind, name: decoded["metadata"]?["name"]?.string ?? "", errors)
        }
        let release = try await allocators.allocate(&object, kind, dryRun: options.dryRun)
        object = Self.withKind(object, Self.storageKind(kind))

        if options.dryRun {
            release()
            if cache.get(namespace: namespace, name: name) != nil { throw APIStatus.alreadyExists(kind, name: name) }
            return ObjectResult(json: Views.fromStorage(object, kind), created: true, warnings: warnings)
        }
        do {
            let record = try await hub.store.write(
                .create(
                    cache.key(namespace: namespace, name: name), StoredCodec.encode(object), timeToLiveSeconds: KindRules.timeToLiveSeconds(kind)))
            let stored = cache.get(namespace: namespace, name: name)
            let mine = stored?.revision == record.modRevision ? stored : StoredObject(record: record, namespace: namespace, name: name)
            return ObjectResult(stored: mine, created: true, warnings: warnings)
        } catch {
            release()
            if case .conflict = error { throw APIStatus.alreadyExists(kind, name: name) }
            throw Self.status(error, kind, name: name)
        }
    }

    static func storageKind(_ kind: ResourceKind) -> ResourceKind { Views.storageKind(kind) }

    func storageType(_ resource: ResourceSchema) -> TypeSchema {
        let kind = Views.storageKind(resource.identity)
        if kind == resource.identity { return resource.type }
        return schema.type(apiVersion: kind.apiVersion, kind: kind.kind) ?? resource.type
    }

    private func placeInNamespace(_ object: inout JSON, _ namespace: String, _ kind: ResourceKind) throws {
        let sent = object["metadata"]?["namespace"]?.string ?? ""
        if kind.namespaced {
            if !sent.isEmpty, sent != namespace {
                throw APIStatus.badRequest("the namespace of the provided object does not match the namespace sent on the request")
            }
            object.set(.string(namespace), at: "metadata", "namespace")
        } else if !sent.isEmpty {
            object.set(nil, at: "metadata", "namespace")
        }
        if object["metadata"] == nil { object["metadata"] = [:] }
    }

    private func prepareMetadata(_ object: inout JSON) {
        object.change("metadata") { metadata in
            let name = metadata["name"]?.string ?? ""
            if name.isEmpty, let prefix = metadata["generateName"]?.string, !prefix.isEmpty {
                metadata["name"] = .string(prefix.prefix(Self.generateNamePrefixMax) + RandomNames.suffix())
            }
            metadata["uid"] = .string(RandomNames.uuid())
            metadata["creationTimestamp"] = now()
            metadata["resourceVersion"] = nil
            metadata["selfLink"] = nil
            metadata["deletionTimestamp"] = nil
            metadata["deletionGracePeriodSeconds"] = nil
        }
    }
}
