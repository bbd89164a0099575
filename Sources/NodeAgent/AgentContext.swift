import CRI
import Cgroup
import KubeClient
import KubeMeta
import KubeTypes
import Logging
import NIOPosix

/// What every part of the agent shares.
struct AgentContext: Sendable {
    let configuration: NodeAgentConfiguration
    let client: KubeClient
    let runtime: CRIClient
    let cgroups: CgroupHierarchy?
    let recorder: EventRecorder
    let pods: Informer<Pod>
    let services: Informer<Service>
    let slices: Informer<EndpointSlice>
    let node: Informer<Node>
    let images: ImageManager
    let objects: ObjectCaches
    let tokens: TokenCache
    let http: HookClient
    let facts: NodeFacts
    let logger: Logger
    let gate: RunGate

    var time: any TimeSource { client.time }

    func podDirectory(_ uid: String) -> String { "\(configuration.rootDirectory)/pods/\(uid)" }
    func podLogDirectory(_ pod: Pod) -> String {
        "\(configuration.podLogsDirectory)/\(pod.metadata.namespace)_\(pod.metadata.name)_\(pod.metadata.uid)"
    }

    /// An event about a pod, or about one of its containers.
    func event(_ type: EventRecorder.EventType, _ pod: Pod, container: String? = nil, reason: String, _ message: String) {
        var reference = pod.objectReference
        if let container { reference.fieldPath = pod.fieldPath(ofContainer: container) }
        recorder.record(type, about: reference, reason: reason, message: message)
    }

    func nodeEvent(_ type: EventRecorder.EventType, reason: String, _ message: String) {
        var reference = ObjectReference()
        reference.kind = "Node"
        reference.apiVersion = "v1"
        reference.name = configuration.nodeName
        reference.uid = configuration.nodeName
        recorder.record(type, about: reference, reason: reason, message: message)
    }
}

/// Calls that block (files, mounts, cgroups) run on threads of their own.
enum Blocking {
    static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive(body)
    }
}

/// A failure with a text for users, as it goes into an event.
package struct AgentError: Error, CustomStringConvertible, Sendable, Equatable {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// A value with some members set, in one expression.
func configured<Value>(_ value: Value, _ body: (inout Value) -> Void) -> Value {
    var value = value
    body(&value)
    return value
}
