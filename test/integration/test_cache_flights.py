"""mod_cache_disk: one fetch for many."""
import os
import socket
import threading
import time

import pytest
from cache_peers import cached, fresh, operated, status  # noqa: F401 (fixtures)
from origin import reply

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

    def got(c):
        try:
            return c.response().status
        except EOFError:
            return "cut"  # it had the head before the end was known
    assert {got(c) for c in clients} <= {502, "cut"} and len(origin.requests) == 3
    origin.on("/", fresh(b"whole"))
    assert s.get("/").body == b"whole" and status(s.get("/")) == "HIT"


@pytest.mark.parametrize("first", ["slow", "fast"])
def test_the_fastest_is_not_held_by_the_slowest(cached, origin, first):
    half, go = os.urandom(7 << 20), threading.Event()

    def script(c, r):
        c.send(f"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {2 * len(half)}\r\n\r\n".encode() + half)
        go.wait(10)
        c.send(half)
        return True
    origin.on("/", script)
    s = cached(disk="size=128m memory=16m")
    clients = {name: s.client() for name in sorted(["slow", "fast"], key=lambda name: name != first)}
    clients["slow"].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    for c in clients.values():
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        c.until(b"\r\n\r\n")
    go.set()
    assert clients["fast"].exactly(2 * len(half)) == half + half
    assert clients["slow"].exactly(2 * len(half)) == half + half
    assert len(origin.requests) == 1 and s.get("/").body == half + half and len(origin.requests) == 1


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


def test_waiters_of_a_failed_fetch_go_their_own_way(cached, origin):
    hold, calls = threading.Event(), []

    def fails_once(c, r):
        calls.append(r)
        if len(calls) > 1:
            return c.send(fresh(b"own")) or True
        hold.wait(5)
        c.sock.close()
        return False
    origin.on("/", fails_once)
    s = cached().expect("SL0505")
    clients = [s.client() for _ in range(4)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.2)
    assert len(calls) == 1
    hold.set()
    answers = [c.response() for c in clients]
    assert sorted(r.status for r in answers) == [200, 200, 200, 502] and len(calls) == 4
    assert s.get("/").status == 200


def test_truncated_is_never_whole(cached, origin):
    origin.on("/", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1000000\r\n\r\n" +
                                       b"t" * 500000) or False)
    s = cached().expect("SL0509")
    got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert len(got) < 1000000
    origin.on("/", fresh(b"whole"))
    assert s.get("/").body == b"whole"


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
