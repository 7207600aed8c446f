"""sluice -E, -T and <Test>: what is told of a request and of the configuration, and that a real
request fares as told."""
import json
import os
import re
import resource
import subprocess
import threading

import pytest
from conftest import MODULES, PROGRAM
from test_examples import (AUTH, FOLDER, GRPC, by_name, example, grpc, https_get, over_http2,  # noqa: F401
                           pki, secured)  # fixtures among them
from test_reload import operate  # noqa: F401, a fixture


def run(folder, text, *args, strict=True):
    """What the program prints of this configuration, places without their folder."""
    conf = os.path.join(str(folder), "c.conf")
    with open(conf, "w") as f:
        f.write(text)
    env = {**os.environ, **({"SLUICE_HOOK_FATAL": "5"} if strict else {})}
    r = subprocess.run([PROGRAM, "-f", conf, "--module-dir", MODULES, *args], capture_output=True,
                       text=True, timeout=60, env=env)
    r.stdout, r.stderr = (t.replace(str(folder) + "/", "") for t in (r.stdout, r.stderr))
    # a busy machine may stop a thread for some ms
    r.stderr = "".join(l for l in r.stderr.splitlines(True) if "SL0310" not in l)
    return r


def explain(conf, what, *args):
    """As JSON, of a file."""
    r = subprocess.run([PROGRAM, "-f", conf, "--module-dir", MODULES, "-E", what, *args, "--json"],
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    return json.loads(r.stdout)


CONF = """LoadModule route
LoadModule balancer
LoadModule headers
LoadModule log
Listen 8080
Listen 127.0.0.1:8081
TrustedProxies 10.0.0.0/8
AccessLog stdout
<Balancer pool>
    Server 192.0.2.1:80
    Server big=192.0.2.2:80 weight=2
</Balancer>
<VirtualHost a.test *.b.test>
    Header set X-Host "of a"
    <If "%{method} == POST">
        Header set X-Posted yes
        <If "%{arg:q} == 1">
            Header set X-Never 1
        </If>
    </If>
    <Location "/api/">
        Rewrite "^/nothing" "/x"
        Rewrite "^/api/(.*)" "/$1"
        RequestHeader set X-Client %{remote_addr}
        <If "%{req:X-Beta} == 1">
            ProxyHost upstream
        </If>
        ProxyPass balancer://pool
    </Location>
    <Location "/ap">
    </Location>
    <Location "/">
        Return 404 none
    </Location>
    <Location = "/api/exact">
        Return 200 exact
    </Location>
    <LocationMatch "\\.gif$">
        ProxyPass http://192.0.2.9/pictures
    </LocationMatch>
    <LocationMatch "\\.png$">
        ProxyPass http://192.0.2.9
    </LocationMatch>
    Redirect 301 /old /new
</VirtualHost>
""".replace("http://192.0.2.9/pictures", "http://192.0.2.8")

GOLDEN = """\
GET http://x.b.test:8081/api/x?y=1 from 10.1.2.3, a trusted proxy of 198.51.100.7

listener  127.0.0.1:8081  (c.conf:6): it has the URL's port
host      <VirtualHost a.test *.b.test>  (c.conf:13)
location  <Location "/api/">  (c.conf:21)
target    balancer://pool

steps
  head_read         route     c.conf:13 VirtualHost wins: the longest suffix that fits is "*.b.test"
  route             route     c.conf:21 Location "/api/" wins: the longest prefix
  route             route     c.conf:30 Location "/ap" loses: the path begins with it, but not where a segment ends
  route             route     c.conf:32 Location "/" loses: a longer prefix wins
  route             route     c.conf:35 Location = "/api/exact" loses: it is not the path
  route             route     c.conf:38 LocationMatch "\\.gif$" loses: it does not match
  route             route     c.conf:41 LocationMatch "\\.png$" loses: it does not match
  route             route     c.conf:15 If %{method} == POST: does not hold
  route             route     c.conf:17 If: not asked, the one around it does not hold
  route             route     c.conf:25 If %{req:X-Beta} == 1: holds
  fixup             headers   c.conf:24: set X-Client
  handler           route     c.conf:28 ProxyPass balancer://pool
  handler           route     c.conf:22 Rewrite "^/nothing": does not match
  handler           route     c.conf:23 Rewrite "^/api/(.*)": the path becomes /x
  handler           route     the backend is asked for /x
  response          headers   c.conf:14: set X-Host

request to 192.0.2.2:80, big, one of 2 of pool pool
  GET /x?y=1 HTTP/1.1
  X-Beta: 1
  X-Client: 198.51.100.7
  Host: 192.0.2.2:80
  Via: 1.1 sluice
  X-Forwarded-For: 198.51.100.7, 10.1.2.3
  X-Real-IP: 198.51.100.7
  X-Forwarded-Proto: http
  X-Forwarded-Host: x.b.test:8081

answer 200, if the server says 200 and no more
  X-Host: of a

not evaluated
  log               log       log_request: its row does not say SL_DRY_OK
"""


def test_golden_explain(tmp_path):
    r = run(tmp_path, CONF, "-E", "GET http://x.b.test:8081/api/x?y=1", "-H", "X-Beta: 1",
            "-H", "X-Forwarded-For: 198.51.100.7", "from=10.1.2.3")
    assert (r.stdout, r.stderr, r.returncode) == (GOLDEN, "", 0)


@pytest.mark.parametrize("what, wanted", [
    ("GET http://a.test/api/exact", [
        'it names "a.test"', 'c.conf:35 Location = "/api/exact" wins: it is the path',
        'c.conf:21 Location "/api/" loses: an exact path wins over prefixes',
        'LocationMatch "\\.gif$" loses: not asked, an exact path wins over patterns',
        "c.conf:36 Return 200", "\nanswer 200\n"]),
    ("GET http://a.test/api/a.gif", [
        'c.conf:38 LocationMatch "\\.gif$" wins: the first LocationMatch that matches',
        'c.conf:21 Location "/api/" loses: a LocationMatch wins over prefixes',
        'c.conf:41 LocationMatch "\\.png$" loses: not asked, one before it matches',
        "request to 192.0.2.8\n  GET /api/a.gif HTTP/1.1\n"]),
    ("GET http://a.test/old?q", ["c.conf:44 Redirect 301 /old", "Location: /new?q", "answer 301"]),
    ("GET http://a.test/nonsense", ["c.conf:33 Return 404"]),
    ("POST http://a.test/?q=1", ["c.conf:17 If %{arg:q} == 1: holds"]),
    ("GET http://c.test/", ["host      none", "logs SL0411 no VirtualHost serves this host", "answer 421"]),
    ("GET http://a.test/%zz", ["SL0403", "answer 400"]),
    ("GET http://a.test:9/x", ["listener  8080  (c.conf:5): the first that speaks http; none has"]),
    ("GET https://a.test/api/x", ["assumed: no Listen line speaks https", "X-Forwarded-Proto: https"]),
])
def test_what_is_explained(tmp_path, what, wanted):
    r = run(tmp_path, CONF, "-E", what)
    assert r.returncode == 0, r.stderr
    for w in wanted:
        assert w in r.stdout, r.stdout


@pytest.mark.parametrize("field, wanted", [
    ("Expect: wonders", "answer 417"), ("Content-Length: x", "answer 400"), ("Host: b.test:99999", "answer 400"),
    ("Host: x.b.test", "the longest suffix"), ("X-Long: " + "x" * 40000, "answer 431"),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked\n"),
    ("Content-Length: 5", "Content-Length: 5\n")])
def test_heads_are_parsed_as_real_ones(tmp_path, field, wanted):
    r = run(tmp_path, CONF, "-E", "POST http://a.test/api/x", "-H", field)
    assert r.returncode == 0 and wanted in r.stdout, r.stdout


def test_no_listen_and_no_module_is_needed(tmp_path):
    r = run(tmp_path, "", "-E", "GET http://a/")
    assert "assumed: no Listen line speaks http\n" in r.stdout and "answer 404" in r.stdout


@pytest.mark.parametrize("args, wanted", [
    (["GET"], "expected METHOD and a URL"), (["GET a.test/"], "expected METHOD and a URL"),
    (["GET http://u@a/"], "expected a host"), (["GET http://a/#x"], "without a fragment"),
    (["GET http://a/", "-H", "nonsense"], "expected -H"),
    (["GET http://a/", "from=nobody"], "expected from= and an address")])
def test_questions_that_are_none(tmp_path, args, wanted):
    r = run(tmp_path, "", "-E", *args)
    assert r.returncode == 2 and wanted in r.stderr, r.stderr


def test_a_wrong_configuration_is_not_explained(tmp_path):
    r = run(tmp_path, "Foo\n", "-E", "GET http://a/")
    assert r.returncode == 1 and "c.conf:1: Foo" in r.stderr and r.stdout == ""


def test_json(tmp_path):
    run(tmp_path, CONF, "-t")
    x = explain(str(tmp_path / "c.conf"), "GET http://a.test/api/\xe9x")
    assert x["response"]["status"] == 400 or x["request"]["path"].startswith("/")
    x = explain(str(tmp_path / "c.conf"), "GET http://a.test/api/x?y")
    assert x["host"] == {"title": "<VirtualHost a.test *.b.test>", "place": f"{tmp_path}/c.conf:13"}
    assert x["location"]["title"] == '<Location "/api/">' and x["target"] == "balancer://pool"
    assert x["server"] == {"name": "big", "address": "192.0.2.2:80"} and x["pool"] == "pool"
    assert x["request"]["line"] == "GET /x?y HTTP/1.1" and ["Host", "a.test"] in x["request"]["fields"]
    assert x["response"] == {"status": 200, "is_assumed": True, "fields": [["X-Host", "of a"]]}
    assert [n["hook"] for n in x["not_evaluated"]] == ["log_request"]
    assert {n["phase"] for n in x["steps"]} == {"head_read", "route", "fixup", "handler", "response"}


def test_a_pattern_that_gives_up_is_told(tmp_path):
    text = 'LoadModule route\n<LocationMatch "^/(a+)+$">\nReturn 200\n</LocationMatch>\n'
    r = run(tmp_path, text, "-E", "GET http://a/" + "a" * 40 + "b")
    assert r.returncode == 0 and "answer" in r.stdout


# ---- what -E says, a real request does ----

A, B = "api.example.com", "example.com"
REQUESTS = {
    "plain-proxy.conf": [(A, "/x?q=1", {}), ("test", "/", {})],
    "pool.conf": [("test", "/a", {"X-A": "1"})],
    "routing-path.conf": [(B, p, {}) for p in ("/api/x", "/static/x", "/api/a.png", "/health", "/no",
                                               "/api//y/../z", "/apix")],
    "routing-host.conf": [(h, "/", {}) for h in (A, "www.example.com", B, "a.static.example.com",
                                                 "static.example.com", "example.org")],
    "rewrite-redirect.conf": [("test", p, {}) for p in ("/v1/users", "/v2/users?x", "/old-page",
                                                        "/blog/7", "/blog/x", "/else", "/v1/a%20b",
                                                        "/users/ann/avatar?s=2")],
    "caching.conf": [("test", p, {"Cookie": "session=1"}) for p in ("/x",)],
    "video.conf": [("test", "/video/list.m3u8", {}), ("test", "/x.jpg", {}), ("test", "/else", {})],
    "sticky.conf": [("test", "/x", {})],
    "browser-policy.conf": [("test", "/api/x", {}), ("test", "/x", {})],
    "rate-limit.conf": [("test", "/api/x", {}), ("test", "/login", {}), ("test", "/files/x", {}), ("test", "/x", {})],
    "security-headers.conf": [("test", "/app/x", {}), ("test", "/x", {})],
    "haproxy.conf": [("test", p, {}) for p in ("/", "/api/x", "/static/x")],
    "conditions.conf": [(B, "/x", {}), (B, "/x", {"Cookie": "a=b; beta=1"}), (B, "/x", {"X-Beta": "1"}),
                        (B, "/users/ann/x", {"X-Forwarded-For": "1.2.3.4"}),
                        (B, "/x", {"Connection": "X-Hop", "X-Hop": "1"})],
    "static-site.conf": [("test", "/account/x", {"Accept-Encoding": "gzip"})],
    "compression.conf": [("test", "/x", {}), ("test", "/x", {"Accept-Encoding": "gzip, br"})],
    "error-pages.conf": [("test", p, {}) for p in ("/shop/x", "/nowhere", "/help/not-found")],
    "tests.conf": [("example.com", "/v1/users", {}), ("example.com", "/old-page", {})],
    "access-log.conf": [("test", "/x", {})],
    "health.conf": [("test", "/x", {})],
    "sticky.conf": [("test", p, {"Cookie": "JSESSIONID=1.web2"}) for p in ("/x", "/forum/x", "/pictures/1", "/pictures/7")],
    "drain.conf": [("test", "/x", {})],
    "access.conf": [("test", "/x", {}), ("test", "/admin/x", {}), ("test", "/hooks/x", {}),
                    ("test", "/hooks/x", {"X-Token": "s3cret"})],
}


def asked(o):
    """What clients asked a backend for."""
    return [r for r in o.requests if r.get("User-Agent") != "sluice-check"]


def same(said, s, host, path, fields):
    """One real request, and what was said of it."""
    before = {o: len(asked(o)) for o in s.backends.values()}
    r = s.get(path, fields, host=host)
    got = [(o, asked(o)[-1]) for o in s.backends.values() if len(asked(o)) > before[o]]
    for field in said["response"]["fields"]:
        assert tuple(field) in r.fields or field[0] == "Content-Type", (field, r.fields)
    if said["server"] is None:
        assert got == [] and r.status == said["response"]["status"]
        return
    (o, request), = got
    address = said["server"]["address"]
    assert getattr(s, "stands_for", {}).get(address, address) == o.name
    assert said["request"]["path"] == request.target
    assert said["request"]["line"] == f"{request.method} {request.target} {request.version}"
    assert [tuple(f) for f in said["request"]["fields"]] == request.fields
    assert dict(request.fields)["Host"] == host


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_real_request_fares_as_told(example, name):  # noqa: F811
    s = example(name)
    for host, path, fields in REQUESTS[name]:
        args = [a for k, v in fields.items() for a in ("-H", f"{k}: {v}")]
        same(explain(s.conf, f"GET http://{host}{path}", *args), s, host, path, fields)


def test_https_fares_as_told(sluice, make_origin, tmp_path, pki):  # noqa: F811
    """What the handshake alone can tell, as %{tls_client_verify}, is not known."""
    for name in ("https.conf", "mtls.conf", "http2.conf"):
        s = secured(sluice, make_origin, tmp_path, name, pki)
        said = explain(s.conf, "GET https://example.com/y?z=1")
        r = https_get(s, pki["ca"], "example.com", "/y?z=1")
        assert said["request"]["path"] == r.json()["target"] == "/y?z=1"
        seen = [f for f in r.json()["fields"] if not f[0].startswith("X-Client-")]
        assert [f for f in said["request"]["fields"] if not f[0].startswith("X-Client-")] == seen
        assert ["X-Forwarded-Proto", "https"] in seen
        for field in said["response"]["fields"]:
            assert tuple(field) in r.fields
        if name == "https.conf":
            assert "Strict-Transport-Security" in dict(said["response"]["fields"])
            r = s.get("/x", host="example.com")
            said = explain(s.conf, "GET http://example.com/x")
            assert (said["response"]["status"], r.status, said["server"]) == (301, 301, None)
            assert dict(said["response"]["fields"])["Location"] == r.get("Location")


@AUTH
def test_clients_who_say_who_they_are_fare_as_told(example, tmp_path):  # noqa: F811
    """But for passwords, which are not verified, and servers that decide, which are not asked."""
    from test_auth import BCRYPT, Keys, basic, bearer
    keys, bob = Keys(tmp_path), basic("bob", "password")
    (tmp_path / "htpasswd").write_text(f"bob:{BCRYPT}\n")
    token = {"iss": "https://login.example.com", "aud": "api", "realm_access": {"roles": ["a", "b"]}}
    good, late = bearer(keys.token(**token)), bearer(keys.token(**{**token, "exp": 7}))
    for name, host, requests in (
            ("basic-auth.conf", "test", [("/admin/x", {}), ("/admin/x", bob), ("/admin/payroll/", bob), ("/x", bob),
                                         ("/admin/health", {})]),
            ("jwt-api.conf", "test", [("/api/x", {}), ("/api/x", good), ("/api/x", late), ("/api/orders/", good)]),
            ("forward-auth.conf", "app.example.com", [("/oauth2/start", {})])):
        s = example(name)
        for path, fields in requests:
            args = [a for k, v in fields.items() for a in ("-H", f"{k}: {v}")]
            same(explain(s.conf, f"GET http://{host}{path}", *args), s, host, path, fields)


def test_servers_by_name_fare_as_told(by_name):  # noqa: F811
    for path in ("/x?q=1", "/api/x"):
        said = explain(by_name.conf, f"GET http://test{path}", "-H", "X-A: 1")
        assert said["server"]["address"] in by_name.stands_for
        same(said, by_name, "test", path, {"X-A": "1"})


def test_grpc_fares_as_told(grpc, pki):  # noqa: F811
    """To a server of HTTP/2 a head goes as the list of HTTP/2, in its order.  Who asks -E is a client
    of HTTP/1.1, and Via says so."""
    path, fields = "/shop.Orders/List", [*GRPC, ("x-a", "B")]
    said = explain(grpc.conf, f"POST https://example.com{path}",
                   *(a for k, v in fields for a in ("-H", f"{k}: {v}")))
    over_http2(grpc, pki["ca"], "example.com").get("POST", path, fields, body=b"abc")
    server, = (b for b in grpc.servers if b.streams)
    stream, = server.streams
    assert said["server"]["address"] == f"127.0.0.1:{server.port}" and said["target"] == "balancer://orders"
    assert said["request"]["line"] == f"POST {path} HTTP/2" and said["request"]["path"] == stream.get(":path")
    sent = [(k, "2 sluice" if (k, v) == ("via", "1.1 sluice") else v) for k, v in said["request"]["fields"]]
    assert sent == stream.fields
    assert {"te", ":authority", "x-forwarded-for"} <= dict(stream.fields).keys()


APART = {"https.conf", "mtls.conf", "http2.conf", "grpc.conf", "dns.conf",
         "basic-auth.conf", "jwt-api.conf", "forward-auth.conf"}  # each has a test above


def test_every_example_is_compared():
    assert {n for n in os.listdir(FOLDER) if n.endswith(".conf")} == REQUESTS.keys() | APART


# ---- the running server ----

LIVE = """LoadModule route
LoadModule balancer
LoadModule log
AccessLog {dir}/access.log common buffer=0
<Balancer pool>
    Server one={a}
    Server two={b}
</Balancer>
<VirtualHost a.test>
    <Location "/api/">
        Rewrite "^/api/(.*)" "/$1"
        RequestHeader set X-Client %{{remote_addr}}
        ProxyPass balancer://pool
    </Location>
    Redirect 301 /old /new
</VirtualHost>
LoadModule headers
"""


@pytest.fixture
def live(operate, make_origin, tmp_path):  # noqa: F811
    o = operate(LIVE.format(dir=tmp_path, a=make_origin(), b=make_origin()))
    o.access = tmp_path / "access.log"
    return o


@pytest.mark.parametrize("words", [
    ["GET", "http://a.test/api/x?y=1", "-H", "X-A: b c", "from=192.0.2.7"], ["GET http://a.test/old"],
    ["GET", "http://b.test/"], ["POST", "https://a.test/api/x", "--json"],
    ["GET", "http://a.test/api/x", "--json", "-H", "X-A: 1", "-H", "X-B: %20"]])
def test_the_running_server_says_what_e_says(live, words):
    ask = [words[0]] if " " in words[0] else [" ".join(words[:2])]
    told = live.say("-E", *ask, *(words[1:] if " " in words[0] else words[2:]))
    r = live.say("ctl", "explain", *words)
    assert (r.returncode, r.stderr) == (0, "") and told.returncode == 0
    assert r.stdout == told.stdout
    if "--json" in words:
        assert json.loads(r.stdout)["listener"]


def test_the_generation_that_serves_is_asked(live):
    old = live.say("ctl", "explain", "GET http://a.test/old").stdout
    assert "Location: /new" in old
    live.write(live.text.replace("/old /new", "/old /newer"))
    assert live.say("ctl", "explain", "GET http://a.test/old").stdout == old
    live.reload()
    assert "Location: /newer" in live.say("ctl", "explain", "GET http://a.test/old").stdout


@pytest.mark.parametrize("words, says", [
    ([], "expected METHOD URL"), (["GET"], "expected METHOD and a URL"),
    (["GET", "a.test/"], "expected METHOD and a URL"), (["GET", "http://a/", "more"], "expected METHOD URL"),
    (["GET", "http://a/", "from=nobody"], "expected from= and an address"),
    (["GET", "http://a/", "-H", "nonsense"], "expected -H")])
def test_questions_to_the_running_server_that_are_none(live, words, says):
    r = live.say("ctl", "explain", *words)
    assert r.returncode == 2 and says in r.stdout, r.stdout
    assert live.s.get("/api/x", host="a.test").status == 200


def test_questions_leave_no_trace(live):
    """Nothing is sent, counted, logged or kept open; requests beside them fare as ever.  A hook that
    held up the loop for 5 ms would end the process, for that is how tests run."""
    def counted():
        return [l for l in live.say("ctl", "counters").stdout.splitlines() if "control" not in l]

    assert live.s.get("/api/1", host="a.test").status == 200
    pid = live.serving()
    fds = len(os.listdir(f"/proc/{pid}/fd"))
    before, asked = counted(), 0
    for _ in range(20):
        assert live.say("ctl", "explain", "GET http://a.test/api/x").returncode == 0
    assert counted() == before and len(os.listdir(f"/proc/{pid}/fd")) <= fds + 1
    done, statuses = threading.Event(), set()

    def load():
        c = live.s.client()
        while not done.is_set():
            statuses.add(c.request("GET", "/api/y", host="a.test").status)
        c.close()

    thread = threading.Thread(target=load)
    thread.start()
    for asked in range(20):
        assert "balancer://pool" in live.say("ctl", "explain", "GET http://a.test/api/x").stdout
    done.set()
    thread.join()
    assert statuses == {200} and live.serving() == pid
    assert "/api/x" not in live.access.read_text() and "/api/y" in live.access.read_text()


def test_a_server_without_descriptors_says_so(live):
    """One is left, which the command itself takes."""
    pid = live.serving()
    taken = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
    free = [n for n in range(max(taken) + 3) if n not in taken]
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[1], before[1]))
    r = live.say("ctl", "explain", "GET http://a.test/old")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert r.returncode == 2 and r.stdout == "there are no descriptors left to run it with\n"
    assert "answer 301" in live.say("ctl", "explain", "GET http://a.test/old").stdout
    assert live.serving() == pid and live.s.get("/api/x", host="a.test").status == 200


# ---- -T ----

EFFECTIVE = """\
LoadModule route
LoadModule headers
LoadModule balancer
Timeout header=5s
TrustedProxies 10.0.0.0/8
Header set X-A "a \\"b\\""
<Balancer pool>
    Server one=192.0.2.1:80 weight=2
    Server 192.0.2.2:80
    Retry max=1
</Balancer>
<VirtualHost a.test>
    Timeout body=1s
    TrustedProxies 192.0.2.0/24
    TrustedProxies 198.51.100.1
    <Location "/x">
        ProxyPass balancer://pool
        TrustedProxies - 203.0.113.1
        Header set X-B c
        <If "%{method} == POST">
            Header - unset X-B
        </If>
    </Location>
</VirtualHost>
"""

HELD = """\
(global)
  Timeout header=5s                             c.conf:4
  Timeout body=30s                              default
  TrustedProxies 10.0.0.0/8                     c.conf:5
  ServerHeader off                              default
  ProxyPass (none)                              default
  Header set X-A "a \\"b\\""                      c.conf:6
<VirtualHost a.test>  c.conf:12
  Timeout header=5s                             c.conf:4
  Timeout body=1s                               c.conf:13
  TrustedProxies 10.0.0.0/8                     c.conf:5
  TrustedProxies 192.0.2.0/24                   c.conf:14
  TrustedProxies 198.51.100.1                   c.conf:15
  ServerHeader off                              default
  ProxyPass (none)                              default
  Header set X-A "a \\"b\\""                      c.conf:6
<Location "/x">  c.conf:16, in c.conf:12
  TrustedProxies 203.0.113.1                    c.conf:18
  ServerHeader off                              default
  ProxyPass balancer://pool                     c.conf:17
  Header set X-A "a \\"b\\""                      c.conf:6
  Header set X-B c                              c.conf:19
<If "%{method} == POST">  c.conf:20, in c.conf:16
  Header unset X-B                              c.conf:21
<Balancer pool>  c.conf:7
  Server one=192.0.2.1:80 weight=2              c.conf:8
  Server 192.0.2.2:80                           c.conf:9
  Method roundrobin                             default
  Retry max=1                                   c.conf:10
"""


def test_golden_effective_values(tmp_path):
    r = run(tmp_path, EFFECTIVE, "-T")
    shown = r"\S|  (Timeout (header|body)=|(TrustedProxies|ServerHeader|ProxyPass|Header|Server|Method|Retry) )"
    kept = "".join(l + "\n" for l in r.stdout.splitlines() if re.match(shown, l))
    assert (kept, r.stderr, r.returncode) == (HELD, "", 0)
    assert r.stdout == run(tmp_path, EFFECTIVE, "-T").stdout


def test_every_row_has_an_effective_value(tmp_path):
    """The global scope shows each directive of -L that may stand there."""
    listed = run(tmp_path, "LoadModule route\nLoadModule headers\nLoadModule log\n", "-L").stdout
    shown = run(tmp_path, "LoadModule route\nLoadModule headers\nLoadModule log\n", "-T").stdout
    names = set(re.findall(r"^  ([A-Z]\w+) ", listed, re.M))
    missing = names - set(re.findall(r"^  (\w+) ", shown, re.M))
    assert missing == {"LoadModule", "ModuleDir", "Include", "Define"}


# ---- <Test> ----

GUIDE = """LoadModule route
LoadModule balancer
Listen 8080
<Balancer backend>
    Server 192.168.1.101:8080
    Server 192.168.1.102:8080 weight=2
</Balancer>
<Location "/v1/">
    Rewrite "^/v1/(.*)" "/$1"
    ProxyPass balancer://backend
</Location>
Redirect 301 /old-page /new-page
<Test "GET http://example.com/v1/users">
    Backend 192.168.1.101:8080
    Path /users
</Test>
<Test "GET http://example.com/old-page">
    Status 301
    Header Location /new-page
</Test>
"""


def test_tests_that_hold(tmp_path):
    r = run(tmp_path, GUIDE, "-t")
    assert (r.stdout, r.returncode) == ("configuration OK\n2 tests as expected\n", 0), r.stderr


@pytest.mark.parametrize("block, wanted", [
    ("Backend 192.168.1.9:1", "c.conf:22: <Test \"GET http://a/v1/x?y=1\">: expected Backend 192.168.1.9:1, "
                              "came balancer://backend"),
    ("Path /y", "c.conf:22: <Test \"GET http://a/v1/x?y=1\">: expected Path /y, came /x"),
    ("Path /x?y=2", "expected Path /x?y=2, came /x?y=1"),
    ("Status 200", "expected Status 200, came a request to 192.168.1.102:8080"),
    ("Header X-A b", "expected Header X-A b, came no such field"),
    ("Path x", "expected the path the server is asked for"),
    ("Status 99", "expected a status from 200 to 599"),
    ("Header A", "expected the name of a field and its value"),
    ("", "c.conf:21: <Test>: expects nothing"),
    ("Backend a:1\nBackend b:1", "is set twice in this scope"),
])
def test_tests_that_fail_say_what_came(tmp_path, block, wanted):
    r = run(tmp_path, GUIDE + f'<Test "GET http://a/v1/x?y=1">\n{block}\n</Test>\n', "-t")
    assert r.returncode == 1 and wanted in r.stderr and "OK" not in r.stdout, r.stderr


@pytest.mark.parametrize("head, block, wanted", [
    ("GET http://a/none", "Backend a:1", "expected Backend a:1, came 404, no module answers for this path"),
    ("GET http://a/none", "Path /x", "expected Path /x, came 404"),
    ("GET http://a/old-page", "Status 302", "expected Status 302, came 301\n"),
    ("GET http://a/old-page", "Header Location /x", "expected Header Location /x, came /new-page"),
    ("GET a", "Status 200", "expected METHOD and a URL that begins with http:// or https://"),
])
def test_tests_of_answers(tmp_path, head, block, wanted):
    r = run(tmp_path, GUIDE + f'<Test "{head}">\n{block}\n</Test>\n', "-t")
    assert r.returncode == 1 and wanted in r.stderr, r.stderr
    assert f"sluice -E '{head}'" in r.stderr or "METHOD" in r.stderr


def test_a_test_without_a_question(tmp_path):
    r = run(tmp_path, "<Test>\nStatus 200\n</Test>\n", "-t")
    assert r.returncode == 1 and "c.conf:1: <Test>: expected a method and a URL" in r.stderr


def test_a_failing_test_refuses_the_reload(operate):  # noqa: F811
    o = operate()
    o.s.expect("SL0208")
    o.write(o.text + '<Test "GET http://a/x">\nPath /y\n</Test>\n')
    told = o.refused()
    assert re.search(r'test\.conf:\d+: <Test "GET http://a/x">: expected Path /y, came /x', told)
    assert o.settled(1)
    o.write(o.text + '<Test "GET http://a/x">\nPath /x\n</Test>\n')
    o.reload()
    assert o.s.get("/").status == 200


def test_a_failing_test_refuses_the_start(tmp_path):
    r = run(tmp_path, "Listen unix:%s/s\n<Test \"GET http://a/\">\nStatus 200\n</Test>\n" % tmp_path, "-XX")
    assert r.returncode == 1 and "expected Status 200, came 404" in r.stderr


def test_tests_take_no_turn_of_a_pool(sluice, make_origin):
    """The first real request gets the turn that a Test was shown."""
    a, b = make_origin(), make_origin()
    s = sluice("LoadModule route\nLoadModule balancer\n<Balancer p>\nServer %s\nServer %s\n</Balancer>\n"
               "ProxyPass balancer://p\n%s" % (a, b, '<Test "GET http://x/">\nBackend %s\n</Test>\n' % a))
    s.get("/")
    assert len(a.requests) == 1 and b.requests == []


# ---- hooks ----

PROBE = "LoadModule route\nLoadModule probe\nProbeDry %s\nProbeSay x\nReturn 201\n"


def test_hooks_that_do_not_say_dry_are_listed(tmp_path):
    r = run(tmp_path, PROBE % "note", "-E", "GET http://a/")
    assert "probe     dry: 1\n" in r.stdout and "answer 201" in r.stdout  # not the 200 of ProbeSay
    left = r.stdout.split("not evaluated\n")[1].splitlines()
    assert [l.split()[:3] for l in left] == [["access", "probe", "probe_access:"], ["handler", "probe", "probe_say:"],
                                             ["response", "probe", "probe_response:"]]


def test_a_hook_that_waits_is_the_last(tmp_path):
    text = PROBE % "wait"
    r = run(tmp_path, text, "-E", "GET http://a/")
    assert r.returncode == 0 and "no answer: a hook waits" in r.stdout, r.stdout + r.stderr
    assert explain(str(tmp_path / "c.conf"), "GET http://a/")["response"] is None
    r = run(tmp_path, "Listen 8080\n" + text + '<Test "GET http://a/">\nStatus 201\n</Test>\n', "-t")
    assert r.returncode == 1 and "a hook waits for what only a running server can tell" in r.stderr


@pytest.mark.parametrize("what, refused, came", [
    ("offload", "sl_offload()", "offload: -1"), ("log", "sl_log_file()", "log: -1"),
    ("zone", "a zone", "zone: 0")])
def test_side_effects_refuse(tmp_path, what, refused, came):
    strict = run(tmp_path, PROBE % what, "-E", "GET http://a/")
    assert strict.returncode < 0 and "SL0311" in strict.stderr and "leaves no trace" in strict.stderr
    r = run(tmp_path, PROBE % what, "-E", "GET http://a/", strict=False)
    assert r.returncode == 0 and came in r.stdout and f"SL0311 {refused} refused" in r.stderr


def test_a_dry_run_counts_nothing(sluice, tmp_path):
    assert run(tmp_path, PROBE % "count", "-E", "GET http://a/").returncode == 0
    conf = f"ControlSocket {tmp_path}/ctl\n"
    s = sluice(conf + "LoadModule route\nReturn 204\n<Test \"GET http://a/\">\nStatus 204\n</Test>\n")
    r = subprocess.run([PROGRAM, "-f", s.conf, "--module-dir", MODULES, "ctl", "counters"],
                       capture_output=True, text=True, timeout=60)
    assert re.search(r"^requests +0\b", r.stdout, re.M), r.stdout + r.stderr
