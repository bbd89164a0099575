import KubeClient
import KubeMeta
import KubeTypes

/// Signs approved certificate requests of the `kubernetes.io` signers, or says why it does not.
final class CertificateSigningController: Controller {
    static let name = "certificatesigningrequest-signing-controller"
    static let inputs = [CertificateSigningRequest.resource]
    static let outputs = [CertificateSigningRequest.resource]

    /// Upstream's `--cluster-signing-duration`, and what nobody gets more than.
    private static let lifetimeSecondsMax: Int64 = 365 * 86400
    private static let lifetimeSecondsMin: Int64 = 600

    private static let signers: Set<String> = [CertificateRules.client, CertificateRules.kubeletClient, CertificateRules.kubeletServing]

    private let context: ControllerContext
    private let requests: Informer<CertificateSigningRequest>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        requests = context.informer(CertificateSigningRequest.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        requests.addHandler { [queue] event in
            if case .deleted = event { return }
            if event.object.isApproved { queue.enqueue(event.object.metadata.name) }
        }
    }

    func run() async { await queue.run(workers: 1) { [self] name in try await sync(name) } }

    private func sync(_ name: String) async throws {
        guard let signer = context.options.certificateSigner, var request = requests.get(name), request.isApproved, !request.isFailed,
            !request.hasCertificate, Self.signers.contains(request.spec.signerName)
        else { return }
        do {
            let asked = try signer.read(request.spec.request)
            if let refusal = CertificateRules.refusal(signer: request.spec.signerName, asked, usages: request.spec.usages) {
                fail(&request, refusal)
            } else {
                let wanted = request.spec.expirationSeconds.map(Int64.init) ?? Self.lifetimeSecondsMax
                let seconds = min(max(wanted, Self.lifetimeSecondsMin), Self.lifetimeSecondsMax)
                request.status.certificate = try signer.sign(request.spec.request, request.spec.usages, seconds)
            }
        } catch {
            fail(&request, "\(error)")
        }
        do { try await context.client.updateStatus(request) } catch let status as APIStatus where status.isNotFound {}
    }

    private func fail(_ request: inout CertificateSigningRequest, _ message: String) {
        request.add(condition: "Failed", reason: "SignerValidationFailure", message: message, now: KubeTime.text(context.time.now()))
    }
}
