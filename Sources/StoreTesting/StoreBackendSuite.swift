package import Store
import Synchronization

/// One broken rule of the store contract.
package struct ContractViolation: Error, CustomStringConvertible {
    package let description: String
    init(_ description: String) { self.description = description }
}

/// The rules every backend keeps, one function each. A function gets a fresh, empty backend and throws a `ContractViolation`.
package enum StoreBackendSuite {
    package typealias Rule = @Sendable (any StoreBackend) async throws -> Void

    /// All rules by name, for a parameterized test.
    package static let rules: [(name: String, rule: Rule)] = [
        ("an empty store is at revision 1", emptyStore),
        ("a create needs an absent key", createNeedsAbsentKey),
        ("a compare-and-swap needs the newest revision", compareAndSwap),
        ("a delete of an absent key is a conflict", deleteOfAbsentKey),
        ("each write has its own revision, versions count", revisionsGrow),
        ("a transaction is all or nothing with one revision", transactions),
        ("a range pages in key order and stays at its revision", rangePages),
        ("a read at an old revision shows the old state", readsInThePast),
        ("a revision that is not written yet is refused", futureRevision),
        ("a watch sees history, then live events, without gap", watchFromHistory),
        ("a watch is told before the writer returns", watchBeforeReturn),
        ("a watch of one prefix sees only that prefix, deletes carry the last value", watchPrefixAndDelete),
        ("watches under concurrent writers have no gap, no duplicate, and are in order", watchUnderLoad),
        ("of many writers with the same revision one wins", oneWinner),
        ("compaction forgets the past and keeps the present", compaction),
        ("values of any bytes and any size come back", values),
    ]

    static func expect(_ condition: Bool, _ message: @autoclosure () -> String) throws {
        if !condition { throw ContractViolation(message()) }
    }

    static func expectError(
        _ what: String, _ matches: (StoreError) -> Bool, _ body: () async throws(StoreError) -> Void
    ) async throws {
        do throws(StoreError) {
            try await body()
        } catch {
            try expect(matches(error), "\(what): wrong error \(error)")
            return
        }
        throw ContractViolation("\(what): no error")
    }

    static func isConflict(_ error: StoreError) -> Bool {
        if case .conflict = error { true } else { false }
    }

    static func isCompacted(_ error: StoreError) -> Bool {
        if case .compacted = error { true } else { false }
    }

    static func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
}

/// Collects what a watch delivers and checks the order as it comes.
package final class RecordingObserver: StoreObserver {
    private struct State {
        var events: [StoreEvent] = []
        var upTo: Revision = 0
        var violation: String?
        var ended: StoreError?
    }
    private let state = Mutex(State())

    package init() {}

    package func receive(_ events: [StoreEvent], upTo revision: Revision) {
        state.withLock { state in
            for event in events {
                if event.record.modRevision <= state.upTo { state.violation = "event \(event.record.modRevision) after upTo \(state.upTo)" }
                if let last = state.events.last, last.record.modRevision > event.record.modRevision {
                    state.violation = "event \(event.record.modRevision) after \(last.record.modRevision)"
                }
                if event.record.modRevision > revision { state.violation = "event beyond upTo \(revision)" }
                state.events.append(event)
            }
            if revision < state.upTo { state.violation = "upTo went back from \(state.upTo) to \(revision)" }
            state.upTo = revision
        }
    }

    package func ended(_ error: StoreError) { state.withLock { $0.ended = error } }

    package var events: [StoreEvent] { state.withLock { $0.events } }
    package var upTo: Revision { state.withLock { $0.upTo } }
    package var violation: String? { state.withLock { $0.violation } }
    package var endedWith: StoreError? { state.withLock { $0.ended } }
}
