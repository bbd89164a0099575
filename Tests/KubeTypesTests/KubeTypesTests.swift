import JSON
import KubeMeta
import KubeTypes
import Testing

@Suite("KubeTypes") struct KubeTypesTests {
    private static let container: JSON = [
        "name": "c", "image": "nginx:1", "command": ["/bin/sh"], "args": ["-c", "true"], "workingDir": "/w", "imagePullPolicy": "Always",
        "ports": [["name": "http", "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "TCP"]],
        "envFrom": [["prefix": "P_", "configMapRef": ["name": "m", "optional": true]], ["secretRef": ["name": "s"]]],
        "env": [
            ["name": "A", "value": "1"], ["name": "B", "valueFrom": ["fieldRef": ["apiVersion": "v1", "fieldPath": "status.podIP"]]],
            ["name": "C", "valueFrom": ["secretKeyRef": ["name": "s", "key": "k", "optional": false]]],
            ["name": "D", "valueFrom": ["resourceFieldRef": ["containerName": "c", "resource": "limits.cpu", "divisor": "1"]]],
        ],
        "resources": ["limits": ["cpu": "500m", "memory": "1Gi"], "requests": ["cpu": "250m", "memory": "512Mi"]],
        "volumeMounts": [["name": "v", "mountPath": "/v", "subPath": "s", "readOnly": true, "mountPropagation": "None"]],
        "livenessProbe": [
            "httpGet": ["path": "/", "port": "http", "scheme": "HTTP", "httpHeaders": [["name": "X", "value": "y"]]], "periodSeconds": 10,
            "initialDelaySeconds": 1, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
        ],
        "readinessProbe": ["exec": ["command": ["true"]]], "startupProbe": ["tcpSocket": ["port": 80]],
        "lifecycle": ["preStop": ["sleep": ["seconds": 5]], "postStart": ["exec": ["command": ["true"]]]],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "stdin": true, "tty": true,
        "securityContext": [
            "runAsUser": 1000, "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": ["add": ["NET_ADMIN"], "drop": ["ALL"]], "seccompProfile": ["type": "RuntimeDefault"],
        ],
    ]

    private static let podSpec: JSON = [
        "containers": [container], "initContainers": [["name": "i", "image": "i:1", "restartPolicy": "Always", "resources": [:]]],
        "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 60, "dnsPolicy": "None",
        "dnsConfig": ["nameservers": ["10.0.0.1"], "searches": ["a.b"], "options": [["name": "ndots", "value": "2"]]],
        "nodeSelector": ["disk": "ssd"], "serviceAccountName": "sa", "automountServiceAccountToken": false, "nodeName": "n",
        "hostNetwork": true, "shareProcessNamespace": true, "hostname": "h", "subdomain": "s", "schedulerName": "default-scheduler",
        "imagePullSecrets": [["name": "pull"]], "hostAliases": [["ip": "10.0.0.2", "hostnames": ["x"]]], "priorityClassName": "high",
        "priority": 1000, "preemptionPolicy": "Never", "enableServiceLinks": false, "overhead": ["cpu": "10m"],
        "readinessGates": [["conditionType": "x/y"]], "schedulingGates": [["name": "g"]], "setHostnameAsFQDN": false,
        "tolerations": [["key": "t", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5]],
        "securityContext": ["fsGroup": 1, "supplementalGroups": [1, 2], "sysctls": [["name": "net.x", "value": "1"]]],
        "affinity": [
            "nodeAffinity": [
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    "nodeSelectorTerms": [["matchExpressions": [["key": "a", "operator": "In", "values": ["b"]]]]]
                ]
            ],
            "podAntiAffinity": [
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    ["weight": 1, "podAffinityTerm": ["topologyKey": "zone", "labelSelector": ["matchLabels": ["a": "b"]]]]
                ]
            ],
        ],
        "topologySpreadConstraints": [
            ["maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": ["matchLabels": ["a": "b"]]]
        ],
        "volumes": [
            ["name": "v", "emptyDir": ["medium": "Memory", "sizeLimit": "1Mi"]], ["name": "h", "hostPath": ["path": "/h", "type": ""]],
            ["name": "p", "persistentVolumeClaim": ["claimName": "c", "readOnly": true]],
            ["name": "m", "configMap": ["name": "m", "defaultMode": 420, "items": [["key": "k", "path": "p", "mode": 256]]]],
            [
                "name": "j",
                "projected": [
                    "sources": [["serviceAccountToken": ["path": "token", "expirationSeconds": 3607, "audience": "a"]]], "defaultMode": 420,
                ],
            ],
        ],
    ]

    private static let metadata: JSON = [
        "name": "x", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": ["a": "b"], "annotations": ["c": "d"], "finalizers": ["f/f"],
        "ownerReferences": [
            ["apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "ru", "controller": true, "blockOwnerDeletion": true]
        ],
    ]

    /// Every member of one value that the other does not have with the same value, as paths.
    private func lost(_ before: JSON, _ after: JSON?, _ path: String = "") -> [String] {
        switch before {
        case .object(let object):
            return object.flatMap { lost($0.value, after?[$0.key], "\(path).\($0.key)") } + (object.isEmpty && after == nil ? [path] : [])
        case .array(let elements):
            guard after?.array?.count == elements.count else { return [path] }
            return elements.indices.flatMap { lost(elements[$0], after?[$0], "\(path)[\($0)]") }
        default: return before == after ? [] : [path]
        }
    }

    @Test("a Pod keeps every field it had")
    func pod() {
        let json: JSON = [
            "kind": "Pod", "apiVersion": "v1", "metadata": Self.metadata, "spec": Self.podSpec,
            "status": [
                "phase": "Running", "podIP": "10.1.0.1", "podIPs": [["ip": "10.1.0.1"]], "hostIP": "1.1.1.1",
                "startTime": "2026-01-01T00:00:00Z",
                "qosClass": "Burstable", "conditions": [["type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"]],
                "containerStatuses": [
                    [
                        "name": "c", "ready": true, "restartCount": 3, "image": "i", "imageID": "d", "containerID": "containerd://1",
                        "started": true,
                        "state": ["running": ["startedAt": "2026-01-01T00:00:00Z"]],
                        "lastState": ["terminated": ["exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:00Z"]],
                    ]
                ],
            ],
        ]
        let pod = Pod(json: json)
        #expect(lost(json, pod.json) == [])
        #expect(Pod(json: pod.json).json == pod.json)
        #expect(pod.key == "n/x" && pod.metadata.controller?.name == "r" && pod.spec.containers.first?.ports.first?.containerPort == 80)
    }

    @Test("a Deployment keeps every field it had")
    func deployment() {
        let json: JSON = [
            "kind": "Deployment", "apiVersion": "apps/v1", "metadata": Self.metadata,
            "spec": [
                "replicas": 0, "paused": true, "minReadySeconds": 5, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 600,
                "selector": ["matchLabels": ["a": "b"], "matchExpressions": [["key": "k", "operator": "NotIn", "values": ["v"]]]],
                "strategy": ["type": "RollingUpdate", "rollingUpdate": ["maxSurge": "25%", "maxUnavailable": 1]],
                "template": ["metadata": ["labels": ["a": "b"]], "spec": Self.podSpec],
            ],
            "status": [
                "observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 1, "availableReplicas": 1,
                "unavailableReplicas": 2,
            ],
        ]
        let deployment = Deployment(json: json)
        #expect(lost(json, deployment.json) == [])
        #expect(Deployment(json: deployment.json).json == deployment.json)
        #expect(deployment.spec.replicas == 0)
    }

    @Test("reading never fails: what has another type reads as nothing")
    func lenient() {
        #expect(Pod(json: [1, 2]).metadata.name.isEmpty)
        let pod = Pod(json: ["metadata": ["name": 1, "labels": "x"], "spec": ["containers": "none", "priority": "high"]])
        #expect(pod.metadata.name.isEmpty && pod.metadata.labels.isEmpty && pod.spec.containers.isEmpty && pod.spec.priority == nil)
    }

    @Test("a copy that is changed leaves the other as it was")
    func indirect() {
        let one = Pod(json: ["metadata": ["name": "x"], "spec": ["nodeName": "a"]])
        var two = one
        two.spec.nodeName = "b"
        two.status.phase = "Running"
        #expect(one.spec.nodeName == "a" && two.spec.nodeName == "b" && one.status.phase.isEmpty)
        var values = [Indirect(wrappedValue: [1])]
        values.append(values[0])
        values[0].wrappedValue.append(2)
        #expect(values[0].wrappedValue == [1, 2] && values[1].wrappedValue == [1])
    }

    @Test("an object names itself as the owner of another")
    func ownerReference() {
        let reference = ReplicaSet(json: ["metadata": ["name": "r", "uid": "u"]]).controllerReference
        #expect(reference.apiVersion == "apps/v1" && reference.kind == "ReplicaSet" && reference.uid == "u" && reference.controller == true)
    }
}
