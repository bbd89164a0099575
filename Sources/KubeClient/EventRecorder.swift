public import KubeTypes
import KubeMeta
import JSON
import Synchronization

/// Writes Events about objects. Equal events are folded into one with a count, and a noisy source is held back, as upstream does.
public final class EventRecorder: Sendable {
    public enum EventType: String, Sendable { case normal = "Normal", warning = "Warning" }

    private struct Known {
        var name: String
        var namespace: String
        var count: Int
    }

    /// Folded events that are remembered; the oldest half goes when there are more.
    private static let knownMax = 4096
    /// Events about one object in a row, and how many come back a second (upstream's spam filter: burst 25, one in 5 minutes).
    private static let burstMax = 25.0
    private static let refillPerSecond = 1.0 / 300

    private struct State {
        var known: [String: Known] = [:]
        var order: [String] = []
        var budget: [String: (tokens: Double, at: Double)] = [:]
    }

    private let client: KubeClient
    private let component: String
    private let host: String
    private let state = Mutex(State())

    /// - Parameters:
    ///   - component: for example `deployment-controller`; shown in `source.component`.
    ///   - host: the node, for components that run on one.
    public init(client: KubeClient, component: String, host: String = "") {
        self.client = client
        self.component = component
        self.host = host
    }

    /// Records an event; returns at once. Failures are not retried: an event is a hint, not state.
    public func record(_ type: EventType, about reference: ObjectReference, reason: String, message: String) {
        Task { await write(type, reference, reason, message) }
    }

    public func record(_ type: EventType, about object: some KubeObject, reason: String, message: String) {
        record(type, about: object.objectReference, reason: reason, message: message)
    }

    private func write(_ type: EventType, _ reference: ObjectReference, _ reason: String, _ message: String) async {
        let now = client.time.now()
        let time = KubeTime.text(now)
        let namespace = reference.namespace.isEmpty ? "default" : reference.namespace
        let source = "\(reference.kind)/\(namespace)/\(reference.name)/\(reference.uid)"
        let key = "\(source)/\(type.rawValue)/\(reason)/\(message)/\(reference.fieldPath)"
        let name = "\(reference.name).\(String(UInt64(now * 1_000_000_000), radix: 16))"
        let known: Known? = state.withLock { state in
            var budget = state.budget[source] ?? (Self.burstMax, now)
            budget.tokens = min(Self.burstMax, budget.tokens + (now - budget.at) * Self.refillPerSecond)
            budget.at = now
            guard budget.tokens >= 1 else { return Known(name: "", namespace: "", count: 0) }
            budget.tokens -= 1
            state.budget[source] = budget
            if var entry = state.known[key] {
                entry.count += 1
                state.known[key] = entry
                return entry
            }
            if state.order.count >= Self.knownMax {
                for old in state.order.prefix(Self.knownMax / 2) { state.known[old] = nil }
                state.order.removeFirst(Self.knownMax / 2)
                state.budget = [:]
            }
            state.known[key] = Known(name: name, namespace: namespace, count: 1)
            state.order.append(key)
            return nil
        }
        if let known {
            if known.name.isEmpty { return }
            let patch: JSON = ["count": JSON(known.count), "lastTimestamp": .string(time), "message": .string(message)]
            do {
                try await client.patch(Event.self, namespace: known.namespace, name: known.name, .strategic, patch)
                return
            } catch {
                // The event has expired: it is written anew below.
            }
        }
        var event = Event()
        event.metadata.name = name
        event.metadata.namespace = namespace
        event.involvedObject = reference
        event.reason = reason
        event.message = message
        event.type = type.rawValue
        event.count = known?.count ?? 1
        event.firstTimestamp = time
        event.lastTimestamp = time
        var eventSource = EventSource()
        eventSource.component = component
        eventSource.host = host.isEmpty ? nil : host
        event.source = eventSource
        event.reportingComponent = component
        event.reportingInstance = host
        _ = try? await client.create(event)
        state.withLock { if $0.known[key] != nil { $0.known[key]?.name = name } }
    }
}
