internal import Glibc

/// `posix_spawn`, once, for both kinds of child.
enum Spawn {
    /// glibc's number; its macro is not visible in Swift.
    private static let setSessionFlag: Int32 = 0x80

    struct Files {
        var standardInput: Int32
        var standardOutput: Int32
        var standardError: Int32
    }

    /// Starts `arguments` as the leader of a new session (so that it can be killed with all its children, and outlives a
    /// terminal), with default signal handling, nothing open but the three files given.
    static func start(
        path: String, arguments: [String], environment: [String: String]?, workingDirectory: String?, files: Files
    ) throws(ProcessError) -> pid_t {
        func check(_ code: Int32) throws(ProcessError) {
            if code != 0 { throw .notStarted(program: path, reason: String(cString: strerror(code))) }
        }
        var actions = posix_spawn_file_actions_t()
        try check(posix_spawn_file_actions_init(&actions))
        defer { posix_spawn_file_actions_destroy(&actions) }
        try check(posix_spawn_file_actions_adddup2(&actions, files.standardInput, 0))
        try check(posix_spawn_file_actions_adddup2(&actions, files.standardOutput, 1))
        try check(posix_spawn_file_actions_adddup2(&actions, files.standardError, 2))
        guard let closeFrom = GNUExtension.closeFrom, let changeDirectory = GNUExtension.changeDirectory else {
            throw .notStarted(program: path, reason: "glibc 2.34 or newer is needed (posix_spawn_file_actions_addclosefrom_np)")
        }
        try check(closeFrom(&actions, 3))
        if let workingDirectory { try check(changeDirectory(&actions, workingDirectory)) }

        var attributes = posix_spawnattr_t()
        try check(posix_spawnattr_init(&attributes))
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t(), all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        try check(posix_spawnattr_setsigmask(&attributes, &none))
        try check(posix_spawnattr_setsigdefault(&attributes, &all))
        let flags = setSessionFlag | Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)
        try check(posix_spawnattr_setflags(&attributes, Int16(flags)))

        var pid: pid_t = 0
        let code = withStringPointers(arguments) { argv in
            guard let environment else { return posix_spawn(&pid, path, &actions, &attributes, argv, environ) }
            return withStringPointers(environment.map { "\($0.key)=\($0.value)" }) { envp in
                posix_spawn(&pid, path, &actions, &attributes, argv, envp)
            }
        }
        try check(code)
        return pid
    }

    /// A NULL-terminated array of C strings, valid during `body`.
    private static func withStringPointers<Result>(
        _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        let pointers = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() { pointers[index] = strdup(string) }
        pointers[strings.count] = nil
        defer {
            for index in strings.indices { free(pointers[index]) }
            pointers.deallocate()
        }
        return body(pointers)
    }

    /// Waits for `pid` in this thread; never call it on the cooperative pool.
    static func wait(for pid: pid_t) -> ExitStatus {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            // ECHILD: somebody else reaped it; its status is lost.
            if errno != EINTR { return .exited(-1) }
        }
        return ExitStatus(waitStatus: status)
    }
}

/// Two glibc functions that its headers show only with _GNU_SOURCE, which Swift's module map does not set.
private enum GNUExtension {
    typealias CloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32
    typealias ChangeDirectory = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, UnsafePointer<CChar>) -> Int32

    static let closeFrom = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np").map { unsafeBitCast($0, to: CloseFrom.self) }
    static let changeDirectory = dlsym(nil, "posix_spawn_file_actions_addchdir_np").map { unsafeBitCast($0, to: ChangeDirectory.self) }
}

/// Runs `body` on a thread of its own: for calls that block (waitpid, poll), which may not hold up the cooperative pool.
enum BlockingThread {
    private static let stackBytes = 256 * 1024

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// False when the kernel has no thread to give; `body` is then not run.
    static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, stackBytes)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Body(body))
        let code = pthread_create(&thread, &attributes, { argument in
            guard let argument else { return nil }
            // Signals are other threads' business; and writing to a program that has ended must be an error, not a SIGPIPE.
            var all = sigset_t()
            sigfillset(&all)
            pthread_sigmask(SIG_BLOCK, &all, nil)
            Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
            return nil
        }, argument.toOpaque())
        if code != 0 { argument.release() }
        return code == 0
    }
}

/// Blocking work (cgroup waits, large file reads) on a thread of its own.
package enum BlockingWork {
    package static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            // Without a thread the caller's own is blocked: slow, but right.
            if !BlockingThread.start({ continuation.resume(returning: body()) }) { continuation.resume(returning: body()) }
        }
    }
}
