#!/usr/bin/env python3
"""Allocations a request: allocations.py MARTLET (root; needs perf and uprobes).

Counts calls of malloc in the server while one connection sends requests of one kind."""
import http.client, json, os, re, shutil, signal, socket, ssl, subprocess, sys, tempfile, time

CONTEXT = ssl._create_unverified_context()
HEADERS = {"Authorization": "Bearer bench", "Content-Type": "application/json"}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME", "labels": {"app": "bench", "pad": "x" * 60}},
       "spec": {"containers": [{"name": "c", "image": "registry.example.com/team/application:1.2.3", "args": ["--flag=" + "y" * 40] * 8,
                                "env": [{"name": "V%d" % i, "value": "z" * 20} for i in range(6)]}]}}


class Server:
    def __init__(self, *options):
        self.folder = tempfile.mkdtemp(prefix="martlet-allocations-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        open(self.folder + "/tokens", "w").write('bench,bench,b,"system:masters"\n')
        self.process = subprocess.Popen([sys.argv[1], "server", "--data-dir", self.folder + "/data", "--port", str(self.port),
                                         "--token-auth-file", self.folder + "/tokens", *options], stderr=subprocess.DEVNULL)
        while True:
            try:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=CONTEXT)
                self.connection.connect()
                break
            except OSError:
                time.sleep(0.01)

    def ask(self, method, path, body=None):
        self.connection.request(method, path, body and json.dumps(body), HEADERS)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit("%d %s" % (answer.status, text[:300]))

    def count(self, work):
        perf = subprocess.Popen(["perf", "stat", "-x,", "-e", "probe_libc:malloc", "-p", str(self.process.pid)],
                                stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        work()
        perf.send_signal(signal.SIGINT)
        return int(perf.communicate()[1].split(",")[0])

    def stop(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def named(body, name):
    return json.loads(json.dumps(body).replace("NAME", name))


libc = re.search(r"libc\.so\.6.*=> (\S+)", subprocess.run(["ldd", sys.argv[1]], capture_output=True, text=True).stdout).group(1)
subprocess.run(["perf", "probe", "-q", "-x", libc, "malloc"], capture_output=True)
server = Server("--disable", "scheduler,controllers")
core = "/api/v1/namespaces/default"
server.ask("POST", core + "/serviceaccounts", {"metadata": {"name": "default"}})
CONFIG = {"metadata": {"name": "NAME"}, "data": {"key": "v" * 200}}
N = 1000
for kind, body in (("configmaps", CONFIG), ("pods", POD)):
    server.ask("POST", "%s/%s" % (core, kind), named(body, "first"))
    print("create %-12s %7.1f mallocs" % (kind, server.count(
        lambda: [server.ask("POST", "%s/%s" % (core, kind), named(body, "x%d" % i)) for i in range(N)]) / N))
    print("get    %-12s %7.1f mallocs" % (kind, server.count(lambda: [server.ask("GET", "%s/%s/x1" % (core, kind)) for _ in range(N)]) / N))
    print("list   %-12s %7.3f mallocs an item" % (kind, server.count(lambda: [server.ask("GET", "%s/%s" % (core, kind)) for _ in range(10)]) / N / 10))
server.stop()
subprocess.run(["perf", "probe", "-q", "-d", "probe_libc:malloc*"], capture_output=True)
