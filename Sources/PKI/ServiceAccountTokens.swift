import Crypto
import FoundationEssentials
import _CryptoExtras

/// Why a token was refused.
package enum TokenFailure: Error, Sendable, Equatable {
    case malformed
    case unsupportedAlgorithm(String)
    case unknownKey
    case badSignature
}

/// A public key that verifies service account tokens: P-256 (ES256) or RSA (RS256).
package struct TokenKey: Sendable {
    enum Backing: Sendable {
        case p256(P256.Signing.PublicKey)
        case rsa(_RSA.Signing.PublicKey)
    }
    let backing: Backing
    /// base64url(SHA-256 of the SubjectPublicKeyInfo), as kube-apiserver derives key ids.
    package let keyID: String

    init(_ backing: Backing) {
        self.backing = backing
        let der = switch backing {
        case .p256(let key): key.derRepresentation
        case .rsa(let key): key.derRepresentation
        }
        keyID = base64URL(Array(SHA256.hash(data: der)))
    }

    /// From PEM: a public key, or a private one whose public half is taken.
    package init(pem: String) throws {
        if let key = try? P256.Signing.PublicKey(pemRepresentation: pem) {
            self.init(.p256(key))
        } else if let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) {
            self.init(.p256(key.publicKey))
        } else if let key = try? _RSA.Signing.PublicKey(pemRepresentation: pem) {
            self.init(.rsa(key))
        } else if let key = try? _RSA.Signing.PrivateKey(pemRepresentation: pem) {
            self.init(.rsa(key.publicKey))
        } else {
            throw CertificateFailure("not a P-256 or RSA key in PEM")
        }
    }

    /// SubjectPublicKeyInfo as PEM.
    package var pem: String {
        switch backing {
        case .p256(let key): key.pemRepresentation + "\n"
        case .rsa(let key): key.pemRepresentation + "\n"
        }
    }

    var algorithm: String {
        switch backing {
        case .p256: "ES256"
        case .rsa: "RS256"
        }
    }

    func isValid(signature: [UInt8], for input: [UInt8]) -> Bool {
        switch backing {
        case .p256(let key):
            guard let signature = try? P256.Signing.ECDSASignature(rawRepresentation: signature) else { return false }
            return key.isValidSignature(signature, for: input)
        case .rsa(let key):
            let signature = _RSA.Signing.RSASignature(rawRepresentation: signature)
            return key.isValidSignature(signature, for: SHA256.hash(data: input), padding: .insecurePKCS1v1_5)
        }
    }

    /// The key as a JSON Web Key.
    var webKey: String {
        get throws {
            let common = "\"use\":\"sig\",\"kid\":\"\(keyID)\",\"alg\":\"\(algorithm)\""
            switch backing {
            case .p256(let key):
                let raw = Array(key.rawRepresentation)
                let (x, y) = (base64URL(Array(raw.prefix(32))), base64URL(Array(raw.suffix(32))))
                return "{\(common),\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"\(x)\",\"y\":\"\(y)\"}"
            case .rsa(let key):
                let parts = try key.getKeyPrimitives()
                let (n, e) = (base64URL(Array(parts.modulus)), base64URL(Array(parts.publicExponent)))
                return "{\(common),\"kty\":\"RSA\",\"n\":\"\(n)\",\"e\":\"\(e)\"}"
            }
        }
    }
}

/// Signs service account tokens. Claims come encoded: this module does not know JSON.
package struct TokenSigner: Sendable {
    private enum Backing: Sendable {
        case p256(P256.Signing.PrivateKey)
        case rsa(_RSA.Signing.PrivateKey)
    }
    private let backing: Backing
    private let header: String
    package let publicKey: TokenKey

    /// - Parameter pem: a P-256 (ES256) or RSA (RS256) private key.
    package init(pem: String) throws {
        if let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) {
            backing = .p256(key)
            publicKey = TokenKey(.p256(key.publicKey))
        } else if let key = try? _RSA.Signing.PrivateKey(pemRepresentation: pem) {
            backing = .rsa(key)
            publicKey = TokenKey(.rsa(key.publicKey))
        } else {
            throw CertificateFailure("not a P-256 or RSA private key in PEM")
        }
        header = base64URL(Array("{\"alg\":\"\(publicKey.algorithm)\",\"kid\":\"\(publicKey.keyID)\"}".utf8))
    }

    /// A new ES256 key: private and public PEM (`sa.key`, `sa.pub`).
    package static func createKey() -> CertificatePair {
        let key = P256.Signing.PrivateKey()
        return CertificatePair(certificatePEM: key.publicKey.pemRepresentation + "\n", keyPEM: key.pemRepresentation + "\n")
    }

    /// The token in compact form.
    package func sign(claims: [UInt8]) throws -> String {
        let input = header + "." + base64URL(claims)
        let bytes = Array(input.utf8)
        let signature = switch backing {
        case .p256(let key): try key.signature(for: bytes).rawRepresentation
        case .rsa(let key): try key.signature(for: SHA256.hash(data: bytes), padding: .insecurePKCS1v1_5).rawRepresentation
        }
        return input + "." + base64URL(Array(signature))
    }
}

/// Verifies signatures of service account tokens; what the claims mean is the caller's business.
package struct TokenVerifier: Sendable {
    private struct Header: Decodable {
        var alg: String
        var kid: String?
    }
    private let keys: [TokenKey]

    package init(keys: [TokenKey]) { self.keys = keys }

    /// The claims of a token whose signature is right.
    package func verify(_ token: String) throws(TokenFailure) -> [UInt8] {
        let parts = token.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 3, let headerBytes = bytes(base64URL: parts[0]), let claims = bytes(base64URL: parts[1]),
            let signature = bytes(base64URL: parts[2]),
            let header = try? JSONDecoder().decode(Header.self, from: Data(headerBytes))
        else { throw .malformed }
        guard header.alg == "ES256" || header.alg == "RS256" else { throw .unsupportedAlgorithm(header.alg) }
        // A token without a key id, or with one that is not ours, is tried against every key of its algorithm.
        let named = keys.filter { $0.keyID == header.kid }
        let candidates = (named.isEmpty ? keys : named).filter { $0.algorithm == header.alg }
        if candidates.isEmpty { throw .unknownKey }
        let input = Array(parts[0].utf8) + [0x2e] + Array(parts[1].utf8)
        guard candidates.contains(where: { $0.isValid(signature: signature, for: input) }) else { throw .badSignature }
        return claims
    }

    /// The JSON Web Key Set served at `/openid/v1/jwks`.
    package func jsonWebKeySet() throws -> [UInt8] {
        Array("{\"keys\":[\(try keys.map { try $0.webKey }.joined(separator: ","))]}".utf8)
    }
}

/// base64url without padding (RFC 4648, section 5; RFC 7515).
package func base64URL(_ bytes: [UInt8]) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var result: [UInt8] = []
    result.reserveCapacity((bytes.count * 4 + 2) / 3)
    var buffer: UInt32 = 0
    var bits: UInt32 = 0
    for byte in bytes {
        buffer = (buffer << 8 | UInt32(byte)) & 0xffff
        bits += 8
        while bits >= 6 {
            bits -= 6
            result.append(alphabet[Int(buffer >> bits & 63)])
        }
    }
    if bits > 0 { result.append(alphabet[Int(buffer << (6 - bits) & 63)]) }
    return String(decoding: result, as: UTF8.self)
}

/// The bytes of base64url text; `nil` if it has any other character.
package func bytes(base64URL text: some StringProtocol) -> [UInt8]? {
    var result: [UInt8] = []
    var buffer: UInt32 = 0
    var bits: UInt32 = 0
    for character in text.utf8 {
        let value: UInt8
        switch character {
        case 0x41...0x5a: value = character - 0x41
        case 0x61...0x7a: value = character - 0x61 + 26
        case 0x30...0x39: value = character - 0x30 + 52
        case 0x2d: value = 62
        case 0x5f: value = 63
        default: return nil
        }
        buffer = (buffer << 6 | UInt32(value)) & 0xffff
        bits += 6
        if bits >= 8 {
            bits -= 8
            result.append(UInt8(truncatingIfNeeded: buffer >> bits))
        }
    }
    return bits == 6 ? nil : result
}
