"""Runs the real binary and the real kubectl, and counts what passed. Needs Python 3 alone."""
import glob, json, os, random, shutil, signal, socket, ssl, subprocess, sys, tempfile, time, traceback, urllib.error, urllib.request

MARTLET = ".build/debug/martlet"
TESTS = []


def test(name, ring):
    """Registers a test. ring: simulated (no root), real (root, containers)."""
    def register(function):
        TESTS.append((ring, name, function))
        return function
    return register


class Failure(Exception):
    pass


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(found, wanted, what=""):
    check(found == wanted, "%s: found %r, wanted %r" % (what, found, wanted))


def contains(text, part, what=""):
    check(part in text, "%s: %r is not in:\n%s" % (what, part, text[-3000:]))


def run(arguments, timeout=120, stdin=None, env=None, ok=True):
    """Runs a program; returns its standard output. ok=None returns (status, stdout, stderr)."""
    result = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=timeout, env=env)
    if ok is None:
        return result.returncode, result.stdout, result.stderr
    if ok and result.returncode != 0:
        raise Failure("%s: status %d\n%s%s" % (" ".join(arguments)[:300], result.returncode, result.stdout[-2000:], result.stderr[-2000:]))
    return result.stdout


def eventually(function, seconds=30, every=0.1, what=""):
    """Calls the function until it returns something true; what it last raised is the failure."""
    end = time.time() + seconds
    last = None
    while True:
        try:
            value = function()
            if value:
                return value
            last = "the condition stayed false"
        except (Failure, subprocess.SubprocessError, OSError, KeyError, IndexError, ValueError) as error:
            last = error
        if time.time() > end:
            raise Failure("after %s s: %s %s" % (seconds, what, last))
        time.sleep(every)


def free_port():
    """A free port below the range of outgoing connections: a client that reconnects to a killed server's port in that range can meet itself
    (TCP simultaneous open) and hold the port."""
    while True:
        port = random.randrange(15000, 30000)
        with socket.socket() as s:
            try:
                s.bind(("0.0.0.0", port))
                return port
            except OSError:
                continue


def kubectls():
    """Every kubectl on this machine: version -> path, the newest last."""
    found = {}
    for path in sorted(glob.glob("/usr/lib/google-cloud-sdk/bin/kubectl.1.*")) + [shutil.which("kubectl") or ""]:
        if not path or not os.access(path, os.X_OK):
            continue
        status, out, _ = run([path, "version", "--client", "-o", "json"], ok=None)
        if status == 0:
            version = json.loads(out)["clientVersion"]["gitVersion"]
            found.setdefault(version.split("-")[0], path)
    return dict(sorted(found.items(), key=lambda item: [int(x) for x in item[0].lstrip("v").split(".")[:3]]))


class Cluster:
    """A cluster of the real binary in a folder of its own."""

    def __init__(self, nodes=0, simulated=0, tokens=True):
        self.folder = tempfile.mkdtemp(prefix="martlet-test-")
        self.data = self.folder + "/data"
        self.port = free_port()
        self.nodes, self.simulated = nodes, simulated
        self.tokens = self.folder + "/tokens.csv"
        with open(self.tokens, "w") as f:
            f.write('testing,tester,t1,"system:masters"\nnobody,nobody,n1\n')
        self.kubectl_path = list(kubectls().values())[-1]

    def up(self, timeout=180):
        return run([MARTLET, "up", "--nodes", str(self.nodes), "--simulated-nodes", str(self.simulated), "--data-dir", self.data, "--port",
                    str(self.port), "--token-auth-file", self.tokens, "--detach"], timeout=timeout)

    def pid(self):
        return int(open(self.data + "/martlet.pid").read().split()[0])

    def kill(self):
        os.kill(self.pid(), signal.SIGKILL)

    def down(self):
        status, out, err = run([MARTLET, "down", "--data-dir", self.data, "--remove-data"], ok=None, timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)
        check(status == 0, "martlet down: %s%s" % (out, err))

    def log(self):
        try:
            return open(self.data + "/martlet.log").read()[-3000:]
        except OSError:
            return ""

    def kubectl(self, *arguments, stdin=None, ok=True, timeout=60, path=None):
        return run([path or self.kubectl_path, "--kubeconfig", self.data + "/kubeconfig"] + list(arguments), stdin=stdin, ok=ok, timeout=timeout)

    def get(self, *arguments):
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, document, *arguments):
        return self.kubectl("apply", "-f", "-", *arguments, stdin=document if isinstance(document, str) else json.dumps(document))

    def request(self, method, path, body=None, token="testing", headers=None, timeout=30):
        """A raw request; returns (status, parsed body or text)."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        r = urllib.request.Request("https://127.0.0.1:%d%s" % (self.port, path), data=data, method=method)
        if token:
            r.add_header("Authorization", "Bearer " + token)
        if data is not None:
            r.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            r.add_header(name, value)
        try:
            with urllib.request.urlopen(r, context=ssl._create_unverified_context(), timeout=timeout) as f:
                status, raw = f.status, f.read()
        except urllib.error.HTTPError as e:
            status, raw = e.code, e.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode("utf-8", "replace")


def main(argv):
    import argparse
    global MARTLET
    parser = argparse.ArgumentParser()
    parser.add_argument("--martlet", default=MARTLET)
    parser.add_argument("--ring", choices=["simulated", "real"])
    parser.add_argument("--filter", default="")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args(argv)
    MARTLET = os.path.abspath(options.martlet)
    random.seed(options.seed)
    print("seed %d, kubectl %s" % (options.seed, ", ".join(kubectls())))
    check(kubectls(), "there is no kubectl on this machine; Tools/install.sh test installs one")
    passed = failed = 0
    for ring, name, function in TESTS:
        if (options.ring and ring != options.ring) or options.filter not in name:
            continue
        started = time.time()
        error = attempt(function)
        if error is not None and ring == "real":
            # Real kernels and real clients have rare failures that are not understood yet (kubectl cp over SPDY, see the README): they are
            # shown, and tried once more. What fails twice has failed.
            print("AGAIN   %s: %s" % (name, str(error).strip().replace("\n", "\n        ")), flush=True)
            error = attempt(function)
        if error is None:
            passed += 1
            print("ok      %s (%.1f s)" % (name, time.time() - started), flush=True)
        else:
            failed += 1
            print("FAILED  %s (%.1f s)\n    %s" % (name, time.time() - started, str(error).replace("\n", "\n    ")), flush=True)
            if not isinstance(error, (Failure, subprocess.SubprocessError)):
                traceback.print_exception(error)
    for cleanup in CLEANUPS:
        try:
            cleanup()
        except Exception as error:
            failed += 1
            print("FAILED  cleaning up: %s" % error)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


def attempt(function):
    """What the test failed with; None when it passed."""
    try:
        function()
    except Exception as error:
        return error
    return None


CLEANUPS = []
_shared = {}


def shared(nodes=0, simulated=0):
    """A cluster that several tests share; made at the first call, removed at the end."""
    key = (nodes, simulated)
    if key not in _shared:
        cluster = Cluster(nodes, simulated)
        CLEANUPS.append(cluster.down)
        cluster.up()
        _shared[key] = cluster
    return _shared[key]


def gone(pid):
    """The process has ended; what nobody has waited for yet counts as ended."""
    try:
        return open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
