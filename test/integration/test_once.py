"""Servers that fail in every way: a GET that another server can answer is answered, a POST is never
sent to two servers that may have acted on it.  A recorder counts what reached whom."""
import contextlib
import os
import random
import signal
import socket
import threading
import time

import pytest
from conftest import free_port
from origin import Connection, reply
from test_balancer import pool, until

BIG = b"b" * 300000
LISTED = "    Retry on=connect,error,timeout,500,503 max=3\n"


class Recorder:
    """A server that counts each request of which a byte came, and then does its fault."""

    def __init__(self, fault):
        self.fault, self.seen = fault, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.run, daemon=True).start()

    def __str__(self):
        return "127.0.0.1:%d" % self.listener.getsockname()[1]

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        c = Connection(s)
        try:
            self.fault(self, c)
        except OSError:
            pass
        finally:
            s.close()

    def request(self, c, reads_body=True):
        r = c.read_head()
        if r is not None:
            self.seen.append(r.method)
            assert not reads_body or c.read_body(r)
        return r

    def close(self):
        self.listener.close()


def at_once(end):
    return lambda o, c: end(c)


def after_head(end):
    return lambda o, c: (o.request(c, False), end(c))


def after_request(*sent, end=lambda c: None):
    def fault(o, c):
        while o.request(c) is not None:
            for data in sent:
                c.send(data)
                time.sleep(0.02)
            if end(c) != "stay":
                return
    return fault


def within_body(o, c):
    if o.request(c, False).method == "POST":
        c.exactly(3)
    c.reset()


def reset(c):
    c.reset()


def fin(c):
    c.close()


# fault, the statuses a GET and a POST get when the next server is well, whether the server may have
# acted
FAULTS = {
    "reset at once": (at_once(reset), 200, {200, 502}, False),
    "closed at once": (at_once(fin), 200, {200, 502}, False),
    "closed behind the head": (after_head(fin), 200, {502}, True),
    "reset behind the head": (after_head(reset), 200, {502}, True),
    "reset within the body": (within_body, 200, {502}, True),
    "reset behind the request": (after_request(end=reset), 200, {502}, True),
    "closed behind the request": (after_request(end=fin), 200, {502}, True),
    "silent": (after_request(end=lambda c: time.sleep(1)), 200, {504}, True),
    "garbage": (after_request(b"\1\2\3 no HTTP\r\n\r\n", end=fin), 200, {502}, True),
    "no length that is one": (after_request(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), 200, {502}, True),
    "half a head, reset": (after_request(b"HTTP/1.1 200 OK\r\nConte", end=reset), 200, {502}, True),
    "half a head, closed": (after_request(b"HTTP/1.1 200 OK\r\nConte", end=fin), 200, {502}, True),
    "half a head, silent": (after_request(b"HTTP/1.1 200 OK\r\nConte", end=lambda c: time.sleep(1)), 200, {504}, True),
    "100, then reset": (after_request(b"HTTP/1.1 100 Continue\r\n\r\n", end=reset), 502, {502}, True),
    "500": (after_request(reply(500, b"mine"), end=lambda c: "stay"), 200, {500}, True),
    "503": (after_request(reply(503, b"mine"), end=lambda c: "stay"), 200, {503}, True),
    "half a body": (after_request(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", end=reset), None, {None}, True),
}


@pytest.fixture
def recorder():
    made = []

    def make(fault):
        made.append(Recorder(fault))
        return made[-1]
    yield make
    for o in made:
        o.close()


def status_of(s, method, body=b""):
    """None: an answer that was cut."""
    try:
        return s.get("/", method=method, body=body).status
    except (EOFError, OSError):
        return None


@pytest.mark.parametrize("name", FAULTS)
def test_a_get_is_saved_and_a_post_is_sent_once(sluice, recorder, name):
    fault, get, post, acts = FAULTS[name]
    bad, good = recorder(fault), recorder(after_request(reply(200, b"good"), end=lambda c: "stay"))
    s = sluice("ProxyTimeout first=300ms\nProxyBodyHold 1m\n" +
               pool([f"{bad}", f"{good} backup"], LISTED + "    Eject errors=off\n")).expect("SL05")
    assert status_of(s, "GET") == get
    saved = 1 if get == 200 else 0
    assert bad.seen == ["GET"] * acts and good.seen == ["GET"] * saved
    for body in (b"small", BIG):
        assert status_of(s, "POST", body) in post
        assert bad.seen.count("POST") + good.seen.count("POST") <= 1, name
        bad.seen.clear()
        good.seen.clear()


@contextlib.contextmanager
def held_up(pid):
    """The process, all its threads, does nothing meanwhile."""
    def states():
        return {open(f"/proc/{pid}/task/{t}/stat").read().rsplit(")", 1)[1].split()[0] for t in os.listdir(f"/proc/{pid}/task")}
    os.kill(pid, signal.SIGSTOP)
    until(lambda: states() == {"T"})
    yield
    os.kill(pid, signal.SIGCONT)


REQUESTS = {"POST": b"Content-Length: 2\r\n\r\nhi", "PUT": b"Content-Length: 2\r\n\r\nhi",
            "GET": b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"}


@pytest.mark.parametrize("end", [fin, reset])
@pytest.mark.parametrize("method", REQUESTS)
def test_a_server_that_has_just_left_is_asked_anew(sluice, recorder, end, method):
    """The proxy hears at once of the request and of the end of the kept connection, in this order."""
    go, gone = threading.Semaphore(0), threading.Semaphore(0)

    def fault(o, c):
        while (r := o.request(c)) is not None:
            c.send(reply(200, b"ok"))
            if r.target == "/last":
                go.acquire()
                end(c)
                gone.release()
                return
    o = recorder(fault)
    s = sluice(pool([o]))
    client = s.client()
    for _ in range(3):
        assert client.request("GET", "/last").status == 200
        with held_up(s.pids()[-1]):
            client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n".encode() + REQUESTS[method])
            go.release()
            gone.acquire()
        assert client.response().status == 200
    assert o.seen == ["GET", method] * 3
    client.close()


def test_nobody_listens(sluice, recorder):
    good = recorder(after_request(reply(200, b"good"), end=lambda c: "stay"))
    s = sluice(pool([f"127.0.0.1:{free_port()}", f"{good} backup"], "    Eject errors=off\n")).expect("SL0501")
    assert status_of(s, "GET") == 200 and status_of(s, "POST", BIG) == 200
    assert good.seen == ["GET", "POST"]


def test_idle_connections_that_end_at_random_moments(sluice, recorder):
    """Each request may meet the end of its kept connection: no GET fails, no POST is doubled."""
    effects, rnd = [], random.Random(7)

    def fault(o, c):
        for _ in range(rnd.randrange(1, 6)):
            r = o.request(c)
            if r is None:
                return
            effects.append(r.body)
            c.send(reply(200, b"ok"))
        time.sleep(rnd.random() * 0.004)
        (fin if rnd.random() < 0.5 else reset)(c)
    s = sluice(pool([recorder(fault), recorder(fault)], "    Eject errors=off\n")).expect("SL05")
    gets, posts = [], {}

    def load(k):
        for i in range(60):
            gets.append(status_of(s, "GET"))
            posts[f"{k}-{i}".encode()] = status_of(s, "POST", f"{k}-{i}".encode())
            time.sleep(rnd.random() * 0.004)
    clients = [threading.Thread(target=load, args=(k,)) for k in range(3)]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    assert set(gets) == {200}
    assert all(effects.count(p) <= 1 for p in posts)
    assert all(effects.count(p) == 1 for p, status in posts.items() if status == 200)
    assert set(posts.values()) <= {200, 502}
