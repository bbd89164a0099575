import CMalloc
import KubeMeta

/// Keeps the allocator from holding on to what start-up and bursts left behind.
enum Memory {
    /// glibc gives each thread an arena of its own, up to eight a core; two serve as well here and waste far less.
    private static let arenasMax: Int32 = 2
    private static let firstTrimSeconds = 2.0
    private static let trimSeconds = 60.0

    /// Called once, before threads are made.
    static func configure() { _ = mallopt(M_ARENA_MAX, arenasMax) }

    /// Gives free pages back now and then, until the task is cancelled.
    static func trimLoop() async {
        let time = SystemTime()
        var seconds = firstTrimSeconds
        while (try? await time.sleep(seconds: seconds)) != nil {
            _ = malloc_trim(0)
            seconds = trimSeconds
        }
    }
}
