"""mod_cache_disk against those who would have it give what is wrong, stale, torn or somebody else's."""
import json
import os
import random
import re
import threading
import time
from email.utils import formatdate

import pytest
from origin import reply
from cache_peers import BASE, cached, echo, fresh, operated, status  # noqa: F401


def numbered(origin, path="/", **fields):
    """A server whose every answer is another one; how many there were so far."""
    n = []

    def script(c, r):
        n.append(r)
        c.send(fresh(b"%d" % len(n), **fields))
        return True
    origin.on(path, script)
    return n


# ---- what is said of how it was asked ----

WAYS = [{}, {"X-Forwarded-Proto": "https"}, {"X-Forwarded-Proto": "http, https"}, {"X-Forwarded-Proto": "https://h/x?"},
        {"X-Forwarded-Host": "other"}, {"X-Forwarded-Host": "other, third"},
        {"Forwarded": "proto=https"}, {"Forwarded": "host=other"}, {"Forwarded": "proto=https;host=other"},
        {"Forwarded": "proto=https, host=other"}, {"Forwarded": 'host="oth,er"'}, {"Forwarded": 'host="oth'},
        {"Forwarded": "for=a, proto=https"}, {"Forwarded": "for=a;proto=https;HOST=x"}]


@pytest.mark.parametrize("lines", ["TrustedProxies 127.0.0.1", "TrustedProxies 127.0.0.1\nProxyForwarded rfc7239",
                                   "ProxyForwarded off"])
def test_what_reaches_the_server_of_how_it_was_asked_is_in_the_key(cached, origin, lines):
    origin.on("/", lambda c, r: c.send(fresh(json.dumps([r.get(k) for k in (
        "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")]).encode())) or True)
    s = cached(lines)
    first = [s.get("/", fields).body for fields in WAYS]
    again = [s.get("/", fields) for fields in WAYS]
    assert [status(r) for r in again] == ["HIT"] * len(WAYS)
    assert [r.body for r in again] == first
    assert len(origin.requests) == len(WAYS)


def test_who_asked_is_not_in_the_key(cached, origin):
    numbered(origin)
    s = cached("TrustedProxies 127.0.0.1")
    for client in ("1.1.1.1", '"[2001:db8::1]:80"', "unknown"):
        r = s.get("/", {"Forwarded": f"for={client};proto=https;by=_x", "X-Forwarded-For": "1.1.1.1"})
        assert r.body == b"1"


def test_lines_of_a_name_are_in_the_key_together(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh(r.get("X-Forwarded-Host").encode())) or True)
    s = cached("TrustedProxies 127.0.0.1")
    for _ in range(2):
        for name in ("evil", "good"):
            got = s.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a\r\nX-Forwarded-Host: %s\r\nConnection: close\r\n\r\n"
                        % name.encode())
            assert got.endswith(b"a, " + name.encode())


def test_no_scheme_makes_anothers_url(cached, origin):
    origin.scripts = type("All", (dict,), {"get": lambda self, path: echo})()
    s = cached("TrustedProxies 127.0.0.1")
    s.get("/y", {"X-Forwarded-Proto": "http://good/a?x="}, host="evil")
    for _ in range(2):
        r = s.get("/a?x=://evil/y", host="good")
        assert json.loads(r.body)[2] == "good"
    assert status(r) == "HIT"


def test_all_that_is_behind_a_url_is_purged(operated, origin):
    numbered(origin)
    op = operated("TrustedProxies 127.0.0.1")
    ways = [{}, {"X-Forwarded-Host": "pub"}, {"Forwarded": "proto=https;host=pub"}]
    assert [op.s.get("/", w).body for w in ways * 2] == [b"1", b"2", b"3"] * 2
    for purge in (("url", "http://test/"), ("prefix", "http://test/")):
        assert op.say("ctl", "cache", "purge", *purge).returncode == 0
        assert [status(op.s.get("/", w)) for w in ways] == ["MISS"] * 3
    assert op.s.get("/", method="POST", body=b"x", fields=ways[1]).status == 200
    assert status(op.s.get("/", ways[1])) == "MISS"


# ---- what servers say, in ways nobody should ----

@pytest.mark.parametrize("fields, is_hit", [
    ({"Cache-Control": "private; max-age=60"}, False), ({"Cache-Control": "max-age=60; no-store"}, False),
    ({"Cache-Control": 'max-age=60, x="a, private'}, False), ({"Cache-Control": "max-age=60", "Age": "3600, 0"}, False),
    ({"Cache-Control": "max-age=60", "Age": "0, 3600"}, True), ({"Cache-Control": 'private="X-Secret", max-age=60'}, False),
    ({"Cache-Control": 'no-cache="X-Secret", max-age=60'}, False), ({"Cache-Control": "max-age=60,private"}, False),
    ({"CDN-Cache-Control": "must-revalidate", "Expires": formatdate(time.time() + 3600, usegmt=True)}, False),
    ({"CDN-Cache-Control": "max-age=60", "Cache-Control": "private"}, True),
    ({"CDN-Cache-Control": "private", "Cache-Control": "max-age=60"}, False),
    ({"Cache-Control": "max-age=60", "Vary": "X, *"}, False), ({"Cache-Control": "max-age=60", "Set-Cookie": ""}, False),
])
def test_in_doubt_it_is_not_stored(cached, origin, fields, is_hit):
    origin.on("/", reply(200, b"x", list(fields.items())))
    s = cached("CacheValid 1h" if "CDN" not in str(fields) else "")
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and r.body == b"x"
    assert (status(r) == "HIT") == is_hit


def test_a_304_of_another_change_is_of_another_response(cached, origin):
    first, other = (formatdate(time.time() - age, usegmt=True) for age in (7200, 3600))

    def script(c, r):
        if r.get("If-Modified-Since"):
            c.send(f"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nLast-Modified: {other}\r\n\r\n".encode())
        else:
            c.send(fresh(b"x", 0, Last_Modified=first))
        return True
    origin.on("/", script)
    s = cached()
    for _ in range(3):
        r = s.get("/")
        assert r.body == b"x" and r.get("Last-Modified") == first and status(r) != "HIT"


def test_interim_responses_are_not_stored(cached, origin):
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nCache-Control: max-age=60\r\n\r\n"
                                       b"HTTP/1.1 102 Processing\r\n\r\n" + fresh(b"final")) or True)
    s = cached()
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and r.body == b"final" and r.get("Link") is None
    assert status(r) == "HIT"


def test_what_is_of_one_hop_is_not_stored(cached, origin):
    origin.on("/", fresh(b"x", Connection="X-Hop", X_Hop="1", Keep_Alive="timeout=5", Proxy_Connection="x"))
    origin.on("/proxy", fresh(b"x", Proxy_Authenticate="Basic", Proxy_Authentication_Info="x"))
    s = cached()
    for _ in range(2):
        r = s.get("/")
        assert [r.get(k) for k in ("X-Hop", "Keep-Alive", "Proxy-Connection")] == [None] * 3
    assert status(r) == "HIT"
    s.get("/proxy")
    r = s.get("/proxy")
    assert [r.get(k) for k in ("X-Cache", "Proxy-Authenticate", "Proxy-Authentication-Info")] == ["HIT", None, None]


# ---- clients ----

@pytest.mark.parametrize("fields", [{"X-Lang": "x" * 20000}, {"Cookie": "session=1"}, {"Range": "bytes=0-0"},
                                    {"Range": "bytes=9999-"}, {"Accept-Encoding": "x" * 7000}], ids=lambda f: str(f)[:40])
def test_no_client_turns_the_cache_off_for_others(cached, origin, fields):
    origin.on("/", fresh(b"xyz", Vary="X-Lang, Accept-Encoding"))
    s = cached("CacheNoStore \"%{cookie:session} != ''\"\nLimitHead 60k")
    assert s.get("/", fields).status in (200, 206, 416)
    assert [status(s.get("/")) for _ in range(2)][1] == "HIT"


def test_thousands_of_ranges(cached, origin):
    body = os.urandom(100000)
    origin.on("/", fresh(body))
    s = cached("LimitHead 60k")
    s.get("/")
    for ranges in (",".join(["0-"] * 9000), ",".join(f"{i}-{i}" for i in range(4000)), ",".join(["-1"] * 9000),
                   "0-,0-", "5-2", "a-b", "0-99999999999999999999999", "-99999999999999999999999",
                   "99999999999999999999999-"):
        r = s.get("/", {"Range": "bytes=" + ranges})
        if r.status == 416:
            assert ranges.startswith("9999") and r.body == b""
        else:
            assert r.body == body and r.status in (200, 206), ranges[:30]


def test_a_location_elsewhere_is_not_forgotten(cached, origin):
    numbered(origin, "/other")
    s = cached()

    def after(location, name="Location", code=200):
        origin.on("/post", reply(code, b"p", [(name, location)]))
        s.get("/other")
        assert status(s.get("/other")) == "HIT"
        s.get("/post", method="POST", body=b"x")
        return status(s.get("/other"))
    for same in ("/other", "http://test/other", "HTTP://Test/other", "/other#part", "http://test/other#part",
                 "//test/other", "http://test:80/other", "other", "./x/../other", "/x/./../other"):
        assert after(same) == "MISS", same
        assert after(same, "Content-Location") == "MISS", same
    for elsewhere in ("//evil/other", "http://evil/other", "https://test/other", "http://test:81/other", "http://test.evil/other", "//test:443/other",
                      "http://test@evil/other", "javascript:/other", ""):
        assert after(elsewhere) == "HIT", elsewhere
    assert after("/other", code=500) == "HIT"


# ---- purges and what is under way ----

@pytest.mark.parametrize("state", ["asking", "arriving"])
@pytest.mark.parametrize("purge", [("all",), ("url", "http://test/"), ("prefix", "http://test/"), ("host", "test"),
                                   ("tag", "t")], ids=lambda p: p[0])
def test_who_comes_after_a_purge_gets_what_is_asked_for_after_it(operated, origin, purge, state):
    hold, n = threading.Event(), []

    def script(c, r):
        n.append(1)
        head, _, body = fresh(b"%d" % len(n) * 1000, Surrogate_Key="t").partition(b"\r\n\r\n")
        late = len(n) == 1
        if state == "arriving":
            c.send(head + b"\r\n\r\n")
        late and hold.wait(5)
        c.send(body if state == "arriving" else head + b"\r\n\r\n" + body)
        return True
    origin.on("/", script)
    op = operated()
    first, second = op.s.client(), op.s.client()
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.3)
    assert op.say("ctl", "cache", "purge", *purge).returncode == 0
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.3)
    hold.set()
    assert first.response().body == b"1" * 1000
    assert second.response().body == b"2" * 1000
    r = op.s.get("/")
    assert r.body != b"1" * 1000, "what was asked for before is not found afterwards"
    first.close(), second.close()


def test_what_another_generation_asked_for_is_forgotten(operated, origin):
    hold, n = threading.Event(), []

    def script(c, r):
        if r.method != "GET":
            c.send(reply(200))
            return True
        n.append(1)
        late = len(n) == 1
        late and hold.wait(10)
        c.send(fresh(b"old" if late else b"new"))
        return True
    origin.on("/", script)
    op = operated()
    first = op.s.client(timeout=20)
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.3)
    op.reload()
    assert op.s.get("/", method="POST", body=b"x").status == 200
    hold.set()
    assert first.response().body == b"old"
    first.close()
    time.sleep(0.3)
    assert op.s.get("/").body == b"new"


# ---- many, slow, and servers that die ----

def test_dribbled_then_dead(cached, origin):
    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            c.send(b"1\r\nx\r\n")
            time.sleep(0.05)
        return False
    origin.on("/", script)
    s = cached().expect("SL0509")
    clients = [s.client() for _ in range(20)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    for c in clients:
        assert not c.rest().endswith(b"0\r\n\r\n"), "who reads it sees that it was cut"
    origin.on("/", fresh(b"whole"))
    assert [s.get("/").body for _ in range(2)] == [b"whole"] * 2


def test_many_variants_stay_each_its_own(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh((r.get("X-Lang") or "").encode() * 100, Vary="X-Lang")) or True)
    s = cached(disk="size=16m memory=1m")
    c = s.client()
    for lang in [f"l{random.randrange(3000)}" for _ in range(6000)]:
        assert c.request("GET", "/", {"X-Lang": lang}).body == lang.encode() * 100
    c.close()


def test_a_thousand_for_one(cached, origin):
    hold, body = threading.Event(), os.urandom(200000)
    origin.on("/", lambda c, r: hold.wait(20) and c.send(fresh(body)) or True)
    s = cached()
    clients = [s.client(timeout=30) for _ in range(400)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.5)
    for c in clients[::7]:
        c.close()
    hold.set()
    for i, c in enumerate(clients):
        if i % 7:
            assert c.response().body == body
            c.close()
    assert len(origin.requests) == 1


def test_a_folder_shared_by_mistake(sluice, origin, tmp_path):
    origin.on("/", fresh(b"x"))
    conf = BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}}\nProxyPass {origin}\n"
    one, two = sluice(conf), sluice(conf).expect("CACHEDISK0104", "CACHEDISK0105")
    assert two.logged("CACHEDISK010[45]")
    for s in (one, two):
        assert [status(s.get("/")) for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.parametrize("seed", range(3))
def test_files_that_were_damaged(sluice, origin, tmp_path, seed):
    bodies = {f"/{i}": os.urandom(random.Random(i).randrange(1, 400000)) for i in range(40)}
    for path, body in bodies.items():
        origin.on(path, fresh(body, X_Own=path))
    conf = BASE + f"CacheDisk {tmp_path}/cache size=64m memory=1m\nCache on\nHeader set X-Cache %{{cache_status}}\nProxyPass {origin}\n"
    patient = {"SLUICE_HOOK_FATAL": "500"}  # many are read by offload threads, which may hold a lock for long
    s = sluice(conf, env=patient)
    for path, body in bodies.items():
        assert s.get(path).body == body
    time.sleep(1)  # until all is written
    s.stop()
    draw = random.Random(seed)
    for name in os.listdir(tmp_path / "cache"):
        with open(tmp_path / "cache" / name, "r+b") as f:
            used = min(os.path.getsize(f.name), 16 << 20)
            for _ in range(300):
                f.seek(draw.randrange(used))
                f.write(bytes([draw.randrange(256)]))
            if seed == 2:
                f.truncate(draw.randrange(used))
    s = sluice(conf, env=patient).expect("CACHEDISK")
    for _ in range(2):
        for path, body in bodies.items():
            r = s.get(path)
            assert r.body == body and r.get("X-Own") == path
    assert s.logged("CACHEDISK010[0-9]")


# ---- what it says of itself ----

def test_a_dry_run_says_what_would_happen(operated, origin):
    origin.on("/a", fresh(b"x"))
    origin.on("/s", reply(200, b"x", [("Cache-Control", "max-age=0, stale-while-revalidate=60"), ("ETag", '"a"')]))
    origin.on("/v", fresh(b"x", 0, Vary="X-Lang"))
    origin.on("/c", fresh(b"x", Set_Cookie="a=b"))
    op = operated()

    def said(path, *words):
        r = op.say("ctl", "explain", "GET", f"http://test{path}", *words)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout
    for _ in range(50):  # until the index has been read
        if "on disk" not in (first := said("/a")):
            break
    assert "the cache does not have it" in first
    for path in ("/a", "/s", "/v", "/c"):
        op.s.get(path, {"X-Lang": "de"})
    assert re.search("status 200, age [0-9] s of 60 s; fresh: it would be given", said("/a")) and "X-Cache: HIT" in said("/a")
    assert "given, and fetched anew" in said("/s") and "X-Cache: UPDATING" in said("/s")
    stale = said("/a", "-H", "Cache-Control: no-cache")
    assert "the client says no-cache: the server would be asked" in stale and "X-Cache: EXPIRED" in stale
    assert "its last response was not stored: it sets a cookie" in said("/c") and "X-Cache: MISS" in said("/c")
    assert "variants by X-Lang" in said("/v", "-H", "X-Lang: de") and "asked whether" in said("/v", "-H", "X-Lang: de")
    assert "does not have it" in said("/v", "-H", "X-Lang: en")
    assert op.say("ctl", "cache", "purge", "url", "http://test/a", "soft").returncode == 0
    assert "purged softly: the server would be asked" in said("/a")
    assert len(origin.requests) == 4 and "hits                     0" in op.say("ctl", "cache", "stats").stdout


def test_numbers_by_host(operated, origin):
    origin.on("/", fresh(b"x"))
    op = operated("CacheBypass \"%{query} == 'no'\"")
    for host in ("A.test", "a.test:80", "a.test", "b.test", "b.test", "made-up.test"):
        op.s.get("/", host=host)
    op.s.get("/?no", host="b.test")

    def numbers():
        rows = json.loads(op.say("ctl", "cache", "hosts", "--json").stdout)
        return {r["host"]: (r["hits"], r["misses"], r["bypassed"]) for r in rows}
    want = {"(others)": (0, 4, 0), "a.test": (1, 0, 0), "b.test": (1, 0, 1)}
    assert numbers() == want
    op.reload()
    assert numbers() == want, "they outlive a reload"
    assert ["a.test", "1", "0", "0", "0", "0"] in [l.split()[:6] for l in op.say("ctl", "cache", "hosts").stdout.splitlines()]
    for i in range(3):
        for name in (f"h{n}.test" for n in range(1200 if i == 2 else 20)):
            op.s.get("/", host=name)
    assert len(numbers()) == 23, "names nobody has a hit for take no room"
