internal import GRPCCore

/// A failed call to the container runtime.
///
/// Kubernetes quotes the runtime's own words in events and conditions, so `description` has the shape Go's gRPC gives
/// an error: `rpc error: code = NotFound desc = ...`.
package struct CRIError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The gRPC status codes, by number as on the wire.
    package enum Code: Int, Hashable, Sendable {
        case canceled = 1, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists, permissionDenied,
            resourceExhausted, failedPrecondition, aborted, outOfRange, unimplemented, internalError, unavailable,
            dataLoss, unauthenticated

        /// The name as Go's `codes.Code.String()` prints it.
        package var name: String {
            switch self {
            case .canceled: "Canceled"
            case .unknown: "Unknown"
            case .invalidArgument: "InvalidArgument"
            case .deadlineExceeded: "DeadlineExceeded"
            case .notFound: "NotFound"
            case .alreadyExists: "AlreadyExists"
            case .permissionDenied: "PermissionDenied"
            case .resourceExhausted: "ResourceExhausted"
            case .failedPrecondition: "FailedPrecondition"
            case .aborted: "Aborted"
            case .outOfRange: "OutOfRange"
            case .unimplemented: "Unimplemented"
            case .internalError: "Internal"
            case .unavailable: "Unavailable"
            case .dataLoss: "DataLoss"
            case .unauthenticated: "Unauthenticated"
            }
        }
    }

    package let code: Code
    package let message: String
    /// The CRI method, for example `RunPodSandbox`.
    package let method: String

    package init(code: Code, message: String, method: String = "") {
        self.code = code
        self.message = message
        self.method = method
    }

    package var description: String { "rpc error: code = \(code.name) desc = \(message)" }

    /// The object is gone: for stop and remove calls this is success.
    package var isNotFound: Bool { code == .notFound }
    /// containerd is not running, or is being restarted.
    package var isUnavailable: Bool { code == .unavailable }

    init(_ error: any Error, method: String) {
        self.method = method
        switch error {
        case let error as CRIError:
            (code, message) = (error.code, error.message)
        case let error as RPCError:
            code = Code(rawValue: error.code.rawValue) ?? .unknown
            message = error.message
        case is CancellationError:
            (code, message) = (.canceled, "context canceled")
        default:
            (code, message) = (.unavailable, String(describing: error))
        }
    }
}
