/// The smallest init there is: the program of a pod's sandbox container, as an ELF file written by hand.
///
/// It is process 1 of the sandbox and holds its namespaces open. It blocks SIGINT, SIGTERM and SIGCHLD and waits for them:
/// SIGCHLD makes it reap orphans (it is everybody's parent when the pod shares its process namespace), the others make it
/// exit with 0. Waiting with blocked signals needs no handlers, and process 1 gets blocked signals even though the kernel
/// keeps default-action ones from it.
package enum PauseProgram {
    package enum Architecture: String {
        case amd64, arm64

        package static var current: Architecture {
            #if arch(arm64)
            .arm64
            #else
            .amd64
            #endif
        }
    }

    /// Bits 1, 14 and 16: SIGINT (2), SIGTERM (15), SIGCHLD (17). Appears as 0x14002 in both programs.
    private static let amd64: [UInt8] = [
        0x68, 0x02, 0x40, 0x01, 0x00,              // push 0x14002            the signal set, on the stack
        0x31, 0xff,                                // xor  edi, edi           SIG_BLOCK
        0x48, 0x89, 0xe6,                          // mov  rsi, rsp
        0x31, 0xd2,                                // xor  edx, edx
        0x41, 0xba, 0x08, 0x00, 0x00, 0x00,        // mov  r10d, 8            size of the set
        0xb8, 0x0e, 0x00, 0x00, 0x00,              // mov  eax, 14            rt_sigprocmask
        0x0f, 0x05,                                // syscall
        // wait:
        0x48, 0x89, 0xe7,                          // mov  rdi, rsp
        0x31, 0xf6,                                // xor  esi, esi
        0x31, 0xd2,                                // xor  edx, edx           no time limit
        0x41, 0xba, 0x08, 0x00, 0x00, 0x00,        // mov  r10d, 8
        0xb8, 0x80, 0x00, 0x00, 0x00,              // mov  eax, 128           rt_sigtimedwait
        0x0f, 0x05,                                // syscall
        0x83, 0xf8, 0x11,                          // cmp  eax, 17            SIGCHLD?
        0x74, 0x0d,                                // je   reap
        0x85, 0xc0,                                // test eax, eax
        0x7e, 0xe3,                                // jle  wait               interrupted
        0x31, 0xff,                                // xor  edi, edi
        0xb8, 0xe7, 0x00, 0x00, 0x00,              // mov  eax, 231           exit_group(0)
        0x0f, 0x05,                                // syscall
        // reap:
        0x48, 0xc7, 0xc7, 0xff, 0xff, 0xff, 0xff,  // mov  rdi, -1            any child
        0x31, 0xf6,                                // xor  esi, esi
        0xba, 0x01, 0x00, 0x00, 0x00,              // mov  edx, 1             WNOHANG
        0x45, 0x31, 0xd2,                          // xor  r10d, r10d
        0xb8, 0x3d, 0x00, 0x00, 0x00,              // mov  eax, 61            wait4
        0x0f, 0x05,                                // syscall
        0x48, 0x85, 0xc0,                          // test rax, rax
        0x7f, 0xe3,                                // jg   reap               there may be more
        0xeb, 0xbb,                                // jmp  wait
    ]

    private static let arm64: [UInt32] = [
        0xd288_0049,  // movz x9, 0x4002
        0xf2a0_0029,  // movk x9, 1, lsl 16     the signal set
        0xf81f_0fe9,  // str  x9, [sp, -16]!
        0xd280_0000,  // mov  x0, 0             SIG_BLOCK
        0x9100_03e1,  // mov  x1, sp
        0xd280_0002,  // mov  x2, 0
        0xd280_0103,  // mov  x3, 8             size of the set
        0xd280_10e8,  // mov  x8, 135           rt_sigprocmask
        0xd400_0001,  // svc  0
        // wait:
        0x9100_03e0,  // mov  x0, sp
        0xd280_0001,  // mov  x1, 0
        0xd280_0002,  // mov  x2, 0             no time limit
        0xd280_0103,  // mov  x3, 8
        0xd280_1128,  // mov  x8, 137           rt_sigtimedwait
        0xd400_0001,  // svc  0
        0xf100_441f,  // cmp  x0, 17            SIGCHLD?
        0x5400_00c0,  // b.eq reap
        0xf100_001f,  // cmp  x0, 0
        0x54ff_feed,  // b.le wait              interrupted
        0xd280_0000,  // mov  x0, 0
        0xd280_0bc8,  // mov  x8, 94            exit_group(0)
        0xd400_0001,  // svc  0
        // reap:
        0x9280_0000,  // mov  x0, -1            any child
        0xd280_0001,  // mov  x1, 0
        0xd280_0022,  // mov  x2, 1             WNOHANG
        0xd280_0003,  // mov  x3, 0
        0xd280_2088,  // mov  x8, 260           wait4
        0xd400_0001,  // svc  0
        0xf100_001f,  // cmp  x0, 0
        0x54ff_ff2c,  // b.gt reap              there may be more
        0x17ff_ffeb,  // b    wait
    ]

    /// A static ELF executable: file header, one program header, the code.
    package static func elf(_ architecture: Architecture) -> [UInt8] {
        let loadAddress: UInt64 = 0x40_0000
        let headersBytes: UInt64 = 64 + 56
        let code: [UInt8]
        let machine: UInt16
        switch architecture {
        case .amd64: (code, machine) = (amd64, 62)
        case .arm64: (code, machine) = (arm64.flatMap(littleEndian), 183)
        }
        let size = headersBytes + UInt64(code.count)
        // Identification: magic, 64 bits, little endian, version 1, System V.
        var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        file += littleEndian(UInt16(2)) + littleEndian(machine) + littleEndian(UInt32(1))  // executable, machine, version
        file += littleEndian(loadAddress + headersBytes)                                   // entry point
        file += littleEndian(UInt64(64)) + littleEndian(UInt64(0))                         // program headers at 64, no sections
        file += littleEndian(UInt32(0)) + littleEndian(UInt16(64))                         // flags, size of this header
        file += littleEndian(UInt16(56)) + littleEndian(UInt16(1))                         // one program header of 56 bytes
        file += littleEndian(UInt16(0)) + littleEndian(UInt16(0)) + littleEndian(UInt16(0))
        // Program header: load the whole file, readable and executable.
        file += littleEndian(UInt32(1)) + littleEndian(UInt32(5)) + littleEndian(UInt64(0))
        file += littleEndian(loadAddress) + littleEndian(loadAddress)
        file += littleEndian(size) + littleEndian(size) + littleEndian(UInt64(0x1_0000))
        return file + code
    }

    private static func littleEndian<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian, Array.init)
    }
}
