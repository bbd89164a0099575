import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// The ControllerRevisions of a StatefulSet or a DaemonSet: each holds one version of its pod template.
struct RevisionHistory<Owner: KubeObject>: Sendable {
    let client: KubeClient
    let owner: Owner

    /// What a revision stores: a patch that puts the template back.
    static func data(_ template: PodTemplateSpec) -> JSON {
        var json = template.json
        json["$patch"] = "replace"
        return ["spec": ["template": json]]
    }

    static func template(_ revision: ControllerRevision) -> PodTemplateSpec? {
        guard var json = revision.data?[path: "spec", "template"] else { return nil }
        json["$patch"] = nil
        return PodTemplateSpec(json: json)
    }

    static func hash(_ revision: ControllerRevision) -> String {
        revision.metadata.labels["controller.kubernetes.io/hash"] ?? revision.metadata.labels[TemplateHash.revisionLabel] ?? ""
    }

    /// The revision of the present template, made or moved to the end as needed; and all revisions, oldest first.
    func current(
        _ known: [ControllerRevision], _ template: PodTemplateSpec, hashLabel: String, collisionCount: inout Int?
    ) async throws -> (update: ControllerRevision, all: [ControllerRevision]) {
        var all = known.sorted { ($0.revision, $0.metadata.name) < ($1.revision, $1.metadata.name) }
        let data = Self.data(template)
        let next = (all.last?.revision ?? 0) + 1
        if let index = all.lastIndex(where: { $0.data == data }) {
            var found = all[index]
            if index != all.count - 1 {
                // Rolled back: the old revision becomes the newest.
                found.revision = next
                found = try await client.update(found)
                all.remove(at: index)
                all.append(found)
            }
            return (found, all)
        }
        while true {
            let hash = TemplateHash.text(data, collisionCount: collisionCount)
            var revision = ControllerRevision()
            revision.metadata.name = "\(owner.metadata.name)-\(hash)"
            revision.metadata.namespace = owner.metadata.namespace
            revision.metadata.labels = template.metadata.labels
            revision.metadata.labels[hashLabel] = hash
            revision.metadata.annotations = owner.metadata.annotations
            revision.metadata.ownerReferences = [owner.controllerReference]
            revision.data = data
            revision.revision = next
            do {
                let made = try await client.create(revision)
                return (made, all + [made])
            } catch let status as APIStatus where status.isAlreadyExists {
                let live = try await client.get(ControllerRevision.self, namespace: owner.metadata.namespace, name: revision.metadata.name)
                if live.data == data, live.metadata.controller?.uid == owner.metadata.uid {
                    return (live, all.filter { $0.metadata.uid != live.metadata.uid } + [live])
                }
                collisionCount = (collisionCount ?? 0) + 1
            }
        }
    }

    /// Removes the oldest revisions beyond the limit that nothing uses.
    func truncate(_ all: [ControllerRevision], limit: Int, inUse: Set<String>) async throws {
        let unused = all.filter { !inUse.contains($0.metadata.name) }
        guard unused.count > limit else { return }
        for revision in unused.prefix(unused.count - limit) {
            do {
                try await client.delete(
                    ControllerRevision.self, namespace: revision.metadata.namespace, name: revision.metadata.name,
                    uid: revision.metadata.uid)
            } catch let status as APIStatus where status.isNotFound {}
        }
    }
}
