"""kubectl, every version on this machine, unchanged, against simulated nodes."""
import json, subprocess, time
from harness import check, contains, equal, eventually, kubectls, run, shared, test

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: nginx, image: "nginx:1.14.2", ports: [{containerPort: 80, name: http}]}]
"""


def round_trip(cluster, version, path):
    """What a user does in an afternoon, with one kubectl."""
    namespace = "k-" + version.replace(".", "-").lstrip("v")
    k = lambda *a, **more: cluster.kubectl("-n", namespace, *a, path=path, **more)
    cluster.kubectl("create", "namespace", namespace, path=path)
    k("apply", "-f", "-", stdin=DEPLOYMENT)
    contains(k("rollout", "status", "deployment/web", "--timeout=60s", timeout=70), "successfully rolled out")
    k("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
    contains(k("get", "deploy"), "3/3")
    contains(k("get", "pods", "-o", "wide"), "simulated-")
    equal(len(k("get", "pods", "-l", "app=web", "-o", "name").split()), 3, "pods by label")
    equal(k("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"), "3", "jsonpath")
    contains(k("get", "pods", "-o", "yaml"), "kind: List")
    contains(k("get", "pods", "-A", "--field-selector=metadata.namespace=" + namespace), "web-")
    contains(k("describe", "deployment", "web"), "NewReplicaSetAvailable")
    contains(k("describe", "pods"), "Scheduled")
    k("scale", "deployment/web", "--replicas=5")
    k("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    k("set", "image", "deployment/web", "nginx=nginx:1.16.1")
    k("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    contains(k("rollout", "history", "deployment/web"), "2")
    k("rollout", "undo", "deployment/web")
    k("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    equal(k("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}"), "nginx:1.14.2", "image after undo")
    k("expose", "deployment", "web", "--port=80", "--target-port=http")
    contains(k("get", "service", "web"), "10.96.")
    eventually(lambda: len(json.loads(k("get", "endpointslices", "-o", "json"))["items"][0]["endpoints"]) == 5, what="five endpoints")
    k("label", "deployment", "web", "tier=front")
    k("annotate", "deployment", "web", "note=here")
    k("patch", "deployment", "web", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"nginx","env":[{"name":"A","value":"1"}]}]}}}}')
    equal(k("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[*].image}"), "nginx:1.14.2", "strategic merge keeps the image")
    k("patch", "deployment", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/replicas","value":2}]')
    k("patch", "deployment", "web", "--type=merge", "-p", '{"metadata":{"annotations":{"note":null}}}')
    k("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=DEPLOYMENT)
    contains(k("get", "deploy", "web", "-o", "yaml", "--show-managed-fields"), "operation: Apply")
    k("run", "single", "--image=nginx:1.14.2", "--restart=Never")
    k("wait", "--for=condition=Ready", "pod/single", "--timeout=30s")
    k("delete", "pod", "single", "--wait=true", timeout=60)
    k("create", "configmap", "cm", "--from-literal=a=b")
    k("create", "secret", "generic", "s", "--from-literal=p=q")
    equal(k("get", "secret", "s", "-o", "jsonpath={.data.p}"), "cQ==", "secret")
    k("create", "job", "j", "--image=busybox", "--", "true")
    k("create", "cronjob", "cj", "--image=busybox", "--schedule=*/5 * * * *", "--", "true")
    k("create", "serviceaccount", "robot")
    check(k("create", "token", "robot").count(".") == 2, "a token is a JWT")
    contains(k("explain", "pod.spec.containers"), "image")
    contains(k("explain", "deployment.spec.strategy"), "rollingUpdate")
    contains(k("api-resources"), "statefulsets")
    contains(k("api-versions"), "apps/v1")
    equal(k("auth", "can-i", "create", "pods").strip(), "yes", "can-i")
    contains(k("cluster-info"), "is running at")
    contains(k("events"), "ScalingReplicaSet")
    contains(k("get", "all"), "replicaset.apps/web")
    run(["sh", "-c", "KUBE_EDITOR='sed -i s/here/there/' '%s' --kubeconfig '%s' -n %s annotate deployment web note=here && KUBE_EDITOR='sed -i s/here/there/' '%s' --kubeconfig '%s' -n %s edit deployment web" % (
        path, cluster.data + "/kubeconfig", namespace, path, cluster.data + "/kubeconfig", namespace)])
    equal(k("get", "deploy", "web", "-o", "jsonpath={.metadata.annotations.note}"), "there", "edit")
    k("delete", "deployment", "web")
    eventually(lambda: k("get", "pods", "-l", "app=web", "-o", "name") == "", what="pods go with their deployment (garbage collection)")
    cluster.kubectl("delete", "namespace", namespace, "--wait=true", path=path, timeout=60)


def register(version, path):
    @test("kubectl %s works unchanged: apply, rollout, scale, patch, edit, explain, wait, delete" % version, "simulated")
    def one():
        round_trip(shared(simulated=3), version, path)


for _version, _path in kubectls().items():
    register(_version, _path)


@test("watch: kubectl get -w shows changes as they come", "simulated")
def watch():
    cluster = shared(simulated=3)
    process = subprocess.Popen([cluster.kubectl_path, "--kubeconfig", cluster.data + "/kubeconfig", "get", "configmaps", "-w", "--no-headers"],
                               stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        cluster.kubectl("create", "configmap", "seen", "--from-literal=a=b")
        cluster.kubectl("delete", "configmap", "seen")
        lines = []
        end = time.time() + 10
        while time.time() < end and sum("seen" in line for line in lines) < 2:
            lines.append(process.stdout.readline())
        check(sum("seen" in line for line in lines) >= 2, "lines: %s" % lines)
    finally:
        process.kill()


@test("nodes: cordon, taint, drain move pods away and respect a PodDisruptionBudget", "simulated")
def drain():
    cluster = shared(simulated=3)
    k = cluster.kubectl
    k("create", "deployment", "mover", "--image=nginx:1.14.2", "--replicas=6")
    k("rollout", "status", "deployment/mover", "--timeout=60s", timeout=70)
    on = lambda node: len(cluster.get("pods", "-l", "app=mover", "--field-selector=spec.nodeName=" + node)["items"])
    check(on("simulated-0") > 0 and on("simulated-1") > 0 and on("simulated-2") > 0, "replicas are spread over the nodes")
    k("create", "poddisruptionbudget", "mover", "--selector=app=mover", "--min-available=4")
    eventually(lambda: cluster.get("pdb", "mover")["status"].get("disruptionsAllowed") == 2, what="two disruptions allowed")
    k("drain", "simulated-0", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s", timeout=70)
    equal(on("simulated-0"), 0, "pods on the drained node")
    contains(k("get", "node", "simulated-0"), "SchedulingDisabled")
    k("uncordon", "simulated-0")
    k("taint", "nodes", "simulated-0", "key=value:NoSchedule")
    k("taint", "nodes", "simulated-0", "key-")
    k("delete", "deployment,pdb", "mover")


@test("StatefulSet pods start in order and keep their names; their claims are bound", "simulated")
def statefulset():
    cluster = shared(simulated=3)
    cluster.apply(STATEFULSET)
    cluster.kubectl("rollout", "status", "statefulset/db", "--timeout=60s", timeout=70)
    pods = sorted(cluster.get("pods", "-l", "app=db")["items"], key=lambda p: p["metadata"]["name"])
    equal([p["metadata"]["name"] for p in pods], ["db-0", "db-1", "db-2"], "names")
    times = [p["metadata"]["creationTimestamp"] for p in pods]
    equal(times, sorted(times), "order")
    claims = cluster.get("pvc")["items"]
    equal(sorted(c["metadata"]["name"] for c in claims if c["status"]["phase"] == "Bound"), ["data-db-0", "data-db-1", "data-db-2"], "claims")
    uid = pods[1]["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "db-1")
    eventually(lambda: cluster.get("pod", "db-1")["metadata"]["uid"] != uid, what="db-1 comes again")
    cluster.kubectl("delete", "statefulset", "db")
    cluster.kubectl("delete", "pvc", "--all", timeout=60)


STATEFULSET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: c, image: x, volumeMounts: [{name: data, mountPath: /data}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
