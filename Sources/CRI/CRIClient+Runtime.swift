internal import SwiftProtobuf

/// RuntimeService: the runtime, sandboxes and containers. Each method throws `CRIError`.
extension CRIClient {
    // MARK: the runtime

    package func version() async throws(CRIError) -> CRIVersionResponse {
        try await call(.runtime, "Version", CRIVersionRequest(), deadline: CRIDeadline.read)
    }

    /// Runtime conditions (`RuntimeReady`, `NetworkReady`); `verbose` adds the runtime's configuration as JSON.
    package func status(verbose: Bool = false, deadline: Duration = CRIDeadline.read) async throws(CRIError) -> CRIStatusResponse {
        try await call(.runtime, "Status", CRIStatusRequest.with { $0.verbose = verbose }, deadline: deadline)
    }

    /// Hands the node's pod CIDR to the runtime (containerd uses it only with a CNI template).
    package func updateRuntimeConfig(podCIDR: String) async throws(CRIError) {
        let request = CRIUpdateRuntimeConfigRequest.with { $0.runtimeConfig.networkConfig.podCidr = podCIDR }
        let _: CRIUpdateRuntimeConfigResponse = try await call(.runtime, "UpdateRuntimeConfig", request, deadline: CRIDeadline.read)
    }

    // MARK: sandboxes

    /// Creates and starts a sandbox, its network included. Returns the sandbox id.
    package func runPodSandbox(_ config: CRIPodSandboxConfig, runtimeHandler: String = "") async throws(CRIError) -> String {
        let request = CRIRunPodSandboxRequest.with { $0.config = config; $0.runtimeHandler = runtimeHandler }
        let response: CRIRunPodSandboxResponse = try await call(.runtime, "RunPodSandbox", request, deadline: CRIDeadline.change)
        return response.podSandboxID
    }

    /// Stops everything in the sandbox and gives its network back. Idempotent.
    package func stopPodSandbox(_ id: String) async throws(CRIError) {
        let request = CRIStopPodSandboxRequest.with { $0.podSandboxID = id }
        let _: CRIStopPodSandboxResponse = try await call(.runtime, "StopPodSandbox", request, deadline: CRIDeadline.change)
    }

    /// Removes the sandbox and its containers. Idempotent.
    package func removePodSandbox(_ id: String) async throws(CRIError) {
        let request = CRIRemovePodSandboxRequest.with { $0.podSandboxID = id }
        let _: CRIRemovePodSandboxResponse = try await call(.runtime, "RemovePodSandbox", request, deadline: CRIDeadline.change)
    }

    package func podSandboxStatus(_ id: String, verbose: Bool = false) async throws(CRIError) -> CRIPodSandboxStatusResponse {
        let request = CRIPodSandboxStatusRequest.with { $0.podSandboxID = id; $0.verbose = verbose }
        return try await call(.runtime, "PodSandboxStatus", request, deadline: CRIDeadline.read)
    }

    package func listPodSandboxes(_ filter: CRIPodSandboxFilter? = nil) async throws(CRIError) -> [CRIPodSandbox] {
        let request = CRIListPodSandboxRequest.with { if let filter { $0.filter = filter } }
        let response: CRIListPodSandboxResponse = try await call(.runtime, "ListPodSandbox", request, deadline: CRIDeadline.read)
        return response.items
    }

    // MARK: containers

    /// Returns the container id. `sandboxConfig` must be the one the sandbox was run with.
    package func createContainer(
        sandbox: String, config: CRIContainerConfig, sandboxConfig: CRIPodSandboxConfig
    ) async throws(CRIError) -> String {
        let request = CRICreateContainerRequest.with {
            $0.podSandboxID = sandbox
            $0.config = config
            $0.sandboxConfig = sandboxConfig
        }
        let response: CRICreateContainerResponse = try await call(.runtime, "CreateContainer", request, deadline: CRIDeadline.change)
        return response.containerID
    }

    package func startContainer(_ id: String) async throws(CRIError) {
        let request = CRIStartContainerRequest.with { $0.containerID = id }
        let _: CRIStartContainerResponse = try await call(.runtime, "StartContainer", request, deadline: CRIDeadline.change)
    }

    /// Sends the stop signal, waits `gracePeriodSeconds`, then kills. Returns when the container has ended. Idempotent.
    package func stopContainer(_ id: String, gracePeriodSeconds: Int64) async throws(CRIError) {
        let request = CRIStopContainerRequest.with { $0.containerID = id; $0.timeout = gracePeriodSeconds }
        let _: CRIStopContainerResponse = try await call(
            .runtime, "StopContainer", request, deadline: .seconds(gracePeriodSeconds) + CRIDeadline.graceAfterTimeout)
    }

    package func removeContainer(_ id: String) async throws(CRIError) {
        let request = CRIRemoveContainerRequest.with { $0.containerID = id }
        let _: CRIRemoveContainerResponse = try await call(.runtime, "RemoveContainer", request, deadline: CRIDeadline.change)
    }

    package func listContainers(_ filter: CRIContainerFilter? = nil) async throws(CRIError) -> [CRIContainer] {
        let request = CRIListContainersRequest.with { if let filter { $0.filter = filter } }
        let response: CRIListContainersResponse = try await call(.runtime, "ListContainers", request, deadline: CRIDeadline.read)
        return response.containers
    }

    package func containerStatus(_ id: String, verbose: Bool = false) async throws(CRIError) -> CRIContainerStatusResponse {
        let request = CRIContainerStatusRequest.with { $0.containerID = id; $0.verbose = verbose }
        return try await call(.runtime, "ContainerStatus", request, deadline: CRIDeadline.read)
    }

    package func updateContainerResources(_ id: String, linux: CRILinuxContainerResources) async throws(CRIError) {
        let request = CRIUpdateContainerResourcesRequest.with { $0.containerID = id; $0.linux = linux }
        let _: CRIUpdateContainerResourcesResponse = try await call(
            .runtime, "UpdateContainerResources", request, deadline: CRIDeadline.change)
    }

    /// After the log file was renamed away: the runtime opens a new one at the same path.
    package func reopenContainerLog(_ id: String) async throws(CRIError) {
        let request = CRIReopenContainerLogRequest.with { $0.containerID = id }
        let _: CRIReopenContainerLogResponse = try await call(.runtime, "ReopenContainerLog", request, deadline: CRIDeadline.change)
    }

    // MARK: exec, attach, port-forward

    /// Runs a command to its end. `timeoutSeconds` 0 means none; the runtime kills the command when it passes
    /// and answers `deadlineExceeded`.
    package func execSync(_ id: String, command: [String], timeoutSeconds: Int64 = 0) async throws(CRIError) -> CRIExecSyncResponse {
        let request = CRIExecSyncRequest.with { $0.containerID = id; $0.cmd = command; $0.timeout = timeoutSeconds }
        let deadline = timeoutSeconds > 0 ? .seconds(timeoutSeconds) + CRIDeadline.graceAfterTimeout : CRIDeadline.execWithoutTimeout
        return try await call(.runtime, "ExecSync", request, deadline: deadline)
    }

    /// Returns the URL of the runtime's streaming server for this session; valid for one connection, for about a minute.
    package func exec(_ request: CRIExecRequest) async throws(CRIError) -> String {
        let response: CRIExecResponse = try await call(.runtime, "Exec", request, deadline: CRIDeadline.read)
        return response.url
    }

    package func attach(_ request: CRIAttachRequest) async throws(CRIError) -> String {
        let response: CRIAttachResponse = try await call(.runtime, "Attach", request, deadline: CRIDeadline.read)
        return response.url
    }

    package func portForward(sandbox: String, ports: [Int32]) async throws(CRIError) -> String {
        let request = CRIPortForwardRequest.with { $0.podSandboxID = sandbox; $0.port = ports }
        let response: CRIPortForwardResponse = try await call(.runtime, "PortForward", request, deadline: CRIDeadline.read)
        return response.url
    }

    // MARK: statistics

    package func containerStats(_ id: String) async throws(CRIError) -> CRIContainerStats {
        let request = CRIContainerStatsRequest.with { $0.containerID = id }
        let response: CRIContainerStatsResponse = try await call(.runtime, "ContainerStats", request, deadline: CRIDeadline.read)
        return response.stats
    }

    /// Statistics of all running containers.
    package func listContainerStats(_ filter: CRIContainerStatsFilter? = nil) async throws(CRIError) -> [CRIContainerStats] {
        let request = CRIListContainerStatsRequest.with { if let filter { $0.filter = filter } }
        let response: CRIListContainerStatsResponse = try await call(.runtime, "ListContainerStats", request, deadline: CRIDeadline.read)
        return response.stats
    }
}
