import Crypto
import FoundationEssentials
import SwiftASN1
import X509
#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What a leaf certificate says: for a client, the user (common name) and the groups (organizations).
package struct CertificateIdentity: Sendable {
    package var commonName: String
    package var organizations: [String]
    package var notBeforeSeconds: Int64
    package var notAfterSeconds: Int64
    /// Big-endian.
    package var serialNumber: [UInt8]
    /// SubjectPublicKeyInfo, DER.
    package var publicKeyDER: [UInt8]
    package var names: SubjectNames
    package var usages: Set<CertificateUsage>
    /// SHA-256 of the whole certificate (the `authentication.kubernetes.io/credential-id` of a request: `X509SHA256=<hex>`).
    package var fingerprint: [UInt8]
    let certificate: Certificate

    package init(der: [UInt8]) throws {
        try self.init(Certificate(derEncoded: der), der: der)
    }

    package init(pem: String) throws {
        let document = try PEMDocument(pemString: pem)
        try self.init(Certificate(derEncoded: document.derBytes), der: document.derBytes)
    }

    private init(_ certificate: Certificate, der: [UInt8]) throws {
        self.certificate = certificate
        commonName = values(certificate.subject, .RDNAttributeType.commonName).last ?? ""
        organizations = values(certificate.subject, .RDNAttributeType.organizationName)
        notBeforeSeconds = Int64(certificate.notValidBefore.timeIntervalSince1970)
        notAfterSeconds = Int64(certificate.notValidAfter.timeIntervalSince1970)
        serialNumber = Array(certificate.serialNumber.bytes)
        var serializer = DER.Serializer()
        try serializer.serialize(certificate.publicKey)
        publicKeyDER = serializer.serializedBytes
        names = subjectNames(try certificate.extensions.subjectAlternativeNames.map { Array($0) } ?? [])
        usages = []
        for usage in try certificate.extensions.extendedKeyUsage ?? ExtendedKeyUsage([]) {
            if usage == .serverAuth || usage == .any { usages.insert(.serverAuth) }
            if usage == .clientAuth || usage == .any { usages.insert(.clientAuth) }
        }
        fingerprint = Array(SHA256.hash(data: der))
    }

    /// The private key (PEM) belongs to this certificate.
    func matches(keyPEM: String) -> Bool {
        (try? Certificate.PrivateKey(pemEncoded: keyPEM).publicKey) == certificate.publicKey
    }

    /// The certificate covers all these names.
    package func covers(_ wanted: SubjectNames) -> Bool {
        let addresses = Set(names.ipAddresses)
        return Set(wanted.dnsNames).isSubset(of: names.dnsNames)
            && wanted.ipAddresses.allSatisfy { addresses.contains(canonicalAddress($0)) }
    }
}

/// A PKCS#10 request with a valid signature of its own key.
package struct CertificateRequest: Sendable {
    package var commonName: String
    package var organizations: [String]
    package var names: SubjectNames
    package var emailAddresses: [String]
    package var uris: [String]
    let request: CertificateSigningRequest
    let generalNames: [GeneralName]

    /// - Throws: for malformed input and for a request whose signature does not fit its key.
    package init(pem: String) throws {
        let document = try PEMDocument(pemString: pem)
        guard document.discriminator == "CERTIFICATE REQUEST" else {
            throw CertificateFailure("PEM block type must be CERTIFICATE REQUEST")
        }
        request = try CertificateSigningRequest(derEncoded: document.derBytes)
        guard request.publicKey.isValidSignature(request.signature, for: request) else {
            throw CertificateFailure("the signature of the certificate request is not valid")
        }
        commonName = values(request.subject, .RDNAttributeType.commonName).last ?? ""
        organizations = values(request.subject, .RDNAttributeType.organizationName)
        generalNames = try request.attributes.extensionRequest?.extensions.subjectAlternativeNames.map { Array($0) } ?? []
        names = subjectNames(generalNames)
        emailAddresses = generalNames.compactMap { if case .rfc822Name(let name) = $0 { name } else { nil } }
        uris = generalNames.compactMap { if case .uniformResourceIdentifier(let name) = $0 { name } else { nil } }
    }

    /// A request and its new key, as a kubelet makes them.
    package static func create(
        commonName: String, organizations: [String], names: SubjectNames = SubjectNames()
    ) throws -> (requestPEM: String, keyPEM: String) {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let wanted = try PKI.generalNames(names)
        var attributes = CertificateSigningRequest.Attributes()
        if !wanted.isEmpty {
            let extensions = try Certificate.Extensions { SubjectAlternativeNames(wanted) }
            attributes = try CertificateSigningRequest.Attributes([.init(ExtensionRequest(extensions: extensions))])
        }
        let request = try CertificateSigningRequest(
            version: .v1, subject: distinguishedName(commonName: commonName, organizations: organizations), privateKey: key,
            attributes: attributes, signatureAlgorithm: .ecdsaWithSHA256)
        return (try request.serializeAsPEM().pemString + "\n", try key.serializeAsPEM().pemString + "\n")
    }
}

private func values(_ name: DistinguishedName, _ type: ASN1ObjectIdentifier) -> [String] {
    name.flatMap { $0 }.filter { $0.type == type }.compactMap { String($0.value) }
}

func generalNames(_ names: SubjectNames) throws -> [GeneralName] {
    try names.dnsNames.map { .dnsName($0) } + names.ipAddresses.map { text in
        guard let bytes = addressBytes(text) else { throw CertificateFailure("not an IP address: \(text)") }
        return .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
    }
}

private func subjectNames(_ names: [GeneralName]) -> SubjectNames {
    var result = SubjectNames()
    for name in names {
        if case .dnsName(let text) = name { result.dnsNames.append(text) }
        if case .ipAddress(let bytes) = name, let text = addressText(Array(bytes.bytes)) { result.ipAddresses.append(text) }
    }
    return result
}

private func addressBytes(_ text: String) -> [UInt8]? {
    var short = in_addr()
    if inet_pton(AF_INET, text, &short) == 1 { return withUnsafeBytes(of: short) { Array($0) } }
    var long = in6_addr()
    if inet_pton(AF_INET6, text, &long) == 1 { return withUnsafeBytes(of: long) { Array($0) } }
    return nil
}

private func addressText(_ bytes: [UInt8]) -> String? {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var buffer = [CChar](repeating: 0, count: 64)
    guard inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &buffer, socklen_t(buffer.count)) != nil else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

private func canonicalAddress(_ text: String) -> String { addressBytes(text).flatMap(addressText) ?? text }
