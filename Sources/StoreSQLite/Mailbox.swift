#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A bounded queue into one or more threads of our own. Never used from the consumer side on the cooperative pool.
///
/// `@unchecked Sendable`: `elements` and `closed` are touched only with `mutex` held; a condition variable is needed, which
/// `Synchronization.Mutex` does not offer.
final class Mailbox<Element: Sendable>: @unchecked Sendable {
    enum PutResult { case accepted, full, closed }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let capacity: Int
    private var elements: [Element] = []
    private var closed = false

    init(capacity: Int) {
        self.capacity = capacity
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Adds an element; `closing` shuts the mailbox behind it (it is taken even when the queue is full).
    func put(_ element: Element, closing: Bool = false) -> PutResult {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if closed { return .closed }
        if !closing && elements.count >= capacity { return .full }
        elements.append(element)
        closed = closing
        pthread_cond_signal(condition)
        return .accepted
    }

    /// No element is taken any more; consumers see the rest and then the end.
    func close() {
        pthread_mutex_lock(mutex)
        closed = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// What waits, at most `limit`; an empty array after `milliseconds` without anything.
    func take(upTo limit: Int, waitingMilliseconds milliseconds: Int) -> [Element] {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if elements.isEmpty && !closed && milliseconds > 0 {
            var deadline = timespec()
            clock_gettime(CLOCK_REALTIME, &deadline)
            let nanoseconds = deadline.tv_nsec + (milliseconds % 1000) * 1_000_000
            deadline.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
            deadline.tv_nsec = nanoseconds % 1_000_000_000
            while elements.isEmpty && !closed {
                if pthread_cond_timedwait(condition, mutex, &deadline) != 0 { break }
            }
        }
        if elements.count <= limit {
            var taken: [Element] = []
            swap(&taken, &elements)
            return taken
        }
        let taken = Array(elements.prefix(limit))
        elements.removeFirst(limit)
        return taken
    }

    /// The next element; `nil` when the mailbox is closed and empty.
    func takeOne() -> Element? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while elements.isEmpty && !closed { pthread_cond_wait(condition, mutex) }
        return elements.isEmpty ? nil : elements.removeFirst()
    }

    var count: Int {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return elements.count
    }
}

/// Runs `body` on a thread of its own, so that blocking in SQLite never holds a thread of the cooperative pool.
func startThread(_ body: @escaping @Sendable () -> Void) throws(ThreadStartFailure) {
    let box = Unmanaged.passRetained(ThreadBody(body))
    #if canImport(Glibc)
    var thread = pthread_t()
    #else
    var thread: pthread_t?
    #endif
    let code = pthread_create(&thread, nil, { context in
        #if canImport(Glibc)
        guard let context else { return nil }
        #endif
        Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().body()
        return nil
    }, box.toOpaque())
    guard code == 0 else {
        box.release()
        throw ThreadStartFailure(code: code)
    }
    #if canImport(Glibc)
    pthread_detach(thread)
    #else
    if let thread { pthread_detach(thread) }
    #endif
}

struct ThreadStartFailure: Error { let code: Int32 }

private final class ThreadBody {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// Monotonic time for latencies.
func monotonicMicroseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Int64(now.tv_sec) * 1_000_000 + Int64(now.tv_nsec) / 1000
}
