"""mod_cache_disk and kill -9, of a worker and of all processes at once, while clients fill it, read it,
have it replaced and purged: every answer is right, what was purged stays so, most of it is still there,
and the next server gives it at once.

SLUICE_CRASH_ROUNDS says how often, 9 without; SLUICE_CRASH_SEED which run."""
import collections
import functools
import hashlib
import os
import random
import signal
import statistics
import subprocess
import tempfile
import threading
import time

import pytest
from cache_peers import BASE, status
from conftest import IS_SANITIZED, MODULES, PROGRAM, Sluice
from origin import reply

K = 1024
ROUNDS = int(os.environ.get("SLUICE_CRASH_ROUNDS", "9"))
SEED = int(os.environ.get("SLUICE_CRASH_SEED", random.randrange(10 ** 6)))
SETTLED = 1.0  # seconds: what was answered so long ago is on disk, however busy the machine is
WARM = 5 if IS_SANITIZED else 1  # seconds from a start to the first answer from the cache
GROUPS = 4
PATHS = [f"/{how}/{size}/{i % GROUPS}/{i}" for size, n in (("small", 48), ("large", 6), ("huge", 2))
         for i in range(n) for how in ("length", "chunked")]


def group_of(path):
    return path.split("/")[3]


@functools.lru_cache(maxsize=64)
def body_of(path, version):
    """What the server says; the first line tells which one it is, and no two bytes' places look alike."""
    line = f"{path} {version}\n".encode()
    n = int.from_bytes(hashlib.sha256(line).digest()[:2], "big")
    size = {"small": n % (24 * K), "large": 400 * K + n % 999, "huge": 3000 * K + n}[path.split("/")[2]]
    return line + hashlib.shake_128(line).digest(size)


class Crashes:
    """The server behind, what clients may be told, and the processes that end and begin."""

    def __init__(self, origin, threads, folder, memory="1m"):
        self.lock, self.threads, self.folder = threading.Lock(), threads, folder
        self.version, self.floor = dict.fromkeys(PATHS, 1), dict.fromkeys(PATHS, 0)
        self.sure, self.posted = dict(self.floor), {}
        self.stored = {}  # path: since when it must be in the cache
        self.wrong, self.seen, self.servers, self.warm = [], collections.Counter(), [], []
        self.text = (f"ControlSocket {folder}/control\n" + BASE +
                     f"CacheDisk {folder}/cache size=128m memory={memory}\nCache on\nCachePurge 127.0.0.1\n"
                     f"Header set X-Cache %{{cache_status}} always\nProxyPass {origin}\n")
        origin.scripts = type("All", (dict,), {"get": lambda _, path: self.answer})()
        self.port = None
        self.start()

    # ---- the server behind ----

    def answer(self, c, r):
        if r.method != "GET":
            c.send(reply(200, b"done"))
            return True
        with self.lock:
            version = self.version[r.target]
        body = body_of(r.target, version)
        fields = [("ETag", f'"{version}"'), ("Surrogate-Key", f"group{group_of(r.target)}"), ("Cache-Control", "max-age=600")]
        if r.target.startswith("/length"):
            c.send(reply(200, body, fields))
            return True
        c.send(reply(200, b"", fields + [("Transfer-Encoding", "chunked")], length=False))
        for at in range(0, len(body), 300 * K):
            part = body[at:at + 300 * K]
            c.send(b"%x\r\n" % len(part) + part + b"\r\n")
        c.send(b"0\r\n\r\n")
        return True

    # ---- clients ----

    def judge(self, path, floor, r):
        """NULL, or what is wrong about an answer."""
        if r.status != 200:
            return f"status {r.status}"
        if r.get("Content-Length") is None and r.get("Transfer-Encoding") is None:
            return "nothing tells where it ends"
        version = int((r.get("ETag") or '"0"').strip('"'))
        if r.body != body_of(path, version):
            return f"{len(r.body)} bytes are not {path} {version}, of {len(body_of(path, version))}: {r.body[:60]}"
        return None if version >= floor else f"{version} after a purge of all before {floor}"

    def ask(self, c, path, fields=()):
        """One answer that was whole, and is judged."""
        with self.lock:
            floor = self.floor[path]
        r = c.request("GET", path, fields)
        why = None if r.status == 504 and fields == ABSENT else self.judge(path, floor, r)
        with self.lock:
            self.seen[status(r)] += 1
            if why:
                self.wrong.append(f"{path} {fields}: {why}; {status(r)}")
            elif r.status == 200 and self.floor[path] == floor:  # no purge of it came to its end meanwhile
                self.stored.setdefault(path, time.time())
        return r

    def read(self, c, draw):
        kind, renews = draw.choices(("small", "large", "huge"), (200, 14, 2))[0], draw.random() < 0.04
        path = draw.choice([p for p in PATHS if p.split("/")[2] == kind])
        if renews:  # its server has another, and a client wants what is new
            with self.lock:
                self.version[path] += 1
                self.stored.pop(path, None)
        self.ask(c, path, {"Cache-Control": "no-cache"} if renews else ())

    def purge(self, s, draw, how=None, path=None):
        """Whether it was answered: then no version from before is given again, whatever ends."""
        path, how = path or draw.choice(PATHS), how or draw.choice(["PURGE"] * 4 + ["url", "prefix", "tag", "ctl url"] * 2 + ["POST"])
        group = group_of(path)
        paths = [p for p in PATHS if how == "tag" and group_of(p) == group or how == "prefix" and p.startswith(path)] or [path]
        with self.lock:
            for p in paths:
                self.version[p] += 1
                self.stored.pop(p, None)
            now = {p: self.version[p] for p in paths}
        fields = {"tag": {"Purge": f"tag group{group}"}, "url": {"Purge": "url"}, "prefix": {"Purge": "prefix"}}.get(how, {})
        if how == "ctl url":
            r = subprocess.run([PROGRAM, "-f", s.conf, "--module-dir", MODULES, "ctl", "cache", "purge", "url", f"http://test{path}"],
                               capture_output=True, text=True, timeout=60)
            answered = r.returncode == 0 and r.stdout == "purged\n"
        else:
            answered = s.get(path, fields, method="POST" if how == "POST" else "PURGE").status == 200
        with self.lock:
            for p in paths if answered else ():
                self.floor[p] = max(self.floor[p], now[p])
                if how != "POST":
                    self.sure[p] = self.floor[p]
                else:
                    self.posted[p] = (time.time(), self.floor[p])
                self.stored.pop(p, None)  # it may have come in from before
        return answered

    # ---- processes ----

    def start(self):
        began = time.time()
        s = Sluice(self.text, self.threads, tempfile.mkdtemp(prefix="sluice-test-"), port=self.port,
                   env={"SLUICE_HOOK_FATAL": "500"})
        s.expect("SL0202", "SL0509", "SL0501", "SL0505")  # a worker's end
        self.s, self.port, self.began = s, s.port, began
        self.servers.append(s)

    def kill_worker(self):
        for pid in self.s.pids()[1:]:
            os.kill(pid, signal.SIGKILL)
            ended(pid)
        self.began = time.time()

    def kill_all(self):
        """The master has no time to see its workers die, nor they to see it.  A purge that was answered
        holds; what a POST forgot does when the disk has heard of it."""
        when = time.time()
        os.kill(self.s.proc.pid, signal.SIGSTOP)
        pids = self.s.pids()
        for pid in reversed(pids):
            os.kill(pid, signal.SIGKILL)
        self.s.proc.wait()
        for pid in pids[1:]:
            ended(pid)
        with self.lock:
            for p, (at, floor) in self.posted.items():
                self.sure[p] = max(self.sure[p], floor if at < when - SETTLED else 0)
            self.floor, self.posted = dict(self.sure), {}

    def reload(self):
        r = subprocess.run([PROGRAM, "-f", self.s.conf, "--module-dir", MODULES, "-k", "reload"], capture_output=True,
                           text=True, timeout=60)
        assert r.returncode == 0, r.stdout + r.stderr

    def client(self, timeout=20):
        """As soon as there is a worker."""
        end = time.time() + timeout
        while True:
            try:
                return self.s.client(timeout=timeout)
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.005)

    def survey(self, known):
        """How many of these the cache still has; the first of them tells when it was warm."""
        n, c, is_warm = 0, self.client(), False
        for path in known:
            for _ in range(20):
                try:
                    r = self.ask(c, path, ABSENT)
                    break
                except (EOFError, OSError):  # it was in the queue of the worker that died
                    c = self.client()
            n += status(r) == "HIT"
            if status(r) == "HIT" and not is_warm:
                is_warm = True
                self.warm.append(time.time() - self.began)
        c.close()
        return n

    def close(self):
        for s in self.servers:
            s.stop()


ABSENT = {"Cache-Control": "only-if-cached"}


def ended(pid):
    """Waits for the end of a process that is nobody's or the master's."""
    end = time.time() + 20
    while time.time() < end:
        try:
            with open(f"/proc/{pid}/stat") as f:
                if f.read().rpartition(")")[2].split()[0] in "ZX":
                    return
        except OSError:
            return
        time.sleep(0.002)
    raise AssertionError(f"{pid} does not end")


@pytest.fixture
def crashes(origin, threads, tmp_path):
    made = []

    def start(**k):
        made.append(Crashes(origin, threads, tmp_path, **k))
        return made[-1]

    yield start
    for m in made:
        m.close()
    for s in [s for m in made for s in m.servers]:
        s.check(-signal.SIGKILL if s.proc.returncode == -signal.SIGKILL else 0)


class Load:
    """Clients that run until they are told to rest, and may be told to go on."""

    def __init__(self, m, n):
        self.m, self.errors, self.over = m, [], False
        self.go, self.resting = threading.Event(), threading.Barrier(n + 2)
        self.threads = [threading.Thread(target=self.run, args=(f"{SEED} {i}", m.read)) for i in range(n)]
        self.threads.append(threading.Thread(target=self.run, args=(f"{SEED} purge", self.purge)))
        self.go.set()
        for t in self.threads:
            t.start()

    def purge(self, c, draw):
        time.sleep(0.03)
        self.m.purge(self.m.s, draw)

    def run(self, seed, work):
        draw, c = random.Random(seed), None
        while not self.over:
            if not self.go.is_set():
                c = c.close() if c else None
                self.resting.wait(60)
                self.go.wait(60)
                continue
            try:
                c = c or self.m.s.client(timeout=20)
                work(c, draw)
            except (EOFError, ConnectionError):  # cut, and seen to be
                c = c.close() if c else None
                time.sleep(0.01)
            except Exception as e:
                self.errors.append(repr(e))
                self.over = True
                self.resting.abort()

    def rest(self):
        self.go.clear()

    def rested(self):
        """All have had their answers, or been cut."""
        self.resting.wait(60)

    def end(self):
        self.over = True
        self.go.set()
        for t in self.threads:
            t.join(60)


def known_at(m, when):
    with m.lock:
        return [p for p, since in m.stored.items() if since < when - SETTLED]


def test_kills_while_it_is_used(crashes):
    """Nine tenths of what was answered a second before are still there: what waited to be written, 84 ms
    where the disk keeps up, is what a crash takes.  It asks a survey without only what nobody purged or
    replaced since, and lets clients rest while it does."""
    m = crashes()
    load, kept = Load(m, 5), []
    time.sleep(1.2)
    try:
        for n in range(ROUNDS):
            time.sleep(0.7)
            if n % 3 == 1:
                m.reload()
                continue
            load.rest()  # in the middle of what they do
            when = time.time()
            known = known_at(m, when)
            if n % 3 == 0:
                m.kill_worker()
            else:
                m.kill_all()
            load.rested()
            if n % 3 == 2:
                m.start()
            with m.lock:  # what came to be purged or replaced while it was killed
                known = [p for p in known if p in m.stored and m.stored[p] < when - SETTLED]
            random.Random(n).shuffle(known)
            kept.append((m.survey(known), len(known)))
            load.go.set()
            assert not m.wrong and not load.errors, f"seed {SEED}: {m.wrong[:5]} {load.errors}"
    finally:
        load.end()
    m.kill_all()
    m.start()
    c = m.client()
    for path in PATHS * 2:
        m.ask(c, path)
    c.close()
    assert not m.wrong and not load.errors, f"seed {SEED}: {m.wrong[:5]} {load.errors}"
    print(f"seed {SEED}: kept {kept}, warm {[round(w, 3) for w in m.warm]}, {dict(m.seen)}")
    assert all(n >= of * 0.9 - 2 for n, of in kept), kept  # two: what a full segment took along
    assert sum(of for _, of in kept) > 10 * len(kept), kept
    assert len(m.warm) == len([of for _, of in kept if of]) and statistics.median(m.warm) < WARM, m.warm
    assert max(m.warm) < 10 * WARM, m.warm
    assert m.seen["HIT"] > 100 and m.seen["MISS"] > 50, m.seen


def test_killed_at_once(crashes):
    """What was just answered or just purged, and then all processes are killed."""
    m, draw = crashes(), random.Random(f"{SEED} at once")
    found = collections.Counter()
    for _ in range(6 if IS_SANITIZED else 10):
        paths = draw.sample(PATHS, 24)
        c = m.client()
        for path in paths:
            m.ask(c, path)
        for path in paths[:8]:
            assert m.purge(m.s, draw, draw.choice(["PURGE", "PURGE", "url", "prefix", "tag", "ctl url"]), path)
        time.sleep(draw.choice((0, 0, 0.02, 0.05, 0.1)))
        m.kill_all()
        c.close()
        m.start()
        c = m.client()
        for path in reversed(paths):
            found[status(m.ask(c, path))] += 1
        c.close()
        assert not m.wrong, f"seed {SEED}: {m.wrong[:5]}"
    print(f"seed {SEED}: {dict(found)}")
    assert found["HIT"] > 0.3 * found.total(), "what waited for the disk may be gone, what came before is there"
