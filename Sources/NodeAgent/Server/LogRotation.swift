import CRI
import Glibc
import KubeMeta

/// Keeps container logs bounded: a log over the limit is renamed and the runtime opens a new one; the oldest ones go.
struct LogRotation: Sendable {
    private static let periodSeconds = 10.0
    let context: AgentContext
    let manager: PodManager

    func run() async {
        while !Task.isCancelled {
            if (try? await context.time.sleep(seconds: Self.periodSeconds)) == nil { return }
            await context.gate.pass()
            for worker in await manager.allWorkers {
                for record in await worker.snapshot.runtime.running where !record.logPath.isEmpty { await rotate(record) }
            }
        }
    }

    private func rotate(_ record: ContainerRecord) async {
        let path = record.logPath, bytesMax = context.configuration.containerLogBytesMax, filesMax = context.configuration.containerLogFilesMax
        let stamp = LogRotation.stamp(context.time.now())
        let renamed = try? await Blocking.run { () -> Bool in
            var info = stat()
            guard stat(path, &info) == 0, info.st_size > bytesMax else { return false }
            for old in LogRotation.surplus(Files.list(LogRotation.folder(path)), log: LogRotation.name(path), filesMax: filesMax) {
                unlink(LogRotation.folder(path) + "/" + old)
            }
            return rename(path, path + "." + stamp) == 0
        }
        guard renamed == true else { return }
        do {
            try await context.runtime.reopenContainerLog(record.id)
        } catch {
            // Without a new file the runtime goes on writing to the renamed one: it gets its name back.
            _ = try? await Blocking.run { rename(path + "." + stamp, path) }
        }
    }

    /// Rotated files beyond the newest, so that with the live one and the one about to be rotated there are `filesMax`.
    static func surplus(_ names: [String], log: String, filesMax: Int) -> [String] {
        let rotated = names.filter { $0.hasPrefix(log + ".") }.sorted()
        return Array(rotated.dropLast(max(0, filesMax - 2)))
    }

    /// `20261123-170405`.
    static func stamp(_ seconds: Double) -> String {
        let digits = KubeTime.text(seconds).filter(\.isNumber)
        return "\(digits.prefix(8))-\(digits.dropFirst(8))"
    }

    private static func folder(_ path: String) -> String { path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "." }
    private static func name(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? path }
}
