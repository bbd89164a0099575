package import KubeMeta
import KubeTypes

/// What an operator, a test or the surrounding program decides about the controllers.
package struct ControllerOptions: Sendable {
    /// Names of controllers that do not run.
    package var disabled: Set<String> = []
    /// When set, only these run.
    package var only: Set<String>?
    /// The cluster's certificate authority, published as `ca.crt` of `kube-root-ca.crt` in every namespace.
    package var clusterCertificatePEM = ""
    /// All stored kinds that can be listed, deleted and watched, custom ones too: for namespaces' contents and for garbage collection. Nil:
    /// the built-in kinds and those of the custom resource definitions that the server has.
    package var resourceKinds: (@Sendable () async -> [ResourceKind])?

    /// A node that has posted nothing for this long is unknown (upstream `--node-monitor-grace-period`).
    package var nodeMonitorGraceSeconds = 40.0
    /// How often the heartbeats are looked at.
    package var nodeMonitorPeriodSeconds = 5.0
    /// The cluster's pod range, from which every node gets a /24.
    package var clusterCIDR: String?
    /// Terminated pods are removed, the oldest first, once there are more than this.
    package var terminatedPodsMax = 12_500
    /// Parallel workers of the busy queues.
    package var workers = 8

    /// The folder on each node in which local volumes are made: `<folder>/pvc-<uid>_<namespace>_<claim>`.
    package var localPathFolder: @Sendable (_ nodeName: String) -> String = { _ in "/var/lib/martlet/volumes" }
    /// The default StorageClass is made when it is missing.
    package var createsLocalPathStorageClass = true

    /// Reads and signs certificate requests; nil: nobody does, and requests wait for a signer from elsewhere.
    package var certificateSigner: CertificateSigner?

    package init() {}
}
