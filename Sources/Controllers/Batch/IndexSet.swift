/// Completion indexes of an Indexed job, as the API writes them: `0,2-5,9`.
struct CompletionIndexes: Equatable {
    private(set) var indexes: Set<Int> = []

    init() {}
    init(_ indexes: some Sequence<Int>) { self.indexes = Set(indexes) }

    /// Lenient: parts that are no numbers or not below `limit` are left out.
    init(text: String, limit: Int) {
        for part in text.split(separator: ",") {
            let ends = part.split(separator: "-").compactMap { Int($0) }
            guard let first = ends.first, let last = ends.last, first <= last, first >= 0 else { continue }
            for index in first...min(last, max(first, limit - 1)) where index < limit { indexes.insert(index) }
        }
    }

    var text: String {
        var parts: [String] = []
        var run: (first: Int, last: Int)?
        func close() {
            guard let run else { return }
            switch run.last - run.first {
            case 0: parts.append("\(run.first)")
            case 1: parts.append("\(run.first),\(run.last)")
            default: parts.append("\(run.first)-\(run.last)")
            }
        }
        for index in indexes.sorted() {
            if let open = run, index == open.last + 1 {
                run = (open.first, index)
            } else {
                close()
                run = (index, index)
            }
        }
        close()
        return parts.joined(separator: ",")
    }

    var count: Int { indexes.count }
    func contains(_ index: Int) -> Bool { indexes.contains(index) }
    mutating func insert(_ index: Int) { indexes.insert(index) }
    mutating func formUnion(_ other: CompletionIndexes) { indexes.formUnion(other.indexes) }
}
