import Controllers
import FoundationEssentials
import KubeMeta
import PKI

extension CertificateSigner {
    /// The cluster's authority, for the certificate controllers.
    init(authority: CertificateAuthority, reservedAddresses: Set<String>) {
        self.init(
            reservedAddresses: reservedAddresses,
            read: { text in
                let request = try Self.request(text)
                return RequestedCertificate(
                    commonName: request.commonName, organizations: request.organizations, dnsNames: request.names.dnsNames,
                    ipAddresses: request.names.ipAddresses, emailAddresses: request.emailAddresses, uris: request.uris)
            },
            sign: { text, usages, seconds in
                var purposes: [CertificateUsage] = []
                if usages.contains("client auth") { purposes.append(.clientAuth) }
                if usages.contains("server auth") { purposes.append(.serverAuth) }
                let pem = try authority.sign(
                    try Self.request(text), usages: purposes, keyEncipherment: usages.contains("key encipherment"),
                    nowSeconds: Int64(SystemTime().now()), lifetimeSeconds: seconds)
                return Data(pem.utf8).base64EncodedString()
            })
    }

    private static func request(_ text: String) throws -> CertificateRequest {
        guard let data = Data(base64Encoded: text) else { throw CertificateFailure("illegal base64 data") }
        return try CertificateRequest(pem: String(decoding: data, as: UTF8.self))
    }
}
