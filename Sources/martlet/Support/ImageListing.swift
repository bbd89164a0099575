import CRI

/// Names of the images of one containerd.
enum ImageListing {
    static func names(socketPath: String) async throws -> [String] {
        let client = try CRIClient(socketPath: socketPath)
        return try await client.listImages().flatMap(\.repoTags).sorted()
    }
}
