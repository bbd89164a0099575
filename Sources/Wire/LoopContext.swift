import Glibc
package import NIOCore

/// What belongs to one event loop: a task executor that keeps a request's task on the loop's own thread (no thread hops
/// between the socket, the handler and the answer), and the `Date` header of the current second.
package final class LoopContext: TaskExecutor, @unchecked Sendable {
    // @unchecked: the cached date is touched on the loop only.
    package let eventLoop: any EventLoop
    private var dateSecond = 0
    private var dateLine = ""

    package init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    package func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// The value of the `Date` header (RFC 9110, IMF-fixdate). Call on the loop.
    var date: String {
        var now = time(nil)
        if now != dateSecond {
            var parts = tm()
            gmtime_r(&now, &parts)
            dateSecond = now
            dateLine = Self.format(parts)
        }
        return dateLine
    }

    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

    private static func format(_ parts: tm) -> String {
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) \(1900 + parts.tm_year) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
