import JSON
import Glibc
import KubeClient
import KubeMeta
import KubeTypes

/// Where a pod's volumes are on this machine.
struct PreparedVolumes: Sendable, Equatable {
    struct Mounted: Sendable, Equatable {
        var path: String
        /// Whatever the container asks for: generated files are never written to by it.
        var isReadOnly = false
    }
    var byName: [String: Mounted] = [:]
    /// Something in them (a token) must be renewed then.
    var refreshAt: Double?
}

/// A volume that cannot be made ready, with upstream's words.
struct VolumeFailure: Error, CustomStringConvertible, Sendable {
    var volume: String
    var description: String
}

/// Makes a pod's volumes, keeps their content current, and removes them.
struct VolumeManager: Sendable {
    let context: AgentContext

    /// Idempotent: run again it brings files up to date. All volumes are tried; the first failure is thrown with an event for each.
    func prepare(_ pod: Pod, addresses: [String]) async throws -> PreparedVolumes {
        var result = PreparedVolumes()
        var failure: VolumeFailure?
        let used = Set(pod.allContainers.flatMap { $0.volumeMounts.map(\.name) + $0.volumeDevices.map(\.name) })
        for volume in pod.spec.volumes where used.contains(volume.name) || volume.image == nil {
            do {
                result.byName[volume.name] = try await prepare(volume, pod, addresses, &result.refreshAt)
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                context.event(.warning, pod, reason: "FailedMount", "MountVolume.SetUp failed for volume \"\(volume.name)\" : \(error)")
                failure = failure ?? VolumeFailure(volume: volume.name, description: "\(error)")
            }
        }
        if let failure { throw failure }
        return result
    }

    private func directory(_ pod: Pod, _ kind: String, _ volume: Volume) -> String {
        "\(context.podDirectory(pod.metadata.uid))/volumes/kubernetes.io~\(kind)/\(volume.name)"
    }

    private func prepare(_ volume: Volume, _ pod: Pod, _ addresses: [String], _ refreshAt: inout Double?) async throws -> PreparedVolumes.Mounted {
        let fsGroup = pod.spec.securityContext?.fsGroup.map { UInt32(truncatingIfNeeded: $0) }
        let changePolicy = pod.spec.securityContext?.fsGroupChangePolicy
        if let source = volume.emptyDir {
            let path = directory(pod, "empty-dir", volume)
            let limit = source.sizeLimit.map(\.value) ?? 0
            try await Blocking.run {
                let isNew = !Files.isDirectory(path)
                try Files.makeDirectories(path)
                if source.medium == "Memory" {
                    if !Files.isMountPoint(path) {
                        try Files.mountTmpfs(path, options: limit > 0 ? "size=\(limit),mode=777" : "mode=777")
                        chmod(path, 0o777)
                    }
                } else if let medium = source.medium, medium.hasPrefix("HugePages") {
                    throw AgentError("emptyDir medium \(medium) is not supported on this node")
                }
                if isNew {
                    chmod(path, 0o777)
                    if let fsGroup { Ownership.apply(group: fsGroup, to: path, readOnly: false) }
                }
            }
            return .init(path: path)
        }
        if let source = volume.hostPath {
            try await Blocking.run { try HostPath.check(source) }
            return .init(path: source.path)
        }
        if let source = volume.configMap {
            let files = try await configMapFiles(
                pod, source.name, source.items, mode: UInt32(source.defaultMode ?? 0o644), isOptional: source.optional == true)
            return try await write(files, directory(pod, "configmap", volume), fsGroup, tmpfs: false)
        }
        if let source = volume.secret {
            let files = try await secretFiles(
                pod, source.secretName ?? "", source.items, mode: UInt32(source.defaultMode ?? 0o644), isOptional: source.optional == true)
            return try await write(files, directory(pod, "secret", volume), fsGroup, tmpfs: true)
        }
        if let source = volume.downwardAPI {
            let files = try downwardFiles(pod, source.items, mode: UInt32(source.defaultMode ?? 0o644), addresses)
            return try await write(files, directory(pod, "downward-api", volume), fsGroup, tmpfs: true)
        }
        if let source = volume.projected {
            let files = try await projectedFiles(pod, source, addresses, &refreshAt)
            return try await write(files, directory(pod, "projected", volume), fsGroup, tmpfs: true)
        }
        if let source = volume.persistentVolumeClaim {
            return try await claim(pod, source.claimName, isReadOnly: source.readOnly == true, fsGroup, changePolicy)
        }
        if volume.ephemeral != nil {
            return try await claim(pod, "\(pod.metadata.name)-\(volume.name)", isReadOnly: false, fsGroup, changePolicy)
        }
        throw AgentError("volume type \(Self.kind(volume)) is not supported on this node")
    }

    private static func kind(_ volume: Volume) -> String {
        (volume.json.object ?? JSONObject()).first { $0.key != "name" }?.key ?? "unknown"
    }

    private func write(
        _ files: [String: AtomicWriter.File], _ path: String, _ group: UInt32?, tmpfs: Bool
    ) async throws -> PreparedVolumes.Mounted {
        try await Blocking.run {
            try Files.makeDirectories(path)
            // Secrets never touch a disk.
            if tmpfs, !Files.isMountPoint(path) { try Files.mountTmpfs(path, options: "mode=755") }
            if let group {
                lchown(path, UInt32.max, group)
                chmod(path, 0o2775)
            } else {
                chmod(path, 0o755)
            }
            try AtomicWriter.write(files, to: path, group: group)
        }
        return .init(path: path, isReadOnly: true)
    }

    // MARK: generated files

    private func configMapFiles(_ pod: Pod, _ name: String, _ items: [KeyToPath], mode: UInt32, isOptional: Bool) async throws
        -> [String: AtomicWriter.File] {
        guard let map = try await context.objects.configMap(namespace: pod.metadata.namespace, name: name, user: pod.metadata.uid) else {
            if isOptional { return [:] }
            throw AgentError("configmap \"\(name)\" not found")
        }
        var content: [String: [UInt8]] = map.data.mapValues { Array($0.utf8) }
        for (key, value) in map.binaryData { content[key] = Base64Text.decode(value) ?? [] }
        return try Self.select(content, items, mode: mode, isOptional: isOptional, what: "configmap", name: name, namespace: pod.metadata.namespace)
    }

    private func secretFiles(_ pod: Pod, _ name: String, _ items: [KeyToPath], mode: UInt32, isOptional: Bool) async throws
        -> [String: AtomicWriter.File] {
        guard let secret = try await context.objects.secret(namespace: pod.metadata.namespace, name: name, user: pod.metadata.uid) else {
            if isOptional { return [:] }
            throw AgentError("secret \"\(name)\" not found")
        }
        let content = secret.data.mapValues { Base64Text.decode($0) ?? [] }
        return try Self.select(content, items, mode: mode, isOptional: isOptional, what: "secret", name: name, namespace: pod.metadata.namespace)
    }

    static func select(
        _ content: [String: [UInt8]], _ items: [KeyToPath], mode: UInt32, isOptional: Bool, what: String, name: String, namespace: String
    ) throws(AgentError) -> [String: AtomicWriter.File] {
        if items.isEmpty { return content.mapValues { AtomicWriter.File(bytes: $0, mode: mode, owner: nil) } }
        var result: [String: AtomicWriter.File] = [:]
        for item in items {
            guard let bytes = content[item.key] else {
                if isOptional { continue }
                throw AgentError("references non-existent \(what) key: \(item.key)")
            }
            result[normalized(item.path)] = AtomicWriter.File(bytes: bytes, mode: item.mode.map { UInt32($0) } ?? mode, owner: nil)
        }
        return result
    }

    private static func normalized(_ path: String) -> String { path.split(separator: "/").filter { $0 != "." }.joined(separator: "/") }

    func fields(_ pod: Pod, _ addresses: [String]) -> FieldReferences {
        FieldReferences(
            pod: pod, nodeName: context.configuration.nodeName, nodeIP: context.configuration.nodeIP, podIPs: addresses,
            allocatable: context.facts.allocatable)
    }

    private func downwardFiles(_ pod: Pod, _ items: [DownwardAPIVolumeFile], mode: UInt32, _ addresses: [String]) throws(AgentError)
        -> [String: AtomicWriter.File] {
        let fields = fields(pod, addresses)
        var result: [String: AtomicWriter.File] = [:]
        for item in items {
            let text: String
            if let field = item.fieldRef {
                text = try fields.value(field)
            } else if let resource = item.resourceFieldRef {
                guard let name = resource.containerName, let container = pod.container(named: name) else {
                    throw AgentError("container \(resource.containerName ?? "") not found")
                }
                text = try fields.value(resource, container: container)
            } else {
                continue
            }
            result[Self.normalized(item.path)] = AtomicWriter.File(bytes: Array(text.utf8), mode: item.mode.map { UInt32($0) } ?? mode, owner: nil)
        }
        return result
    }

    private func projectedFiles(_ pod: Pod, _ source: ProjectedVolumeSource, _ addresses: [String], _ refreshAt: inout Double?) async throws
        -> [String: AtomicWriter.File] {
        let mode = UInt32(source.defaultMode ?? 0o644)
        var result: [String: AtomicWriter.File] = [:]
        for projection in source.sources {
            var files: [String: AtomicWriter.File] = [:]
            if let map = projection.configMap {
                files = try await configMapFiles(pod, map.name, map.items, mode: mode, isOptional: map.optional == true)
            } else if let secret = projection.secret {
                files = try await secretFiles(pod, secret.name, secret.items, mode: mode, isOptional: secret.optional == true)
            } else if let downward = projection.downwardAPI {
                files = try downwardFiles(pod, downward.items, mode: mode, addresses)
            } else if let token = projection.serviceAccountToken {
                let (text, renewAt) = try await context.tokens.token(
                    pod: pod, audience: token.audience ?? "", expirationSeconds: token.expirationSeconds ?? 3600)
                refreshAt = min(refreshAt ?? renewAt, renewAt)
                let user = Self.commonUser(pod)
                let isGroup = pod.spec.securityContext?.fsGroup != nil
                files[Self.normalized(token.path)] = AtomicWriter.File(
                    bytes: Array(text.utf8), mode: user != nil || isGroup ? 0o600 : mode, owner: isGroup ? nil : user)
            } else {
                throw AgentError("projected source \((projection.json.object ?? JSONObject()).first { _ in true }?.key ?? "unknown") is not supported on this node")
            }
            result.merge(files) { $1 }
        }
        return result
    }

    /// The user all containers run as, if it is one: only then can a token file be its alone.
    static func commonUser(_ pod: Pod) -> UInt32? {
        let users = Set(pod.allContainers.map { $0.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser })
        guard users.count == 1, let user = users.first ?? nil else { return nil }
        return UInt32(truncatingIfNeeded: user)
    }

    // MARK: claims

    private func claim(_ pod: Pod, _ name: String, isReadOnly: Bool, _ fsGroup: UInt32?, _ changePolicy: String?) async throws
        -> PreparedVolumes.Mounted {
        guard let claim = try await context.client.find(PersistentVolumeClaim.self, namespace: pod.metadata.namespace, name: name) else {
            throw AgentError("persistentvolumeclaim \"\(name)\" not found")
        }
        guard claim.status.phase == "Bound", let volumeName = claim.spec.volumeName, !volumeName.isEmpty else {
            throw AgentError("PVC \(pod.metadata.namespace)/\(name) is not bound")
        }
        guard let volume = try await context.client.find(PersistentVolume.self, name: volumeName) else {
            throw AgentError("persistentvolume \"\(volumeName)\" not found")
        }
        let local = volume.spec.local?.path
        guard let path = local ?? volume.spec.hostPath?.path else {
            throw AgentError("persistentvolume \"\(volumeName)\": its type is not supported on this node")
        }
        let root = context.configuration.localVolumesDirectory
        let isOurs = path.hasPrefix(root + "/") && !path.split(separator: "/").contains("..")
        let source = volume.spec.hostPath
        try await Blocking.run {
            if isOurs, !Files.isDirectory(path) {
                try Files.makeDirectories(path)
                chmod(path, 0o777)
            }
            if let source { try HostPath.check(source) }
            guard Files.type(path) != nil else { throw AgentError("path \"\(path)\" does not exist") }
            if let fsGroup, local != nil || isOurs, !isReadOnly {
                Ownership.apply(group: fsGroup, to: path, readOnly: false, onlyIfRootDiffers: changePolicy == "OnRootMismatch")
            }
        }
        return .init(path: path, isReadOnly: isReadOnly)
    }

    // MARK: the end

    /// Unmounts and removes the pod's volumes, and with `keepsFiles` false everything below its directory. Idempotent.
    func tearDown(uid: String, keepsFiles: Bool = false) async throws {
        let directory = context.podDirectory(uid)
        try await Blocking.run {
            guard Files.type(directory) != nil else { return }
            // Deepest first; only mounts of this pod.
            for mount in Files.mountPoints().filter({ $0.hasPrefix(directory + "/") }).sorted(by: { $0.utf8.count > $1.utf8.count }) {
                try Files.unmount(mount)
            }
            if keepsFiles {
                for name in ["volumes", "volume-subpaths"] { try Files.removeTree(directory + "/" + name) }
            } else {
                try Files.removeTree(directory)
            }
        }
    }
}

/// The checks of a hostPath's `type`.
enum HostPath {
    static func check(_ source: HostPathVolumeSource) throws(AgentError) {
        let path = source.path
        guard !path.split(separator: "/").contains("..") else { throw AgentError("hostPath \(path) must not contain '..'") }
        func fail(_ what: String) -> AgentError { AgentError("hostPath type check failed: \(path) is not \(what)") }
        let type = Files.type(path)
        switch source.type ?? "" {
        case "": return
        case "DirectoryOrCreate":
            if type == nil { try Files.makeDirectories(path) } else if type != S_IFDIR { throw fail("a directory") }
        case "Directory": if type != S_IFDIR { throw fail("a directory") }
        case "FileOrCreate":
            if type == nil { try Files.write([], to: path, mode: 0o644) } else if type != S_IFREG { throw fail("a file") }
        case "File": if type != S_IFREG { throw fail("a file") }
        case "Socket": if type != S_IFSOCK { throw fail("a socket file") }
        case "CharDevice": if type != S_IFCHR { throw fail("a character device") }
        case "BlockDevice": if type != S_IFBLK { throw fail("a block device") }
        default: throw AgentError("\(source.type ?? "") is an invalid volume type")
        }
    }
}
