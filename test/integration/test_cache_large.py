"""Large objects of the cache: from its file to the socket, or through the worker where something has to see them."""
import os
import socket
import time

import pytest
from cache_peers import BASE, cached, fresh, status  # noqa: F401 (a fixture)

N = 3 * 1048576 + 12345
BODY = os.urandom(N)
SEEN = "LoadModule ratelimit\nBandwidthLimit 1g\n"  # a filter: bodies pass through it


@pytest.fixture(params=["", SEEN], ids=["file", "seen"])
def stored(request, cached, origin):  # noqa: F811
    origin.on("/", fresh(BODY, age=600, ETag='"r"'))
    s = cached(request.param)
    assert s.get("/").body == BODY
    deadline = time.monotonic() + 5
    while status(s.get("/")) != "HIT" and time.monotonic() < deadline:
        time.sleep(0.05)
    return s


def test_whole_and_ranges(stored, origin):
    c = stored.client()
    for _ in range(2):
        r = c.request("GET", "/")
        assert r.body == BODY and status(r) == "HIT"
    for at, end in ((0, 0), (262143, 262144), (262144, 524287), (200000, 2000000), (N - 1, N - 1), (1, N - 1)):
        r = c.request("GET", "/", {"Range": f"bytes={at}-{end}"})
        assert r.status == 206 and r.body == BODY[at:end + 1]
    r = c.request("GET", "/", {"Range": "bytes=5-300000,1000000-1600000"})
    assert r.status == 206 and len(r.body) == int(r.get("Content-Length"))
    assert BODY[5:300001] in r.body and BODY[1000000:1600001] in r.body
    assert c.request("HEAD", "/").get("Content-Length") == str(N)
    c.close()
    assert len(origin.requests) <= 2


def test_pipelined_to_a_slow_reader(stored):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        s.connect(("127.0.0.1", stored.port))
        s.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 2 + b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        got = bytearray()
        while data := s.recv(65536):
            got += data
            if len(got) < 400000:
                time.sleep(0.002)
    assert got.count(b"HTTP/1.1 200 OK") == 3 and got.count(BODY) == 3 and got.endswith(BODY)


def test_a_client_that_leaves_in_the_middle(stored):
    for n in (1, 100000, 1000000):
        with socket.create_connection(("127.0.0.1", stored.port)) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            left = n
            while left > 0:
                left -= len(s.recv(min(left, 65536)))
    assert stored.get("/").body == BODY


def in_large_folios(path):
    """Has the system read a file in one go from its beginning, as a backup does, in few pieces of memory where it may."""
    with open(path, "rb", buffering=0) as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while f.read(4096):
            pass


def test_bytes_on_their_way_outlive_their_place_and_its_neighbours(sluice, origin, tmp_path):
    """What one segment gave sockets may lie in a piece of memory that is another's, too (fails where the system reads
    ahead 2 MiB and more)."""
    bodies = [os.urandom(900000) for _ in range(12)]
    for i, body in enumerate(bodies):
        origin.on(f"/{i}", fresh(body, age=600))
        origin.on(f"/other/{i}", fresh(os.urandom(900000), age=600))
    text = BASE + f"CacheDisk {tmp_path}/cache size=16m memory=0\nCache on\nProxyPass {origin}\n"
    s = sluice(text)
    for i, body in enumerate(bodies):
        assert s.get(f"/{i}").body == body
    s.stop()
    in_large_folios(tmp_path / "cache/objects")
    s = sluice(text).expect("SL0509")
    clients = [s.client(timeout=20) for _ in bodies]
    for i, c in enumerate(clients):
        c.send(f"GET /{i} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    time.sleep(0.5)
    assert len(origin.requests) <= len(bodies) + 2, "they are hits"
    for _ in range(2):
        for i in range(len(bodies)):
            s.get(f"/other/{i}")
            s.get(f"/other/{i}", method="PURGE")
    for c, body in zip(clients, bodies):
        c.until(b"\r\n\r\n")
        got = c.rest()
        assert len(got) > 100000 and body.startswith(got), "it may be cut, and is not another"


def test_bytes_on_their_way_outlive_their_place(sluice, origin, tmp_path):
    """What sendfile gave the kernel, and no client has taken yet, stays as it was when its segment is
    written anew."""
    body = os.urandom(300000)
    origin.on("/", fresh(body, age=600))
    for i in range(40):
        origin.on(f"/{i}", fresh(os.urandom(1000000), age=600))
    s = sluice(BASE + f"CacheDisk {tmp_path}/cache size=16m memory=0\nCache on\n"
               f"ProxyPass {origin}\n")
    assert s.get("/").body == body
    time.sleep(0.5)
    clients = [s.client() for _ in range(4)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.5)
    for i in range(40):
        assert len(s.get(f"/{i}").body) == 1000000
    assert len([r for r in origin.requests if r.target == "/"]) == 1
    for c in clients:
        assert c.response().body == body
        c.close()


def test_who_is_cut_takes_nothing_from_those_who_come_later(cached, origin):
    """The place of what is used often is written anew while a slow client reads it: it has been moved."""
    body = os.urandom(1000000)
    origin.on("/", fresh(body, age=600))
    for i in range(20):
        origin.on(f"/{i}", fresh(os.urandom(900000), age=600))
    s = cached("LoadModule ratelimit\nBandwidthLimit 150k if=\"%{req:X-Slow} == '1'\"\nCachePurge 127.0.0.1\n",
               disk="size=16m memory=0").expect("SL0509")
    for _ in range(4):
        assert s.get("/").body == body
        time.sleep(0.1)
    slow = s.client(timeout=20)
    slow.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Slow: 1\r\n\r\n")
    slow.until(b"\r\n\r\n")
    for i in range(40):
        s.get(f"/{i % 20}")
        s.get(f"/{i % 20}", method="PURGE")
        assert s.get("/").body == body
    got = slow.rest()
    assert len(got) < len(body) and body.startswith(got)
    assert s.get("/").body == body and len([r for r in origin.requests if r.target == "/"]) == 1
