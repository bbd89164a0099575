/// What a certificate request asks for.
package struct RequestedCertificate: Sendable {
    package var commonName: String
    package var organizations: [String]
    package var dnsNames: [String]
    package var ipAddresses: [String]
    package var emailAddresses: [String]
    package var uris: [String]

    package init(
        commonName: String, organizations: [String], dnsNames: [String], ipAddresses: [String], emailAddresses: [String], uris: [String]
    ) {
        self.commonName = commonName
        self.organizations = organizations
        self.dnsNames = dnsNames
        self.ipAddresses = ipAddresses
        self.emailAddresses = emailAddresses
        self.uris = uris
    }

    var hasNames: Bool { !dnsNames.isEmpty || !ipAddresses.isEmpty }
}

/// The cluster's authority, as the certificate controllers see it: they hold neither its key nor a library for certificates.
package struct CertificateSigner: Sendable {
    /// Reads a request (the base64 of its PEM, as `spec.request` holds it). Throws what is wrong with it, in words.
    package var read: @Sendable (_ request: String) throws -> RequestedCertificate
    /// Signs a request for API usages (`client auth`) and a lifetime in seconds; gives the base64 of the certificate's PEM.
    package var sign: @Sendable (_ request: String, _ usages: [String], _ lifetimeSeconds: Int64) throws -> String
    /// Addresses of the API itself: no node gets a serving certificate for one without a human's approval.
    package var reservedAddresses: Set<String>

    package init(
        reservedAddresses: Set<String> = [], read: @escaping @Sendable (_ request: String) throws -> RequestedCertificate,
        sign: @escaping @Sendable (_ request: String, _ usages: [String], _ lifetimeSeconds: Int64) throws -> String
    ) {
        self.reservedAddresses = reservedAddresses
        self.read = read
        self.sign = sign
    }
}
