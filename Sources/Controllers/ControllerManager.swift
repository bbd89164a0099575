package import KubeClient
package import KubeMeta
import KubeTypes
import Logging

/// Makes all controllers, starts the shared informers once, and runs every loop until its task is cancelled.
package final class ControllerManager: Sendable {
    /// Every controller there is, in the order in which they are made.
    package static let all: [any Controller.Type] = [
        ServiceAccountController.self,
        RootCertificatePublisher.self,
        NamespaceController.self,
        GarbageCollector.self,
        DeploymentController.self,
        ReplicaController<ReplicaSet>.self,
        ReplicaController<ReplicationController>.self,
        StatefulSetController.self,
        JobController.self,
        CronJobController.self,
        TTLAfterFinishedController.self,
        DaemonSetController.self,
        VolumeBinderController.self,
        LocalPathProvisioner.self,
        StorageProtectionController.self,
        EphemeralVolumeController.self,
        NodeLifecycleController.self,
        TaintEvictionController.self,
        NodeAddressController.self,
        NodeTTLController.self,
        PodGarbageController.self,
        DisruptionController.self,
        ResourceQuotaController.self,
        ClusterRoleAggregationController.self,
        CertificateApprover.self,
        CertificateSigningController.self,
        CertificateCleaner.self,
        EndpointSliceController.self,
        EndpointsController.self,
        EndpointSliceMirroringController.self,
    ]

    private let factory: InformerFactory
    private let controllers: [any Controller]

    /// - Parameters:
    ///   - factory: shared with the other components of the process; started by `run`.
    package init(factory: InformerFactory, client: KubeClient, options: ControllerOptions = ControllerOptions()) {
        self.factory = factory
        let context = ControllerContext(factory: factory, client: client, options: options)
        controllers = Self.all.filter { type in
            !options.disabled.contains(type.name) && options.only?.contains(type.name) != false
        }.map { $0.init(context) }
    }

    /// Name and gates of each controller that runs.
    package var gates: [(name: String, gates: [RunGate])] { controllers.map { (type(of: $0).name, $0.gates) } }

    package func run() async {
        await factory.startAndSync()
        Logger(label: "controllers").debug("informers are synced", metadata: ["controllers": "\(controllers.count)"])
        await withTaskGroup(of: Void.self) { group in
            for controller in controllers { group.addTask { await controller.run() } }
        }
    }
}
