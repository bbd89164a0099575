import NIOCore
import Synchronization

/// Bytes from one producer to one consumer. The producer waits while `highBytes` or more are queued.
final class ByteQueue: Sendable {
    private struct State {
        var buffers = CircularBuffer<ByteBuffer>()
        var bytes = 0
        var ended = false
        var failure: (any Error)?
        var consumer: CheckedContinuation<ByteBuffer?, any Error>?
        var producer: CheckedContinuation<Void, Never>?
    }

    private let highBytes: Int
    private let state = Mutex(State())

    init(highBytes: Int) { self.highBytes = highBytes }

    /// Queues the bytes and waits until the consumer has made room. Bytes after the end are dropped.
    func push(_ bytes: ByteBuffer) async {
        guard bytes.readableBytes > 0 else { return }
        await withCheckedContinuation { continuation in
            let (consumer, ready) = state.withLock { state -> (CheckedContinuation<ByteBuffer?, any Error>?, Bool) in
                if state.ended { return (nil, true) }
                if let consumer = state.consumer {
                    state.consumer = nil
                    return (consumer, true)
                }
                state.buffers.append(bytes)
                state.bytes += bytes.readableBytes
                if state.bytes < highBytes { return (nil, true) }
                state.producer = continuation
                return (nil, false)
            }
            consumer?.resume(returning: bytes)
            if ready { continuation.resume() }
        }
    }

    /// The next bytes; nil after the end. Throws what the producer ended with, or `CancellationError`.
    func pop() async throws -> ByteBuffer? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                enum Outcome { case bytes(ByteBuffer), end, failed(any Error), wait }
                let (outcome, producer) = state.withLock { state -> (Outcome, CheckedContinuation<Void, Never>?) in
                    if let first = state.buffers.popFirst() {
                        state.bytes -= first.readableBytes
                        guard state.bytes < highBytes else { return (.bytes(first), nil) }
                        let producer = state.producer
                        state.producer = nil
                        return (.bytes(first), producer)
                    }
                    if let failure = state.failure { return (.failed(failure), nil) }
                    if state.ended { return (.end, nil) }
                    if Task.isCancelled { return (.failed(CancellationError()), nil) }
                    state.consumer = continuation
                    return (.wait, nil)
                }
                switch outcome {
                case .bytes(let bytes): continuation.resume(returning: bytes)
                case .end: continuation.resume(returning: nil)
                case .failed(let error): continuation.resume(throwing: error)
                case .wait: break
                }
                producer?.resume()
            }
        } onCancel: {
            let consumer = state.withLock { state in
                defer { state.consumer = nil }
                return state.consumer
            }
            consumer?.resume(throwing: CancellationError())
        }
    }

    /// No more bytes will come; what is queued is still delivered.
    func finish(_ error: (any Error)? = nil) {
        let (consumer, producer) = state.withLock { state -> (CheckedContinuation<ByteBuffer?, any Error>?, CheckedContinuation<Void, Never>?) in
            guard !state.ended else { return (nil, nil) }
            state.ended = true
            state.failure = error
            defer { state.consumer = nil; state.producer = nil }
            return (state.consumer, state.producer)
        }
        if let error { consumer?.resume(throwing: error) } else { consumer?.resume(returning: nil) }
        producer?.resume()
    }
}
