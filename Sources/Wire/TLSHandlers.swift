import NIOCore
import NIOSSL

/// NIOSSL contexts and handlers from PEM texts.
enum TLSHandlers {
    static func makeContext(_ tls: WireTLS) throws -> NIOSSLContext {
        do {
            let chain = try NIOSSLCertificate.fromPEMBytes(Array(tls.certificateChainPEM.utf8))
            let key = try NIOSSLPrivateKey(bytes: Array(tls.privateKeyPEM.utf8), format: .pem)
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
            configuration.minimumTLSVersion = .tlsv12
            configuration.applicationProtocols = ["h2", "http/1.1"]
            configuration.shutdownTimeout = .seconds(1)
            if let authorities = tls.clientCAPEM {
                configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(authorities.utf8)))
                configuration.certificateVerification = .optionalVerification
                configuration.sendCANameList = true
            }
            return try NIOSSLContext(configuration: configuration)
        } catch {
            throw WireError.invalidCertificate("serving certificate: \(error)")
        }
    }

    /// The only initializer that lets BoringSSL verify the chain and then lets us decide is the per-certificate one.
    static func makeServerHandler(context: NIOSSLContext, verifier: ClientCertificateVerifier) throws -> NIOSSLServerHandler {
        guard case .none(let options) = context.configuration.certificateVerification, options.validatePresentedCertificates else {
            return NIOSSLServerHandler(context: context)
        }
        return try NIOSSLServerHandler(context: context, verificationCallback: { verifier.step($0, $1) })
    }
}
