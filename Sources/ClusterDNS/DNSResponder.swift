import NIOCore
import Synchronization

/// From a query to its answer: at once for names of the cluster, later for the others.
final class DNSResponder: Sendable {
    enum Outcome: Sendable {
        case reply([UInt8])
        case later(DNSQuery)
        case nothing
    }

    struct Statistics: Sendable {
        var queries = 0
        var clusterAnswers = 0
        var noNames = 0
        var malformed = 0
    }

    private struct State {
        var index = DNSIndex()
        var statistics = Statistics()
        var isSilent = false
    }

    private static let aliasesMax = 8

    let zone: DNSZone
    private let forwarder: DNSForwarder
    private let state = Mutex(State())

    init(zone: DNSZone, forwarder: DNSForwarder) {
        self.zone = zone
        self.forwarder = forwarder
    }

    var statistics: Statistics { state.withLock { $0.statistics } }
    var serviceCount: Int { state.withLock { $0.index.count } }
    func setSilent(_ isSilent: Bool) { state.withLock { $0.isSilent = isSilent } }

    /// - Parameter entry: read under the index's lock, so that of two changes the later one is kept.
    func update(_ key: String, _ entry: () -> DNSIndex.Entry?) { state.withLock { $0.index.update(key, entry()) } }

    func receive(_ bytes: [UInt8], isTCP: Bool) -> Outcome {
        switch DNSReader.query(bytes) {
        case .drop:
            state.withLock { $0.statistics.malformed += 1 }
            return .nothing
        case .refuse(let id, let opcode, let code):
            state.withLock { $0.statistics.malformed += 1 }
            return .reply(DNSWriter.refusal(id: id, opcode: opcode, code))
        case .query(let query):
            let limit = DNSWriter.bytesMax(query, isTCP: isTCP)
            guard query.classCode == DNSType.classInternet else { return .reply(DNSWriter.answer(query, .refused, bytesMax: limit)) }
            let meaning: DNSZone.Meaning? = state.withLock { state in
                if state.isSilent { return nil }
                state.statistics.queries += 1
                let meaning = zone.meaning(of: query.name, type: query.type, in: state.index)
                switch meaning {
                case .elsewhere, .alias: break
                case .noName:
                    state.statistics.noNames += 1
                    state.statistics.clusterAnswers += 1
                case .noData, .records: state.statistics.clusterAnswers += 1
                }
                return meaning
            }
            guard let meaning else { return .nothing }
            return answer(query, meaning, limit)
        }
    }

    private func answer(_ query: DNSQuery, _ meaning: DNSZone.Meaning, _ limit: Int) -> Outcome {
        switch meaning {
        case .records(let records, let additional):
            .reply(DNSWriter.answer(query, .noError, answers: records, additional: additional, bytesMax: limit))
        case .noData: .reply(DNSWriter.answer(query, .noError, authorities: [zone.authority], bytesMax: limit))
        case .noName: .reply(DNSWriter.answer(query, .nameError, authorities: [zone.authority], bytesMax: limit))
        case .alias(let record, _):
            query.type == DNSType.cname
                ? .reply(DNSWriter.answer(query, .noError, answers: [record], bytesMax: limit)) : .later(query)
        case .elsewhere: .later(query)
        }
    }

    /// The answer to what `receive` put off.
    func finish(_ query: DNSQuery, isTCP: Bool) async -> [UInt8] {
        let limit = DNSWriter.bytesMax(query, isTCP: isTCP)
        var answers: [DNSRecord] = []
        var name = query.name
        for _ in 0..<Self.aliasesMax {
            let current = name
            switch state.withLock({ zone.meaning(of: current, type: query.type, in: $0.index) }) {
            case .alias(let record, let target):
                answers.append(record)
                name = target
            case .records(let records, let additional):
                return DNSWriter.answer(query, .noError, answers: answers + records, additional: additional, bytesMax: limit)
            case .noData: return DNSWriter.answer(query, .noError, answers: answers, authorities: [zone.authority], bytesMax: limit)
            case .noName:
                return DNSWriter.answer(query, .nameError, answers: answers, authorities: [zone.authority], bytesMax: limit)
            case .elsewhere where answers.isEmpty:
                guard let reply = await forwarder.forward(query, isTCP: isTCP) else {
                    return DNSWriter.answer(query, .serverFailure, isAuthoritative: false, bytesMax: limit)
                }
                return reply.count <= limit ? reply : DNSWriter.truncated(reply, query)
            case .elsewhere:
                // The alias is ours, and worth telling even when what it leads to cannot be found out.
                let found = await forwarder.resolve(name, type: query.type)
                return DNSWriter.answer(query, .noError, answers: answers + (found?.records ?? []), bytesMax: limit)
            }
        }
        return DNSWriter.answer(query, .serverFailure, bytesMax: limit)
    }
}

extension DNSWriter {
    /// A foreign reply that is too long for its client: only its head and question, and the word to ask over TCP.
    static func truncated(_ reply: [UInt8], _ query: DNSQuery) -> [UInt8] {
        var short = Array(reply.prefix(12 + query.question.count))
        guard short.count >= 12 else { return short }
        short[2] |= 0x02
        for position in 6..<12 { short[position] = 0 }
        return short
    }
}
