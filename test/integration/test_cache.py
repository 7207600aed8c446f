"""mod_cache_disk: what is stored, how long it is good, and how it is given."""
import os
import threading
import time
from email.utils import formatdate, parsedate_to_datetime

import pytest
from cache_peers import asked, cached, failing, fresh, status, validated  # noqa: F401 (fixtures)
from origin import reply

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
    ([("CDN-Cache-Control", "max-age=60, &"), ("Cache-Control", "no-store")], False),
    ([("CDN-Cache-Control", "no-store;"), ("Cache-Control", "max-age=60")], True),
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
