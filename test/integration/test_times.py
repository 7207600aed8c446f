"""ProxyTimeout: each of the five times by itself, told with the server and the phase."""
import socket
import threading
import time

import pytest
from origin import early, reply

CONF = "LoadModule route\nProxyTimeout {times}\nProxyPass http://{server}\n"
DEFAULTS = {"connect": "30s", "send": "30s", "first": "30s", "idle": "30s"}


def times(**set_to):
    return " ".join(f"{k}={v}" for k, v in {**DEFAULTS, **set_to}.items())


@pytest.fixture
def full():
    """A server whose queue is full: connections to it never come about."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        with socket.create_connection(listener.getsockname()):
            yield "127.0.0.1:%d" % listener.getsockname()[1]


@early
def reads_nothing(c, r):
    time.sleep(1.2)
    return False


def says_nothing(c, r):
    time.sleep(1.2)
    return False


def stops_within(c, r):
    c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    time.sleep(1.2)
    return False


def goes_on_and_on(c, r):
    c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(12):
        c.send(b"x")
        time.sleep(0.1)
    return False


BIG = b"b" * (16 << 20)
# which, the fault (None: the full queue), method, bytes of its body, status (None: the answer is cut), message
CASES = [
    ("connect", None, "GET", 0, 504, "SL0502"), ("send", reads_nothing, "POST", 16 << 20, 504, "SL0504"),
    ("first", says_nothing, "GET", 0, 504, "SL0506"), ("first", says_nothing, "POST", 1, 504, "SL0506"),
    ("idle", stops_within, "GET", 0, None, "SL0510"), ("total", goes_on_and_on, "GET", 0, None, "SL0511"),
    ("total", says_nothing, "GET", 0, 504, "SL0511"), ("total", None, "GET", 0, 504, "SL0511"),
    ("total", reads_nothing, "POST", 16 << 20, 504, "SL0511")]


@pytest.mark.parametrize("which, fault, method, size, status, number", CASES)
def test_each_time_by_itself(sluice, origin, full, which, fault, method, size, status, number):
    server = full if fault is None else str(origin)
    origin.on("/", fault)
    s = sluice(CONF.format(times=times(**{which: "400ms"}), server=server)).expect(number)
    began, got = time.time(), None
    try:
        got = s.get("/", method=method, body=b"b" * size).status
    except (EOFError, OSError):
        pass
    took = time.time() - began
    assert got == status or (size > 1 and got is None)  # its answer may be lost to what it still sends
    assert 0.35 < took < 1.1
    assert s.logged(f"{number}.*server {server}")


def test_none_stands_for_another(sluice, origin):
    """What is slow in one phase is not judged by the time of another."""
    @early
    def reads_slowly(c, r):
        for _ in range(16):
            assert len(c.exactly(1 << 20)) == 1 << 20
            time.sleep(0.04)
        c.send(reply(200, b"read"))
    origin.on("/send", reads_slowly)
    origin.on("/first", lambda c, r: (time.sleep(0.7), c.send(reply(200, b"late")))[1])

    def trickles(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for i in range(8):
            time.sleep(0.1)
            c.send(b"%d" % i)
    origin.on("/idle", trickles)
    text = "LoadModule route\n" + "".join(
        f"<Location /{path}>\nProxyTimeout {times(**short)}\nProxyPass http://{origin}\n</Location>\n"
        for path, short in (("send", {"connect": "300ms", "idle": "300ms", "send": "300ms"}),
                            ("first", {"connect": "300ms", "send": "300ms", "idle": "300ms"}),
                            ("idle", {"connect": "300ms", "send": "300ms", "first": "300ms", "idle": "300ms"})))
    s = sluice(text)
    got = {}

    def ask(path, **k):
        got[path] = s.get(path, **k).body
    clients = [threading.Thread(target=ask, args=("/send",), kwargs={"method": "POST", "body": BIG}),
               threading.Thread(target=ask, args=("/first",)), threading.Thread(target=ask, args=("/idle",))]
    for t in clients:
        t.start()
    for t in clients:
        t.join()
    assert got == {"/send": b"read", "/first": b"late", "/idle": b"01234567"}
