import ArgumentParser
import Logging
import NIOCore

@main
struct Martlet: AsyncParsableCommand {
    func run() async throws {}
}
