"""mod_cache_disk: folders it cannot have and disks that end; traffic goes on, and the log says why."""
import os
import resource
import socket
import time

import pytest
from conftest import PROGRAM
from cache_peers import BASE, fresh, status

CONF = "CacheDisk {folder} size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}} always\nProxyPass {origin}\n"


def start(sluice, origin, folder, **k):
    """Patient with hooks: offload threads that read what is wrong may hold a lock for long."""
    return sluice(BASE + CONF.format(folder=folder, origin=origin), env={"SLUICE_HOOK_FATAL": "500"}, **k)


def serves(s, origin, n=20, size=3000):
    """Whether each is right, and given from the cache afterwards."""
    for i in range(n):
        origin.on(f"/{i}", fresh(b"%d" % i * size))
    for _ in range(2):
        got = [s.get(f"/{i}") for i in range(n)]
        assert [r.body for r in got] == [b"%d" % i * size for i in range(n)]
    return {status(r) for r in got}


@pytest.mark.parametrize("folder, cure", [
    ("{tmp}/none/such", "No such file or directory; cure: make the folder it lies in"),
    ("{tmp}/file/below", "Not a directory; cure: name a folder"),
    ("/proc/cache", "; cure: "),
    ("{tmp}/file", "Not a directory; cure: name a folder"),
])
def test_a_folder_that_cannot_be(sluice, origin, tmp_path, folder, cure):
    (tmp_path / "file").write_text("x")
    folder = folder.format(tmp=tmp_path)
    s = start(sluice, origin, folder).expect("CACHEDISK")
    assert serves(s, origin) == {"HIT"}, "in memory"
    assert s.logged("CACHEDISK0101") and folder in s.log()
    line = next(x for x in s.log().splitlines() if "CACHEDISK0001" in x)
    with open(s.conf) as f:
        at = 1 + [x.split()[:1] for x in f].index(["CacheDisk"])
    assert f"test.conf:{at}: CacheDisk {folder}: " in line and cure in line
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_that_goes_away(sluice, origin, tmp_path):
    """What is open stays so; the next server makes it anew."""
    s = start(sluice, origin, tmp_path / "cache")
    assert serves(s, origin) == {"HIT"}
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert serves(s, origin) == {"HIT"}
    s.stop()
    s = start(sluice, origin, tmp_path / "cache")
    assert s.get("/0").body == b"0" * 3000 and serves(s, origin) == {"HIT"}


@pytest.mark.parametrize("limit", [1 << 16, 1 << 20, 3 << 20])
def test_a_disk_that_takes_no_more(sluice, origin, tmp_path, limit):
    """No file grows over the limit: writes fail at once, or later."""
    program = tmp_path / "with-limit"
    program.write_text(f'#!/bin/sh\ntrap "" XFSZ\nexec {PROGRAM} "$@"\n')
    program.chmod(0o755)
    s = start(sluice, origin, tmp_path / "cache", program=str(program)).expect("CACHEDISK")
    resource.prlimit(s.pids()[-1], resource.RLIMIT_FSIZE, (limit, limit))
    assert serves(s, origin) == {"HIT"}
    body = os.urandom(3 << 20)
    origin.on("/large", fresh(body))
    for _ in range(3):
        assert s.get("/large").body == body
    assert s.logged("CACHEDISK010[17]"), s.log()
    assert serves(s, origin) == {"HIT"}
    s.stop()
    s = start(sluice, origin, tmp_path / "cache").expect("CACHEDISK")
    assert s.get("/large").body == body and serves(s, origin) == {"HIT"}, "what it left is no harm to the next"


def test_files_that_shrink_under_it(sluice, origin, tmp_path):
    """Who finds it has an error or a cut answer, and does not wait for ever; the next fetches it anew."""
    s = start(sluice, origin, tmp_path / "cache").expect("CACHEDISK", "SL0509")
    body = os.urandom(2 << 20)
    origin.on("/large", fresh(body))
    assert s.get("/large").body == body and serves(s, origin) == {"HIT"}
    time.sleep(1)
    assert status(s.get("/large")) == "HIT"
    for name in os.listdir(tmp_path / "cache"):
        os.truncate(tmp_path / "cache" / name, 0)
    head, _, got = s.raw(b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ") or body.startswith(got), head
    for _ in range(3):
        assert s.get("/large").body == body
    assert serves(s, origin) == {"HIT"}


def test_a_file_of_another_version(sluice, origin, tmp_path):
    s = start(sluice, origin, tmp_path / "cache")
    serves(s, origin)
    time.sleep(1)
    s.stop()
    with open(tmp_path / "cache" / "index", "r+b") as f:
        head = bytearray(f.read(64))
        for at in range(64):  # whatever says the version
            head[at] ^= 0x55
        f.seek(0)
        f.write(head)
    n = len(origin.requests)
    s = start(sluice, origin, tmp_path / "cache").expect("CACHEDISK")
    assert s.get("/0").body == b"0" * 3000 and len(origin.requests) == n + 1, "it begins empty"
    assert s.logged("CACHEDISK") and serves(s, origin) == {"HIT"}


@pytest.mark.parametrize("spec", [None, "bytes=1000000-1999999", "bytes=0-99,1490000-1600000"])
def test_a_flipped_bit_in_a_large_body(sluice, origin, tmp_path, spec):
    """Who reads it does not wait for ever for what will not come, and the next gets it from the server."""
    body = os.urandom(2 << 20)
    origin.on("/", fresh(body))
    s = start(sluice, origin, tmp_path / "cache")
    assert s.get("/").body == body
    time.sleep(1)
    s.stop()
    with open(tmp_path / "cache" / "objects", "r+b") as f:
        at = f.read(8 << 20).index(body[1500000:1500064])
        f.seek(at)
        f.write(bytes([body[1500000] ^ 1]))
    s = start(sluice, origin, tmp_path / "cache").expect("SL0509", "CACHEDISK")
    for _ in range(100):  # until the index has been read
        if status(s.get("/", method="HEAD")) == "HIT":
            break
    got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\n" + (f"Range: {spec}\r\n".encode() if spec else b"") + b"Connection: close\r\n\r\n")
    assert bytes([body[1500000] ^ 1]) + body[1500001:1500064] not in got
    assert s.logged("CACHEDISK0108 .* a part of a body is not what was written")
    assert s.get("/").body == body and len(origin.requests) <= 3
    time.sleep(0.5)
    assert status(s.get("/")) == "HIT" and s.get("/").body == body


def test_a_slow_reader_of_what_is_being_replaced(sluice, origin, tmp_path):
    """A small store that many objects pass through: whoever has begun to read a large one never gets other bytes."""
    body = os.urandom(14 << 20)
    origin.on("/large", fresh(body))
    s = sluice(BASE + CONF.format(folder=tmp_path / "cache", origin=origin).replace("size=64m memory=16m", "size=64m memory=0")).expect("SL0509")
    assert s.get("/large").body == body
    time.sleep(0.5)
    c = s.client()
    c.close()
    c.sock = socket.socket()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    c.sock.settimeout(10)
    c.sock.connect(("127.0.0.1", s.port))
    c.send("GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert b"HIT" in c.until(b"\r\n\r\n")
    for i in range(40):
        origin.on(f"/{i}", fresh(os.urandom(3000000)))
        s.get(f"/{i}")
    got = c.rest()
    assert body.startswith(got), "cut, where it was not there any more"
