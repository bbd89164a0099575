import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Synchronization

/// An API server in memory: lists and watches of objects a test puts there.
final class FakeCluster: KubeTransport {
    private struct State {
        var version = 1
        var objects: [String: [String: JSON]] = [:]
        var watchers: [(plural: String, stream: AsyncThrowingStream<[KubeWatchEvent], any Error>.Continuation)] = []
    }
    private let state = Mutex(State())

    func put<K: KubeObject>(_ object: K) {
        state.withLock { state in
            state.version += 1
            var json = object.json
            json.set(.string("\(state.version)"), at: "metadata", "resourceVersion")
            let known = state.objects[K.resource.plural, default: [:]].updateValue(json, forKey: object.key) != nil
            for watcher in state.watchers where watcher.plural == K.resource.plural {
                watcher.stream.yield([KubeWatchEvent(type: known ? .modified : .added, object: json)])
            }
        }
    }

    func delete<K: KubeObject>(_ type: K.Type, _ key: String) {
        state.withLock { state in
            state.version += 1
            guard let json = state.objects[K.resource.plural]?.removeValue(forKey: key) else { return }
            for watcher in state.watchers where watcher.plural == K.resource.plural {
                watcher.stream.yield([KubeWatchEvent(type: .deleted, object: json)])
            }
        }
    }

    func send(_ request: KubeRequest) async throws -> JSON {
        guard request.verb == .list else { throw APIStatus.methodNotAllowed() }
        return state.withLock { state in
            ["metadata": ["resourceVersion": .string("\(state.version)")],
             "items": .array(Array(state.objects[request.kind.plural, default: [:]].values))]
        }
    }

    func watch(_ request: KubeWatchRequest) async throws -> AsyncThrowingStream<[KubeWatchEvent], any Error> {
        let (stream, continuation) = AsyncThrowingStream<[KubeWatchEvent], any Error>.makeStream()
        state.withLock { state in
            // What happened between the list and the watch.
            let since = Int(request.resourceVersion) ?? 0
            let missed = state.objects[request.kind.plural, default: [:]].values.filter {
                Int($0["metadata"]?["resourceVersion"]?.string ?? "") ?? 0 > since
            }
            if !missed.isEmpty { continuation.yield(missed.map { KubeWatchEvent(type: .modified, object: $0) }) }
            state.watchers.append((request.kind.plural, continuation))
        }
        return stream
    }
}

struct TestPort {
    var name = ""
    var number = 80
    var target = 8080
    var proto = "TCP"
    var nodePort: Int?
}

struct TestEndpoint {
    var address: String
    var node = "node-1"
    var ready: Bool? = true
    var serving: Bool?
    var terminating: Bool?
    var hostname: String?
}

func makeService(
    _ name: String, namespace: String = "default", clusterIP: String, ports: [TestPort] = [TestPort()],
    _ change: (inout Service) -> Void = { _ in }
) -> Service {
    var service = Service()
    service.metadata.name = name
    service.metadata.namespace = namespace
    service.spec.clusterIP = clusterIP
    service.spec.type = "ClusterIP"
    service.spec.ports = ports.map { item in
        var port = ServicePort()
        port.name = item.name
        port.port = item.number
        port.protocol = item.proto
        port.nodePort = item.nodePort
        return port
    }
    change(&service)
    return service
}

func makeSlice(
    _ service: String, namespace: String = "default", suffix: String = "a", ports: [TestPort] = [TestPort()], _ endpoints: [TestEndpoint]
) -> EndpointSlice {
    var slice = EndpointSlice()
    slice.metadata.name = "\(service)-\(suffix)"
    slice.metadata.namespace = namespace
    slice.metadata.labels = ["kubernetes.io/service-name": service]
    slice.addressType = "IPv4"
    slice.ports = ports.map { item in
        var port = DiscoveryEndpointPort()
        port.name = item.name
        port.port = item.target
        port.protocol = item.proto
        return port
    }
    slice.endpoints = endpoints.map { item in
        var endpoint = Endpoint()
        endpoint.addresses = [item.address]
        endpoint.nodeName = item.node
        endpoint.hostname = item.hostname
        var conditions = EndpointConditions()
        conditions.ready = item.ready
        conditions.serving = item.serving ?? item.ready
        conditions.terminating = item.terminating ?? false
        endpoint.conditions = conditions
        return endpoint
    }
    return slice
}

/// Waits until the condition holds, at most `seconds`.
func eventually(seconds: Double = 5, _ condition: () async throws -> Bool) async throws -> Bool {
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
        if try await condition() { return true }
        try await Task.sleep(for: .milliseconds(10))
    }
    return try await condition()
}
