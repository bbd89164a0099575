/// A program to run to its end, as `ProcessRunner.run` takes it.
package struct Command: Sendable {
    /// Nothing a host tool prints for us is longer; what is beyond is dropped and `Outcome.isTruncated` set.
    package static let outputBytesMaxDefault = 4 * 1024 * 1024

    /// Program (a name to be found, or a path) and its arguments.
    package var arguments: [String]
    /// `nil` inherits this process's environment.
    package var environment: [String: String]?
    package var workingDirectory: String?
    package var standardInput: [UInt8]
    /// After this the whole process group is killed and `ProcessError.timedOut` thrown.
    package var timeout: Duration
    /// Kept of each of stdout and stderr.
    package var outputBytesMax: Int

    package init(
        _ arguments: [String], environment: [String: String]? = nil, workingDirectory: String? = nil,
        standardInput: [UInt8] = [], timeout: Duration = .seconds(60), outputBytesMax: Int = outputBytesMaxDefault
    ) {
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.standardInput = standardInput
        self.timeout = timeout
        self.outputBytesMax = outputBytesMax
    }
}

/// How a process ended.
package enum ExitStatus: Hashable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case signaled(Int32)

    package var isSuccess: Bool { self == .exited(0) }

    /// The number a shell would report: 128 + signal for a killed process.
    package var code: Int32 {
        switch self {
        case .exited(let code): code
        case .signaled(let signal): 128 + signal
        }
    }

    package var description: String {
        switch self {
        case .exited(let code): "exit status \(code)"
        case .signaled(let signal): "signal \(signal)"
        }
    }

    /// From the status word of `waitpid`.
    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .exited((waitStatus >> 8) & 0xff) : .signaled(signal)
    }
}

/// What a finished command left.
package struct Outcome: Sendable {
    package let status: ExitStatus
    package let standardOutput: [UInt8]
    package let standardError: [UInt8]
    /// Some output went beyond `Command.outputBytesMax`.
    package let isTruncated: Bool

    package var outputText: String { String(decoding: standardOutput, as: UTF8.self) }
    package var errorText: String { String(decoding: standardError, as: UTF8.self) }
}

/// Why a program could not be run, or did not end well.
package enum ProcessError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A host program is missing; the text names the Debian package that has it.
    case missing(MissingProgram)
    /// The kernel refused to start it.
    case notStarted(program: String, reason: String)
    case timedOut(program: String, after: Duration)
    case cancelled(program: String)
    /// It ended with a status other than 0; `detail` is what it wrote to stderr (or stdout).
    case failed(program: String, status: ExitStatus, detail: String)

    package var description: String {
        switch self {
        case .missing(let program): program.description
        case .notStarted(let program, let reason): "cannot start \(program): \(reason)"
        case .timedOut(let program, let after): "\(program) did not end within \(after)"
        case .cancelled(let program): "\(program) was cancelled"
        case .failed(let program, let status, let detail): "\(program): \(status)" + (detail.isEmpty ? "" : ": \(detail)")
        }
    }
}
