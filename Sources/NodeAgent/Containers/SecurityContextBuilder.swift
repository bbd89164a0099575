import CRI
import KubeTypes

/// Who a container runs as, and what it may do.
struct SecurityContextBuilder {
    var pod: Pod
    var container: Container
    var image: CRIImage
    /// Container id of an ephemeral container's target.
    var targetID: String?
    var seccompDirectory: String

    static let maskedPaths = [
        "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
        "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
    ]
    static let readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

    /// - Throws: upstream's message when the image would run as root although it must not.
    func build() throws(AgentError) -> CRILinuxContainerSecurityContext {
        let podContext = pod.spec.securityContext
        let own = container.securityContext
        var result = CRILinuxContainerSecurityContext()
        let user = own?.runAsUser ?? podContext?.runAsUser
        try checkNonRoot(user: user, required: own?.runAsNonRoot ?? podContext?.runAsNonRoot)
        if let user {
            result.runAsUser.value = Int64(user)
        } else if image.hasUid {
            result.runAsUser = image.uid
        } else if !image.username.isEmpty {
            result.runAsUsername = image.username
        }
        if let group = own?.runAsGroup ?? podContext?.runAsGroup { result.runAsGroup.value = Int64(group) }
        result.supplementalGroups = (podContext?.supplementalGroups ?? []).map(Int64.init) + (podContext?.fsGroup.map { [Int64($0)] } ?? [])
        if podContext?.supplementalGroupsPolicy == "Strict" { result.supplementalGroupsPolicy = .strict }
        result.privileged = own?.privileged == true
        result.readonlyRootfs = own?.readOnlyRootFilesystem == true
        result.noNewPrivs = noNewPrivileges(own)
        result.namespaceOptions = SandboxConfig.namespaces(pod)
        if let targetID {
            result.namespaceOptions.pid = .target
            result.namespaceOptions.targetID = targetID
        }
        if let capabilities = own?.capabilities {
            result.capabilities.addCapabilities = capabilities.add.map(Self.capability)
            result.capabilities.dropCapabilities = capabilities.drop.map(Self.capability)
        }
        if own?.procMount != "Unmasked", !result.privileged {
            result.maskedPaths = Self.maskedPaths
            result.readonlyPaths = Self.readonlyPaths
        }
        result.seccomp = try seccomp(own?.seccompProfile ?? podContext?.seccompProfile, privileged: result.privileged)
        return result
    }

    private func noNewPrivileges(_ own: SecurityContext?) -> Bool {
        guard let allowed = own?.allowPrivilegeEscalation else { return false }
        return !allowed
    }

    private func checkNonRoot(user: Int?, required: Bool?) throws(AgentError) {
        guard required == true else { return }
        let place = "(pod: \"\(pod.longName)\", container: \(container.name))"
        if let user {
            if user == 0 { throw AgentError("container's runAsUser breaks non-root policy \(place)") }
            return
        }
        if image.hasUid {
            if image.uid.value == 0 { throw AgentError("container has runAsNonRoot and image will run as root \(place)") }
        } else if !image.username.isEmpty {
            throw AgentError("container has runAsNonRoot and image has non-numeric user (\(image.username)), cannot verify user is non-root \(place)")
        } else {
            throw AgentError("container has runAsNonRoot and image will run as root \(place)")
        }
    }

    private func seccomp(_ profile: SeccompProfile?, privileged: Bool) throws(AgentError) -> CRISecurityProfile {
        var result = CRISecurityProfile()
        switch profile?.type {
        case "RuntimeDefault" where !privileged: result.profileType = .runtimeDefault
        case "Localhost":
            guard let name = profile?.localhostProfile, !name.isEmpty else { throw AgentError("localhostProfile must be set if seccompProfile type is Localhost.") }
            result.profileType = .localhost
            result.localhostRef = "\(seccompDirectory)/\(name)"
        default: result.profileType = .unconfined
        }
        return result
    }

    /// The runtime wants the name without `CAP_`.
    private static func capability(_ name: String) -> String {
        let upper = name.uppercased()
        return upper.hasPrefix("CAP_") ? String(upper.dropFirst(4)) : upper
    }
}
