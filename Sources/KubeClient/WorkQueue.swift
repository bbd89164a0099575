public import KubeMeta
import Logging

/// A queue of keys to be worked on: each key waits once however often it is added, and is never worked on twice at a time. Failed keys
/// come back with exponential delay.
public actor WorkQueue<Key: Hashable & Sendable> {
    public struct Statistics: Sendable {
        public var waiting: Int
        public var running: Int
        public var processed: Int
        public var retried: Int
        /// Seconds since 1970 at which the loop last finished a key; 0 before the first.
        public var lastProgressSeconds: Double
        /// Keys that failed several times in a row, with the last error.
        public var failing: [Key: String]
    }

    private static var retrySecondsBase: Double { 0.005 }
    private static var retrySecondsMax: Double { 60 }
    /// A key that failed this often in a row is listed in the statistics.
    private static var failingAttemptsMin: Int { 5 }

    public nonisolated let name: String
    public nonisolated let gate = RunGate()
    private let time: any TimeSource
    private let logger: Logger
    private var ready: [Key] = []
    private var readyHead = 0
    private var queued: Set<Key> = []
    private var running: Set<Key> = []
    private var again: Set<Key> = []
    private var failures: [Key: Int] = [:]
    private var errors: [Key: String] = [:]
    private var delayed: [Key: (due: Double, task: Task<Void, Never>)] = [:]
    private var idle: [CheckedContinuation<Key?, Never>] = []
    private var processed = 0
    private var retried = 0
    private var lastProgressSeconds = 0.0
    private var closed = false

    public init(name: String, time: any TimeSource = SystemTime()) {
        self.name = name
        self.time = time
        logger = Logger(label: "queue.\(name)")
    }

    public func add(_ key: Key) {
        if closed { return }
        if running.contains(key) {
            again.insert(key)
            return
        }
        guard queued.insert(key).inserted else { return }
        if let waiter = idle.popLast() {
            queued.remove(key)
            running.insert(key)
            waiter.resume(returning: key)
        } else {
            ready.append(key)
        }
    }

    /// For informer handlers, which are not asynchronous.
    public nonisolated func enqueue(_ key: Key) { Task { await add(key) } }

    /// Adds the key later; an earlier date that is already set stays.
    public func add(_ key: Key, afterSeconds seconds: Double) {
        if closed { return }
        if seconds <= 0 {
            add(key)
            return
        }
        let due = time.now() + seconds
        if let existing = delayed[key] {
            if existing.due <= due { return }
            existing.task.cancel()
        }
        let time = time
        delayed[key] = (
            due,
            Task { [weak self] in
                do { try await time.sleep(seconds: seconds) } catch { return }
                await self?.delayEnded(key, due)
            }
        )
    }

    private func delayEnded(_ key: Key, _ due: Double) {
        guard delayed[key]?.due == due else { return }
        delayed[key] = nil
        add(key)
    }

    private func next() async -> Key? {
        if closed { return nil }
        if readyHead < ready.count {
            let key = ready[readyHead]
            readyHead += 1
            if readyHead > 256, readyHead * 2 > ready.count {
                ready.removeFirst(readyHead)
                readyHead = 0
            }
            queued.remove(key)
            running.insert(key)
            return key
        }
        ready.removeAll(keepingCapacity: true)
        readyHead = 0
        return await withCheckedContinuation { idle.append($0) }
    }

    private func done(_ key: Key, failed: (any Error)?) {
        running.remove(key)
        processed += 1
        lastProgressSeconds = time.now()
        if let failed {
            let attempts = failures[key, default: 0]
            failures[key] = attempts + 1
            errors[key] = "\(failed)"
            retried += 1
            again.remove(key)
            let delay = min(Self.retrySecondsMax, Self.retrySecondsBase * Double(1 << min(attempts, 20)))
            add(key, afterSeconds: delay)
            // A stale write is the ordinary course of things; the rest is worth a line once it repeats.
            if (failed as? APIStatus)?.isConflict != true, attempts >= 2 {
                logger.warning("\(name): sync of \(key) failed \(attempts + 1) times: \(failed)")
            }
        } else {
            failures[key] = nil
            errors[key] = nil
            if again.remove(key) != nil { add(key) }
        }
    }

    /// Works until the task is cancelled or the queue is closed.
    public func run(workers: Int, _ sync: @escaping @Sendable (Key) async throws -> Void) async {
        await withTaskCancellationHandler {
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<workers {
                    group.addTask { [self] in
                        while let key = await next() {
                            await gate.pass()
                            do {
                                try await sync(key)
                                await done(key, failed: nil)
                            } catch is CancellationError {
                                return
                            } catch {
                                await done(key, failed: error)
                            }
                        }
                    }
                }
            }
        } onCancel: {
            Task { await close() }
        }
    }

    public func close() {
        closed = true
        for (_, task) in delayed.values { task.cancel() }
        delayed = [:]
        for waiter in idle { waiter.resume(returning: nil) }
        idle = []
    }

    public var statistics: Statistics {
        Statistics(
            waiting: ready.count - readyHead, running: running.count, processed: processed, retried: retried,
            lastProgressSeconds: lastProgressSeconds,
            failing: errors.filter { failures[$0.key, default: 0] >= Self.failingAttemptsMin })
    }
}
