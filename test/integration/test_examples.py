"""Every file of conf/examples is started against running backends and does what it says."""
import gzip
import os
import re
import time

import pytest
from at_home import at_home
from certs import of_the_examples
from conftest import MODULES, TOP, Client, free_port
from origin import reply
from test_route import names

FOLDER = os.path.join(TOP, "conf", "examples")


@pytest.fixture
def example(sluice, make_origin, tmp_path):
    def start(name, scripts=()):
        with open(os.path.join(FOLDER, name)) as f:
            text = f.read()
        found = sorted(set(re.findall(r"192\.168\.1\.\d+:\d+", text)))
        backends = names(make_origin, *[a.split(":")[0].rsplit(".", 1)[1] for a in found])
        for b in backends.values():
            for path, script in dict(scripts).items():
                b.on(path, script)
        for a in found:
            text = text.replace(a, str(backends[a.split(":")[0].rsplit(".", 1)[1]]))
        s = sluice(at_home(re.sub(r"^Listen .*$", "", text, flags=re.M), tmp_path, FOLDER))
        s.backends = backends
        return s
    return start


def body(r):
    return r.body.decode()


def test_plain_proxy(example):
    s = example("plain-proxy.conf")
    assert body(s.get("/x", host="api.example.com")) == "101 /x" and s.get("/").status == 421


def test_pool(example):
    s = example("pool.conf")
    c = s.client()
    got = [body(c.request("GET", "/")).split()[0] for _ in range(9)]
    c.close()
    assert got.count("101") == 3 and got.count("102") == 6


@pytest.fixture
def by_name(make_origin, sluice, name_server):
    """dns.conf, its names led to backends: `stands_for` has who serves behind what is written."""
    o = names(make_origin, "app", "api")
    port = {k: int(str(v).rsplit(":", 1)[1]) for k, v in o.items()}
    o["app"].on("/healthz", reply(200))
    dns = name_server({"app.example.com": {"A": ["127.0.0.1"]}, "one.example.com": {"A": ["127.0.0.1"]},
                       "_http._tcp.api.example.com": {"SRV": [(1, 1, port["api"], "one.example.com")]}})
    with open(os.path.join(FOLDER, "dns.conf")) as f:
        text = f.read().replace("192.168.1.2:53", dns.address).replace(":8080", f":{port['app']}")
    s = sluice(re.sub(r"^Listen .*$", "", text, flags=re.M))
    s.backends = o
    s.stands_for = {f"app.example.com:{port['app']}": o["app"].name,
                    "api.example.com": o["api"].name}
    return s


def test_dns(by_name):
    assert body(by_name.get("/")) == "app /" and body(by_name.get("/api/x")) == "api /api/x"


def test_health(example):
    s = example("health.conf", {"/busy": reply(503, b"busy")}).expect("BALANCER0012", "SL0517")
    assert {body(s.get("/")).split()[0] for _ in range(4)} == {"101", "102"}
    s.backends["101"].on("/healthz", reply(500))
    assert s.logged("server app1 is down: check: status 500", 10)
    assert {body(s.get("/")).split()[0] for _ in range(4)} == {"102"}
    s.backends["102"].on("/healthz", reply(500))
    assert s.logged("server app2 is down", 10) and body(s.get("/")).split()[0] == "103"


def test_sticky(example):
    s = example("sticky.conf")
    r = s.get("/")
    cookie = r.get("Set-Cookie").split(";")[0]
    assert {body(s.get("/", {"Cookie": cookie})).split()[0] for _ in range(6)} == {body(r).split()[0]}
    assert {body(s.get("/forum/", {"Cookie": "JSESSIONID=abc.web2"})) for _ in range(4)} == {"112 /forum/"}
    pictures = [{body(s.get(f"/pictures/{i}")).split()[0] for _ in range(3)} for i in range(20)]
    assert all(len(p) == 1 for p in pictures) and set().union(*pictures) == {"121", "122"}


def test_drain(example):
    s = example("drain.conf")
    r = [s.get("/") for _ in range(4)]
    assert {body(x).split()[0] for x in r} == {"102"}


def test_routing_path(example):
    s = example("routing-path.conf")
    for path, who in (("/api/x", "101 /api/x"), ("/static/x", "102 /static/x"),
                      ("/api/a.png", "103 /api/a.png"), ("/health", "ok")):
        assert body(s.get(path, host="example.com")) == who


def test_routing_host(example):
    s = example("routing-host.conf")
    for host, who in (("api.example.com", "101 /"), ("www.example.com", "102 /"),
                      ("example.com", "102 /"), ("a.static.example.com", "103 /")):
        assert body(s.get("/", host=host)) == who
    assert s.get("/", host="example.org").status == 421


def test_rewrite_redirect(example):
    s = example("rewrite-redirect.conf")
    assert body(s.get("/v1/users")) == "101 /users" == body(s.get("/v2/users"))
    assert s.get("/old-page").get("Location") == "/new-page"
    assert s.get("/blog/7").get("Location") == "/posts/7"
    assert body(s.get("/users/ann/avatar")) == "101 /avatars/ann.png"
    assert body(s.get("/else")) == "102 /else"


def test_caching(example):
    s = example("caching.conf", {"/": reply(200, b"x", [])})
    assert [s.get("/").get("X-Cache-Status") for _ in range(2)] == ["MISS", "HIT"]
    assert s.get("/", {"Cookie": "session=1"}).get("X-Cache-Status") == "BYPASS"
    for path in ("/api/x", "/static/x"):
        first, second = body(s.get(path)), s.get(path)
        assert body(second) == first and "hit" in second.get("Cache-Status")
    assert s.get("/static/x", method="PURGE").status == 200


def test_video(example):
    from cache_peers import Film
    film = Film(9 << 20)
    s = example("video.conf", {"/video/film.mp4": film, "/video/film.m3u8": reply(200, b"list", [])})
    r = s.get("/video/film.mp4", {"Range": f"bytes={5 << 20}-{(5 << 20) + 9}"})
    assert r.status == 206 and r.body == film.body[5 << 20:(5 << 20) + 10]
    assert film.asked == [f"bytes={4 << 20}-{(8 << 20) - 1}"] and s.get("/video/film.mp4").body == film.body
    assert [b"hit" in s.get("/video/film.m3u8").get("Cache-Status").encode() for _ in range(2)] == [False, True]


def test_browser_policy(example):
    s = example("browser-policy.conf", {"/c": reply(200, b"x", [("Set-Cookie", "a=1")])})
    r = s.get("/c")
    assert r.get("X-Frame-Options") == "SAMEORIGIN"
    assert r.get("Set-Cookie") == "a=1; Secure; HttpOnly; SameSite=Lax"
    r = s.get("/api/", [("Origin", "https://app.example.com")])
    assert body(r) == "102 /api/" and r.get("Access-Control-Allow-Credentials") == "true"


def test_security_headers(example):
    s = example("security-headers.conf")
    r = s.get("/app/x")
    assert r.get("X-Frame-Options") == "SAMEORIGIN" and r.get("Cache-Control") == "no-store"
    assert r.get("Permissions-Policy") == "geolocation=(), microphone=()"
    assert r.get("X-Content-Type-Options") == "nosniff" and r.get("X-XSS-Protection") == "1; mode=block"


def test_haproxy(example):
    s = example("haproxy.conf")
    assert body(s.get("/")).split()[0] in ("101", "102")
    assert body(s.get("/api/x")).split()[0] in ("201", "202")
    assert body(s.get("/static/x")).split()[0] == "251"


def test_conditions(example):
    s = example("conditions.conf")
    assert body(s.get("/x", host="example.com")) == "101 /x"
    assert body(s.get("/x", {"Cookie": "a=b; beta=1"}, host="example.com")) == "102 /x"
    r = s.get("/x", {"X-Beta": "1"}, host="example.com")
    assert body(r) == "102 /x" and r.get("X-Version") == "beta"
    assert s.get("/x", method="POST", body=b"x", host="example.com").status == 200
    assert body(s.get("/users/ann/x", host="example.com")) == "101 /users/ann/x"


def test_access(example):
    s = example("access.conf")
    assert body(s.get("/x")) == "101 /x" and s.get("/admin/x").status == 403
    assert s.get("/hooks/x").status == 403 and body(s.get("/hooks/x", {"X-Token": "s3cret"})) == "103 /hooks/x"


def test_tests(example):
    s = example("tests.conf")
    assert body(s.get("/v1/users")) == "101 /users" and s.get("/old-page").status == 301


def test_access_log(example, tmp_path):
    s = example("access-log.conf")
    assert body(s.get("/x")) == "101 /x"
    assert s.stop() == 0
    assert "GET /x" in (tmp_path / "access.log").read_text()
    assert '"uri":"/x"' in (tmp_path / "access.json").read_text()
    assert (tmp_path / "brief.log").read_text().endswith(" /x\n")


@pytest.mark.skipif(not all(os.path.exists(f"{MODULES}/mod_{m}.so") for m in ("brotli", "zstd")),
                    reason="built without brotli or zstd")
def test_compression(example):
    text = b"<p>once more</p>\n" * 200
    html = [("Content-Type", "text/html")]
    s = example("compression.conf", {
        "/x": reply(200, text, html), "/account/x": reply(200, text, html + [("Set-Cookie", "a=b")]),
        "/archive/x": reply(200, gzip.compress(text), html + [("Content-Encoding", "gzip")])})
    for accept, coding in (("gzip, br, zstd", "br"), ("gzip, zstd", "zstd"), ("gzip", "gzip"), ("", None)):
        r = s.get("/x", {"Accept-Encoding": accept})
        assert r.get("Content-Encoding") == coding and r.get("Vary") == "Accept-Encoding"
        assert coding is None or len(r.body) < 200
    assert s.get("/account/x", {"Accept-Encoding": "gzip, br, zstd"}).body == text
    assert s.get("/archive/x").body == text


@pytest.mark.skipif(not os.path.exists(f"{MODULES}/mod_brotli.so"), reason="built without brotli")
def test_static_site(example):
    text = b"<p>once more</p>\n" * 200
    page = reply(200, text, [("Content-Type", "text/html"), ("ETag", '"a"')])
    s = example("static-site.conf", {"/x": page, "/assets/x": page, "/account/x": page})
    for path in ("/x", "/assets/x"):
        for accept, coding in (("gzip, br", "br"), ("gzip", "gzip")):
            end, r = time.time() + 5, s.get(path, {"Accept-Encoding": accept})
            while r.get("Content-Length") is None and time.time() < end:
                r = s.get(path, {"Accept-Encoding": accept})
            assert r.get("Content-Encoding") == coding and int(r.get("Content-Length")) < 200
    assert s.get("/assets/x").get("Cache-Control") == "public, max-age=31536000, immutable"
    r = s.get("/account/x", {"Accept-Encoding": "gzip, br"})
    assert (r.get("Cache-Status"), r.get("Content-Encoding")) == (None, None)
    assert len(s.backends["101"].requests) == 3


def test_rate_limit(example):
    s = example("rate-limit.conf")
    c = s.client()
    got = [c.request("GET", "/api/x") for _ in range(30)]
    c.close()
    assert body(got[0]) == "102 /api/x" and got[0].get("RateLimit-Policy") == '"api";q=21;w=3'
    assert 21 <= [r.status for r in got].count(200) <= 25 and got[-1].get("Retry-After") == "1"
    assert [s.get("/login", method="POST", body=b"x").status for _ in range(4)] == [200] * 3 + [429]
    assert [s.get("/login").status for _ in range(5)] == [200] * 5
    assert body(s.get("/files/x")) == "103 /files/x" and body(s.get("/x")) == "101 /x"


def test_error_pages(example):
    s = example("error-pages.conf")
    assert body(s.get("/shop/x")).split()[1] == "/x"
    r = s.get("/nowhere")
    assert (r.status, r.get("Location")) == (302, "/help/not-found")
    assert body(s.get("/help/not-found")) == "103 /help/not-found"
    for name in ("101", "102"):
        s.backends[name].on("/x", reply(503, b"down"))
        s.backends[name].on("/c", reply(200, fields=[("Set-Cookie", "a=b; Path=/x; Domain=app.internal")]))
    r = s.get("/shop/x")
    with open(os.path.join(FOLDER, "sorry.html"), "rb") as f:
        assert (r.status, r.body, r.get("Content-Type")) == (503, f.read(), "text/html")
    assert s.get("/shop/c").get("Set-Cookie") == "a=b; Path=/shop/x; Domain=shop.example.com"


AUTH = pytest.mark.skipif(not os.path.exists(f"{MODULES}/mod_auth.so"), reason="built without mod_auth")


@AUTH
def test_basic_auth(example, tmp_path):
    from test_auth import BCRYPT, basic
    (tmp_path / "htpasswd").write_text(f"alice:{BCRYPT}\nbob:{BCRYPT}\n")
    s = example("basic-auth.conf")
    assert s.get("/admin/x").status == 401 and body(s.get("/x")) == "103 /x" and body(s.get("/admin/health")) == "ok"
    assert body(s.get("/admin/x", basic("bob", "password"))) == "101 /admin/x"
    assert s.get("/admin/payroll/", basic("bob", "password")).status == 403
    assert body(s.get("/admin/payroll/", basic("alice", "password"))) == "102 /admin/payroll/"


@AUTH
def test_jwt_api(example, tmp_path):
    from test_auth import Keys, bearer
    keys = Keys(tmp_path)
    s = example("jwt-api.conf")
    token = {"iss": "https://login.example.com", "aud": "api"}
    assert s.get("/api/").get("WWW-Authenticate") == "Bearer"
    assert body(s.get("/api/x", bearer(keys.token(**token)))) == "101 /api/x"
    assert body(s.get("/api/orders/", bearer(keys.token(**token)))) == "102 /api/orders/"
    assert s.get("/api/orders/", bearer(keys.token(**token)), "POST").status == 403
    assert body(s.get("/api/orders/", bearer(keys.token(scope="a orders:write", **token)), "POST")) == "102 /api/orders/"
    assert s.get("/app/", bearer(keys.token(**token))).status == 401
    assert body(s.get("/app/", {"Cookie": f"session={keys.token(**{**token, 'aud': 'app'})}"})) == "103 /app/"


@AUTH
def test_forward_auth(example, tmp_path):
    from test_auth import BCRYPT, basic
    (tmp_path / "htpasswd").write_text(f"hook:{BCRYPT}\n")
    s = example("forward-auth.conf")
    s.backends["110"].on("/oauth2/auth", lambda c, r: c.send(
        reply(202, fields=[("X-Auth-Request-User", "ann")]) if r.get("Cookie") == "s=1"
        else reply(302, fields=[("Location", "/oauth2/start")])) or True)
    r = s.get("/x", host="app.example.com")
    assert (r.status, r.get("Location")) == (302, "/oauth2/start")
    assert body(s.get("/x", {"Cookie": "s=1"}, host="app.example.com")) == "101 /x"
    assert s.backends["101"].last.get("X-Auth-Request-User") == "ann"
    assert body(s.get("/oauth2/start", host="app.example.com")) == "110 /oauth2/start"
    assert body(s.get("/hooks/x", basic("hook", "password"), host="app.example.com")) == "102 /hooks/x"
    assert s.get("/hooks/x", basic("hook", "x"), host="app.example.com").status == 302


def secured(sluice, make_origin, tmp_path, name, certs):
    """An example with Listen lines of its own: backends, certificates and ports take their places."""
    from tls_peers import SecureOrigin
    text = open(os.path.join(FOLDER, name)).read()
    for a in sorted(set(re.findall(r"192\.168\.1\.\d+:8080", text))):
        text = text.replace(a, str(make_origin()))
    if "192.168.1.102:8443" in text:
        back = SecureOrigin(certs["back"])
        text = text.replace("192.168.1.102:8443", str(back))
    port = free_port()
    text = text.replace("Listen 443 ", f"Listen 127.0.0.1:{port} ").replace("/etc/ssl/sluice", str(tmp_path))
    s = sluice(re.sub(r"^Listen 80$", "", text, flags=re.M)).expect("TLS0054")  # no responder is named
    s.tls_port = port
    return s


@pytest.fixture
def pki(tmp_path):
    return of_the_examples(tmp_path)


def https_get(s, ca, host, path="/", cert=None):
    import ssl
    c, ctx = Client(s.tls_port), ssl.create_default_context(cafile=ca.pem)
    if cert:
        ctx.load_cert_chain(cert.pem, cert.key)
    c.sock = ctx.wrap_socket(c.sock, server_hostname=host)
    try:
        return c.request("GET", path, host=host)
    finally:
        c.close()


def test_https(sluice, make_origin, tmp_path, pki):
    s = secured(sluice, make_origin, tmp_path, "https.conf", pki)
    r = s.get("/x", host="example.com")
    assert r.status == 301 and r.get("Location") == "https://example.com/x"
    assert s.get("/.well-known/acme-challenge/t", host="example.com").json()["target"].endswith("/t")
    for host in ("example.com", "www.example.com", "secure.example.com"):
        r = https_get(s, pki["ca"], host, "/y")
        assert r.json()["target"] == "/y" and r.get("Strict-Transport-Security") == "max-age=15552000"
        assert r.seen("X-Forwarded-Proto") == "https"


def test_mtls(sluice, make_origin, tmp_path, pki):
    s = secured(sluice, make_origin, tmp_path, "mtls.conf", pki)
    alice = pki["clients-ca"].make("alice", usage="clientAuth")
    assert https_get(s, pki["ca"], "example.com").seen("X-Client-Verify") == "none"
    for host in ("example.com", "api.example.com"):
        assert https_get(s, pki["ca"], host, cert=alice).seen("X-Client-DN") == "CN=alice,O=test"
    with pytest.raises(OSError):
        https_get(s, pki["ca"], "api.example.com")


def over_http2(s, ca, host):
    import ssl
    from h2client import H2
    ctx = ssl.create_default_context(cafile=ca.pem)
    ctx.set_alpn_protocols(["h2"])
    c = Client(s.tls_port)
    return H2(0, sock=ctx.wrap_socket(c.sock, server_hostname=host), scheme="https", authority=host)


def test_http2(sluice, make_origin, tmp_path, pki):
    s = secured(sluice, make_origin, tmp_path, "http2.conf", pki)
    assert https_get(s, pki["ca"], "example.com", "/y").json()["target"] == "/y"
    c = over_http2(s, pki["ca"], "example.com")
    assert c.get(path="/z").json()["target"] == "/z" and c.settings[3] == 100


@pytest.fixture
def grpc(sluice, tmp_path, pki):
    """grpc.conf, its servers with an answer to each call."""
    from test_http2_servers import Server
    servers = [Server(lambda x: (x.ended.wait(5), x.respond(body=x.body, trailers=[("grpc-status", "0")])))
               for _ in range(2)]
    text = open(os.path.join(FOLDER, "grpc.conf")).read()
    for i, b in enumerate(servers):
        text = text.replace(f"192.168.1.10{i + 1}:50051", f"127.0.0.1:{b.port}")
    port = free_port()
    text = text.replace("Listen 443 ", f"Listen 127.0.0.1:{port} ").replace("/etc/ssl/sluice", str(tmp_path))
    s = sluice(text)
    s.tls_port, s.servers = port, servers
    yield s
    for b in servers:
        b.stop()


GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


def test_grpc(grpc, pki):
    c = over_http2(grpc, pki["ca"], "example.com")
    for _ in range(4):
        a = c.get("POST", "/shop.Orders/List", GRPC, body=b"abc")
        assert (a.status, a.body, a.trailers) == (200, b"abc", [("grpc-status", "0")])
    assert [len(b.streams) for b in grpc.servers] == [2, 2]
    assert grpc.servers[0].streams[0].get("te") == "trailers"


def test_every_example_has_a_test():
    here = open(__file__).read()
    assert all(f'"{n}"' in here for n in os.listdir(FOLDER) if n.endswith(".conf"))
