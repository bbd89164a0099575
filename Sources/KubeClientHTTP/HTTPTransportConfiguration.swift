/// Where an API server is, whom it is trusted by, and who asks.
public struct HTTPTransportConfiguration: Sendable {
    /// How the server's certificate is checked.
    public enum Trust: Sendable, Equatable {
        /// The machine's own authorities.
        case system
        /// Certificates of authorities, PEM.
        case authorities(pem: String)
        /// Not at all.
        case insecure
    }

    public enum Credential: Sendable, Equatable {
        case none
        /// A certificate chain and its private key, PEM.
        case clientCertificate(certificatePEM: String, keyPEM: String)
        case bearerToken(String)
        /// A file with a token, which may change.
        case tokenFile(path: String)
    }

    /// `https://host:port`, with a path prefix if the server is behind one.
    public var server: String
    public var trust: Trust
    public var credential: Credential
    public var userAgent: String
    /// False: HTTP/1.1 only.
    public var allowsHTTP2: Bool
    /// From the request to the head of its answer.
    public var requestSecondsMax: Double
    public var connectSecondsMax: Double
    /// The longest silence on a connection with a request under way. Servers send a watch a bookmark at least each minute.
    public var readIdleSecondsMax: Double

    public init(
        server: String, trust: Trust = .system, credential: Credential = .none, userAgent: String = "martlet", allowsHTTP2: Bool = true,
        requestSecondsMax: Double = 60, connectSecondsMax: Double = 10, readIdleSecondsMax: Double = 90
    ) {
        self.server = server
        self.trust = trust
        self.credential = credential
        self.userAgent = userAgent
        self.allowsHTTP2 = allowsHTTP2
        self.requestSecondsMax = requestSecondsMax
        self.connectSecondsMax = connectSecondsMax
        self.readIdleSecondsMax = readIdleSecondsMax
    }
}
