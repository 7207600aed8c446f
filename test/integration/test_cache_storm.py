"""mod_cache_disk between servers that answer in every way there is and clients that come and go as
they like: whoever gets an answer gets the right bytes, all of them."""
import functools
import hashlib
import random
import threading
import time

import pytest
from cache_peers import cached  # noqa: F401 (a fixture)

SIZES = [0, 1, 100, 3000, 15000, 40000, 70000, 1200000]
PATHS = [f"/{i}" for i in range(60)]


@functools.cache
def body_of(path):
    draw = random.Random(path)
    return draw.randbytes(draw.choice(SIZES))


class Server:
    """One of nine ways to answer, at random; some of them break off."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def head(self, status, body):
        control = self.rng.choice(["max-age=60", "s-maxage=1", "private", "no-store", "max-age=0",
                                   "max-age=60, stale-while-revalidate=5"])
        vary = self.rng.choice(["", "Vary: Accept-Encoding\r\n", "Vary: X-A\r\n", "Vary: *\r\n"])
        return (f"HTTP/1.1 {status}\r\nCache-Control: {control}\r\n{vary}"
                f'ETag: "{hashlib.md5(body).hexdigest()}"\r\n').encode()

    def pieces(self, body, n):
        step = max(1, -(-len(body) // n))
        for i in range(0, len(body), step):
            if self.rng.random() < 0.5:
                time.sleep(self.rng.random() * 0.01)
            yield body[i:i + step]

    def chunked(self, c, head, body):
        c.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for piece in self.pieces(body, self.rng.choice([1, 2, 5])):
            c.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        c.send(b"0\r\nX-Trailer: 1\r\n\r\n")
        return True

    def counted(self, c, head, body, n):
        c.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
        for piece in self.pieces(body, n):
            c.send(piece)
        return True

    def __call__(self, c, r):
        body, dice = body_of(r.target), self.rng.random()
        head = self.head("200 OK", body)
        if self.rng.random() < 0.2:
            c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        if r.get("If-None-Match") and dice < 0.5:
            c.send(self.head("304 Not Modified", body) + b"\r\n")
            return True
        if dice < 0.05:
            c.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
            return True
        if r.method == "HEAD":
            c.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
            return True
        if dice < 0.1:  # it breaks off, or says nothing
            c.send(head + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) if dice < 0.08 else b"")
            return False
        if dice < 0.3:
            c.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return True
        if dice < 0.4:
            c.send(head + b"Connection: close\r\n\r\n" + body)
            return False
        return self.counted(c, head, body, 3) if dice < 0.7 else self.chunked(c, head, body)


def asks(rng):
    """Method, path and fields of a request."""
    fields = [{}] * 6 + [{"Range": "bytes=0-99"}, {"Accept-Encoding": "gzip"}, {"X-A": rng.choice("ab")},
                         {"Cache-Control": rng.choice(["no-cache", "no-store", "only-if-cached", "max-stale"])}]
    return (rng.choice(["GET"] * 8 + ["HEAD", "PURGE"]), rng.choice(PATHS[:12] if rng.random() < 0.7 else PATHS),
            rng.choice(fields))


def visit(s, rng, wrong):
    c = s.client(timeout=20)
    try:
        for _ in range(rng.randrange(1, 20)):
            method, path, fields = asks(rng)
            if rng.random() < 0.1:  # one who leaves
                c.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
                time.sleep(rng.random() * 0.01)
                return 0
            r, body = c.request(method, path, fields), body_of(path)
            if method == "GET" and r.status in (200, 206) and r.body != (body[:100] if r.status == 206 else body):
                wrong.append((path, r.status, len(r.body), len(body)))
    except (EOFError, OSError):  # cut, as the server's answer was
        return 0
    finally:
        c.close()
    return 1


@pytest.mark.parametrize("seed", [1, 2])
def test_storm(cached, origin, seed):  # noqa: F811
    for path in PATHS:
        origin.on(path, Server(f"{seed} {path}"))
    s = cached("CacheUseStale error timeout 503\nCachePurge 127.0.0.1\n", disk="size=1g memory=16m").expect("SL0505", "SL0509", "SL0510")
    until, wrong, whole = time.time() + 6, [], []

    def client(k):
        rng = random.Random(100 * seed + k)
        while time.time() < until:
            whole.append(visit(s, rng, wrong))
    clients = [threading.Thread(target=client, args=(k,)) for k in range(16)]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    assert not wrong, wrong[:10]
    assert sum(whole) > 10


PERSONAL = [["Cache-Control: private"], ["Cache-Control: no-store"], ["Cache-Control: max-age=60", "Vary: *"],
            ["Cache-Control: max-age=60", "Vary: X-Id"], ["Cache-Control: max-age=60", "Set-Cookie: a=b"],
            ["Cache-Control: private", "Set-Cookie: a=b"]]


class Personal:
    """Answers each with the name he gave, at any pace; nobody else may get it."""

    def __init__(self, seed, fields):
        self.rng, self.fields = random.Random(seed), fields

    def __call__(self, c, r):
        body, dice = r.get("X-Id").encode() * 20, self.rng.random()
        head = "\r\n".join(["HTTP/1.1 200 OK", *self.fields, f"Content-Length: {len(body)}", "", ""]).encode()
        time.sleep(self.rng.random() * 0.004)
        if dice < 0.4:
            c.send(head + body)
            return True
        c.send(head)
        time.sleep(self.rng.random() * 0.004)
        c.send(body[:30])
        time.sleep(self.rng.random() * 0.004 if dice < 0.7 else 0)
        c.send(body[30:])
        return True


def test_nobody_gets_what_is_anothers(cached, origin):  # noqa: F811
    """Whenever they join whom: all ask for the same few paths at once."""
    for i, fields in enumerate(PERSONAL):
        for k in range(40):
            origin.on(f"/{i}/{k}", Personal(f"{i} {k}", fields))
    s, wrong, n = cached(), [], []

    def client(me):
        c = s.client(timeout=20)
        for k in range(40):
            for i in range(len(PERSONAL)):
                r = c.request("GET", f"/{i}/{k}", {"X-Id": me})
                n.append(r.status)
                if r.status != 200 or r.body != me.encode() * 20:
                    wrong.append((i, k, me, r.status, r.body[:20]))
    clients = [threading.Thread(target=client, args=(f"client-{x}",)) for x in range(12)]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    assert not wrong, wrong[:10]
    assert n == [200] * (12 * 40 * len(PERSONAL))
