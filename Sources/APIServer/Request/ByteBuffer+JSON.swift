import JSON
import NIOCore

extension ByteBuffer {
    /// Parses the readable bytes where they lie.
    func parseJSON(duplicates: inout [String]) throws(JSONParseError) -> JSON {
        // A closure that throws a typed error crashes the compiler here (6.3.1): the result is carried out instead.
        var result: Result<JSON, JSONParseError> = .success(.null)
        var found: [String] = []
        withUnsafeReadableBytes { raw in
            do throws(JSONParseError) { result = .success(try JSON.parse(raw, duplicates: &found)) } catch { result = .failure(error) }
        }
        duplicates = found
        return try result.get()
    }
}
