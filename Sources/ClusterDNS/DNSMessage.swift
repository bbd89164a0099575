/// Types of records that are known by number (IANA DNS parameters).
package enum DNSType {
    package static let a: UInt16 = 1, ns: UInt16 = 2, cname: UInt16 = 5, soa: UInt16 = 6, ptr: UInt16 = 12, txt: UInt16 = 16
    package static let aaaa: UInt16 = 28, srv: UInt16 = 33, opt: UInt16 = 41, any: UInt16 = 255
    package static let classInternet: UInt16 = 1
}

package enum DNSCode: UInt8, Sendable {
    case noError = 0, formatError = 1, serverFailure = 2, nameError = 3, notImplemented = 4, refused = 5
}

/// One resource record.
package struct DNSRecord: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        case a([UInt8])
        case name(type: UInt16, DNSName)
        case srv(priority: UInt16, weight: UInt16, port: UInt16, DNSName)
        case txt(String)
        case soa(server: DNSName, mailbox: DNSName, serial: UInt32, refresh: UInt32, retry: UInt32, expire: UInt32, minimum: UInt32)
        /// Anything else, as it came (no compressed names in it).
        case raw(type: UInt16, [UInt8])

        package var type: UInt16 {
            switch self {
            case .a: DNSType.a
            case .name(let type, _), .raw(let type, _): type
            case .srv: DNSType.srv
            case .txt: DNSType.txt
            case .soa: DNSType.soa
            }
        }
    }

    package var name: DNSName
    package var ttlSeconds: UInt32
    package var content: Content

    package init(_ name: DNSName, ttlSeconds: UInt32, _ content: Content) {
        self.name = name
        self.ttlSeconds = ttlSeconds
        self.content = content
    }
}

/// A question as a client sent it.
package struct DNSQuery: Sendable {
    package var id: UInt16
    package var recursionDesired: Bool
    package var name: DNSName
    package var type: UInt16
    package var classCode: UInt16
    /// Nil: the client does not speak EDNS0.
    package var ednsBytesMax: Int?
    package var wantsSecurity: Bool
    /// The question as it was on the wire: name, type, class.
    package var question: ArraySlice<UInt8>
    /// The whole message.
    package var bytes: [UInt8]
}

/// What became of received bytes.
package enum DNSParsed: Sendable {
    case query(DNSQuery)
    /// Answer with this code; the question could not be read, or is of a kind we do not serve.
    case refuse(id: UInt16, opcode: UInt8, DNSCode)
    /// No answer: not a query at all, and answering could make two servers answer each other for ever.
    case drop
}

/// Reads messages; every bound is checked, nothing is trusted.
package struct DNSReader {
    private let bytes: [UInt8]
    private(set) var position: Int

    package init(_ bytes: [UInt8], position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    mutating func byte() -> UInt8? {
        guard position < bytes.count else { return nil }
        position += 1
        return bytes[position - 1]
    }

    mutating func word() -> UInt16? {
        guard let high = byte(), let low = byte() else { return nil }
        return UInt16(high) << 8 | UInt16(low)
    }

    mutating func long() -> UInt32? {
        guard let high = word(), let low = word() else { return nil }
        return UInt32(high) << 16 | UInt32(low)
    }

    mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count >= 0, count <= bytes.count - position else { return nil }
        defer { position += count }
        return bytes[position..<(position + count)]
    }

    /// A name, which may be compressed: a pointer must lead backwards, so that no chain of them can be endless.
    mutating func name() -> DNSName? {
        var labels: [[UInt8]] = []
        var length = 1
        var at = position
        var after: Int?
        var limit = position
        while true {
            guard at < bytes.count else { return nil }
            let size = Int(bytes[at])
            switch size & 0xC0 {
            case 0:
                if size == 0 {
                    position = after ?? at + 1
                    return DNSName(labels: labels)
                }
                length += size + 1
                guard length <= DNSName.bytesMax, at + 1 + size <= bytes.count else { return nil }
                labels.append(Array(bytes[(at + 1)..<(at + 1 + size)]))
                at += 1 + size
            case 0xC0:
                guard at + 1 < bytes.count else { return nil }
                let target = (size & 0x3F) << 8 | Int(bytes[at + 1])
                guard target < limit else { return nil }
                if after == nil { after = at + 2 }
                limit = target
                at = target
            default: return nil
            }
        }
    }

    /// One record of an answer. Names in what it holds are read where the type is known, so that they survive out of this message.
    mutating func record() -> (record: DNSRecord, classCode: UInt16, ttlOffset: Int)? {
        guard let name = name(), let type = word(), let classCode = word() else { return nil }
        let ttlOffset = position
        guard let ttl = long(), let length = word(), Int(length) <= bytes.count - position else { return nil }
        let end = position + Int(length)
        var content: DNSRecord.Content?
        switch type {
        case DNSType.cname, DNSType.ns, DNSType.ptr: content = self.name().map { .name(type: type, $0) }
        case DNSType.a where length == 4: content = .a(Array(bytes[position..<end]))
        default: content = .raw(type: type, Array(bytes[position..<end]))
        }
        guard let content else { return nil }
        position = end
        return (DNSRecord(name, ttlSeconds: ttl, content), classCode, ttlOffset)
    }

    /// Reads a client's message.
    package static func query(_ bytes: [UInt8]) -> DNSParsed {
        var reader = DNSReader(bytes)
        guard let id = reader.word(), let flags = reader.word() else { return .drop }
        if flags & 0x8000 != 0 { return .drop }
        let opcode = UInt8(flags >> 11 & 15)
        if opcode != 0 { return .refuse(id: id, opcode: opcode, .notImplemented) }
        guard let questions = reader.word(), let answers = reader.word(), let authorities = reader.word(),
            let additional = reader.word(), questions == 1, answers == 0, authorities == 0
        else { return .refuse(id: id, opcode: opcode, .formatError) }
        let start = reader.position
        guard let name = reader.name(), let type = reader.word(), let classCode = reader.word() else {
            return .refuse(id: id, opcode: opcode, .formatError)
        }
        // A compressed question could only point into the header, which an answer changes.
        guard reader.position - start == name.labels.reduce(5, { $0 + $1.count + 1 }) else {
            return .refuse(id: id, opcode: opcode, .formatError)
        }
        var query = DNSQuery(
            id: id, recursionDesired: flags & 0x0100 != 0, name: name, type: type, classCode: classCode, ednsBytesMax: nil,
            wantsSecurity: false, question: bytes[start..<reader.position], bytes: bytes)
        for _ in 0..<additional {
            guard let (record, classCode, _) = reader.record() else { return .refuse(id: id, opcode: opcode, .formatError) }
            if record.content.type == DNSType.opt {
                query.ednsBytesMax = Int(classCode)
                query.wantsSecurity = record.ttlSeconds & 0x8000 != 0
            }
        }
        return .query(query)
    }
}

/// Writes answers.
package struct DNSWriter {
    /// What fits any path without fragments (DNS flag day 2020).
    package static let udpBytesMax = 1232
    private static let udpBytesMin = 512
    private static let pointerMax = 0x3FFF

    package private(set) var bytes: [UInt8] = []
    /// Lower-case suffix -> where it stands.
    private var known: [DNSName: Int] = [:]

    /// The largest answer a client takes.
    package static func bytesMax(_ query: DNSQuery, isTCP: Bool) -> Int {
        if isTCP { return 65535 }
        return min(udpBytesMax, max(udpBytesMin, query.ednsBytesMax ?? udpBytesMin))
    }

    /// A whole answer. Records that do not fit are left out, and the answer then says that it is truncated.
    package static func answer(
        _ query: DNSQuery, _ code: DNSCode, answers: [DNSRecord] = [], authorities: [DNSRecord] = [], additional: [DNSRecord] = [],
        isAuthoritative: Bool = true, bytesMax: Int
    ) -> [UInt8] {
        var writer = DNSWriter()
        var flags: UInt16 = 0x8080 | UInt16(code.rawValue)
        if isAuthoritative { flags |= 0x0400 }
        if query.recursionDesired { flags |= 0x0100 }
        for value in [query.id, flags, 1, 0, 0, 0] { writer.word(value) }
        var place = writer.bytes.count
        for first in query.name.labels.indices {
            writer.known[DNSName(labels: Array(query.name.labels[first...]))] = place
            place += query.name.labels[first].count + 1
        }
        writer.bytes.append(contentsOf: query.question)
        let room = bytesMax - (query.ednsBytesMax == nil ? 0 : 11)
        var counts: [UInt16] = [0, 0, 0]
        for (section, records) in [answers, authorities, additional].enumerated() {
            for record in records {
                let saved = writer
                writer.record(record)
                if writer.bytes.count > room {
                    writer = saved
                    // What is missing in the last section a client can do without.
                    if section < 2 { writer.bytes[2] |= 0x02 }
                    break
                }
                counts[section] += 1
            }
        }
        if query.ednsBytesMax != nil {
            writer.bytes.append(0)
            for value in [DNSType.opt, UInt16(Self.udpBytesMax), 0, query.wantsSecurity ? 0x8000 : 0, 0] as [UInt16] { writer.word(value) }
            counts[2] += 1
        }
        for (section, count) in counts.enumerated() {
            writer.bytes[6 + 2 * section] = UInt8(count >> 8)
            writer.bytes[7 + 2 * section] = UInt8(count & 255)
        }
        return writer.bytes
    }

    /// A refusal of something whose question could not be read.
    package static func refusal(id: UInt16, opcode: UInt8, _ code: DNSCode) -> [UInt8] {
        var writer = DNSWriter()
        for value in [id, 0x8000 | UInt16(opcode) << 11 | UInt16(code.rawValue), 0, 0, 0, 0] { writer.word(value) }
        return writer.bytes
    }

    /// A question to another server.
    package static func question(id: UInt16, _ name: DNSName, type: UInt16) -> [UInt8] {
        var writer = DNSWriter()
        for value in [id, 0x0100, 1, 0, 0, 1] { writer.word(value) }
        writer.name(name)
        writer.word(type)
        writer.word(DNSType.classInternet)
        writer.bytes.append(0)
        for value in [DNSType.opt, UInt16(Self.udpBytesMax), 0, 0, 0] { writer.word(value) }
        return writer.bytes
    }

    private mutating func word(_ value: UInt16) {
        bytes.append(UInt8(value >> 8))
        bytes.append(UInt8(value & 255))
    }

    private mutating func long(_ value: UInt32) {
        word(UInt16(value >> 16))
        word(UInt16(value & 0xFFFF))
    }

    private mutating func name(_ name: DNSName) {
        var labels = name.labels[...]
        while let label = labels.first {
            let suffix = DNSName(labels: Array(labels))
            if let place = known[suffix] {
                word(0xC000 | UInt16(place))
                return
            }
            if bytes.count <= Self.pointerMax { known[suffix] = bytes.count }
            bytes.append(UInt8(label.count))
            bytes.append(contentsOf: label)
            labels = labels.dropFirst()
        }
        bytes.append(0)
    }

    private mutating func record(_ record: DNSRecord) {
        name(record.name)
        word(record.content.type)
        word(DNSType.classInternet)
        long(record.ttlSeconds)
        let length = bytes.count
        word(0)
        switch record.content {
        case .a(let address): bytes.append(contentsOf: address)
        case .name(_, let name): self.name(name)
        case .srv(let priority, let weight, let port, let target):
            word(priority)
            word(weight)
            word(port)
            self.name(target)
        case .txt(let text):
            let bytes = Array(text.utf8.prefix(255))
            self.bytes.append(UInt8(bytes.count))
            self.bytes.append(contentsOf: bytes)
        case .soa(let server, let mailbox, let serial, let refresh, let retry, let expire, let minimum):
            name(server)
            name(mailbox)
            for value in [serial, refresh, retry, expire, minimum] { long(value) }
        case .raw(_, let data): bytes.append(contentsOf: data)
        }
        let size = bytes.count - length - 2
        bytes[length] = UInt8(size >> 8 & 255)
        bytes[length + 1] = UInt8(size & 255)
    }
}
