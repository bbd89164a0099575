import Glibc

/// Writes a set of files so that a reader sees all old or all new ones: files live in a dated folder, `..data` points to it, and the
/// visible names point through `..data`. One rename swaps everything.
package enum AtomicWriter {
    package struct File: Equatable, Sendable {
        package var bytes: [UInt8]
        package var mode: UInt32
        /// Nil: as the folder (root). Tokens of pods without fsGroup belong to the container's user.
        package var owner: UInt32?

        package init(bytes: [UInt8], mode: UInt32, owner: UInt32? = nil) {
            self.bytes = bytes
            self.mode = mode
            self.owner = owner
        }
    }

    package static let dataLink = "..data"

    /// Path inside the volume -> file. Returns true when something changed. Blocks.
    @discardableResult
    package static func write(_ files: [String: File], to directory: String, group: UInt32?) throws(AgentError) -> Bool {
        for path in files.keys { try check(path) }
        let link = directory + "/" + dataLink
        let current = readLink(link)
        if let current, holds(directory + "/" + current, files) { return false }

        let folder = try makeFolder(directory)
        let path = directory + "/" + folder
        for (name, file) in files {
            if let slash = name.lastIndex(of: "/") { try Files.makeDirectories(path + "/" + name[..<slash]) }
            try Files.write(file.bytes, to: path + "/" + name, mode: file.mode)
            if let owner = file.owner, lchown(path + "/" + name, owner, UInt32.max) != 0 { throw Files.failure("chown", name) }
        }
        if let group { Ownership.apply(group: group, to: path, readOnly: true) }

        let temporary = directory + "/..data_tmp"
        unlink(temporary)
        if symlink(folder, temporary) != 0 { throw Files.failure("symlink", temporary) }
        if rename(temporary, link) != 0 { throw Files.failure("rename", link) }

        let visible = Set(files.keys.map { String($0.prefix { $0 != "/" }) })
        for name in visible where readLink(directory + "/" + name) == nil {
            unlink(directory + "/" + name)
            if symlink(dataLink + "/" + name, directory + "/" + name) != 0 { throw Files.failure("symlink", name) }
        }
        for name in Files.list(directory) where !name.hasPrefix("..") && !visible.contains(name) { unlink(directory + "/" + name) }
        if let current { try? Files.removeTree(directory + "/" + current) }
        return true
    }

    /// Paths come from the API: validated there, checked again here because a mistake would write outside the volume.
    private static func check(_ path: String) throws(AgentError) {
        guard !path.isEmpty, !path.hasPrefix("/"), path.utf8.count <= 4096,
            !path.split(separator: "/").contains(where: { $0 == ".." || $0.utf8.count > 255 }), !path.hasPrefix("..")
        else { throw AgentError("invalid path: \(path)") }
    }

    private static func makeFolder(_ directory: String) throws(AgentError) -> String {
        for attempt in 0..<100 {
            var now = timespec()
            clock_gettime(CLOCK_REALTIME, &now)
            let name = "..\(now.tv_sec)_\(now.tv_nsec)_\(attempt)"
            if mkdir(directory + "/" + name, 0o755) == 0 { return name }
            if errno != EEXIST { throw Files.failure("mkdir", directory + "/" + name) }
        }
        throw AgentError("mkdir \(directory): too many attempts")
    }

    package static func readLink(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes { raw in raw.baseAddress.map { readlink(path, $0, raw.count) } ?? -1 }
        return count > 0 ? String(decoding: buffer[0..<count], as: UTF8.self) : nil
    }

    private static func holds(_ folder: String, _ files: [String: File]) -> Bool {
        var found = 0
        func count(_ path: String) {
            for name in Files.list(path) {
                if Files.isDirectory(path + "/" + name) { count(path + "/" + name) } else { found += 1 }
            }
        }
        count(folder)
        guard found == files.count else { return false }
        return files.allSatisfy { name, file in
            var info = stat()
            guard lstat(folder + "/" + name, &info) == 0, info.st_size == file.bytes.count else { return false }
            return Files.read(folder + "/" + name, bytesMax: 8 << 20) == file.bytes
        }
    }
}

/// `fsGroup`: the volume belongs to the group, whose members may do what the owner may.
package enum Ownership {
    package static func apply(group: UInt32, to path: String, readOnly: Bool, onlyIfRootDiffers: Bool = false) {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        if onlyIfRootDiffers, info.st_gid == group, info.st_mode & S_ISGID != 0, info.st_mode & 0o060 == 0o060 || readOnly { return }
        visit(path, group, readOnly)
    }

    private static func visit(_ path: String, _ group: UInt32, _ readOnly: Bool) {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        lchown(path, UInt32.max, group)
        let kind = info.st_mode & S_IFMT
        if kind == S_IFLNK { return }
        var mode = info.st_mode & 0o7777 | (readOnly ? 0o440 : 0o660)
        if kind == S_IFDIR { mode |= S_ISGID | 0o110 }
        chmod(path, mode)
        if kind == S_IFDIR { for name in Files.list(path) { visit(path + "/" + name, group, readOnly) } }
    }
}
