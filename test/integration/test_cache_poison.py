"""mod_cache_disk: no client and no server puts into it what others should not get."""
import json
import os
import socket
import threading
import time
from email.utils import formatdate

import pytest
from cache_peers import BASE, cached, echo, fresh, operated, status  # noqa: F401 (fixtures)
from conftest import MODULES
from origin import reply
from tls_peers import connect, pki, tls  # noqa: F401 (fixtures)

AUTH = pytest.mark.skipif(not os.path.exists(f"{MODULES}/mod_auth.so"), reason="built without mod_auth")

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


@AUTH
def test_who_signed_in_shares_only_what_is_public(sluice, origin, tmp_path):
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


@AUTH
@pytest.mark.parametrize("fields", [{}, {"Range": "bytes=0-"}], ids=["by itself", "by a subrequest"])
def test_who_signed_in_is_known_to_conditions(sluice, origin, tmp_path, fields):
    from test_auth import BCRYPT, basic
    (tmp_path / "htpasswd").write_text(f"ann:{BCRYPT}\nbob:{BCRYPT}\n")
    origin.on("/", reply(200, b"x", [("Cache-Control", "public, max-age=60")]))
    s = sluice(BASE + f"LoadModule auth\nCacheDisk {tmp_path}/cache size=64m\nCache on\nAuthBasic r {tmp_path}/htpasswd\n"
               f"CacheNoStore \"%{{user}} == 'ann'\"\nHeader set X-Cache %{{cache_status}} always\nProxyPass {origin}\n")
    ann, bob = ({**dict(basic(who, "password")), **fields} for who in ("ann", "bob"))
    assert [status(s.get("/", ann)) for _ in range(2)] == ["MISS"] * 2
    assert [status(s.get("/?bob", bob)) for _ in range(2)] == ["MISS", "HIT"]


# ---- what is not in the key does not change what others get ----

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


@pytest.mark.parametrize("first", ["http", "https"])
@pytest.mark.parametrize("answers", [fresh, lambda body: fresh(body, Vary="Accept-Encoding")], ids=["one", "variants"])
def test_the_scheme_is_in_the_key(tls, pki, origin, first, answers):  # noqa: F811
    """One Host and path, by a listener with TLS and one without: two URIs (RFC 9111, 2)."""
    origin.on("/", lambda c, r: c.send(answers(r.get("X-Forwarded-Proto").encode())) or True)
    s = tls("LoadModule headers\nLoadModule cache_disk\nCacheDisk off memory=16m\nCache on\n"
            "Header set X-Cache %{cache_status} always\n")
    both = {"http": s.client(), "https": connect(s, pki)}
    order = [first, *(scheme for scheme in both if scheme != first)]
    for want in ("MISS", "HIT"):
        for scheme in order:
            r = both[scheme].request("GET", "/", host="a.test")
            assert (r.body.decode(), status(r)) == (scheme, want)
    assert both["https"].request("POST", "/", body=b"x", host="a.test").status == 200, "which makes its own invalid"
    got = {scheme: status(both[scheme].request("GET", "/", host="a.test")) for scheme in order}
    assert got == {"http": "HIT", "https": "MISS"}
    for c in both.values():
        c.close()


@pytest.mark.parametrize("methods", [("HEAD", "GET"), ("GET", "HEAD"), ("POST", "GET"), ("POST", "HEAD")], ids="-".join)
def test_what_a_method_brings_is_for_it_alone(cached, origin, methods):
    """But that HEAD and GET share what GET brings."""
    origin.on("/", lambda c, r: c.send(fresh(f"of {r.method}".encode())) or True)
    s = cached()
    got = [s.get("/", method=method, body=b"x" if method == "POST" else b"") for method in methods]
    assert got[0].body == {"HEAD": b"", "GET": b"of GET", "POST": b"of POST"}[methods[0]]
    assert got[1].body == {"HEAD": b"", "GET": b"of GET"}[methods[1]] and got[1].get("Content-Length") == "6"
    assert status(got[1]) == ("MISS" if methods[0] == "POST" else "HIT")
    assert [r.method for r in origin.requests] == ["GET"] if methods[0] != "POST" else ["POST", "GET"]


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


@pytest.mark.parametrize("name", ["Accept-Language", "Accept-Encoding", "Cookie", "X-Own"])
def test_a_field_the_server_did_not_get_makes_no_variant(cached, origin, name):
    """Connection names it away: the answer is that to a request without it."""
    origin.on("/", lambda c, r: c.send(fresh((r.get(name) or "none").encode(), Vary=name)) or True)
    s = cached()
    for named in (f"{name}", f"keep-alive, {name.upper()}"):
        assert s.get("/", {name: "gzip", "Connection": named}).body == b"none"
    assert s.get("/", {name: "gzip"}).body == b"gzip"
    assert s.get("/").body == b"none"


@pytest.mark.parametrize("line", ["CacheKey %{host}%{uri}%{req:X-Ver}", "CacheBypass \"%{req:X-Ver} == ''\""])
def test_a_field_the_server_did_not_get_decides_nothing(cached, origin, line):
    """Neither is it in a key, nor does it open the cache."""
    origin.on("/", lambda c, r: c.send(fresh((r.get("X-Ver") or "none").encode())) or True)
    s = cached(line)
    r = s.get("/", {"X-Ver": "de", "Connection": "X-Ver"})
    assert r.body == b"none" and status(r) == "BYPASS"
    for expected in ("MISS", "HIT"):
        r = s.get("/", {"X-Ver": "de"})
        assert r.body == b"de" and status(r) == expected


@pytest.mark.parametrize("name, value", [("Cache-Control", "private"), ("Vary", "*")])
def test_no_connection_hides_what_is_for_caches(cached, origin, name, value):
    """RFC 9110, 7.6.1: it must not be named there, and is not dropped."""
    day_ago = formatdate(time.time() - 86400, usegmt=True)
    origin.on("/", reply(200, b"x", [(name, value), ("Connection", name), ("Last-Modified", day_ago)]))
    s = cached()
    for _ in range(2):
        r = s.get("/")
        assert status(r) == "MISS" and r.get(name) == value


@pytest.mark.parametrize("lines", ["Cookie: a=b\r\nCookie: session=1", "Cookie: a=b;\tsession=1", "cookie: session=1\r\nCookie: a=b"])
def test_a_cookie_is_seen_wherever_servers_see_it(cached, origin, lines):
    origin.on("/", lambda c, r: c.send(fresh(b"own" if "session=1" in str(r.fields) else b"all's")) or True)
    s = cached("CacheBypass \"%{cookie:session} != ''\"")
    assert b"own" in s.raw(f"GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\nConnection: close\r\n\r\n".encode())
    r = s.get("/")
    assert r.body == b"all's" and status(r) == "MISS"
