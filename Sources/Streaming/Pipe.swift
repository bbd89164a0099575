package import Wire

/// Copies bytes both ways until both directions have ended, passing half-closes on; an error closes both connections.
package func pipe(_ left: any UpgradedConnection, _ right: any UpgradedConnection) async {
    await withTaskCancellationHandler {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await copy(from: left, to: right) }
            group.addTask { await copy(from: right, to: left) }
        }
    } onCancel: {
        left.close()
        right.close()
    }
    left.close()
    right.close()
}

private func copy(from source: any UpgradedConnection, to target: any UpgradedConnection) async {
    do {
        while let bytes = try await source.read() { try await target.write(bytes) }
        // A connection that is gone altogether, rather than half-closed, ends the other one too.
        if source.isOpen { await target.closeOutput() } else { target.close() }
    } catch {
        source.close()
        target.close()
    }
}
