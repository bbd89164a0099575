import Crypto
import KubeAPI
import KubeMeta

/// The hash in discovery by which a client sees that a resource's stored version changed: the first bytes of SHA-256 of
/// `group/version/kind` in base64 (upstream `discovery.StorageVersionHash`).
enum StorageVersionHash {
    static func of(_ kind: ResourceKind) -> String {
        let digest = SHA256.hash(data: Array("\(kind.group)/\(kind.version)/\(kind.kind)".utf8))
        return Base64.encode(Array(digest.prefix(8)))
    }
}
