import CRI
import KubeTypes

/// The runtime's configuration of a pod's sandbox.
struct SandboxConfig {
    var pod: Pod
    var attempt: Int
    var logDirectory: String
    var cgroupParent: String
    var resolvConf: ResolvConf
    var clusterDomain: String

    func build() -> CRIPodSandboxConfig {
        var config = CRIPodSandboxConfig()
        config.metadata.name = pod.metadata.name
        config.metadata.namespace = pod.metadata.namespace
        config.metadata.uid = pod.metadata.uid
        config.metadata.attempt = UInt32(attempt)
        if !pod.usesHostNetwork {
            var name = pod.hostName
            if pod.spec.setHostnameAsFQDN == true, let domain = pod.hostDomain(clusterDomain: clusterDomain) { name += ".\(domain)" }
            config.hostname = name
        }
        config.logDirectory = logDirectory
        config.dnsConfig.servers = resolvConf.servers
        config.dnsConfig.searches = resolvConf.searches
        config.dnsConfig.options = resolvConf.options
        var labels = pod.metadata.labels
        labels[RuntimeLabel.podName] = pod.metadata.name
        labels[RuntimeLabel.podNamespace] = pod.metadata.namespace
        labels[RuntimeLabel.podUID] = pod.metadata.uid
        config.labels = labels
        config.annotations = pod.metadata.annotations
        config.annotations[RuntimeLabel.gracePeriod] = String(pod.spec.terminationGracePeriodSeconds ?? 30)
        if !pod.usesHostNetwork { config.portMappings = portMappings() }

        config.linux.cgroupParent = cgroupParent
        var security = CRILinuxSandboxSecurityContext()
        security.namespaceOptions = Self.namespaces(pod)
        security.privileged = pod.allContainers.contains { $0.securityContext?.privileged == true }
        security.seccomp.profileType = .runtimeDefault
        if let context = pod.spec.securityContext {
            if let user = context.runAsUser { security.runAsUser.value = Int64(user) }
            // A group alone is refused by the runtime.
            if let group = context.runAsGroup, context.runAsUser != nil { security.runAsGroup.value = Int64(group) }
            security.supplementalGroups = context.supplementalGroups.map(Int64.init) + (context.fsGroup.map { [Int64($0)] } ?? [])
            for sysctl in context.sysctls { config.linux.sysctls[sysctl.name.replacingSlashes] = sysctl.value }
        }
        config.linux.securityContext = security
        return config
    }

    static func namespaces(_ pod: Pod) -> CRINamespaceOption {
        var options = CRINamespaceOption()
        options.network = pod.usesHostNetwork ? .node : .pod
        options.ipc = pod.spec.hostIPC == true ? .node : .pod
        options.pid = pod.spec.hostPID == true ? .node : pod.spec.shareProcessNamespace == true ? .pod : .container
        return options
    }

    private func portMappings() -> [CRIPortMapping] {
        (pod.spec.containers + pod.spec.initContainers.filter(\.isSidecar)).flatMap(\.ports).compactMap { port in
            guard let host = port.hostPort, host > 0 else { return nil }
            var mapping = CRIPortMapping()
            mapping.hostPort = Int32(truncatingIfNeeded: host)
            mapping.containerPort = Int32(truncatingIfNeeded: port.containerPort)
            mapping.protocol = port.protocol == "UDP" ? .udp : port.protocol == "SCTP" ? .sctp : .tcp
            mapping.hostIp = port.hostIP ?? ""
            return mapping
        }
    }
}

extension String {
    /// `net/ipv4/tcp_syncookies` and `net.ipv4.tcp_syncookies` are the same setting.
    var replacingSlashes: String { contains("/") ? String(map { $0 == "/" ? "." : $0 == "." ? "/" : $0 }) : self }
}
