"""What the tests of mod_cache_disk share: a server with a cache, and what it has behind it."""
import json
import os

import pytest
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


@pytest.fixture
def operated(sluice, origin, tmp_path):
    def start(text=""):
        return Operator(sluice, BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\n"
                        f"Header set X-Cache %{{cache_status}} always\n{text}\nProxyPass {origin}\n")
    return start


def failing(origin, path="/"):
    origin.on(path, lambda c, r: c.sock.close() or False)


def validated(etag='"a"', again=1):
    def answer(c, r):
        if r.get("If-None-Match") == etag:
            c.send(f"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age={again}\r\nX-New: 2\r\nETag: {etag}\r\n\r\n".encode())
        else:
            c.send(reply(200, b"body", [("Cache-Control", "max-age=1"), ("ETag", etag), ("X-New", "1")]))
        return True
    return answer


def echo(c, r):
    """Puts all it was asked with into an answer that may be kept."""
    seen = {k.lower(): v for k, v in r.fields}
    c.send(fresh(json.dumps([r.method, r.target, seen.get("host"), seen, r.body.decode()]).encode()))
    return True


K = 1024


class Film:
    """A server that knows ranges, of a large file."""

    def __init__(self, n=1000 * K + 7, etag='"v1"', **more):
        self.body, self.etag, self.more, self.asked, self.hold = os.urandom(n), etag, more, [], None
        self.fails = None  # a slice's first byte, and an event: who asks for it gets 503 then, once
        self.is_failing = False  # or for ever

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
            if self.fails and first == self.fails[0]:
                fails, self.fails = self.fails, self.fails if self.is_failing else None
                fails[1].wait(10)
                c.send(reply(503, b"no"))
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
