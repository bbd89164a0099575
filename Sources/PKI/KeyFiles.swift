#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A file that is to be written.
struct KeyFile: Sendable {
    var name: String
    var text: String
    var isPrivate: Bool
}

/// Files that are either complete or absent: written beside, synced, renamed.
struct KeyFolder: Sendable {
    let path: String

    /// Makes the folder (and its parents), closed to others.
    init(path: String) throws {
        self.path = path
        var made = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            made += "/" + part
            if mkdir(made, 0o700) != 0 && errno != EEXIST { throw failure("make folder \(made)") }
        }
    }

    /// The text of a file, `nil` if there is none.
    func read(_ name: String) throws -> String? {
        let descriptor = open(path + "/" + name, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 {
            if errno == ENOENT { return nil }
            throw failure("open \(path)/\(name)")
        }
        defer { close(descriptor) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = readBytes(descriptor, &buffer, buffer.count)
            if count < 0 { throw failure("read \(path)/\(name)") }
            if count == 0 { return String(decoding: text, as: UTF8.self) }
            text += buffer.prefix(count)
            if text.count > maximumFileBytes { throw CertificateFailure("\(path)/\(name) is too large for a key file") }
        }
    }

    /// Replaces files in their order: all are written and synced beside the old ones, then renamed, then the renames are synced.
    func replace(_ files: [KeyFile]) throws {
        for file in files { try writeBeside(file) }
        for file in files {
            let target = path + "/" + file.name
            guard rename(target + ".new", target) == 0 else { throw failure("rename \(target).new") }
        }
        try sync()
    }

    /// Private files are readable by the owner only, from their first byte on.
    private func writeBeside(_ file: KeyFile) throws {
        let temporary = path + "/" + file.name + ".new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, file.isPrivate ? 0o600 : 0o644)
        guard descriptor >= 0 else { throw failure("create \(temporary)") }
        defer { close(descriptor) }
        var bytes = Array(file.text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { writeBytes(descriptor, $0.baseAddress, $0.count) }
            if count < 0 { throw failure("write \(temporary)") }
            bytes = bytes.dropFirst(count)
        }
        guard fsync(descriptor) == 0 else { throw failure("sync \(temporary)") }
    }

    /// Makes the renames durable.
    private func sync() throws {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open \(path)") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("sync \(path)") }
    }

    private func failure(_ action: String) -> CertificateFailure {
        CertificateFailure("cannot \(action): \(String(cString: strerror(errno)))")
    }
}

private let maximumFileBytes = 1 << 20

// The methods above are called read and write too.
private func readBytes(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int { read(descriptor, buffer, count) }
private func writeBytes(_ descriptor: Int32, _ buffer: UnsafeRawPointer?, _ count: Int) -> Int { write(descriptor, buffer, count) }
