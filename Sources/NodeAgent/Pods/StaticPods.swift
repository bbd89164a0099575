import Logging
import JSON
import KubeClient
import KubeMeta
import KubeTypes

/// Pods from files of a folder. Each is shown in the API by a mirror pod; deleting the mirror does not end the pod.
struct StaticPods: Sendable {
    private static let periodSeconds = 2.0
    let context: AgentContext
    let manager: PodManager

    func run() async {
        guard let directory = context.configuration.staticPodDirectory else { return }
        while !Task.isCancelled {
            await context.gate.pass()
            let files = (try? await Blocking.run {
                Files.list(directory).filter { !$0.hasPrefix(".") }.sorted().compactMap { name in Files.read(directory + "/" + name).map { (name, $0) } }
            }) ?? []
            var pods: [Pod] = []
            for (name, bytes) in files {
                do {
                    pods.append(try pod(bytes, file: directory + "/" + name))
                } catch {
                    context.logger.warning("static pod cannot be read", metadata: ["file": "\(name)", "error": "\(error)"])
                }
            }
            await manager.setStaticPods(pods)
            if context.pods.isSynced { await mirror(pods) }
            if (try? await context.time.sleep(seconds: Self.periodSeconds)) == nil { return }
        }
    }

    private func pod(_ bytes: [UInt8], file: String) throws -> Pod {
        var pod = Pod(json: try context.configuration.manifestParser(bytes))
        guard !pod.metadata.name.isEmpty, !pod.spec.containers.isEmpty else { throw AgentError("no pod in \(file)") }
        // The file's content and the node decide the identity: a changed file is another pod.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes + Array(context.configuration.nodeName.utf8) + Array(file.utf8) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        let low = String(hash, radix: 16), high = String(hash &* 0x9E37_79B9_7F4A_7C15, radix: 16)
        let text = String(repeating: "0", count: 16 - low.count) + low + String(repeating: "0", count: 16 - high.count) + high
        pod.metadata.uid = text
        pod.metadata.name += "-\(context.configuration.nodeName)"
        if pod.metadata.namespace.isEmpty { pod.metadata.namespace = "default" }
        pod.metadata.annotations[Pod.sourceAnnotation] = "file"
        pod.metadata.annotations[Pod.hashAnnotation] = text
        pod.spec.nodeName = context.configuration.nodeName
        return pod
    }

    private func mirror(_ pods: [Pod]) async {
        for pod in pods {
            let shown = context.pods.get(pod.key)
            if let shown, shown.isMirror {
                if shown.metadata.annotations[Pod.mirrorAnnotation] == pod.metadata.uid, !shown.metadata.isBeingDeleted { continue }
                try? await context.client.delete(Pod.self, namespace: pod.metadata.namespace, name: pod.metadata.name, gracePeriodSeconds: 0)
            } else if shown != nil {
                continue
            }
            var mirror = pod
            mirror.metadata.uid = ""
            mirror.metadata.annotations[Pod.mirrorAnnotation] = pod.metadata.uid
            _ = try? await context.client.create(mirror)
        }
        let names = Set(pods.map(\.key))
        for shown in context.pods.all where shown.isMirror && !names.contains(shown.key) {
            try? await context.client.delete(Pod.self, namespace: shown.metadata.namespace, name: shown.metadata.name, gracePeriodSeconds: 0)
        }
    }
}
