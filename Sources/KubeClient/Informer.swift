public import KubeMeta
public import KubeTypes
import JSON
import Logging
import Synchronization

/// A change in an informer's cache.
public enum InformerEvent<Object: KubeObject>: Sendable {
    case added(Object)
    case updated(old: Object, new: Object)
    case deleted(Object)

    /// The object as it is now, or as it last was.
    public var object: Object {
        switch self {
        case .added(let object), .updated(_, let object), .deleted(let object): object
        }
    }
}

/// What an informer covers.
public struct InformerScope: Sendable, Hashable {
    public var namespace: String
    public var labelSelector: String?
    public var fieldSelector: String?

    public init(namespace: String = "", labelSelector: String? = nil, fieldSelector: String? = nil) {
        self.namespace = namespace
        self.labelSelector = labelSelector
        self.fieldSelector = fieldSelector
    }
}

/// A local copy of a collection, kept current by list and watch. Handlers run one after another on the informer's task and must be quick
/// (put a key on a work queue).
public final class Informer<Object: KubeObject>: Sendable {
    public typealias Handler = @Sendable (InformerEvent<Object>) -> Void

    private struct State {
        var objects: [String: Object] = [:]
        /// Index name -> index value -> keys.
        var indexes: [String: [String: Set<String>]] = [:]
        var indexers: [String: @Sendable (Object) -> [String]] = [:]
        var handlers: [Handler] = []
        var synced = false
        var waiting: [CheckedContinuation<Void, Never>] = []
        var running: Task<Void, Never>?
        var resourceVersion = ""
        /// When the cache last heard from the server, seconds since 1970: staleness can be seen from outside.
        var lastHeardSeconds = 0.0
    }

    private static var namespaceIndex: String { "namespace" }

    private let client: KubeClient
    private let scope: InformerScope
    private let state = Mutex(State())
    private let logger: Logger
    /// A drill can hold the informer here.
    public let gate = RunGate()

    public init(client: KubeClient, scope: InformerScope = InformerScope()) {
        self.client = client
        self.scope = scope
        if Object.resource.namespaced {
            state.withLock { state in
                state.indexers[Self.namespaceIndex] = { [$0.metadata.namespace] }
                state.indexes[Self.namespaceIndex] = [:]
            }
        }
        logger = Logger(label: "informer.\(Object.resource.plural)")
    }

    // MARK: Reading

    public func get(_ key: String) -> Object? { state.withLock { $0.objects[key] } }
    public func get(namespace: String, name: String) -> Object? { get(namespace.isEmpty ? name : "\(namespace)/\(name)") }
    /// All objects, in no order.
    public var all: [Object] { state.withLock { Array($0.objects.values) } }
    public var count: Int { state.withLock { $0.objects.count } }
    public var isSynced: Bool { state.withLock { $0.synced } }
    public var resourceVersion: String { state.withLock { $0.resourceVersion } }
    public var lastHeardSeconds: Double { state.withLock { $0.lastHeardSeconds } }

    public func inNamespace(_ namespace: String) -> [Object] {
        indexed(Self.namespaceIndex, namespace)
    }

    /// The objects with an index value. The index must have been added before `start`.
    public func indexed(_ index: String, _ value: String) -> [Object] {
        state.withLock { state in (state.indexes[index]?[value] ?? []).compactMap { state.objects[$0] } }
    }

    // MARK: Setting up

    public func addIndex(_ name: String, _ values: @escaping @Sendable (Object) -> [String]) {
        state.withLock { state in
            state.indexers[name] = values
            var index: [String: Set<String>] = [:]
            for (key, object) in state.objects { for value in values(object) { index[value, default: []].insert(key) } }
            state.indexes[name] = index
        }
    }

    /// Adds a handler; it first sees an `added` for everything that is in the cache already.
    public func addHandler(_ handler: @escaping Handler) {
        let present = state.withLock { state in
            state.handlers.append(handler)
            return Array(state.objects.values)
        }
        for object in present { handler(.added(object)) }
    }

    /// Starts the list and watch; calling it again changes nothing.
    public func start() {
        state.withLock { state in
            guard state.running == nil else { return }
            state.running = Task { [self] in await run() }
        }
    }

    public func stop() {
        let task = state.withLock { state in
            defer { state.running = nil }
            return state.running
        }
        task?.cancel()
    }

    /// Returns when the first list is in the cache.
    public func waitForSync() async {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state in
                if state.synced { return true }
                state.waiting.append(continuation)
                return false
            }
            if ready { continuation.resume() }
        }
    }

    // MARK: The loop

    private static var backOffSecondsMax: Double { 10 }

    private func run() async {
        var backOffSeconds = 0.1
        var needsList = true
        while !Task.isCancelled {
            await gate.pass()
            do {
                if needsList {
                    try await relist()
                    needsList = false
                }
                try await follow()
                backOffSeconds = 0.1
            } catch is CancellationError {
                return
            } catch let status as APIStatus where status.code == 410 {
                needsList = true
            } catch {
                logger.debug("list or watch failed", metadata: ["error": "\(error)"])
                if (error as? APIStatus) != nil { needsList = true }
                try? await client.time.sleep(seconds: backOffSeconds)
                backOffSeconds = min(backOffSeconds * 2, Self.backOffSecondsMax)
            }
        }
    }

    private func relist() async throws {
        let list = try await client.list(
            Object.self, namespace: scope.namespace, labelSelector: scope.labelSelector, fieldSelector: scope.fieldSelector)
        var events: [InformerEvent<Object>] = []
        let handlers = state.withLock { state in
            var gone = state.objects
            for object in list.items {
                gone[object.key] = nil
                if let event = Self.put(object, &state) { events.append(event) }
            }
            for key in gone.keys { if let event = Self.remove(key, &state) { events.append(event) } }
            state.resourceVersion = list.resourceVersion
            state.lastHeardSeconds = client.time.now()
            return state.handlers
        }
        for event in events { for handler in handlers { handler(event) } }
        // Not before: what waits for the first list counts on its handlers having seen it, also when another component started us.
        let waiting = state.withLock { state in
            state.synced = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    private func follow() async throws {
        let request = KubeWatchRequest(
            kind: Object.resource, namespace: scope.namespace, labelSelector: scope.labelSelector, fieldSelector: scope.fieldSelector,
            resourceVersion: resourceVersion)
        for try await batch in try await client.transport.watch(request) {
            await gate.pass()
            var events: [InformerEvent<Object>] = []
            // Decoded before the lock is taken: readers must not wait for it.
            let objects = batch.map { $0.type == .bookmark ? nil : Object(json: $0.object) }
            let handlers = state.withLock { state in
                for (change, object) in zip(batch, objects) {
                    if let version = change.object["metadata"]?["resourceVersion"]?.string { state.resourceVersion = version }
                    guard let object else { continue }
                    switch change.type {
                    case .added, .modified: if let event = Self.put(object, &state) { events.append(event) }
                    case .deleted:
                        let last = object
                        if state.objects[last.key] != nil {
                            _ = Self.remove(last.key, &state)
                            events.append(.deleted(last))
                        }
                    case .bookmark: break
                    }
                }
                state.lastHeardSeconds = client.time.now()
                return state.handlers
            }
            for event in events { for handler in handlers { handler(event) } }
        }
    }

    private static func put(_ object: Object, _ state: inout State) -> InformerEvent<Object>? {
        let key = object.key
        let old = state.objects.updateValue(object, forKey: key)
        if let old {
            if old.metadata.resourceVersion == object.metadata.resourceVersion, old.metadata.uid == object.metadata.uid { return nil }
            unindex(old, key, &state)
        }
        for (name, values) in state.indexers { for value in values(object) { state.indexes[name, default: [:]][value, default: []].insert(key) } }
        return old.map { .updated(old: $0, new: object) } ?? .added(object)
    }

    private static func remove(_ key: String, _ state: inout State) -> InformerEvent<Object>? {
        guard let old = state.objects.removeValue(forKey: key) else { return nil }
        unindex(old, key, &state)
        return .deleted(old)
    }

    private static func unindex(_ object: Object, _ key: String, _ state: inout State) {
        for (name, values) in state.indexers {
            for value in values(object) {
                state.indexes[name]?[value]?.remove(key)
                if state.indexes[name]?[value]?.isEmpty == true { state.indexes[name]?[value] = nil }
            }
        }
    }
}
