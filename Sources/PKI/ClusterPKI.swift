/// All keys and certificates of a cluster, in `DIR/pki/` under kubeadm's file names. Loading makes what is missing, damaged,
/// near its end or does not cover the names asked for; authorities and the service account key are only ever made once.
package struct ClusterPKI: Sendable {
    /// Leaf certificates are renewed when less than this is left.
    package static let renewBeforeSeconds: Int64 = 30 * 86400

    package let folder: String
    /// Signs servers, clients and kubelets (`ca.crt`, `ca.key`).
    package let authority: CertificateAuthority
    /// Signs the aggregation layer's client (`front-proxy-ca.crt`, `front-proxy-ca.key`).
    package let frontProxyAuthority: CertificateAuthority
    package let apiServer: CertificatePair
    /// The API server as a client of kubelets (`apiserver-kubelet-client`).
    package let apiServerKubeletClient: CertificatePair
    package let frontProxyClient: CertificatePair
    /// `kubernetes-admin` of `system:masters`.
    package let admin: CertificatePair
    package let controllerManager: CertificatePair
    package let scheduler: CertificatePair
    /// Public and private half of the service account key (`sa.pub`, `sa.key`).
    package let serviceAccountKey: CertificatePair

    private let files: KeyFolder
    private let unsaved: [KeyFile]

    /// Loads `folder` or makes what it lacks, and saves what it made.
    ///
    /// - Parameters:
    ///   - names: what `apiserver.crt` must cover beside what it covers already.
    ///   - nowSeconds: Unix time.
    package init(folder: String, names: SubjectNames, nowSeconds: Int64) throws {
        self = try Self.load(folder: folder, names: names, nowSeconds: nowSeconds)
        try save()
    }

    /// Like `init`, but what was made is not saved yet: a start goes on while `save` waits for the disk. Nothing signed by it may be
    /// handed out before `save` has returned.
    package static func load(folder: String, names: SubjectNames, nowSeconds: Int64) throws -> ClusterPKI {
        try ClusterPKI(unsavedIn: folder, names: names, nowSeconds: nowSeconds)
    }

    /// Makes what `load` made durable.
    package func save() throws {
        if !unsaved.isEmpty { try files.replace(unsaved) }
    }

    private init(unsavedIn folder: String, names: SubjectNames, nowSeconds: Int64) throws {
        self.folder = folder
        let files = try KeyFolder(path: folder)
        let loader = Loader(files: files, nowSeconds: nowSeconds)
        let authority = try loader.authority("ca", commonName: "kubernetes")
        let frontProxyAuthority = try loader.authority("front-proxy-ca", commonName: "front-proxy-ca")
        self.authority = authority
        self.frontProxyAuthority = frontProxyAuthority
        apiServer = try loader.leaf("apiserver", authority: authority, usage: .serverAuth, names: names) { wanted in
            try authority.issueServer(commonName: "kube-apiserver", names: wanted, nowSeconds: nowSeconds)
        }
        func client(_ file: String, _ user: String, _ groups: [String], of signer: CertificateAuthority) throws -> CertificatePair {
            try loader.leaf(file, authority: signer, usage: .clientAuth) { _ in
                try signer.issueClient(commonName: user, organizations: groups, nowSeconds: nowSeconds)
            }
        }
        // kubeadm names the kubelet client's group `kubeadm:cluster-admins`; without kubeadm's bindings it is system:masters.
        apiServerKubeletClient = try client(
            "apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"], of: authority)
        frontProxyClient = try client("front-proxy-client", "front-proxy-client", [], of: frontProxyAuthority)
        admin = try client("admin", "kubernetes-admin", ["system:masters"], of: authority)
        controllerManager = try client("controller-manager", "system:kube-controller-manager", [], of: authority)
        scheduler = try client("scheduler", "system:kube-scheduler", [], of: authority)
        serviceAccountKey = try loader.serviceAccountKey()
        self.files = files
        unsaved = loader.unsaved
    }
}

/// Reads pairs from files and repairs them. A key always takes its place before its certificate, so what a crash leaves behind is at
/// worst a key without a certificate.
private final class Loader {
    private let files: KeyFolder
    private let nowSeconds: Int64
    /// What was made, in the order in which it must be written.
    private(set) var unsaved: [KeyFile] = []

    init(files: KeyFolder, nowSeconds: Int64) {
        self.files = files
        self.nowSeconds = nowSeconds
    }

    private func write(_ name: String, _ text: String, isPrivate: Bool) {
        unsaved.append(KeyFile(name: name, text: text, isPrivate: isPrivate))
    }

    func authority(_ name: String, commonName: String) throws -> CertificateAuthority {
        let key = try files.read(name + ".key")
        if let certificate = try files.read(name + ".crt") {
            guard let key else {
                throw CertificateFailure("\(files.path)/\(name).crt has no \(name).key beside it; restore the key or remove both")
            }
            do {
                return try CertificateAuthority(pair: CertificatePair(certificatePEM: certificate, keyPEM: key))
            } catch {
                // Never replace an authority silently: everything it signed would stop working.
                throw CertificateFailure("\(files.path)/\(name).crt and .key cannot be used: \(error)")
            }
        }
        let authority = try CertificateAuthority.create(commonName: commonName, keyPEM: key, nowSeconds: nowSeconds)
        if key == nil { write(name + ".key", authority.pair.keyPEM, isPrivate: true) }
        write(name + ".crt", authority.pair.certificatePEM, isPrivate: false)
        return authority
    }

    func leaf(
        _ name: String, authority: CertificateAuthority, usage: CertificateUsage, names: SubjectNames = SubjectNames(),
        issue: (SubjectNames) throws -> CertificatePair
    ) throws -> CertificatePair {
        var wanted = names
        if let certificate = try files.read(name + ".crt"), let key = try files.read(name + ".key"),
            let identity = try? CertificateIdentity(pem: certificate)
        {
            let fits = (try? authority.verify(leaf: identity, usage: usage, nowSeconds: nowSeconds)) != nil
            if fits, identity.matches(keyPEM: key), identity.covers(names),
                identity.notAfterSeconds - nowSeconds > ClusterPKI.renewBeforeSeconds
            {
                return CertificatePair(certificatePEM: certificate, keyPEM: key)
            }
            // Names that were asked for once stay covered: another server may be reached by them.
            if fits {
                for name in identity.names.dnsNames where !wanted.dnsNames.contains(name) { wanted.dnsNames.append(name) }
                for address in identity.names.ipAddresses where !wanted.ipAddresses.contains(address) {
                    wanted.ipAddresses.append(address)
                }
            }
        }
        let pair = try issue(wanted)
        write(name + ".key", pair.keyPEM, isPrivate: true)
        write(name + ".crt", pair.certificatePEM, isPrivate: false)
        return pair
    }

    func serviceAccountKey() throws -> CertificatePair {
        if let key = try files.read("sa.key") {
            let signer = try TokenSigner(pem: key)
            if let known = try files.read("sa.pub"), let parsed = try? TokenKey(pem: known), parsed.keyID == signer.publicKey.keyID {
                return CertificatePair(certificatePEM: known, keyPEM: key)
            }
            write("sa.pub", signer.publicKey.pem, isPrivate: false)
            return CertificatePair(certificatePEM: signer.publicKey.pem, keyPEM: key)
        }
        let pair = TokenSigner.createKey()
        write("sa.key", pair.keyPEM, isPrivate: true)
        write("sa.pub", pair.certificatePEM, isPrivate: false)
        return pair
    }
}
