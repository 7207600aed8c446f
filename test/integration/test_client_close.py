"""Clients that close their side of the connection while their answer is awaited."""
import socket
import threading
import time

import pytest
from origin import reply

GET = b"GET /late HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST /late HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc"
LOG = 'LoadModule route\nLoadModule log\nLogLevel info\nLogFormat f "%m %>s %{{cause}}"\nAccessLog {0}/a f flush=10ms\n'


def until(true, timeout=5):
    end = time.time() + timeout
    while not true() and time.time() < end:
        time.sleep(0.01)
    return true()


class Late:
    """The origin's /late, which answers when it is told to; what its connections came to."""

    def __init__(self, origin):
        self.go, self.asked, self.left = threading.Event(), 0, 0
        origin.on("/late", self.script)

    def script(self, c, r):
        self.asked += 1
        c.sock.settimeout(0.02)
        while not self.go.is_set():
            try:
                self.left += c.sock.recv(1) == b""
                return
            except socket.timeout:
                pass
        c.sock.settimeout(None)
        c.send(reply(200, b"late", [("Cache-Control", "max-age=60")]))
        return True


@pytest.fixture
def late(origin):
    return Late(origin)


@pytest.mark.parametrize("sent", [GET, POST, GET + GET], ids=["get", "post", "pipelined"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at-once", "later"])
def test_one_that_closes_is_gone(sluice, origin, late, tmp_path, sent, at_once):
    """Its server is let go, and what it asked for next is not asked of anybody."""
    s = sluice(LOG.format(tmp_path) + f"ProxyPass {origin}\n")
    c = s.client()
    c.send(sent)
    assert at_once or until(lambda: late.asked == 1)
    c.close()
    assert until(lambda: s.logged("SL0415 .*client 127.0.0.1.*left before its answer"))
    assert until(lambda: late.left == late.asked) and late.asked <= 1
    method = sent.split()[0].decode()
    assert until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text() == f"{method} 499 client_gone\n")
    late.go.set()
    assert s.get("/late").body == b"late"


def test_half_a_close_is_taken_for_one_or_not(sluice, origin, late):
    s = sluice(f"LoadModule route\nProxyPass {origin}\n<Location /own>\nReturn 200 own\n</Location>\n<Location /late>\n"
               "AbortOnClose off\n</Location>\n<Location /late/not>\nAbortOnClose on\n</Location>\n")
    origin.on("/late/not", late.script)
    told = []
    for path in ("/late", "/late/not", "/own"):
        c = s.client().send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
        c.sock.shutdown(socket.SHUT_WR)
        told.append(c)
    assert told[1].rest() == b"" and told[2].response().body == b"own"
    late.go.set()
    assert told[0].response().body == b"late"


def test_what_others_wait_for_is_fetched_on(sluice, origin, late, tmp_path):
    """One of two who wait for the same leaves, then both."""
    s = sluice(f"LoadModule route\nLoadModule cache_disk\nCacheDisk {tmp_path}/cache size=16m memory=4m\nCache on\n"
               f"ProxyPass {origin}\n")
    a, b = s.client().send(GET), s.client().send(GET)
    assert until(lambda: late.asked == 1)
    time.sleep(0.1)
    a.close()
    time.sleep(0.1)
    assert late.left == 0
    late.go.set()
    assert b.response().body == b"late" and late.asked == 1
    late.go.clear()
    origin.on("/gone", late.script)
    a, b = (s.client().send(GET.replace(b"late", b"gone")) for _ in range(2))
    assert until(lambda: late.asked == 2)
    time.sleep(0.1)
    a.close(), b.close()
    assert until(lambda: late.left == 1)


def test_one_that_closes_leaves_the_queue(sluice, origin, late):
    """The place of who was first is the next one's, and who left has none."""
    s = sluice("LoadModule route\nLoadModule balancer\n<Balancer b>\n"
               f"Server {origin} maxconn=1\nQueue 5 timeout=5s\n</Balancer>\nProxyPass balancer://b\n")
    first = s.client().send(GET)
    assert until(lambda: late.asked == 1)
    waiting = [s.client().send(GET) for _ in range(2)]
    time.sleep(0.1)
    waiting[0].close()
    time.sleep(0.05)
    first.close()
    assert until(lambda: late.asked == 2 and late.left == 1)
    late.go.set()
    assert waiting[1].response().body == b"late" and late.asked == 2


def test_a_quiet_stream_ends_with_its_client(sluice, origin):
    """Nothing is written to it that could show that nobody is there."""
    ended = threading.Event()

    def stream(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        if c.sock.recv(1) == b"":
            ended.set()
    origin.on("/events", stream)
    s = sluice(f"LoadModule route\nProxyPass {origin}\n")
    c = s.client().send(b"GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"data: 1" in c.until(b"\n\n\r\n")
    c.close()
    assert ended.wait(3)
