public import JSON
public import KubeMeta

/// A value of the API with a JSON form. Reading is lenient: the server has validated what it stored.
public protocol KubeValue: Sendable {
    init()
    init(json: JSON)
    var json: JSON { get }
}

/// A kind of the API: a value with metadata, served as a resource.
public protocol KubeObject: KubeValue {
    static var resource: ResourceKind { get }
    var metadata: ObjectMeta { get set }
}

extension KubeObject {
    /// `namespace/name`, or `name` for objects of the cluster: the key of caches and work queues.
    public var key: String { metadata.namespace.isEmpty ? metadata.name : "\(metadata.namespace)/\(metadata.name)" }

    /// The reference that names this object as the controlling owner of another.
    public var controllerReference: OwnerReference {
        var reference = OwnerReference()
        reference.apiVersion = Self.resource.apiVersion
        reference.kind = Self.resource.kind
        reference.name = metadata.name
        reference.uid = metadata.uid
        reference.controller = true
        reference.blockOwnerDeletion = true
        return reference
    }

    public var objectReference: ObjectReference {
        var reference = ObjectReference()
        reference.apiVersion = Self.resource.apiVersion
        reference.kind = Self.resource.kind
        reference.name = metadata.name
        reference.namespace = metadata.namespace
        reference.uid = metadata.uid
        reference.resourceVersion = metadata.resourceVersion
        return reference
    }
}

extension ObjectMeta {
    /// The owner that controls the object, if any.
    public var controller: OwnerReference? { ownerReferences.first { $0.controller == true } }
    public var isBeingDeleted: Bool { deletionTimestamp != nil }
    /// Seconds since 1970; 0 when unset.
    public var creationSeconds: Double { creationTimestamp.flatMap(KubeTime.parse) ?? 0 }
}

extension LabelSelector {
    public var selector: Selector { Selector(labelSelector: json) }
}

/// Keeps a large struct behind one reference, so that copying its owner costs one retain.
@propertyWrapper
public struct Indirect<Value: Sendable>: Sendable {
    /// The box is only ever changed while `isKnownUniquelyReferenced`, so that no other task can see the change.
    private final class Box: @unchecked Sendable {
        var value: Value
        init(_ value: Value) { self.value = value }
    }

    private var box: Box

    public init(wrappedValue: Value) { box = Box(wrappedValue) }

    public var wrappedValue: Value {
        _read { yield box.value }
        _modify {
            if !isKnownUniquelyReferenced(&box) { box = Box(box.value) }
            yield &box.value
        }
    }
}
