import Glibc

/// A volume's subPath made into a mount of its own. The container may change the volume at any time, so the path is walked with open
/// directories and without following links, and what is mounted is the open file itself.
package enum SubPath {
    /// Linux: an open place in the tree, not an open file (the C header hides it from Swift).
    private static let O_PATH: Int32 = 0o10000000

    /// Returns the path to mount into the container. Blocks.
    package static func prepare(volume: String, subPath: String, target: String, mode: UInt32 = 0o750) throws(AgentError) -> String {
        let parts = subPath.split(separator: "/").map(String.init).filter { $0 != "." }
        guard !subPath.hasPrefix("/"), !parts.contains("..") else { throw AgentError("subpath \"\(subPath)\" is not within the volume path \"\(volume)\"") }
        // A volume's root may itself be reached through links of the host (`..data` of a config map is inside and is handled below).
        var directory = open(volume, O_PATH | O_CLOEXEC)
        guard directory >= 0 else { throw Files.failure("open", volume) }
        defer { close(directory) }
        var isDirectory = true
        // Links inside the volume, as config maps have, are followed by resolving their text against the volume's root.
        var pending = parts
        var walked: [String] = []
        var linksLeft = 16
        while !pending.isEmpty {
            let part = pending.removeFirst()
            if part == "." || part.isEmpty { continue }
            if part == ".." { throw AgentError("subpath \"\(subPath)\" leads out of the volume") }
            var next = openat(directory, part, O_PATH | O_NOFOLLOW | O_CLOEXEC)
            if next < 0, errno == ENOENT {
                if mkdirat(directory, part, mode) != 0, errno != EEXIST { throw Files.failure("mkdir", volume + "/" + subPath) }
                next = openat(directory, part, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC)
                if next >= 0 { inherit(from: directory, to: next) }
            }
            guard next >= 0 else { throw Files.failure("open", volume + "/" + subPath) }
            var info = stat()
            fstat(next, &info)
            if info.st_mode & S_IFMT == S_IFLNK {
                close(next)
                linksLeft -= 1
                guard linksLeft > 0, let text = link(directory, part), !text.hasPrefix("/") else {
                    throw AgentError("subpath \"\(subPath)\" leads out of the volume by a symbolic link")
                }
                pending = text.split(separator: "/").map(String.init) + pending
                continue
            }
            close(directory)
            directory = next
            walked.append(part)
            isDirectory = info.st_mode & S_IFMT == S_IFDIR
            if !isDirectory, !pending.isEmpty { throw AgentError("subpath \"\(subPath)\": not a directory") }
        }
        // Made again at each start: the old mount may show a file that has been replaced.
        if Files.isMountPoint(target) { try Files.unmount(target) }
        if let slash = target.lastIndex(of: "/") { try Files.makeDirectories(String(target[..<slash]), mode: 0o750) }
        if isDirectory {
            if mkdir(target, 0o750) != 0, errno != EEXIST { throw Files.failure("mkdir", target) }
        } else {
            try Files.write([], to: target, mode: 0o640)
        }
        try Files.bindMount("/proc/self/fd/\(directory)", target)
        return target
    }

    /// A new folder belongs to the group of the one it is in (fsGroup).
    private static func inherit(from parent: Int32, to child: Int32) {
        var info = stat()
        guard fstat(parent, &info) == 0 else { return }
        let path = "/proc/self/fd/\(child)"
        if info.st_mode & S_ISGID != 0 {
            chown(path, UInt32.max, info.st_gid)
            chmod(path, 0o2770)
        } else {
            chmod(path, info.st_mode & 0o777)
        }
    }

    private static func link(_ directory: Int32, _ name: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { raw in raw.baseAddress.map { readlinkat(directory, name, $0, raw.count) } ?? -1 }
        return count > 0 ? String(decoding: buffer[0..<count], as: UTF8.self) : nil
    }
}
