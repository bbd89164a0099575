import Glibc

/// File operations with errors in Go's words. They block: call them through `Blocking`.
enum Files {
    static func failure(_ operation: String, _ path: String) -> AgentError {
        AgentError("\(operation) \(path): \(String(cString: strerror(errno)).lowercasedFirst)")
    }

    static func isDirectory(_ path: String) -> Bool { type(path) == S_IFDIR }

    /// File type bits, following links; nil when there is nothing.
    static func type(_ path: String) -> mode_t? {
        var info = stat()
        return stat(path, &info) == 0 ? info.st_mode & S_IFMT : nil
    }

    static func makeDirectories(_ path: String, mode: mode_t = 0o755) throws(AgentError) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/" + part
            if mkdir(made, mode) != 0, errno != EEXIST { throw failure("mkdir", made) }
        }
    }

    static func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws(AgentError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw failure("write", path) }
            rest = rest.dropFirst(count)
        }
        // The umask must not take bits away.
        if fchmod(descriptor, mode) != 0 { throw failure("chmod", path) }
    }

    static func read(_ path: String, bytesMax: Int = 1 << 20) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < bytesMax {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { break }
            bytes.append(contentsOf: buffer[0..<count])
        }
        return bytes
    }

    static func readText(_ path: String) -> String { String(decoding: read(path) ?? [], as: UTF8.self) }

    static func list(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { raw in String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes a tree, never through a link and never across a mount.
    static func removeTree(_ path: String) throws(AgentError) {
        var info = stat()
        guard lstat(path, &info) == 0 else {
            if errno == ENOENT { return }
            throw failure("lstat", path)
        }
        try removeTree(path, device: info.st_dev)
    }

    private static func removeTree(_ path: String, device: dev_t) throws(AgentError) {
        var info = stat()
        guard lstat(path, &info) == 0 else { return }
        if info.st_mode & S_IFMT == S_IFDIR {
            guard info.st_dev == device else { throw AgentError("\(path): is a mount point, not removed") }
            for name in list(path) { try removeTree(path + "/" + name, device: device) }
            if rmdir(path) != 0, errno != ENOENT { throw failure("rmdir", path) }
        } else if unlink(path) != 0, errno != ENOENT {
            throw failure("unlink", path)
        }
    }

    // MARK: mounts

    static func isMountPoint(_ path: String) -> Bool { mountPoints().contains(path) }

    static func mountPoints() -> [String] {
        readLarge("/proc/self/mountinfo").split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 4 ? unescaped(fields[4]) : nil
        }
    }

    private static func readLarge(_ path: String) -> String { String(decoding: read(path, bytesMax: 16 << 20) ?? [], as: UTF8.self) }

    /// The kernel writes space, tab, newline and backslash as three octal digits.
    private static func unescaped(_ text: Substring) -> String {
        guard text.contains("\\") else { return String(text) }
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), rest.count >= 3, let code = UInt8(String(decoding: rest.prefix(3), as: UTF8.self), radix: 8) {
                bytes.append(code)
                rest.removeFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    static func bindMount(_ source: String, _ target: String) throws(AgentError) {
        if mount(source, target, nil, UInt(MS_BIND), nil) != 0 { throw failure("mount", target) }
    }

    static func mountTmpfs(_ target: String, options: String) throws(AgentError) {
        if mount("tmpfs", target, "tmpfs", 0, options) != 0 { throw failure("mount", target) }
    }

    static func unmount(_ target: String) throws(AgentError) {
        if umount2(target, Int32(MNT_DETACH)) != 0, errno != EINVAL, errno != ENOENT { throw failure("umount", target) }
    }

    /// Space of the filesystem that holds `path`.
    static func space(_ path: String) -> FilesystemSpace? {
        var info = statvfs()
        guard statvfs(path, &info) == 0 else { return nil }
        let block = UInt64(info.f_frsize)
        return FilesystemSpace(
            capacityBytes: UInt64(info.f_blocks) * block, availableBytes: UInt64(info.f_bavail) * block,
            usedBytes: (UInt64(info.f_blocks) - UInt64(info.f_bfree)) * block, inodes: UInt64(info.f_files), inodesFree: UInt64(info.f_favail))
    }
}

struct FilesystemSpace: Sendable {
    var capacityBytes: UInt64
    var availableBytes: UInt64
    var usedBytes: UInt64
    var inodes: UInt64
    var inodesFree: UInt64
}

extension String {
    fileprivate var lowercasedFirst: String { prefix(1).lowercased() + dropFirst() }
}
