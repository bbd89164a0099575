import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

import Controllers

/// A fake server with some controllers on it, and helpers that speak as a user or a kubelet would.
final class ClusterFixture: Sendable {
    let client: KubeClient
    private let task: Task<Void, Never>

    init(_ controllers: Set<String>, options change: (inout ControllerOptions) -> Void = { _ in }) {
        client = KubeClient(transport: FakeTransport(time: SystemTime()))
        var options = ControllerOptions()
        options.only = controllers
        options.clusterCertificatePEM = "PEM"
        change(&options)
        let manager = ControllerManager(factory: InformerFactory(client: client), client: client, options: options)
        task = Task { await manager.run() }
    }

    deinit { task.cancel() }

    /// Waits until a condition holds; fails the test when it does not within some seconds.
    func eventually(
        _ what: String, seconds: Double = 10, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
    ) async throws {
        let end = SystemTime().now() + seconds
        while SystemTime().now() < end {
            if try await condition() { return }
            try await Task.sleep(nanoseconds: 5_000_000)
        }
        Issue.record("did not come about: \(what)", sourceLocation: sourceLocation)
    }

    func object<K: KubeObject>(_ type: K.Type, _ text: String) throws -> K { K(json: try JSON.parse(text)) }

    func list<K: KubeObject>(_ type: K.Type) async throws -> [K] {
        try await client.list(type).items.sorted { $0.metadata.name < $1.metadata.name }
    }

    /// What a kubelet reports of a pod that works.
    func makeReady(_ pod: Pod) async throws {
        let now = KubeTime.text(SystemTime().now())
        var condition: JSON = ["type": "Ready", "status": "True"]
        condition["lastTransitionTime"] = .string(now)
        try await client.patch(
            Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .strategic,
            ["status": ["phase": "Running", "conditions": [condition]]], subresource: "status")
    }

    func makeAllReady() async throws {
        for pod in try await list(Pod.self) where !pod.isReady && pod.isActive { try await makeReady(pod) }
    }

    func finish(_ pod: Pod, phase: String, exitCode: Int = 0) async throws {
        try await client.patch(
            Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, .merge,
            [
                "status": [
                    "phase": .string(phase),
                    "containerStatuses": [["name": "c", "state": ["terminated": ["exitCode": JSON(exitCode)]]]],
                ]
            ], subresource: "status")
    }
}
