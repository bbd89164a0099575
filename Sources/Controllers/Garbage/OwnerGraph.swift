import JSON
import KubeMeta

/// One object, as the graph of owners needs to know it.
struct GraphIdentity: Sendable, Hashable {
    var kind: ResourceKind
    var namespace: String
    var name: String
    var uid: String
}

struct GraphOwner: Sendable, Equatable {
    var apiVersion: String
    var kind: String
    var name: String
    var uid: String
    var blocks: Bool
}

struct GraphNode: Sendable {
    static let orphanFinalizer = "orphan"
    static let foregroundFinalizer = "foregroundDeletion"

    var identity: GraphIdentity
    var owners: [GraphOwner] = []
    var dependents: Set<String> = []
    var isBeingDeleted = false
    var waitsForDependents = false
    var orphansDependents = false
    /// Known only from a reference: whether it exists is still to be found out.
    var isVirtual = false

    init(identity: GraphIdentity) { self.identity = identity }

    init(_ object: JSON, kind: ResourceKind) {
        let metadata = object["metadata"]
        identity = GraphIdentity(
            kind: kind, namespace: metadata?["namespace"]?.string ?? "", name: metadata?["name"]?.string ?? "",
            uid: metadata?["uid"]?.string ?? "")
        owners = Self.owners(metadata)
        isBeingDeleted = metadata?["deletionTimestamp"]?.string != nil
        for finalizer in metadata?["finalizers"]?.array ?? [] {
            if finalizer.string == Self.orphanFinalizer { orphansDependents = isBeingDeleted }
            if finalizer.string == Self.foregroundFinalizer { waitsForDependents = isBeingDeleted }
        }
    }

    static func owners(_ metadata: JSON?) -> [GraphOwner] {
        (metadata?["ownerReferences"]?.array ?? []).map { reference in
            GraphOwner(
                apiVersion: reference["apiVersion"]?.string ?? "", kind: reference["kind"]?.string ?? "",
                name: reference["name"]?.string ?? "",
                uid: reference["uid"]?.string ?? "", blocks: reference["blockOwnerDeletion"]?.bool ?? false)
        }
    }
}

/// Who owns whom. Pure state: each change returns what has to be looked at next.
struct OwnerGraph {
    struct Work {
        var check: [String] = []
        var orphan: [String] = []
    }

    private(set) var nodes: [String: GraphNode] = [:]
    /// Kinds by `apiVersion/kind`, to find the objects that references name.
    private var kinds: [String: ResourceKind] = [:]

    mutating func setKinds(_ list: [ResourceKind]) {
        kinds = [:]
        for kind in list { kinds["\(kind.apiVersion)/\(kind.kind)"] = kind }
    }

    /// The resource a reference names; another version of the same group does as well.
    func kind(of owner: GraphOwner) -> ResourceKind? {
        if let known = kinds["\(owner.apiVersion)/\(owner.kind)"] { return known }
        let group = owner.apiVersion.contains("/") ? String(owner.apiVersion.split(separator: "/")[0]) : ""
        return kinds.values.first { $0.group == group && $0.kind == owner.kind }
    }

    mutating func put(_ fresh: GraphNode) -> Work {
        var work = Work()
        var node = fresh
        let uid = node.identity.uid
        let old = nodes[uid]
        node.dependents = old?.dependents ?? []
        nodes[uid] = node
        let newOwners = Set(node.owners.map(\.uid))
        for owner in old?.owners ?? [] where !newOwners.contains(owner.uid) {
            nodes[owner.uid]?.dependents.remove(uid)
            if nodes[owner.uid]?.waitsForDependents == true { work.check.append(owner.uid) }
        }
        for owner in node.owners {
            if nodes[owner.uid] == nil {
                guard let kind = kind(of: owner) else { continue }
                var virtual = GraphNode(
                    identity: GraphIdentity(
                        kind: kind, namespace: kind.namespaced ? node.identity.namespace : "", name: owner.name, uid: owner.uid))
                virtual.isVirtual = true
                nodes[owner.uid] = virtual
                work.check.append(owner.uid)
            } else if nodes[owner.uid]?.waitsForDependents == true {
                work.check.append(uid)
                // A reference that stopped blocking may let the owner go.
                if old?.owners != node.owners { work.check.append(owner.uid) }
            } else if let known = nodes[owner.uid], !known.isVirtual,
                known.identity.name != owner.name || known.identity.kind.kind != owner.kind
                    || known.identity.kind.namespaced && known.identity.namespace != node.identity.namespace
            {
                // The reference does not name the object that has this UID: the server is asked about what it does name.
                work.check.append(uid)
            }
            nodes[owner.uid]?.dependents.insert(uid)
        }
        if node.orphansDependents, old?.orphansDependents != true { work.orphan.append(uid) }
        if node.waitsForDependents, old?.waitsForDependents != true {
            work.check.append(uid)
            work.check += node.dependents
        }
        return work
    }

    mutating func remove(_ uid: String) -> Work {
        guard let node = nodes.removeValue(forKey: uid) else { return Work() }
        var work = Work()
        work.check = Array(node.dependents)
        for owner in node.owners {
            nodes[owner.uid]?.dependents.remove(uid)
            if let known = nodes[owner.uid] {
                if known.waitsForDependents { work.check.append(owner.uid) }
                if known.isVirtual, known.dependents.isEmpty { nodes[owner.uid] = nil }
            }
        }
        return work
    }

    /// Marks a virtual node as one that the server knows.
    mutating func confirm(_ uid: String) { nodes[uid]?.isVirtual = false }
}
