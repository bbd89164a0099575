import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// An API server in memory for tests of the agent: objects, resource versions, watches with the selectors an agent uses, status
/// subresources, graceful deletion of pods, tokens. No validation, no admission.
final class FakeAPIServer: KubeTransport {
    private struct Watch {
        var kind: ResourceKind
        var namespace: String
        var fieldSelector: String?
        var continuation: AsyncThrowingStream<[KubeWatchEvent], any Error>.Continuation
    }

    private struct State {
        /// Resource -> `namespace/name` -> object.
        var objects: [String: [String: JSON]] = [:]
        var version = 0
        var watches: [Int: Watch] = [:]
        var nextWatch = 0
        var requests: [String] = []
        var log: [(version: Int, plural: String, event: KubeWatchEvent)] = []
    }

    private let state = Mutex(State())
    private let time = SystemTime()

    /// Every write, as `verb resource namespace/name subresource`.
    var requests: [String] { state.withLock { $0.requests } }

    func send(_ request: KubeRequest) async throws -> JSON {
        try state.withLock { state in try handle(request, &state) }
    }

    private func key(_ namespace: String, _ name: String) -> String { "\(namespace)/\(name)" }

    private func handle(_ request: KubeRequest, _ state: inout State) throws -> JSON {
        let plural = request.kind.plural
        let key = key(request.namespace, request.name)
        if request.verb != .get, request.verb != .list {
            state.requests.append("\(request.verb) \(plural) \(key) \(request.subresource ?? "")")
        }
        switch request.verb {
        case .get:
            guard let object = state.objects[plural]?[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            return object
        case .list:
            let field = request.query.first { $0.name == "fieldSelector" }?.value
            let items = (state.objects[plural] ?? [:]).values.filter {
                (request.namespace.isEmpty || $0["metadata"]?["namespace"]?.string == request.namespace) && Self.matches($0, field)
            }
            return ["items": .array(Array(items)), "metadata": ["resourceVersion": .string("\(state.version)")]]
        case .create:
            if request.subresource == "token" {
                let seconds = request.body?["spec"]?["expirationSeconds"]?.int ?? 3600
                return [
                    "status": [
                        "token": .string("token-of-\(request.name)-\(state.version)"),
                        "expirationTimestamp": .string(KubeTime.text(time.now() + Double(seconds))),
                    ]
                ]
            }
            var object = request.body ?? [:]
            let name = object["metadata"]?["name"]?.string ?? ""
            let key = self.key(request.namespace, name)
            if state.objects[plural]?[key] != nil { throw APIStatus.alreadyExists(request.kind, name: name) }
            let uid = object["metadata"]?["uid"] ?? .string("uid-\(name)-\(state.version)")
            object["metadata"]?["uid"] = uid
            object["metadata"]?["creationTimestamp"] = .string(KubeTime.text(time.now()))
            object["metadata"]?["generation"] = 1
            return put(object, .added, plural, key, &state)
        case .update:
            guard state.objects[plural]?[key] != nil else { throw APIStatus.notFound(request.kind, name: request.name) }
            return put(request.body ?? [:], .modified, plural, key, &state)
        case .patch:
            guard let old = state.objects[plural]?[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            if let uid = request.body?["metadata"]?["uid"], uid != old["metadata"]?["uid"] {
                throw APIStatus.conflict(request.kind, name: request.name, "Precondition failed: UID in precondition")
            }
            return put(Self.merged(old, request.body ?? [:]), .modified, plural, key, &state)
        case .delete:
            guard var old = state.objects[plural]?[key] else { throw APIStatus.notFound(request.kind, name: request.name) }
            if let uid = request.body?["preconditions"]?["uid"], uid != old["metadata"]?["uid"] {
                throw APIStatus.conflict(request.kind, name: request.name, "Precondition failed: UID in precondition")
            }
            let grace = request.body?["gracePeriodSeconds"]?.int ?? old["spec"]?["terminationGracePeriodSeconds"]?.int ?? 30
            if plural == "pods", grace > 0 {
                old["metadata"]?["deletionTimestamp"] = .string(KubeTime.text(time.now() + Double(grace)))
                old["metadata"]?["deletionGracePeriodSeconds"] = .int(grace)
                return put(old, .modified, plural, key, &state)
            }
            state.objects[plural]?[key] = nil
            state.version += 1
            old["metadata"]?["resourceVersion"] = .string("\(state.version)")
            announce(KubeWatchEvent(type: .deleted, object: old), plural, &state)
            return old
        case .deleteCollection: return [:]
        }
    }

    private func put(_ object: JSON, _ type: KubeWatchEvent.EventType, _ plural: String, _ key: String, _ state: inout State) -> JSON {
        var object = object
        state.version += 1
        object["metadata"]?["resourceVersion"] = .string("\(state.version)")
        state.objects[plural, default: [:]][key] = object
        announce(KubeWatchEvent(type: type, object: object), plural, &state)
        return object
    }

    private func announce(_ event: KubeWatchEvent, _ plural: String, _ state: inout State) {
        state.log.append((state.version, plural, event))
        for watch in state.watches.values where watch.kind.plural == plural {
            if watch.namespace.isEmpty || event.object["metadata"]?["namespace"]?.string == watch.namespace, Self.matches(event.object, watch.fieldSelector) {
                watch.continuation.yield([event])
            }
        }
    }

    func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error> {
        let (stream, continuation) = AsyncThrowingStream<[KubeWatchEvent], any Error>.makeStream()
        let id = state.withLock { state in
            state.nextWatch += 1
            let from = Int(request.resourceVersion) ?? 0
            for entry in state.log where entry.version > from && entry.plural == request.kind.plural {
                if request.namespace.isEmpty || entry.event.object["metadata"]?["namespace"]?.string == request.namespace,
                    Self.matches(entry.event.object, request.fieldSelector) {
                    continuation.yield([entry.event])
                }
            }
            state.watches[state.nextWatch] = Watch(
                kind: request.kind, namespace: request.namespace, fieldSelector: request.fieldSelector, continuation: continuation)
            return state.nextWatch
        }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { $0.watches[id] = nil } }
        return stream
    }

    private static func matches(_ object: JSON, _ selector: String?) -> Bool {
        guard let selector else { return true }
        return selector.split(separator: ",").allSatisfy { term in
            let parts = term.split(separator: "=").map(String.init)
            let path = parts[0].split(separator: ".").map(String.init)
            return object.value(at: path)?.string == (parts.count > 1 ? parts[1] : "")
        }
    }

    private static func merged(_ target: JSON, _ patch: JSON) -> JSON {
        guard case .object(let members) = patch else { return patch }
        var result = target
        if result.object == nil { result = [:] }
        for (key, value) in members {
            if value.isNull { result[key] = nil } else { result[key] = merged(result[key] ?? .null, value) }
        }
        return result
    }
}
