import NIOCore
import NIOPosix

/// Finds out whether a registry can be reached at all. A registry that answers anything, even a refusal, is reachable.
struct RegistryReach: Sendable {
    /// Nil when a connection could be made.
    func whyUnreachable(_ registry: String, withinSeconds limit: Double) async -> String? {
        var host = registry == "docker.io" ? "registry-1.docker.io" : registry
        var port = 443
        if let colon = host.lastIndex(of: ":"), let number = Int(host[host.index(after: colon)...]) {
            port = number
            host = String(host[..<colon])
        }
        let group = MultiThreadedEventLoopGroup.singleton
        let name = host
        let promise = group.next().makePromise(of: String?.self)
        // Name resolution may block longer than a connection attempt: the timer covers both.
        let timer = promise.futureResult.eventLoop.scheduleTask(in: .milliseconds(Int64(limit * 1000))) { promise.succeed("i/o timeout") }
        ClientBootstrap(group: group).connectTimeout(.milliseconds(Int64(limit * 1000))).connect(host: host, port: port).whenComplete { result in
            timer.cancel()
            switch result {
            case .success(let channel):
                channel.close(promise: nil)
                promise.succeed(nil)
            case .failure(let error): promise.succeed(Self.text(error, name))
            }
        }
        return (try? await promise.futureResult.get()) ?? nil
    }

    private static func text(_ error: any Error, _ host: String) -> String {
        if let error = error as? NIOConnectionError, error.dnsAError != nil || error.dnsAAAAError != nil, error.connectionErrors.isEmpty {
            return "lookup \(host): no such host"
        }
        if let error = error as? NIOConnectionError, let first = error.connectionErrors.first { return "\(first.error)" }
        return "\(error)"
    }
}
