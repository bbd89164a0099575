import Store
import Synchronization
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Holds a data folder for one store: `flock` on `DIR/lock`, which the kernel releases when the process dies.
final class DataFolderLock: Sendable {
    private let descriptor: Mutex<Int32>

    init(folder: String) throws(StoreError) {
        try Self.makeFolder(folder)
        let path = folder + "/lock"
        let opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard opened >= 0 else { throw .unavailable("cannot open \(path): \(String(cString: strerror(errno)))") }
        guard flock(opened, LOCK_EX | LOCK_NB) == 0 else {
            var text = [UInt8](repeating: 0, count: 32)
            let count = read(opened, &text, text.count)
            close(opened)
            let owner = String(decoding: text.prefix(max(0, count)).prefix { $0 != 0x0a }, as: UTF8.self)
            throw .unavailable("data folder \(folder) is in use by process \(owner.isEmpty ? "unknown" : owner)")
        }
        let owner = Array("\(getpid())\n".utf8)
        ftruncate(opened, 0)
        _ = write(opened, owner, owner.count)
        descriptor = Mutex(opened)
    }

    deinit { release() }

    func release() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }

    /// Makes the folder and its parents, readable by the owner only.
    private static func makeFolder(_ folder: String) throws(StoreError) {
        var path = folder.hasPrefix("/") ? "" : "."
        for part in folder.split(separator: "/") {
            path += "/" + part
            if mkdir(path, 0o700) != 0 && errno != EEXIST {
                throw .unavailable("cannot make folder \(path): \(String(cString: strerror(errno)))")
            }
        }
    }
}
