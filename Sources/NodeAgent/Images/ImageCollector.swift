import KubeClient
import CRI
import KubeMeta

/// Removes unused images, least recently used first, when the disk gets full.
struct ImageCollector: Sendable {
    let context: AgentContext

    func run() async {
        let settings = context.configuration.imageGarbageCollection
        var firstSeen: [String: Double] = [:]
        while !Task.isCancelled {
            if (try? await context.time.sleep(seconds: settings.periodSeconds)) == nil { return }
            await context.gate.pass()
            guard let images = try? await context.runtime.listImages(), let containers = try? await context.runtime.listContainers() else { continue }
            let now = context.time.now()
            for image in images where firstSeen[image.id] == nil { firstSeen[image.id] = now }
            firstSeen = firstSeen.filter { id, _ in images.contains { $0.id == id } }
            let root = context.configuration.rootDirectory
            guard let space = (try? await Blocking.run { Files.space(root) }) ?? nil, space.capacityBytes > 0 else { continue }
            let used = Double(space.capacityBytes - min(space.capacityBytes, space.availableBytes)) / Double(space.capacityBytes)
            guard used >= settings.high else { continue }
            var left = (used - settings.low) * Double(space.capacityBytes)
            let inUse = Set(containers.flatMap { [$0.imageRef, $0.imageID, $0.image.image] })
            let lastUsed = await context.images.lastUsed
            let idle = images.filter { image in
                !image.pinned && !inUse.contains(image.id) && image.repoTags.allSatisfy { !inUse.contains($0) && !$0.contains("/pause:") }
                    && now - (firstSeen[image.id] ?? now) >= settings.minimumAgeSeconds
            }.sorted { lastUsed[$0.id] ?? firstSeen[$0.id] ?? 0 < lastUsed[$1.id] ?? firstSeen[$1.id] ?? 0 }
            for image in idle where left > 0 {
                // An imported image cannot be pulled again: it is its owner's to remove.
                if image.repoDigests.isEmpty { continue }
                guard (try? await context.runtime.removeImage(image.id)) != nil else { continue }
                left -= Double(image.size)
            }
            if left > 0 {
                context.nodeEvent(
                    .warning, reason: "FreeDiskSpaceFailed",
                    "Failed to garbage collect required amount of images. Attempted to free \(Int64((used - settings.low) * Double(space.capacityBytes))) bytes, but only found \(Int64((used - settings.low) * Double(space.capacityBytes) - left)) bytes eligible to free.")
            }
        }
    }
}
