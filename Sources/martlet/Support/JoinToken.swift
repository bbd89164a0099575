import FoundationEssentials
import PKI
import Processes

/// What a node needs to join: `K10<SHA-256 of the authority's certificate, DER, hexadecimal>::<secret>`. The hash lets the node check the
/// authority that it downloads; the secret lets it ask for its certificates, and for nothing else.
struct JoinToken: Sendable, Equatable {
    static let userName = "system:bootstrap:martlet"
    static let group = "system:bootstrappers"

    private static let prefix = "K10"
    private static let secretBytes = 24

    var authorityHash: String
    var secret: String

    var text: String { "\(Self.prefix)\(authorityHash)::\(secret)" }

    init(authorityHash: String, secret: String) {
        self.authorityHash = authorityHash
        self.secret = secret
    }

    /// - Throws: `CommandFailure` for what is not a token.
    init(_ text: String) throws {
        let malformed = CommandFailure(
            "the token is malformed: it is K10, 64 hexadecimal digits, two colons and a secret, as in the file node-token in the server's data folder")
        guard text.hasPrefix(Self.prefix), let colons = text.firstRange(of: "::") else { throw malformed }
        authorityHash = text[..<colons.lowerBound].dropFirst(Self.prefix.count).lowercased()
        secret = String(text[colons.upperBound...])
        guard authorityHash.utf8.count == 64, authorityHash.allSatisfy(\.isHexDigit), !secret.isEmpty,
            secret.allSatisfy({ $0.isASCII && !$0.isWhitespace })
        else { throw malformed }
    }

    /// The token of a server, kept in its data folder from its first start on.
    static func ofServer(_ folder: DataFolder, authorityPEM: String) throws -> JoinToken {
        let hash = try hash(authorityPEM)
        let text = (SmallFile.read(folder.nodeToken) ?? "").split(separator: "\n").first.map(String.init) ?? ""
        if let known = try? JoinToken(text), known.authorityHash == hash { return known }
        let secret = (0..<secretBytes).map { _ in hexadecimal(UInt8.random(in: 0...255)) }.joined()
        let token = JoinToken(authorityHash: hash, secret: secret)
        try SmallFile.write(token.text + "\n", to: folder.nodeToken, mode: 0o600)
        return token
    }

    /// SHA-256 of a certificate's DER, in hexadecimal.
    static func hash(_ certificatePEM: String) throws -> String {
        try CertificateIdentity(pem: certificatePEM).fingerprint.map(hexadecimal).joined()
    }

    private static func hexadecimal(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}
