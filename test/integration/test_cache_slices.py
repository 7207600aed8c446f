"""mod_cache_disk: CacheSlice."""
import os
import threading
import time

import pytest
from cache_peers import K, Film, cached, film, fresh, status  # noqa: F401 (fixtures)
from origin import reply


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


def test_who_waits_for_a_slice_does_not_fail_with_its_fetch(film):
    """One client's answer is cut or an error, the others have the slice fetched again."""
    f, s = film()
    s.expect("SL0507").get("/", {"Range": "bytes=0-9"})
    hold = threading.Event()
    f.fails = (500 * K, hold)
    clients = [s.client() for _ in range(6)]
    for c in clients:
        c.send(f"GET / HTTP/1.1\r\nHost: test\r\nRange: bytes={510 * K}-{520 * K - 1}\r\n\r\n")
    time.sleep(0.3)
    assert f.slices() == [0, 5]
    hold.set()
    got = []
    for c in clients:
        try:
            r = c.response()
            got.append(r.body == f.body[510 * K:520 * K] if r.status == 206 else None)
        except EOFError:
            got.append(None)
    assert sorted(got, key=str) == [None] + [True] * 5, got
    assert f.slices() == [5], "once more"


def test_a_slice_that_always_fails_is_waited_for_twice_at_most(film):
    """Not once for each who waits, one after the other."""
    f, s = film()
    s.expect("SL0507").get("/", {"Range": "bytes=0-9"})
    f.fails, f.is_failing = (500 * K, threading.Event()), True
    clients = [s.client() for _ in range(8)]
    for c in clients:
        c.send(f"GET / HTTP/1.1\r\nHost: test\r\nRange: bytes={510 * K}-{520 * K - 1}\r\n\r\n")
    time.sleep(0.5)
    f.fails[1].set()
    assert {c.response().status for c in clients} == {502}
    assert f.slices() == [0, 5, 5]


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
