import KubeClient
import KubeMeta
import KubeTypes

/// Lets a pod leave its Services before its containers are told to stop, so that no request meets a closed door.
///
/// Upstream sends the stop signal at once and leaves it to a preStop sleep to bridge the time until every node's proxy has heard. Here the
/// agent waits until the pod is no ready endpoint any more, and a moment for the proxies (docs/decisions/0011).
struct TrafficDrain: Sendable {
    /// The endpoint slice controller normally answers within milliseconds; a stopped one must not hold a pod.
    private static let endpointSecondsMax = 1.5
    /// From a slice's change to the rules of every node: a watch and a debounced update of ServiceProxy.
    private static let proxySeconds = 0.6
    private static let pollSeconds = 0.02
    /// With less grace than this the pod is to go at once.
    private static let graceSecondsMin = 2

    let slices: Informer<EndpointSlice>
    let time: any TimeSource

    static let podIndex = "node-agent.pod"

    static func prepare(_ slices: Informer<EndpointSlice>) {
        slices.addIndex(podIndex) { slice in slice.endpoints.compactMap { $0.targetRef?.uid } }
    }

    private func isEndpoint(_ uid: String) -> (listed: Bool, ready: Bool) {
        var listed = false
        for slice in slices.indexed(Self.podIndex, uid) {
            for endpoint in slice.endpoints where endpoint.targetRef?.uid == uid {
                listed = true
                if endpoint.conditions?.ready ?? true { return (true, true) }
            }
        }
        return (listed, false)
    }

    /// Returns at once for a pod behind no Service.
    func wait(_ pod: Pod, graceSeconds: Int) async {
        guard graceSeconds >= Self.graceSecondsMin, slices.isSynced, isEndpoint(pod.metadata.uid).listed else { return }
        let end = time.now() + Self.endpointSecondsMax
        do {
            while isEndpoint(pod.metadata.uid).ready, time.now() < end { try await time.sleep(seconds: Self.pollSeconds) }
            try await time.sleep(seconds: Self.proxySeconds)
        } catch {
            // Cancelled: the grace period was shortened.
        }
    }
}
