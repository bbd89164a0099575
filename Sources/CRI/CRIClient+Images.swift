internal import SwiftProtobuf

/// ImageService. Each method throws `CRIError`.
extension CRIClient {
    package func listImages() async throws(CRIError) -> [CRIImage] {
        let response: CRIListImagesResponse = try await call(.image, "ListImages", CRIListImagesRequest(), deadline: CRIDeadline.read)
        return response.images
    }

    /// `nil` when the image is not on this node. `reference` may be a name, a name with digest, or an image id.
    package func imageStatus(_ reference: String) async throws(CRIError) -> CRIImage? {
        let request = CRIImageStatusRequest.with { $0.image.image = reference }
        let response: CRIImageStatusResponse = try await call(.image, "ImageStatus", request, deadline: CRIDeadline.read)
        return response.hasImage ? response.image : nil
    }

    /// Returns the image reference to create containers with.
    package func pullImage(
        _ image: CRIImageSpec, auth: CRIAuthConfig? = nil, sandboxConfig: CRIPodSandboxConfig? = nil
    ) async throws(CRIError) -> String {
        let request = CRIPullImageRequest.with {
            $0.image = image
            if let auth { $0.auth = auth }
            if let sandboxConfig { $0.sandboxConfig = sandboxConfig }
        }
        let response: CRIPullImageResponse = try await call(.image, "PullImage", request, deadline: CRIDeadline.pull)
        return response.imageRef
    }

    package func removeImage(_ reference: String) async throws(CRIError) {
        let request = CRIRemoveImageRequest.with { $0.image.image = reference }
        let _: CRIRemoveImageResponse = try await call(.image, "RemoveImage", request, deadline: CRIDeadline.pull)
    }

    /// Space used by images, by filesystem.
    package func imageFsInfo() async throws(CRIError) -> CRIImageFsInfoResponse {
        try await call(.image, "ImageFsInfo", CRIImageFsInfoRequest(), deadline: CRIDeadline.read)
    }
}
