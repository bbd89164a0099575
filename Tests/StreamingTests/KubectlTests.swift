import Foundation
import NIOCore
import NIOHTTP1
import Streaming
import Testing
import Wire

/// The real client: kubectl against a server that knows one pod, over WebSocket (translated) and SPDY (passed through).
@Suite("kubectl") struct KubectlTests {
    static let pod = """
        {"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"default"},
        "spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]},
        "status":{"phase":"Running","containerStatuses":[{"name":"c","ready":true,"state":{"running":{}}}]}}
        """

    /// The least discovery that lets kubectl find pods.
    static let discovery = [
        "/api": #"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}"#,
        "/apis": #"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#,
        "/api/v1": """
            {"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,\
            "kind":"Pod","verbs":["get","list"],"shortNames":["po"]}]}
            """,
    ]

    static func server(_ runtime: Int) -> @Sendable (WireRequest) async -> WireResponse {
        let bridge = SPDYTests.bridge(runtime)
        return { request in
            let path = request.path
            if path.hasSuffix("/pods/p") { return .text(.ok, pod, contentType: "application/json") }
            if let text = discovery[String(path)] { return .text(.ok, text, contentType: "application/json") }
            guard path.hasSuffix("/exec") || path.hasSuffix("/portforward") else { return .text(.notFound, "") }
            let isForward = path.hasSuffix("/portforward")
            if WebSocketHandshake.isRequested(request) {
                var request = request
                request.uri = isForward ? "/portforward" : "/exec"
                return await bridge(request)
            }
            do {
                return try await makeTunnel().forward(method: request.method, headers: request.headers, body: request.body,
                                                      to: endpoint(runtime, isForward ? "/portforward" : "/exec/token"))
            } catch { return .text(.badGateway, "\(error)") }
        }
    }

    static func shell(_ script: String) async throws -> (status: Int32, output: String) {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                do {
                    let process = Process(), output = Pipe()
                    process.executableURL = URL(fileURLWithPath: "/bin/bash")
                    process.arguments = ["-c", script]
                    process.standardOutput = output
                    process.standardError = output
                    try process.run()
                    let data = output.fileHandleForReading.readDataToEndOfFile()
                    process.waitUntilExit()
                    continuation.resume(returning: (process.terminationStatus, String(decoding: data, as: UTF8.self)))
                } catch { continuation.resume(throwing: error) }
            }
        }
    }

    static let hasKubectl = FileManager.default.isExecutableFile(atPath: "/usr/bin/kubectl")

    @Test("kubectl exec -i: input, output, error output and the failure's message", .enabled(if: hasKubectl), arguments: ["true", "false"])
    func exec(webSocket: String) async throws {
        try await withServer(handler: fakeRuntime) { runtime in
            try await withServer(handler: Self.server(runtime)) { port in
                let result = try await Self.shell("""
                    export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=\(webSocket)
                    head -c 300000 /dev/zero | tr '\\0' a | timeout 20 kubectl --server http://127.0.0.1:\(port) exec -i p -- upper | tee /dev/stderr | wc -c
                    """)
                #expect(result.output.contains("AAAA"))
                #expect(result.output.contains("300000"))
                #expect(result.output.contains("warned"))
                #expect(result.output.contains(#"exit "3""#))
            }
        }
    }

    @Test("kubectl port-forward: bytes there and back", .enabled(if: hasKubectl), arguments: ["true", "false"])
    func portForward(webSocket: String) async throws {
        try await withServer(handler: fakeRuntime) { runtime in
            try await withServer(handler: Self.server(runtime)) { port in
                let result = try await Self.shell("""
                    export KUBECTL_PORT_FORWARD_WEBSOCKETS=\(webSocket)
                    out=$(mktemp)
                    kubectl --server http://127.0.0.1:\(port) port-forward p :80 > $out 2>&1 &
                    pid=$!
                    for i in $(seq 100); do grep -q 'Forwarding from 127' $out && break; sleep 0.1; done
                    local=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) .*/\\1/p' $out)
                    for i in 1 2; do exec 3<>/dev/tcp/127.0.0.1/$local; printf hello >&3; timeout 3 head -c 14 <&3; exec 3>&-; done
                    kill -KILL $pid
                    cat $out; rm $out
                    """)
                #expect(result.output.hasPrefix("port 80: helloport 80: hello"), "\(result.output)")
            }
        }
    }
}
