import FoundationEssentials

/// A kubeconfig file with one cluster, one user and one context, everything embedded.
package struct Kubeconfig: Sendable {
    package var clusterName: String
    package var userName: String
    package var contextName: String
    /// `https://host:port`.
    package var server: String
    package var authorityPEM: String
    package var client: CertificatePair

    package init(
        clusterName: String, userName: String, contextName: String, server: String, authorityPEM: String, client: CertificatePair
    ) {
        self.clusterName = clusterName
        self.userName = userName
        self.contextName = contextName
        self.server = server
        self.authorityPEM = authorityPEM
        self.client = client
    }

    /// The file's text; it holds a private key.
    package var yaml: String {
        """
        apiVersion: v1
        clusters:
        - cluster:
            certificate-authority-data: \(base64(authorityPEM))
            server: \(server)
          name: \(clusterName)
        contexts:
        - context:
            cluster: \(clusterName)
            user: \(userName)
          name: \(contextName)
        current-context: \(contextName)
        kind: Config
        preferences: {}
        users:
        - name: \(userName)
          user:
            client-certificate-data: \(base64(client.certificatePEM))
            client-key-data: \(base64(client.keyPEM))

        """
    }

    /// Writes the file atomically, readable by the owner only.
    package func write(folder: String, name: String) throws {
        let files = try KeyFolder(path: folder)
        try files.replace([KeyFile(name: name, text: yaml, isPrivate: true)])
    }

    private func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
}
