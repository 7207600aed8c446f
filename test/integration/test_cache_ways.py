"""mod_cache_disk: the same answer, whichever way it came: asked for alone, by two at once, or from the store."""
import re
import threading
import time

import pytest
from cache_peers import cached, fresh, status  # noqa: F401 (fixture)
from origin import reply

OF_THE_WAY = ("age", "cache-status", "x-cache", "date")
FRAMING = ("content-length", "transfer-encoding")


def seen(r, but=()):
    """Without what is of the way, and of who asked first."""
    return (r.status, sorted((k.lower(), v) for k, v in r.fields if k.lower() not in (*OF_THE_WAY, *but)),
            re.sub(rb"request [0-9a-f]{16}", b"", r.body))


def ways(s, origin, answer):
    """Asked for alone, then by who begins and who joins; each time followed by one who comes later."""
    hold = threading.Event()

    def script(c, r):
        if r.target == "/two":
            hold.wait(5)
        return answer(c, r) if callable(answer) else c.send(answer) or True
    for path in ("/one", "/two"):
        origin.on(path, script)
    got = {"alone": s.get("/one"), "alone, again": s.get("/one")}
    two = [s.client() for _ in range(2)]
    for c in two:
        c.send("GET /two HTTP/1.1\r\nHost: test\r\n\r\n")
        time.sleep(0.1)
    hold.set()
    got["first"], got["joiner"] = (c.response() for c in two)
    got["both, again"] = s.get("/two")
    return got


CACHED = ("Cache-Control", "max-age=60")
ANSWERS = {
    "headers": ("Header set X-A 1\nHeader append Vary X-Q\nHeader unset X-Own\nHeader edit Location one two\nCookieFlags secure\n"
                "CacheIgnore Set-Cookie\nSecurityHeaders strict\nCORS *", True,
                reply(200, b"x", [CACHED, ("X-Own", "1"), ("Set-Cookie", "a=b"), ("Location", "/one"), ("X-Two", "1"),
                                  ("X-Two", "2"), ("X-Empty", ""), ("Server", "x"), ("Connection", "X-Hop"), ("X-Hop", "1")])),
    "cookie": ("", False, reply(200, b"x", [CACHED, ("Set-Cookie", "a=b")])),
    "trailers": ("", True, b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
                           b"1\r\nx\r\n0\r\nX-T: 1\r\n\r\n"),
    "encoded": ("", True, reply(200, b"x", [CACHED, ("Content-Encoding", "br")])),
    "part": ("", False, reply(206, b"x", [CACHED, ("Content-Range", "bytes 0-0/2")])),
    "404 without a body": ("ErrorPage 404 file:PAGE", True, reply(404, b"", [CACHED, ("Content-Type", "text/x")])),
    "404 without a body, page elsewhere": ("ErrorPage 404 /sorry", True, reply(404, b"", [CACHED])),
    "404 taken away": ("ErrorPage 404 file:PAGE\nProxyIntercept 404\nCacheValid 404 1h", True, reply(404, b"x", [CACHED, ("X-Own", "1")])),
    "404 taken away, page elsewhere": ("ErrorPage 404 /sorry\nProxyIntercept 404\nCacheValid 404 302 1h", False, reply(404, b"x")),
    "503 taken away, page elsewhere": ("ErrorPage 503 /sorry\nProxyIntercept 503\nCacheValid 1h", False, reply(503, b"x")),
    "failed": ("ErrorPage 502 file:PAGE", False, lambda c, r: c.close() or False),
    "failed, page elsewhere": ("ErrorPage 502 /sorry\nCacheValid 1h", False, lambda c, r: c.close() or False),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_is_the_same_whichever_way_it_came(cached, origin, tmp_path, what):
    lines, is_stored, answer = ANSWERS[what]
    (tmp_path / "page.txt").write_bytes(b"ours")
    s = cached(lines.replace("PAGE", f"{tmp_path}/page.txt"))
    if what.startswith("failed"):
        s.expect("SL05")
    got = ways(s, origin, answer)
    but = FRAMING if what == "trailers" else ()  # how long it is, only who comes when it is over can be told
    for way, r in got.items():
        assert seen(r, but) == seen(got["alone"], but), way
        assert (status(r) == "HIT") == (is_stored and "again" in way), way


def test_what_is_stale_goes_before_a_page_elsewhere(cached, origin):
    origin.on("/", fresh(b"old", 0))
    s = cached("ErrorPage 503 /sorry\nProxyIntercept 503\nCacheUseStale 503")
    assert s.get("/").body == b"old"
    origin.on("/", reply(503, b"x"))
    r = s.get("/")
    assert r.body == b"old" and status(r) == "STALE"
