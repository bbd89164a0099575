import Foundation
import PKI
import Testing

private let now: Int64 = 1_800_000_000
private let day: Int64 = 86400

@Suite("certificates")
struct CertificateTests {
    let authority: CertificateAuthority
    init() throws { authority = try CertificateAuthority.create(commonName: "kubernetes", nowSeconds: now) }

    private func der(_ pem: String) throws -> [UInt8] {
        let body = pem.split(separator: "\n").filter { !$0.hasPrefix("-----") }.joined()
        return try [UInt8](#require(Data(base64Encoded: body)))
    }

    @Test("a client certificate names the user and the groups")
    func client() throws {
        let pair = try authority.issueClient(commonName: "jane", organizations: ["dev", "ops"], nowSeconds: now)
        let identity = try authority.verify(leafDER: der(pair.certificatePEM), usage: .clientAuth, nowSeconds: now)
        #expect(identity.commonName == "jane")
        #expect(identity.organizations == ["dev", "ops"])
        #expect(identity.notAfterSeconds == now + 365 * day)
        #expect(!identity.serialNumber.isEmpty)
        #expect(identity.publicKeyDER.count == 91)
    }

    @Test("expired, foreign, wrongly used and damaged certificates are refused")
    func refused() throws {
        let pair = try authority.issueClient(commonName: "jane", organizations: [], nowSeconds: now, lifetimeSeconds: day)
        let leaf = try der(pair.certificatePEM)
        #expect(throws: CertificateFailure("x509: certificate has expired or is not yet valid")) {
            try authority.verify(leafDER: leaf, usage: .clientAuth, nowSeconds: now + 2 * day)
        }
        #expect(throws: CertificateFailure("x509: certificate specifies an incompatible key usage")) {
            try authority.verify(leafDER: leaf, usage: .serverAuth, nowSeconds: now)
        }
        let other = try CertificateAuthority.create(commonName: "kubernetes", nowSeconds: now)
        #expect(throws: CertificateFailure("x509: certificate signed by unknown authority")) {
            try other.verify(leafDER: leaf, usage: .clientAuth, nowSeconds: now)
        }
        for length in stride(from: 0, to: leaf.count, by: 7) {
            #expect(throws: (any Error).self) {
                try authority.verify(leafDER: Array(leaf.prefix(length)), usage: .clientAuth, nowSeconds: now)
            }
        }
    }

    @Test("a server certificate covers its names and addresses")
    func server() throws {
        let names = SubjectNames(dnsNames: ["kubernetes", "kubernetes.default.svc"], ipAddresses: ["10.96.0.1", "::1", "fd00::0001"])
        let pair = try authority.issueServer(commonName: "kube-apiserver", names: names, nowSeconds: now)
        let identity = try CertificateIdentity(pem: pair.certificatePEM)
        #expect(identity.names == SubjectNames(dnsNames: names.dnsNames, ipAddresses: ["10.96.0.1", "::1", "fd00::1"]))
        #expect(identity.covers(names))
        #expect(!identity.covers(SubjectNames(ipAddresses: ["10.96.0.2"])))
        #expect(throws: CertificateFailure("not an IP address: 10.0.0.300")) {
            try authority.issueServer(commonName: "x", names: SubjectNames(ipAddresses: ["10.0.0.300"]), nowSeconds: now)
        }
    }

    @Test("a kubelet's request is parsed and signed with its names")
    func request() throws {
        let names = SubjectNames(dnsNames: ["node-1"], ipAddresses: ["192.168.1.5"])
        let made = try CertificateRequest.create(commonName: "system:node:node-1", organizations: ["system:nodes"], names: names)
        let request = try CertificateRequest(pem: made.requestPEM)
        #expect(request.commonName == "system:node:node-1")
        #expect(request.organizations == ["system:nodes"])
        #expect(request.names == names)
        let certificate = try authority.sign(request, usages: [.serverAuth], nowSeconds: now)
        let identity = try authority.verify(leafDER: der(certificate), usage: .serverAuth, nowSeconds: now)
        #expect(identity.commonName == "system:node:node-1" && identity.names == names)
        #expect(throws: (any Error).self) { try CertificateRequest(pem: certificate) }
    }

    @Test("openssl accepts the chain and the keys", .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/openssl")))
    func openSSL() async throws {
        let folder = NSTemporaryDirectory() + "martlet-pki-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let seconds = Int64(Date().timeIntervalSince1970)
        _ = try ClusterPKI(folder: folder, names: SubjectNames(dnsNames: ["localhost"]), nowSeconds: seconds)
        for arguments in [
            ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.crt", "apiserver.crt"],
            ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.crt", "admin.crt"],
            ["pkey", "-in", "admin.key", "-noout"], ["pkey", "-pubin", "-in", "sa.pub", "-noout"],
        ] {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
            process.arguments = arguments
            process.currentDirectoryURL = URL(fileURLWithPath: folder)
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            #expect(process.terminationStatus == 0, "openssl \(arguments)")
        }
    }
}

@Suite("service account tokens")
struct TokenTests {
    private let claims = Array(#"{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:default:default"}"#.utf8)

    @Test("a signed token gives its claims back; a changed one does not")
    func roundTrip() throws {
        let signer = try TokenSigner(pem: TokenSigner.createKey().keyPEM)
        let verifier = TokenVerifier(keys: [signer.publicKey])
        let token = try signer.sign(claims: claims)
        #expect(try verifier.verify(token) == claims)
        #expect(throws: TokenFailure.badSignature) {
            let parts = token.split(separator: ".")
            _ = try verifier.verify("\(parts[0]).\(base64URL(Array("{}".utf8))).\(parts[2])")
        }
        #expect(throws: TokenFailure.malformed) { _ = try verifier.verify("a.b") }
        let none = base64URL(Array(#"{"alg":"none"}"#.utf8))
        #expect(throws: TokenFailure.unsupportedAlgorithm("none")) { _ = try verifier.verify("\(none).\(base64URL(claims)).") }
        let stranger = try TokenSigner(pem: TokenSigner.createKey().keyPEM)
        #expect(throws: TokenFailure.badSignature) { _ = try verifier.verify(stranger.sign(claims: claims)) }
    }

    @Test("the key set names the key by the hash of its public key")
    func keySet() throws {
        let pair = TokenSigner.createKey()
        let key = try TokenKey(pem: pair.certificatePEM)
        let object = try JSONSerialization.jsonObject(with: Data(TokenVerifier(keys: [key]).jsonWebKeySet())) as? [String: Any]
        let entry = try #require((object?["keys"] as? [[String: String]])?.first)
        #expect(entry["kid"] == key.keyID && entry["alg"] == "ES256" && entry["crv"] == "P-256" && entry["x"]?.count == 43)
        #expect(key.keyID.count == 43)
    }

    @Test("base64url survives every length", arguments: 0..<20)
    func base64(length: Int) {
        let data = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 89 &+ 200) }
        #expect(bytes(base64URL: base64URL(data)) == data)
    }
}

@Suite("the files of a cluster")
struct ClusterPKITests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "martlet-pki-\(UUID().uuidString)/pki"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }
    private let names = SubjectNames(dnsNames: ["kubernetes"], ipAddresses: ["127.0.0.1"])

    @Test("a second load changes nothing; keys are closed to others")
    func stable() throws {
        try withFolder { folder in
            let first = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
            let second = try ClusterPKI(folder: folder, names: names, nowSeconds: now + day)
            #expect(first.apiServer.certificatePEM == second.apiServer.certificatePEM)
            #expect(first.admin.keyPEM == second.admin.keyPEM)
            #expect(first.serviceAccountKey.keyPEM == second.serviceAccountKey.keyPEM)
            for name in try FileManager.default.contentsOfDirectory(atPath: folder) where name.hasSuffix(".key") {
                let mode = try FileManager.default.attributesOfItem(atPath: folder + "/" + name)[.posixPermissions] as? Int
                #expect(mode == 0o600, "\(name)")
            }
        }
    }

    @Test("leaves are renewed near their end and when a name is missing; known names stay")
    func renewal() throws {
        try withFolder { folder in
            let first = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
            let moreNames = SubjectNames(dnsNames: ["other"], ipAddresses: [])
            let second = try ClusterPKI(folder: folder, names: moreNames, nowSeconds: now)
            #expect(second.apiServer.certificatePEM != first.apiServer.certificatePEM)
            #expect(second.admin.certificatePEM == first.admin.certificatePEM)
            let identity = try CertificateIdentity(pem: second.apiServer.certificatePEM)
            #expect(identity.covers(names) && identity.covers(moreNames))
            let third = try ClusterPKI(folder: folder, names: names, nowSeconds: now + 340 * day)
            #expect(third.admin.certificatePEM != first.admin.certificatePEM)
            #expect(third.authority.pair.certificatePEM == first.authority.pair.certificatePEM)
        }
    }

    @Test("whichever file a crash left out or cut off, the next load heals the folder")
    func healing() throws {
        try withFolder { folder in
            let whole = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
            for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
                let path = folder + "/" + name
                let before = try Data(contentsOf: URL(fileURLWithPath: path))
                // A crash never leaves a certificate of an authority without its key.
                if name == "ca.key" || name == "front-proxy-ca.key" { continue }
                try FileManager.default.removeItem(atPath: path)
                let healed = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
                #expect(FileManager.default.fileExists(atPath: path), "\(name)")
                let admin = try CertificateIdentity(pem: healed.admin.certificatePEM)
                #expect(admin.commonName == "kubernetes-admin")
                if name.hasPrefix("sa.pub") { #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before) }
                try Data("half".utf8).write(to: URL(fileURLWithPath: path + ".new"))
            }
            _ = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
            _ = whole
        }
    }

    @Test("an authority without its key is an error, not a new authority")
    func lostKey() throws {
        try withFolder { folder in
            _ = try ClusterPKI(folder: folder, names: names, nowSeconds: now)
            try FileManager.default.removeItem(atPath: folder + "/ca.key")
            #expect(throws: CertificateFailure.self) { try ClusterPKI(folder: folder, names: names, nowSeconds: now) }
        }
    }

    @Test("a kubeconfig embeds its certificates")
    func kubeconfig() throws {
        let authority = try CertificateAuthority.create(commonName: "kubernetes", nowSeconds: now)
        let client = try authority.issueClient(commonName: "a", organizations: [], nowSeconds: now)
        let text = Kubeconfig(
            clusterName: "martlet", userName: "admin", contextName: "admin@martlet", server: "https://127.0.0.1:6443",
            authorityPEM: authority.pair.certificatePEM, client: client
        ).yaml
        #expect(text.contains("client-key-data: \(Data(client.keyPEM.utf8).base64EncodedString())\n"))
        #expect(text.contains("current-context: admin@martlet\n"))
    }
}
