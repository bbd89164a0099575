/// A snapshot of a store's sizes and latencies.
package struct StoreStatistics: Sendable {
    /// The size of the data file, and of the write-ahead log beside it.
    package var bytes: Int64 = 0
    package var walBytes: Int64 = 0
    /// Live keys.
    package var records: Int64 = 0
    package var revision: Revision = 0
    /// The oldest revision that can still be read is `compactedRevision` itself (0: nothing was compacted).
    package var compactedRevision: Revision = 0
    /// Durable commits (one fsync each) and the write operations in them.
    package var commits: Int64 = 0
    package var writes: Int64 = 0
    /// Latency of the durable commits.
    package var commitLatency = LatencyHistogram()
    /// Running watches and the writes waiting for the writer.
    package var watches: Int = 0
    package var waiting: Int = 0

    package init() {}
}

/// Counts of durations in buckets of powers of two microseconds: fixed memory, cheap to add to.
package struct LatencyHistogram: Sendable {
    /// Bucket `i` counts durations below `2^i` microseconds; the last one (2^31 us, 36 minutes) also whatever is longer.
    package private(set) var counts = [Int64](repeating: 0, count: 32)
    package private(set) var total: Int64 = 0
    package private(set) var sumMicroseconds: Int64 = 0

    package init() {}

    package mutating func add(microseconds: Int64) {
        let value = max(0, microseconds)
        let bucket = min(counts.count - 1, Int64.bitWidth - value.leadingZeroBitCount)
        counts[bucket] += 1
        total += 1
        sumMicroseconds += value
    }

    /// The upper bound in microseconds of the bucket that holds the quantile (0.5, 0.99); 0 without a measurement.
    package func quantileMicroseconds(_ quantile: Double) -> Int64 {
        guard total > 0 else { return 0 }
        let wanted = Int64((Double(total) * quantile).rounded(.up))
        var seen: Int64 = 0
        for (bucket, count) in counts.enumerated() {
            seen += count
            if seen >= wanted { return 1 << Int64(bucket) }
        }
        return 1 << Int64(counts.count - 1)
    }

    package var p50Microseconds: Int64 { quantileMicroseconds(0.5) }
    package var p99Microseconds: Int64 { quantileMicroseconds(0.99) }
}
