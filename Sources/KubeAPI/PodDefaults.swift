import JSON
import KubeMeta

/// The defaults of a pod's spec, wherever one stands.
enum PodDefaults {
    static func template(_ template: inout JSON) { template.change("spec", spec) }

    static func spec(_ spec: inout JSON) {
        spec.fill("dnsPolicy", "ClusterFirst")
        spec.fill("restartPolicy", "Always")
        spec.fill("terminationGracePeriodSeconds", 30)
        spec.fill("schedulerName", "default-scheduler")
        spec.fill("securityContext", [:])
        let hostNetwork = spec["hostNetwork"]?.bool == true
        for list in ["initContainers", "containers"] {
            spec.changeEach(list) { container in
                Self.container(&container)
                if hostNetwork {
                    container.changeEach("ports") { port in
                        if let number = port["containerPort"] { port.fill("hostPort", number) }
                    }
                }
            }
        }
        spec.changeEach("ephemeralContainers", container)
        spec.changeEach("volumes", volume)
    }

    /// A resource with a limit and no request asks for the limit.
    static func requestsFromLimits(_ spec: inout JSON) {
        for list in ["initContainers", "containers"] {
            spec.changeEach(list) { container in
                guard let limits = container["resources"]?["limits"]?.object else { return }
                container.change("resources") { resources in
                    resources.fill("requests", [:])
                    resources.change("requests") { requests in for (name, value) in limits { requests.fill(name, value) } }
                }
            }
        }
    }

    private static func container(_ container: inout JSON) {
        container.fill("terminationMessagePath", "/dev/termination-log")
        container.fill("terminationMessagePolicy", "File")
        container.fill("imagePullPolicy", pullPolicy(container["image"]?.string ?? ""))
        container.fill("resources", [:])
        container.changeEach("ports") { $0.fill("protocol", "TCP") }
        container.changeEach("env") { variable in
            variable.change("valueFrom") { $0.change("fieldRef") { $0.fill("apiVersion", "v1") } }
        }
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] { container.change(name, probe) }
        container.change("lifecycle") { lifecycle in
            for name in ["postStart", "preStop"] { lifecycle.change(name) { $0.change("httpGet", httpGet) } }
        }
    }

    /// `Always` for the tag `latest` or none, else `IfNotPresent`.
    private static func pullPolicy(_ image: String) -> JSON {
        if image.contains("@") { return "IfNotPresent" }
        let name = image.split(separator: "/").last ?? ""
        guard let colon = name.lastIndex(of: ":") else { return "Always" }
        return name[name.index(after: colon)...] == "latest" ? "Always" : "IfNotPresent"
    }

    private static func probe(_ probe: inout JSON) {
        probe.fill("timeoutSeconds", 1)
        probe.fill("periodSeconds", 10)
        probe.fill("successThreshold", 1)
        probe.fill("failureThreshold", 3)
        probe.change("httpGet", httpGet)
        probe.change("grpc") { $0.fill("service", "") }
    }

    private static func httpGet(_ action: inout JSON) {
        action.fill("path", "/")
        action.fill("scheme", "HTTP")
    }

    private static func volume(_ volume: inout JSON) {
        volume.change("secret") { $0.fill("defaultMode", 420) }
        volume.change("configMap") { $0.fill("defaultMode", 420) }
        volume.change("downwardAPI") { source in
            source.fill("defaultMode", 420)
            source.changeEach("items", downwardItem)
        }
        volume.change("projected") { projected in
            projected.fill("defaultMode", 420)
            projected.changeEach("sources") { source in
                source.change("serviceAccountToken") { $0.fill("expirationSeconds", 3600) }
                source.change("downwardAPI") { $0.changeEach("items", downwardItem) }
            }
        }
        volume.change("hostPath") { $0.fill("type", "") }
        volume.change("iscsi") { $0.fill("iscsiInterface", "default") }
        volume.change("rbd") { source in
            source.fill("pool", "rbd")
            source.fill("user", "admin")
            source.fill("keyring", "/etc/ceph/keyring")
        }
        volume.change("azureDisk") { source in
            source.fill("cachingMode", "ReadWrite")
            source.fill("kind", "Shared")
            source.fill("fsType", "ext4")
            source.fill("readOnly", false)
        }
        volume.change("scaleIO") { source in
            source.fill("storageMode", "ThinProvisioned")
            source.fill("fsType", "xfs")
        }
        volume.change("ephemeral") { source in
            source.change("volumeClaimTemplate") { $0.change("spec") { $0.fill("volumeMode", "Filesystem") } }
        }
        if volume.object?.count == 1 { volume["emptyDir"] = [:] }
    }

    private static func downwardItem(_ item: inout JSON) { item.change("fieldRef") { $0.fill("apiVersion", "v1") } }
}
