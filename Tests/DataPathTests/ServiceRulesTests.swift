import KubeClient
import KubeTypes
import ServiceProxy
import Testing

/// What services become, read from the full transaction.
private func rules(_ service: Service, _ slices: [EndpointSlice] = [], options: ServiceProxy.Options = .init(clusterCIDR: "10.244.0.0/16")) -> String {
    ServiceProxy.renderRules([(service, slices)], nodeName: "node-1", options: options)
}

@Suite struct ServiceRulesTests {
    @Test("headless services, external names, services of other proxies and addresses of the node's own have no rules")
    func ignored() {
        let slice = makeSlice("web", [TestEndpoint(address: "10.244.1.2")])
        let none = rules(makeService("web", clusterIP: "None"), [slice])
        #expect(!none.contains("10.244.1.2"))
        #expect(rules(makeService("web", clusterIP: "") { $0.spec.type = "ExternalName" }, [slice]) == none)
        #expect(rules(makeService("web", clusterIP: "10.96.0.1") { $0.metadata.labels["service.kubernetes.io/service-proxy-name"] = "x" }, [slice]) == none)
        #expect(rules(makeService("web", clusterIP: "10.96.0.10"), [slice], options: .init(clusterCIDR: nil, localAddresses: ["10.96.0.10"])) == none)
        #expect(rules(makeService("web", clusterIP: "fd00::1"), [slice]) == none)
        // Nothing that is not an address gets into a rule.
        #expect(rules(makeService("web", clusterIP: "10.96.0.1 }; flush ruleset"), [slice]) == none)
        #expect(!rules(makeService("web", clusterIP: "10.96.0.1"), [makeSlice("web", [TestEndpoint(address: "1.2.3.4; drop")])]).contains("1.2.3.4"))
    }

    @Test("a port finds its endpoints by name and protocol, over all slices")
    func ports() {
        let ports = [TestPort(name: "a", number: 80, target: 8080), TestPort(name: "b", number: 53, target: 5353, proto: "UDP")]
        let text = rules(makeService("web", clusterIP: "10.96.0.1", ports: ports), [
            makeSlice("web", suffix: "1", ports: [ports[0]], [TestEndpoint(address: "10.244.1.2")]),
            makeSlice("web", suffix: "2", ports: ports, [TestEndpoint(address: "10.244.1.3")]),
        ])
        #expect(text.contains("meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.1.3 . 8080 }"))
        #expect(text.contains("meta l4proto udp dnat to 10.244.1.3:5353"))
        #expect(text.contains("10.96.0.1 . udp . 53 : goto svc-"))
        #expect(text.contains("ip daddr 10.96.0.1 ip saddr != 10.244.0.0/16 jump mark-for-masquerade"))
    }

    @Test("internal policy Local uses the node's own endpoints only, and drops without them")
    func internalLocal() {
        let service = makeService("web", clusterIP: "10.96.0.1") { $0.spec.internalTrafficPolicy = "Local" }
        let mixed = rules(service, [makeSlice("web", [TestEndpoint(address: "10.244.1.2"), TestEndpoint(address: "10.244.2.2", node: "node-2")])])
        #expect(mixed.contains("dnat to 10.244.1.2:8080"))
        #expect(!mixed.contains("10.244.2.2"))
        #expect(rules(service, [makeSlice("web", [TestEndpoint(address: "10.244.2.2", node: "node-2")])]).contains("10.96.0.1 . tcp . 80 : drop"))
    }

    @Test("of two services with one external address the first has it; the second gets it when the first goes")
    func conflict() {
        func service(_ name: String, _ ip: String) -> Service { makeService(name, clusterIP: ip) { $0.spec.externalIPs = ["198.51.100.1"] } }
        let a = service("a", "10.96.0.1"), b = service("b", "10.96.0.2")
        let a1 = makeSlice("a", [TestEndpoint(address: "10.244.1.2")]), b1 = makeSlice("b", [TestEndpoint(address: "10.244.1.3")])
        let steps = ServiceProxy.renderUpdates(
            [[(a, [a1]), (b, [b1])], [(b, [b1])]], nodeName: "node-1", options: .init())
        let first = steps[0].split(separator: "\n").filter { $0.contains("add element") && $0.contains("198.51.100.1") }
        #expect(first.count == 1)
        #expect(first.first?.contains("default/a/TCP") == true)
        #expect(steps[1].contains("delete element ip martlet-proxy service-ips"))
        #expect(steps[1].contains("198.51.100.1 . tcp . 80 : goto ext-"))
        #expect(!steps[1].contains("10.96.0.2"))
    }

    @Test("a change of one endpoint touches one chain")
    func incremental() {
        let service = makeService("web", clusterIP: "10.96.0.1", ports: [TestPort(nodePort: 30080)])
        func slices(_ last: Int) -> [EndpointSlice] { [makeSlice("web", [TestEndpoint(address: "10.244.2.2", node: "x"), TestEndpoint(address: "10.244.2.\(last)", node: "x")])] }
        let steps = ServiceProxy.renderUpdates([[(service, slices(3))], [(service, slices(4))], [(service, slices(4))]], nodeName: "node-1", options: .init())
        let lines = steps[1].split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.hasPrefix("flush chain ip martlet-proxy svc-") == true)
        #expect(steps[2].isEmpty)
    }

    @Test("stale UDP flows are those that lead to no endpoint any more")
    func conntrack() {
        let listing = """
            udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=5000 dport=53 src=10.244.0.2 dst=10.0.0.1 sport=53 dport=5000 mark=0 use=1
            udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=5001 dport=53 [UNREPLIED] src=10.244.0.3 dst=10.0.0.1 sport=53 dport=5001 mark=0 use=1
            udp      17 29 src=10.0.0.1 dst=192.0.2.1 sport=5000 dport=30053 src=10.244.0.9 dst=10.0.0.1 sport=53 dport=5000 use=1
            udp      17 29 src=10.0.0.1 dst=8.8.8.8 sport=5000 dport=30053 src=8.8.8.8 dst=10.0.0.1 sport=30053 dport=5000 use=1
            garbage
            """
        #expect(ServiceProxy.staleFlows(listing, service: "10.96.0.10", port: 53, nodePort: 30053, endpoints: ["10.244.0.2"])
            == ["10.96.0.10:53 10.244.0.3", "192.0.2.1:30053 10.244.0.9"])
    }
}
