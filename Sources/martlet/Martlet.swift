import APIServer
import ArgumentParser

/// The command line. Names are a contract (docs/DESIGN in ARCHITECTURE.md): every subcommand works in full or says that it does not yet.
@main
struct Martlet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "Kubernetes 1.36 as one program that stays up.",
        discussion: """
            Example: martlet up --nodes 2 --detach
                     export KUBECONFIG=$(martlet kubeconfig)
                     kubectl get nodes
            """,
        version: "martlet 0.1.0 (Kubernetes \(Version.git))",
        subcommands: [
            UpCommand.self, DownCommand.self, StatusCommand.self, KubeconfigCommand.self, ServerCommand.self,
            AgentCommand.self, ImageCommand.self, ValidateCommand.self, SnapshotCommand.self, DoctorCommand.self, DrillCommand.self,
            IncidentCommand.self, CertsCommand.self,
        ])
}
