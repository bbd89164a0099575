import JSON
import KubeClient
import KubeMeta
import KubeTypes
import Testing

@Suite("endpoints, endpointslice, endpointslice mirroring")
struct EndpointTests {
    static let controllers: Set = ["endpointslice-controller", "endpoints-controller", "endpointslice-mirroring-controller"]

    private func addPod(_ cluster: ClusterFixture, _ name: String, ip: String, ready: Bool = true, spec: String = "") async throws {
        let pod = try await cluster.client.create(
            cluster.object(
                Pod.self,
                #"{"metadata":{"name":"\#(name)","namespace":"default","labels":{"app":"x"}},"spec":{"nodeName":"n1"\#(spec),"containers":[{"name":"c","image":"i","ports":[{"name":"web","containerPort":8080}]}]}}"#
            ))
        try await cluster.client.patch(
            Pod.self, namespace: "default", name: name, .strategic,
            [
                "status": [
                    "phase": "Running", "podIP": .string(ip), "podIPs": [["ip": .string(ip)]],
                    "conditions": [["type": "Ready", "status": ready ? "True" : "False"]],
                ]
            ], subresource: "status")
        _ = pod
    }

    private let service =
        #"{"metadata":{"name":"s","namespace":"default","labels":{"a":"b"}},"spec":{"clusterIP":"10.0.0.9","ipFamilies":["IPv4"],"selector":{"app":"x"},"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"web"}]}}"#

    @Test("EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service")
    func matching() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(cluster.object(Service.self, service))
        try await cluster.eventually("an empty slice") { try await cluster.list(EndpointSlice.self).count == 1 }
        try await addPod(cluster, "a", ip: "10.1.0.1")
        try await addPod(cluster, "b", ip: "10.1.0.2", ready: false)
        try await cluster.eventually("two endpoints") { try await cluster.list(EndpointSlice.self).first?.endpoints.count == 2 }
        let slices = try await cluster.list(EndpointSlice.self)
        #expect(slices.count == 1)
        let slice = try #require(slices.first)
        #expect(slice.metadata.labels["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io")
        #expect(slice.metadata.labels["kubernetes.io/service-name"] == "s")
        #expect(slice.metadata.labels["a"] == "b")
        #expect(slice.ports.map(\.port) == [8080])
        #expect(slice.endpoints.first { $0.addresses == ["10.1.0.1"] }?.conditions?.ready == true)
        #expect(slice.endpoints.first { $0.addresses == ["10.1.0.2"] }?.conditions?.ready == false)
        try await cluster.eventually("endpoints") {
            let subset = try await cluster.client.find(Endpoints.self, namespace: "default", name: "s")?.subsets.first
            return subset?.addresses.map(\.ip) == ["10.1.0.1"] && subset?.notReadyAddresses.map(\.ip) == ["10.1.0.2"]
        }
        // A terminating pod still serves, but is not ready any more.
        try await cluster.client.delete(Pod.self, namespace: "default", name: "a")
        try await cluster.eventually("terminating") {
            let endpoint = try await cluster.list(EndpointSlice.self).first?.endpoints.first { $0.addresses == ["10.1.0.1"] }
            return endpoint?.conditions?.ready == false && endpoint?.conditions?.serving == true
                && endpoint?.conditions?.terminating == true
        }
        try await cluster.client.delete(Service.self, namespace: "default", name: "s")
        try await cluster.eventually("all gone") {
            let (slices, endpoints) = (try await cluster.list(EndpointSlice.self), try await cluster.list(Endpoints.self))
            return slices.isEmpty && endpoints.isEmpty
        }
    }

    @Test("more than 100 endpoints take several slices; none is made twice")
    func many() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(cluster.object(Service.self, service))
        for index in 0..<150 { try await addPod(cluster, "p\(index)", ip: "10.1.1.\(index)") }
        try await cluster.eventually("150 endpoints") {
            try await cluster.list(EndpointSlice.self).reduce(0) { $0 + $1.endpoints.count } == 150
        }
        #expect(try await cluster.list(EndpointSlice.self).map(\.endpoints.count).sorted() == [50, 100])
    }

    @Test("EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete")
    func mirroring() async throws {
        let cluster = ClusterFixture(Self.controllers)
        try await cluster.client.create(
            cluster.object(Service.self, #"{"metadata":{"name":"m","namespace":"default"},"spec":{"ports":[{"port":80}]}}"#))
        try await cluster.client.create(
            cluster.object(
                Endpoints.self,
                #"{"metadata":{"name":"m","namespace":"default"},"subsets":[{"addresses":[{"ip":"10.1.2.3"}],"ports":[{"port":80}]}]}"#))
        try await cluster.eventually("mirrored") {
            let slice = try await cluster.list(EndpointSlice.self).first
            return slice?.endpoints.first?.addresses == ["10.1.2.3"]
                && slice?.metadata.labels["endpointslice.kubernetes.io/managed-by"] == "endpointslicemirroring-controller.k8s.io"
        }
        try await cluster.client.delete(Endpoints.self, namespace: "default", name: "m")
        try await cluster.eventually("gone") { try await cluster.list(EndpointSlice.self).isEmpty }
    }
}
