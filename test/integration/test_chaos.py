"""A pool whose servers are killed, stopped and started again under load: no GET fails that a retry
could save, and no POST is acted on twice.  SLUICE_CHAOS_SECONDS says for how long, 5 without."""
import collections
import os
import random
import signal
import subprocess
import sys
import threading
import time

from conftest import free_port
from test_balancer import pool, until

SECONDS = float(os.environ.get("SLUICE_CHAOS_SECONDS", "5"))
HERE = os.path.dirname(os.path.abspath(__file__))
# Answers with its port; what a POST does is a line in a file, written before the answer.
BACKEND = """
import os, sys, time
sys.path.insert(0, {here!r})
from origin import Origin, reply
out = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def effect(c, r):
    os.write(out, r.body + b"\\n")
    c.send(reply(200, b"done"))
o = Origin(address=("127.0.0.1", {port}))
o.on("/effect", effect)
o.on("/", reply(200, b"{port}"))
o.on("/health", reply(200, b"well"))
time.sleep(3600)
"""


class Backend:
    def __init__(self, log):
        self.port, self.log = free_port(), log
        self.start()

    def start(self):
        text = BACKEND.format(here=HERE, log=str(self.log), port=self.port)
        self.proc = subprocess.Popen([sys.executable, "-B", "-c", text])

    def end(self):
        self.proc.kill()
        self.proc.wait()

    def suffer(self, rnd):
        """One fault, and well again."""
        if rnd.random() < 0.5:
            self.end()
            time.sleep(rnd.uniform(0.1, 0.8))
            self.start()
        else:
            self.proc.send_signal(signal.SIGSTOP)
            time.sleep(rnd.uniform(0.1, 0.8))
            self.proc.send_signal(signal.SIGCONT)
        time.sleep(0.7)


class Load(threading.Thread):
    """A client that asks until it is stopped; a connection that broke is a new one."""

    def __init__(self, s, number):
        super().__init__()
        self.s, self.number, self.stopped = s, number, threading.Event()
        self.got, self.answered = collections.Counter(), set()

    def run(self):
        i = 0
        while not self.stopped.is_set():
            i += 1
            is_post = i % 4 == 0
            name = f"{self.number}-{i}"
            try:
                r = (self.s.get("/effect", method="POST", body=name.encode()) if is_post
                     else self.s.get("/"))
                status = r.status
            except OSError:
                status = 0
            self.got["POST" if is_post else "GET", status] += 1
            if is_post and status == 200 and r.body == b"done":  # not the echo of one that begins
                self.answered.add(name)


def test_chaos(sluice, tmp_path):
    rnd = random.Random(os.getpid())
    log = tmp_path / "effects"
    log.touch()
    backends = [Backend(log) for _ in range(3)]
    try:
        s = sluice("ProxyTimeout connect=300ms first=400ms\n" +
                   pool([f"b{b.port}=127.0.0.1:{b.port}" for b in backends],
                        "    HealthCheck uri=/health interval=300ms timeout=300ms fall=2 rise=1\n"
                        "    Retry on=connect,error,timeout max=2\n    Eject errors=2\n"))
        s.expect("SL05", "BALANCER00")
        until(lambda: all(s.get("/").status == 200 for _ in range(6)), 10)
        clients = [Load(s, i) for i in range(4)]
        for c in clients:
            c.start()
        end = time.time() + SECONDS
        while time.time() < end:
            rnd.choice(backends).suffer(rnd)
        for c in clients:
            c.stopped.set()
        for c in clients:
            c.join()
        got = sum((c.got for c in clients), collections.Counter())
        gets = {status: n for (method, status), n in got.items() if method == "GET"}
        effects = collections.Counter(log.read_text().split())
        assert set(gets) == {200} and gets[200] > 20 * SECONDS, got
        assert max(effects.values()) == 1, effects.most_common(3)
        assert set().union(*(c.answered for c in clients)) <= set(effects)
        # nobody is stuck: all are used again
        until(lambda: len({s.get("/").body for _ in range(12)}) == 3, 15)
    finally:
        for b in backends:
            b.end()
