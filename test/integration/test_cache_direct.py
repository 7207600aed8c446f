"""mod_cache_disk: misses that the client's own request fetches, and what becomes of them when it cannot."""
import os
import signal
import threading
import time

import pytest
from origin import reply
from cache_peers import asked, cached, fresh, operated, status  # noqa: F401 (fixtures)
from test_http2_servers import Server
from tls_peers import pki, secure, to  # noqa: F401 (fixtures)


def lines(r):
    return [(k, v) for k, v in r.fields if k not in ("Age", "Cache-Status", "Content-Length", "X-Cache")]


def test_a_miss_has_the_head_of_a_hit(cached, origin):
    origin.on("/", b"HTTP/1.1 200 Well\r\nCache-Control: max-age=60\r\nSurrogate-Key: a b\r\nxkey: c\r\nX-Own: 1\r\n"
                   b"Age: 7\r\nConnection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\nX-Own: 2\r\nContent-Length: 3\r\n\r\nabc")
    s = cached("CacheIgnore Set-Cookie")
    miss, hit = s.get("/"), s.get("/")
    assert (status(miss), status(hit)) == ("MISS", "HIT") and lines(miss) == lines(hit) and miss.body == hit.body
    assert miss.reason == hit.reason == "OK" and int(miss.get("Age")) >= 7 and not miss.get("Set-Cookie")
    assert miss.get("Cache-Status") == "sluice; fwd=uri-miss; stored" and miss.get("X-Own") == "1, 2"


@pytest.mark.parametrize("code", [204, 301, 404])
def test_without_a_body(cached, origin, code):
    origin.on("/", reply(code, b"", [("Cache-Control", "max-age=60"), ("Location", "/x")]))
    s = cached()
    for what in ("MISS", "HIT"):
        r = s.get("/")
        assert (r.status, r.body, status(r)) == (code, b"", what)
    assert asked(origin) == 1


HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n%sContent-Length: %d\r\n\r\n"


def pattern(n):
    return b"".join(b"%07d " % i for i in range(n // 8 + 1))[:n]


@pytest.mark.parametrize("before", [b"", b"X-Long: " + b"y" * 6000 + b"\r\n"], ids=["", "a long head"])
@pytest.mark.parametrize("n", [3000, 4096, 10240, 65535, 65536, 65537])
def test_more_than_one_read(cached, origin, threads, before, n):
    origin.on("/", HEAD % (before, n) + pattern(n))
    s = cached()
    for what in ("MISS", "HIT"):
        r = s.get("/")
        assert (r.status, r.body, status(r), r.get("Content-Length")) == (200, pattern(n), what, str(n))
    assert asked(origin) == 1 and s.get("/other").status == 200
    assert origin.n_connections <= threads


@pytest.mark.parametrize("first", [0, 100, 4096, 6000, 10239])
def test_the_rest_comes_late(cached, origin, first):
    rest = threading.Event()

    def slow(c, r):
        c.send(HEAD % (b"", 10240) + pattern(10240)[:first])
        rest.wait(5)
        c.send(pattern(10240)[first:])
        return True
    origin.on("/", slow)
    s = cached()
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    head = c.until(b"\r\n\r\n")  # it does not wait for the rest
    assert b"Content-Length: 10240" in head
    rest.set()
    assert c.exactly(10240) == pattern(10240)
    assert s.get("/").body == pattern(10240) and asked(origin) == 1


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("pause", [0, 0.1])
@pytest.mark.parametrize("n", [5000, 10239])
def test_cut_after_more_than_one_read(cached, origin, end, pause, n):
    def cut(c, r):
        c.send(HEAD % (b"", 10240) + pattern(n))
        time.sleep(pause)
        getattr(c, end)()
        return False
    origin.on("/", cut)
    s = cached().expect("SL0505", "SL0509")
    for _ in range(3):
        c = s.client()
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        got = c.rest()
        assert len(got.partition(b"\r\n\r\n")[2]) < 10240
    origin.on("/", fresh(b"new"))
    assert s.get("/").body == b"new" and status(s.get("/")) == "HIT"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_cut_before_the_first_read(cached, origin, end):
    """The loop has told of the end together with the bytes, and does not tell again."""
    s = cached().expect("SL0505", "SL0509")

    def cut(c, r):
        os.kill(s.pids()[-1], signal.SIGSTOP)
        c.send(HEAD % (b"", 10240) + pattern(9000))
        getattr(c, end)()
        time.sleep(0.05)
        os.kill(s.pids()[-1], signal.SIGCONT)
        return False
    origin.on("/", cut)
    c = s.client(timeout=5)
    c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert c.rest().partition(b"\r\n\r\n")[2] in (b"", pattern(9000))


def test_bytes_behind_more_than_one_read(cached, origin):
    origin.on("/", HEAD % (b"", 10240) + pattern(10240) + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    s = cached()
    assert [s.get("/").body for _ in range(2)] == [pattern(10240)] * 2
    assert s.get("/other").body != b"evil" and origin.n_connections == 2


def test_an_answer_of_our_own_is_stored(sluice, tmp_path):
    s = sluice("LoadModule route\nLoadModule headers\nLoadModule cache_disk\n"
               f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nCacheValid 200 1h\n"
               "Header set X-Cache %{cache_status}\nReturn 200 ours\n")
    assert [(r.body, status(r)) for r in (s.get("/"), s.get("/"))] == [(b"ours", "MISS"), (b"ours", "HIT")]


def test_who_leaves_alone_takes_it_along(cached, origin):
    gone = threading.Event()

    def slow(c, r):
        if not c.fill():
            gone.set()
        return False
    origin.on("/", slow)
    s = cached()
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    c.close()
    assert gone.wait(5)
    origin.on("/", fresh(b"new"))
    assert s.get("/").body == b"new" and status(s.get("/")) == "HIT"


@pytest.mark.parametrize("pause", [0, 0.1], ids=["at once", "in parts"])
@pytest.mark.parametrize("n", [10240, 65536, 65537])
def test_more_than_one_record(sluice, secure, pki, tmp_path, n, pause):  # noqa: F811
    origin = secure()

    def answer(c, r):
        c.send(HEAD % (b"", n) + pattern(n)[:n // 2])
        time.sleep(pause)
        c.send(pattern(n)[n // 2:])
        return True
    origin.on("/", answer)
    s = sluice(to(origin, options=f"ca={pki.ca.pem}") +
               f"LoadModule cache_disk\nCacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\n")
    c = s.client()
    for i in range(3):
        miss, hit = c.request("GET", f"/?{i}"), c.request("GET", f"/?{i}")
        assert miss.body == pattern(n) and hit.body == pattern(n) and "hit" in hit.get("Cache-Status")
    assert len(origin.requests) == 3 and origin.n_connections == 1


@pytest.mark.parametrize("parts", [[b"whole"], [b"wh", b"ole"]], ids=["at once", "in parts"])
@pytest.mark.parametrize("leaves", [False, True])
def test_others_join(cached, origin, parts, leaves):
    hold = threading.Event()

    def slow(c, r):
        hold.wait(5)
        c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n" + parts[0])
        for part in parts[1:]:
            time.sleep(0.1)
            c.send(part)
        return True
    origin.on("/", slow)
    s = cached()
    clients = [s.client() for _ in range(5)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.05)
    if leaves:
        clients.pop(0).close()
        time.sleep(0.1)
    hold.set()
    got = [c.response() for c in clients]
    assert [r.body for r in got] == [b"whole"] * len(clients) and asked(origin) == 1
    assert sum("collapsed" in r.get("Cache-Status") for r in got) == 4
    assert [status(r) for r in got] == ["MISS"] * len(clients) and status(s.get("/")) == "HIT"


def test_pipelined_finds_what_has_just_come(cached, origin):
    origin.on("/", fresh(b"whole"))
    s = cached()
    for n in (2, 40):
        c = s.client().send(f"GET /?{n} HTTP/1.1\r\nHost: test\r\n\r\n" * n)
        got = [c.response() for _ in range(n)]
        assert [r.body for r in got] == [b"whole"] * n and asked(origin, f"/?{n}") == 1
        assert [status(r) for r in got] == ["MISS"] + ["HIT"] * (n - 1)
        assert not any("collapsed" in r.get("Cache-Status") for r in got)


@pytest.mark.parametrize("way", ["PURGE", "POST"])
def test_pipelined_and_forgotten_between(cached, origin, way):
    versions = iter((b"old", b"ok", b"new") if way == "POST" else (b"old", b"new"))
    origin.on("/", lambda c, r: c.send(fresh(next(versions))))
    s = cached("CachePurge 127.0.0.1")
    c = s.client().send("".join(f"{m} / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"
                                for m in ("GET", way, "GET", "GET")))
    got = [c.response() for _ in range(4)]
    assert [got[i].body for i in (0, 2, 3)] == [b"old", b"new", b"new"]
    assert [status(got[i]) for i in (0, 2, 3)] == ["MISS", "MISS", "HIT"] and s.get("/").body == b"new"


def test_another_server_is_tried_after_others_have_joined(sluice, make_origin, tmp_path):
    a, b, hold = make_origin(), make_origin(), threading.Event()
    a.on("/", lambda c, r: hold.wait(5) and c.close() or False)
    b.on("/", fresh(b"of b"))
    s = sluice("LoadModule route\nLoadModule balancer\nLoadModule cache_disk\n"
               f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\n"
               f"<Balancer p>\nServer {a.name}\nServer {b.name}\nMethod first\nRetry max=1\n</Balancer>\n"
               "ProxyPass balancer://p\n").expect("SL0505", "SL0509")
    clients = [s.client() for _ in range(3)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\nX-Me: 1\r\n\r\n")
        time.sleep(0.05)
    clients.pop(0).close()
    time.sleep(0.1)
    hold.set()
    assert [c.response().body for c in clients] == [b"of b"] * 2
    assert len(a.requests) == 1 and len(b.requests) == 1
    assert a.requests[0].fields == b.requests[0].fields and b.requests[0].get("X-Me") == "1"


def test_joins_who_waits_for_a_place(sluice, origin, tmp_path):
    hold = threading.Event()
    origin.on("/busy", lambda c, r: hold.wait(5) and c.send(fresh()) or True)
    origin.on("/", fresh(b"late"))
    s = sluice("LoadModule route\nLoadModule balancer\nLoadModule cache_disk\n"
               f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\n"
               f"<Balancer p>\nServer {origin.name} maxconn=1\nQueue 5 timeout=5s\n</Balancer>\n"
               "ProxyPass balancer://p\n")
    clients = [s.client() for _ in range(4)]
    for c, path in zip(clients, ("/busy", "/", "/", "/")):
        c.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.05)
    clients.pop(1).close()
    time.sleep(0.1)
    hold.set()
    assert [c.response().body for c in clients] == [b"x", b"late", b"late"] and asked(origin) == 1


def test_over_a_shared_connection(sluice, tmp_path):
    h = Server(lambda st: st.respond(200, [("cache-control", "max-age=60")], b"shared"))
    s = sluice("LoadModule route\nLoadModule headers\nLoadModule http2\nLoadModule cache_disk\n"
               f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}}\n"
               f"ProxyPass h2c://127.0.0.1:{h.port}\n")
    assert [(r.body, status(r)) for r in (s.get("/"), s.get("/"))] == [(b"shared", "MISS"), (b"shared", "HIT")]
    h.stop()


def test_reload_while_it_is_asked(operated, origin):
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(fresh(b"z" * 1000)) or True)
    op = operated()
    a, b = op.s.client(), op.s.client()
    for c in (a, b):
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.1)
    op.reload()
    a.close()
    time.sleep(0.1)
    hold.set()
    assert b.response().body == b"z" * 1000 and asked(origin) == 1
