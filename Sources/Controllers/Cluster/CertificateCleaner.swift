import KubeClient
import KubeMeta
import KubeTypes

/// Removes certificate requests that have served: decided or failed ones after an hour, unanswered ones after a day.
final class CertificateCleaner: Controller {
    static let name = "certificatesigningrequest-cleaner-controller"
    static let inputs = [CertificateSigningRequest.resource]
    static let outputs = [CertificateSigningRequest.resource]

    private static let periodSeconds = 60.0
    private static let decidedSeconds = 3600.0
    private static let pendingSeconds = 86400.0

    private let context: ControllerContext
    private let requests: Informer<CertificateSigningRequest>
    private let gate = RunGate()
    var gates: [RunGate] { [gate] }

    init(_ context: ControllerContext) {
        self.context = context
        requests = context.informer(CertificateSigningRequest.self)
    }

    func run() async {
        while !Task.isCancelled {
            await gate.pass()
            let now = context.time.now()
            for request in requests.all where Self.isOld(request, now) {
                try? await context.client.delete(CertificateSigningRequest.self, name: request.metadata.name, uid: request.metadata.uid)
            }
            try? await context.time.sleep(seconds: Self.periodSeconds)
        }
    }

    static func isOld(_ request: CertificateSigningRequest, _ now: Double) -> Bool {
        func age(_ text: String?) -> Double { text.flatMap(KubeTime.parse).map { now - $0 } ?? 0 }
        // An approved request without certificate still waits for its signer.
        let decided = request.status.conditions.filter { $0.type != "Approved" || request.hasCertificate }
        if decided.contains(where: { age($0.lastUpdateTime) > decidedSeconds }) { return true }
        return request.status.conditions.isEmpty && age(request.metadata.creationTimestamp) > pendingSeconds
    }
}
