"""SIGKILL at any moment: nothing acknowledged is lost, watches resume."""
import http.client, json, os, random, ssl, threading, time
from harness import Cluster, check, equal, eventually, gone, test

# KILLS=200 makes the long run that an issue asks for.
KILLS = int(os.environ.get("KILLS", "12"))


class Writer(threading.Thread):
    """Creates, updates and deletes ConfigMaps, and remembers what the server acknowledged."""

    def __init__(self, cluster, number, stop):
        super().__init__(daemon=True)
        self.cluster, self.number, self.stop = cluster, number, stop
        self.acknowledged, self.uncertain, self.writes = {}, {}, 0
        self.random = random.Random(random.getrandbits(32))

    def request(self, method, path, body=None):
        connection = getattr(self, "connection", None)
        if connection is None:
            connection = self.connection = http.client.HTTPSConnection("127.0.0.1", self.cluster.port, context=ssl._create_unverified_context(), timeout=10)
        headers = {"Authorization": "Bearer testing", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except Exception:
            connection.close()
            self.connection = None
            raise

    def run(self):
        path = "/api/v1/namespaces/default/configmaps"
        count = 0
        while not self.stop.is_set():
            names = list(self.acknowledged)
            action = self.random.choice(["create", "create", "update", "delete"]) if names else "create"
            name = "w%d-%d" % (self.number, count) if action == "create" else self.random.choice(names)
            count += action == "create"
            value = str(self.random.getrandbits(60))
            body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "labels": {"survival": "yes"}}, "data": {"v": value}}
            # Until the answer is there, both states are possible.
            before = self.acknowledged.get(name)
            after = None if action == "delete" else value
            self.uncertain[name] = {before, after}
            try:
                if action == "create":
                    status, raw = self.request("POST", path, body)
                elif action == "update":
                    status, raw = self.request("PUT", path + "/" + name, body)
                else:
                    status, raw = self.request("DELETE", path + "/" + name)
            except Exception:
                # Nobody knows; the checker accepts both, and this name is left alone from now on.
                self.acknowledged.pop(name, None)
                time.sleep(0.01)
                continue
            del self.uncertain[name]
            if status in (200, 201):
                self.writes += 1
                if after is None:
                    self.acknowledged.pop(name, None)
                else:
                    self.acknowledged[name] = after
            elif status == 503 or status == 507:
                self.uncertain[name] = {before, after}
                self.acknowledged.pop(name, None)
            else:
                raise AssertionError("%s %s: %d %s" % (action, name, status, raw[:300]))


class Watcher(threading.Thread):
    """Follows all changes from the version it saw last; counts gaps by comparing its picture with a list at the end."""

    def __init__(self, cluster, stop):
        super().__init__(daemon=True)
        self.cluster, self.stop, self.state, self.version, self.resumed, self.relisted, self.error = cluster, stop, {}, None, 0, 0, None

    def run(self):
        while not self.stop.is_set():
            try:
                self.follow()
            except Exception:
                time.sleep(0.02)

    def follow(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.cluster.port, context=ssl._create_unverified_context(), timeout=3)
        headers = {"Authorization": "Bearer testing"}
        if self.version is None:
            connection.request("GET", "/api/v1/namespaces/default/configmaps?labelSelector=survival", headers=headers)
            listed = json.loads(connection.getresponse().read())
            self.state = {i["metadata"]["name"]: i["data"]["v"] for i in listed["items"]}
            self.version = listed["metadata"]["resourceVersion"]
            self.relisted += 1
        connection.request("GET", "/api/v1/namespaces/default/configmaps?watch=1&labelSelector=survival&resourceVersion=" + self.version, headers=headers)
        response = connection.getresponse()
        self.resumed += 1
        while not self.stop.is_set():
            line = response.readline()
            if not line or not line.endswith(b"\n"):
                return
            event = json.loads(line)
            if event["type"] == "ERROR":
                self.version = None
                return
            metadata = event["object"]["metadata"]
            if int(metadata["resourceVersion"]) <= int(self.version):
                self.error = "version %s came after %s" % (metadata["resourceVersion"], self.version)
            if event["type"] == "DELETED":
                self.state.pop(metadata["name"], None)
            else:
                self.state[metadata["name"]] = event["object"]["data"]["v"]
            self.version = metadata["resourceVersion"]


@test("%d times SIGKILL under write load: every acknowledged write is there, watches resume in order" % KILLS, "simulated")
def kills():
    cluster = Cluster(simulated=1)
    stop = threading.Event()
    try:
        cluster.up()
        writers = [Writer(cluster, n, stop) for n in range(4)]
        watcher = Watcher(cluster, stop)
        for thread in writers + [watcher]:
            thread.start()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.6))
            pid = cluster.pid()
            cluster.kill()
            eventually(lambda: gone(pid), every=0.01)
            cluster.up()
        time.sleep(1)
        check(all(w.is_alive() for w in writers), "a writer was answered wrongly")
        stop.set()
        for w in writers:
            w.join(20)
        status, listed = cluster.request("GET", "/api/v1/namespaces/default/configmaps?labelSelector=survival")
        found = {i["metadata"]["name"]: i["data"]["v"] for i in listed["items"]}
        writes = sum(w.writes for w in writers)
        lost, wrong = [], []
        for w in writers:
            for name, value in w.acknowledged.items():
                if name not in found:
                    lost.append(name)
                elif found[name] != value:
                    wrong.append(name)
            for name, states in w.uncertain.items():
                if found.get(name) not in states:
                    wrong.append(name)
        known = set().union(*[set(w.acknowledged) | set(w.uncertain) for w in writers])
        risen = [name for name in found if name not in known]
        check(not lost and not wrong and not risen, "lost %s, wrong %s, risen %s" % (lost[:5], wrong[:5], risen[:5]))
        check(watcher.error is None, watcher.error)
        check(writes > KILLS * 5, "only %d writes were acknowledged" % writes)
        check(watcher.resumed >= KILLS * 0.8, "the watch resumed %d times in %d kills" % (watcher.resumed, KILLS))
        eventually(lambda: watcher_equals(cluster, watcher), seconds=10, what="the watcher's picture equals a list")
        print("        %d kills, %d acknowledged writes, 0 lost; the watch resumed %d times, %d lists" % (KILLS, writes, watcher.resumed, watcher.relisted))
    finally:
        stop.set()
        cluster.down()


def watcher_equals(cluster, watcher):
    # The watcher has stopped with the rest: follow once more from where it was.
    watcher.stop = threading.Event()
    thread = threading.Thread(target=_quiet, args=(watcher,), daemon=True)
    thread.start()
    time.sleep(1)
    watcher.stop.set()
    _, listed = cluster.request("GET", "/api/v1/namespaces/default/configmaps?labelSelector=survival")
    return watcher.state == {i["metadata"]["name"]: i["data"]["v"] for i in listed["items"]}


def _quiet(watcher):
    try:
        watcher.follow()
    except Exception:
        pass
