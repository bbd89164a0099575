import Cgroup
import Glibc
import JSON
import KubeMeta
import KubeTypes
import NodeAgent
import Testing

/// What containers are given: environment, names, files, limits.
@Suite("kubelet: container settings")
struct ContainerSettingsTests {
    private func pod(_ spec: JSON, _ metadata: JSON = ["name": "web-0", "namespace": "shop", "uid": "u1"]) -> Pod {
        Pod(json: ["metadata": metadata, "spec": spec])
    }

    private func fields(_ pod: Pod) -> FieldReferences {
        FieldReferences(
            pod: pod, nodeName: "n", nodeIP: "172.30.0.10", podIPs: ["10.0.0.2"],
            allocatable: ["cpu": Quantity(2), "memory": Quantity(1 << 30, format: .binarySI)])
    }

    @Test("$(NAME) is expanded, unknown names and $$ are left as Kubernetes leaves them", arguments: [
        ("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A $(A", "$A $(A"), ("cost: 5$", "cost: 5$"), ("$$$(A)", "$1"),
    ])
    func expansion(text: String, expected: String) {
        #expect(Expansion.expand(text) { ["A": "1"][$0] } == expected)
    }

    @Test("environment: sources in order, later ones win, values see earlier ones, services come last")
    func environment() throws {
        let service = Service(json: [
            "metadata": ["name": "my-db", "namespace": "shop"],
            "spec": ["clusterIP": "10.96.0.7", "ports": [["name": "sql", "port": 5432, "protocol": "TCP"]]],
        ])
        let container = Container(json: [
            "name": "c",
            "envFrom": [["prefix": "P_", "configMapRef": ["name": "cm"]], ["secretRef": ["name": "gone", "optional": true]]],
            "env": [
                ["name": "A", "value": "1"], ["name": "B", "value": "$(A)$(P_x)$(MY_DB_SERVICE_PORT)"],
                ["name": "KEY", "valueFrom": ["secretKeyRef": ["name": "s", "key": "k"]]],
                ["name": "IP", "valueFrom": ["fieldRef": ["fieldPath": "status.podIP"]]],
                ["name": "CPU", "valueFrom": ["resourceFieldRef": ["resource": "limits.cpu", "divisor": "1m"]]],
            ],
            "resources": ["limits": ["cpu": "1500m"]],
        ])
        let builder = EnvironmentBuilder(
            fields: fields(pod(["containers": []])), services: [service],
            configMaps: ["cm": ConfigMap(json: ["data": ["x": "2"]])], secrets: ["s": Secret(json: ["data": ["k": "c2VjcmV0"]])])
        let values = Dictionary(uniqueKeysWithValues: try builder.build(container).map { ($0.name, $0.value) })
        #expect(values["P_x"] == "2")
        #expect(values["B"] == "125432")
        #expect(values["KEY"] == "secret")
        #expect(values["IP"] == "10.0.0.2")
        #expect(values["CPU"] == "1500")
        #expect(values["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.7")
        #expect(values["MY_DB_SERVICE_PORT_SQL"] == "5432")
    }

    @Test("a missing key or object is named as upstream names it")
    func missing() {
        let builder = EnvironmentBuilder(fields: fields(pod([:])), configMaps: ["cm": ConfigMap()])
        func container(_ name: String, _ key: String) -> Container {
            Container(json: ["name": "c", "env": [["name": "A", "valueFrom": ["configMapKeyRef": ["name": .string(name), "key": .string(key)]]]]])
        }
        #expect(throws: AgentError("configmap \"x\" not found")) { try builder.build(container("x", "k")) }
        #expect(throws: AgentError("couldn't find key k in ConfigMap shop/cm")) { try builder.build(container("cm", "k")) }
    }

    @Test("labels and annotations are lines of quoted values, a limit that is not set is the node's")
    func downward() throws {
        let fields = fields(pod([:], ["name": "p", "namespace": "n", "labels": ["b": "2", "a": "x\"y\n"]]))
        #expect(try fields.value(ObjectFieldSelector(json: ["fieldPath": "metadata.labels"])) == "a=\"x\\\"y\\n\"\nb=\"2\"")
        #expect(try fields.value(ObjectFieldSelector(json: ["fieldPath": "metadata.labels['b']"])) == "2")
        let container = Container(json: ["name": "c"])
        #expect(try fields.value(ResourceFieldSelector(json: ["resource": "limits.memory", "divisor": "1Mi"]), container: container) == "1024")
    }

    @Test("resolv.conf follows the DNS policy and the pod's own settings")
    func resolvConf() {
        let host = ResolvConf(text: "nameserver 1.1.1.1\nsearch corp.example\n# comment\noptions rotate\n")
        func result(_ spec: JSON) -> ResolvConf { .forPod(pod(spec), host: host, clusterDNS: ["10.96.0.10"], clusterDomain: "cluster.local") }
        #expect(result([:]) == ResolvConf(
            servers: ["10.96.0.10"], searches: ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"], options: ["ndots:5"]))
        #expect(result(["dnsPolicy": "Default"]) == host)
        #expect(result(["hostNetwork": true]) == host)
        #expect(result(["hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"]).servers == ["10.96.0.10"])
        let own: JSON = ["nameservers": ["9.9.9.9"], "searches": ["a.b"], "options": [["name": "ndots", "value": "2"], ["name": "edns0"]]]
        #expect(result(["dnsPolicy": "None", "dnsConfig": own]) == ResolvConf(servers: ["9.9.9.9"], searches: ["a.b"], options: ["ndots:2", "edns0"]))
        #expect(result(["dnsConfig": own]).options == ["ndots:2", "edns0"])
    }

    @Test("a pod of a headless service finds its own full name in /etc/hosts")
    func hostsFile() {
        let pod = pod(["hostname": "web-0", "subdomain": "web", "hostAliases": [["ip": "1.2.3.4", "hostnames": ["a", "b"]]]])
        let text = HostsFile.text(
            pod: pod, addresses: ["10.0.0.2"], hostName: pod.hostName, hostDomain: pod.hostDomain(clusterDomain: "cluster.local"), hostFile: "")
        #expect(text.hasPrefix("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"))
        #expect(text.contains("\n10.0.0.2\tweb-0.web.shop.svc.cluster.local\tweb-0\n"))
        #expect(text.hasSuffix("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"))
    }

    @Test("requests become shares, limits quota and memory, quality of service a cgroup and a score")
    func resources() {
        let burstable = pod(["containers": [["name": "a", "resources": ["requests": ["cpu": "100m", "memory": "128Mi"], "limits": ["cpu": "200m", "memory": "256Mi"]]]]])
        #expect(burstable.qualityOfService == .burstable)
        #expect(PodResources.cgroupParent(burstable, root: "/k") == "/k/burstable/podu1")
        let limits = PodResources.podLimits(burstable)
        #expect(limits.cpuShares == 102 && limits.cpuQuotaMicroseconds == 20_000 && limits.memoryBytesMax == 256 << 20)
        #expect(PodResources.oomScoreAdjust(burstable, burstable.spec.containers[0], memoryCapacityBytes: 1 << 30) == 875)
        let guaranteed = pod(["containers": [["name": "a", "resources": ["limits": ["cpu": "1", "memory": "1Gi"]]]]])
        #expect(guaranteed.qualityOfService == .guaranteed)
        #expect(PodResources.cgroupParent(guaranteed, root: "/k") == "/k/podu1")
        #expect(pod(["containers": [["name": "a"]]]).qualityOfService == .bestEffort)
    }

    @Test("image names are completed as containerd does", arguments: [
        ("nginx", "docker.io/library/nginx:latest"), ("nginx:1.14.2", "docker.io/library/nginx:1.14.2"), ("a/b", "docker.io/a/b:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"), ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("x@sha256:00ff", "docker.io/library/x@sha256:00ff"),
    ])
    func imageNames(short: String, full: String) { #expect(ImageName(short)?.text == full) }

    @Test("what is no image name is refused", arguments: ["", "UPPER", "a b", "a::b", "a/", "x:"])
    func badImageNames(text: String) { #expect(ImageName(text) == nil) }

    @Test("a volume's files change all at once, and are left alone when nothing changed")
    func atomicWriter() throws {
        let folder = "/tmp/martlet-atomic-\(getpid())"
        mkdir(folder, 0o755)
        defer { _ = try? Subprocess.remove(folder) }
        func file(_ text: String) -> AtomicWriter.File { .init(bytes: Array(text.utf8), mode: 0o640) }
        #expect(try AtomicWriter.write(["a": file("1"), "d/b": file("2")], to: folder, group: nil))
        let first = AtomicWriter.readLink(folder + "/..data")
        #expect(Subprocess.read(folder + "/d/b") == "2")
        #expect(try !AtomicWriter.write(["a": file("1"), "d/b": file("2")], to: folder, group: nil))
        #expect(AtomicWriter.readLink(folder + "/..data") == first)
        #expect(try AtomicWriter.write(["a": file("3")], to: folder, group: nil))
        #expect(Subprocess.read(folder + "/a") == "3")
        #expect(AtomicWriter.readLink(folder + "/d") == nil)
        #expect(throws: AgentError.self) { try AtomicWriter.write(["../x": file("")], to: folder, group: nil) }
    }

    @Test("log lines: format, options, tail")
    func logs() throws {
        let line = try #require(LogLine(Array("2026-11-23T17:00:00.5Z stdout F hello".utf8)[...]))
        #expect(line.text == "hello\n" && line.stream == "stdout")
        #expect(LogLine(Array("2026-11-23T17:00:00.5Z stderr P part".utf8)[...])?.text == "part")
        #expect(LogLine(Array("nonsense".utf8)[...]) == nil)
        let options = try LogOptions(query: [("timestamps", "true"), ("sinceTime", "2026-11-23T17:00:00Z"), ("stream", "Stdout")], now: 0)
        #expect(options.text(of: line) == "2026-11-23T17:00:00.5Z hello\n")
        #expect(throws: AgentError.self) { try LogOptions(query: [("tailLines", "-1")], now: 0) }
        let path = "/tmp/martlet-log-\(getpid())"
        defer { unlink(path) }
        try Subprocess.write((1...5).map { "2026-11-23T17:00:0\($0)Z stdout F line \($0)\n" }.joined(), to: path)
        #expect(LogFile.tail(path, lines: 2, bytesMax: 4096).map(\.text) == ["line 4\n", "line 5\n"])
        let cursor = try #require(LogCursor(path: path, tailLines: 1))
        #expect(cursor.next().map(\.text) == ["line 5\n"])
        #expect(cursor.next().isEmpty)
        rename(path, path + ".old")
        try Subprocess.write("2026-11-23T17:00:06Z stdout F line 6\n", to: path)
        #expect(cursor.next().map(\.text) == ["line 6\n"])
        unlink(path + ".old")
    }
}

private enum Subprocess {
    static func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        return String(decoding: bytes[0..<fread(&bytes, 1, bytes.count, file)], as: UTF8.self)
    }
    static func write(_ text: String, to path: String) throws {
        guard let file = fopen(path, "w") else { throw AgentError("open \(path)") }
        fputs(text, file)
        fclose(file)
    }
    static func remove(_ path: String) throws { system("rm -rf '\(path)'") }
}
