import APIServer
import FoundationEssentials
import Processes

/// A static token file: `token,user,uid,"group1,group2"` a line (upstream `--token-auth-file`).
enum TokenFile {
    static func load(_ path: String) throws -> [String: UserInfo] {
        guard let text = SmallFile.read(path) else { throw CommandFailure("the token file \(path) cannot be read") }
        var users: [String: UserInfo] = [:]
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let columns = fields(line)
            if columns.isEmpty || columns == [""] || columns[0].hasPrefix("#") { continue }
            guard columns.count >= 3, !columns[0].isEmpty, !columns[1].isEmpty else {
                throw CommandFailure("\(path):\(number + 1): a line is `token,user,uid[,\"group1,group2\"]`")
            }
            let groups = columns.count > 3 ? columns[3].split(separator: ",").map(String.init) : []
            users[columns[0]] = UserInfo(name: columns[1], uid: columns[2], groups: groups)
        }
        return users
    }

    /// Comma-separated values with double quotes (RFC 4180).
    private static func fields(_ line: Substring) -> [String] {
        var result = [""]
        var quoted = false
        for character in line where character != "\r" {
            switch character {
            case "\"": quoted.toggle()
            case "," where !quoted: result.append("")
            default: result[result.count - 1].append(character)
            }
        }
        return result.map { field in
            var view = field[...]
            while view.first == " " { view = view.dropFirst() }
            while view.last == " " { view = view.dropLast() }
            return String(view)
        }
    }
}
