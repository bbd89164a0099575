import Cgroup
import KubeClient
import CRI
import KubeMeta
import KubeTypes

/// The runtime's configuration of one container, and the files it needs on this machine.
struct ContainerConfigBuilder: Sendable {
    var context: AgentContext
    var pod: Pod
    var container: Container
    var attempt: Int
    var found: ImageManager.Found
    var volumes: PreparedVolumes
    var addresses: [String]
    var targetID: String?

    static let terminationMessagePathDefault = "/dev/termination-log"

    /// - Throws: `AgentError`: the container waits with `CreateContainerConfigError`.
    func build() async throws -> CRIContainerConfig {
        let environment = try await environment()
        let values = Dictionary(environment, uniquingKeysWith: { $1 })
        var config = CRIContainerConfig()
        config.metadata.name = container.name
        config.metadata.attempt = UInt32(attempt)
        config.image.image = found.id
        config.image.userSpecifiedImage = container.image
        config.command = container.command.map { Expansion.expand($0) { values[$0] } }
        config.args = container.args.map { Expansion.expand($0) { values[$0] } }
        config.workingDir = container.workingDir ?? ""
        config.envs = environment.map { pair in configured(CRIKeyValue()) { $0.key = pair.0; $0.value = pair.1 } }
        config.labels = [
            RuntimeLabel.podName: pod.metadata.name, RuntimeLabel.podNamespace: pod.metadata.namespace, RuntimeLabel.podUID: pod.metadata.uid,
            RuntimeLabel.containerName: container.name,
        ]
        config.logPath = "\(container.name)/\(attempt).log"
        config.stdin = container.stdin == true
        config.stdinOnce = container.stdinOnce == true
        config.tty = container.tty == true
        config.linux.securityContext = try SecurityContextBuilder(
            pod: pod, container: container, image: found.image, targetID: targetID,
            seccompDirectory: context.configuration.rootDirectory + "/seccomp").build()
        config.linux.resources = PodResources.linux(pod, container, context)
        config.stopSignal = container.lifecycle?.stopSignal.map(StopSignal.number) ?? 0

        var mounts = try await volumeMounts(values)
        let messageFile = try await terminationMessageFile()
        config.annotations = [
            RuntimeLabel.hash: container.definitionHash, RuntimeLabel.restartCount: String(attempt),
            RuntimeLabel.terminationMessagePath: container.terminationMessagePath ?? Self.terminationMessagePathDefault,
            RuntimeLabel.terminationMessagePolicy: container.terminationMessagePolicy ?? "File",
            RuntimeLabel.terminationMessageHostPath: messageFile,
            RuntimeLabel.gracePeriod: String(pod.spec.terminationGracePeriodSeconds ?? 30),
        ]
        mounts.append(mount(container.terminationMessagePath ?? Self.terminationMessagePathDefault, messageFile))
        if !container.volumeMounts.contains(where: { $0.mountPath == "/etc/hosts" }) { mounts.append(mount("/etc/hosts", try await hostsFile())) }
        config.mounts = mounts
        return config
    }

    private func mount(_ containerPath: String, _ hostPath: String, readOnly: Bool = false) -> CRIMount {
        var mount = CRIMount()
        mount.containerPath = containerPath
        mount.hostPath = hostPath
        mount.readonly = readOnly
        return mount
    }

    // MARK: environment

    private func environment() async throws -> [(String, String)] {
        let namespace = pod.metadata.namespace, uid = pod.metadata.uid
        var configMaps: [String: ConfigMap] = [:]
        var secrets: [String: Secret] = [:]
        let mapNames = container.env.compactMap { $0.valueFrom?.configMapKeyRef?.name } + container.envFrom.compactMap { $0.configMapRef?.name }
        for name in Set(mapNames) { configMaps[name] = try await context.objects.configMap(namespace: namespace, name: name, user: uid) }
        let secretNames = container.env.compactMap { $0.valueFrom?.secretKeyRef?.name } + container.envFrom.compactMap { $0.secretRef?.name }
        for name in Set(secretNames) { secrets[name] = try await context.objects.secret(namespace: namespace, name: name, user: uid) }
        let builder = EnvironmentBuilder(
            fields: VolumeManager(context: context).fields(pod, addresses), services: context.services.all, configMaps: configMaps, secrets: secrets)
        return try builder.build(container).map { ($0.name, $0.value) }
    }

    // MARK: mounts

    private func volumeMounts(_ values: [String: String]) async throws -> [CRIMount] {
        var result: [CRIMount] = []
        for (index, wanted) in container.volumeMounts.enumerated() {
            guard let volume = volumes.byName[wanted.name] else { throw AgentError("cannot find volume \"\(wanted.name)\" to mount into container \"\(container.name)\"") }
            var path = volume.path
            var subPath = wanted.subPath ?? ""
            if let expression = wanted.subPathExpr, !expression.isEmpty {
                subPath = try Self.expandStrictly(expression, values)
            }
            if !subPath.isEmpty {
                let target = "\(context.podDirectory(pod.metadata.uid))/volume-subpaths/\(wanted.name)/\(container.name)/\(index)"
                let source = path, inner = subPath
                do {
                    path = try await Blocking.run { try SubPath.prepare(volume: source, subPath: inner, target: target) }
                } catch {
                    throw AgentError("failed to prepare subPath for volumeMount \"\(wanted.name)\" of container \"\(container.name)\"")
                }
            }
            var mounted = mount(wanted.mountPath, path, readOnly: wanted.readOnly == true || volume.isReadOnly)
            if !mounted.containerPath.hasPrefix("/") { mounted.containerPath = "/" + mounted.containerPath }
            switch wanted.mountPropagation {
            case "HostToContainer": mounted.propagation = .propagationHostToContainer
            case "Bidirectional": mounted.propagation = .propagationBidirectional
            default: mounted.propagation = .propagationPrivate
            }
            result.append(mounted)
        }
        return result
    }

    /// In a path an unknown name is an error, not text.
    static func expandStrictly(_ expression: String, _ values: [String: String]) throws(AgentError) -> String {
        let text = Expansion.expand(expression) { values[$0] }
        // Expanded with everything known, nothing may be left to expand.
        let other = Expansion.expand(expression) { values[$0] ?? "" }
        if text != other { throw AgentError("missing value in \"\(expression)\"") }
        guard !text.hasPrefix("/"), !text.split(separator: "/").contains("..") else {
            throw AgentError("subPath \"\(text)\" must not be absolute or contain '..'")
        }
        return text
    }

    private func terminationMessageFile() async throws -> String {
        let directory = "\(context.podDirectory(pod.metadata.uid))/containers/\(container.name)"
        let path = "\(directory)/\(String(UInt32.random(in: .min ... .max), radix: 16))"
        try await Blocking.run {
            try Files.makeDirectories(directory)
            // Any user of the container may write its last words.
            try Files.write([], to: path, mode: 0o666)
        }
        return path
    }

    private func hostsFile() async throws -> String {
        let directory = context.podDirectory(pod.metadata.uid)
        let path = directory + "/etc-hosts"
        let pod = pod, addresses = addresses, domain = context.configuration.clusterDomain
        try await Blocking.run {
            let hostFile = pod.usesHostNetwork ? Files.readText("/etc/hosts") : ""
            let text = HostsFile.text(
                pod: pod, addresses: addresses, hostName: pod.hostName, hostDomain: pod.hostDomain(clusterDomain: domain), hostFile: hostFile)
            try Files.makeDirectories(directory)
            try Files.write(Array(text.utf8), to: path, mode: 0o644)
        }
        return path
    }
}

/// Signal names of `lifecycle.stopSignal` in the runtime interface's own numbering (its enum follows the kernel's order).
enum StopSignal {
    private static let names = [
        "RUNTIME_DEFAULT", "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT",
        "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP",
        "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
    ]

    static func number(_ name: String) -> Int32 { Int32(names.firstIndex(of: name) ?? 0) }
}
