import JSON
import KubeAPI
import KubeMeta
import PKI

/// Who may ask for, approve and sign certificates, beside the rights on the objects themselves: upstream's admission plug-ins
/// CertificateSubjectRestriction, CertificateApproval and CertificateSigning.
struct CertificateAccess {
    static let group = "certificates.k8s.io"
    private static let clientSigner = "kubernetes.io/kube-apiserver-client"

    let authorizer: Authorizer

    static func concerns(_ kind: ResourceKind) -> Bool { kind.group == group && kind.plural == "certificatesigningrequests" }

    /// - Throws: 422 for what is no request; 403 for one that would make its owner an administrator.
    static func checkNew(_ object: JSON, _ kind: ResourceKind) throws {
        let name = object["metadata"]?["name"]?.string ?? ""
        let text = object["spec"]?["request"]?.string ?? ""
        let request: CertificateRequest
        do {
            guard let bytes = Base64.decode(text) else { throw CertificateFailure("illegal base64 data") }
            request = try CertificateRequest(pem: String(decoding: bytes, as: UTF8.self))
        } catch {
            let reason = (error as? CertificateFailure)?.description ?? "PEM block type must be CERTIFICATE REQUEST"
            throw APIStatus.invalid(group: group, kind: kind.kind, name: name, [.invalid("spec.request", .string(text), reason)])
        }
        if object["spec"]?["signerName"]?.string == clientSigner, request.organizations.contains(UserInfo.masters) {
            throw APIStatus.forbidden(
                "\(kind.qualifiedName) \"\(name)\" is forbidden: use of \(clientSigner) signer with system:masters group is not allowed", kind: kind,
                name: name)
        }
    }

    /// Checks the verb `approve` or `sign` on the request's signer.
    func check(_ request: JSON, _ kind: ResourceKind, scope: WriteScope, user: UserInfo) throws {
        let verb: String
        switch scope {
        case .subresource("approval"): verb = "approve"
        case .status: verb = "sign"
        default: return
        }
        let signer = request["spec"]?["signerName"]?.string ?? ""
        let domain = signer.split(separator: "/").first.map { "\($0)/*" } ?? ""
        for name in [signer, domain] {
            if authorizer.isAllowed(AccessRequest(user: user, verb: verb, group: Self.group, resource: "signers", name: name)) { return }
        }
        let name = request["metadata"]?["name"]?.string ?? ""
        throw APIStatus.forbidden(
            "\(kind.qualifiedName) \"\(name)\" is forbidden: user not permitted to \(verb) requests with signerName \"\(signer)\"", kind: kind, name: name)
    }
}
