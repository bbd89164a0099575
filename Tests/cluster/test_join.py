"""A machine joins a server with nothing but its token. The machine is a network namespace."""
import glob, json, os, shutil, signal, subprocess, tempfile, time
import harness
from harness import check, contains, equal, eventually, free_port, gone, kubectls, run, test
from test_real import IMAGES, ROOT

NAMESPACE, OUTSIDE, INSIDE = "martlet-join-test", "mjoin0", "mjoin1"
SERVER, MACHINE = "172.29.251.1", "172.29.251.2"


def state():
    """What a node leaves on a machine."""
    cgroups = sorted(set(os.path.basename(p) for p in glob.glob("/sys/fs/cgroup/*/martlet-agent-*") + glob.glob("/sys/fs/cgroup/martlet-agent-*")))
    return {"netns": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [], "cgroups": cgroups,
            "runs": sorted(glob.glob("/run/martlet/agent-*")),
            "mounts": sorted(line.split()[1] for line in open("/proc/mounts") if "martlet-join" in line or "/run/martlet/agent-" in line)}


class Join:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="martlet-join-")
        self.port = free_port()
        self.processes = []
        self.kubectl_path = list(kubectls().values())[-1]
        for command in (["netns", "add", NAMESPACE], ["link", "add", OUTSIDE, "type", "veth", "peer", "name", INSIDE, "netns", NAMESPACE],
                        ["addr", "add", SERVER + "/24", "dev", OUTSIDE], ["link", "set", OUTSIDE, "up"], ["-n", NAMESPACE, "link", "set", "lo", "up"],
                        ["-n", NAMESPACE, "addr", "add", MACHINE + "/24", "dev", INSIDE], ["-n", NAMESPACE, "link", "set", INSIDE, "up"],
                        ["-n", NAMESPACE, "route", "add", "default", "via", SERVER]):
            run(["ip"] + command)
        self.start("server", [harness.MARTLET, "server", "--data-dir", self.folder + "/server", "--port", str(self.port), "--bind-address", SERVER,
                              "--advertise-address", SERVER])
        self.token = eventually(lambda: open(self.folder + "/server/node-token").read().strip(), 20, what="node-token")
        eventually(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", 20, what="the server")

    def start(self, name, command):
        process = subprocess.Popen(command, stdout=open("%s/%s.log" % (self.folder, name), "a"), stderr=subprocess.STDOUT, start_new_session=True)
        self.processes.append(process)
        return process

    def log(self, name):
        return open("%s/%s.log" % (self.folder, name)).read()[-3000:]

    def kubectl(self, *arguments, ok=True, timeout=60):
        return run([self.kubectl_path, "--kubeconfig", self.folder + "/server/kubeconfig", "--server", "https://%s:%d" % (SERVER, self.port)] + list(arguments),
                   ok=ok, timeout=timeout)

    def command(self, folder="node", token=None, url=None):
        return ["nsenter", "--net=/run/netns/" + NAMESPACE, "--", harness.MARTLET, "agent", "--server", url or "https://%s:%d" % (SERVER, self.port),
                "--token", token or self.token, "--data-dir", "%s/%s" % (self.folder, folder), "--node-name", "joined"]

    def ready(self):
        conditions = json.loads(self.kubectl("get", "node", "joined", "-o", "json"))["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def age(self):
        """Puts a client certificate in place that is valid for half a minute more, and due for renewal in some seconds."""
        pki, work = self.folder + "/node/pki", tempfile.mkdtemp(dir=self.folder)
        open(work + "/index.txt", "w").close()
        open(work + "/serial", "w").write("0A\n")
        open(work + "/ca.cnf", "w").write("[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index.txt\nnew_certs_dir=%s\nserial=%s/serial\ndefault_md=sha256\npolicy=p\n"
                                          "x509_extensions=e\n[p]\norganizationName=optional\ncommonName=supplied\n"
                                          "[e]\nextendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\n" % (work, work, work))
        run(["openssl", "req", "-new", "-key", pki + "/kubelet-client.key", "-subj", "/O=system:nodes/CN=system:node:joined", "-out", work + "/csr"])
        at = lambda seconds: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
        run(["openssl", "ca", "-batch", "-notext", "-config", work + "/ca.cnf", "-cert", self.folder + "/server/pki/ca.crt", "-keyfile",
             self.folder + "/server/pki/ca.key", "-in", work + "/csr", "-startdate", at(-100), "-enddate", at(35), "-out", pki + "/kubelet-client.crt"])

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        status, out, err = run(["nsenter", "--net=/run/netns/" + NAMESPACE, "--", harness.MARTLET, "down", "--data-dir", self.folder + "/node"], ok=None)
        run(["ip", "netns", "del", NAMESPACE], ok=None)
        run(["ip", "link", "del", OUTSIDE], ok=None)
        shutil.rmtree(self.folder, ignore_errors=True)
        check(status == 0, "martlet down of the node: %s%s" % (out, err))


@test("a node joins by token", "real")
def join():
    before = state()
    j = Join()
    try:
        for what, command, text in [
                ("a wrong secret", j.command("bad", j.token + "x"), "the token is not accepted by"),
                ("a wrong hash", j.command("bad", "K10" + "0" * 64 + "::x"), "is not the one in the token"),
                ("no token", j.command("bad", "x"), "the token is malformed"),
                ("no server", j.command("bad", url="https://%s:1" % SERVER), "cannot be reached")]:
            code, out, err = run(command, ok=None)
            equal(code, 1, "exit status with " + what)
            contains(out + err, text, what)
        agent = j.start("node", j.command())
        try:
            eventually(j.ready, 40, what="the node is Ready")
        except harness.Failure as error:
            raise harness.Failure("%s\n%s" % (error, j.log("node")))
        code, out, err = run(j.command(), ok=None)
        equal(code, 1, "exit status of a second agent")
        contains(out + err, "an agent already runs on %s/node (process %d)" % (j.folder, agent.pid))
        for name in ("kubelet-client.key", "kubelet-client.crt", "kubelet.key", "kubelet.crt"):
            equal(oct(os.stat("%s/node/pki/%s" % (j.folder, name)).st_mode & 0o777), "0o600", name)
        requests = json.loads(j.kubectl("get", "csr", "-o", "json"))["items"]
        equal({(r["spec"]["username"], r["spec"]["signerName"]) for r in requests if r["status"].get("certificate")},
              {("system:bootstrap:martlet", "kubernetes.io/kube-apiserver-client-kubelet"), ("system:node:joined", "kubernetes.io/kubelet-serving")}, "requests")

        run([ROOT + "/Tools/make-test-images.sh", IMAGES], timeout=120)
        socket = glob.glob("/run/martlet/agent-*/containerd.sock")
        equal(len(socket), 1, "sockets of containerd")
        run(["ctr", "--address", socket[0], "-n", "k8s.io", "images", "import", glob.glob(IMAGES + "/busybox*.tar")[0]], timeout=60)
        j.kubectl("run", "b", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent", "--", "sleep", "1000")
        j.kubectl("wait", "--for=condition=Ready", "pod/b", "--timeout=40s")
        equal(j.kubectl("exec", "b", "--", "echo", "hello").strip(), "hello", "exec through the serving certificate")
        contains(j.kubectl("exec", "b", "--", "nslookup", "kubernetes.default.svc.cluster.local"), "10.96.0.1")

        # Its certificates are near their end: the agent asks for new ones itself, in place, and the containers go on.
        container = lambda: json.loads(j.kubectl("get", "pod", "b", "-o", "json"))["status"]["containerStatuses"][0]["containerID"]
        one = container()
        agent.terminate()
        agent.wait(15)
        j.age()
        old = open(j.folder + "/node/pki/kubelet-client.crt").read()
        agent = j.start("node", j.command())
        eventually(lambda: open(j.folder + "/node/pki/kubelet-client.crt").read() != old, 40, what="a new client certificate")
        eventually(lambda: j.log("node").count("has joined") == 3, 20, what="the agent started itself again")
        check(agent.poll() is None, "the agent ended: " + j.log("node"))
        eventually(j.ready, 30, what="Ready again")
        equal((container(), j.kubectl("exec", "b", "--", "echo", "again").strip()), (one, "again"), "the container after a renewal")
        check(("system:node:joined", "kubernetes.io/kube-apiserver-client-kubelet") in {
            (r["spec"]["username"], r["spec"]["signerName"]) for r in json.loads(j.kubectl("get", "csr", "-o", "json"))["items"]}, "the node renews as itself")
    finally:
        j.close()
    equal(state(), before, "what is on the machine")
