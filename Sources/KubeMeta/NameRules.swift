/// The forms of names in the API, with upstream's messages (RFC 1123, RFC 1035; API conventions, "Names").
public enum NameRules {
    public static let labelBytesMax = 63
    public static let subdomainBytesMax = 253

    private static func isLowerAlphanumeric(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte) }
    private static func isAlphanumeric(_ byte: UInt8) -> Bool { isLowerAlphanumeric(byte) || (0x41...0x5A).contains(byte) }

    static func isLabel(_ text: some Collection<UInt8>) -> Bool {
        guard let first = text.first, isLowerAlphanumeric(first) else { return false }
        var last = first
        for byte in text {
            guard isLowerAlphanumeric(byte) || byte == UInt8(ascii: "-") else { return false }
            last = byte
        }
        return isLowerAlphanumeric(last)
    }

    /// RFC 1123 label.
    public static func labelErrors(_ text: String) -> [String] {
        var errors: [String] = []
        if text.utf8.count > labelBytesMax { errors.append("must be no more than 63 characters") }
        if !isLabel(text.utf8) {
            errors.append(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')")
        }
        return errors
    }

    /// RFC 1123 subdomain: labels joined by dots.
    public static func subdomainErrors(_ text: String) -> [String] {
        var errors: [String] = []
        if text.utf8.count > subdomainBytesMax { errors.append("must be no more than 253 characters") }
        if !text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy(isLabel) {
            errors.append(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")
        }
        return errors
    }

    /// RFC 1035 label: as a label, but it starts with a letter (Services).
    public static func dns1035LabelErrors(_ text: String) -> [String] {
        var errors: [String] = []
        if text.utf8.count > labelBytesMax { errors.append("must be no more than 63 characters") }
        let startsWithLetter = text.utf8.first.map { (0x61...0x7A).contains($0) } ?? false
        if !isLabel(text.utf8) || !startsWithLetter {
            errors.append(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')")
        }
        return errors
    }

    /// A segment of a path: RBAC names.
    public static func pathSegmentErrors(_ text: String) -> [String] {
        if text == "." || text == ".." { return ["may not be '\(text)'"] }
        return ["/", "%"].filter { text.contains($0) }.map { "may not contain '\($0)'" }
    }

    static func isQualifiedPart(_ text: some Collection<UInt8>) -> Bool {
        guard let first = text.first, isAlphanumeric(first) else { return false }
        var last = first
        for byte in text {
            guard isAlphanumeric(byte) || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: ".") else { return false }
            last = byte
        }
        return isAlphanumeric(last)
    }

    /// A label or annotation key: an optional subdomain prefix, a slash, a name.
    public static func qualifiedNameErrors(_ text: String) -> [String] {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        var errors: [String] = []
        let name: Substring
        switch parts.count {
        case 1: name = parts[0]
        case 2:
            name = parts[1]
            if parts[0].isEmpty {
                errors.append("prefix part must be non-empty")
            } else {
                errors += subdomainErrors(String(parts[0])).map { "prefix part \($0)" }
            }
        default:
            return [
                "a valid label key \(qualifiedNameRule) with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ].map { $0.replacingPrefix("a valid label key", with: "a qualified name") }
        }
        if name.isEmpty {
            errors.append("name part must be non-empty")
        } else if name.utf8.count > labelBytesMax {
            errors.append("name part must be no more than 63 characters")
        }
        if !isQualifiedPart(name.utf8) { errors.append("name part \(qualifiedNameRule)") }
        return errors
    }

    private static let qualifiedNameRule =
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"

    public static func labelValueErrors(_ text: String) -> [String] {
        var errors: [String] = []
        if text.utf8.count > labelBytesMax { errors.append("must be no more than 63 characters") }
        if !text.isEmpty, !isQualifiedPart(text.utf8) {
            errors.append(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')")
        }
        return errors
    }

    /// A key of a ConfigMap or Secret.
    public static func configMapKeyErrors(_ text: String) -> [String] {
        var errors: [String] = []
        if text.utf8.count > subdomainBytesMax { errors.append("must be no more than 253 characters") }
        let allowed = text.utf8.allSatisfy { isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F || $0 == 0x2E }
        if text.isEmpty || !allowed {
            errors.append(
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')")
        }
        if text == "." || text == ".." { errors.append("must not be '\(text)'") } else if text.hasPrefix("..") { errors.append("must not start with '..'") }
        return errors
    }
}

extension String {
    fileprivate func replacingPrefix(_ prefix: String, with other: String) -> String {
        hasPrefix(prefix) ? other + dropFirst(prefix.count) : self
    }
}
