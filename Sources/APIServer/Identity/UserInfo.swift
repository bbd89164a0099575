package import JSON

/// Who makes a request.
package struct UserInfo: Sendable, Hashable {
    package var name: String
    package var uid: String
    package var groups: [String]
    package var extra: [String: [String]]

    package init(name: String, uid: String = "", groups: [String] = [], extra: [String: [String]] = [:]) {
        self.name = name
        self.uid = uid
        self.groups = groups
        self.extra = extra
    }

    static let allAuthenticated = "system:authenticated"
    static let allUnauthenticated = "system:unauthenticated"
    static let masters = "system:masters"

    package static let anonymous = UserInfo(name: "system:anonymous", groups: [allUnauthenticated])
    /// The components of this process.
    package static func component(_ name: String) -> UserInfo { UserInfo(name: "system:\(name)", groups: [masters, allAuthenticated]) }

    var isMaster: Bool { groups.contains(Self.masters) }

    /// The node whose kubelet this is.
    var nodeName: String? {
        guard groups.contains("system:nodes"), name.hasPrefix("system:node:") else { return nil }
        return String(name.dropFirst("system:node:".count))
    }

    /// As TokenReview and SelfSubjectReview show it.
    var json: JSON {
        var object: JSON = ["username": .string(name)]
        if !uid.isEmpty { object["uid"] = .string(uid) }
        if !groups.isEmpty { object["groups"] = JSON(groups) }
        if !extra.isEmpty {
            object["extra"] = .object(JSONObject(extra.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) }))
        }
        return object
    }
}
