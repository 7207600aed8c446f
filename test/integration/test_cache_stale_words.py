"""CacheUseStale, each word: what it lets a stale answer stand for, and that it does for nothing else."""
import threading
import time

import pytest
from origin import reply
from cache_peers import asked, cached, fresh, status  # noqa: F401 (fixtures)
from test_cache_freshness import aged

# What a server does, and the word for it.
FAILS = {
    "drops": "error", "closes": "error", "resets": "error", "head cut": "error", "head alone": "error",
    "silent": "timeout", "slow": "timeout",
    "garbage": "invalid", "two lengths": "invalid", "endless head": "invalid",
    **{str(code): str(code) for code in (403, 404, 429, 500, 502, 503, 504)},
    "400": None, "501": None, "418": None,
}
HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"


def script_of(how):
    if how.isdigit():
        return reply(int(how), b"no")
    if how == "drops":
        return lambda c, r: c.sock.close() or False
    if how == "closes":
        return lambda c, r: c.close() or False
    if how == "resets":
        return lambda c, r: c.reset() or False
    if how == "head cut":
        return lambda c, r: c.send(HEAD[:20]) or False
    if how == "head alone":
        return lambda c, r: c.send(HEAD + b"Content-Length: 5\r\n\r\n") or time.sleep(0.05) or False
    if how in ("silent", "slow"):
        return lambda c, r: how == "slow" and c.send(HEAD) or time.sleep(1.5) or False
    return {"garbage": b"SSH-2.0-x\r\n\r\n", "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
            "endless head": HEAD + b"X: y\r\n" * 50000 + b"\r\n"}[how]


@pytest.mark.parametrize("how", FAILS)
def test_a_word_is_for_what_it_says(cached, origin, how):
    words = ["error", "timeout", "invalid", "updating", "500", "502", "503", "504", "403", "404", "429"]
    own = FAILS[how]
    paths = {"/own": own or "off", "/others": " ".join(w for w in words if w not in (own, "updating")), "/off": "off"}
    for path in paths:
        origin.on(path, aged("max-age=60", 70))
    s = cached("ProxyTimeout first=300ms\n" + "".join(
        f"<Location {path}>\nCacheUseStale {w}\n</Location>\n" for path, w in paths.items())).expect("SL05")
    for path in paths:
        s.get(path)
        origin.on(path, script_of(how))
    got = {path: s.get(path) for path in paths}
    want = int(how) if how.isdigit() else 504 if own == "timeout" else 502
    assert got["/others"].status == got["/off"].status == want
    if own is None:
        assert got["/own"].status == want
    else:
        assert (got["/own"].status, got["/own"].body, status(got["/own"])) == (200, b"old", "STALE")


def test_updating_gives_the_old_one_to_all_and_asks_once(cached, origin):
    origin.on("/", aged("max-age=60", 70))
    s = cached("CacheUseStale updating")
    s.get("/")
    hold = threading.Event()
    origin.on("/", lambda c, r: hold.wait(5) and c.send(fresh(b"new")) or True)
    got = [s.get("/") for _ in range(10)]
    assert [(r.body, status(r)) for r in got] == [(b"old", "UPDATING")] * 10 and asked(origin) == 2
    hold.set()
    for _ in range(200):
        r = s.get("/")
        if r.body == b"new":
            break
        time.sleep(0.02)
    assert status(r) == "HIT" and asked(origin) == 2


def test_updating_alone_is_for_no_error(cached, origin):
    """Who gets the stale one does not see that the update fails; who may not have it does."""
    origin.on("/", aged("max-age=60", 70))
    s = cached("CacheUseStale updating").expect("SL05")
    s.get("/")
    origin.on("/", reply(503, b"no"))
    assert s.get("/").body == b"old" and s.get("/", {"Cache-Control": "no-cache"}).status == 503
    time.sleep(0.2)


def test_the_inner_line_holds(cached, origin):
    origin.on("/in", aged("max-age=60", 70))
    s = cached("CacheUseStale 503\n<Location /in>\nCacheUseStale - 500\n</Location>")
    s.get("/in")
    origin.on("/in", reply(503, b"no"))
    assert s.get("/in").status == 503


def test_nothing_stale_is_given_where_there_is_nothing(cached, origin):
    origin.on("/", reply(503, b"no"))
    s = cached("CacheUseStale error timeout invalid updating 503")
    assert s.get("/").status == 503 and asked(origin) == 1


def test_off_forgets_what_is_said_further_out(cached, origin):
    paths = {"/as": None, "/off": "off", "/more": "off 500", "/added": "500"}
    for path in paths:
        origin.on(path, aged("max-age=60", 70))
    s = cached("CacheUseStale 503\n" + "".join(
        f"<Location {path}>\nCacheUseStale {w}\n</Location>\n" for path, w in paths.items() if w))
    for path in paths:
        s.get(path)
    got = {}
    for code in (503, 500):
        for path in paths:
            origin.on(path, reply(code))
            got[path] = got.get(path, ()) + (s.get(path).status,)
    assert got == {"/as": (200, 500), "/off": (503, 500), "/more": (503, 200), "/added": (200, 200)}


def test_off_heeds_again_what_is_not_heeded_further_out(cached, origin):
    for path in ("/shared", "/own"):
        origin.on(path, fresh(Set_Cookie="id=1"))
    s = cached("CacheIgnore Set-Cookie\n<Location /own>\nCacheIgnore off\n</Location>")
    assert [(status(s.get(p)), s.get(p).get("Set-Cookie")) for p in ("/shared", "/own")] == [("MISS", None), ("MISS", "id=1")]
    assert (status(s.get("/shared")), status(s.get("/own"))) == ("HIT", "MISS")
