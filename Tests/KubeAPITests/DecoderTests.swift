import JSON
import KubeAPI
import Testing

@Suite("ObjectDecoder") struct DecoderTests {
    private func decode(
        _ value: JSON, _ apiVersion: String = "v1", _ kind: String = "Pod", keepsEmpty: Bool = false
    ) throws -> (value: JSON, strict: [String]) {
        var value = value
        var findings = DecodeFindings()
        try ObjectDecoder.decode(&value, as: try type(apiVersion, kind), findings: &findings, keepsEmpty: keepsEmpty)
        return (value, findings.strict)
    }

    private func message(_ value: JSON, _ apiVersion: String = "v1", _ kind: String = "Pod") throws -> String {
        do {
            let decoded = try decode(value, apiVersion, kind).value
            return "no error: \(decoded.text)"
        } catch let error as DecodeError { return error.message }
    }

    @Test("unknown members are dropped and reported with their path")
    func unknown() throws {
        let result = try decode(["metadata": ["name": "p"], "spec": ["containers": [["name": "c", "foo": 1]], "bar": [:]], "baz": 1])
        #expect(result.value == ["metadata": ["name": "p"], "spec": ["containers": [["name": "c"]]]])
        #expect(result.strict == ["unknown field \"spec.containers[0].foo\"", "unknown field \"spec.bar\"", "unknown field \"baz\""])
    }

    @Test("the reports of one object are bounded")
    func bounded() throws {
        var value: JSON = [:]
        for n in 0..<300 { value["unknown\(n)"] = 1 }
        #expect(try decode(value).strict.count == 100)
    }

    @Test("a null member is as good as absent; a null element is the zero of its type")
    func nulls() throws {
        let result = try decode(["metadata": ["name": "p", "labels": .null], "spec": .null])
        #expect(result.value == ["metadata": ["name": "p"]] && result.strict.isEmpty)
        let list = try decode(["spec": ["containers": [["name": "c", "command": ["a", .null]]]]])
        #expect(list.value["spec"]?["containers"]?[0]?["command"] == ["a", ""])
        #expect(try decode(["data": ["a": .null]], "v1", "ConfigMap").value["data"] == ["a": ""])
    }

    @Test("optional lists and maps that are empty go, required ones stay; an applied configuration keeps them")
    func emptyLists() throws {
        let value: JSON = [
            "metadata": ["labels": [:], "finalizers": []], "spec": ["containers": [], "volumes": [], "securityContext": [:]],
        ]
        #expect(try decode(value).value == ["metadata": [:], "spec": ["containers": [], "securityContext": [:]]])
        #expect(try decode(value, keepsEmpty: true).value == value)
    }

    @Test(
        "quantities are written canonically",
        arguments: [("1000m", "1"), ("1024Mi", "1Gi"), ("0.5", "500m"), ("1e3", "1e3"), ("100M", "100M")])
    func quantities(sent: String, canonical: String) throws {
        let pod: JSON = ["spec": ["containers": [["name": "c", "resources": ["limits": ["x": .string(sent)]]]]]]
        #expect(try decode(pod).value["spec"]?["containers"]?[0]?["resources"]?["limits"]?["x"]?.string == canonical)
    }

    @Test("a quantity may be a number")
    func numericQuantity() throws {
        let pod: JSON = ["spec": ["containers": [["name": "c", "resources": ["limits": ["cpu": 2, "memory": 0.5]]]]]]
        #expect(try decode(pod).value["spec"]?["containers"]?[0]?["resources"]?["limits"] == ["cpu": "2", "memory": "500m"])
    }

    @Test("a whole number may be written with a fraction of zero; intOrString keeps what it is")
    func numbers() throws {
        #expect(try decode(["spec": ["replicas": 3.0]], "apps/v1", "Deployment").value["spec"]?["replicas"] == 3)
        let service: JSON = ["spec": ["ports": [["port": 80, "targetPort": "http"], ["port": 81, "targetPort": 8080]]]]
        #expect(try decode(service, "v1", "Service").value == service)
    }

    @Test("a value of another type is refused in the words of Go's decoder")
    func mismatches() throws {
        #expect(
            try message(["spec": ["replicas": "three"]], "apps/v1", "Deployment")
                == "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32")
        #expect(
            try message(["metadata": ["labels": ["a": 1]]]).contains(
                "cannot unmarshal number into Go struct field ObjectMeta.metadata.labels"))
        #expect(try message(["spec": ["containers": "c"]]).hasSuffix("PodSpec.spec.containers of type []Container"))
        #expect(
            try message(["spec": ["hostNetwork": "yes"]])
                == "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool")
        #expect(try message([1]) == "json: cannot unmarshal array into Go value of type v1.Pod")
    }

    @Test("numbers that do not fit, bad quantities, times and bytes are refused")
    func unfit() throws {
        #expect(
            try message(["spec": ["replicas": 3_000_000_000]], "apps/v1", "Deployment").contains(
                "cannot unmarshal number 3000000000 into Go struct field"))
        #expect(try message(["spec": ["replicas": 1.5]], "apps/v1", "Deployment").contains("cannot unmarshal number 1.5 into"))
        #expect(
            try message(["spec": ["containers": [["name": "c", "resources": ["limits": ["cpu": "lots"]]]]]])
                == "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
        #expect(try message(["metadata": ["creationTimestamp": "yesterday"]]).hasPrefix("parsing time \"yesterday\""))
        #expect(try message(["data": ["a": "!"]], "v1", "Secret") == "illegal base64 data at input byte 0")
    }
}

@Suite("Defaults") struct DefaultsTests {
    private func filled(_ object: JSON, _ apiVersion: String, _ kind: String) throws -> JSON {
        var object = object
        Defaults.apply(to: &object, type: try type(apiVersion, kind))
        return object
    }

    @Test("a pod gets the policies and the paths it did not name")
    func pod() throws {
        let spec = try filled(["spec": ["containers": [["name": "c", "image": "nginx:1"]]]], "v1", "Pod")["spec"]
        #expect(spec?["restartPolicy"] == "Always" && spec?["dnsPolicy"] == "ClusterFirst" && spec?["terminationGracePeriodSeconds"] == 30)
        #expect(spec?["schedulerName"] == "default-scheduler" && spec?["enableServiceLinks"] == true && spec?["securityContext"] == [:])
        let container = spec?["containers"]?[0]
        #expect(container?["imagePullPolicy"] == "IfNotPresent" && container?["terminationMessagePath"] == "/dev/termination-log")
        #expect(container?["terminationMessagePolicy"] == "File" && container?["resources"] == [:])
    }

    @Test(
        "the pull policy follows the tag",
        arguments: [
            ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1", "IfNotPresent"), ("host:5000/nginx", "Always"),
            ("nginx@sha256:00", "IfNotPresent"),
        ])
    func pullPolicy(image: String, policy: String) throws {
        let pod = try filled(["spec": ["containers": [["name": "c", "image": .string(image)]]]], "v1", "Pod")
        #expect(pod["spec"]?["containers"]?[0]?["imagePullPolicy"]?.string == policy)
    }

    @Test("a container with limits alone requests as much; what is named stays")
    func limits() throws {
        let resources: JSON = ["limits": ["cpu": "2", "memory": "1Gi"], "requests": ["cpu": "1"]]
        let pod = try filled(["spec": ["containers": [["name": "c", "image": "a:1", "resources": resources]]]], "v1", "Pod")
        #expect(pod["spec"]?["containers"]?[0]?["resources"]?["requests"] == ["cpu": "1", "memory": "1Gi"])
    }

    @Test("probes, ports and volumes are filled in; a container on the host network takes the port of the host")
    func nested() throws {
        let pod = try filled(
            [
                "spec": [
                    "hostNetwork": true,
                    "containers": [
                        ["name": "c", "image": "a:1", "ports": [["containerPort": 80]], "livenessProbe": ["httpGet": ["port": 80]]]
                    ], "volumes": [["name": "v"], ["name": "s", "secret": ["secretName": "x"]]],
                ]
            ], "v1", "Pod")
        let container = pod["spec"]?["containers"]?[0]
        #expect(container?["ports"]?[0] == ["containerPort": 80, "protocol": "TCP", "hostPort": 80])
        let probe = container?["livenessProbe"]
        #expect(
            probe?["periodSeconds"] == 10 && probe?["failureThreshold"] == 3 && probe?["successThreshold"] == 1
                && probe?["timeoutSeconds"] == 1)
        #expect(probe?["httpGet"]?["path"] == "/" && probe?["httpGet"]?["scheme"] == "HTTP")
        #expect(pod["spec"]?["volumes"]?[0]?["emptyDir"] == [:] && pod["spec"]?["volumes"]?[1]?["secret"]?["defaultMode"] == 420)
    }

    @Test("a Deployment rolls by a quarter, keeps ten revisions and has ten minutes to progress")
    func deployment() throws {
        let spec = try filled(["spec": ["template": ["spec": ["containers": []]]]], "apps/v1", "Deployment")["spec"]
        #expect(spec?["replicas"] == 1 && spec?["revisionHistoryLimit"] == 10 && spec?["progressDeadlineSeconds"] == 600)
        #expect(spec?["strategy"] == ["type": "RollingUpdate", "rollingUpdate": ["maxUnavailable": "25%", "maxSurge": "25%"]])
        #expect(spec?["template"]?["spec"]?["restartPolicy"] == "Always")
        let recreate = try filled(["spec": ["strategy": ["type": "Recreate"], "replicas": 0]], "apps/v1", "Deployment")["spec"]
        #expect(recreate?["strategy"] == ["type": "Recreate"] && recreate?["replicas"] == 0)
    }

    @Test("a Service is of type ClusterIP over TCP to the same port; other types get their traffic policies")
    func service() throws {
        let plain = try filled(["spec": ["ports": [["port": 80]]]], "v1", "Service")["spec"]
        #expect(plain?["type"] == "ClusterIP" && plain?["sessionAffinity"] == "None" && plain?["internalTrafficPolicy"] == "Cluster")
        #expect(plain?["ports"]?[0] == ["port": 80, "protocol": "TCP", "targetPort": 80] && plain?["externalTrafficPolicy"] == nil)
        let balancer = try filled(["spec": ["type": "LoadBalancer"]], "v1", "Service")["spec"]
        #expect(balancer?["externalTrafficPolicy"] == "Cluster" && balancer?["allocateLoadBalancerNodePorts"] == true)
        let name = try filled(["spec": ["type": "ExternalName", "externalName": "x.y"]], "v1", "Service")["spec"]
        #expect(name?["internalTrafficPolicy"] == nil)
        let sticky = try filled(["spec": ["sessionAffinity": "ClientIP"]], "v1", "Service")["spec"]
        #expect(sticky?["sessionAffinityConfig"] == ["clientIP": ["timeoutSeconds": 10800]])
    }

    @Test("defaults are filled in once: a second time changes nothing")
    func idempotent() throws {
        for (apiVersion, kind) in [
            ("v1", "Pod"), ("apps/v1", "Deployment"), ("apps/v1", "StatefulSet"), ("batch/v1", "Job"), ("v1", "Service"),
        ] {
            let once = try filled(
                ["spec": ["ports": [["port": 1]], "template": ["spec": ["containers": [["name": "c", "image": "a"]]]]]], apiVersion, kind)
            #expect(try filled(once, apiVersion, kind) == once, "\(kind)")
        }
    }
}
