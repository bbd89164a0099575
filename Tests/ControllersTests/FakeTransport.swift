import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// An API server in memory, true in what controllers rely on: versions and conflicts, generation, status as a subresource, graceful
/// deletion of pods, finalizers, `foreground` and `orphan`, selectors, watches, bindings.
final class FakeTransport: KubeTransport {
    private struct Key: Hashable {
        var kind: ResourceKind
        var namespace: String
        var name: String
    }

    private struct Watcher {
        var request: KubeWatchRequest
        var continuation: AsyncThrowingStream<[KubeWatchEvent], any Error>.Continuation
    }

    private struct State {
        var objects: [Key: JSON] = [:]
        var version: Int64 = 0
        var watchers: [Int: Watcher] = [:]
        var nextWatcher = 0
        var history: [(version: Int64, kind: ResourceKind, old: JSON?, event: KubeWatchEvent)] = []
        var names = 0
    }

    private let state = Mutex(State())
    private let time: any TimeSource
    /// Pods without a node go at once; others wait for the kubelet (a delete with grace 0), as on the real server.
    init(time: any TimeSource) { self.time = time }

    func send(_ request: KubeRequest) async throws -> JSON {
        await Task.yield()
        return try state.withLock { try handle(request, &$0) }
    }

    func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error> {
        AsyncThrowingStream { continuation in
            state.withLock { state in
                let since = Int64(request.resourceVersion) ?? 0
                let missed = state.history.filter { $0.version > since && $0.kind == request.kind }
                    .compactMap { Self.visible($0.event, old: $0.old, request) }
                if !missed.isEmpty { continuation.yield(missed) }
                let id = state.nextWatcher
                state.nextWatcher += 1
                state.watchers[id] = Watcher(request: request, continuation: continuation)
                continuation.onTermination = { [weak self] _ in self?.state.withLock { _ = $0.watchers.removeValue(forKey: id) } }
            }
        }
    }

    private static func selected(_ object: JSON, _ namespace: String, _ labels: String?, _ fields: String?) -> Bool {
        if !namespace.isEmpty, object["metadata"]?["namespace"]?.string != namespace { return false }
        for (text, value) in [(labels, { (key: String) in object["metadata"]?["labels"]?[key]?.string })] {
            for part in (text ?? "").split(separator: ",") {
                let pair = part.split(separator: "=", omittingEmptySubsequences: false)
                if pair.count == 2, value(String(pair[0])) != String(pair[1]) { return false }
            }
        }
        for part in (fields ?? "").split(separator: ",") {
            let pair = part.split(separator: "=", omittingEmptySubsequences: false)
            guard pair.count == 2 else { continue }
            var value: JSON? = object
            for step in pair[0].split(separator: ".") { value = value?[String(step)] }
            if (value?.string ?? "") != String(pair[1]) { return false }
        }
        return true
    }

    private static func visible(_ event: KubeWatchEvent, old: JSON?, _ request: KubeWatchRequest) -> KubeWatchEvent? {
        let now = selected(event.object, request.namespace, request.labelSelector, request.fieldSelector)
        let before = old.map { selected($0, request.namespace, request.labelSelector, request.fieldSelector) } ?? false
        if event.type == .deleted { return before || now ? event : nil }
        if now { return KubeWatchEvent(type: before ? .modified : .added, object: event.object) }
        return before ? KubeWatchEvent(type: .deleted, object: event.object) : nil
    }

    private func publish(_ type: KubeWatchEvent.EventType, _ key: Key, old: JSON?, _ object: JSON, _ state: inout State) -> JSON {
        state.version += 1
        var object = object
        object.set(.string(String(state.version)), at: "metadata", "resourceVersion")
        if type == .deleted { state.objects.removeValue(forKey: key) } else { state.objects[key] = object }
        let event = KubeWatchEvent(type: type, object: object)
        state.history.append((state.version, key.kind, old, event))
        for watcher in state.watchers.values where watcher.request.kind == key.kind {
            if let event = Self.visible(event, old: old, watcher.request) { watcher.continuation.yield([event]) }
        }
        return object
    }

    private func handle(_ request: KubeRequest, _ state: inout State) throws -> JSON {
        let key = Key(kind: request.kind, namespace: request.kind.namespaced ? request.namespace : "", name: request.name)
        switch request.verb {
        case .get:
            guard let object = state.objects[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            return object
        case .list:
            func query(_ name: String) -> String? { request.query.first { $0.name == name }?.value }
            let items = state.objects.filter { $0.key.kind == request.kind }.map(\.value).filter {
                Self.selected($0, key.namespace, query("labelSelector"), query("fieldSelector"))
            }
            return ["items": .array(items), "metadata": ["resourceVersion": .string(String(state.version))]]
        case .create: return try create(request, key, &state)
        case .update:
            guard let old = state.objects[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            guard let body = request.body else { throw APIStatus.badRequest("no body") }
            if let version = body["metadata"]?["resourceVersion"]?.string, !version.isEmpty,
                version != old["metadata"]?["resourceVersion"]?.string
            {
                throw APIStatus.staleWrite(request.kind, name: request.name)
            }
            return store(old, body, request.subresource, key, &state)
        case .patch(let kind):
            guard let old = state.objects[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            var patch = request.body ?? .null
            if let uid = patch["metadata"]?["uid"]?.string, uid != old["metadata"]?["uid"]?.string {
                throw APIStatus(code: 422, reason: "Invalid", message: "uid mismatch")
            }
            var new = old
            if case .strategic = kind, let owners = patch["metadata"]?["ownerReferences"]?.array {
                var merged = old["metadata"]?["ownerReferences"]?.array ?? []
                for owner in owners {
                    merged.removeAll { $0["uid"] == owner["uid"] }
                    if owner["$patch"] == nil { merged.append(owner) }
                }
                patch.set(.array(merged), at: "metadata", "ownerReferences")
            }
            if case .strategic = kind, let gone = patch["metadata"]?["$deleteFromPrimitiveList/finalizers"]?.array {
                patch.set(nil, at: "metadata", "$deleteFromPrimitiveList/finalizers")
                let kept = (old["metadata"]?["finalizers"]?.array ?? []).filter { !gone.contains($0) }
                patch.set(.array(kept), at: "metadata", "finalizers")
            }
            if let version = patch["metadata"]?["resourceVersion"]?.string, version != old["metadata"]?["resourceVersion"]?.string {
                throw APIStatus.staleWrite(request.kind, name: request.name)
            }
            if case .strategic = kind, let conditions = patch["status"]?["conditions"]?.array {
                var merged = old["status"]?["conditions"]?.array ?? []
                for condition in conditions {
                    if let index = merged.firstIndex(where: { $0["type"] == condition["type"] }) {
                        merged[index] = condition
                    } else {
                        merged.append(condition)
                    }
                }
                patch.set(.array(merged), at: "status", "conditions")
            }
            Self.merge(patch, into: &new)
            return store(old, new, request.subresource, key, &state)
        case .delete:
            guard let old = state.objects[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            if let uid = request.body?["preconditions"]?["uid"]?.string, uid != old["metadata"]?["uid"]?.string {
                throw APIStatus.conflict(request.kind, name: request.name, "Precondition failed: UID in precondition: \(uid)")
            }
            return delete(old, key, request.body, &state)
        case .deleteCollection:
            for (key, object) in state.objects where key.kind == request.kind && key.namespace == request.namespace {
                _ = delete(object, key, request.body, &state)
            }
            return ["kind": "Status", "status": "Success"]
        }
    }

    private static func merge(_ patch: JSON, into value: inout JSON) {
        guard case .object(let members) = patch else {
            value = patch
            return
        }
        for (name, change) in members {
            if change.isNull { value[name] = nil; continue }
            var child = value[name] ?? (change.object == nil ? .null : [:])
            if child.object == nil, change.object != nil { child = [:] }
            merge(change, into: &child)
            value[name] = child
        }
    }

    private func create(_ request: KubeRequest, _ key: Key, _ state: inout State) throws -> JSON {
        var key = key
        guard var object = request.body else { throw APIStatus.badRequest("no body") }
        if request.subresource == "binding" {
            guard let pod = state.objects[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            guard (pod["spec"]?["nodeName"]?.string ?? "").isEmpty else {
                throw APIStatus.conflict(request.kind, name: request.name, "pod \(request.name) is already assigned to node")
            }
            var bound = pod
            bound.set(object["target"]?["name"], at: "spec", "nodeName")
            var conditions = (bound["status"]?["conditions"]?.array ?? []).filter { $0["type"]?.string != "PodScheduled" }
            conditions.append(["type": "PodScheduled", "status": "True", "lastTransitionTime": .string(KubeTime.text(time.now()))])
            bound.set(.array(conditions), at: "status", "conditions")
            return publish(.modified, key, old: pod, bound, &state)
        }
        if request.subresource != nil { return object }
        var name = object["metadata"]?["name"]?.string ?? ""
        if name.isEmpty {
            state.names += 1
            name = (object["metadata"]?["generateName"]?.string ?? "") + "x\(state.names)"
            object.set(.string(name), at: "metadata", "name")
        }
        key.name = name
        if state.objects[key] != nil { throw APIStatus.alreadyExists(request.kind, name: name) }
        if request.kind.namespaced {
            object.set(.string(request.namespace), at: "metadata", "namespace")
            let namespaceKey = Key(kind: Namespace.resource, namespace: "", name: request.namespace)
            if let namespace = state.objects[namespaceKey], namespace["metadata"]?["deletionTimestamp"] != nil {
                var status = APIStatus.forbidden("namespace is being terminated", kind: request.kind, name: name)
                status.causes = [
                    APIStatus.Cause(reason: "NamespaceTerminating", message: "namespace is being terminated", field: "metadata.namespace")
                ]
                throw status
            }
        }
        object.set(.string(RandomNames.uuid()), at: "metadata", "uid")
        object.set(.string(KubeTime.text(time.now())), at: "metadata", "creationTimestamp")
        object.set(1, at: "metadata", "generation")
        switch request.kind.kind {
        case "Namespace":
            object.set(["kubernetes"], at: "spec", "finalizers")
            object.set("Active", at: "status", "phase")
        case "Pod": object.set("Pending", at: "status", "phase")
        case "PersistentVolumeClaim", "PersistentVolume":
            if object["status"]?["phase"] == nil { object.set("Pending", at: "status", "phase") }
        case "Job":
            if object["spec"]?["selector"] == nil {
                let uid = object["metadata"]?["uid"] ?? ""
                object.set(["matchLabels": ["batch.kubernetes.io/controller-uid": uid]], at: "spec", "selector")
                for label in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
                    object.set(uid, at: "spec", "template", "metadata", "labels", label)
                }
                for label in ["batch.kubernetes.io/job-name", "job-name"] {
                    object.set(.string(name), at: "spec", "template", "metadata", "labels", label)
                }
            }
        default: break
        }
        return publish(.added, key, old: nil, object, &state)
    }

    private func store(_ old: JSON, _ new: JSON, _ subresource: String?, _ key: Key, _ state: inout State) -> JSON {
        var object = new
        if subresource == "status" {
            object = old
            object["status"] = new["status"]
        } else if subresource == "finalize" {
            object = old
            object.set(new["spec"]?["finalizers"] ?? [], at: "spec", "finalizers")
        } else {
            if old["status"] != nil, key.kind.kind != "Event" { object["status"] = old["status"] }
            for name in ["uid", "creationTimestamp", "deletionTimestamp", "generation"] {
                object.set(old["metadata"]?[name], at: "metadata", name)
            }
            if object["spec"] != old["spec"] {
                object.set(JSON((old["metadata"]?["generation"]?.int ?? 0) + 1), at: "metadata", "generation")
            }
        }
        if object == old { return old }
        if object["metadata"]?["deletionTimestamp"] != nil, (object["metadata"]?["finalizers"]?.array ?? []).isEmpty,
            (object["spec"]?["finalizers"]?.array ?? []).isEmpty,
            object["metadata"]?["deletionGracePeriodSeconds"]?.int ?? 0 == 0
        {
            return publish(.deleted, key, old: old, object, &state)
        }
        return publish(.modified, key, old: old, object, &state)
    }

    private func delete(_ old: JSON, _ key: Key, _ options: JSON?, _ state: inout State) -> JSON {
        var object = old
        var finalizers = (old["metadata"]?["finalizers"]?.array ?? []).compactMap(\.string)
        switch options?["propagationPolicy"]?.string {
        case "Foreground": if !finalizers.contains("foregroundDeletion") { finalizers.append("foregroundDeletion") }
        case "Orphan": if !finalizers.contains("orphan") { finalizers.append("orphan") }
        default: break
        }
        if !finalizers.isEmpty { object.set(JSON(finalizers), at: "metadata", "finalizers") }
        var grace = 0
        if key.kind.kind == "Pod" {
            let phase = old["status"]?["phase"]?.string
            let assigned = !(old["spec"]?["nodeName"]?.string ?? "").isEmpty
            let wanted = options?["gracePeriodSeconds"]?.int ?? old["spec"]?["terminationGracePeriodSeconds"]?.int ?? 30
            grace = assigned && phase != "Succeeded" && phase != "Failed" ? Int(wanted) : 0
        }
        let held = !finalizers.isEmpty || !(old["spec"]?["finalizers"]?.array ?? []).isEmpty
        if grace == 0, !held { return publish(.deleted, key, old: old, object, &state) }
        if old["metadata"]?["deletionTimestamp"] == nil {
            object.set(.string(KubeTime.text(time.now() + Double(grace))), at: "metadata", "deletionTimestamp")
            if key.kind.kind == "Namespace" { object.set("Terminating", at: "status", "phase") }
        }
        object.set(JSON(grace), at: "metadata", "deletionGracePeriodSeconds")
        return object == old ? old : publish(.modified, key, old: old, object, &state)
    }
}
