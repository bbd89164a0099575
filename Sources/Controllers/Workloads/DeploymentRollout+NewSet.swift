import JSON
import KubeClient
import KubeMeta
import KubeTypes

extension DeploymentRollout {
    /// Brings the replica set of the current template up to date, or makes it.
    mutating func ensureNewSet(create: Bool) async throws {
        let revision = String((oldSets.map(\.revision).max() ?? 0) + 1)
        if let set = newSet { return try await refresh(set, revision) }
        guard create else { return }
        try await makeNewSet(revision)
    }

    private func inherited(_ set: ReplicaSet, _ revision: String) -> ReplicaSet {
        var set = set
        for (key, value) in deployment.metadata.annotations where !DeploymentAnnotation.notInherited.contains(key) {
            set.metadata.annotations[key] = value
        }
        let old = set.metadata.annotations[DeploymentAnnotation.revision]
        if (old.flatMap { Int($0) } ?? 0) < (Int(revision) ?? 0) {
            set.metadata.annotations[DeploymentAnnotation.revision] = revision
            if let old {
                let history = set.metadata.annotations[DeploymentAnnotation.revisionHistory].map { "\($0),\(old)" } ?? old
                set.metadata.annotations[DeploymentAnnotation.revisionHistory] = history
            }
        }
        return set
    }

    private mutating func refresh(_ set: ReplicaSet, _ revision: String) async throws {
        var changed = inherited(set, revision)
        changed.spec.minReadySeconds = deployment.spec.minReadySeconds
        if changed.metadata.annotations != set.metadata.annotations || set.minReadySeconds != changed.minReadySeconds {
            changed = try await client.update(changed)
            replace(changed)
        }
        try await noteRevision(changed.metadata.annotations[DeploymentAnnotation.revision] ?? revision)
        if deployment.progressDeadline != nil, deployment.condition("Progressing") == nil {
            deployment.status.set("Progressing", "True", "FoundNewReplicaSet", "Found new replica set \"\(set.metadata.name)\"", now: now)
            deployment = try await client.updateStatus(deployment)
        }
    }

    private mutating func noteRevision(_ revision: String) async throws {
        guard deployment.metadata.annotations[DeploymentAnnotation.revision] != revision else { return }
        deployment = try await client.patch(
            Deployment.self, namespace: deployment.metadata.namespace, name: deployment.metadata.name, .merge,
            ["metadata": ["uid": .string(deployment.metadata.uid), "annotations": [DeploymentAnnotation.revision: .string(revision)]]])
    }

    private mutating func makeNewSet(_ revision: String) async throws {
        let hash = TemplateHash.text(deployment.spec.template.json, collisionCount: deployment.status.collisionCount)
        var set = ReplicaSet()
        set.metadata.name = "\(deployment.metadata.name)-\(hash)"
        set.metadata.namespace = deployment.metadata.namespace
        set.metadata.ownerReferences = [deployment.controllerReference]
        set.metadata.labels = deployment.spec.template.metadata.labels
        set.metadata.labels[TemplateHash.deploymentLabel] = hash
        set.spec.minReadySeconds = deployment.spec.minReadySeconds
        set.spec.selector = deployment.spec.selector
        set.spec.selector.matchLabels[TemplateHash.deploymentLabel] = hash
        set.spec.template = deployment.spec.template
        set.spec.template.metadata.labels[TemplateHash.deploymentLabel] = hash
        let size = replicasForNewSet(nil)
        set.spec.replicas = size
        set = inherited(set, revision)
        set.metadata.annotations[DeploymentAnnotation.desiredReplicas] = String(deployment.wantedReplicas)
        set.metadata.annotations[DeploymentAnnotation.maxReplicas] = String(deployment.wantedReplicas + deployment.maxSurge)

        var existed = false
        let made: ReplicaSet
        do {
            made = try await client.create(set)
        } catch let status as APIStatus where status.isAlreadyExists {
            let live = try await client.get(ReplicaSet.self, namespace: set.metadata.namespace, name: set.metadata.name)
            guard live.metadata.controller?.uid == deployment.metadata.uid,
                TemplateHash.comparable(live.spec.template) == TemplateHash.comparable(deployment.spec.template)
            else {
                // The name is taken by other content: the next try uses another hash.
                deployment.status.collisionCount = (deployment.status.collisionCount ?? 0) + 1
                deployment = try await client.updateStatus(deployment)
                throw status
            }
            made = live
            existed = true
        } catch {
            if deployment.progressDeadline != nil, !PodControl.isNamespaceTerminating(error) {
                let message = "Failed to create new replica set \"\(set.metadata.name)\": \(error)"
                deployment.status.set("Progressing", "False", "ReplicaSetCreateError", message, now: now)
                deployment = try await client.updateStatus(deployment)
            }
            throw error
        }
        replace(made)
        newUID = made.metadata.uid
        if !existed, size > 0 {
            recorder.record(
                .normal, about: deployment, reason: "ScalingReplicaSet",
                message: "Scaled up replica set \(made.metadata.name) from 0 to \(size)")
        }
        try await noteRevision(revision)
        if !existed, deployment.progressDeadline != nil {
            deployment.status.set(
                "Progressing", "True", "NewReplicaSetCreated", "Created new replica set \"\(made.metadata.name)\"", now: now)
            deployment = try await client.updateStatus(deployment)
        }
    }
}
