import NIOSSL

/// Collects what BoringSSL finds about the client's chain and lets the handshake go on either way: upstream refuses the
/// request, with 401 and a readable reason, rather than the connection.
///
/// The certificate counts as verified only when the check ran on *this* connection and every step of it passed.
final class ClientCertificateVerifier {
    private var steps = 0
    private var failures = 0

    /// Called by BoringSSL once a certificate, root to leaf, and for every fault. Loop-confined.
    func step(_ result: NIOSSLVerificationResult, _ certificate: NIOSSLCertificate) -> NIOSSLVerificationResult {
        steps += 1
        if case .failed = result { failures += 1 }
        return .certificateVerified
    }

    func outcome(peer: NIOSSLCertificate?) -> ClientCertificate {
        guard let peer else { return .none }
        guard steps > 0, failures == 0, let der = try? peer.toDERBytes() else { return .invalid }
        return .verified(der)
    }
}
