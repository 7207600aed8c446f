"""mod_cache_disk: ranges and conditions of what is still arriving, and the crowd that waits for it."""
import os
import resource
import selectors
import socket
import threading
import time

import pytest
from conftest import IS_SANITIZED
from origin import reply
from cache_peers import asked, cached, status  # noqa: F401 (fixtures)

N = 400000
BODY = os.urandom(N)


class Arriving:
    """A server that gives the first half, and the second when it is let go."""

    def __init__(self, origin, length=True):
        self.go, self.length = threading.Event(), length
        fields = [("Cache-Control", "max-age=60"), ("ETag", '"v"'), ("Content-Type", "a/b")]
        fields += [("Content-Length", str(N))] if length else [("Transfer-Encoding", "chunked")]

        def part(data):
            return data if length else b"%x\r\n" % len(data) + data + b"\r\n"

        def script(c, r):
            c.send(reply(200, b"", fields, length=False) + part(BODY[:N // 2]))
            self.go.wait(20)
            c.send(part(BODY[N // 2:]) + (b"" if length else b"0\r\n\r\n"))
            return True
        origin.on("/", script)


@pytest.fixture
def half(cached, origin):  # noqa: F811
    """A cache to which half of a response has come, and the server that has the other."""
    arriving = []

    def start(**k):
        arriving.append(Arriving(origin, **k))
        s = cached()
        first = s.client()
        first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        first.until(b"\r\n\r\n")
        arriving[0].first = first
        return s, arriving[0].go
    yield start
    for a in arriving:
        a.go.set()
        if a.length:
            a.first.exactly(N)  # all of it has come
        else:
            a.first.until(b"\r\n0\r\n")
        a.first.close()


def asks(s, spec, **more):
    c = s.client(timeout=20)
    c.send(f"GET / HTTP/1.1\r\nHost: test\r\nRange: bytes={spec}\r\n" + "".join(f"{k.replace('_', '-')}: {v}\r\n"
                                                                             for k, v in more.items()) + "\r\n")
    return c


def test_a_range_of_what_has_come_is_given_at_once(half, origin):
    s, go = half()
    for spec, a, b in (("0-9", 0, 9), ("1000-150000", 1000, 150000), (f"{N // 2 - 1}-{N // 2 - 1}", N // 2 - 1, N // 2 - 1)):
        r = asks(s, spec).response()
        assert r.status == 206 and r.body == BODY[a:b + 1] and r.get("Content-Range") == f"bytes {a}-{b}/{N}"
        assert "collapsed" in r.get("Cache-Status")
    assert not go.is_set() and asked(origin) == 1


def test_a_range_of_what_is_to_come_waits_for_it(half, origin):
    s, go = half()
    clients = {(a, b): asks(s, spec) for spec, a, b in (("100000-300000", 100000, 300000), ("-5", N - 5, N - 1),
                                                      (f"{N // 2}-", N // 2, N - 1), (f"{N - 1}-", N - 1, N - 1))}
    first = clients.pop((100000, 300000))
    assert first.until(b"\r\n\r\n").startswith(b"HTTP/1.1 206")
    assert first.exactly(100000) == BODY[100000:200000], "what is there is not held back"
    time.sleep(0.1)  # the others have been heard, too
    go.set()
    assert first.exactly(100001) == BODY[200000:300001]
    first.close()
    for (a, b), c in clients.items():
        r = c.response()
        assert (r.status, r.body, r.get("Content-Range")) == (206, BODY[a:b + 1], f"bytes {a}-{b}/{N}")
        c.close()
    assert asked(origin) == 1


def test_several_ranges(half, origin):
    s, go = half()
    c = asks(s, f"{N - 10}-{N - 1},0-4,199990-200009")
    go.set()
    r = c.response()
    assert r.status == 206 and "multipart/byteranges" in r.get("Content-Type")
    at = [r.body.index(part) for part in (BODY[-10:], BODY[:5], BODY[199990:200010])]
    assert at == sorted(at), "in the order asked for"
    c.close()


def test_if_range_and_what_cannot_be_satisfied(half, origin):
    s, go = half()
    assert asks(s, "0-3", If_Range='"v"').response().status == 206
    assert asks(s, f"{N}-").response().get("Content-Range") == f"bytes */{N}"
    c = asks(s, "0-3", If_Range='"w"')
    assert c.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert asks(s, "0-3", If_None_Match='"v"').response().status == 304, "before the range (RFC 9110, 13.2.2)"
    go.set()
    assert c.exactly(N) == BODY and asked(origin) == 1
    c.close()


def test_without_a_length_all_of_it_is_given(half, origin):
    """Nobody can say a Content-Range yet: Range may be ignored (RFC 9110, 14.2)."""
    s, go = half(length=False)
    c = asks(s, "0-3")
    head = c.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    go.set()
    got = b""
    while n := int(c.until(b"\r\n"), 16):
        got += c.exactly(n + 2)[:-2]
    assert got == BODY and asked(origin) == 1
    c.close()


def test_one_that_breaks_off_fails_its_ranges(cached, origin):
    go = threading.Event()
    origin.on("/", lambda c, r: c.send(reply(200, BODY, [("Cache-Control", "max-age=60")])[:N // 2]) or go.wait(20) and False)
    s = cached().expect("SL0509")
    first = s.client()
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    first.until(b"\r\n\r\n")
    c, fits = asks(s, "100000-300000"), asks(s, "0-9")
    assert c.until(b"\r\n\r\n").startswith(b"HTTP/1.1 206") and fits.response().body == BODY[:10]
    go.set()
    assert len(c.rest()) < 200001, "cut, and the connection with it"
    origin.on("/", reply(200, BODY, [("Cache-Control", "max-age=60")]))
    assert s.get("/").body == BODY and asked(origin) == 2


# ---- a crowd ----

class Crowd:
    """Many clients on as many sockets, who ask for the same at once and say when their first byte of a body came."""

    def __init__(self, port, n):
        self.poll, self.n, self.begun, self.ended, self.got = selectors.DefaultSelector(), n, 0, 0, []
        self.sockets = []
        for i in range(n):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            s.setblocking(False)
            self.got.append(bytearray())
            self.poll.register(s, selectors.EVENT_READ, i)
            self.sockets.append(s)

    def read(self, seconds, until):
        """Reads until that holds, or the time is over."""
        end = time.monotonic() + seconds
        while not until() and (left := end - time.monotonic()) > 0:
            for key, _ in self.poll.select(left):
                self._take(key)
        return until()

    def _take(self, key):
        data = key.fileobj.recv(1 << 20)
        if not data:
            self.ended += 1
            self.poll.unregister(key.fileobj)
            return
        got = self.got[key.data]
        had = self._has_body(got)
        got += data
        self.begun += not had and self._has_body(got)

    @staticmethod
    def _has_body(got):
        return 0 <= got.find(b"\r\n\r\n") < len(got) - 4

    def close(self):
        for s in self.sockets:
            s.close()


def test_a_thousand_for_one_slow_object(cached, origin):
    """One request to the server, and everyone has the first bytes before the last ones exist."""
    n = 1000 if not IS_SANITIZED else 300
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    begin, end = threading.Event(), threading.Event()
    first, last = os.urandom(3000), os.urandom(30000)

    def script(c, r):
        begin.wait(30)
        c.send(reply(200, b"", [("Cache-Control", "max-age=60"), ("Content-Length", str(len(first + last)))], length=False) + first)
        end.wait(30)
        c.send(last)
        return True
    origin.on("/", script)
    s = cached()
    crowd = Crowd(s.port, n)
    try:
        deadline = time.monotonic() + 20
        while asked(origin) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not crowd.read(1, lambda: crowd.begun > 0), "nobody has anything that does not exist"
        begin.set()
        assert crowd.read(20, lambda: crowd.begun == n), f"{crowd.begun} of {n} have the first byte"
        assert not end.is_set() and crowd.ended == 0
        end.set()
        assert crowd.read(20, lambda: crowd.ended == n), f"{crowd.ended} of {n} have all of it"
        heads = [bytes(g).partition(b"\r\n\r\n") for g in crowd.got]
        assert all(head.startswith(b"HTTP/1.1 200 ") and body == first + last for head, _, body in heads)
        assert sum(b"collapsed" in head for head, _, _ in heads) == n - 1
        assert asked(origin) == 1 and status(s.get("/")) == "HIT"
    finally:
        begin.set(), end.set()
        crowd.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def in_pieces(origin, n, end):
    """A server whose body of n bytes comes in pieces, as far as `end`."""
    def script(c, r):
        c.send(reply(200, b"", [("Cache-Control", "max-age=60"), ("Content-Length", str(n))], length=False))
        at = 0
        for size in [1, 5000, 30000, 70001] * 4:
            c.send(BODY[at:min(at + size, end)])
            at += size
            time.sleep(0.01)
        return end == n
    origin.on("/", script)


@pytest.mark.parametrize("disk", ["size=64m memory=16m", None], ids=["disk", "memory"])
@pytest.mark.parametrize("n", [70000, 256 * 1024, 256 * 1024 + 1, N])
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_in_pieces_to_several(sluice, origin, tmp_path, disk, n, is_cut):
    in_pieces(origin, n, n - is_cut)
    where = f"{tmp_path}/cache {disk}" if disk else "off memory=16m"
    s = sluice(f"LoadModule route\nLoadModule cache_disk\nCacheDisk {where}\nCache on\nProxyPass {origin}\n")
    if is_cut:
        s.expect("SL0505", "SL0509")
    clients = [s.client(timeout=20) for _ in range(4)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    for c in clients:  # the last one does not read for a while
        head, _, got = c.rest().partition(b"\r\n\r\n")
        assert b" 200 " in head and got == BODY[:len(got)] and len(got) <= n - is_cut
        assert is_cut or len(got) == n
    if not is_cut:
        assert s.get("/").body == BODY[:n]
