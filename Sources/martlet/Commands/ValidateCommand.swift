import APIServer
import ArgumentParser
import FoundationEssentials
import JSON
import Processes

#if canImport(Glibc)
    import Glibc
#endif

/// `martlet validate`: what the server would say to manifests, without one.
struct ValidateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "validate", abstract: "Check manifests offline with the server's schema, rules and words.",
        discussion: "Exit status 1 when something is wrong.\nExample: martlet validate deployment.yaml manifests/")

    @Argument(help: "Files and folders (their .yaml, .yml and .json files).") var paths: [String]
    @Option(name: .shortAndLong, help: "json or yaml, for programs.") var output: String?

    func validate() throws {
        if let output, !["json", "yaml"].contains(output) { throw ValidationError("--output takes json or yaml, not \(output)") }
    }

    func run() throws {
        let validator = OfflineValidator()
        var results: [JSON] = []
        var failed = false
        for file in try files() {
            guard let bytes = SmallFile.readBytes(file) else { throw CommandFailure("\(file): \(String(cString: strerror(errno)))") }
            var findings: [OfflineValidator.Finding]
            do {
                findings = try YAML.decodeAll(String(decoding: bytes, as: UTF8.self)).flatMap(validator.check)
            } catch {
                findings = [OfflineValidator.Finding(subject: "file", problems: [error.message])]
            }
            for finding in findings {
                failed = failed || !finding.problems.isEmpty
                results.append(["file": .string(file), "object": .string(finding.subject), "problems": JSON(finding.problems)])
                if output == nil {
                    if finding.problems.isEmpty { Console.line("\(file): \(finding.subject) is valid") }
                    for problem in finding.problems { Console.line("\(file): \(finding.subject): \(problem)") }
                }
            }
        }
        switch output {
        case "json"?: Console.line(JSON.array(results).prettyText)
        case "yaml"?: Console.line(YAMLText.of(.array(results)))
        default: break
        }
        if failed { throw ExitCode.failure }
    }

    private func files() throws -> [String] {
        var found: [String] = []
        for path in paths {
            var information = stat()
            guard stat(path, &information) == 0 else { throw CommandFailure("\(path): \(String(cString: strerror(errno)))") }
            guard information.st_mode & S_IFMT == S_IFDIR else {
                found.append(path)
                continue
            }
            let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
            found += names.filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") || $0.hasSuffix(".json") }.sorted().map { "\(path)/\($0)" }
        }
        return found
    }
}
