package import Processes

/// The kernel's packet filter through `nft`: transactions of rule text in, JSON out.
///
/// One `nft -f -` is one netlink transaction: all of it happens or nothing. Updating only the changed elements of a map costs
/// the same few milliseconds whatever the size of the table; sets and maps should therefore hold what changes.
package struct Nft: Sendable {
    /// Large tables take seconds to list; a hung kernel should not hang us for ever.
    private static let timeout: Duration = .seconds(30)

    /// The network namespace to act in, by its name in /run/netns; `nil` is the caller's own.
    package let networkNamespace: String?

    package init(networkNamespace: String? = nil) {
        self.networkNamespace = networkNamespace
    }

    /// Applies `transaction` atomically.
    /// - Throws: `ProcessError.failed` with nft's own message (line and column of the mistake), or `.missing`.
    package func apply(_ transaction: NftTransaction) async throws(ProcessError) {
        try await apply(text: transaction.text)
    }

    package func apply(text: String) async throws(ProcessError) {
        if text.isEmpty { return }
        try await ProcessRunner.runChecked(command(["nft", "-f", "-"], input: text))
    }

    /// `nft -j list table`: the JSON bytes, or `nil` when there is no such table.
    package func list(_ table: NftTable) async throws(ProcessError) -> [UInt8]? {
        let outcome = try await ProcessRunner.run(command(["nft", "-j", "list", "table", table.family.rawValue, table.name]))
        if outcome.status.isSuccess { return outcome.standardOutput }
        if outcome.errorText.contains("No such file or directory") { return nil }
        throw .failed(program: "nft", status: outcome.status, detail: outcome.errorText)
    }

    /// Idempotent.
    package func delete(_ table: NftTable) async throws(ProcessError) {
        // "add" first: deleting a table that is not there is an error, adding one that is there is not.
        try await apply(text: "add table \(table)\ndelete table \(table)\n")
    }

    private func command(_ arguments: [String], input: String = "") -> Command {
        let prefix = networkNamespace.map { ["nsenter", "--net=/run/netns/\($0)", "--"] } ?? []
        return Command(prefix + arguments, standardInput: Array(input.utf8), timeout: Self.timeout, outputBytesMax: 64 * 1024 * 1024)
    }
}

package struct NftTable: Hashable, Sendable, CustomStringConvertible {
    package enum Family: String, Sendable { case ip, ip6, inet, arp, bridge, netdev }
    package let family: Family
    package let name: String

    package init(_ family: Family, _ name: String) {
        self.family = family
        self.name = name
    }

    package var description: String { "\(family.rawValue) \(name)" }
}
