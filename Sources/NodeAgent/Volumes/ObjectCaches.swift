import KubeClient
import KubeMeta
import KubeTypes

/// Config maps and secrets that pods of this node use, each followed by a watch of its own while somebody needs it: a node may read only
/// what its pods refer to.
actor ObjectCaches {
    private struct Entry<Object: KubeObject> {
        var informer: Informer<Object>
        /// UIDs of pods that use it.
        var users: Set<String> = []
    }

    private let client: KubeClient
    private var configMaps: [String: Entry<ConfigMap>] = [:]
    private var secrets: [String: Entry<Secret>] = [:]
    /// Called with a pod's UID when something it uses has changed.
    private var onChange: @Sendable (String) -> Void = { _ in }
    /// How long a first list may take before the pod is told to wait.
    private static let syncSeconds = 10.0

    init(client: KubeClient) { self.client = client }

    func setOnChange(_ body: @escaping @Sendable (String) -> Void) { onChange = body }

    /// Nil when there is none; throws when the server cannot be asked.
    func configMap(namespace: String, name: String, user: String) async throws -> ConfigMap? {
        let key = "\(namespace)/\(name)"
        if configMaps[key] == nil { configMaps[key] = Entry(informer: start(ConfigMap.self, namespace, name) { await self.usersOfConfigMap(key) }) }
        configMaps[key]?.users.insert(user)
        guard let informer = configMaps[key]?.informer else { return nil }
        try await wait(informer, "configmap", name)
        return informer.get(key)
    }

    func secret(namespace: String, name: String, user: String) async throws -> Secret? {
        let key = "\(namespace)/\(name)"
        if secrets[key] == nil { secrets[key] = Entry(informer: start(Secret.self, namespace, name) { await self.usersOfSecret(key) }) }
        secrets[key]?.users.insert(user)
        guard let informer = secrets[key]?.informer else { return nil }
        try await wait(informer, "secret", name)
        return informer.get(key)
    }

    /// The pod is gone: watches nobody needs end.
    func release(user: String) {
        for key in Array(configMaps.keys) {
            configMaps[key]?.users.remove(user)
            if let entry = configMaps[key], entry.users.isEmpty {
                entry.informer.stop()
                configMaps[key] = nil
            }
        }
        for key in Array(secrets.keys) {
            secrets[key]?.users.remove(user)
            if let entry = secrets[key], entry.users.isEmpty {
                entry.informer.stop()
                secrets[key] = nil
            }
        }
    }

    func stop() {
        for entry in configMaps.values { entry.informer.stop() }
        for entry in secrets.values { entry.informer.stop() }
    }

    private func usersOfConfigMap(_ key: String) -> Set<String> { configMaps[key]?.users ?? [] }
    private func usersOfSecret(_ key: String) -> Set<String> { secrets[key]?.users ?? [] }

    private func start<Object: KubeObject>(
        _ type: Object.Type, _ namespace: String, _ name: String, users: @escaping @Sendable () async -> Set<String>
    ) -> Informer<Object> {
        let informer = Informer<Object>(client: client, scope: InformerScope(namespace: namespace, fieldSelector: "metadata.name=\(name)"))
        let onChange = onChange
        informer.addHandler { _ in Task { for user in await users() { onChange(user) } } }
        informer.start()
        return informer
    }

    private func wait<Object: KubeObject>(_ informer: Informer<Object>, _ kind: String, _ name: String) async throws {
        if informer.isSynced { return }
        let time = client.time
        let synced = await withTaskGroup(of: Bool.self) { group in
            // Polled, because a waiter on a stopped informer would never come back.
            group.addTask {
                while !Task.isCancelled {
                    if informer.isSynced { return true }
                    do { try await time.sleep(seconds: 0.002) } catch { return false }
                }
                return false
            }
            group.addTask {
                try? await time.sleep(seconds: Self.syncSeconds)
                return false
            }
            let first = await group.next() ?? false
            group.cancelAll()
            return first
        }
        if !synced { throw AgentError("failed to sync \(kind) cache: timed out waiting for the condition") }
    }
}

/// Tokens for pods, renewed when four fifths of their life are over.
actor TokenCache {
    private struct Key: Hashable {
        var uid: String
        var audience: String
        var expirationSeconds: Int
    }
    private struct Entry {
        var token: String
        var renewAt: Double
        var expiresAt: Double
    }

    private static let renewShare = 0.8
    /// A token is renewed after a day whatever its life.
    private static let renewSecondsMax = 86_400.0
    private let client: KubeClient
    private var entries: [Key: Entry] = [:]

    init(client: KubeClient) { self.client = client }

    /// The token and when it should be asked for again.
    func token(pod: Pod, audience: String, expirationSeconds: Int) async throws -> (token: String, renewAt: Double) {
        let key = Key(uid: pod.metadata.uid, audience: audience, expirationSeconds: expirationSeconds)
        let now = client.time.now()
        if let entry = entries[key], entry.renewAt > now { return (entry.token, entry.renewAt) }
        var request = TokenRequest()
        request.spec.audiences = audience.isEmpty ? [] : [audience]
        request.spec.expirationSeconds = expirationSeconds
        var bound = BoundObjectReference()
        bound.apiVersion = "v1"
        bound.kind = "Pod"
        bound.name = pod.metadata.name
        bound.uid = pod.metadata.uid
        request.spec.boundObjectRef = bound
        do {
            let answer = TokenRequest(
                json: try await client.createSubresource(
                    ServiceAccount.resource, namespace: pod.metadata.namespace, name: pod.spec.serviceAccountName ?? "default", subresource: "token",
                    request.json))
            guard let token = answer.status.token, !token.isEmpty else { throw AgentError("failed to fetch token: the server sent none") }
            let expires = answer.status.expirationTimestamp.flatMap(KubeTime.parse) ?? now + Double(expirationSeconds)
            let life = max(0, expires - now)
            let entry = Entry(token: token, renewAt: now + min(life * Self.renewShare, Self.renewSecondsMax), expiresAt: expires)
            entries[key] = entry
            return (token, entry.renewAt)
        } catch {
            // The old one is good until it ends.
            if let entry = entries[key], entry.expiresAt > now { return (entry.token, now + 10) }
            throw AgentError("failed to fetch token: \(error)")
        }
    }

    func release(user: String) { entries = entries.filter { $0.key.uid != user } }
}
