"""Real containers on two nodes: the four manifests, and what a user does with them."""
import glob, json, os, re, signal, socket, subprocess, tempfile, threading, time, urllib.request
import harness
from harness import Cluster, check, contains, equal, eventually, kubectls, run, shared, test

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MANIFESTS = os.path.join(ROOT, "..", "shared", "manifests")
IMAGES = "/tmp/martlet-test-images"


def cluster():
    """Two real nodes with the test images. Made once."""
    c = shared(nodes=2)
    if not getattr(c, "images", False):
        run([ROOT + "/Tools/make-test-images.sh", IMAGES], timeout=120)
        run([harness.MARTLET, "image", "import", "--data-dir", c.data] + sorted(glob.glob(IMAGES + "/*.tar")), timeout=120)
        c.images = True
    return c


def pod_ip(c, name):
    return eventually(lambda: c.get("pod", name)["status"].get("podIP"), what="IP of " + name)


def inside(c, pod, *command, container=None, ok=True):
    return c.kubectl("exec", pod, *(["-c", container] if container else []), "--", *command, ok=ok)


def clear(c, *names):
    """Removes what an earlier try may have left."""
    c.kubectl("delete", *names, "--ignore-not-found", "--grace-period=1", ok=None)


def ready(c, *what, timeout=60):
    c.kubectl("wait", "--for=condition=Ready", *what, "--timeout=%ds" % timeout, timeout=timeout + 10)


@test("the four manifests run unchanged: every pod Running and Ready, on both nodes", "real")
def manifests():
    c = cluster()
    check(os.path.isdir(MANIFESTS), "there is no folder %s" % MANIFESTS)
    started = time.time()
    for path in sorted(glob.glob(MANIFESTS + "/*.yaml")):
        c.kubectl("apply", "-f", path)

    def all_ready():
        pods = c.get("pods")["items"]
        good = [p for p in pods if any(x["type"] == "Ready" and x["status"] == "True" for x in p["status"].get("conditions", []))]
        return len(pods) == len(good) == 8 and pods
    pods = eventually(all_ready, 60, what="eight pods Ready")
    print("        all Ready after %.1f s" % (time.time() - started))
    equal({p["status"]["phase"] for p in pods}, {"Running"}, "phases")
    equal({p["spec"]["nodeName"] for p in pods}, {"node-1", "node-2"}, "nodes")
    equal(sorted(p["metadata"]["name"] for p in pods if p["metadata"]["name"].startswith("web-")), ["web-0", "web-1", "web-2"], "StatefulSet")


@test("resource limits are visible in the container's cgroup", "real")
def limits():
    c = cluster()
    pod = c.get("pod", "resource-limited-pod")
    equal(pod["status"]["qosClass"], "Burstable", "QoS")
    container = pod["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    version2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    found = {}
    for name in (["memory.max", "cpu.max"] if version2 else ["memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.shares"]):
        for path in subprocess.run(["find", "/sys/fs/cgroup", "-path", "*%s*" % container, "-name", name], capture_output=True, text=True).stdout.split():
            found[name] = open(path).read().strip()
    if version2:
        equal(found, {"memory.max": str(256 << 20), "cpu.max": "20000 100000"}, "cgroup")
    else:
        equal(found, {"memory.limit_in_bytes": str(256 << 20), "cpu.cfs_quota_us": "20000", "cpu.shares": "102"}, "cgroup")


@test("a process over its memory limit is OOM-killed, reported, and restarted with back-off", "real")
def oom():
    c = cluster()
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  containers:
  - {name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sh, -c, "x=a; while true; do x=$x$x; done"], resources: {limits: {memory: 32Mi}}}
""")
    state = lambda: c.get("pod", "hungry")["status"]["containerStatuses"][0]
    eventually(lambda: (state().get("lastState", {}).get("terminated") or state()["state"].get("terminated", {})).get("reason") == "OOMKilled", 60, what="OOMKilled")
    eventually(lambda: state()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff", 60, what="CrashLoopBackOff")
    check(state()["restartCount"] >= 1 and state()["lastState"]["terminated"]["exitCode"] == 137, "restart count and exit code: %s" % state())
    contains(c.kubectl("get", "pod", "hungry"), "CrashLoopBackOff")
    c.kubectl("delete", "pod", "hungry", "--grace-period=1")


@test("StatefulSet: names resolve, data survives the deletion of a pod", "real")
def statefulset():
    c = cluster()
    c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: nginx}\nspec: {clusterIP: None, selector: {app: nginx}, ports: [{port: 80, name: web}]}")
    inside(c, "web-1", "sh", "-c", "echo kept > /usr/share/nginx/html/kept.txt")
    for name in ("web-0", "web-1", "web-2"):
        # Their volumes are empty, and the manifests' labels put them behind the same Services as the Deployment's pods.
        inside(c, name, "sh", "-c", "echo 1.14.2 on %s > /usr/share/nginx/html/index.html" % name)
    uid = c.get("pod", "web-1")["metadata"]["uid"]
    c.kubectl("delete", "pod", "web-1")
    eventually(lambda: c.get("pod", "web-1")["metadata"]["uid"] != uid, what="a new web-1")
    ready(c, "pod/web-1")
    equal(inside(c, "web-1", "cat", "/usr/share/nginx/html/kept.txt").strip(), "kept", "the data")
    clear(c, "pod/dns")
    c.kubectl("run", "dns", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "--", "sleep", "1000")
    ready(c, "pod/dns")
    address = pod_ip(c, "web-0")
    eventually(lambda: address in inside(c, "dns", "nslookup", "web-0.nginx.default.svc.cluster.local"), 10, what="web-0.nginx resolves")
    eventually(lambda: "kept" in inside(c, "dns", "wget", "-qO-", "http://web-1.nginx/kept.txt"), 10, what="web-1.nginx answers by its short name")
    contains(inside(c, "dns", "nslookup", "kubernetes.default.svc.cluster.local"), "10.96.0.1")


@test("security context: uid, read-only root, no capability, group of an emptyDir", "real")
def security():
    c = cluster()
    equal(inside(c, "security-context-pod", "id", "-u").strip(), "1000", "uid")
    status, _, err = inside(c, "security-context-pod", "sh", "-c", "echo x > /file", ok=None)
    check(status != 0, "the root is writable")
    contains(err, "Read-only file system")
    text = inside(c, "security-context-pod", "cat", "/proc/self/status")
    for name in ("CapEff", "CapPrm", "CapBnd"):
        equal(re.search(name + r":\s*(\w+)", text).group(1), "0" * 16, name)
    equal(re.search(r"NoNewPrivs:\s*(\d)", text).group(1), "1", "no new privileges")
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: group}
spec:
  securityContext: {runAsUser: 1000, fsGroup: 2000}
  containers: [{name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /v}]}]
  volumes: [{name: v, emptyDir: {}}]
""")
    ready(c, "pod/group")
    equal(inside(c, "group", "stat", "-c", "%g", "/v").strip(), "2000", "group of the emptyDir")
    contains(inside(c, "group", "id", "-G"), "2000")
    c.kubectl("delete", "pod", "group", "--grace-period=1")
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: rootless}
spec: {securityContext: {runAsNonRoot: true}, containers: [{name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [id]}]}
""")
    eventually(lambda: "runAsNonRoot and image will run as root" in c.get("pod", "rootless")["status"]["containerStatuses"][0]["state"]["waiting"]["message"], 20, what="refusal")
    c.kubectl("delete", "pod", "rootless", "--grace-period=1")


@test("every pod reaches every pod without NAT", "real")
def network():
    c = cluster()
    pods = [p for p in c.get("pods", "-l", "app=nginx")["items"]]
    addresses = {p["metadata"]["name"]: p["status"]["podIP"] for p in pods}
    for name in addresses:
        for other, address in addresses.items():
            contains(inside(c, name, "busybox", "wget", "-qO-", "http://" + address), "1.1", "%s -> %s" % (name, other))
    # The server sees the client's own address.
    contains(inside(c, "dns", "wget", "-qO-", "http://" + list(addresses.values())[0]), "1.14.2")
    client = pod_ip(c, "dns")
    server = [p["metadata"]["name"] for p in pods][0]
    eventually(lambda: client in c.kubectl("logs", server), 10, what="the client's own address in the server's log")


@test("no request through a Service fails while its Deployment rolls", "real")
def rolling():
    c = cluster()
    clear(c, "service/rolling")
    c.kubectl("expose", "deployment", "nginx-deployment", "--port=80", "--name=rolling")
    address = c.get("service", "rolling")["spec"]["clusterIP"]
    eventually(lambda: "1.14.2" in inside(c, "dns", "wget", "-qO-", "http://rolling"), 20, what="the Service answers")
    load = subprocess.Popen([c.kubectl_path, "--kubeconfig", c.data + "/kubeconfig", "exec", "dns", "--", "sh", "-c",
                             "i=0; bad=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); wget -qO- http://%s >/dev/null || bad=$((bad+1)); done; rm /tmp/stop; echo requests $i failed $bad" % address],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    c.kubectl("set", "image", "deployment/nginx-deployment", "nginx=nginx:1.16.1")
    contains(c.kubectl("rollout", "status", "deployment/nginx-deployment", "--timeout=90s", timeout=100), "successfully rolled out")
    contains(c.kubectl("rollout", "history", "deployment/nginx-deployment"), "2")
    c.kubectl("rollout", "undo", "deployment/nginx-deployment")
    c.kubectl("rollout", "status", "deployment/nginx-deployment", "--timeout=90s", timeout=100)
    inside(c, "dns", "touch", "/tmp/stop")
    out, err = load.communicate(timeout=30)
    numbers = re.search(r"requests (\d+) failed (\d+)", out)
    check(numbers, "the load said %r %r" % (out, err[-500:]))
    print("        " + numbers.group(0))
    check(int(numbers.group(1)) > 100, "requests: " + out)
    equal(numbers.group(2), "0", "failed requests")
    c.kubectl("scale", "deployment/nginx-deployment", "--replicas=5")
    c.kubectl("rollout", "status", "deployment/nginx-deployment", "--timeout=60s", timeout=70)
    c.kubectl("scale", "deployment/nginx-deployment", "--replicas=3")


@test("NodePort and session affinity", "real")
def services():
    c = cluster()
    clear(c, "service/outside")
    c.kubectl("expose", "deployment", "nginx-deployment", "--port=80", "--name=outside", "--type=NodePort", "--session-affinity=ClientIP")
    port = c.get("service", "outside")["spec"]["ports"][0]["nodePort"]
    for node in c.get("nodes")["items"]:
        address = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"][0]
        eventually(lambda: "1.14.2" in urllib.request.urlopen("http://%s:%d" % (address, port), timeout=3).read().decode(), 15, what="NodePort on " + address)
    c.kubectl("delete", "service", "outside")


@test("logs: follow, tail, since, previous", "real")
def logs():
    c = cluster()
    clear(c, "pod/talker")
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers: [{name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sh, -c, "for i in 1 2 3 4 5; do echo line $i; done; trap 'exit 0' TERM; while [ ! -e /tmp/die ]; do sleep 0.1; done; echo bye; exit 3"]}]
""")
    ready(c, "pod/talker")
    eventually(lambda: c.kubectl("logs", "talker").splitlines() == ["line %d" % i for i in range(1, 6)], 10, what="five lines")
    equal(c.kubectl("logs", "talker", "--tail=2").splitlines(), ["line 4", "line 5"], "tail")
    equal(len(c.kubectl("logs", "talker", "--since=1h").splitlines()), 5, "since")
    check(c.kubectl("logs", "talker", "--timestamps").startswith("20"), "timestamps")
    follow = subprocess.Popen([c.kubectl_path, "--kubeconfig", c.data + "/kubeconfig", "logs", "-f", "talker"], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    inside(c, "talker", "touch", "/tmp/die")
    out, _ = follow.communicate(timeout=20)
    contains(out, "bye")
    eventually(lambda: c.get("pod", "talker")["status"]["containerStatuses"][0]["restartCount"] >= 1, 30, what="a restart")
    contains(eventually(lambda: c.kubectl("logs", "talker", "--previous"), 10), "bye")
    c.kubectl("delete", "pod", "talker", "--grace-period=1")


def stream_tests(version, path):
    @test("kubectl %s: exec, exec with input, exec -it, cp, attach and port-forward" % version, "real")
    def one():
        c = cluster()
        k = lambda *a, **more: c.kubectl(*a, path=path, **more)
        equal(k("exec", "dns", "--", "echo", "hello").strip(), "hello", "exec")
        equal(k("exec", "-i", "dns", "--", "cat", stdin="through the pipe\n"), "through the pipe\n", "exec -i")
        status, _, _ = k("exec", "dns", "--", "sh", "-c", "exit 7", ok=None)
        equal(status, 7, "exit code")
        out = run(["script", "-qec", "'%s' --kubeconfig '%s' exec -it dns -- sh -c 'tty; echo done'" % (path, c.data + "/kubeconfig"), "/dev/null"], timeout=30)
        contains(out, "/dev/pts/")
        contains(out, "done")
        folder = tempfile.mkdtemp()
        open(folder + "/there", "w").write("x" * 300000)
        k("cp", folder + "/there", "dns:/tmp/there")
        k("cp", "dns:/tmp/there", folder + "/back")
        equal(open(folder + "/back").read(), "x" * 300000, "cp")
        name = "attached-" + version.replace(".", "-")
        clear(c, "pod/" + name)
        out = k("run", name, "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "--restart=Never", "-i", "--quiet", "--",
                "sh", "-c", "read word; echo got $word; sleep 1", stdin="something\n", timeout=60)
        contains(out, "got something", "attach with input")
        k("delete", "pod", name, "--grace-period=1")
        local = harness.free_port()
        forward = subprocess.Popen([path, "--kubeconfig", c.data + "/kubeconfig", "port-forward", "pod/web-0", "%d:80" % local],
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            forward.stdout.readline()
            eventually(lambda: "1.14.2" in urllib.request.urlopen("http://127.0.0.1:%d" % local, timeout=3).read().decode(), 15, what="port-forward")
        finally:
            forward.kill()


for _version, _path in kubectls().items():
    stream_tests(_version, _path)


@test("init containers, sidecars, probes, hooks, environment and volumes", "real")
def everything():
    c = cluster()
    clear(c, "pod/full", "configmap/settings", "secret/password")
    c.kubectl("create", "configmap", "settings", "--from-literal=color=blue")
    c.kubectl("create", "secret", "generic", "password", "--from-literal=word=hush")
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: full, labels: {app: full}, annotations: {note: here}}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - {name: first, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sh, -c, "echo first >> /work/order"], volumeMounts: [{name: work, mountPath: /work}]}
  - {name: side, image: "busybox:1.36", imagePullPolicy: IfNotPresent, restartPolicy: Always, command: [sh, -c, "echo side >> /work/order; trap 'exit 0' TERM; while true; do sleep 0.1; done"], volumeMounts: [{name: work, mountPath: /work}]}
  containers:
  - name: main
    image: nginx:1.14.2
    env:
    - {name: PLAIN, value: "a$(NAME)"}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: BOTH, value: "$(NAME)-$(COLOR)"}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    envFrom: [{configMapRef: {name: settings}, prefix: SET_}]
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    startupProbe: {httpGet: {port: 80}, periodSeconds: 1, failureThreshold: 20}
    readinessProbe: {exec: {command: [test, -e, /work/ready]}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 2}
    lifecycle: {postStart: {exec: {command: [sh, -c, "echo post >> /work/order"]}}, preStop: {exec: {command: [sh, -c, "echo pre > /host/pre"]}}}
    volumeMounts: [{name: work, mountPath: /work}, {name: config, mountPath: /config}, {name: secret, mountPath: /secret}, {name: down, mountPath: /down}, {name: all, mountPath: /all}, {name: host, mountPath: /host}]
  volumes:
  - {name: work, emptyDir: {}}
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: password, defaultMode: 0400}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  - {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: password}}, {serviceAccountToken: {path: token}}]}}
  - {name: host, hostPath: {path: /tmp/martlet-test-host, type: DirectoryOrCreate}}
""")
    eventually(lambda: c.get("pod", "full")["status"]["phase"] == "Running", 30, what="Running")
    time.sleep(2)
    check(not any(x["type"] == "Ready" and x["status"] == "True" for x in c.get("pod", "full")["status"]["conditions"]), "Ready before the readiness probe passed")
    inside(c, "full", "touch", "/work/ready", container="main")
    ready(c, "pod/full", timeout=20)
    equal(inside(c, "full", "cat", "/work/order", container="main").split(), ["first", "side", "post"], "order")
    env = dict(line.split("=", 1) for line in inside(c, "full", "env", container="main").splitlines() if "=" in line)
    equal({k: env.get(k) for k in ("PLAIN", "NAME", "COLOR", "WORD", "CPU", "SET_color", "KUBERNETES_SERVICE_HOST")},
          {"PLAIN": "a$(NAME)", "NAME": "full", "COLOR": "blue", "WORD": "hush", "CPU": "1", "SET_color": "blue", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "environment")
    equal(inside(c, "full", "cat", "/config/color", "/secret/word", "/all/color", "/all/word", container="main"), "bluehushbluehush", "volumes")
    contains(inside(c, "full", "cat", "/down/labels", container="main"), 'app="full"')
    check(inside(c, "full", "cat", "/all/token", container="main").count(".") == 2, "a token")
    c.kubectl("patch", "configmap", "settings", "-p", '{"data":{"color":"green"}}')
    eventually(lambda: inside(c, "full", "cat", "/config/color", container="main") == "green", 90, every=1, what="the changed ConfigMap is seen in the volume")
    c.kubectl("delete", "pod", "full", timeout=30)
    check(os.path.exists("/tmp/martlet-test-host/pre"), "the preStop hook ran")
    run(["rm", "-rf", "/tmp/martlet-test-host"])


@test("a failing liveness probe restarts the container; debug adds an ephemeral container", "real")
def liveness():
    c = cluster()
    c.apply("""
apiVersion: v1
kind: Pod
metadata: {name: ailing}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "1000"], livenessProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 1}}]
""")
    eventually(lambda: c.get("pod", "ailing")["status"]["containerStatuses"][0]["restartCount"] >= 1, 40, what="a restart")
    contains(c.kubectl("get", "events", "--field-selector=involvedObject.name=ailing"), "Unhealthy")
    c.kubectl("delete", "pod", "ailing", "--grace-period=1")
    c.kubectl("debug", "dns", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "-c", "probe-%d" % time.time(), "--", "sleep", "100")
    eventually(lambda: c.get("pod", "dns")["status"]["ephemeralContainerStatuses"][-1]["state"].get("running"), 20, what="the ephemeral container runs")


@test("jobs run to completion; a DaemonSet runs on every node", "real")
def jobs():
    c = cluster()
    clear(c, "job/once", "daemonset/everywhere")
    c.kubectl("create", "job", "once", "--image=busybox:1.36", "--", "sh", "-c", "echo worked")
    c.kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=60s", timeout=70)
    contains(c.kubectl("logs", "job/once"), "worked")
    c.apply("""
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template: {metadata: {labels: {app: everywhere}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "busybox:1.36", imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}]}}
""")
    c.kubectl("rollout", "status", "daemonset/everywhere", "--timeout=60s", timeout=70)
    equal(sorted(p["spec"]["nodeName"] for p in c.get("pods", "-l", "app=everywhere")["items"]), ["node-1", "node-2"], "nodes")
    c.kubectl("delete", "daemonset/everywhere", "job/once")


@test("SIGKILL of martlet, then up: containers were not restarted, and go on being managed", "real")
def adopt():
    c = cluster()
    key = lambda: {p["metadata"]["name"]: (p["status"]["containerStatuses"][0]["containerID"], p["status"]["containerStatuses"][0]["restartCount"]) for p in c.get("pods", "-l", "app=nginx")["items"]}
    before = key()
    for _ in range(3):
        c.kill()
        time.sleep(0.2)
        c.up()
    equal(key(), before, "containers")
    # The agents too: the supervisor starts them again.
    for path in glob.glob(c.data + "/nodes/*/agent.pid"):
        os.kill(int(open(path).read().split()[0]), signal.SIGKILL)
    time.sleep(2)
    eventually(lambda: all(x["status"] == "True" for n in c.get("nodes")["items"] for x in n["status"]["conditions"] if x["type"] == "Ready"), 20, what="nodes Ready")
    equal(key(), before, "containers after the agents were killed")
    c.kubectl("scale", "deployment/nginx-deployment", "--replicas=4")
    c.kubectl("rollout", "status", "deployment/nginx-deployment", "--timeout=60s", timeout=70)
    c.kubectl("scale", "deployment/nginx-deployment", "--replicas=3")


@test("down leaves nothing behind: no process, mount, namespace, link, nft table or cgroup", "real")
def down():
    def state():
        cgroups = sorted(set(os.path.basename(p) for p in glob.glob("/sys/fs/cgroup/*/martlet-*") + glob.glob("/sys/fs/cgroup/martlet-*")))
        return {"netns": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [], "links": sorted(os.listdir("/sys/class/net")),
                "tables": sorted(run(["nft", "list", "tables"]).splitlines()), "cgroups": cgroups,
                "mounts": sorted(line.split()[1] for line in open("/proc/mounts") if "martlet" in line)}
    before = state()
    c = Cluster(nodes=2)
    c.up()
    run([harness.MARTLET, "image", "import", "--data-dir", c.data, IMAGES + "/nginx-1.14.2.tar"])
    c.kubectl("create", "deployment", "x", "--image=nginx:1.14.2", "--replicas=2")
    c.kubectl("rollout", "status", "deployment/x", "--timeout=60s", timeout=70)
    folder = c.data
    c.down()
    equal(state(), before, "what is on the machine")
    left = [p for p in os.listdir("/proc") if p.isdigit() and folder in _cmdline(p) and not harness.gone(int(p))]
    equal(left, [], "processes")


def _cmdline(pid):
    try:
        return open("/proc/%s/cmdline" % pid).read()
    except OSError:
        return ""
