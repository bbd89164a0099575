import KubeClient
import KubeMeta
import KubeTypes

/// Keeps the service account `default` in every namespace that is not on its way out.
final class ServiceAccountController: Controller {
    static let name = "serviceaccount-controller"
    static let inputs = [Namespace.resource, ServiceAccount.resource]
    static let outputs = [ServiceAccount.resource]

    private static let accountName = "default"

    private let context: ControllerContext
    private let namespaces: Informer<Namespace>
    private let accounts: Informer<ServiceAccount>
    private let queue: WorkQueue<String>
    var gates: [RunGate] { [queue.gate] }

    init(_ context: ControllerContext) {
        self.context = context
        namespaces = context.informer(Namespace.self)
        accounts = context.informer(ServiceAccount.self)
        queue = WorkQueue(name: Self.name, time: context.time)
        namespaces.addHandler { [queue] event in
            if case .deleted = event { return }
            queue.enqueue(event.object.metadata.name)
        }
        accounts.addHandler { [queue] event in
            if case .deleted(let account) = event { queue.enqueue(account.metadata.namespace) }
        }
    }

    func run() async { await queue.run(workers: 2) { [self] key in try await sync(key) } }

    private func sync(_ namespace: String) async throws {
        guard let object = namespaces.get(namespace), object.status.phase != "Terminating", !object.metadata.isBeingDeleted,
            accounts.get(namespace: namespace, name: Self.accountName) == nil
        else { return }
        var account = ServiceAccount()
        account.metadata.namespace = namespace
        account.metadata.name = Self.accountName
        do {
            try await context.client.create(account)
        } catch let status as APIStatus where status.isAlreadyExists || status.isNotFound || PodControl.isNamespaceTerminating(status) {}
    }
}
