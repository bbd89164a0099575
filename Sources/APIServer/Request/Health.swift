import KubeMeta
import NIOHTTP1
import Synchronization
import Wire

/// /healthz, /livez and /readyz with their checks.
final class Health: Sendable {
    private let hub: CacheHub
    private let started = Mutex(false)

    init(hub: CacheHub) { self.hub = hub }

    func markStarted() { started.withLock { $0 = true } }

    private func checks(_ endpoint: String) -> [(name: String, failure: String?)] {
        var list: [(String, String?)] = [("ping", nil), ("log", nil)]
        list.append(("etcd", hub.failure.map { "\($0)" }))
        list.append(("poststarthook/rbac/bootstrap-roles", started.withLock { $0 } ? nil : "not finished"))
        if endpoint == "readyz" {
            list.append(("informer-sync", started.withLock { $0 } ? nil : "not finished"))
            list.append(("shutdown", nil))
        }
        return list
    }

    func answer(_ path: String, _ query: QueryParameters) -> WireResponse? {
        let parts = path.split(separator: "/").map(String.init)
        guard let endpoint = parts.first, ["healthz", "livez", "readyz"].contains(endpoint) else { return nil }
        var list = checks(endpoint)
        if parts.count > 1 {
            let name = parts.dropFirst().joined(separator: "/")
            guard let check = list.first(where: { $0.name == name }) else { return Responses.pageNotFound }
            return check.failure.map { .text(.internalServerError, "internal server error: \($0)\n") } ?? .text(.ok, "ok")
        }
        let excluded = Set(query.all("exclude"))
        list.removeAll { excluded.contains($0.name) }
        let failed = list.contains { $0.failure != nil }
        if !failed, !query.flag("verbose") { return .text(.ok, "ok") }
        var text = list.map { $0.failure == nil ? "[+]\($0.name) ok\n" : "[-]\($0.name) failed: reason withheld\n" }.joined()
        text += "\(endpoint) check \(failed ? "failed" : "passed")\n"
        return .text(failed ? .internalServerError : .ok, text)
    }
}
