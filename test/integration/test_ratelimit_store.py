"""mod_ratelimit's store: one limit of several machines through Redis."""
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import MODULES, free_port

HEAD = "LoadModule route\nLoadModule ratelimit\n"
ZONE = "RateLimitZone z key=%{{req:X-Key}} rate={rate} store=redis://{at}\nRateLimit z burst={burst} nodelay\nReturn 200 ok\n"

with open(f"{MODULES}/mod_ratelimit.so", "rb") as module:
    BUILT = b"libhiredis" in module.read()
pytestmark = pytest.mark.skipif(not BUILT or not shutil.which("redis-server"),
                                reason="built without hiredis, or no redis-server")


class Redis:
    def __init__(self, *options):
        self.port, self.options, self.proc = free_port(), options, None
        self.folder = tempfile.mkdtemp(prefix="sluice-redis-")
        self.start()

    def start(self):
        self.proc = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                                      "--dir", self.folder, *self.options], stdout=subprocess.DEVNULL)
        end = time.time() + 10
        while time.time() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("redis-server does not start")

    def ask(self, *words):
        """What it answers to a command of ours."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.sendall((" ".join(words) + "\r\n").encode())
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def calls(self, name):
        """How often a command came."""
        found = re.search(rf"cmdstat_{name}:calls=(\d+)", self.ask("INFO", "commandstats"))
        return int(found.group(1)) if found else 0

    def stop(self):
        self.proc.send_signal(signal.SIGCONT)
        self.proc.kill()
        self.proc.wait()

    def __str__(self):
        return f"127.0.0.1:{self.port}/1"


@pytest.fixture
def redis():
    made = []

    def make(*options):
        made.append(Redis(*options))
        return made[-1]
    yield make
    for r in made:
        r.stop()
        shutil.rmtree(r.folder, ignore_errors=True)


def drive(machines, seconds, key="a"):
    """Requests at all of them for a while: how many were admitted, and what nearly
    all took at most."""
    admitted, took, end = [], [], time.time() + seconds

    def ask(s):
        c = s.client()
        while time.time() < end:
            began = time.time()
            admitted.append(c.request("GET", "/", {"X-Key": key}).status == 200)
            took.append(time.time() - began)
            time.sleep(0.005)
        c.close()
    threads = [threading.Thread(target=ask, args=(s,)) for s in machines]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(admitted), sorted(took)[len(took) * 95 // 100]


def test_machines_hold_one_limit(redis, sluice):
    """Three machines; each alone would admit 16 and 20 a second."""
    at = redis()
    machines = [sluice(HEAD + ZONE.format(rate="20r/s", burst=15, at=at)) for _ in range(3)]
    n, _ = drive(machines, 2)
    alone = 16 + 40
    assert alone * 0.95 <= n <= alone + 3 * (16 + 1), "a burst each, until they have heard of each other"
    n, _ = drive(machines, 2)
    assert 40 * 0.9 <= n <= 40 + 6, "and then it holds"
    assert drive(machines, 0.5, "b")[0] >= 16


def slowly(s, n, key="k"):
    """Requests with time between them to hear of other machines."""
    out = []
    for _ in range(n):
        out.append(s.get("/", {"X-Key": key}))
        time.sleep(0.2)
    return [r.status for r in out], out[-1]


def test_a_machine_hears_of_another(redis, sluice):
    """With the answer to what it admitted itself."""
    at = redis()
    a, b = (sluice(HEAD + ZONE.format(rate="1r/h", burst=9, at=at)) for _ in range(2))
    assert [a.get("/", {"X-Key": "k"}).status for _ in range(11)] == [200] * 10 + [429]
    time.sleep(0.2)
    statuses, last = slowly(b, 3)
    assert statuses == [200, 429, 429]
    assert 7000 <= int(last.get("Retry-After")) <= 7200, "what was too much is owed"
    assert b.get("/", {"X-Key": "other"}).status == 200


def test_the_script_is_sent_where_it_is_not_known(redis, sluice):
    """Once for all machines, and again when Redis has forgotten it; nothing is counted twice."""
    at = redis()
    a, b = (sluice(HEAD + ZONE.format(rate="1r/h", burst=5, at=at)) for _ in range(2))
    assert slowly(a, 2)[0] == [200] * 2 and at.calls("eval") == 1 and at.calls("evalsha") == 2
    assert "OK" in at.ask("SCRIPT", "FLUSH")
    assert slowly(b, 2)[0] == [200] * 2 and at.calls("eval") == 2 and at.calls("evalsha") == 4
    assert slowly(a, 3)[0] == [200] * 2 + [429], "six of both"


@pytest.mark.parametrize("trouble", ["gone", "slow"])
def test_without_an_answer_the_limit_is_local(redis, sluice, trouble):
    at = redis()
    machines = [sluice(HEAD + ZONE.format(rate="10r/s", burst=4, at=at)) for _ in range(2)]
    drive(machines, 0.5)
    for s in machines:
        s.expect("RATELIMIT0020")
    if trouble == "gone":
        at.stop()
    else:
        at.proc.send_signal(signal.SIGSTOP)
    n, took = drive(machines, 1.5)
    assert 2 * 15 * 0.85 <= n <= 2 * (15 + 5) + 2 and took < 0.1, "no request waits for the store"
    assert all(s.log().count("RATELIMIT0020") == 1 for s in machines)
    assert all("alone" in s.log() for s in machines)
    if trouble == "gone":
        at.start()
    else:
        at.proc.send_signal(signal.SIGCONT)
    end = time.time() + 5
    while time.time() < end and not all("RATELIMIT0021" in s.log() for s in machines):
        drive(machines, 0.2)
    assert all(s.logged("RATELIMIT0021") for s in machines)
    n, _ = drive(machines, 2)
    assert n <= 20 + 8, "less, where more was admitted meanwhile"


def test_a_store_that_is_not_there_stops_nobody(sluice):
    s = sluice(HEAD + ZONE.format(rate="1r/h", burst=1, at=f"127.0.0.1:{free_port()}")).expect("RATELIMIT0020")
    assert [s.get("/", {"X-Key": "k"}).status for _ in range(3)] == [200, 200, 429]
    assert s.logged("RATELIMIT0020 zone z: store redis://127.0.0.1:.*refused")


def test_a_password(redis, sluice):
    at = redis("--requirepass", "geheim")
    a, b = (sluice(HEAD + ZONE.format(rate="1r/h", burst=4, at=f":geheim@{at}")) for _ in range(2))
    wrong = sluice(HEAD + ZONE.format(rate="1r/h", burst=4, at=f":falsch@{at}")).expect("RATELIMIT0020")
    assert slowly(a, 5)[0] == [200] * 5 and slowly(b, 2)[0] == [200, 429]
    assert slowly(wrong, 2)[0] == [200, 200] and wrong.logged("RATELIMIT0020 .*WRONGPASS")
    assert "geheim" not in a.log() + b.log() and "falsch" not in wrong.log()


def test_reloads_keep_telling(redis, sluice):
    at = redis()
    a, b = (sluice(HEAD + ZONE.format(rate="1r/h", burst=9, at=at)) for _ in range(2))
    for _ in range(3):
        assert slowly(a, 1)[0] == [200]
        a.proc.send_signal(signal.SIGHUP)
        time.sleep(0.5)
    assert slowly(a, 4)[0] == [200] * 4, "seven in all"
    assert slowly(b, 5)[0] == [200] * 3 + [429] * 2 and slowly(a, 1)[0] == [200]


@pytest.mark.parametrize("url", ["redis:/x", "http://a", "redis://", "redis://a:0", "redis://a:70000", "redis://a/x",
                                 "redis://user:x@a", "redis://a:"])
def test_refused(refused, url):
    assert "store: expected" in refused(HEAD + f"RateLimitZone z key=%{{path}} rate=1r/s store={url}\nReturn 200 ok\n")
