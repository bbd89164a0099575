#!/usr/bin/env python3
"""The figures of DESIGN.md's budgets, measured on this machine: run.py MARTLET"""
import glob, json, os, re, shutil, signal, socket, ssl, statistics, subprocess, sys, tempfile, time, urllib.request

MARTLET = sys.argv[1]
HERE = os.path.dirname(os.path.abspath(__file__))
CONTEXT = ssl._create_unverified_context()
ROWS = []


def row(what, unit, upstream, budget, value, good):
    ROWS.append((what, upstream, budget, value + " " + unit, "yes" if good else "NO"))
    print("%-64s %s %s" % (what, value, unit), flush=True)


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A control plane in the foreground."""

    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="martlet-bench-")
        self.port = port()
        open(self.folder + "/tokens", "w").write('bench,bench,b,"system:masters"\n')
        self.started = time.time()
        self.process = subprocess.Popen([MARTLET, "server", "--data-dir", self.folder + "/data", "--port", str(self.port), "--token-auth-file",
                                         self.folder + "/tokens", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # A plain socket until the port listens, so that the measuring does not slow what it measures.
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.001)
        while self.get("/readyz") != b"ok":
            time.sleep(0.001)
        self.ready = time.time() - self.started

    def get(self, path):
        request = urllib.request.Request("https://127.0.0.1:%d%s" % (self.port, path), headers={"Authorization": "Bearer bench"})
        return urllib.request.urlopen(request, context=CONTEXT, timeout=60).read()

    def resident(self):
        return int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % self.process.pid).read()).group(1)) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def wrk(server, script, seconds=8):
    out = subprocess.run(["wrk", "-t2", "-c16", "-d%ds" % seconds, "-s", script, "https://127.0.0.1:%d/" % server.port], capture_output=True, text=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if errors:
        print("        %s answers were errors" % errors.group(1))
        total = int(re.search(r"(\d+) requests in", out).group(1))
        rate *= 1 - int(errors.group(1)) / total
    return rate


CREATE = """
-- Creates %(kind)s objects under names of their own.
local counter = 0
local threads = 0
function setup(thread) thread:set("id", threads); threads = threads + 1 end
function request()
  counter = counter + 1
  local name = "w" .. id .. "-" .. counter
  local body = [[%(body)s]]
  body = body:gsub("NAME", name)
  return wrk.format("POST", "%(path)s", {["Authorization"] = "Bearer bench", ["Content-Type"] = "application/json"}, body)
end
"""


def script(folder, kind, path, body):
    name = "%s/%s.lua" % (folder, kind)
    open(name, "w").write(CREATE % {"kind": kind, "path": path, "body": json.dumps(body)})
    return name


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME", "labels": {"app": "bench", "pad": "x" * 60}},
       "spec": {"containers": [{"name": "c", "image": "registry.example.com/team/application:1.2.3", "args": ["--flag=" + "y" * 40] * 8,
                                "env": [{"name": "V%d" % i, "value": "z" * 20} for i in range(6)], "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}}


def control_plane():
    starts = []
    for _ in range(5):
        server = Server()
        starts.append(server.ready)
        server.stop()
    row("start of a fresh control plane to /readyz ok (median of 5)", "s", "2.2-3.0 s", "0.10 s", "%.3f" % statistics.median(starts), statistics.median(starts) <= 0.10)
    server = Server()
    begun = time.time()
    while True:
        try:
            server.get("/api/v1/namespaces/default/serviceaccounts/default")
            break
        except urllib.error.HTTPError:
            time.sleep(0.002)
    account = server.ready + time.time() - begun
    row("... to the default service account existing", "s", "8.9 s", "0.30 s", "%.3f" % account, account <= 0.30)
    time.sleep(5)
    row("resident memory, idle control plane", "MB", "511 MB", "50 MB", "%.1f" % server.resident(), server.resident() <= 50)
    rate = wrk(server, script(server.folder, "ConfigMap", "/api/v1/namespaces/default/configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "NAME"}, "data": {"key": "v" * 200}}))
    row("create ConfigMaps, 16 connections, durable, TLS", "/s", "1,800 /s", "10,000 /s", "%.0f" % rate, rate >= 10000)
    server.stop()
    server = Server()
    time.sleep(1)
    rate = wrk(server, script(server.folder, "Pod", "/api/v1/namespaces/default/pods", POD), seconds=5)
    row("create Pods of 1 KB, 16 connections, all components on", "/s", "770 /s", "5,000 /s", "%.0f" % rate, rate >= 5000)
    server.stop()
    server = Server("--disable", "scheduler,controllers")
    # Ten thousand pods of about 7 KB.
    subprocess.run(["wrk", "--version"], capture_output=True)
    big = json.loads(json.dumps(POD))
    big["metadata"]["annotations"] = {"pad": "p" * 3500}
    make(server, big, 10000)
    times = []
    for _ in range(5):
        begun = time.time()
        size = int(subprocess.run(["curl", "-sk", "-o", "/dev/null", "-w", "%{size_download}", "-H", "Authorization: Bearer bench",
                                   "https://127.0.0.1:%d/api/v1/pods" % server.port], capture_output=True, text=True).stdout)
        times.append(time.time() - begun)
    row("list 10,000 pods (%.0f MB) over TLS, best of 5" % (size / 1e6), "s", "0.55-0.97 s (65 MB)", "0.15 s", "%.3f" % min(times), min(times) <= 0.15)
    server.stop()


def make(server, pod, count):
    """Creates exactly so many pods over a few connections."""
    import http.client, threading

    def work(first):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=CONTEXT)
        # Pods need the account that the controllers would make.
        for n in range(first, count, 8):
            body = json.dumps(pod).replace("NAME", "pod-%d" % n)
            connection.request("POST", "/api/v1/namespaces/default/pods", body, {"Authorization": "Bearer bench", "Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 201:
                raise SystemExit("%d %s" % (answer.status, text[:300]))
    request = urllib.request.Request("https://127.0.0.1:%d/api/v1/namespaces/default/serviceaccounts" % server.port, method="POST",
                                     data=b'{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}',
                                     headers={"Authorization": "Bearer bench", "Content-Type": "application/json"})
    urllib.request.urlopen(request, context=CONTEXT).read()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def nodes():
    if os.geteuid() != 0:
        print("no root: real nodes are not measured")
        return
    images = "/tmp/martlet-test-images"
    subprocess.run([HERE + "/../Tools/make-test-images.sh", images], check=True, stdout=subprocess.DEVNULL)
    kubectl = sorted(glob.glob("/usr/lib/google-cloud-sdk/bin/kubectl.1.*"))[-1:] or [shutil.which("kubectl")]
    folder = tempfile.mkdtemp(prefix="martlet-bench-")

    def martlet(*arguments):
        return subprocess.run([MARTLET, *arguments, "--data-dir", folder + "/data"], check=True, capture_output=True, text=True).stdout

    def k(*arguments):
        return subprocess.run([kubectl[0], "--kubeconfig", folder + "/data/kubeconfig", *arguments], capture_output=True, text=True).stdout

    number = str(port())
    # One node. The images are there from a first start; the second start is the one measured, with a new pod.
    martlet("up", "--nodes", "1", "--port", number, "--detach")
    martlet("image", "import", *sorted(glob.glob(images + "/*.tar")))
    martlet("down")
    values = []
    for attempt in range(3):
        shutil.rmtree(folder + "/data/store")
        begun = time.time()
        martlet("up", "--nodes", "1", "--port", number, "--detach")
        k("create", "deployment", "web%d" % attempt, "--image=nginx:1.14.2")
        while '"True"' not in k("get", "pods", "-l", "app=web%d" % attempt, "-o", 'jsonpath={range .items[*].status.conditions[?(@.type=="Ready")]}"{.status}"{end}'):
            if time.time() - begun > 60:
                break
        values.append(time.time() - begun)
        martlet("down")
    row("martlet up --nodes 1 (image present) to first nginx pod Ready (median of 3)", "s", "20-33 s (kind, k3d)", "2 s", "%.2f" % statistics.median(values), statistics.median(values) <= 2)
    martlet("down", "--remove-data")
    manifests = sorted(glob.glob(HERE + "/../../shared/manifests/*.yaml"))
    if manifests:
        martlet("up", "--nodes", "2", "--port", number, "--detach")
        martlet("image", "import", *sorted(glob.glob(images + "/*.tar")))
        begun = time.time()
        for path in manifests:
            k("apply", "-f", path)
        while k("get", "pods", "-o", 'jsonpath={range .items[*].status.conditions[?(@.type=="Ready")]}"{.status}"{end}').count('"True"') < 8:
            if time.time() - begun > 90:
                break
            time.sleep(0.05)
        value = time.time() - begun
        row("2 nodes, the four manifests, all pods Ready", "s", "-", "15 s", "%.1f" % value, value <= 15)
        martlet("down", "--remove-data")
    shutil.rmtree(folder, ignore_errors=True)


control_plane()
nodes()
print()
print("| what | upstream 1.36.2 | budget | Martlet | within |")
print("| --- | --- | --- | --- | --- |")
for line in ROWS:
    print("| " + " | ".join(line) + " |")
