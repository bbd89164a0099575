import APIServer
import JSON
import KubeAPI
import KubeMeta
import NIOCore
import NIOHTTP1
import NIOPosix
import PKI
import Store
import StoreSQLite
import Synchronization
import Testing
import Wire

#if canImport(Glibc)
    import Glibc
#endif

/// What a request was answered.
struct Answer: Sendable {
    var status: Int
    var body: JSON
    var text: String
    var headers: HTTPHeaders

    var name: String { body["metadata"]?["name"]?.string ?? "" }
    var version: String { body["metadata"]?["resourceVersion"]?.string ?? "" }
    var uid: String { body["metadata"]?["uid"]?.string ?? "" }
    var items: [JSON] { body["items"]?.array ?? [] }
    var itemNames: [String] { items.compactMap { $0["metadata"]?["name"]?.string } }
    var message: String { body["message"]?.string ?? "" }
    var reason: String { body["reason"]?.string ?? "" }
}

/// A clock that stands still until a test moves it.
final class ManualTime: TimeSource {
    private let seconds: Mutex<Double>
    init(_ seconds: Double = 1_800_000_000) { self.seconds = Mutex(seconds) }
    func now() -> Double { seconds.withLock { $0 } }
    func advance(_ by: Double) { seconds.withLock { $0 += by } }
    func sleep(seconds: Double) async throws { try await Task.sleep(nanoseconds: UInt64(max(0, seconds) * 1e9)) }
}

/// A whole API server on a store in a temporary folder, without sockets.
final class TestServer: Sendable {
    static let admin = "admin-token"

    let server: APIServer
    let store: SQLiteStore
    let time: ManualTime
    let folder: String

    private init(server: APIServer, store: SQLiteStore, time: ManualTime, folder: String) {
        self.server = server
        self.store = store
        self.time = time
        self.folder = folder
    }

    static func start() async throws -> TestServer {
        var template = Array("/tmp/martlet-api-XXXXXX".utf8CString)
        let folder = template.withUnsafeMutableBufferPointer { buffer -> String in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else { return "/tmp/martlet-api" }
            return String(cString: base)
        }
        var options = SQLiteStoreOptions()
        options.readerThreads = 1
        let store = try SQLiteStore(folder: folder, options: options)
        let key = TokenSigner.createKey()
        var authentication = AuthenticationConfiguration(
            signer: try TokenSigner(pem: key.keyPEM), verifier: TokenVerifier(keys: [try TokenKey(pem: key.certificatePEM)]))
        authentication.staticTokens = [
            admin: UserInfo(name: "admin", groups: ["system:masters"]),
            "jane": UserInfo(name: "jane", groups: ["developers"]),
            "node-a": UserInfo(name: "system:node:a", groups: ["system:nodes"]),
        ]
        var configuration = APIServerConfiguration(authentication: authentication)
        configuration.serviceCIDR = "10.96.0.0/24"
        let time = ManualTime()
        let server = APIServer(store: store, configuration: configuration, time: time)
        try await server.start()
        return TestServer(server: server, store: store, time: time, folder: folder)
    }

    func stop() async {
        server.stop()
        await store.close()
        for name in ["state.db", "state.db-wal", "state.db-shm", "lock", ".lock", "state.lock"] { unlink("\(folder)/\(name)") }
        rmdir(folder)
    }

    private func request(
        _ method: HTTPMethod, _ path: String, _ body: [UInt8], contentType: String, token: String?, headers: [(String, String)]
    ) -> WireRequest {
        var all = HTTPHeaders()
        if !body.isEmpty { all.add(name: "Content-Type", value: contentType) }
        if let token { all.add(name: "Authorization", value: "Bearer \(token)") }
        all.add(name: "User-Agent", value: "tests/1.0")
        for (name, value) in headers { all.add(name: name, value: value) }
        return WireRequest(
            method: method, uri: path, headers: all, body: ByteBuffer(bytes: body), peer: WirePeer(address: "127.0.0.1"), eventLoop: MultiThreadedEventLoopGroup.singleton.next())
    }

    @discardableResult
    func send(
        _ method: HTTPMethod, _ path: String, _ body: JSON? = nil, contentType: String = "application/json", token: String? = TestServer.admin,
        headers: [(String, String)] = []
    ) async -> Answer {
        await sendBytes(method, path, body?.encoded ?? [], contentType: contentType, token: token, headers: headers)
    }

    @discardableResult
    func sendBytes(
        _ method: HTTPMethod, _ path: String, _ body: [UInt8], contentType: String, token: String? = TestServer.admin,
        headers: [(String, String)] = []
    ) async -> Answer {
        let response = await server.handle(request(method, path, body, contentType: contentType, token: token, headers: headers))
        var bytes: [UInt8] = []
        switch response.body {
        case .none, .upgrade: break
        case .bytes(let buffer): bytes = Array(buffer.readableBytesView)
        case .buffers(let buffers): for buffer in buffers { bytes += Array(buffer.readableBytesView) }
        case .stream(let write):
            let writer = Recorder(stopAfter: 0)
            try? await write(writer)
            bytes = writer.bytes
        }
        return Answer(
            status: Int(response.status.code), body: (try? JSON.parse(bytes)) ?? .null, text: String(decoding: bytes, as: UTF8.self),
            headers: response.headers)
    }

    func get(_ path: String, token: String? = TestServer.admin) async -> Answer { await send(.GET, path, token: token) }
    @discardableResult func post(_ path: String, _ body: JSON, token: String? = TestServer.admin) async -> Answer {
        await send(.POST, path, body, token: token)
    }
    @discardableResult func put(_ path: String, _ body: JSON) async -> Answer { await send(.PUT, path, body) }
    @discardableResult func merge(_ path: String, _ body: JSON, token: String? = TestServer.admin) async -> Answer {
        await send(.PATCH, path, body, contentType: "application/merge-patch+json", token: token)
    }
    @discardableResult func delete(_ path: String, _ body: JSON? = nil) async -> Answer { await send(.DELETE, path, body) }
    @discardableResult func apply(_ path: String, manager: String, _ body: JSON, force: Bool = false) async -> Answer {
        await send(
            .PATCH, "\(path)?fieldManager=\(manager)\(force ? "&force=true" : "")", body, contentType: "application/apply-patch+yaml")
    }

    /// Opens a watch whose frames can be read while it runs.
    func watch(_ path: String, token: String = TestServer.admin) async throws -> Watch {
        let response = await server.handle(request(.GET, path, [], contentType: "", token: token, headers: []))
        guard case .stream(let write) = response.body else {
            Issue.record("no stream for \(path): \(response.status)")
            throw WireError.closed
        }
        let recorder = Recorder(stopAfter: .max)
        return Watch(recorder: recorder, task: Task { try? await write(recorder) })
    }

    /// A namespace with its default service account.
    func namespace(_ name: String) async {
        await post("/api/v1/namespaces", ["metadata": ["name": .string(name)]])
        await post("/api/v1/namespaces/\(name)/serviceaccounts", ["metadata": ["name": "default"]])
    }
}

/// Takes what a stream writes.
final class Recorder: WireWriter {
    private struct State {
        var bytes: [UInt8] = []
        var lines = 0
        var open = true
    }
    private let state = Mutex(State())
    private let stopAfter: Int

    init(stopAfter: Int) { self.stopAfter = stopAfter }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var lines: Int { state.withLock { $0.lines } }
    var isOpen: Bool { state.withLock { $0.open } }
    func write(_ bytes: ByteBuffer) async throws {
        let open = state.withLock { state in
            state.bytes += Array(bytes.readableBytesView)
            state.lines += bytes.readableBytesView.count { $0 == 0x0A }
            if state.bytes.count > stopAfter { state.open = false }
            return state.open || stopAfter == 0
        }
        if !open { throw WireError.closed }
    }
    func waitForClose() async {}
    func close() { state.withLock { $0.open = false } }
}

/// A running watch.
struct Watch: Sendable {
    struct Event: Sendable {
        var type: String
        var object: JSON
        var name: String { object["metadata"]?["name"]?.string ?? "" }
        var version: Int64 { Int64(object["metadata"]?["resourceVersion"]?.string ?? "") ?? 0 }
        var text: String { "\(type) \(name)" }
    }

    let recorder: Recorder
    let task: Task<Void, Never>

    var events: [Event] {
        recorder.bytes.split(separator: 0x0A).compactMap { line in
            guard let frame = try? JSON.parse(Array(line)) else { return nil }
            return Event(type: frame["type"]?.string ?? "", object: frame["object"] ?? .null)
        }
    }

    /// Waits until there are so many events; gives up after five seconds.
    func waitFor(_ count: Int) async -> [Event] {
        for _ in 0..<500 where recorder.lines < count { try? await Task.sleep(nanoseconds: 10_000_000) }
        return events
    }

    func stop() async {
        recorder.close()
        task.cancel()
        await task.value
    }
}

/// Runs a test with a server of its own.
func withServer(_ body: (TestServer) async throws -> Void) async throws {
    let server = try await TestServer.start()
    let result: Result<Void, any Error>
    do { result = .success(try await body(server)) } catch { result = .failure(error) }
    await server.stop()
    try result.get()
}

let podSpec: JSON = ["containers": [["name": "c", "image": "nginx:1"]]]
