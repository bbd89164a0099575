import CRI
import JSON
import KubeTypes

/// Credentials for registries out of pull secrets (`kubernetes.io/dockerconfigjson` and its older form).
enum PullSecrets {
    static func credentials(for image: ImageName, in secrets: [Secret]) -> [CRIAuthConfig] {
        var result: [CRIAuthConfig] = []
        for secret in secrets {
            let isModern = secret.type == "kubernetes.io/dockerconfigjson"
            guard let encoded = secret.data[isModern ? ".dockerconfigjson" : ".dockercfg"], let bytes = Base64Text.decode(encoded),
                let json = try? JSON.parse(bytes), let servers = (isModern ? json["auths"] : json)?.object
            else { continue }
            for (server, entry) in servers where matches(server, image) {
                var auth = CRIAuthConfig()
                auth.username = entry["username"]?.string ?? ""
                auth.password = entry["password"]?.string ?? ""
                auth.identityToken = entry["identitytoken"]?.string ?? ""
                auth.registryToken = entry["registrytoken"]?.string ?? ""
                if auth.username.isEmpty, let pair = entry["auth"]?.string.flatMap(Base64Text.decode) {
                    let text = String(decoding: pair, as: UTF8.self)
                    if let colon = text.firstIndex(of: ":") {
                        auth.username = String(text[..<colon])
                        auth.password = String(text[text.index(after: colon)...])
                    }
                }
                result.append(auth)
            }
        }
        return result
    }

    /// `https://index.docker.io/v1/`, `registry.example.com`, `registry.example.com/team`, `*.example.com`.
    static func matches(_ server: String, _ image: ImageName) -> Bool {
        var server = server[...]
        for scheme in ["https://", "http://"] where server.hasPrefix(scheme) { server = server.dropFirst(scheme.count) }
        var parts = server.split(separator: "/").map(String.init)
        guard var host = parts.first else { return false }
        parts.removeFirst()
        if parts == ["v1"] || parts == ["v2"] { parts = [] }
        if host == "index.docker.io" || host == "registry-1.docker.io" { host = "docker.io" }
        let wanted = image.registry.split(separator: "."), given = host.split(separator: ".")
        guard wanted.count == given.count, zip(wanted, given).allSatisfy({ $1 == "*" || $0 == $1 }) else { return false }
        let path = parts.joined(separator: "/")
        return path.isEmpty || image.repository == path || image.repository.hasPrefix(path + "/")
    }
}

/// Standard base64, with or without padding.
enum Base64Text {
    static func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count * 3 / 4)
        var bits: UInt32 = 0
        var count = 0
        for byte in text.utf8 {
            let value: UInt8
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = byte - 65
            case UInt8(ascii: "a")...UInt8(ascii: "z"): value = byte - 71
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = byte + 4
            case UInt8(ascii: "+"), UInt8(ascii: "-"): value = 62
            case UInt8(ascii: "/"), UInt8(ascii: "_"): value = 63
            case UInt8(ascii: "="), 10, 13: continue
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return bytes
    }
}
