import NIOCore
import NIOHTTP1
package import Wire

/// Which streams an exec or attach asks for (its query parameters).
package struct RemoteCommandOptions: Sendable, Equatable {
    package var standardInput: Bool
    package var standardOutput: Bool
    package var standardError: Bool
    package var tty: Bool

    package init(standardInput: Bool = false, standardOutput: Bool = false, standardError: Bool = false, tty: Bool = false) {
        self.standardInput = standardInput
        self.standardOutput = standardOutput
        // A terminal has one output.
        self.standardError = standardError && !tty
        self.tty = tty
    }
}

/// An exec or attach session on a server that speaks SPDY/3.1 (containerd's streaming server, a kubelet): the client's side.
package final class SPDYRemoteCommand: Sendable {
    /// The protocol asked for: its error stream carries a Status object.
    static let protocolVersion = "v4.channel.k8s.io"

    package let error: SPDYStream
    package let standardInput: SPDYStream?
    package let standardOutput: SPDYStream?
    package let standardError: SPDYStream?
    package let resize: SPDYStream?
    package let session: SPDYSession
    private let reading: Task<Void, Never>

    /// Dials, upgrades, opens the streams in upstream's order. Throws `TunnelError.refused` with the server's answer.
    package init(tunnel: Tunnel, endpoint: StreamEndpoint, options: RemoteCommandOptions) async throws {
        let (_, connection) = try await tunnel.upgrade(
            headers: ["Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": Self.protocolVersion], to: endpoint)
        let session = try SPDYSession(connection: connection, role: .client)
        self.session = session
        reading = Task { try? await session.run() }
        func open(_ type: String, _ wanted: Bool) async throws -> SPDYStream? {
            wanted ? try await session.openStream(headers: [("streamtype", type)]) : nil
        }
        do {
            error = try await session.openStream(headers: [("streamtype", "error")])
            standardInput = try await open("stdin", options.standardInput)
            standardOutput = try await open("stdout", options.standardOutput)
            standardError = try await open("stderr", options.standardError)
            resize = try await open("resize", options.tty)
        } catch {
            session.close()
            throw error
        }
    }

    package func close() {
        session.close()
        reading.cancel()
    }
}

/// Translates a client's channels to a SPDY session and back, to the end of the command.
package enum RemoteCommandBridge {
    static let statusBytesMax = 64 * 1024
    static let success = #"{"metadata":{},"status":"Success"}"#

    /// Returns when the command has ended and the client has its status, or when either side has gone.
    package static func run(client: any RemoteCommandStreams, command: SPDYRemoteCommand) async {
        let input = Task { await copyInput(from: client, to: command) }
        let status = await withTaskCancellationHandler {
            await copyOutput(of: command, to: client)
        } onCancel: {
            command.close()
        }
        try? await client.finish(statusJSON: status)
        command.close()
        input.cancel()
    }

    private static func copyInput(from client: any RemoteCommandStreams, to command: SPDYRemoteCommand) async {
        do {
            while let event = try await client.nextInput() {
                switch event {
                case .standardInput(let bytes):
                    // A command that has closed its input goes on; what is typed then is dropped.
                    try? await command.standardInput?.write(bytes)
                case .standardInputClosed: try? await command.standardInput?.closeOutput()
                case .resize(let bytes): try? await command.resize?.write(bytes)
                }
            }
            try? await command.standardInput?.closeOutput()
        } catch {}
        // The client has gone: so does the session (the command gets no more input and its output has no reader).
        if !Task.isCancelled { command.close() }
    }

    private static func copyOutput(of command: SPDYRemoteCommand, to client: any RemoteCommandStreams) async -> ByteBuffer {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await copy(command.standardOutput, command) { try await client.writeStandardOutput($0) } }
            group.addTask { await copy(command.standardError, command) { try await client.writeStandardError($0) } }
            var status = ByteBuffer()
            while status.readableBytes < statusBytesMax, var piece = (try? await command.error.read()) ?? nil { status.writeBuffer(&piece) }
            await group.waitForAll()
            return status.readableBytes > 0 ? status : ByteBuffer(string: success)
        }
    }

    private static func copy(_ stream: SPDYStream?, _ command: SPDYRemoteCommand, _ write: (ByteBuffer) async throws -> Void) async {
        guard let stream else { return }
        do {
            while let bytes = try await stream.read() { try await write(bytes) }
        } catch {
            command.close()
        }
    }
}
