/// Pods that wait for a node: the active ones in order of priority and age, those backing off after a failure, and those that nothing
/// has changed for yet. Owned by the scheduling loop.
struct SchedulingQueue {
    private struct Entry {
        var pod: PodInfo
        var attempts: Int
        var addedSeconds: Double
        var sequence: UInt64
    }

    private enum Place { case active, backOff, unschedulable }

    static let backOffSecondsFirst = 1.0
    static let backOffSecondsMax = 10.0
    /// After this long a pod is tried again even if no event said so.
    static let unschedulableSecondsMax = 300.0

    private var entries: [String: (entry: Entry, place: Place, due: Double)] = [:]
    private var heap: [(priority: Int, sequence: UInt64, uid: String)] = []
    private var sequence: UInt64 = 0
    /// Attempts of pods that are in no list because they are being bound.
    private var attempts: [String: Int] = [:]
    private var nextDue = Double.infinity

    var isEmpty: Bool { entries.isEmpty }
    var counts: (active: Int, backOff: Int, unschedulable: Int) {
        var result = (0, 0, 0)
        for entry in entries.values {
            switch entry.place {
            case .active: result.0 += 1
            case .backOff: result.1 += 1
            case .unschedulable: result.2 += 1
            }
        }
        return result
    }

    /// The earliest moment at which a pod comes back by itself.
    var nextDueSeconds: Double? { nextDue.isFinite ? nextDue : nil }

    /// Adds a pod, or takes over its new form.
    mutating func add(_ pod: PodInfo, now: Double) {
        if let known = entries[pod.uid] {
            // Something about the pod itself changed, which may be what it waited for.
            entries[pod.uid] = (
                Entry(pod: pod, attempts: known.entry.attempts, addedSeconds: known.entry.addedSeconds, sequence: known.entry.sequence),
                known.place, known.due
            )
            if known.place == .unschedulable { activate(pod.uid, now: now) }
            return
        }
        sequence += 1
        entries[pod.uid] = (
            Entry(pod: pod, attempts: attempts.removeValue(forKey: pod.uid) ?? 0, addedSeconds: now, sequence: sequence), .active, 0
        )
        push(pod.priority, sequence, pod.uid)
    }

    /// Takes over a new form of a waiting pod without trying it sooner (its status changed).
    mutating func refresh(_ pod: PodInfo) {
        guard let known = entries[pod.uid] else { return }
        entries[pod.uid] = (
            Entry(pod: pod, attempts: known.entry.attempts, addedSeconds: known.entry.addedSeconds, sequence: known.entry.sequence),
            known.place, known.due
        )
    }

    func pod(_ uid: String) -> PodInfo? { entries[uid]?.entry.pod }
    mutating func remove(_ uid: String) { entries[uid] = nil; attempts[uid] = nil }
    mutating func forget(_ uid: String) { attempts[uid] = nil }

    mutating func pop() -> PodInfo? {
        while let top = popHeap() {
            guard let known = entries[top.uid], known.place == .active, known.entry.sequence == top.sequence else { continue }
            entries[top.uid] = nil
            attempts[top.uid] = known.entry.attempts + 1
            return known.entry.pod
        }
        return nil
    }

    /// Puts a pod back that found no node; an event brings it back.
    mutating func putUnschedulable(_ pod: PodInfo, now: Double) {
        put(pod, .unschedulable, due: now + Self.unschedulableSecondsMax, now: now)
    }

    /// Puts a pod back after an error; it is tried again after its delay.
    mutating func putBackOff(_ pod: PodInfo, now: Double) { put(pod, .backOff, due: now + backOff(attempts[pod.uid] ?? 1), now: now) }

    private mutating func put(_ pod: PodInfo, _ place: Place, due: Double, now: Double) {
        sequence += 1
        entries[pod.uid] = (
            Entry(pod: pod, attempts: attempts.removeValue(forKey: pod.uid) ?? 1, addedSeconds: now, sequence: sequence), place, due
        )
        nextDue = min(nextDue, due)
    }

    private func backOff(_ attempts: Int) -> Double {
        min(Self.backOffSecondsMax, Self.backOffSecondsFirst * Double(1 << min(max(0, attempts - 1), 10)))
    }

    /// Something changed that may make pods fit.
    mutating func moveAll(now: Double, where condition: (PodInfo) -> Bool = { _ in true }) {
        for (uid, known) in entries where known.place == .unschedulable && condition(known.entry.pod) { activate(uid, now: now) }
    }

    private mutating func activate(_ uid: String, now: Double) {
        guard var known = entries[uid] else { return }
        let due = known.entry.addedSeconds + backOff(known.entry.attempts)
        if due > now {
            known.place = .backOff
            known.due = due
            nextDue = min(nextDue, due)
        } else {
            known.place = .active
            push(known.entry.pod.priority, known.entry.sequence, uid)
        }
        entries[uid] = known
    }

    /// Brings pods back whose time has come.
    mutating func flush(now: Double) {
        guard now >= nextDue else { return }
        nextDue = .infinity
        for (uid, known) in entries where known.place != .active {
            if known.due <= now {
                entries[uid]?.place = .active
                push(known.entry.pod.priority, known.entry.sequence, uid)
            } else {
                nextDue = min(nextDue, known.due)
            }
        }
    }

    // MARK: Heap, the highest priority first, then the oldest

    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        heap[left].priority != heap[right].priority
            ? heap[left].priority > heap[right].priority : heap[left].sequence < heap[right].sequence
    }

    private mutating func push(_ priority: Int, _ sequence: UInt64, _ uid: String) {
        heap.append((priority, sequence, uid))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard isBefore(child, parent) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func popHeap() -> (priority: Int, sequence: UInt64, uid: String)? {
        guard let top = heap.first, let last = heap.popLast() else { return nil }
        if heap.isEmpty { return top }
        heap[0] = last
        var parent = 0
        while true {
            let left = parent * 2 + 1
            guard left < heap.count else { break }
            let right = left + 1
            let child = right < heap.count && isBefore(right, left) ? right : left
            guard isBefore(child, parent) else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return top
    }
}
