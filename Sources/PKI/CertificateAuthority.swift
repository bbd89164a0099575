import Crypto
import FoundationEssentials
import SwiftASN1
import X509

/// A certificate with its private key, as PEM text ready for a file or a TLS library.
package struct CertificatePair: Sendable {
    package var certificatePEM: String
    /// PKCS#8 (`PRIVATE KEY`), which OpenSSL, Go and BoringSSL all read.
    package var keyPEM: String

    package init(certificatePEM: String, keyPEM: String) {
        self.certificatePEM = certificatePEM
        self.keyPEM = keyPEM
    }
}

/// What a certificate may be used for (RFC 5280, extended key usage).
package enum CertificateUsage: Sendable, Hashable { case serverAuth, clientAuth }

/// Why a certificate or key was refused.
package struct CertificateFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Names and addresses a server certificate covers.
package struct SubjectNames: Sendable, Equatable {
    package var dnsNames: [String]
    /// Textual IPv4 and IPv6 addresses.
    package var ipAddresses: [String]

    package init(dnsNames: [String] = [], ipAddresses: [String] = []) {
        self.dnsNames = dnsNames
        self.ipAddresses = ipAddresses
    }
}

/// A P-256 certificate authority of the cluster. Times are Unix seconds, so that a test can issue what is expired already.
package struct CertificateAuthority: Sendable {
    package static let authorityLifetimeSeconds: Int64 = 10 * 365 * 86400
    package static let leafLifetimeSeconds: Int64 = 365 * 86400
    /// Certificates start this much in the past, for peers whose clocks are behind.
    static let backdateSeconds: Int64 = 300

    package let pair: CertificatePair
    let certificate: Certificate
    let key: Certificate.PrivateKey

    /// A new self-signed authority. An existing key (PEM) is kept, which heals a folder whose certificate was never written.
    package static func create(
        commonName: String, keyPEM: String? = nil, nowSeconds: Int64, lifetimeSeconds: Int64 = authorityLifetimeSeconds
    ) throws -> CertificateAuthority {
        let key = try keyPEM.map { try Certificate.PrivateKey(pemEncoded: $0) } ?? Certificate.PrivateKey(P256.Signing.PrivateKey())
        let name = try distinguishedName(commonName: commonName, organizations: [])
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key.publicKey,
            notValidBefore: date(nowSeconds - backdateSeconds), notValidAfter: date(nowSeconds + lifetimeSeconds),
            issuer: name, subject: name,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(digitalSignature: true, keyEncipherment: true, keyCertSign: true))
                SubjectKeyIdentifier(hash: key.publicKey)
            },
            issuerPrivateKey: key)
        return CertificateAuthority(
            pair: CertificatePair(
                certificatePEM: try certificate.serializeAsPEM().pemString + "\n", keyPEM: try key.serializeAsPEM().pemString + "\n"),
            certificate: certificate, key: key)
    }

    private init(pair: CertificatePair, certificate: Certificate, key: Certificate.PrivateKey) {
        self.pair = pair
        self.certificate = certificate
        self.key = key
    }

    /// An authority from its files.
    package init(pair: CertificatePair) throws {
        self.pair = pair
        certificate = try Certificate(pemEncoded: pair.certificatePEM)
        key = try Certificate.PrivateKey(pemEncoded: pair.keyPEM)
        guard certificate.publicKey == key.publicKey else {
            throw CertificateFailure("the private key does not match the certificate of the authority")
        }
        guard case .isCertificateAuthority? = try certificate.extensions.basicConstraints else {
            throw CertificateFailure("the certificate is not one of a certificate authority")
        }
    }

    package var notAfterSeconds: Int64 { Int64(certificate.notValidAfter.timeIntervalSince1970) }

    /// A server certificate for the given names, with a new key.
    package func issueServer(
        commonName: String, organizations: [String] = [], names: SubjectNames, alsoClient: Bool = false, nowSeconds: Int64,
        lifetimeSeconds: Int64 = leafLifetimeSeconds
    ) throws -> CertificatePair {
        try issue(
            commonName: commonName, organizations: organizations, names: names,
            usages: alsoClient ? [.serverAuth, .clientAuth] : [.serverAuth], nowSeconds: nowSeconds, lifetimeSeconds: lifetimeSeconds)
    }

    /// A client certificate: the common name is the user, the organizations are the groups.
    package func issueClient(
        commonName: String, organizations: [String], nowSeconds: Int64, lifetimeSeconds: Int64 = leafLifetimeSeconds
    ) throws -> CertificatePair {
        try issue(
            commonName: commonName, organizations: organizations, names: SubjectNames(), usages: [.clientAuth],
            nowSeconds: nowSeconds, lifetimeSeconds: lifetimeSeconds)
    }

    private func issue(
        commonName: String, organizations: [String], names: SubjectNames, usages: [CertificateUsage], nowSeconds: Int64,
        lifetimeSeconds: Int64
    ) throws -> CertificatePair {
        let leafKey = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let leaf = try signed(
            subject: distinguishedName(commonName: commonName, organizations: organizations), publicKey: leafKey.publicKey,
            names: generalNames(names), usages: usages, notBeforeSeconds: nowSeconds - Self.backdateSeconds,
            notAfterSeconds: nowSeconds + lifetimeSeconds)
        return CertificatePair(
            certificatePEM: try leaf.serializeAsPEM().pemString + "\n", keyPEM: try leafKey.serializeAsPEM().pemString + "\n")
    }

    /// Signs a request as a signer of the certificates API does: subject and names as asked, usages as approved.
    ///
    /// - Returns: the certificate as PEM.
    package func sign(
        _ request: CertificateRequest, usages: [CertificateUsage], keyEncipherment: Bool = true, nowSeconds: Int64,
        lifetimeSeconds: Int64 = leafLifetimeSeconds
    ) throws -> String {
        let leaf = try signed(
            subject: request.request.subject, publicKey: request.request.publicKey, names: request.generalNames, usages: usages,
            keyEncipherment: keyEncipherment, notBeforeSeconds: nowSeconds - Self.backdateSeconds, notAfterSeconds: nowSeconds + lifetimeSeconds)
        return try leaf.serializeAsPEM().pemString + "\n"
    }

    private func signed(
        subject: DistinguishedName, publicKey: Certificate.PublicKey, names: [GeneralName], usages: [CertificateUsage],
        keyEncipherment: Bool = true, notBeforeSeconds: Int64, notAfterSeconds: Int64
    ) throws -> Certificate {
        let usage = try ExtendedKeyUsage(usages.map { $0 == .serverAuth ? .serverAuth : .clientAuth })
        return try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
            notValidBefore: date(notBeforeSeconds), notValidAfter: date(min(notAfterSeconds, self.notAfterSeconds)),
            issuer: certificate.subject, subject: subject,
            extensions: Certificate.Extensions {
                Critical(KeyUsage(digitalSignature: true, keyEncipherment: keyEncipherment))
                usage
                Critical(BasicConstraints.notCertificateAuthority)
                if let identifier = try certificate.extensions.subjectKeyIdentifier {
                    AuthorityKeyIdentifier(keyIdentifier: identifier.keyIdentifier)
                }
                if !names.isEmpty { SubjectAlternativeNames(names) }
            },
            issuerPrivateKey: key)
    }

    /// Checks that a leaf (DER) was issued by this authority, is valid now, and may be used so.
    ///
    /// - Returns: who the leaf names.
    /// - Throws: `CertificateFailure` in the words of Go's crypto/x509, as they reach users of Kubernetes.
    package func verify(leafDER: [UInt8], usage: CertificateUsage, nowSeconds: Int64) throws -> CertificateIdentity {
        let identity = try CertificateIdentity(der: leafDER)
        try verify(leaf: identity, usage: usage, nowSeconds: nowSeconds)
        return identity
    }

    func verify(leaf identity: CertificateIdentity, usage: CertificateUsage, nowSeconds: Int64) throws {
        let leaf = identity.certificate
        guard leaf.issuer == certificate.subject, certificate.publicKey.isValidSignature(leaf.signature, for: leaf) else {
            throw CertificateFailure("x509: certificate signed by unknown authority")
        }
        guard nowSeconds >= identity.notBeforeSeconds, nowSeconds <= identity.notAfterSeconds, nowSeconds <= notAfterSeconds else {
            throw CertificateFailure("x509: certificate has expired or is not yet valid")
        }
        guard identity.usages.contains(usage) else {
            throw CertificateFailure("x509: certificate specifies an incompatible key usage")
        }
    }
}

func date(_ seconds: Int64) -> Date { Date(timeIntervalSince1970: Double(seconds)) }

func distinguishedName(commonName: String, organizations: [String]) throws -> DistinguishedName {
    var names: [RelativeDistinguishedName] = []
    for organization in organizations {
        names.append(RelativeDistinguishedName(.init(type: .RDNAttributeType.organizationName, utf8String: organization)))
    }
    names.append(RelativeDistinguishedName(.init(type: .RDNAttributeType.commonName, utf8String: commonName)))
    return DistinguishedName(names)
}
