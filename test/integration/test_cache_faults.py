"""mod_cache_disk on a disk that fails, lies or is slow while the server runs (faults.c): answers stay right, the loop
goes on, and the log says what is wrong.  And what the disk is asked for at all."""
import errno
import json
import os
import random
import re
import statistics
import threading
import time

import pytest
from conftest import PROGRAM
from cache_peers import asked, fresh, status
from faults import READS, WRITES, disk, library, served  # noqa: F401 (fixtures)

PIPES_KEPT = 8  # by a loop
RESTS = "what comes now is not stored on disk, which is tried again every 10 s"


def body_of(path, n):
    return random.Random(path).randbytes(n)


def offer(origin, paths, size, **more):
    """Objects of the origin: {path: body}."""
    bodies = {path: body_of(path, size) for path in paths}
    for path, body in bodies.items():
        origin.on(path, fresh(body, **more))
    return bodies


def paths(kind, n):
    return [f"/{kind}/{i}" for i in range(n)]


def gets(s, bodies):
    """How the cache answered each; all are right."""
    c = s.client()
    try:
        answers = {path: c.request("GET", path) for path in bodies}
    finally:
        c.close()
    assert [path for path, r in answers.items() if r.status != 200 or r.body != bodies[path]] == []
    return {status(r) for r in answers.values()}


def stats(op):
    return json.loads(op.say("ctl", "cache", "stats", "--json").stdout)


def until(what, timeout=10):
    end = time.time() + timeout
    while not (got := what()) and time.time() < end:
        time.sleep(0.1)
    return got


def is_on_disk(op, n):
    return until(lambda: stats(op)["disk_objects"] >= n)


def line(s, number):
    """The one line of the log that has this number."""
    lines = [x for x in s.log().splitlines() if number in x]
    assert len(lines) == 1, s.log()
    return lines[0]


def files(s):
    """What the worker has open: names, sockets, pipes (of which loops keep some)."""
    folder, names = f"/proc/{s.pids()[-1]}/fd", []
    for fd in os.listdir(folder):
        try:
            names.append(os.readlink(f"{folder}/{fd}"))
        except FileNotFoundError:
            pass
    n = [sum(x.startswith(kind) for x in names) for kind in ("socket:", "pipe:")]
    return sorted(x for x in names if not x.startswith(("socket:", "pipe:"))), *n


def together(*work):
    """Runs all at once; what one raised is raised."""
    raised = []

    def run(f):
        try:
            f()
        except BaseException as e:
            raised.append(e)
    threads = [threading.Thread(target=run, args=(f,)) for f in work]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for e in raised:
        raise e


# ---- writes ----

@pytest.mark.parametrize("calls, error", [
    *((WRITES, e) for e in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
    *((("FALLOCATE",), e) for e in (errno.EIO, errno.ENOSPC)),
], ids=lambda x: errno.errorcode[x] if isinstance(x, int) else x[-1])
def test_writes_that_fail(served, disk, origin, calls, error):  # noqa: F811
    """Traffic goes on in memory, the log says why, once, and the disk is left alone."""
    op = served()
    s = op.s.expect("CACHEDISK0101")
    if calls == WRITES:
        gets(s, offer(origin, paths("before", 20), 3000))
        assert is_on_disk(op, 20)
    elif error == errno.ENOSPC:
        s.expect("CACHEDISK0107")
    disk.fails(*calls, error=error)
    small, large = offer(origin, paths("small", 40), 3000), offer(origin, ["/large"], 3 << 20)
    for _ in range(3):
        gets(s, large)
        assert gets(s, small) <= {"MISS", "HIT"}
    assert gets(s, small) == {"HIT"}, "from memory"
    assert s.logged("CACHEDISK0101")
    said = line(s, "CACHEDISK0101")
    assert f"{disk.folder}: cannot write " in said and f": {os.strerror(error)}; {RESTS}" in said
    assert 0 < disk.sum("faults", *calls) < 50, "it is not tried for each object"
    assert stats(op)["disk"] == "rests after an error" and stats(op)["disk_errors"] > 0
    for fields in ((), [("Purge", "url")], [("Purge", "all")]):
        r = s.get("/large", fields, method="PURGE")
        assert r.status == 200 and b"a crash would bring it back" in r.body


def test_a_disk_that_comes_back(served, disk, origin):  # noqa: F811
    """What was replaced or purged while it took nothing is not found in the version before, then or later."""
    op = served(size="size=16m memory=1m")
    s = op.s.expect("CACHEDISK0101")
    old, new = offer(origin, paths("x", 20), 3000), {}
    gets(s, old)
    assert is_on_disk(op, 20)
    disk.fails(*WRITES, error=errno.EIO)
    for path in old:
        new[path] = os.urandom(3000)
        origin.on(path, fresh(new[path]))
        if path < "/x/15":
            s.get(path, {"Cache-Control": "no-cache"})
        else:
            s.get(path, method="PURGE")
    gets(s, offer(origin, paths("others", 700), 3000))  # memory has none of them any more
    assert stats(op)["disk"] == "rests after an error"
    gets(s, new)
    disk.fails()
    assert until(lambda: stats(op)["disk"] == "in use", 20), "it is tried again"
    gets(s, new)
    more, n = offer(origin, paths("more", 20), 3000), stats(op)["disk_objects"]
    gets(s, more)
    assert is_on_disk(op, n + 20)
    s.stop()
    s = served(size="size=16m memory=1m").s
    n = len(origin.requests)
    assert gets(s, more) == {"HIT"} and len(origin.requests) == n, "it is stored on disk again"
    gets(s, new)


# ---- reads ----

@pytest.mark.parametrize("how, says", [
    ({"error": errno.EIO}, "CACHEDISK0101 .*: cannot read objects: Input/output error; what was asked for is fetched again"),
    ({"flip": 1}, "CACHEDISK0108 .* is not what was written; what it was for is fetched again"),
    ({"part": 700}, None),
], ids=["error", "flipped", "short"])
def test_reads_of_small_objects(served, disk, origin, how, says):  # noqa: F811
    op = served(size="size=16m memory=0")
    s, bodies = op.s, offer(origin, paths("x", 30), 3000)
    gets(s, bodies)
    assert is_on_disk(op, 30) and gets(s, bodies) == {"HIT"}
    n = len(origin.requests)
    disk.fails(*READS, **how)
    if says is None:
        assert gets(s, bodies) == {"HIT"} and len(origin.requests) == n and disk.sum("faults", "PREAD") > 30
        return
    s.expect("CACHEDISK")
    assert gets(s, bodies) == {"MISS"} and len(origin.requests) == n + 30
    assert s.logged(says), s.log()
    assert stats(op)["disk_damaged" if "flip" in how else "disk_errors"] >= 30
    disk.fails()
    gets(s, bodies)
    assert is_on_disk(op, 30) and gets(s, bodies) == {"HIT"}


SEEN = "LoadModule ratelimit\nBandwidthLimit 1g\n"  # a filter: bodies pass through the worker


@pytest.mark.parametrize("text", ["", SEEN], ids=["file", "seen"])
@pytest.mark.parametrize("call, how", [("PREAD", {"error": errno.EIO}), ("PREAD", {"flip": 1}), ("SENDFILE", {"error": errno.EIO})],
                         ids=["error", "flipped", "sendfile"])
def test_reads_of_large_objects(served, disk, origin, text, call, how):  # noqa: F811
    """Whole, 502 or cut, never other bytes; the next has it from the server."""
    op = served(text, size="size=64m memory=0")
    s, body = op.s.expect("CACHEDISK", "SL0509"), os.urandom(1500000)
    origin.on("/", fresh(body))
    for every in (1, 2, 3):  # in the middle of a body, too
        for _ in range(100):
            if s.get("/").body == body and status(s.get("/", method="HEAD")) == "HIT":
                break
        n = disk.sum("faults")
        disk.fails(call, every=every, **how)
        for _ in range(3):
            head, _, got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 502 ") or body.startswith(got), (head, len(got))
        assert disk.sum("faults") > n or (call, text) == ("SENDFILE", SEEN)
        disk.fails()
        s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        assert s.get("/").body == body
    if call == "PREAD":
        assert asked(origin) > 1 and stats(op)["disk_damaged" if "flip" in how else "disk_errors"] > 0


@pytest.mark.parametrize("text", ["", SEEN], ids=["file", "seen"])
def test_calls_that_do_a_part(served, disk, origin, text):  # noqa: F811
    """As the system may: whoever asked goes on where it ended."""
    disk.fails(*READS, "SENDFILE", part=30000)
    disk.fails("PWRITEV", part=50000)
    op = served(text, size="size=64m memory=0")
    bodies = {**offer(origin, paths("large", 4), 1500000), **offer(origin, paths("small", 100), 9000)}
    gets(op.s, bodies)
    assert is_on_disk(op, 104) and gets(op.s, bodies) == {"HIT"} and len(origin.requests) == 104
    assert min(disk.sum("faults", c) for c in (*READS, "PWRITEV", *(["SENDFILE"] if not text else []))) > 0


# ---- a slow disk ----

def times(s, path, body, n=40):
    c, took = s.client(), []
    try:
        for _ in range(n):
            began = time.monotonic()
            assert c.request("GET", path).body == body
            took.append(time.monotonic() - began)
            time.sleep(0.005)
    finally:
        c.close()
    return took


def test_a_slow_disk_stalls_nobody_else(served, disk, origin):  # noqa: F811
    """100 ms for each read and write: hits in memory and proxied requests take none of it.  A hook that waits for the
    disk would end the server, as it does in all tests."""
    small, large = offer(origin, paths("cold", 72), 9000), offer(origin, paths("large", 6), 600000)
    s = served(size="size=64m memory=8m").s
    gets(s, {**small, **large})
    time.sleep(1.2)
    s.stop()
    op = served(size="size=64m memory=8m")  # on disk alone
    s, n = op.s, len(origin.requests)
    hot, passed, new = offer(origin, ["/hot"], 5000), offer(origin, ["/passed"], 5000, age=0), offer(origin, ["/new"], 5000)
    gets(s, hot)
    disk.is_slow(100)
    seen, took, waiting = [], {}, []

    def cold(i):
        bodies = {p: small[p] for p in list(small)[i::24]}
        seen.append(gets(s, bodies if i % 4 else {**bodies, list(large)[i // 4]: large[list(large)[i // 4]]}))

    def quick():
        until(lambda: disk.sum("waiting") > 2)
        took["hit"], took["passed"] = times(s, "/hot", hot["/hot"]), times(s, "/passed", passed["/passed"])
        waiting.append(24 - len(seen))
        gets(s, new)
        began = time.monotonic()
        assert stats(op)["disk"] == "in use"
        took["stats"] = [time.monotonic() - began]
    together(quick, *(lambda i=i: cold(i) for i in range(24)))
    assert statistics.median(took["hit"]) < 0.05 and statistics.median(took["passed"]) < 0.05, took
    assert took["stats"][0] < 2
    assert waiting[0] >= 16, "they were measured while others waited for the disk"
    assert set.union(*seen) == {"HIT"} and {r.target for r in origin.requests[n:]} == {"/hot", "/passed", "/new"}
    disk.fails()


# ---- folders ----

def test_a_folder_that_may_not_be_written(served, disk, origin):  # noqa: F811
    """On a file system that is mounted to be read."""
    disk.folder.mkdir()
    disk.fails("OPEN", "ACCESS", error=errno.EROFS)
    op = served()
    s, bodies = op.s.expect("CACHEDISK"), offer(origin, paths("x", 20), 3000)
    assert gets(s, bodies) == {"MISS"} and gets(s, bodies) == {"HIT"}
    assert f"CacheDisk {disk.folder}: Read-only file system; cure: name a folder on a disk that can be written to" in line(s, "CACHEDISK0001")
    assert "the folder cannot be used, objects are kept in memory alone: Read-only file system" in line(s, "CACHEDISK0101")
    assert stats(op)["disk"] == "cannot be used"


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_rights(served, disk, origin, tmp_path, mode):  # noqa: F811
    """root is let in wherever he likes, unless he gave that up."""
    program = tmp_path / "without-rights"
    program.write_text(f'#!/bin/sh\nexec {"setpriv --bounding-set -dac_override,-dac_read_search " if os.geteuid() == 0 else ""}{PROGRAM} "$@"\n')
    program.chmod(0o755)
    disk.folder.mkdir(mode)
    op = served(program=str(program))
    s, bodies = op.s.expect("CACHEDISK"), offer(origin, paths("x", 20), 3000)
    assert gets(s, bodies) == {"MISS"} and gets(s, bodies) == {"HIT"}
    said = line(s, "CACHEDISK0001")
    assert f"CacheDisk {disk.folder}: Permission denied; cure: give it to who starts the server" in said and "chown" in said
    assert "the folder cannot be used, objects are kept in memory alone: Permission denied" in line(s, "CACHEDISK0101")
    disk.folder.chmod(0o700)
    assert os.listdir(disk.folder) == []


# ---- faults that come and go ----

SIZES = [500, 3000, 9000, 20000, 70000, 300000, 700000]
NAMES = paths("r", 240)


class Versions:
    """A server whose objects change when they are purged: {path: version}, and what a client may still get."""

    def __init__(self, origin):
        self.now, self.least = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
        self.sizes = {path: SIZES[i % len(SIZES)] for i, path in enumerate(NAMES)}
        for path in NAMES:
            origin.on(path, self.answer)

    def body(self, path, version):
        seed = f"{path} {version}\n".encode()
        return (seed * (self.sizes[path] // len(seed) + 1))[:self.sizes[path]]

    def answer(self, c, r):
        c.send(fresh(self.body(r.target, self.now[r.target]), Connection="close"))
        return False

    def change(self, s, path):
        self.now[path] += 1
        version = self.now[path]
        assert s.get(path, method="PURGE").status == 200
        self.least[path] = version

    def ask(self, c, path):
        """What is wrong with the answer, or None."""
        least = self.least[path]
        r = c.request("GET", path)
        if r.status == 502:
            return None
        version = re.match(rb"/r/\d+ (\d+)\n", r.body)
        if r.status != 200 or version is None or r.body != self.body(path, int(version[1])):
            return path, r.status, len(r.body), r.body[:40]
        return None if least <= int(version[1]) <= self.now[path] else (path, "from before a purge", int(version[1]), least)


def trouble(draw, disk, is_harsh):
    """Other faults than before; the harsh ones let the disk rest for 10 s."""
    disk.fails()
    how = draw.choice([{"error": errno.EIO}, {"flip": draw.randrange(1, 256)}, {"part": draw.randrange(1, 5000)}])
    disk.fails(draw.choice(["PREAD", "PREADV2", "SENDFILE"]), every=draw.randrange(1, 6), **how)
    if draw.random() < 0.3:
        disk.fails("PREAD", delay_ms=5)
    disk.fails("PWRITEV", every=draw.randrange(1, 4), **draw.choice([{}, {"part": draw.randrange(1, 100000)}, {"delay_ms": 20}]))
    if draw.random() < 0.3:
        disk.fails("PREADV2", error=errno.EAGAIN)
    if is_harsh:
        disk.fails(draw.choice([*WRITES, "FALLOCATE"]), every=2, error=draw.choice([errno.EIO, errno.ENOSPC]))


def test_faults_at_random(served, disk, origin, threads):  # noqa: F811
    """Whatever the disk does, each answer is right, and not from before a purge, or honestly none.  Patient with hooks:
    on a busy machine an offload thread may be put aside with a lock."""
    seed = int(os.environ.get("SLUICE_FAULTS_SEED", random.randrange(10 ** 6)))
    op = served(size="size=16m memory=2m", env={"SLUICE_HOOK_FATAL": "500"})
    s = op.s.expect("CACHEDISK", "SL0509", "SL0505")
    versions, wrong, n = Versions(origin), [], []
    gets(s, offer(origin, ["/first"], 100, Connection="close")), stats(op)
    time.sleep(0.3)
    before = files(s)
    end = time.time() + 4

    def client(i):
        draw, c = random.Random(f"{seed} {i}"), None
        while time.time() < end and not wrong:
            try:
                c = c or s.client(timeout=20)
                wrong.extend(filter(None, [versions.ask(c, draw.choice(NAMES))]))
                n.append(1)
            except (EOFError, ConnectionError):  # it was cut
                c = c.close()
        if c:
            c.close()

    def changes():
        draw = random.Random(f"{seed} changes")
        while time.time() < end:
            versions.change(s, draw.choice(NAMES))
            time.sleep(0.02)

    def faults():
        draw = random.Random(f"{seed} faults")
        while time.time() < end:
            trouble(draw, disk, threads == 4 and time.time() > end - 2)
            time.sleep(draw.random() * 0.02)
        disk.fails()
    together(changes, faults, *(lambda i=i: client(i) for i in range(8)))
    assert not wrong and len(n) > 100, (seed, wrong, len(n))
    assert min(disk.sum("faults", *calls) for calls in (READS, WRITES, ["SENDFILE"])) > 0
    assert until(lambda: stats(op)["disk"] == "in use", 20)
    c = s.client()
    assert [x for x in (versions.ask(c, path) for path in NAMES * 2) if x] == [], seed
    c.close()
    small = offer(origin, paths("small", 20), 3000, Connection="close")
    assert until(lambda: gets(s, small) == {"HIT"})
    assert until(lambda: files(s)[:2] == before[:2]), f"{before}\n{files(s)}"
    assert files(s)[2] <= 2 * PIPES_KEPT * threads
    assert len(s.pids()) == 2 and "signal" not in s.log()


# ---- what the disk is asked for ----

def test_calls_are_few(served, disk, origin):  # noqa: F811
    """Two files that stay open, large writes, nothing made or removed; and none for what is in memory."""
    body = os.urandom(10000)
    origin.scripts = type("All", (dict,), {"get": lambda _, path: fresh(body)})()
    op = served(size="size=16m memory=1m")
    s = op.s
    s.get("/")
    open_before, began = files(s)[0], time.monotonic()
    before = {call: disk.called(call) for call in disk.rows}

    def client(i):
        c = s.client()
        for k in range(500):
            assert c.request("GET", f"/{i}/{k}").body == body
            if k % 10 == 0:
                assert c.request("GET", f"/{i}/{k // 2}").body == body
        c.close()
    together(*(lambda i=i: client(i) for i in range(6)))
    n = {call: disk.called(call) - before[call] for call in disk.rows}
    assert stats(op)["evicted"] > 500, "it went round"
    assert not any(n[call] for call in ("OPEN", "ACCESS", "FTRUNCATE", "SYNC", "UNLINK", "RENAME")), n
    assert files(s)[0] == open_before and sum(str(disk.folder) in x for x in open_before) == 2
    assert 0 < n["PWRITEV"] < 3000 / 2 and n["PREADV2"] > 0, n
    assert n["PWRITE"] < 50 * (time.monotonic() - began + 1), "of the index, once a second what changed"
    assert n["FALLOCATE"] < 50, n
    for _ in range(8):  # it counts as used, which the index learns, up to a point
        assert s.get("/0/499").body == body
    time.sleep(2.2)
    before = disk.called()
    c = s.client()
    for _ in range(300):
        assert status(c.request("GET", "/0/499")) == "HIT"
    c.close()
    assert disk.called() == before


def spent(s):
    """Of the worker: seconds of the processor, and how often it waited."""
    folder, cpu, waits = f"/proc/{s.pids()[-1]}/task", 0, 0
    for task in os.listdir(folder):
        with open(f"{folder}/{task}/schedstat") as f:
            cpu += int(f.read().split()[0]) / 1e9
        with open(f"{folder}/{task}/status") as f:
            waits += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M)[1])
    return cpu, waits


def test_who_waits_does_not_poll(served, disk, origin):  # noqa: F811
    """Fifty clients for one object that is being fetched: nothing happens until it comes."""
    may = threading.Event()

    def slow(c, r):
        may.wait(20)
        c.send(fresh(b"x" * 5000))
        return True
    origin.on("/slow", slow)
    s = served().s
    s.get("/")
    clients = [s.client(timeout=30).send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n") for _ in range(50)]
    time.sleep(0.8)
    cpu, waits = spent(s)
    time.sleep(2)
    cpu, waits = spent(s)[0] - cpu, spent(s)[1] - waits
    may.set()
    answers = [c.response() for c in clients]
    for c in clients:
        c.close()
    assert {(r.status, r.body) for r in answers} == {(200, b"x" * 5000)} and asked(origin, "/slow") == 1
    assert cpu < 0.05 and waits < 100, (cpu, waits)
