import AsyncHTTPClient
import NIOCore
import NIOPosix
import NIOSSL

/// Why a request got no answer from the server; the texts are kubectl's.
public enum HTTPTransportError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The configuration cannot be used: an address or a certificate that cannot be read.
    case configuration(String)
    case refused(host: String)
    case unreachable(String)
    case timedOut(String)
    /// An established connection broke; a repetition may go well.
    case broken(String)
    /// The server's answer is not what the protocol says.
    case malformed(String)

    public var description: String {
        switch self {
        case .configuration(let text), .malformed(let text): text
        case .refused(let host): "The connection to the server \(host) was refused - did you specify the right host or port?"
        case .unreachable(let text), .timedOut(let text): "Unable to connect to the server: \(text)"
        case .broken(let text): "error on the connection to the server: \(text)"
        }
    }

    /// Translates what the HTTP client throws. Cancellation stays what it is.
    static func translate(_ error: any Error, host: String) -> any Error {
        switch error {
        case is HTTPTransportError, is CancellationError: return error
        case let error as HTTPClientError:
            switch error {
            case .cancelled: return CancellationError()
            case .connectTimeout, .tlsHandshakeTimeout, .getConnectionFromPoolTimeout:
                return timedOut("dial tcp \(host): i/o timeout")
            case .deadlineExceeded: return timedOut("net/http: request canceled (Client.Timeout exceeded while awaiting headers)")
            case .readTimeout, .writeTimeout: return broken("http2: client connection lost")
            case .remoteConnectionClosed, .uncleanShutdown, .requestStreamCancelled: return broken("EOF")
            case .alreadyShutdown: return broken("the transport is shut down")
            case .invalidURL, .emptyHost, .emptyScheme: return configuration("the server's address is not a valid URL")
            default: return broken("\(error)")
            }
        case let error as NIOConnectionError:
            let refusals = error.connectionErrors.compactMap { ($0.error as? IOError)?.errnoCode }
            if refusals.contains(where: { $0 == 111 || $0 == 61 }) { return refused(host: host) }
            if let inner = error.connectionErrors.first?.error as? IOError { return unreachable("dial tcp \(host): \(text(inner))") }
            return unreachable("dial tcp: lookup \(error.host): no such host")
        case let error as IOError:
            return error.errnoCode == 111 ? refused(host: host) : broken(text(error))
        case let error as NIOSSLError: return unreachable(text(error))
        case let error as BoringSSLError: return unreachable("tls: \(error)")
        case is NIOSSLExtraError:
            return unreachable("tls: failed to verify certificate: x509: certificate is not valid for \(host)")
        case let error as ChannelError: return broken("\(error)")
        default: return broken("\(error)")
        }
    }

    private static func text(_ error: IOError) -> String {
        switch error.errnoCode {
        case 101: "connect: network is unreachable"
        case 113: "connect: no route to host"
        case 104: "connection reset by peer"
        case 32: "broken pipe"
        default: "\(error)"
        }
    }

    private static func text(_ error: NIOSSLError) -> String {
        if case .handshakeFailed(let inner) = error {
            let text = "\(inner)"
            if text.contains("CERTIFICATE_VERIFY_FAILED") {
                return "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            }
            if text.contains("HTTP_REQUEST") || text.contains("WRONG_VERSION_NUMBER") {
                return "http: server gave HTTP response to HTTPS client"
            }
            return "tls: handshake failure: \(text)"
        }
        return "tls: \(error)"
    }
}
