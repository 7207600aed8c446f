"""mod_cache_disk: what is stored, how it is given, one fetch for many, purges."""
import json
import os
import socket
import threading
import time
from email.utils import formatdate, parsedate_to_datetime

import pytest
from conftest import MODULES
from origin import reply
from test_reload import Operator

BASE = "LoadModule route\nLoadModule headers\nLoadModule cache_disk\n"


@pytest.fixture
def cached(sluice, origin, tmp_path):
    """cached(lines): Cache on before the origin."""
    def start(text="", disk="size=64m memory=16m", **k):
        s = sluice(BASE + f"CacheDisk {tmp_path}/cache {disk}\nCache on\nHeader set X-Cache %{{cache_status}} always\n"
                   f"{text}\nProxyPass {origin}\n", **k)
        s.tmp = tmp_path
        return s
    return start


def fresh(body=b"x", age=60, **more):
    return reply(200, body, [("Cache-Control", f"max-age={age}")] + [(k.replace("_", "-"), v) for k, v in more.items()])


def status(r):
    return r.get("X-Cache")


def asked(origin, path="/"):
    return len([r for r in origin.requests if r.target == path])


# ---- hit and miss ----

@pytest.mark.parametrize("n", [0, 1, 1000, 65536, 65537, 300000, 5000000])
def test_second_answer_is_from_the_cache(cached, origin, n):
    body = os.urandom(n)
    origin.on("/", fresh(body, X_Own="1", ETag='"a"'))
    s = cached()
    c = s.client()
    r = c.request("GET", "/")
    assert r.status == 200 and r.body == body and status(r) == "MISS" and "fwd=uri-miss" in r.get("Cache-Status")
    time.sleep(0.5 if n > 256 * 1024 else 0)  # large ones are found when they have been written
    for _ in range(3):
        r = c.request("GET", "/")
        assert r.body == body and status(r) == "HIT" and r.get("X-Own") == "1" and r.get("ETag") == '"a"'
        assert r.get("Content-Length") == str(n) and "hit" in r.get("Cache-Status") and int(r.get("Age")) <= 2
    r = c.request("HEAD", "/")
    assert status(r) == "HIT" and r.get("Content-Length") == str(n) and r.body == b""
    c.close()
    assert asked(origin) == 1


def test_date_is_added(cached, origin):
    origin.on("/", fresh())
    origin.on("/private", reply(200, b"x", [("Cache-Control", "private")]))
    origin.on("/own", fresh(Date="Thu, 01 Jan 2026 00:00:00 GMT", age=10 ** 9))
    s = cached()
    first = s.get("/")
    assert abs(parsedate_to_datetime(first.get("Date")).timestamp() - time.time()) < 5
    time.sleep(1.1)
    again = s.get("/")
    assert status(again) == "HIT" and again.get("Date") == first.get("Date"), "when it was made, not when it is given"
    assert s.get("/private").get("Date") and s.get("/own").get("Date") == s.get("/own").get("Date") == "Thu, 01 Jan 2026 00:00:00 GMT"


def test_chunked_response(cached, origin):
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
              or [c.send(b"5\r\nhello\r\n") or time.sleep(0.02) for _ in range(5)] and c.send(b"0\r\n\r\n") or True)
    s = cached()
    assert s.get("/").body == b"hello" * 5
    r = s.get("/")
    assert r.body == b"hello" * 5 and status(r) == "HIT" and r.get("Content-Length") == "25"


def test_head_fetches_all(cached, origin):
    origin.on("/", fresh(b"12345"))
    s = cached()
    r = s.get("/", method="HEAD")
    assert r.get("Content-Length") == "5" and origin.requests[0].method == "GET"
    assert status(s.get("/")) == "HIT" and s.get("/").body == b"12345"


@pytest.mark.parametrize("fields, stored", [
    ([("Cache-Control", "max-age=60")], True),
    ([("Cache-Control", "s-maxage=60, max-age=0")], True),
    ([("Cache-Control", "max-age=60, s-maxage=0")], False),
    ([("Expires", 1000)], True),
    ([("Expires", "0")], False),
    ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], True),
    ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], False),
    ([("Last-Modified", -100000)], True),
    ([("Cache-Control", "no-store, max-age=60")], False),
    ([("Cache-Control", "private, max-age=60")], False),
    ([("Cache-Control", "max-age=60"), ("Set-Cookie", "a=b")], False),
    ([("Cache-Control", "max-age=60"), ("Vary", "*")], False),
    ([("Cache-Control", "max-age=60"), ("Age", "61")], False),
    ([], False),
], ids=str)
def test_what_is_stored(cached, origin, fields, stored):
    origin.on("/", reply(200, b"x", [(k, formatdate(time.time() + v, usegmt=True) if isinstance(v, int) else v)
                                     for k, v in fields]))
    s = cached()
    s.get("/")
    assert (status(s.get("/")) == "HIT") == stored


def test_unstorable_goes_straight_for_a_while(cached, origin):
    origin.on("/", reply(200, b"y" * 200000, [("Cache-Control", "private")]))
    s = cached()
    for _ in range(4):
        r = s.get("/")
        assert r.body == b"y" * 200000 and status(r) == "MISS"
    assert asked(origin) == 4


def test_authorization(cached, origin):
    origin.on("/", fresh())
    origin.on("/public", reply(200, b"x", [("Cache-Control", "public, max-age=60")]))
    s = cached()
    for path, hit in (("/", "MISS"), ("/public", "HIT")):
        s.get(path, {"Authorization": "Basic x"})
        assert status(s.get(path, {"Authorization": "Basic x"})) == hit


def test_query_host_and_key(cached, origin):
    for path in ("/a", "/b"):
        origin.on(path, fresh(path.encode()))
    s = cached("<Location /b>\nCacheKey one\n</Location>")
    assert [status(s.get(p, host=h)) for p, h in (("/a?1", "x"), ("/a?2", "x"), ("/a?1", "y"), ("/a?1", "X"))] == \
        ["MISS", "MISS", "MISS", "HIT"]
    assert [status(s.get(p)) for p in ("/b?1", "/b?2")] == ["MISS", "HIT"]


# ---- variants ----

def test_vary(cached, origin):
    def vary(c, r):
        c.send(fresh(f"{r.get('X-Lang')}".encode(), Vary="X-Lang, Accept-Encoding"))
        return True
    origin.on("/", vary)
    s = cached()
    for lang in ("de", "en", None):
        f = {"X-Lang": lang} if lang else {}
        assert status(s.get("/", f)) == "MISS"
    for lang in ("de", "en", None):
        r = s.get("/", {"X-Lang": lang} if lang else {})
        assert status(r) == "HIT" and r.body == str(lang).encode() and r.get("Vary") == "X-Lang, Accept-Encoding"
    for coding in ("gzip, br", "br;q=0.5,gzip;q=0.9", "GZIP,br"):
        r = s.get("/", {"X-Lang": "de", "Accept-Encoding": coding})
    assert status(r) == "HIT", "one variant for all who accept the same"
    assert len(origin.requests) == 4


# ---- validation ----

def validated(etag='"a"', again=1):
    def answer(c, r):
        if r.get("If-None-Match") == etag:
            c.send(f"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age={again}\r\nX-New: 2\r\nETag: {etag}\r\n\r\n".encode())
        else:
            c.send(reply(200, b"body", [("Cache-Control", "max-age=1"), ("ETag", etag), ("X-New", "1")]))
        return True
    return answer


def test_revalidation(cached, origin):
    origin.on("/", validated(again=60))
    s = cached()
    assert status(s.get("/")) == "MISS"
    time.sleep(2.1)
    r = s.get("/")
    assert status(r) == "REVALIDATED" and r.body == b"body" and r.get("X-New") == "2" and r.status == 200
    assert status(s.get("/")) == "HIT" and s.get("/").get("X-New") == "2"
    assert len(origin.requests) == 2


def test_no_cache_is_always_asked(cached, origin):
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 304 Not Modified\r\n\r\n" if r.get("If-None-Match") else
                                       reply(200, b"b", [("Cache-Control", "no-cache"), ("ETag", '"1"'),
                                                         ("Expires", formatdate(time.time() + 99, usegmt=True))])) or True)
    s = cached()
    assert [status(s.get("/")) for _ in range(3)] == ["MISS", "REVALIDATED", "REVALIDATED"]


def test_conditions_are_answered(cached, origin):
    modified = formatdate(time.time() - 1000, usegmt=True)
    origin.on("/", fresh(b"abc", ETag='"v1"', Last_Modified=modified))
    s = cached()
    s.get("/")
    for fields, code in (({"If-None-Match": '"v1"'}, 304), ({"If-None-Match": 'W/"v1"'}, 304),
                         ({"If-None-Match": '"x", "v1"'}, 304), ({"If-None-Match": '"x"'}, 200),
                         ({"If-None-Match": '*'}, 304), ({"If-Modified-Since": modified}, 304),
                         ({"If-None-Match": '"x"', "If-Modified-Since": modified}, 200)):
        r = s.get("/", fields)
        assert r.status == code, fields
        if code == 304:
            assert r.get("ETag") == '"v1"' and r.body == b"" and r.get("Content-Type") is None
    assert len(origin.requests) == 1


@pytest.mark.parametrize("name", ["If-Match", "If-Unmodified-Since"])
def test_conditions_for_servers_alone(cached, origin, name):
    origin.on("/", lambda c, r: c.send(reply(412, b"") if r.get(name) == "no" else fresh(b"abc", ETag='"v1"')) or True)
    s = cached()
    s.get("/")
    assert [s.get("/", {name: word}).status for word in ("yes", "no")] == [200, 412]
    assert len(origin.requests) == 3 and status(s.get("/")) == "HIT"


def test_what_clients_wish(cached, origin):
    origin.on("/", validated())
    s = cached()
    assert s.get("/", {"Cache-Control": "only-if-cached"}).status == 504
    s.get("/")
    assert status(s.get("/", {"Cache-Control": "no-cache"})) == "REVALIDATED"
    assert status(s.get("/", {"Pragma": "no-cache"})) == "REVALIDATED"
    assert status(s.get("/", {"Cache-Control": "min-fresh=100"})) == "REVALIDATED"
    assert status(s.get("/", {"Cache-Control": "only-if-cached"})) == "HIT"
    time.sleep(2.1)
    assert status(s.get("/", {"Cache-Control": "max-stale=100"})) == "STALE"
    origin.on("/ns", fresh())
    s.get("/ns", {"Cache-Control": "no-store"})
    assert status(s.get("/ns")) != "HIT"


# ---- ranges ----

def test_ranges(cached, origin):
    body = bytes(range(256)) * 1000
    origin.on("/", fresh(body, ETag='"r"', Content_Type="a/b"))
    s = cached()
    s.get("/")
    for spec, part, said in (("bytes=0-9", body[:10], "0-9"), ("bytes=255990-", body[-10:], "255990-255999"),
                             ("bytes=-5", body[-5:], "255995-255999"), ("bytes=100000-199999", body[100000:200000], None),
                             ("bytes=0-999999", body, "0-255999")):
        r = s.get("/", {"Range": spec})
        assert r.status == 206 and r.body == part and r.get("Content-Length") == str(len(part))
        assert said is None or r.get("Content-Range") == f"bytes {said}/256000"
    r = s.get("/", {"Range": "bytes=256000-"})
    assert r.status == 416 and r.get("Content-Range") == "bytes */256000"
    for spec in ("bytes=9-0", "bits=0-1", "bytes=a-", "bytes=0-200000,0-200000"):
        assert s.get("/", {"Range": spec}).status == 200
    assert s.get("/", {"Range": "bytes=0-1", "If-Range": '"r"'}).status == 206
    assert s.get("/", {"Range": "bytes=0-1", "If-Range": '"q"'}).status == 200
    r = s.get("/", {"Range": "bytes=0-1,10-19,-3"})
    assert r.status == 206 and r.get("Content-Length") == str(len(r.body))
    boundary = r.get("Content-Type").split("boundary=")[1].encode()
    parts = r.body.split(b"--" + boundary)
    assert len(parts) == 5 and parts[4] == b"--\r\n"
    assert parts[2] == (b"\r\nContent-Type: a/b\r\nContent-Range: bytes 10-19/256000\r\n\r\n" + body[10:20] + b"\r\n")
    assert len(origin.requests) == 1


def test_range_of_a_miss_stores_the_whole(cached, origin):
    body = os.urandom(100000)
    origin.on("/", fresh(body))
    s = cached()
    r = s.get("/", {"Range": "bytes=5-14"})
    assert r.status == 206 and r.body == body[5:15] and origin.requests[0].get("Range") is None
    assert s.get("/").body == body and len(origin.requests) == 1


# ---- stale ----

def failing(origin, path="/"):
    origin.on(path, lambda c, r: c.sock.close() or False)


def test_use_stale_on_error(cached, origin):
    origin.on("/", fresh(b"old", age=1))
    origin.on("/m", reply(200, b"old", [("Cache-Control", "max-age=1, must-revalidate")]))
    s = cached("CacheUseStale error 503").expect("SL0505", "SL0501")
    s.get("/")
    s.get("/m")
    time.sleep(2.1)
    failing(origin)
    failing(origin, "/m")
    r = s.get("/")
    assert status(r) == "STALE" and r.body == b"old" and r.status == 200
    assert r.get("Cache-Status").startswith("sluice; fwd=stale; ttl=-")
    assert s.get("/m").status == 502, "must-revalidate"
    origin.on("/", reply(503, b"no"))
    assert status(s.get("/")) == "STALE"
    origin.on("/", reply(500, b"no"))
    r = s.get("/")
    assert r.status == 500 and r.body == b"no"
    origin.on("/", fresh(b"new"))
    assert s.get("/").body == b"new" and status(s.get("/")) == "HIT"


def test_stale_while_revalidate(cached, origin):
    origin.on("/", reply(200, b"old", [("Cache-Control", "max-age=1, stale-while-revalidate=100")]))
    s = cached()
    s.get("/")
    time.sleep(2.1)
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(fresh(b"new")) or True)
    for _ in range(3):
        r = s.get("/")
        assert r.body == b"old" and status(r) == "UPDATING"
    hold.set()
    for _ in range(100):
        r = s.get("/")
        if r.body == b"new":
            break
        time.sleep(0.02)
    assert r.body == b"new" and len(origin.requests) == 2


def test_stale_if_error(cached, origin):
    origin.on("/", reply(200, b"old", [("Cache-Control", "max-age=1, stale-if-error=100")]))
    s = cached().expect("SL0505", "SL0501")
    s.get("/")
    time.sleep(2.1)
    failing(origin)
    assert s.get("/").body == b"old"


# ---- one fetch for many ----

def test_one_fetch_for_many(cached, origin):
    hold, first = threading.Event(), os.urandom(50000)

    def slow(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\n" + first)
        hold.wait(10)
        c.send(first)
        return True
    origin.on("/", slow)
    s = cached()
    clients = [s.client() for _ in range(50)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    heads = [c.until(b"\r\n\r\n") for c in clients]
    assert sum(b"fwd=uri-miss; stored; collapsed" in h for h in heads) == 49
    for c in clients:
        assert c.exactly(50000) == first, "what has come is given at once"
    clients[0].close()
    hold.set()
    for c in clients[1:]:
        assert c.exactly(50000) == first
        c.close()
    assert len(origin.requests) == 1 and status(s.get("/")) == "HIT"


@pytest.mark.parametrize("parts", [[b"", b"small"], [b"sma", b"ll"], [b"small"]], ids=["behind", "parts", "at once"])
def test_small_body_by_itself_and_in_parts(cached, origin, parts):
    hold = [threading.Event() for _ in parts]

    def script(c, r):
        for i, part in enumerate(parts):
            hold[i].wait(5)
            head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n" if i == 0 else b""
            c.send(head + part)
        return True
    origin.on("/", script)
    s = cached()
    clients = [s.client() for _ in range(4)]
    for i, event in enumerate(hold):
        for c in clients[2 * i:2 * i + 2]:
            c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.2)
        event.set()
        time.sleep(0.2)
    got = [c.response() for c in clients[:2 * len(parts)]]
    assert all(r.status == 200 and r.body == b"small" and r.get("Content-Length") == "5" for r in got)
    assert sum("collapsed" in r.get("Cache-Status") for r in got) == len(got) - 1
    assert status(s.get("/")) == "HIT" and len(origin.requests) == 1


def test_head_alone_is_no_answer(cached, origin):
    hold = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\n"
    origin.on("/", lambda c, r: hold.wait(5) and c.send(head) or False)
    s = cached().expect("SL0509")
    clients = [s.client() for _ in range(3)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    hold.set()
    assert [c.response().status for c in clients] == [502] * 3 and len(origin.requests) == 1
    origin.on("/", fresh(b"whole"))
    assert s.get("/").body == b"whole" and status(s.get("/")) == "HIT"


def test_first_client_leaves(cached, origin):
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(fresh(b"z" * 1000)) or True)
    s = cached()
    a, b = s.client(), s.client()
    a.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    b.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    a.close()
    hold.set()
    assert b.response().body == b"z" * 1000 and len(origin.requests) == 1


def test_waiters_of_a_private_response_go_their_own_way(cached, origin):
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(reply(200, r.get("X-Me").encode(), [("Cache-Control", "private")])) or True)
    s = cached()
    clients = [s.client() for _ in range(6)]
    for i, c in enumerate(clients):
        c.send(f"GET / HTTP/1.1\r\nHost: test\r\nX-Me: {i}\r\n\r\n")
    time.sleep(0.2)
    assert len(origin.requests) == 1
    hold.set()
    for i, c in enumerate(clients):
        assert c.response().body == str(i).encode()


def test_failed_fetch_fails_all_who_waited(cached, origin):
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.sock.close() or False)
    s = cached().expect("SL0505", "SL0501", "SL0509")
    clients = [s.client() for _ in range(4)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    hold.set()
    assert [c.response().status for c in clients] == [502] * 4
    origin.on("/", fresh())
    assert s.get("/").status == 200


def test_truncated_is_never_whole(cached, origin):
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1000000\r\n\r\n" +
                                       b"t" * 500000) or False)
    s = cached().expect("SL0509")
    got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert len(got) < 1000000
    origin.on("/", fresh(b"whole"))
    assert s.get("/").body == b"whole"


# ---- conditions, sizes, uses ----

def test_bypass_no_store_and_uses(cached, origin):
    for path in ("/", "/n", "/u"):
        origin.on(path, fresh(b"x" * 100))
    s = cached("CacheBypass \"%{cookie:session} != ''\"\n<Location /n>\nCacheNoStore \"%{status} == 200\"\n</Location>\n"
               "<Location /u>\nCacheMinUses 3\n</Location>\n")
    assert [status(s.get("/", {"Cookie": "session=1"})) for _ in range(2)] == ["BYPASS", "BYPASS"]
    assert status(s.get("/")) == "MISS" and status(s.get("/")) == "HIT"
    assert "HIT" not in [status(s.get("/n")) for _ in range(3)]
    assert [status(s.get("/u")) for _ in range(4)] == ["MISS", "MISS", "MISS", "HIT"]


def test_min_uses_beyond_a_byte(cached, origin):
    origin.on("/", fresh())
    s = cached("CacheMinUses 300")
    c = s.client()
    assert [status(c.request("GET", "/")) for _ in range(302)].index("HIT") == 300
    c.close()


def test_max_object(cached, origin):
    origin.on("/", fresh(b"x" * 5000))
    origin.on("/c", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
                                        b"1388\r\n" + b"y" * 5000 + b"\r\n0\r\n\r\n") or True)
    s = cached("CacheMaxObject 4k")
    for path in ("/", "/c"):
        for _ in range(3):
            r = s.get(path)
            assert len(r.body) == 5000 and status(r) != "HIT"


def test_valid_and_ignore(cached, origin):
    origin.on("/", reply(200, b"x"))
    origin.on("/404", reply(404, b"x"))
    origin.on("/i", reply(200, b"x", [("Cache-Control", "no-store"), ("Set-Cookie", "a=b")]))
    s = cached("CacheValid 1h\nCacheValid 404 10m\n<Location /i>\nCacheIgnore Cache-Control Set-Cookie\n</Location>\n")
    for path in ("/", "/404", "/i"):
        s.get(path)
        r = s.get(path)
        assert status(r) == "HIT" and r.get("Set-Cookie") is None


def test_methods_that_change(cached, origin):
    for path in ("/", "/other"):
        origin.on(path, lambda c, r: c.send(fresh(b"g") if r.method == "GET" else
                                            reply(200, b"p", [("Location", "/other")])) or True)
    s = cached()
    for path in ("/", "/other"):
        s.get(path)
        assert status(s.get(path)) == "HIT"
    assert s.get("/", method="POST", body=b"x").body == b"p"
    assert status(s.get("/")) == "MISS" and status(s.get("/other")) == "MISS"


def test_purge_that_is_the_servers_changes_too(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh() if r.method == "GET" else reply(200, b"p")) or True)
    s = cached()
    s.get("/")
    assert s.get("/", method="PURGE").body == b"p" and status(s.get("/")) == "MISS"


# ---- purging and looking ----

@pytest.fixture
def operated(sluice, origin, tmp_path):
    def start(text=""):
        return Operator(sluice, BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\n"
                        f"Header set X-Cache %{{cache_status}} always\n{text}\nProxyPass {origin}\n")
    return start


def test_purges(operated, origin):
    for path in ("/a", "/b", "/dir/c", "/dir/d"):
        origin.on(path, fresh(b"x", Surrogate_Key=f"all {path[-1]}"))
    op = operated()

    def state():
        return "".join(status(op.s.get(p, host="h.test"))[0] for p in ("/a", "/b", "/dir/c", "/dir/d"))
    assert state() == "MMMM" and state() == "HHHH"
    for words, left in ((("url", "http://H.test/a"), "MHHH"), (("tag", "b"), "HMHH"),
                        (("prefix", "http://h.test/dir/"), "HHMM"), (("host", "H.test"), "MMMM"),
                        (("tag", "all"), "MMMM"), (("all",), "MMMM")):
        r = op.say("ctl", "cache", "purge", *words)
        assert r.returncode == 0 and "purged" in r.stdout, r.stdout + r.stderr
        assert state() == left, words
        assert state() == "HHHH"
    assert op.s.get("/a", host="h.test").get("Surrogate-Key") is None, "for the cache alone"
    assert op.say("ctl", "cache", "purge", "url", "http://h.test/a", "soft").returncode == 0
    assert state() == "EHHH", "stale: it was fetched anew"
    for words in ((), ("url",), ("all", "x"), ("nothing", "x")):
        assert op.say("ctl", "cache", "purge", *words).returncode == 2


def test_looks_into_it(operated, origin):
    origin.on("/a", fresh(b"x" * 100))
    op = operated()
    for _ in range(3):
        op.s.get("/a", host="h.test")
    r = op.say("ctl", "cache", "get", "http://h.test/a")
    assert "size      100" in r.stdout and "status    200" in r.stdout and "state     good" in r.stdout
    assert op.say("ctl", "cache", "get", "http://h.test/b").returncode == 1
    assert "http://h.test/a" in op.say("ctl", "cache", "top").stdout
    origin.on("/q", fresh(b"x", Surrogate_Key='a"b c'))
    origin.on("/p", reply(200, b"x", [("Cache-Control", "private")]))
    op.s.get("/q", host="h.test"), op.s.get("/p", host="h.test")
    got = {p: json.loads(op.say("ctl", "cache", "get", f"http://h.test/{p}", "--json").stdout) for p in "aqp"}
    assert got["a"]["size"] == 100 and got["a"]["stored"] and got["a"]["state"] == "good" and got["a"]["hits"] >= 2
    assert got["q"]["tags"] == 'a"b c'
    assert got["p"] == {"key": "http://h.test/p", "because": "the server says private", "stored": False}
    top = json.loads(op.say("ctl", "cache", "top", "--json").stdout)
    assert (top[0]["key"], top[0]["size"], len(top)) == ("http://h.test/a", 100, 2) and top[0]["hits"] >= 3
    assert "hits                     2" in op.say("ctl", "cache", "stats").stdout
    assert op.say("ctl", "cache", "stats", "--json").stdout.startswith("{")
    assert op.say("ctl", "cache").returncode == 2


def test_reloads_and_crashes_keep_it(operated, origin):
    origin.on("/", fresh(b"kept"))
    op = operated()
    op.s.expect("SL0220", "SL0221", "SL0240", "SL0241", "SL0222", "died", "ended by signal 9")
    op.s.get("/")
    time.sleep(0.5)
    for n in range(3):
        if n == 1:
            os.kill(op.serving(), 9)
        else:
            op.reload()
        for _ in range(200):
            try:
                r = op.s.get("/")
                if status(r) == "HIT":
                    break
            except (OSError, EOFError):
                pass
            time.sleep(0.02)
        assert status(r) == "HIT" and r.body == b"kept", n
    assert len(origin.requests) <= 2


def test_restart_keeps_it(sluice, origin, tmp_path):
    conf = BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}}\nProxyPass {origin}\n"
    big = os.urandom(700000)
    origin.on("/", fresh(b"kept"))
    origin.on("/big", fresh(big))
    s = sluice(conf)
    s.get("/")
    s.get("/big")
    s.stop()
    s = sluice(conf)
    for _ in range(100):
        r = s.get("/")
        if status(r) == "HIT":
            break
        time.sleep(0.02)
    assert status(r) == "HIT" and r.body == b"kept"
    r = s.get("/big")
    assert status(r) == "HIT" and r.body == big


def test_purge_method(cached, origin):
    origin.on("/", fresh())
    origin.on("/no", fresh())
    s = cached("CachePurge 127.0.0.1\n<Location /no>\nCachePurge - 10.0.0.0/8\n</Location>\n")
    s.get("/")
    assert s.get("/no", method="PURGE").status == 403
    assert status(s.get("/")) == "HIT"
    assert s.get("/", method="PURGE").status == 200
    assert status(s.get("/")) == "MISS"


@pytest.mark.parametrize("line, what", [
    ("Cache on", "CacheDisk /var/cache/sluice"), ("CacheDisk relative", "absolute path"),
    ("CacheDisk /x size=1k", "expected size="), ("CacheValid 99 1h", "between 200 and 599"),
    ("CacheValid 200", "expected a time"), ("CacheDisk off\nCache on\nCacheUseStale sometimes", "expected error, timeout"),
    ("CacheDisk off\nCache on\nCacheIgnore all", "expected Cache-Control, Expires"),
    ("CacheDisk off\nCache on\nCacheMinUses 65536", "expected 1 to 65535"),
])
def test_refused(refused, line, what):
    assert what in refused(BASE + line + "\nReturn 200 ok\n")


def test_explained(cached, origin, tmp_path):
    import subprocess
    from conftest import MODULES, PROGRAM
    s = cached("CacheBypass \"%{query} contains 'nocache'\"")
    for url, what in (("http://test/a", "the key is http://test/a"), ("http://test/a?nocache", "CacheBypass holds")):
        r = subprocess.run([PROGRAM, "-E", f"GET {url}", "-f", s.conf, "--module-dir", MODULES], capture_output=True,
                           text=True, timeout=20)
        assert what in r.stdout, r.stdout + r.stderr


# ---- hostile servers and clients ----

@pytest.mark.parametrize("control", ["max-age=60", "private"])
def test_length_beyond_32_bits(cached, origin, control):
    origin.on("/", lambda c, r: c.send(f"HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 3221225472\r\n\r\nabc"
                                       .encode()) or time.sleep(0.3) or False)
    s = cached(disk="size=16g memory=16m").expect("SL0509")
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"\r\nContent-Length: 3221225472\r\n" in c.until(b"\r\n\r\n") + b"\r\n"
    c.rest()


def agreeing(origin, first, *second):
    """A server that has `first` for those who ask for all, and says 304 with `second` to the others."""
    def script(c, r):
        if r.get("If-None-Match"):
            c.send("\r\n".join(("HTTP/1.1 304 Not Modified", *second)).encode() + b"\r\n\r\n")
        else:
            c.send(first)
        return True
    origin.on("/", script)


def test_cookie_of_a_304_is_for_nobody_else(cached, origin):
    agreeing(origin, fresh(b"x", 0, ETag='"a"'), 'ETag: "a"', "Cache-Control: max-age=60", "Set-Cookie: session=1")
    s = cached()
    answers = [s.get("/") for _ in range(3)]
    assert [status(r) for r in answers] == ["MISS", "REVALIDATED", "HIT"]
    assert [r.get("Set-Cookie") for r in answers] == [None] * 3


def test_304_that_may_not_be_stored(cached, origin):
    agreeing(origin, fresh(b"x", 0, ETag='"a"'), 'ETag: "a"', "Cache-Control: private, max-age=60", "X-Own: 1")
    s = cached()
    answers = [s.get("/") for _ in range(3)]
    assert [status(r) for r in answers] == ["MISS", "REVALIDATED", "REVALIDATED"]
    assert [r.get("X-Own") for r in answers] == [None] * 3


def test_304_of_another_response(cached, origin):
    agreeing(origin, fresh(b"x", 0, ETag='"a"'), 'ETag: "b"', "Cache-Control: max-age=60", "Content-Encoding: gzip")
    s = cached()
    for _ in range(4):
        r = s.get("/")
        assert r.status == 200 and r.body == b"x" and r.get("ETag") == '"a"' and r.get("Content-Encoding") is None


def test_304_describes_no_other_body(cached, origin):
    agreeing(origin, fresh(b"x", 0, ETag='"a"', Link="<1>"), 'ETag: W/"a"', "Cache-Control: max-age=60",
             "Content-Encoding: gzip", "Content-Range: bytes 0-0/9", "Content-Length: 9")
    s = cached()
    s.get("/"), s.get("/")
    r = s.get("/")
    assert status(r) == "HIT" and r.body == b"x" and r.get("Content-Length") == "1" and r.get("Link") == "<1>"
    assert r.get("Content-Encoding") is None and r.get("Content-Range") is None


def test_304_does_not_forget_must_revalidate(cached, origin):
    soon = formatdate(time.time() + 1, usegmt=True)
    agreeing(origin, reply(200, b"x", [("Cache-Control", "max-age=0, must-revalidate"), ("ETag", '"a"')]),
             'ETag: "a"', f"Expires: {soon}")
    s = cached("CacheUseStale 500")
    assert [status(s.get("/")) for _ in range(2)] == ["MISS", "REVALIDATED"]
    origin.on("/", reply(500))
    time.sleep(2.1)
    assert s.get("/").status == 500


def test_tags_outlive_a_304(operated, origin):
    agreeing(origin, fresh(b"x", 0, ETag='"a"', Surrogate_Key="one two"), 'ETag: "a"', "Cache-Control: max-age=60")
    op = operated()
    assert [status(op.s.get("/")) for _ in range(3)] == ["MISS", "REVALIDATED", "HIT"]
    assert op.say("ctl", "cache", "purge", "tag", "two").returncode == 0
    assert status(op.s.get("/")) == "MISS"


@pytest.mark.parametrize("fields", [{"Cache-Control": "no-cache, no-store"},
                                    {"Cache-Control": "no-cache", "Authorization": "x"}], ids=str)
def test_no_client_turns_the_cache_off(cached, origin, fields):
    origin.on("/", fresh())
    s = cached()
    assert [status(s.get("/")) for _ in range(2)] == ["MISS", "HIT"]
    assert s.get("/", fields).status == 200
    assert status(s.get("/")) == "HIT"
    origin.on("/new", fresh())
    assert s.get("/new", fields).status == 200
    assert [status(s.get("/new")) for _ in range(2)] == ["MISS", "HIT"]


@pytest.mark.parametrize("method", ["PURGE", "POST"])
def test_forgetting_takes_all_variants(cached, origin, method):
    age = ["old"]
    origin.on("/", lambda c, r: c.send(fresh(f"{age[0]} {r.get('X-Lang')}".encode(), Vary="X-Lang")) or True)
    s = cached("CachePurge 127.0.0.0/8")
    for _ in range(2):
        for lang in ("de", "en"):
            r = s.get("/", {"X-Lang": lang})
    assert status(r) == "HIT"
    age[0] = "new"
    assert s.get("/", method=method, body=b"x" if method == "POST" else b"").status == 200
    for lang in ("de", "en", "de", "en"):
        r = s.get("/", {"X-Lang": lang})
        assert r.body == f"new {lang}".encode()
    assert status(r) == "HIT"


@pytest.mark.parametrize("vary", [{}, {"Vary": "X-Lang"}], ids=str)
@pytest.mark.parametrize("method", ["PURGE", "POST"])
def test_forgetting_takes_what_is_under_way(cached, origin, method, vary):
    hold = threading.Event()

    def script(c, r):
        if r.method == "GET":
            hold.wait(5)
        c.send(fresh(b"old", **vary) if r.method == "GET" else reply(200))
        return True
    origin.on("/", script)
    s = cached("CachePurge 127.0.0.0/8")
    first, second = s.client(), s.client()
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    assert s.get("/", method=method, body=b"x" if method == "POST" else b"").status == 200
    second.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    assert len([r for r in origin.requests if r.method == "GET"]) == 2, "who comes later asks for himself"
    hold.set()
    assert first.response().body == b"old" and second.response().body == b"old"
    origin.on("/", fresh(b"new"))
    assert s.get("/", method=method, body=b"x" if method == "POST" else b"").status == 200
    assert s.get("/").body == b"new"


def test_chunked_beyond_max_object_is_forgotten(cached, origin):
    body = b"z" * 1500000
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
                                       + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n") or True)
    s = cached("CacheMaxObject 100k")
    for _ in range(3):
        r = s.get("/")
        assert r.body == body and status(r) == "MISS"
        time.sleep(0.5)


@pytest.mark.parametrize("coding", ["compress", "identity;q=0", "*;q=0, compress;q=0.5", "gzip;q=0, Compress"])
def test_no_variant_of_another_coding(cached, origin, coding):
    origin.on("/", lambda c, r: c.send(fresh(b"other" if r.get("Accept-Encoding") else b"plain", Vary="Accept-Encoding")) or True)
    s = cached()
    for _ in range(2):
        assert s.get("/", {"Accept-Encoding": coding}).body == b"other"
    assert s.get("/").body == b"plain"


def test_no_key_is_that_of_anothers_variant(cached, origin):
    origin.on("/a", lambda c, r: c.send(fresh(b"good", Vary="X-Lang")) or True)
    origin.on("/a%0aX-Lang:de", fresh(b"evil"))
    s = cached("CacheKey %{host}%{path}")
    assert s.get("/a", {"X-Lang": "en"}).body == b"good"
    for _ in range(2):
        r = s.get("/a%0aX-Lang:de")
        assert r.body == b"evil"
    assert status(r) == "HIT"
    assert s.get("/a", {"X-Lang": "de"}).body == b"good"


def test_larger_than_the_store_is_given_after_all(sluice, origin):
    body = b"z" * 1500000
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
                                       + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n") or True)
    s = sluice(BASE + f"CacheDisk off memory=16m\nCache on\nProxyPass {origin}\n")
    for _ in range(3):
        assert s.get("/").body == body


@pytest.mark.parametrize("n, stored", [(250, True), (300, False)])
def test_all_tags_can_be_purged(operated, origin, n, stored):
    origin.on("/", fresh(b"x", Surrogate_Key=" ".join(f"t{i}" for i in range(n))))
    op = operated()
    assert [status(op.s.get("/")) for _ in range(2)] == ["MISS", "HIT" if stored else "MISS"]
    assert op.say("ctl", "cache", "purge", "tag", f"t{n - 1}").returncode == 0
    assert status(op.s.get("/")) == "MISS"


def test_varies_by_what_the_server_is_told(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh(r.get("X-Forwarded-For").encode(), Vary="x-forwarded-for")) or True)
    s = cached()
    for address in ("127.0.0.1", "127.0.0.2") * 2:
        c = s.client()
        c.close()
        c.sock = socket.create_connection(("127.0.0.1", s.port), source_address=(address, 0))
        assert c.request("GET", "/").body == address.encode()
        c.close()


def test_many_names_in_vary(cached, origin):
    origin.on("/", fresh(b"x", Vary=", ".join(f"N{i}" for i in range(1000))))
    s = cached()
    assert [status(s.get("/")) for _ in range(2)] == ["MISS", "HIT"]


def test_who_signed_in_shares_only_what_is_public(sluice, origin, tmp_path):
    if not os.path.exists(f"{MODULES}/mod_auth.so"):
        pytest.skip("built without mod_auth")
    from test_auth import BCRYPT, basic
    (tmp_path / "htpasswd").write_text(f"ann:{BCRYPT}\nbob:{BCRYPT}\n")
    origin.on("/own", fresh(b"ann's"))
    origin.on("/all", reply(200, b"all's", [("Cache-Control", "public, max-age=60")]))
    s = sluice(BASE + f"LoadModule auth\nCacheDisk {tmp_path}/cache size=64m\nCache on\nAuthBasic r {tmp_path}/htpasswd\n"
               f"Header set X-Cache %{{cache_status}} always\nProxyPass {origin}\n")
    ann, bob = basic("ann", "password"), basic("bob", "password")
    assert [status(s.get("/own", who)) for who in (ann, bob, ann)] == ["MISS"] * 3
    assert [status(s.get("/all", who)) for who in (ann, bob, ann)] == ["MISS", "HIT", "HIT"]
    assert s.get("/all").status == 401, "what is stored is behind the password, too"


# ---- what turns out not to be stored while many read it ----

def chunked(body, hold=None, at=0):
    """A server that does not say how much will come; hold: it waits for that before byte `at`."""
    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(body), 1 << 18):
            if hold is not None and i >= at:
                hold.wait(10)
            part = body[i:i + (1 << 18)]
            c.send(b"%x\r\n" % len(part) + part + b"\r\n")
        c.send(b"0\r\n\r\n")
        return True
    return script


class Reader(threading.Thread):
    """A client that reads its answer beside the others; slow: a pause after each piece."""

    def __init__(self, s, slow=0):
        super().__init__()
        self.c, self.slow, self.n, self.body = s.client(timeout=60), slow, 0, b""
        self.c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        self.head = self.c.until(b"\r\n\r\n")

    def pieces(self):
        if b"chunked" in self.head:
            while n := int(self.c.until(b"\r\n"), 16):
                yield self.c.exactly(n + 2)[:-2]
        else:
            length = int(self.head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            while self.n < length:
                yield self.c.exactly(min(1 << 18, length - self.n))

    def run(self):
        got = []
        try:
            for piece in self.pieces():
                got.append(piece)
                self.n += len(piece)
                time.sleep(self.slow)
        except EOFError:
            pass
        self.body = b"".join(got)
        self.c.close()


def read_by(s, hold, *slow):
    readers = [Reader(s, x) for x in slow]  # all have joined: the head has come
    for r in readers:
        r.start()
    hold.set()
    for r in readers:
        r.join()
    return [r.body for r in readers]


def test_too_large_after_all_reaches_all_who_read_it(cached, origin):
    from test_faults import GROWTH_MB, memory_mb
    body, hold = os.urandom(1 << 20) * 20, threading.Event()
    origin.on("/", chunked(body, hold, 1 << 19))
    s = cached("CacheMaxObject 1m")
    before = memory_mb(s.pids()[-1])
    assert all(b == body for b in read_by(s, hold, 0, 0, 0.005, 0))
    assert memory_mb(s.pids()[-1]) < before + GROWTH_MB
    assert len(origin.requests) == 1
    assert (s.tmp / "cache" / "objects").stat().st_blocks * 512 < 6 << 20, "it is not written"
    for _ in range(2):
        r = s.get("/")
        assert r.body == body and status(r) == "MISS", "the next go past the cache"
    assert len(origin.requests) == 3


@pytest.mark.parametrize("length", [False, True], ids=["chunked", "length"])
def test_disk_that_fails_in_the_middle_cuts_nobody(cached, origin, tmp_path, length):
    import resource
    from conftest import PROGRAM
    program = tmp_path / "no-signal-of-large-files"
    program.write_text(f'#!/bin/sh\ntrap "" XFSZ\nexec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    body, hold = os.urandom(1 << 20) * 8, threading.Event()
    origin.on("/", chunked(body, hold, 2 << 20) if not length else lambda c, r:
              c.send(fresh(body)[:3 << 20]) or hold.wait(10) and c.send(fresh(body)[3 << 20:]) or True)
    s = cached(program=str(program)).expect("CACHEDISK0101")
    readers = [Reader(s, x) for x in (0, 0.01, 0)]
    for r in readers:
        r.start()
    while min(r.n for r in readers) < 1 << 20:
        time.sleep(0.01)
    resource.prlimit(s.pids()[-1], resource.RLIMIT_FSIZE, (65536, 65536))
    hold.set()
    for r in readers:
        r.join()
    assert all(r.body == body for r in readers) and len(origin.requests) == 1
    assert s.logged("CACHEDISK0101") and s.get("/").body == body


@pytest.mark.parametrize("how", ["reload", "stop"])
def test_flights_are_finished(operated, sluice, origin, tmp_path, how):
    body, hold = os.urandom(1 << 20), threading.Event()
    origin.on("/", chunked(body, hold, 1 << 19))
    op = operated()
    readers = [Reader(op.s) for _ in range(4)]
    for r in readers:
        r.start()
    if how == "reload":
        op.reload()
    else:
        op.s.proc.terminate()
        time.sleep(0.1)
    hold.set()
    for r in readers:
        r.join()
    assert all(r.body == body for r in readers) and len(origin.requests) == 1
    if how == "stop":
        op.s.proc.wait(10)
        op = operated()
    for _ in range(200):
        r = op.s.get("/")
        if status(r) == "HIT":
            break
        time.sleep(0.02)
    assert status(r) == "HIT" and r.body == body, "what came to its end in between is there"


# ---- slices ----

K = 1024


class Film:
    """A server that knows ranges, of a large file."""

    def __init__(self, n=1000 * K + 7, etag='"v1"', **more):
        self.body, self.etag, self.more, self.asked, self.hold = os.urandom(n), etag, more, [], None

    def change(self, etag):
        self.body, self.etag = os.urandom(len(self.body)), etag

    def __call__(self, c, r):
        n, spec = len(self.body), r.get("Range")
        self.asked.append(spec)
        fields = [("Cache-Control", "max-age=60"), *((k.replace("_", "-"), v) for k, v in self.more.items())]
        if self.etag:
            fields.append(("ETag", self.etag))
        if self.etag and r.get("If-None-Match") == self.etag:
            c.send(reply(304, b"", fields, length=False))
        elif spec is None or (r.get("If-Range") or self.validator()) != self.validator():
            c.send(reply(200, self.body, fields))
        else:
            first, last = spec[6:].split("-")
            first, last = int(first), min(int(last or n), n) - (not last or int(last) >= n)
            if first >= n:
                c.send(reply(416, b"", [("Content-Range", f"bytes */{n}")]))
                return True
            part = reply(206, self.body[first:last + 1], fields + [("Content-Range", f"bytes {first}-{last}/{n}")])
            if self.hold and first == self.hold[0]:
                c.send(part[:-K])
                self.hold[1].wait(10)
                c.send(part[-K:])
            else:
                c.send(part)
        return True

    def validator(self):
        return self.etag or self.more.get("Last_Modified")

    def slices(self):
        """Which have been asked for since the last time."""
        asked, self.asked = self.asked, []
        return [int(s[6:].split("-")[0]) // (100 * K) for s in asked]


@pytest.fixture
def film(cached, origin):
    def start(lines="", **k):
        f = Film(**k)
        origin.on("/", f)
        return f, cached("CacheSlice 100k\n" + lines)
    return start


def test_slices(film):
    f, s = film()
    r = s.get("/")
    assert r.status == 200 and r.body == f.body and status(r) == "MISS" and r.get("Content-Range") is None
    assert f.slices() == list(range(11))
    for _ in range(3):
        r = s.get("/")
        assert r.body == f.body and status(r) == "HIT" and r.get("ETag") == '"v1"' and "hit" in r.get("Cache-Status")
        assert r.get("Content-Length") == str(len(f.body))
    r = s.get("/", method="HEAD")
    assert r.get("Content-Length") == str(len(f.body)) and status(r) == "HIT"
    assert s.get("/", {"If-None-Match": '"v1"'}).status == 304
    for a, b in ((0, 0), (5, 150 * K), (100 * K - 1, 100 * K), (999 * K, len(f.body) - 1)):
        r = s.get("/", {"Range": f"bytes={a}-{b}"})
        assert r.status == 206 and r.body == f.body[a:b + 1] and r.get("Content-Range") == f"bytes {a}-{b}/{len(f.body)}"
    r = s.get("/", {"Range": "bytes=500000-500009,-3,0-1"})
    assert r.status == 206 and all(x in r.body for x in (f.body[500000:500010], f.body[-3:], f.body[:2]))
    assert s.get("/", {"Range": "bytes=9999999-"}).status == 416 and f.slices() == []


def test_a_range_touches_its_slices_alone(film):
    f, s = film()
    for spec, part, want in (("500k", f.body[500 * K:510 * K], [5]), (None, f.body[-5:], [10]),
                             (None, f.body[-5:], []), ("250k", f.body[250 * K:260 * K], [2]),
                             ("500k", f.body[500 * K:510 * K], [])):
        at = int(spec[:-1]) * K if spec else 0
        r = s.get("/", {"Range": f"bytes={at}-{at + 10 * K - 1}" if spec else "bytes=-5"})
        assert r.status == 206 and r.body == part and f.slices() == want, spec
        assert ("partial" in r.get("Cache-Status")) == (spec != "500k" and want != [])
    assert s.get("/").body == f.body and f.slices() == [0, 1, 3, 4, 6, 7, 8, 9]
    f.asked = []
    s.get("/new", {"Range": "bytes=99999999-"}), s.get("/", {"Range": "bytes=99999999-"})
    assert s.get("/").body == f.body and f.slices() == []


def test_a_range_beyond_the_end_harms_nobody(film):
    f, s = film()
    assert s.get("/", {"Range": "bytes=99999999-"}).status == 416
    assert status(s.get("/")) == "MISS" and status(s.get("/")) == "HIT"


def test_one_fetch_of_a_slice(film):
    f, s = film()
    hold = threading.Event()
    f.hold = (500 * K, hold)
    clients = [s.client() for _ in range(8)]
    for i, c in enumerate(clients):
        c.send("GET / HTTP/1.1\r\nHost: test\r\n" + (f"Range: bytes={510 * K + i}-\r\n" if i % 2 else "") + "\r\n")
    time.sleep(0.3)
    clients[0].close(), clients[1].close()
    hold.set()
    for i, c in enumerate(clients[2:]):
        assert c.response().body == f.body[510 * K + i + 2 if i % 2 else 0:]
        c.close()
    assert sorted(f.slices()) == list(range(11)), "each slice was asked for once"


def test_changed_between_slices_begins_anew(film):
    f, s = film()
    s.get("/", {"Range": "bytes=0-9"})
    f.change('"v2"')
    f.slices()
    r = s.get("/", {"Range": f"bytes={300 * K}-{300 * K + 9}"})
    assert r.status == 206 and r.body == f.body[300 * K:300 * K + 10] and r.get("ETag") == '"v2"'
    r = s.get("/")
    assert r.body == f.body and r.get("ETag") == '"v2"'
    f.change('"v3"')
    s.get("/", {"Cache-Control": "no-cache", "Range": "bytes=0-0"})
    r = s.get("/")
    assert r.body == f.body and r.get("ETag") == '"v3"', "no slice of another version"


def test_changed_for_a_client_that_is_not_to_be_stored_for(film):
    f, s = film()
    s.get("/", {"Range": "bytes=0-9"})
    f.change('"v2"')
    r = s.get("/", {"Range": f"bytes={300 * K}-{300 * K + 9}", "Cache-Control": "no-store"})
    assert r.status == 206 and r.body == f.body[300 * K:300 * K + 10]


def test_changed_in_the_middle_is_never_mixed(film):
    f, s = film()
    s.expect("SL05")
    old, hold = f.body, threading.Event()
    f.hold = (200 * K, hold)
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    c.until(b"\r\n\r\n")
    got = c.exactly(250 * K)
    f.change('"v2"')
    hold.set()
    got += c.rest()
    assert len(got) < len(old) and got == old[:len(got)], "cut where the new one begins"
    r = s.get("/")
    assert r.status == 200 and r.body == f.body


def test_slices_are_validated(film):
    f, s = film("CacheValid 1h\nCacheIgnore Cache-Control\n")
    s.get("/"), f.slices()
    r = s.get("/", {"Cache-Control": "no-cache"})
    assert status(r) == "REVALIDATED" and r.body == f.body and f.slices() == [0]
    assert status(s.get("/")) == "HIT" and f.slices() == []


@pytest.mark.parametrize("k", [dict(n=50 * K), dict(n=100 * K), dict(etag=None), dict(etag='W/"a"'),
                               dict(etag=None, Last_Modified="Fri, 01 Jan 2038 00:00:00 GMT"),
                               dict(etag=None, Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")],
                         ids=lambda k: " ".join(k))
def test_what_needs_no_slices_or_cannot_have_them(film, k):
    f, s = film(**k)
    stored = "n" in k or k.get("Last_Modified", "").startswith("Thu, 01 Jan")
    for want in ("MISS", "HIT" if stored else "MISS"):
        r = s.get("/")
        assert r.status == 200 and r.body == f.body and status(r) == want and r.get("Content-Range") is None
    if k.get("n"):
        assert len(f.asked) == 1


def test_a_server_without_ranges_is_stored_whole(cached, origin):
    body = os.urandom(300 * K)
    origin.on("/", fresh(body, ETag='"a"'))
    s = cached("CacheSlice 100k")
    assert s.get("/").body == body
    time.sleep(0.3)
    assert s.get("/", {"Range": "bytes=150000-150009"}).body == body[150000:150010]
    r = s.get("/")
    assert r.body == body and status(r) == "HIT" and len(origin.requests) == 1


@pytest.mark.parametrize("said", ["bytes 0-9/1000000", "bytes 1-102400/1000000", "bytes 0-102399/*", "bytes 0-102399/100",
                                  "lines 0-102399/1000000", ""])
def test_parts_that_lie_are_not_stored(cached, origin, said):
    whole = os.urandom(1000)

    def lies(c, r):
        fields = [("Cache-Control", "max-age=60"), ("ETag", '"a"')]
        if r.get("Range"):
            c.send(reply(206, b"x" * 102400, fields + ([("Content-Range", said)] if said else [])))
        else:
            c.send(reply(200, whole, fields))
        return True
    origin.on("/", lies)
    s = cached("CacheSlice 100k")
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and r.body == whole and status(r) == "MISS"


def test_purges_take_all_slices(film):
    f, s = film("CachePurge 127.0.0.1")
    s.get("/"), f.slices()
    f.change('"v2"')
    assert s.get("/", method="PURGE").status == 200
    assert s.get("/").body == f.body and f.slices() == list(range(11))


def test_slices_vary(cached, origin):
    films = {None: Film(), "de": Film(etag='"de"')}
    for x in films.values():
        x.more["Vary"] = "X-Lang"
    origin.on("/", lambda c, r: films[r.get("X-Lang")](c, r))
    s = cached("CacheSlice 100k")
    for _ in range(2):
        for lang, x in films.items():
            assert s.get("/", {"X-Lang": lang} if lang else {}).body == x.body
    assert all(x.slices() == list(range(11)) for x in films.values())


# ---- what is not in the key does not change what others get ----

def echo(c, r):
    """Puts all it was asked with into an answer that may be kept."""
    seen = {k.lower(): v for k, v in r.fields}
    c.send(fresh(json.dumps([r.method, r.target, seen.get("host"), seen, r.body.decode()]).encode()))
    return True


@pytest.mark.parametrize("poison", [
    {"X-Forwarded-Host": "evil"}, {"X-Forwarded-Proto": "evil"}, {"X-Forwarded-For": "evil"}, {"Forwarded": "host=evil"},
    {"X-Real-IP": "evil"}, {"Range": "bytes=0-3"}, {"If-None-Match": "*"}, {"If-Range": '"evil"'},
    {"If-Modified-Since": "Thu, 01 Jan 2037 00:00:00 GMT"}, {"Connection": "close, X-Key"}, {"Upgrade": "evil"},
    {"Transfer-Encoding": "evil"}, {"Content-Length": "4"}], ids=str)
def test_no_field_poisons(cached, origin, poison):
    origin.on("/", echo)
    s = cached()
    s.raw("GET / HTTP/1.1\r\nHost: test\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in poison.items()).encode() +
          b"Connection: close\r\n\r\n" + (b"evil" if "Content-Length" in poison else b""))
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and b"evil" not in r.body and len(r.body) > 100, r.body
    assert status(r) == "HIT"


def test_keys_differ_by_all_of_the_url(cached, origin):
    origin.scripts = type("All", (dict,), {"get": lambda self, path: echo})()
    s = cached("TrustedProxies 127.0.0.1")
    ways = [("GET", "/a", "h", {}), ("GET", "/A", "h", {}), ("GET", "/a?", "h", {}), ("GET", "/a?x=1", "h", {}),
            ("GET", "/a?x=1&x=2", "h", {}), ("GET", "/a?x=1;x=2", "h", {}), ("GET", "/%61", "h", {}), ("GET", "//a", "h", {}),
            ("GET", "/a/", "h", {}), ("GET", "/a;x", "h", {}), ("GET", "/a%3Fx=1", "h", {}), ("GET", "/a", "h:81", {}),
            ("GET", "/a", "g", {}), ("GET", "http://i/a", "h", {}), ("GET", "/a", "h", {"X-Forwarded-Proto": "https"}),
            ("GET", "/a", "h", {"X-Forwarded-Host": "i"})]
    first = [s.get(path, fields, method, host=host).body for method, path, host, fields in ways]
    again = [s.get(path, fields, method, host=host) for method, path, host, fields in ways]
    assert [status(r) for r in again] == ["HIT"] * len(ways)
    assert [r.body for r in again] == first and len(origin.requests) == len(ways)
    for method in ("OPTIONS", "POST", "get", "QUERY"):
        assert json.loads(s.get("/b", method=method).body)[0] == method
    assert status(s.get("/b")) == "MISS"


def test_an_encoding_is_not_for_who_does_not_take_it(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh(b"packed", Content_Encoding="gzip") if r.get("Accept-Encoding") else
                                       fresh(b"plain")) or True)
    s = cached()
    r = s.get("/", {"Accept-Encoding": "gzip"})
    assert r.body == b"packed" and r.get("Vary") == "Accept-Encoding"
    assert status(s.get("/", {"Accept-Encoding": "gzip"})) == "HIT"
    for _ in range(2):
        r = s.get("/")
        assert r.body == b"plain" and r.get("Content-Encoding") is None
    assert status(r) == "HIT"


# ---- servers that lie ----

HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"


@pytest.mark.parametrize("answer, status_now, number", [
    (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 502, "SL0506"),
    (HEAD + b"Content-Length: 5, 6\r\n\r\nhello!", 502, "SL0506"),
    (HEAD + b"Content-Length: -5\r\n\r\nhello", 502, "SL0506"),
    (HEAD + b"Content-Length: 99999999999999999999\r\n\r\nhello", 502, "SL0506"),
    (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 502, "SL0506"),
    (HEAD + b"X-Endless: " + b"x" * 300000 + b"\r\nContent-Length: 5\r\n\r\nhello", 502, "SL0507"),
    (HEAD + b"X: y\r\n" * 50000 + b"Content-Length: 5\r\n\r\nhello", 502, "SL0507"),
    (HEAD + b"Content-Length: 9\r\n\r\nhello", None, "SL0509"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello", None, "SL05"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX", None, "SL05"),
], ids=range(10))
def test_what_lies_of_its_length_is_not_stored(cached, origin, answer, status_now, number):
    origin.on("/", lambda c, r: c.send(answer) or False)
    s = cached().expect("SL05")
    got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert status_now is None or got.startswith(b"HTTP/1.1 %d " % status_now), got[:200]
    assert status_now is not None or not got.endswith(b"0\r\n\r\n")
    origin.on("/", fresh(b"true"))
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and r.body == b"true"
    assert status(r) == "HIT"


def test_what_comes_behind_the_length_is_nobodys(cached, origin):
    origin.on("/", fresh(b"hello") + fresh(b"smuggled"))
    s = cached().expect("SL05")
    assert [s.get(p).body for p in ("/", "/", "/?2", "/?3")] == [b"hello"] * 4


FAR = "Fri, 31 Dec 9999 23:59:59 GMT"


@pytest.mark.parametrize("fields, is_hit", [
    ({"Age": "99999999999999999999999"}, False), ({"Age": "-1"}, True), ({"Age": "1.5"}, True), ({"Age": ""}, True),
    ({"Date": FAR}, True), ({"Date": "Thu, 01 Jan 1970 00:00:01 GMT"}, False), ({"Date": "yesterday"}, True),
    ({"Date": "Mon, 32 Foo 2026 99:99:99 GMT"}, True), ({"Expires": FAR}, True), ({"Last-Modified": FAR}, True),
    ({"Cache-Control": "max-age=99999999999999999999"}, True), ({"Cache-Control": "max-age=-1"}, False),
    ({"Cache-Control": "", "Expires": FAR}, True), ({"Cache-Control": "", "Expires": FAR, "Date": FAR}, False),
    ({"Cache-Control": "", "Last-Modified": FAR}, False), ({"Cache-Control": "", "Last-Modified": "never"}, False),
    ({"Cache-Control": "max-age=60, max-age=0"}, False), ({"Cache-Control": "public, private, max-age=60"}, False),
    ({"Cache-Control": "no-store, max-age=60, immutable"}, False),
], ids=str)
def test_times_out_of_this_world(cached, origin, fields, is_hit):
    origin.on("/", reply(200, b"x", [(k, v) for k, v in {"Cache-Control": "max-age=60", **fields}.items() if v or k == "Age"]))
    s = cached()
    for _ in range(2):
        r = s.get("/")
        assert r.status == 200 and r.body == b"x"
        assert r.get("Age") is None or 0 <= int(r.get("Age").split(",")[-1]) <= 2 ** 40
    assert (status(r) == "HIT") == is_hit
