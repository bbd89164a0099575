"""Bad input gets a clear error in Kubernetes' own form, and changes nothing."""
import json, socket, ssl, time
from harness import check, contains, equal, shared, test


def status_is(answer, code, reason, text):
    found, body = answer
    equal(found, code, "HTTP status of %s" % (body,))
    check(isinstance(body, dict) and body.get("kind") == "Status", "a Status object, not %r" % (body,))
    equal(body["reason"], reason, "reason")
    contains(body["message"], text, "message")


@test("malformed JSON and YAML, unknown kinds, wrong types are refused by name", "simulated")
def malformed():
    c = shared(simulated=3)
    pods = "/api/v1/namespaces/default/pods"
    status_is(c.request("POST", pods, b'{"apiVersion":'), 400, "BadRequest", "unexpected end of JSON input")
    status_is(c.request("POST", pods, b'[1,2'), 400, "BadRequest", "json parse error")
    status_is(c.request("POST", pods, b'a: [b', headers={"Content-Type": "application/yaml"}), 400, "BadRequest", "error converting YAML to JSON")
    status_is(c.request("POST", pods, {"apiVersion": "v1", "kind": "Unicorn"}), 400, "BadRequest", "no kind \"Unicorn\"")
    status_is(c.request("POST", "/apis/apps/v1/namespaces/default/deployments", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": "three"}}),
              400, "BadRequest", "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32")
    status_is(c.request("POST", pods, b"\xff\xfe{}"), 400, "BadRequest", "invalid character")
    status_is(c.request("POST", pods, b"[" * 100000), 400, "BadRequest", "exceeded max depth")
    status_is(c.request("GET", "/api/v1/unicorns"), 404, "NotFound", "could not find the requested resource")
    status_is(c.request("GET", "/api/v1/pods?limit=ten"), 400, "BadRequest", "invalid syntax")
    status_is(c.request("GET", "/api/v1/pods?labelSelector=a%20in%20("), 400, "BadRequest", "unable to parse requirement")
    status_is(c.request("GET", pods, token="wrong"), 401, "Unauthorized", "Unauthorized")
    status_is(c.request("GET", pods, token="nobody"), 403, "Forbidden", 'User "nobody" cannot list resource "pods" in API group "" in the namespace "default"')
    contains(c.kubectl("apply", "-f", "-", stdin="kind: Pod\napiVersion: v1\nmetadata: {name: x}\nspec: {containers: [{name: A_B, image: i}]}", ok=None)[2], "lowercase RFC 1123 label")


@test("a body over 3 MiB is refused; one just below is judged on its merits", "simulated")
def oversized():
    c = shared(simulated=3)
    path = "/api/v1/namespaces/default/configmaps"
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"a": "x" * (3 * 1024 * 1024)}}
    status_is(c.request("POST", path, big), 413, "RequestEntityTooLarge", "limit is 3145728")
    big["data"]["a"] = "x" * (2 * 1024 * 1024)
    status_is(c.request("POST", path, big), 422, "Invalid", "Too long")
    equal(c.request("GET", path + "/big")[0], 404, "nothing was stored")


@test("slow, half-closed and broken clients cost nothing: others go on being served", "simulated")
def slow_clients():
    c = shared(simulated=3)
    context = ssl._create_unverified_context()
    broken = []
    for _ in range(50):
        s = socket.create_connection(("127.0.0.1", c.port))
        s.sendall(b"\x16\x03")  # A TLS hello that never ends.
        broken.append(s)
    for _ in range(50):
        s = context.wrap_socket(socket.create_connection(("127.0.0.1", c.port)))
        s.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Slow: ")  # Headers that never end.
        broken.append(s)
    half = context.wrap_socket(socket.create_connection(("127.0.0.1", c.port)))
    half.sendall(b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer testing\r\nContent-Length: 100\r\n\r\n{")
    half.close()
    garbage = context.wrap_socket(socket.create_connection(("127.0.0.1", c.port)))
    garbage.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
    contains(garbage.recv(4096).decode("latin-1"), "400", "an answer to garbage")
    started = time.time()
    for _ in range(20):
        equal(c.request("GET", "/readyz")[0], 200, "readyz")
    check(time.time() - started < 5, "twenty requests took %.1f s" % (time.time() - started))
    for s in broken:
        s.close()


@test("strict validation names unknown and duplicate fields", "simulated")
def strict():
    c = shared(simulated=3)
    path = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict"
    status_is(c.request("POST", path, b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"d","name":"e"}}'), 400, "BadRequest", 'duplicate field "metadata.name"')
    status_is(c.request("POST", path, {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "d"}, "dat": {}}), 400, "BadRequest", 'unknown field "dat"')


@test("a conflict, an immutable field and a refused eviction say why", "simulated")
def conflicts():
    c = shared(simulated=3)
    path = "/api/v1/namespaces/default/configmaps"
    cm = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "frozen"}, "immutable": True, "data": {"a": "b"}}
    equal(c.request("POST", path, cm)[0], 201, "create")
    status_is(c.request("POST", path, cm), 409, "AlreadyExists", "already exists")
    cm["data"]["a"] = "c"
    status_is(c.request("PUT", path + "/frozen", cm), 422, "Invalid", "field is immutable when `immutable` is set")
    cm["metadata"]["resourceVersion"] = "1"
    status_is(c.request("PUT", path + "/frozen", cm), 409, "Conflict", "the object has been modified")
    equal(c.request("GET", path + "/frozen")[1]["data"], {"a": "b"}, "data")
    c.request("DELETE", path + "/frozen")
