import Foundation
import KubeClientHTTP
import Testing

@Suite struct KubeConfigFileTests {
    private static let text = """
        apiVersion: v1
        kind: Config
        current-context: one
        clusters:
        - name: c
          cluster: {server: "https://h:6443", certificate-authority-data: "UEVN"}
        - name: loose
          cluster: {server: "https://h:6444", insecure-skip-tls-verify: true}
        users:
        - name: certificate
          user: {client-certificate-data: "Q0VSVA==", client-key-data: "S0VZ"}
        - name: token
          user: {token: secret}
        - name: file
          user: {tokenFile: token.txt, token: old}
        - name: exec
          user: {exec: {command: aws}}
        - name: basic
          user: {username: u, password: p}
        - name: broken
          user: {client-certificate: nowhere.crt, client-key-data: "S0VZ"}
        contexts:
        - name: one
          context: {cluster: c, user: certificate, namespace: n}
        - name: two
          context: {cluster: loose, user: token}
        - name: three
          context: {cluster: c, user: file}
        - {name: four, context: {cluster: c, user: exec}}
        - {name: five, context: {cluster: c, user: basic}}
        - {name: six, context: {cluster: nil-cluster, user: basic}}
        - {name: seven, context: {cluster: c, user: broken}}
        - {name: eight, context: {cluster: c, user: nobody}}
        """

    @Test("a context pairs a cluster's trust with a user's credential")
    func contexts() throws {
        let file = try KubeConfigFile(text: Self.text, path: "/etc/x/config")
        let one = try file.transportConfiguration()
        #expect(one.server == "https://h:6443")
        #expect(one.trust == .authorities(pem: "PEM"))
        #expect(one.credential == .clientCertificate(certificatePEM: "CERT", keyPEM: "KEY"))
        #expect(file.contexts["one"]?.namespace == "n")
        let two = try file.transportConfiguration(context: "two")
        #expect(two.trust == .insecure)
        #expect(two.credential == .bearerToken("secret"))
        #expect(try file.transportConfiguration(context: "three").credential == .tokenFile(path: "/etc/x/token.txt"))
    }

    @Test("what is missing or not supported is named", arguments: [
        ("four", "user \"exec\" in /etc/x/config authenticates with \"exec\", which is not supported: use a client certificate or a token"),
        ("five", "user \"basic\" in /etc/x/config authenticates with a username and password, which is not supported: "
            + "use a client certificate or a token"),
        ("six", "cluster \"nil-cluster\" does not exist"),
        ("seven", "invalid configuration: unable to read client-cert nowhere.crt for broken due to "
            + "open /etc/x/nowhere.crt: no such file or directory"),
        ("eight", "auth info \"nobody\" does not exist"),
        ("nine", "context \"nine\" does not exist"),
    ])
    func mistakes(context: String, message: String) throws {
        let file = try KubeConfigFile(text: Self.text, path: "/etc/x/config")
        let error = #expect(throws: HTTPTransportError.self) { try file.transportConfiguration(context: context) }
        #expect(error?.description == message)
    }

    @Test("a file that is absent, or not YAML, is an error that names it; an empty one has no context")
    func files() throws {
        let missing = #expect(throws: HTTPTransportError.self) { try KubeConfigFile.load(path: "/nowhere/config") }
        #expect(missing?.description == "open /nowhere/config: no such file or directory")
        #expect(throws: HTTPTransportError.self) { try KubeConfigFile(text: "a: [", path: "/x") }
        #expect(throws: HTTPTransportError.self) { try KubeConfigFile(text: "- a", path: "/x") }
        let empty = #expect(throws: HTTPTransportError.self) { try KubeConfigFile(text: "", path: "/x").transportConfiguration() }
        #expect(empty?.description == "/x: current-context is not set")
    }
}
