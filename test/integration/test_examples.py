"""Every file of conf/examples is started against running backends and does what it says."""
import gzip
import os
import re

import pytest
from conftest import MODULES, TOP
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
        text = re.sub(r"^Listen .*$", "", text, flags=re.M).replace("/var/log/sluice", str(tmp_path))
        s = sluice(text)
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
    assert body(s.get("/else")) == "102 /else"


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


def test_every_example_has_a_test():
    here = open(__file__).read()
    assert all(f'"{n}"' in here for n in os.listdir(FOLDER))
