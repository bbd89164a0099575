import Controllers
import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("certificate requests")
struct CertificateTests {
    /// Reads a request written as `user;group;dns` and signs with what it was asked.
    private static let signer = CertificateSigner(
        read: { text in
            let parts = text.split(separator: ";", omittingEmptySubsequences: false).map(String.init)
            return RequestedCertificate(
                commonName: parts[0], organizations: [parts[1]], dnsNames: parts.count > 2 ? [parts[2]] : [], ipAddresses: [],
                emailAddresses: [], uris: [])
        }, sign: { "\($0)|\($1.joined(separator: ","))|\($2)" })

    private func cluster(_ controller: String) -> ClusterFixture {
        ClusterFixture([controller]) { $0.certificateSigner = Self.signer }
    }

    private func request(
        _ cluster: ClusterFixture, _ name: String, _ signer: String, _ text: String, _ usages: [String], seconds: Int? = nil, condition: String? = "Approved",
        decidedAt: Double = SystemTime().now()
    ) async throws {
        var request = CertificateSigningRequest()
        request.metadata.name = name
        request.spec.signerName = "kubernetes.io/\(signer)"
        request.spec.request = text
        request.spec.usages = usages
        request.spec.expirationSeconds = seconds
        try await cluster.client.create(request)
        guard let condition else { return }
        var object = request.json
        let time = JSON.string(KubeTime.text(decidedAt))
        object["status"] = ["conditions": [["type": .string(condition), "status": "True", "lastUpdateTime": time]]]
        try await cluster.client.patch(CertificateSigningRequest.self, name: name, .merge, ["status": object["status"] ?? [:]], subresource: "status")
    }

    private func get(_ cluster: ClusterFixture, _ name: String) async throws -> CertificateSigningRequest {
        try await cluster.client.get(CertificateSigningRequest.self, name: name)
    }

    @Test("an approved request is signed for the time it asks for, between ten minutes and a year; an undecided one is not")
    func signing() async throws {
        let cluster = cluster("certificatesigningrequest-signing-controller")
        let client = "kube-apiserver-client"
        try await request(cluster, "waiting", client, "jane;devs", ["client auth"], condition: nil)
        for (name, seconds, granted) in [("default", nil, 31_536_000), ("short", 60, 600), ("day", 86400, 86400), ("long", 999_999_999, 31_536_000)] {
            try await request(cluster, name, client, "jane;devs", ["client auth"], seconds: seconds)
            try await cluster.eventually("\(name) is signed") {
                try await get(cluster, name).status.certificate == "jane;devs|client auth|\(granted)"
            }
        }
        #expect(try await get(cluster, "waiting").status.certificate == nil)
    }

    @Test("a signer says why it does not sign: wrong group, wrong name, wrong usage, missing or unwanted names")
    func refusals() async throws {
        let cluster = cluster("certificatesigningrequest-signing-controller")
        let cases: [(String, String, [String], String)] = [
            ("kube-apiserver-client", "jane;devs", ["server auth"], "invalid usage for client certificate: server auth"),
            ("kube-apiserver-client-kubelet", "system:node:a;devs", ["digital signature", "client auth"], "subject organization is not system:nodes"),
            ("kube-apiserver-client-kubelet", "jane;system:nodes", ["digital signature", "client auth"], "subject common name does not begin with system:node:"),
            ("kube-apiserver-client-kubelet", "system:node:a;system:nodes;a", ["digital signature", "client auth"], "DNS subjectAltNames are not allowed"),
            ("kubelet-serving", "system:node:a;system:nodes", ["digital signature", "server auth"], "DNS or IP subjectAltName is required"),
        ]
        for (index, (signer, text, usages, message)) in cases.enumerated() {
            try await request(cluster, "r\(index)", signer, text, usages)
            try await cluster.eventually("r\(index) has failed") {
                try await get(cluster, "r\(index)").status.conditions.contains { $0.type == "Failed" && $0.message == message }
            }
        }
    }

    @Test("decided requests go after an hour, undecided ones stay for a day")
    func cleaning() async throws {
        let cluster = ClusterFixture([])
        let hourAgo = SystemTime().now() - 3700
        try await request(cluster, "denied", "kubelet-serving", "a;b", [], condition: "Denied", decidedAt: hourAgo)
        try await request(cluster, "fresh", "kubelet-serving", "a;b", [], condition: "Denied")
        try await request(cluster, "approved-unsigned", "kubelet-serving", "a;b", [], condition: "Approved", decidedAt: hourAgo)
        try await request(cluster, "pending", "kubelet-serving", "a;b", [], condition: nil)
        let options: ControllerOptions = {
            var options = ControllerOptions()
            options.only = ["certificatesigningrequest-cleaner-controller"]
            return options
        }()
        let manager = ControllerManager(factory: InformerFactory(client: cluster.client), client: cluster.client, options: options)
        let task = Task { await manager.run() }
        defer { task.cancel() }
        try await cluster.eventually("the old one is gone") {
            try await cluster.list(CertificateSigningRequest.self).map(\.metadata.name) == ["approved-unsigned", "fresh", "pending"]
        }
    }
}
