/// Objects in the order of their keys: sorted chunks, so that an insert moves at most one chunk and a scan touches memory in order.
struct SortedObjects: Sendable {
    private static let chunkMax = 512

    private var chunks: [[StoredObject]] = []
    private(set) var count = 0

    private func chunkIndex(_ key: String) -> Int {
        var low = 0
        var high = chunks.count
        while low < high {
            let middle = (low + high) / 2
            if let last = chunks[middle].last, last.key < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func position(_ key: String, in chunk: [StoredObject]) -> Int {
        var low = 0
        var high = chunk.count
        while low < high {
            let middle = (low + high) / 2
            if chunk[middle].key < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    func find(_ key: String) -> StoredObject? {
        let index = chunkIndex(key)
        guard index < chunks.count else { return nil }
        let place = position(key, in: chunks[index])
        guard place < chunks[index].count, chunks[index][place].key == key else { return nil }
        return chunks[index][place]
    }

    /// Returns what stood there before.
    @discardableResult
    mutating func put(_ object: StoredObject) -> StoredObject? {
        var index = chunkIndex(object.key)
        if index == chunks.count {
            if chunks.isEmpty { chunks.append([]) }
            index = chunks.count - 1
        }
        let place = position(object.key, in: chunks[index])
        if place < chunks[index].count, chunks[index][place].key == object.key {
            let old = chunks[index][place]
            chunks[index][place] = object
            return old
        }
        chunks[index].insert(object, at: place)
        count += 1
        if chunks[index].count > Self.chunkMax {
            // Keys often arrive in order: the full chunk stays full, and the new one takes what follows.
            let cut = place == chunks[index].count - 1 ? chunks[index].count - 1 : chunks[index].count / 2
            let upper = Array(chunks[index][cut...])
            chunks[index].removeLast(chunks[index].count - cut)
            chunks.insert(upper, at: index + 1)
        }
        return nil
    }

    @discardableResult
    mutating func remove(_ key: String) -> StoredObject? {
        let index = chunkIndex(key)
        guard index < chunks.count else { return nil }
        let place = position(key, in: chunks[index])
        guard place < chunks[index].count, chunks[index][place].key == key else { return nil }
        let old = chunks[index].remove(at: place)
        count -= 1
        if chunks[index].isEmpty { chunks.remove(at: index) }
        return old
    }

    /// Calls the body for every object whose key has the prefix, from a key on, until it returns false.
    func scan(prefix: String, from start: String? = nil, _ body: (StoredObject) -> Bool) {
        let first = start ?? prefix
        var index = chunkIndex(first)
        guard index < chunks.count else { return }
        var place = position(first, in: chunks[index])
        while index < chunks.count {
            while place < chunks[index].count {
                let object = chunks[index][place]
                guard object.key.utf8.starts(with: prefix.utf8) else { return }
                guard body(object) else { return }
                place += 1
            }
            index += 1
            place = 0
        }
    }
}
