import ArgumentParser

/// Commands of the contract that this version does not have: each says so, whatever its arguments.
protocol UnsupportedCommand: ParsableCommand {
    static var name: String { get }
    static var purpose: String { get }
}

extension UnsupportedCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(commandName: name, abstract: "\(purpose) (not supported yet).")
    }

    func run() throws {
        throw CommandFailure("`martlet \(Self.name)` is not supported yet; the README's table says what works")
    }
}

struct SnapshotCommand: UnsupportedCommand {
    static let name = "snapshot"
    static let purpose = "Save, list, verify and restore snapshots of the store"
    @Argument(parsing: .allUnrecognized, help: .hidden) var rest: [String] = []
}

struct DoctorCommand: UnsupportedCommand {
    static let name = "doctor"
    static let purpose = "Find what is wrong with a cluster, with evidence"
    @Argument(parsing: .allUnrecognized, help: .hidden) var rest: [String] = []
}

struct DrillCommand: UnsupportedCommand {
    static let name = "drill"
    static let purpose = "Rehearse failures"
    @Argument(parsing: .allUnrecognized, help: .hidden) var rest: [String] = []
}

struct IncidentCommand: UnsupportedCommand {
    static let name = "incident"
    static let purpose = "Timelines and write-ups of incidents"
    @Argument(parsing: .allUnrecognized, help: .hidden) var rest: [String] = []
}

struct CertsCommand: UnsupportedCommand {
    static let name = "certs"
    static let purpose = "List and rotate certificates"
    @Argument(parsing: .allUnrecognized, help: .hidden) var rest: [String] = []
}
