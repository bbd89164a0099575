import JSON
import KubeMeta
import KubeTypes

/// Hashes of pod templates: parts of names, and the way to tell revisions apart.
enum TemplateHash {
    static let deploymentLabel = "pod-template-hash"
    static let revisionLabel = "controller-revision-hash"

    /// FNV-1a, 32 bit.
    static func fnv32a(_ bytes: some Sequence<UInt8>, seed: UInt32 = 2_166_136_261) -> UInt32 {
        bytes.reduce(seed) { ($0 ^ UInt32($1)) &* 16_777_619 }
    }

    /// The name part for a value: the same for equal values, another one for each collision count.
    static func text(_ value: JSON, collisionCount: Int?) -> String {
        var hash = fnv32a(canonical(value).encoded)
        if let collisionCount { hash = fnv32a(withUnsafeBytes(of: UInt64(collisionCount).littleEndian, Array.init), seed: hash) }
        return RandomNames.safeEncode(String(hash))
    }

    /// The same value with all members in the order of their names.
    static func canonical(_ value: JSON) -> JSON {
        switch value {
        case .array(let items): .array(items.map(canonical))
        case .object(let object): .object(JSONObject(object.sorted { $0.key < $1.key }.map { ($0.key, canonical($0.value)) }))
        default: value
        }
    }

    /// The template without the label that the deployment controller itself adds.
    static func comparable(_ template: PodTemplateSpec) -> JSON {
        var template = template
        template.metadata.labels[deploymentLabel] = nil
        return template.json
    }
}
