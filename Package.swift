// swift-tools-version: 6.1
import PackageDescription

/// Settings every Swift target shares: language mode 6 and explicit existentials and imports (STYLE.md, section 3, item 25).
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, exclude: ["README.md"], swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let nioHTTP2: Target.Dependency = .product(name: "NIOHTTP2", package: "swift-nio-http2")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioCompression: Target.Dependency = .product(name: "NIOHTTPCompression", package: "swift-nio-extras")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let cryptoExtras: Target.Dependency = .product(name: "_CryptoExtras", package: "swift-crypto")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let asn1: Target.Dependency = .product(name: "SwiftASN1", package: "swift-asn1")
let collections: Target.Dependency = .product(name: "Collections", package: "swift-collections")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "martlet",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "martlet", targets: ["martlet"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-nio-http2", from: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2", from: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", from: "2.9.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // C surfaces.
        .systemLibrary(name: "CSQLite", path: "Sources/CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CMalloc", path: "Sources/CMalloc"),
        .systemLibrary(name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        // The API as data.
        module("JSON"),
        module("KubeMeta", ["JSON"]),
        module("KubeTypes", ["JSON", "KubeMeta"]),
        module("KubeAPI", ["JSON", "KubeMeta"]),

        // State.
        module("Store"),
        module("StoreTesting", ["Store"]),
        module("StoreSQLite", ["Store", "CSQLite"]),

        // The request path.
        module("PKI", [crypto, cryptoExtras, x509, asn1]),
        module("Wire", ["CZlib", nioCore, nioPosix, nioHTTP1, nioHTTP2, nioSSL, nioTLS, nioCompression, logging]),
        module("Streaming", ["CZlib", "Wire", nioCore, nioPosix, nioHTTP1, nioWebSocket, nioSSL]),
        module("APIServer", ["JSON", "KubeMeta", "KubeAPI", "KubeClient", "Store", "Wire", "Streaming", "PKI", yams, crypto, collections, logging, nioCore, nioHTTP1, nioPosix]),

        // Clients and control loops.
        module("KubeClient", ["JSON", "KubeMeta", "KubeTypes", collections, logging]),
        module("KubeClientHTTP", ["KubeClient", "KubeMeta", "JSON", yams, .product(name: "AsyncHTTPClient", package: "async-http-client"), nioCore, nioHTTP1, nioSSL, nioPosix]),
        module("Scheduler", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", collections, logging]),
        module("Controllers", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", collections, logging]),

        // The node.
        module("CRI", [
            .product(name: "GRPCCore", package: "grpc-swift-2"),
            .product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport"),
            .product(name: "SwiftProtobuf", package: "swift-protobuf"),
        ]),
        module("Processes", [logging]),
        module("Cgroup"),
        module("Nftables", ["Processes"]),
        module("Hosts", ["Processes", "Cgroup", "CRI", "Nftables", crypto, logging]),
        module("NodeAgent", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "CRI", "Processes", "Cgroup", "Hosts", "Wire", "Streaming", "PKI", crypto, collections, logging, nioCore, nioPosix, nioHTTP1, nioSSL,
            .product(name: "AsyncHTTPClient", package: "async-http-client")]),
        module("SimulatedNodes", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", logging]),

        // The data paths.
        module("ServiceProxy", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "Nftables", "Processes", logging]),
        module("ClusterDNS", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "Processes", nioCore, nioPosix, logging]),

        .executableTarget(
            name: "martlet",
            dependencies: [
                "CMalloc", "JSON", "KubeMeta", "KubeTypes", "KubeAPI", "Store", "StoreSQLite", "PKI", "Wire", "Streaming", "APIServer", "KubeClient", "KubeClientHTTP",
                "Scheduler", "Controllers", "CRI", "Processes", "Cgroup", "Nftables", "Hosts", "NodeAgent", "SimulatedNodes", "ServiceProxy", "ClusterDNS",
                .product(name: "ArgumentParser", package: "swift-argument-parser"), yams, logging, nioCore, nioPosix,
            ],
            exclude: ["README.md"],
            swiftSettings: settings),

        tests("JSONTests", ["JSON"]),
        tests("KubeMetaTests", ["JSON", "KubeMeta"]),
        tests("KubeTypesTests", ["JSON", "KubeMeta", "KubeTypes"]),
        tests("KubeAPITests", ["JSON", "KubeMeta", "KubeAPI"]),
        tests("StoreSQLiteTests", ["Store", "StoreTesting", "StoreSQLite"]),
        tests("PKITests", ["PKI", crypto, x509, asn1]),
        tests("WireTests", ["Wire", "PKI", nioCore, nioPosix, nioHTTP1, nioSSL]),
        tests("StreamingTests", ["Streaming", "Wire", nioCore, nioPosix]),
        tests("APIServerTests", ["JSON", "KubeMeta", "KubeAPI", "KubeTypes", "KubeClient", "Store", "StoreSQLite", "APIServer", "Wire", "PKI", nioCore, nioHTTP1, nioPosix]),
        tests("KubeClientTests", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "KubeClientHTTP", "Wire", "PKI", nioCore]),
        tests("SchedulerTests", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "Scheduler"]),
        tests("ControllersTests", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "Controllers"]),
        tests("NodeTests", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "CRI", "Processes", "Cgroup", "Nftables", "Hosts", "NodeAgent", "PKI"]),
        tests("DataPathTests", ["JSON", "KubeMeta", "KubeTypes", "KubeClient", "ServiceProxy", "ClusterDNS", "Nftables", "Processes", nioCore, nioPosix]),
        tests("ClusterTests", ["JSON", "KubeMeta", "KubeTypes", "KubeAPI", "KubeClient", "Store", "StoreSQLite", "APIServer", "Controllers", "Scheduler", "SimulatedNodes", "PKI"]),
    ]
)
