import KubeTypes

/// What each of the `kubernetes.io` signers signs (documentation "Certificates and Certificate Signing Requests", Kubernetes signers).
enum CertificateRules {
    static let client = "kubernetes.io/kube-apiserver-client"
    static let kubeletClient = "kubernetes.io/kube-apiserver-client-kubelet"
    static let kubeletServing = "kubernetes.io/kubelet-serving"

    private static let nodeGroup = "system:nodes"
    static let nodePrefix = "system:node:"
    private static let keyUsages: Set<String> = ["digital signature", "key encipherment"]

    /// Why a signer refuses a request; nil when it signs it.
    static func refusal(signer: String, _ request: RequestedCertificate, usages: [String]) -> String? {
        let asked = Set(usages)
        switch signer {
        case client:
            if let wrong = usages.first(where: { !keyUsages.contains($0) && $0 != "client auth" }) {
                return "invalid usage for client certificate: \(wrong)"
            }
            return asked.contains("client auth") ? nil : "missing required usage for client certificate: client auth"
        case kubeletClient:
            if let refusal = node(request) { return refusal }
            if !request.dnsNames.isEmpty { return "DNS subjectAltNames are not allowed" }
            if !request.ipAddresses.isEmpty { return "IP subjectAltNames are not allowed" }
            return isExactly(asked, "client auth")
                ? nil : "usages did not match [\"client auth\" \"digital signature\" \"key encipherment\"], \"key encipherment\" being optional"
        case kubeletServing:
            if let refusal = node(request) { return refusal }
            if !request.hasNames { return "DNS or IP subjectAltName is required" }
            return isExactly(asked, "server auth")
                ? nil : "usages did not match [\"digital signature\" \"key encipherment\" \"server auth\"], \"key encipherment\" being optional"
        default: return "the signer \(signer) is not known"
        }
    }

    private static func node(_ request: RequestedCertificate) -> String? {
        if request.organizations != [nodeGroup] { return "subject organization is not system:nodes" }
        if !request.commonName.hasPrefix(nodePrefix) || request.commonName == nodePrefix {
            return "subject common name does not begin with system:node:"
        }
        if !request.emailAddresses.isEmpty { return "Email subjectAltNames are not allowed" }
        if !request.uris.isEmpty { return "URI subjectAltNames are not allowed" }
        return nil
    }

    private static func isExactly(_ asked: Set<String>, _ purpose: String) -> Bool {
        asked == ["digital signature", purpose] || asked == keyUsages.union([purpose])
    }
}

extension CertificateSigningRequest {
    func hasCondition(_ type: String) -> Bool { status.conditions.contains { $0.type == type && $0.status != "False" } }
    var isApproved: Bool { hasCondition("Approved") && !isDenied }
    var isDenied: Bool { hasCondition("Denied") }
    var isFailed: Bool { hasCondition("Failed") }
    var hasCertificate: Bool { status.certificate?.isEmpty == false }

    mutating func add(condition type: String, reason: String, message: String, now: String) {
        var condition = CertificateSigningRequestCondition()
        condition.type = type
        condition.status = "True"
        condition.reason = reason
        condition.message = message
        condition.lastUpdateTime = now
        condition.lastTransitionTime = now
        status.conditions.append(condition)
    }
}
