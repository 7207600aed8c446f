"""mod_cache_disk: what answers say of the cache (RFC 9211), %{cache_status} and %{cache_reason}, and what is counted."""
import json
import re
import threading
import time

import pytest
from origin import reply
from cache_peers import cached, failing, fresh, operated, status  # noqa: F401 (fixtures)
from test_cache_freshness import aged

PARAMETER = r"(hit|fwd=(bypass|method|uri-miss|vary-miss|miss|request|stale|partial)|fwd-status=\d{3}|ttl=-?\d+|stored|collapsed)"


def said(r):
    """Cache-Status of this cache: an Item with parameters (RFC 9211, 2)."""
    text = r.get("Cache-Status").split(", ")[-1]
    assert re.fullmatch(rf"sluice(; {PARAMETER})+", text), text
    words = text.split("; ")[1:]
    assert ("hit" in words) != any(w.startswith("fwd=") for w in words), "one of them, and not both"
    return words


def agree(c, r):
    """max-age=60, and 30 s old; a 304 to who asks whether it has changed."""
    if r.get("If-None-Match"):
        c.send(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: max-age=60\r\n\r\n")
    else:
        c.send(aged("max-age=60", 30, ("ETag", '"a"')))
    return True


def test_a_miss_and_hits(cached, origin):
    origin.on("/", aged("max-age=60", 20))
    s = cached()
    assert said(s.get("/")) == ["fwd=uri-miss", "stored"]
    r = s.get("/")
    assert said(r)[0] == "hit" and 38 <= int(said(r)[1].removeprefix("ttl=")) <= 40 and 20 <= int(r.get("Age")) <= 22
    r = s.get("/", {"Range": "bytes=0-0"})
    assert r.status == 206 and said(r)[0] == "hit"
    r = s.get("/", {"If-None-Match": "*"})
    assert r.status == 304 and said(r)[0] == "hit"


def test_the_clients_wish(cached, origin):
    origin.on("/", agree)
    s = cached()
    s.get("/")
    r = s.get("/", {"Cache-Control": "no-cache"})
    assert status(r) == "REVALIDATED" and said(r) == ["fwd=request", "fwd-status=304", "stored"]
    origin.on("/", aged("max-age=60", 0, body=b"new"))
    r = s.get("/", {"Cache-Control": "max-age=0, no-cache"})
    assert r.body == b"new" and said(r) == ["fwd=request", "stored"]
    assert said(s.get("/", {"Cache-Control": "no-cache, no-store"})) == ["fwd=request"]


def test_stale(cached, origin):
    for path in ("/gone", "/agreed", "/updating", "/failing", "/soft"):
        control = "max-age=60" + (", stale-while-revalidate=60" if path == "/updating" else "")
        origin.on(path, aged(control, 70, ("ETag", '"a"')))
    s = cached("CacheUseStale 500").expect("SL05")
    for path in ("/gone", "/agreed", "/updating", "/failing"):
        s.get(path)
    origin.on("/gone", fresh(b"new"))
    origin.on("/agreed", agree)
    origin.on("/updating", fresh(b"new"))
    origin.on("/failing", reply(500, b"no"))
    assert said(s.get("/gone")) == ["fwd=stale", "stored"]
    assert said(s.get("/agreed")) == ["fwd=stale", "fwd-status=304", "stored"]
    r = s.get("/updating")
    assert status(r) == "UPDATING" and said(r)[0] == "hit" and -12 <= int(said(r)[1][4:]) <= -9
    r = s.get("/failing")
    assert status(r) == "STALE" and said(r)[0] == "fwd=stale" and "stored" not in said(r)
    time.sleep(0.3)  # until the update is over


def test_variants(cached, origin):
    origin.on("/", lambda c, r: c.send(fresh(b"x", Vary="X-Lang")) or True)
    s = cached()
    assert said(s.get("/", {"X-Lang": "a"})) == ["fwd=uri-miss", "stored"]
    assert said(s.get("/", {"X-Lang": "b"})) == ["fwd=vary-miss", "stored"]
    assert said(s.get("/", {"X-Lang": "a"}))[0] == "hit"


def test_what_is_not_stored(cached, origin):
    for path in ("/private", "/bypass", "/error", "/post"):
        origin.on(path, reply(500 if path == "/error" else 200, b"x", [("Cache-Control", "private")]))
    s = cached("CacheBypass \"%{path} == '/bypass'\"")
    assert [said(s.get("/private")) for _ in range(2)] == [["fwd=uri-miss"]] * 2
    r = s.get("/bypass")
    assert status(r) == "BYPASS" and said(r) == ["fwd=bypass"]
    assert said(s.get("/error")) == ["fwd=uri-miss"]
    assert said(s.get("/post", method="POST", body=b"x")) == ["fwd=method"]


def test_what_failed(cached, origin):
    """A fetch that fails was a fetch as well, whatever stood before it."""
    origin.on("/old", aged("max-age=60", 70))
    origin.on("/video", lambda c, r: r.get("Range") == "bytes=0-4095" and c.send(reply(
        206, b"x" * 4096, [("Cache-Control", "max-age=60"), ("ETag", '"a"'), ("Content-Range", "bytes 0-4095/12288")])))
    s = cached("CacheSlice 4k").expect("SL05")
    assert said(s.get("/old")) == ["fwd=uri-miss", "stored"]
    assert s.get("/video", {"Range": "bytes=0-9"}).status == 206
    failing(origin, "/old")
    failing(origin, "/new")
    got = {path: s.get(path, fields) for path, fields in (("/old", {}), ("/new", {}), ("/video", {"Range": "bytes=5000-5009"}))}
    assert {path: (r.status, said(r)) for path, r in got.items()} == {
        "/old": (502, ["fwd=stale"]), "/new": (502, ["fwd=uri-miss"]), "/video": (502, ["fwd=partial"])}


def test_those_who_joined(cached, origin):
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(fresh(b"x")) or True)
    s = cached()
    clients = [s.client() for _ in range(3)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    hold.set()
    words = sorted(said(c.response()) for c in clients)
    assert words == [["fwd=uri-miss", "stored"], *[["fwd=uri-miss", "stored", "collapsed"]] * 2]


def test_caches_on_the_way_are_told_in_their_order(cached, origin):
    """RFC 9211, 2: the cache next to the server is the first; each adds itself behind."""
    origin.on("/", fresh(b"x", Cache_Status="inner; hit; ttl=5"))
    origin.on("/private", reply(200, b"x", [("Cache-Control", "private"), ("Cache-Status", "inner; fwd=uri-miss")]))
    s = cached()
    for path in ("/", "/", "/private"):
        r = s.get(path)
        assert r.get("Cache-Status").startswith("inner; ") and len(r.get("Cache-Status").split(", ")) == 2
        assert said(r)


def test_without_a_cache_nothing_is_said(cached, origin):
    origin.on("/no", fresh())
    s = cached("<Location /no>\nCache off\n</Location>")
    assert s.get("/no").get("Cache-Status") is None


# ---- the variables ----

@pytest.mark.parametrize("state, reason, lines, first, again, asks", [
    ("HIT", "fresh", "", fresh(), None, {}),
    ("MISS", "nothing is stored", "", None, fresh(), {}),
    ("MISS", "the server says private", "", reply(200, b"x", [("Cache-Control", "private")]), None, {}),
    ("MISS", "asked for less often than CacheMinUses", "CacheMinUses 5", fresh(), None, {}),
    ("MISS", "the client says no-store", "", None, fresh(), {"Cache-Control": "no-store"}),
    ("EXPIRED", "stale", "", aged("max-age=60", 70), None, {}),
    ("EXPIRED", "the client says no-cache", "", fresh(), None, {"Pragma": "no-cache"}),
    ("EXPIRED", "it is older than the client wants", "", aged("max-age=60", 20), None, {"Cache-Control": "max-age=5"}),
    ("STALE", "stale, which the client accepts", "", aged("max-age=60", 70), None, {"Cache-Control": "max-stale"}),
    ("STALE", "the server answers with an error", "CacheUseStale 503", aged("max-age=60", 70), reply(503), {}),
    ("STALE", "the server's response does not parse", "CacheUseStale invalid", aged("max-age=60", 70), b"garbage\r\n\r\n", {}),
    ("UPDATING", "stale, given while it is updated", "CacheUseStale updating", aged("max-age=60", 70), fresh(), {}),
    ("REVALIDATED", "the server agrees to what is stored", "", aged("max-age=60", 70, ("ETag", '"a"')),
     b"HTTP/1.1 304 Not Modified\r\n\r\n", {}),
    ("BYPASS", "CacheBypass holds", "CacheBypass \"%{req:X-Me} == '1'\"", None, fresh(), {"X-Me": "1"}),
], ids=lambda x: x[:30] if isinstance(x, str) and " " in x else "")
def test_state_and_reason(cached, origin, state, reason, lines, first, again, asks):
    s = cached(f"{lines}\nHeader set X-Why %{{cache_reason}} always").expect("SL05")
    if first is not None:
        origin.on("/", first)
        s.get("/")
    if again is not None:
        origin.on("/", again)
    r = s.get("/", asks)
    assert (status(r), r.get("X-Why")) == (state, reason)
    if state == "UPDATING":
        time.sleep(0.3)


# ---- bytes ----

def test_bytes_are_counted(operated, origin):
    """Of bodies: what came from the store, and what had to be fetched; in sum and by host."""
    origin.on("/", fresh(b"x" * 1000))
    origin.on("/large", fresh(b"x" * 300000))
    origin.on("/private", reply(200, b"x" * 70, [("Cache-Control", "private")]))
    origin.on("/agreed", agree)
    op = operated()

    def ask(path, host="a.test", **k):
        r = op.s.get(path, host=host, **k)
        time.sleep(0.05)  # its bytes are counted when all has left
        return r

    def numbers(host=None):
        words = ["hosts"] if host else ["stats"]
        got = json.loads(op.say("ctl", "cache", *words, "--json").stdout)
        if host:
            got = next(row for row in got if row["host"] == host)
        return got["hit_bytes"], got["miss_bytes"]
    ask("/"), ask("/large")
    assert numbers() == (0, 301000)
    time.sleep(0.5)  # large ones are found when they have been written
    ask("/"), ask("/large"), ask("/", fields={"Range": "bytes=0-9"}), ask("/", fields={"If-None-Match": "*"}), ask("/", method="HEAD")
    hits = 1000 + 300000 + 10
    assert ask("/", host="b.test").body and ask("/", host="b.test").body
    assert numbers() == (hits + 1000, 302000) and numbers("a.test") == (hits, 0) and numbers("b.test") == (1000, 0)
    ask("/private")
    assert numbers("a.test") == (hits, 70)
    ask("/agreed")
    assert ask("/agreed", fields={"Cache-Control": "no-cache"}).status == 200
    assert numbers("a.test") == (hits + 3, 73), "the body was here"
    metrics = op.say("ctl", "metrics").stdout
    assert re.search(rf"cache_hit_bytes\S* {hits + 1003}\b", metrics), metrics
