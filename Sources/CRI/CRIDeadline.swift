/// How long each kind of CRI call may take. Upstream's kubelet uses two minutes for everything (`--runtime-request-timeout`);
/// reads get less, so that a hung runtime is noticed by the next status round.
package enum CRIDeadline {
    /// Version, Status, lists and statuses.
    package static let read: Duration = .seconds(15)
    /// Creating, starting, removing; includes CNI plugins and unpacking.
    package static let change: Duration = .seconds(120)
    /// PullImage and RemoveImage: bounded by the registry, not by us.
    package static let pull: Duration = .seconds(900)
    /// Time left to the runtime itself after a stop's grace period or an exec's own timeout has passed.
    package static let graceAfterTimeout: Duration = .seconds(30)
    /// An exec without a timeout of its own.
    package static let execWithoutTimeout: Duration = .seconds(3600)
}
