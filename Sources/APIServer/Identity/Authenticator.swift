import JSON
import KubeAPI
import KubeMeta
import NIOHTTP1
package import PKI
import Synchronization
import Wire

/// What the server knows to tell who somebody is.
package struct AuthenticationConfiguration: Sendable {
    /// Token -> user.
    package var staticTokens: [String: UserInfo] = [:]
    /// `iss` of service account tokens.
    package var issuer = "https://kubernetes.default.svc.cluster.local"
    package var audiences = ["https://kubernetes.default.svc.cluster.local"]
    package var signer: TokenSigner
    package var verifier: TokenVerifier
    package var anonymous = true

    package init(signer: TokenSigner, verifier: TokenVerifier) {
        self.signer = signer
        self.verifier = verifier
    }
}

/// Finds the user of a request: client certificate, static token, service account token, or nobody.
final class Authenticator: Sendable {
    /// Verified certificates that are remembered, so that a busy connection does not parse its own on every request.
    private static let knownCertificatesMax = 4096

    let configuration: AuthenticationConfiguration
    private let hub: CacheHub
    private let schema: Schema
    private let time: any TimeSource
    private let certificates = Mutex<[[UInt8]: UserInfo]>([:])

    init(configuration: AuthenticationConfiguration, hub: CacheHub, schema: Schema, time: any TimeSource) {
        self.configuration = configuration
        self.hub = hub
        self.schema = schema
        self.time = time
    }

    /// - Throws: 401 when credentials were given and are not good.
    func authenticate(_ request: WireRequest) throws -> UserInfo {
        switch request.peer.certificate {
        case .verified(let der): return try user(certificate: der)
        case .invalid: throw APIStatus.unauthorized
        case .none: break
        }
        if let header = request.headers["Authorization"].first, !header.isEmpty {
            let parts = header.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "bearer" else { throw APIStatus.unauthorized }
            guard let user = user(token: String(parts[1])) else { throw APIStatus.unauthorized }
            return user
        }
        guard configuration.anonymous else { throw APIStatus.unauthorized }
        return .anonymous
    }

    private func user(certificate der: [UInt8]) throws -> UserInfo {
        if let known = certificates.withLock({ $0[der] }) { return known }
        guard let identity = try? CertificateIdentity(der: der) else { throw APIStatus.unauthorized }
        let digest = identity.fingerprint.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let user = UserInfo(
            name: identity.commonName, groups: identity.organizations + [UserInfo.allAuthenticated],
            extra: ["authentication.kubernetes.io/credential-id": ["X509SHA256=\(digest)"]])
        certificates.withLock { known in
            if known.count >= Self.knownCertificatesMax { known = [:] }
            known[der] = user
        }
        return user
    }

    /// Nil for a token that is unknown, wrongly signed, expired, or bound to an object that is gone.
    func user(token: String) -> UserInfo? {
        if let user = configuration.staticTokens[token] {
            var complete = user
            if !complete.groups.contains(UserInfo.allAuthenticated) { complete.groups.append(UserInfo.allAuthenticated) }
            return complete
        }
        guard token.utf8.filter({ $0 == UInt8(ascii: ".") }).count == 2,
            let claims = try? configuration.verifier.verify(token), let payload = try? JSON.parse(claims)
        else { return nil }
        return serviceAccount(payload)
    }

    private func find(_ plural: String, namespace: String, name: String) -> JSON? {
        guard let resource = schema.resource(group: "", version: "v1", plural: plural) else { return nil }
        return hub.cache(resource.identity)?.get(namespace: namespace, name: name)?.json
    }

    private func serviceAccount(_ claims: JSON) -> UserInfo? {
        guard claims["iss"]?.string == configuration.issuer else { return nil }
        let now = time.now()
        guard let expiry = claims["exp"]?.double, now < expiry, now + 60 >= claims["nbf"]?.double ?? 0 else { return nil }
        let audiences = (claims["aud"]?.array ?? []).compactMap(\.string)
        guard audiences.contains(where: configuration.audiences.contains) else { return nil }
        let bindings = claims["kubernetes.io"]
        guard let namespace = bindings?["namespace"]?.string, let name = bindings?["serviceaccount"]?["name"]?.string,
            let uid = bindings?["serviceaccount"]?["uid"]?.string
        else { return nil }
        guard let account = find("serviceaccounts", namespace: namespace, name: name), account["metadata"]?["uid"]?.string == uid,
            account["metadata"]?["deletionTimestamp"] == nil
        else { return nil }
        var extra: [String: [String]] = [:]
        for (claim, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
            guard let bound = bindings?[claim], let boundName = bound["name"]?.string else { continue }
            let found = find(plural, namespace: plural == "nodes" ? "" : namespace, name: boundName)
            // A token lives only as long as the object it is bound to; the node is told for information when a pod is bound.
            if !(claim == "node" && bindings?["pod"] != nil) {
                guard found?["metadata"]?["uid"] == bound["uid"] else { return nil }
            }
            if claim != "secret" {
                extra["authentication.kubernetes.io/\(claim)-name"] = [boundName]
                if let uid = bound["uid"]?.string { extra["authentication.kubernetes.io/\(claim)-uid"] = [uid] }
            }
        }
        if let identifier = claims["jti"]?.string { extra["authentication.kubernetes.io/credential-id"] = ["JTI=\(identifier)"] }
        return UserInfo(
            name: "system:serviceaccount:\(namespace):\(name)", uid: uid,
            groups: ["system:serviceaccounts", "system:serviceaccounts:\(namespace)", UserInfo.allAuthenticated], extra: extra)
    }

    // MARK: Issuing

    static let expirationSecondsMin: Int64 = 600
    static let expirationSecondsMax: Int64 = 1 << 32

    /// Issues a token for a service account (TokenRequest).
    func issue(account: JSON, spec: JSON) throws -> (token: String, expiry: Double) {
        let now = time.now()
        let seconds = spec["expirationSeconds"]?.int ?? 3600
        let expiry = now.rounded(.down) + Double(seconds)
        let audiences = spec["audiences"]?.array ?? []
        let namespace = account["metadata"]?["namespace"]?.string ?? ""
        var identity: JSON = [
            "namespace": .string(namespace),
            "serviceaccount": ["name": account["metadata"]?["name"] ?? "", "uid": account["metadata"]?["uid"] ?? ""],
        ]
        if let reference = spec["boundObjectRef"], let name = reference["name"]?.string {
            let kind = reference["kind"]?.string ?? ""
            let plural = ["Pod": "pods", "Secret": "secrets", "Node": "nodes"][kind]
            guard let plural else {
                throw APIStatus.badRequest("cannot bind token to object of type \(kind)")
            }
            guard let object = find(plural, namespace: plural == "nodes" ? "" : namespace, name: name) else {
                throw APIStatus.notFound(
                    ResourceKind(group: "", version: "v1", plural: plural, kind: kind, namespaced: true), name: name)
            }
            if let uid = reference["uid"]?.string, uid != object["metadata"]?["uid"]?.string {
                throw APIStatus.conflict(
                    ResourceKind(group: "", version: "v1", plural: plural, kind: kind, namespaced: true), name: name,
                    "the UID in the bound object reference (\(uid)) does not match the UID in record. The object might have been deleted and then recreated")
            }
            identity[kind.lowercased()] = ["name": .string(name), "uid": object["metadata"]?["uid"] ?? ""]
            if kind == "Pod", let node = object["spec"]?["nodeName"]?.string, let found = find("nodes", namespace: "", name: node) {
                identity["node"] = ["name": .string(node), "uid": found["metadata"]?["uid"] ?? ""]
            }
        }
        let claims: JSON = [
            "aud": .array(audiences.isEmpty ? configuration.audiences.map(JSON.string) : audiences), "exp": .int(Int64(expiry)),
            "iat": .int(Int64(now)), "iss": .string(configuration.issuer), "jti": .string(RandomNames.uuid()), "kubernetes.io": identity,
            "nbf": .int(Int64(now)),
            "sub": .string("system:serviceaccount:\(namespace):\(account["metadata"]?["name"]?.string ?? "")"),
        ]
        return (try configuration.signer.sign(claims: claims.encoded), expiry)
    }
}
