import JSON
import KubeClient
import KubeMeta

/// Follows one kind, of which only the metadata matters, and keeps nothing but the UIDs.
struct MetadataWatch: Sendable {
    private static let backOffSecondsMax = 10.0

    let client: KubeClient
    let kind: ResourceKind
    let changed: @Sendable (JSON) -> Void
    let removed: @Sendable (_ uid: String) -> Void

    func run() async {
        var known: Set<String> = []
        var version = ""
        var needsList = true
        var backOffSeconds = 0.1
        while !Task.isCancelled {
            do {
                if needsList {
                    let list = try await client.transport.send(KubeRequest(.list, kind))
                    var present: Set<String> = []
                    for item in list["items"]?.array ?? [] {
                        present.insert(item["metadata"]?["uid"]?.string ?? "")
                        changed(item)
                    }
                    for uid in known.subtracting(present) { removed(uid) }
                    known = present
                    version = list["metadata"]?["resourceVersion"]?.string ?? ""
                    needsList = false
                }
                for try await batch in try await client.transport.watch(KubeWatchRequest(kind: kind, resourceVersion: version)) {
                    for event in batch {
                        if let new = event.object["metadata"]?["resourceVersion"]?.string { version = new }
                        let uid = event.object["metadata"]?["uid"]?.string ?? ""
                        switch event.type {
                        case .added, .modified:
                            known.insert(uid)
                            changed(event.object)
                        case .deleted:
                            known.remove(uid)
                            removed(uid)
                        case .bookmark: break
                        }
                    }
                }
                backOffSeconds = 0.1
            } catch is CancellationError {
                break
            } catch {
                needsList = (error as? APIStatus) != nil
                do { try await client.time.sleep(seconds: backOffSeconds) } catch { break }
                backOffSeconds = min(backOffSeconds * 2, Self.backOffSecondsMax)
            }
        }
        for uid in known { removed(uid) }
    }
}
