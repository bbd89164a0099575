/// An image reference in the form the runtime stores it: `nginx:1.14.2` is `docker.io/library/nginx:1.14.2`.
package struct ImageName: Hashable, Sendable {
    /// `docker.io`, `localhost:5000`.
    package var registry: String
    package var repository: String
    package var tag: String?
    package var digest: String?

    /// Nil when the text is no image reference.
    package init?(_ text: String) {
        guard !text.isEmpty, text.utf8.count <= 4096 else { return nil }
        var rest = text[...]
        if let at = rest.firstIndex(of: "@") {
            let digest = rest[rest.index(after: at)...]
            guard let colon = digest.firstIndex(of: ":"), digest.index(after: colon) < digest.endIndex,
                digest[digest.index(after: colon)...].allSatisfy({ $0.isHexDigit })
            else { return nil }
            self.digest = String(digest)
            rest = rest[..<at]
        }
        if let colon = rest.lastIndex(of: ":"), !rest[colon...].contains("/") {
            let tag = rest[rest.index(after: colon)...]
            guard !tag.isEmpty, tag.utf8.count <= 128, let first = tag.first, first.isASCIIWord, tag.allSatisfy({ $0.isASCIIWord || $0 == "." || $0 == "-" })
            else { return nil }
            self.tag = String(tag)
            rest = rest[..<colon]
        }
        var parts = rest.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard let first = parts.first, !parts.contains("") else { return nil }
        if parts.count > 1, first.contains(".") || first.contains(":") || first == "localhost" || first != first.lowercased() {
            registry = first == "index.docker.io" ? "docker.io" : first
            parts.removeFirst()
        } else {
            registry = "docker.io"
        }
        if registry == "docker.io", parts.count == 1 { parts.insert("library", at: 0) }
        for part in parts {
            guard let head = part.first, head.isLowerAlphanumeric, let last = part.last, last.isLowerAlphanumeric,
                part.allSatisfy({ $0.isLowerAlphanumeric || $0 == "." || $0 == "_" || $0 == "-" })
            else { return nil }
        }
        repository = parts.joined(separator: "/")
        if tag == nil, digest == nil { tag = "latest" }
    }

    /// The full name.
    package var text: String { "\(registry)/\(repository)" + (tag.map { ":\($0)" } ?? "") + (digest.map { "@\($0)" } ?? "") }

    /// What the API's default for an empty pull policy is.
    package var defaultPullPolicy: String { tag == "latest" ? "Always" : "IfNotPresent" }
}

extension Character {
    fileprivate var isLowerAlphanumeric: Bool { ("a"..."z").contains(self) || ("0"..."9").contains(self) }
    fileprivate var isASCIIWord: Bool { isLowerAlphanumeric || ("A"..."Z").contains(self) || self == "_" }
}
