"""The command line: up, down, status, kubeconfig, server, and their errors."""
import json, os, re, shutil, socket, subprocess, tempfile, time
import harness
from harness import Cluster, check, contains, equal, eventually, free_port, gone, run, shared, test


@test("up with simulated nodes needs neither root nor containers, and down leaves no process", "simulated")
def up_down():
    cluster = Cluster(simulated=3)
    out = cluster.up()
    contains(out, "export KUBECONFIG=" + cluster.data + "/kubeconfig")
    equal(len(cluster.get("nodes")["items"]), 3, "nodes")
    pid = cluster.pid()
    cluster.down()
    check(gone(pid), "process %d still runs" % pid)
    check(not os.path.exists(cluster.data), "the data folder is still there")


@test("status and kubeconfig tell about the cluster, as text, JSON and YAML", "simulated")
def status():
    cluster = shared(simulated=3)
    contains(run([harness.MARTLET, "status", "--data-dir", cluster.data]), "running, process %d" % cluster.pid())
    state = json.loads(run([harness.MARTLET, "status", "--data-dir", cluster.data, "--output", "json"]))
    equal([n["ready"] for n in state["nodes"]], [True] * 3, "nodes ready")
    contains(run([harness.MARTLET, "status", "--data-dir", cluster.data, "--output", "yaml"]), "running: true")
    equal(run([harness.MARTLET, "kubeconfig", "--data-dir", cluster.data]).strip(), cluster.data + "/kubeconfig")
    code, _, err = run([harness.MARTLET, "status", "--data-dir", "/tmp/there-is-no-cluster-here"], ok=None)
    equal(code, 1, "status of no cluster")
    contains(err, "there is no cluster in /tmp/there-is-no-cluster-here")


@test("a second up on the same folder is refused and changes nothing", "simulated")
def second_up():
    cluster = shared(simulated=3)
    code, _, err = run([harness.MARTLET, "up", "--simulated-nodes", "1", "--data-dir", cluster.data, "--port", str(free_port()), "--detach"], ok=None)
    equal(code, 1, "exit status")
    contains(err, "a cluster already runs on %s (process %d)" % (cluster.data, cluster.pid()))
    equal(len(cluster.get("nodes")["items"]), 3, "nodes")
    code, _, err = run([harness.MARTLET, "server", "--data-dir", cluster.data, "--port", str(free_port())], ok=None)
    equal(code, 1, "exit status of server")
    contains(err, "in use by process")


@test("an occupied port is named, with what to do", "simulated")
def occupied_port():
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        port = str(s.getsockname()[1])
        folder = tempfile.mkdtemp()
        for command in (["up", "--simulated-nodes", "1", "--nodes", "0"], ["server"]):
            code, _, err = run([harness.MARTLET] + command + ["--data-dir", folder + "/data", "--port", port], ok=None)
            equal(code, 1, "exit status of %s" % command[0])
            contains(err, "bind: address already in use" if command[0] == "server" else "address already in use")
            contains(err, "choose another with --port")
        shutil.rmtree(folder)


@test("data of a newer version is refused and stays as it is", "simulated")
def newer_version():
    cluster = Cluster(simulated=1)
    cluster.up()
    run([harness.MARTLET, "down", "--data-dir", cluster.data])
    path = cluster.data + "/cluster.json"
    state = json.load(open(path))
    state["format"] = 99
    json.dump(state, open(path, "w"))
    before = open(path).read()
    code, _, err = run([harness.MARTLET, "up", "--data-dir", cluster.data, "--port", str(cluster.port)], ok=None)
    equal(code, 1, "exit status")
    contains(err, "was written by a newer Martlet (format 99")
    equal(open(path).read(), before, "cluster.json")
    state["format"] = 1
    json.dump(state, open(path, "w"))
    store = next(os.path.join(d, f) for d, _, fs in os.walk(cluster.data + "/store") for f in fs if f.endswith((".db", ".sqlite")))
    subprocess.run(["python3", "-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version=99'); c.commit()", store], check=True)
    code, _, err = run([harness.MARTLET, "server", "--data-dir", cluster.data, "--port", str(cluster.port)], ok=None)
    equal(code, 1, "exit status with a newer store")
    contains(err, "newer Martlet (format 99")
    cluster.down()


@test("nodes without root are refused with the way out", "simulated")
def without_root():
    if os.geteuid() == 0:
        # The build folder of root is not readable for everybody: a copy is.
        folder = tempfile.mkdtemp()
        os.chmod(folder, 0o755)
        binary = shutil.copy(harness.MARTLET, folder + "/martlet")
        os.chmod(binary, 0o755)
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env", "HOME=/tmp", binary]
    else:
        folder, command = None, [harness.MARTLET]
    code, _, err = run(command + ["up", "--nodes", "1", "--data-dir", "/tmp/martlet-nobody"], ok=None)
    equal(code, 1, "exit status")
    contains(err, "needs root")
    contains(err, "--simulated-nodes")
    if folder:
        shutil.rmtree(folder)


@test("wrong usage exits with 2 or 64 and names the option", "simulated")
def usage():
    for arguments, text in [(["up", "--nodes", "-1"], "--nodes"), (["up", "--port", "70000"], "--port"), (["server", "--datastore", "mysql"], "mysql"),
                            (["nonsense"], "nonsense"), (["up", "--servers", "3"], "not supported yet")]:
        code, out, err = run([harness.MARTLET] + arguments, ok=None)
        check(code in (2, 64), "%s: exit status %d" % (arguments, code))
        contains(out + err, text, " ".join(arguments))
    for command in ("up", "down", "status", "kubeconfig", "server", "agent", "image import"):
        contains(run([harness.MARTLET] + command.split() + ["--help"]), "USAGE", command)


@test("a bad kubeconfig is a clear error of the agent", "simulated")
def bad_kubeconfig():
    folder = tempfile.mkdtemp()
    path = folder + "/agent.json"
    for content, text in [(None, "cannot be read"), ("{", "unexpected end of JSON input"), ("{}", "\"nodeName\" is missing")]:
        if content is not None:
            open(path, "w").write(content)
        code, _, err = run([harness.MARTLET, "agent", "--config", path], ok=None)
        equal(code, 1, "exit status")
        contains(err, text)
    shutil.rmtree(folder)


@test("validate says offline what the server would say; commands that are not there yet say so", "simulated")
def validate():
    folder = tempfile.mkdtemp()
    good, bad = folder + "/good.yaml", folder + "/bad.yaml"
    open(good, "w").write("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n")
    contains(run([harness.MARTLET, "validate", good]), 'Pod "p" is valid')
    open(bad, "w").write("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: -1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {contaners: [], containers: [{name: c, image: i}]}}}\n---\napiVersion: apps/v1\nkind: Deploymnt\n")
    code, out, _ = run([harness.MARTLET, "validate", folder], ok=None)
    equal(code, 1, "exit status")
    for text in ('unknown field "spec.template.spec.contaners"', "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                 "`selector` does not match template `labels`", "did you mean Deployment in version \"apps/v1\"?"):
        contains(out, text)
    equal(len(json.loads(run([harness.MARTLET, "validate", good, "--output", "json"]))), 2, "results")
    shutil.rmtree(folder)
    for command in (["snapshot", "save"], ["doctor"], ["drill", "run", "F1101"], ["incident", "list"], ["certs", "list"]):
        code, _, err = run([harness.MARTLET] + command, ok=None)
        equal(code, 1, "exit status of " + command[0])
        contains(err, "`martlet %s` is not supported yet" % command[0])
