internal import Crypto
package import CRI
internal import Processes

/// The sandbox image, made here: there may be no registry to pull it from.
package enum PauseImage {
    /// An OCI image archive, importable by containerd, that holds only `/pause`. The same bytes each time.
    package static func archive(reference: String = ContainerdConfiguration.sandboxImageDefault) -> [UInt8] {
        let architecture = PauseProgram.Architecture.current
        var layer = TarWriter()
        layer.add("pause", PauseProgram.elf(architecture), mode: 0o755)
        let layerBytes = layer.finished()
        let layerDigest = digest(layerBytes)

        let configuration = Array(
            """
            {"architecture":"\(architecture.rawValue)","os":"linux","config":{"User":"65535:65535","Env":["PATH=/"],\
            "Entrypoint":["/pause"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["\(layerDigest)"]},\
            "history":[{"created":"1970-01-01T00:00:00Z","created_by":"martlet"}]}
            """.utf8)
        let manifest = Array(
            """
            {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":\
            {"mediaType":"application/vnd.oci.image.config.v1+json","digest":"\(digest(configuration))","size":\(configuration.count)},\
            "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"\(layerDigest)","size":\(layerBytes.count)}]}
            """.utf8)
        let index = Array(
            """
            {"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[\
            {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"\(digest(manifest))","size":\(manifest.count),\
            "platform":{"architecture":"\(architecture.rawValue)","os":"linux"},\
            "annotations":{"io.containerd.image.name":"\(reference)","org.opencontainers.image.ref.name":"\(tag(of: reference))"}}]}
            """.utf8)

        var archive = TarWriter()
        archive.add("oci-layout", Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
        for blob in [layerBytes, configuration, manifest] { archive.add("blobs/sha256/\(digest(blob).dropFirst(7))", blob) }
        archive.add("index.json", index)
        return archive.finished()
    }

    /// Imports the image unless the runtime has it.
    package static func ensure(_ client: CRIClient, reference: String = ContainerdConfiguration.sandboxImageDefault) async throws {
        if try await client.imageStatus(reference) != nil { return }
        try await ImageImport.run(archive(reference: reference), socketPath: client.socketPath)
    }

    private static func digest(_ bytes: [UInt8]) -> String {
        "sha256:" + SHA256.hash(data: bytes).map(ClusterIdentity.hexadecimal).joined()
    }

    private static func tag(of reference: String) -> Substring {
        reference.lastIndex(of: ":").map { reference[reference.index(after: $0)...] } ?? "latest"
    }
}

/// `martlet image import`: image archives (OCI or docker-save tar) into a containerd, where Kubernetes sees them.
package enum ImageImport {
    /// Namespace of the CRI plugin's images.
    static let namespace = "k8s.io"
    private static let timeout: Duration = .seconds(600)

    /// Returns the image names imported, as `ctr` prints them.
    @discardableResult
    package static func run(path: String, socketPath: String) async throws -> [String] {
        try await run(path, [], socketPath)
    }

    @discardableResult
    package static func run(_ archive: [UInt8], socketPath: String) async throws -> [String] {
        try await run("-", archive, socketPath)
    }

    private static func run(_ file: String, _ input: [UInt8], _ socketPath: String) async throws -> [String] {
        let outcome = try await ProcessRunner.runChecked(
            Command(
                ["ctr", "--address", socketPath, "--namespace", namespace, "images", "import", file], standardInput: input, timeout: timeout))
        // "unpacking NAME (sha256:...)...done"
        return outcome.outputText.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            return words.first == "unpacking" && words.count > 1 ? String(words[1]) : nil
        }
    }
}
