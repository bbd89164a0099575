import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Approves the certificate requests of nodes: a first client certificate for a bootstrapper, and what a node asks for itself. Who may is a
/// matter of RBAC (subresources `nodeclient`, `selfnodeclient`, `selfnodeserver`), asked through a SubjectAccessReview.
final class CertificateApprover: Controller {
    static let name = "certificatesigningrequest-approving-controller"
    static let inputs = [CertificateSigningRequest.resource, Node.resource]
    static let outputs = [CertificateSigningRequest.resource]

    private static let reviews = ResourceKind(
        group: "authorization.k8s.io", version: "v1", plural: "subjectaccessreviews", kind: "SubjectAccessReview", namespaced: false)

    private let context: ControllerContext
    private let requests: Informer<CertificateSigningRequest>
    private let nodes: Informer<Node>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        requests = context.informer(CertificateSigningRequest.self)
        nodes = context.informer(Node.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        requests.addHandler { [queue] event in
            if case .deleted = event { return }
            queue.enqueue(event.object.metadata.name)
        }
    }

    func run() async { await queue.run(workers: 1) { [self] name in try await sync(name) } }

    private func sync(_ name: String) async throws {
        guard let signer = context.options.certificateSigner, var request = requests.get(name), !request.hasCertificate,
            !request.hasCondition("Approved"), !request.isDenied, let asked = try? signer.read(request.spec.request),
            CertificateRules.refusal(signer: request.spec.signerName, asked, usages: request.spec.usages) == nil
        else { return }
        let isForItself = request.spec.username == asked.commonName
        let attempts: [(subresource: String, message: String)]
        switch request.spec.signerName {
        case CertificateRules.kubeletClient:
            attempts =
                (isForItself ? [("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")] : [])
                + [("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")]
        case CertificateRules.kubeletServing where isForItself && ownsNames(asked, reserved: signer.reservedAddresses):
            attempts = [("selfnodeserver", "Auto approving self kubelet serving certificate after SubjectAccessReview.")]
        default: return
        }
        for attempt in attempts where try await isAllowed(request.spec, attempt.subresource) {
            request.add(condition: "Approved", reason: "AutoApproved", message: attempt.message, now: KubeTime.text(context.time.now()))
            do {
                try await context.client.update(request, subresource: "approval")
            } catch let status as APIStatus where status.isNotFound {}
            return
        }
    }

    private func isAllowed(_ spec: CertificateSigningRequestSpec, _ subresource: String) async throws -> Bool {
        var review: JSON = [:]
        review["user"] = .string(spec.username ?? "")
        review["uid"] = .string(spec.uid)
        review["groups"] = JSON(spec.groups)
        review["resourceAttributes"] = [
            "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create", "version": "*",
            "subresource": .string(subresource),
        ]
        let answer = try await context.client.transport.send(
            KubeRequest(
                .create, Self.reviews, body: ["apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": review]))
        return answer["status"]?["allowed"] == true
    }

    /// A serving certificate for a node's name and for addresses that are nobody else's.
    private func ownsNames(_ asked: RequestedCertificate, reserved: Set<String>) -> Bool {
        let name = String(asked.commonName.dropFirst(CertificateRules.nodePrefix.count))
        guard asked.dnsNames.allSatisfy({ $0 == name }) else { return false }
        var taken = reserved
        for node in nodes.all where node.metadata.name != name { taken.formUnion(node.status.addresses.map(\.address)) }
        return taken.isDisjoint(with: asked.ipAddresses)
    }
}
