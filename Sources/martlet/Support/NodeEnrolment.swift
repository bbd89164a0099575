import FoundationEssentials
import JSON
import KubeClient
import KubeClientHTTP
import KubeMeta
import KubeTypes
import Logging
import PKI
import Processes

/// Gets a node its credentials with nothing but a token: the authority, checked against the token's hash, then a client and a serving
/// certificate through certificate requests. They stay in a folder, and are asked for again when 80 % of their life is over.
struct NodeEnrolment: Sendable {
    struct Credentials: Sendable {
        var authorityPEM: String
        var client: CertificatePair
        var serving: CertificatePair
        /// Unix seconds.
        var renewAt: Double
    }

    /// `https://host:port`.
    let server: String
    let token: JoinToken
    /// Holds keys: closed to others.
    let folder: String
    let nodeName: String
    let nodeAddress: String

    private static let renewAfterShare = 0.8
    /// A request that nobody approves is given up after this long; a hint appears earlier.
    private static let approvalSecondsMax = 600.0
    private static let hintAfterSeconds = 5.0
    private static let pollSeconds = 0.1

    private var logger: Logger { Logger(label: "martlet.enrolment") }
    private var user: String { "system:node:\(nodeName)" }

    /// Loads what is good, asks for what is not.
    func credentials() async throws -> Credentials {
        try DataFolder(folder).create()
        let authority = try await authorityPEM()
        let client = try await pair(
            "kubelet-client", signer: "kubernetes.io/kube-apiserver-client-kubelet", usage: "client auth", names: SubjectNames(),
            authority: authority
        ) { existing in
            existing.map { .clientCertificate(certificatePEM: $0.certificatePEM, keyPEM: $0.keyPEM) } ?? .bearerToken(token.secret)
        }
        let serving = try await pair(
            "kubelet", signer: "kubernetes.io/kubelet-serving", usage: "server auth",
            names: SubjectNames(dnsNames: [nodeName], ipAddresses: [nodeAddress]), authority: authority
        ) { _ in .clientCertificate(certificatePEM: client.certificatePEM, keyPEM: client.keyPEM) }
        let renewAt = try min(Self.renewal(CertificateIdentity(pem: client.certificatePEM)), Self.renewal(CertificateIdentity(pem: serving.certificatePEM)))
        return Credentials(authorityPEM: authority, client: client, serving: serving, renewAt: renewAt)
    }

    private static func renewal(_ identity: CertificateIdentity) -> Double {
        let start = Double(identity.notBeforeSeconds)
        return start + (Double(identity.notAfterSeconds) - start) * renewAfterShare
    }

    // MARK: The authority

    private func authorityPEM() async throws -> String {
        let path = "\(folder)/ca.crt"
        if let known = SmallFile.read(path), (try? JoinToken.hash(known)) == token.authorityHash { return known }
        // The peer is not trusted yet, and need not be: the token says what it must answer.
        let answer: (status: Int, bytes: [UInt8])
        do {
            answer = try await withTransport(HTTPTransportConfiguration(server: server, trust: .insecure)) { try await $0.getRaw("/cacerts") }
        } catch {
            throw CommandFailure("the server \(server) cannot be reached: \(error)")
        }
        let text = String(decoding: answer.bytes, as: UTF8.self)
        guard answer.status == 200, let hash = try? JoinToken.hash(text) else {
            throw CommandFailure("\(server) does not answer as a Martlet server: /cacerts gave status \(answer.status)")
        }
        guard hash == token.authorityHash else {
            throw CommandFailure(
                "the certificate authority of \(server) is not the one in the token (its SHA-256 is \(hash)): the token is of another server, or somebody is in between"
            )
        }
        // What another authority signed is of no use any more.
        for name in ["kubelet-client", "kubelet"] { SmallFile.remove("\(folder)/\(name).crt") }
        try SmallFile.write(text, to: path)
        return text
    }

    // MARK: Certificates

    /// - Parameter credential: who asks, given the present pair while it is valid.
    private func pair(
        _ name: String, signer: String, usage: String, names: SubjectNames, authority: String,
        credential: (CertificatePair?) -> HTTPTransportConfiguration.Credential
    ) async throws -> CertificatePair {
        let now = SystemTime().now()
        var valid: CertificatePair?
        if let certificate = SmallFile.read("\(folder)/\(name).crt"), let key = SmallFile.read("\(folder)/\(name).key"),
            let identity = try? CertificateIdentity(pem: certificate), identity.commonName == user, identity.covers(names),
            Double(identity.notAfterSeconds) > now
        {
            let pair = CertificatePair(certificatePEM: certificate, keyPEM: key)
            if now < Self.renewal(identity) { return pair }
            valid = pair
        }
        do {
            let made = try CertificateRequest.create(commonName: user, organizations: ["system:nodes"], names: names)
            let certificate = try await withTransport(
                HTTPTransportConfiguration(server: server, trust: .authorities(pem: authority), credential: credential(valid))
            ) { transport in
                try await signed(made.requestPEM, signer: signer, usage: usage, KubeClient(transport: transport))
            }
            // The old certificate first goes: a crash in between leaves a key without certificate, which is asked for again.
            SmallFile.remove("\(folder)/\(name).crt")
            try SmallFile.write(made.keyPEM, to: "\(folder)/\(name).key", mode: 0o600)
            try SmallFile.write(certificate, to: "\(folder)/\(name).crt", mode: 0o600)
            return CertificatePair(certificatePEM: certificate, keyPEM: made.keyPEM)
        } catch {
            guard let valid else { throw describe(error) }
            logger.warning("the certificate \(name) could not be renewed yet: \(error)")
            return valid
        }
    }

    private func signed(_ requestPEM: String, signer: String, usage: String, _ client: KubeClient) async throws -> String {
        var request = CertificateSigningRequest()
        request.metadata.generateName = "csr-"
        request.spec.request = Data(requestPEM.utf8).base64EncodedString()
        request.spec.signerName = signer
        request.spec.usages = ["digital signature", usage]
        let name = try await client.create(request).metadata.name
        let started = client.time.now()
        var hinted = false
        while client.time.now() - started < Self.approvalSecondsMax {
            let answer = try await client.get(CertificateSigningRequest.self, name: name)
            for condition in answer.status.conditions where ["Denied", "Failed"].contains(condition.type) {
                throw CommandFailure("the certificate request \(name) was refused (\(condition.type)): \(condition.message)")
            }
            if let text = answer.status.certificate, !text.isEmpty, let data = Data(base64Encoded: text) {
                return String(decoding: data, as: UTF8.self)
            }
            if !hinted, client.time.now() - started > Self.hintAfterSeconds {
                hinted = true
                Console.progress("the certificate request \(name) waits for approval: kubectl certificate approve \(name)")
            }
            try await client.time.sleep(seconds: Self.pollSeconds)
        }
        throw CommandFailure("nobody approved the certificate request \(name); `kubectl certificate approve \(name)` does")
    }

    private func describe(_ error: any Error) -> any Error {
        switch error {
        case let status as APIStatus where status.code == 401:
            CommandFailure("the token is not accepted by \(server): its secret is wrong; the file node-token in the server's data folder has the right one")
        case let status as APIStatus: CommandFailure("\(server) refuses to let the node \(nodeName) in: \(status.message)")
        case let error as HTTPTransportError: CommandFailure("the server \(server) cannot be reached: \(error)")
        default: error
        }
    }

    private func withTransport<Result: Sendable>(
        _ configuration: HTTPTransportConfiguration, _ body: (HTTPTransport) async throws -> Result
    ) async throws -> Result {
        let transport = try HTTPTransport(configuration)
        do {
            let result = try await body(transport)
            try? await transport.shutdown()
            return result
        } catch {
            try? await transport.shutdown()
            throw error
        }
    }
}
