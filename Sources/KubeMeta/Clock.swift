#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The seam for time: components read the wall clock and sleep only through this, so that a test can run them on virtual time.
public protocol TimeSource: Sendable {
    /// Seconds since 1970, with a fraction.
    func now() -> Double
    /// Sleeps; throws `CancellationError` when the task is cancelled.
    func sleep(seconds: Double) async throws
}

/// The machine's own clock.
public struct SystemTime: TimeSource {
    public init() {}

    public func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    public func sleep(seconds: Double) async throws {
        try await Task.sleep(nanoseconds: UInt64(max(0, seconds) * 1e9))
    }
}

/// A gate in a run loop that a drill or a test can hold shut.
public actor RunGate {
    private var held = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    public init() {}

    /// Returns at once unless the gate is held.
    public func pass() async {
        guard held else { return }
        await withCheckedContinuation { waiting.append($0) }
    }

    public func hold() { held = true }

    public func release() {
        held = false
        for continuation in waiting { continuation.resume() }
        waiting = []
    }
}
