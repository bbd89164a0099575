package import JSON
package import KubeTypes

/// Everything that makes one node's agent different from another's.
package struct NodeAgentConfiguration: Sendable {
    /// What the agent answers to on port 10250. PEM texts.
    package struct Serving: Sendable {
        package var certificatePEM: String
        package var keyPEM: String
        /// The cluster's authority: clients must show a certificate of it.
        package var clientCAPEM: String
        package var port: Int
        /// Common name of the API server's client certificate; clients in `system:masters` are let in as well.
        package var allowedCommonName = "kube-apiserver-kubelet-client"

        package init(certificatePEM: String, keyPEM: String, clientCAPEM: String, port: Int = 10250) {
            self.certificatePEM = certificatePEM
            self.keyPEM = keyPEM
            self.clientCAPEM = clientCAPEM
            self.port = port
        }
    }

    /// Upstream's hard eviction thresholds and the pressure conditions that follow from them.
    package struct Eviction: Sendable {
        package var isEnabled = true
        package var memoryAvailableBytesMin: UInt64 = 100 << 20
        /// Shares of the whole, 0...1.
        package var nodefsAvailableMin = 0.10
        package var nodefsInodesFreeMin = 0.05
        package var imagefsAvailableMin = 0.15
        /// Pressure conditions stay this long after the signal was last met.
        package var pressureTransitionSeconds = 300.0
        package var periodSeconds = 10.0
        package init() {}
    }

    /// Disk use of images, shares of the whole: collection starts above `high` and stops below `low`.
    package struct ImageGarbageCollection: Sendable {
        package var high = 0.85
        package var low = 0.80
        /// Younger images stay.
        package var minimumAgeSeconds = 120.0
        package var periodSeconds = 300.0
        package init() {}
    }

    package var nodeName: String
    package var nodeIP: String
    /// The kubelet's root: pods' volumes and files.
    package var rootDirectory = "/var/lib/kubelet"
    package var podLogsDirectory = "/var/log/pods"
    package var containerLogsDirectory = "/var/log/containers"
    /// As the runtime takes it, below the root of the cgroup tree: `/martlet-1a2b3c/node-1/kubepods`.
    package var cgroupRoot = "/kubepods"
    package var clusterDNS = ["10.96.0.10"]
    package var clusterDomain = "cluster.local"
    /// Used until the Node object has one.
    package var podCIDR: String?
    /// Where containerd watches for its network; nil: somebody else configures it.
    package var cniConfigurationDirectory: String?
    /// host-local's leases.
    package var cniDataDirectory = "/var/lib/cni/networks"
    /// Keep routes to the other nodes' pods, by their addresses.
    package var managesRoutes = false
    package var serving: Serving?
    package var podsMax = 110
    package var labels: [String: String] = [:]
    package var taints: [Taint] = []
    package var eviction = Eviction()
    package var imageGarbageCollection = ImageGarbageCollection()
    package var staticPodDirectory: String?
    /// Reads a manifest; the caller can put a YAML reader here.
    package var manifestParser: @Sendable ([UInt8]) throws -> JSON = { try JSON.parse($0) }
    /// Folder of the local-path provisioner: directories of volumes are made and removed below it, nowhere else.
    package var localVolumesDirectory = "/var/lib/martlet/volumes"
    package var containerLogBytesMax = 10 << 20
    package var containerLogFilesMax = 5
    package var kubeletVersion = "v1.36.2"
    package var leaseSeconds = 40
    package var leaseRenewSeconds = 10.0
    /// Upstream's nodeStatusReportFrequency: an unchanged status is written this often.
    package var statusReportSeconds = 300.0
    package var statusUpdateSeconds = 10.0
    package var relistSeconds = 1.0
    package var syncSeconds = 60.0
    /// Pulls at the same time.
    package var imagePullsMax = 2

    package init(nodeName: String, nodeIP: String) {
        self.nodeName = nodeName
        self.nodeIP = nodeIP
    }
}
