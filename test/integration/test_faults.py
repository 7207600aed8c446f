"""Where a proxy can go wrong unnoticed: corners of requests, modules that fail at the wrong
time, tunnels and slow bodies, memory, reloads in the middle of a crash."""
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import IS_SANITIZED, MODULES, PROGRAM, Client, free_port
from origin import Origin, early, reply
from test_reload import operate  # noqa: F401: a fixture

BASE = "LoadModule route\nLoadModule headers\nLoadModule log\nLoadModule balancer\n"
FAULTS = BASE + "LoadModule faults\n"
GROWTH_MB = 600 if IS_SANITIZED else 40


def pool(*servers, extra=""):
    lines = "".join(f"Server {x}\n" for x in servers)
    return f"<Balancer p>\n{lines}{extra}</Balancer>\nProxyPass balancer://p\n"


def logged_lines(path, n=1, timeout=5):
    end = time.time() + timeout
    while time.time() < end:
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        if len(lines) >= n:
            return lines
        time.sleep(0.02)
    raise AssertionError(f"no {n} lines in {path}")


def memory_mb(pid, *what):
    """The most memory a process ever had; not every kernel counts what was given back."""
    with open(f"/proc/{pid}/status") as f:
        text = f.read()
    sizes = [re.search(name + r":\s+(\d+)", text) for name in what or ("VmHWM", "VmRSS")]
    return max(int(s[1]) for s in sizes if s) / 1024


def hard_close(c):
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()


# ---- a target without a path, but with a query ----

NO_PATH = b"GET http://h?x=1 HTTP/1.1\r\nHost: h\r\n\r\n"


def test_a_query_without_a_path_is_redirected(sluice):
    s = sluice(BASE + 'Return 301 "https://%{host}%{uri}"\n')
    worker = s.pids()[1]
    r = s.client().send(NO_PATH).response()
    assert r.status == 301 and r.get("Location") == "https://h/?x=1" and s.pids()[1] == worker


def test_a_query_without_a_path_is_logged(sluice, tmp_path):
    s = sluice(BASE + f"AccessLog {tmp_path}/a json\nAccessLog {tmp_path}/b uri flush=10ms\n"
               'LogFormat uri "%{uri} %{path} %{query}"\nReturn 200 x\n')
    assert s.client().send(NO_PATH).response().status == 200
    assert logged_lines(tmp_path / "b") == ["/?x=1 / x=1"]
    assert s.stop() == 0
    assert json.loads(logged_lines(tmp_path / "a")[0])["status"] == 200


def test_a_query_without_a_path_is_proxied(sluice, make_origin):
    a, b = make_origin(), make_origin()
    s = sluice(BASE + pool(a, f"{b} backup"))
    for _ in range(2):
        assert s.client().send(NO_PATH).response().json()["target"] == "/?x=1"
    assert len(a.requests) == 2 and not b.requests


# ---- fields ----

@pytest.mark.parametrize("value", ["$1-$1", "$1" * 3000, "$$ $0 $11 $"], ids=["few", "many", "odd"])
def test_an_edit_takes_no_groups_from_a_value(sluice, origin, value):
    s = sluice("LimitLine 16k\nLimitHead 60k\n" + BASE +
               f'RequestHeader edit X-A "^(.*)$" "<%{{req:X-B}}$1>"\nProxyPass {origin}\n')
    r = s.get("/", {"X-A": "a" * 3000, "X-B": value})
    assert r.seen("X-A") == "<" + value + "a" * 3000 + ">"


def test_a_location_is_edited_with_the_clients_host(sluice, origin):
    origin.on("/", reply(302, b"", [("Location", "http://www.example.org/x")]))
    s = sluice("LimitHead 60k\n" + BASE + 'Header edit Location "^http://[^/]*" "http://%{host}"\n'
               f"ProxyRedirect off\nProxyPass {origin}\n")
    host = "$0" * 100
    assert s.get("/", host=host).get("Location") == f"http://{host}/x"


def test_an_edit_has_as_many_groups_as_its_pattern(sluice, origin):
    s = sluice(BASE + f'RequestHeader edit X-A "^{"(.)" * 11}$" "$9$1"\nProxyPass {origin}\n')
    assert s.get("/", {"X-A": "abcdefghijk"}).seen("X-A") == "ia"


def test_nothing_is_appended_where_there_is_nothing(sluice, origin):
    s = sluice(BASE + "RequestHeader append X-A %{req:Missing}\n"
               f"RequestHeader append X-New %{{req:Missing}}\nProxyPass {origin}\n")
    r = s.get("/", {"X-A": "a"})
    assert r.seen("X-A") == "a" and not r.seen("X-New")


def test_a_server_of_a_pool_is_named_in_host(sluice, origin):
    s = sluice(BASE + "ProxyHost upstream\n" + pool(origin))
    assert s.get("/").seen("Host") == str(origin)


def test_a_client_without_host_gets_the_servers(sluice, origin):
    s = sluice(BASE + pool(origin))
    r = s.client().send(b"GET / HTTP/1.0\r\n\r\n").response()
    assert r.seen("Host") == str(origin)


def test_no_module_can_change_where_an_answer_ends(sluice, origin):
    s = sluice(FAULTS + f"FaultsResponse frame\nProxyPass {origin}\n")
    c = s.client(timeout=3)
    for _ in range(2):
        r = c.request("GET", "/")
        assert r.json()["target"] == "/" and r.get("X-Refused") == "3"
        assert r.get("Transfer-Encoding") is None and r.get("Connection") is None


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_no_module_can_change_where_a_request_ends(sluice, origin, framing):
    s = sluice(FAULTS + f"FaultsRequest on\nProxyPass {origin}\n")
    c = s.client(timeout=3)
    for _ in range(2):
        if framing == "length":
            r = c.request("POST", "/", body=b"hello")
        else:
            r = c.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                       b"5\r\nhello\r\n0\r\n\r\n").response()
        assert r.json()["body"] == "hello" and r.seen("X-Refused") == "3"


# ---- limits ----

def post(s, path, n, **k):
    return s.get(path, method="POST", body=b"x" * n, **k).status


def test_a_body_is_limited_by_its_location(sluice, origin):
    s = sluice(BASE + "LimitBody 1k\n<Location /large>\nLimitBody 1m\n</Location>\n"
               f"<Location /small>\nLimitBody 10\n</Location>\nProxyPass {origin}\n").expect("SL0407")
    assert post(s, "/large", 5000) == 200 and post(s, "/", 500) == 200
    n = len(origin.requests)
    assert post(s, "/small", 500) == 413 and post(s, "/", 5000) == 413
    assert len(origin.requests) == n  # a length that is too large is not sent anywhere


def test_a_body_is_limited_by_its_host(sluice, origin):
    s = sluice(BASE + f"<VirtualHost a>\nLimitBody 1k\nProxyPass {origin}\n</VirtualHost>\n"
               f"<VirtualHost b>\nProxyPass {origin}\n</VirtualHost>\n").expect("SL0407")
    assert post(s, "/", 5000, host="b") == 200 and post(s, "/", 5000, host="a") == 413


def test_a_body_is_limited_after_its_answer_began(sluice, origin):
    taken = []

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        while c.fill():
            taken.append(len(c.buf))
            c.buf = b""
        return False
    origin.on("/", early(script))
    s = sluice(BASE + f"LimitBody 100k\nProxyPass {origin}\n").expect("SL0407")
    c = s.client(timeout=3).send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    c.until(b"ok\r\n")
    with pytest.raises(OSError):
        for _ in range(300):
            c.send(b"2710\r\n" + b"x" * 10000 + b"\r\n")
            time.sleep(0.002)
    assert sum(taken) < 300000


@pytest.mark.parametrize("limit, fields, status", [
    ("LimitLine 50", {}, 414), ("LimitHead 200", {"X-A": "a" * 300}, 431),
    ("LimitFields 5", {f"X-{i}": "1" for i in range(9)}, 431)])
def test_heads_are_limited_by_host_and_location(sluice, limit, fields, status):
    s = sluice(BASE + f"<VirtualHost tight>\n{limit}\nReturn 200 x\n</VirtualHost>\n"
               f"<VirtualHost loose>\nReturn 200 x\n<Location /in>\n{limit}\nReturn 200 x\n"
               "</Location>\n</VirtualHost>\n").expect("SL040")
    path = "?" + "q" * 100
    assert s.get("/" + path, fields, host="loose").status == 200
    assert s.get("/" + path, fields, host="tight").status == status
    assert s.get("/in" + path, fields, host="loose").status == status
    assert s.get("/in", host="loose").status == 200 == s.get("/", host="tight").status


def test_requests_of_a_connection_are_counted_by_host(sluice):
    s = sluice(BASE + "<VirtualHost a>\nReturn 200 a\n</VirtualHost>\n"
               "<VirtualHost b>\nKeepaliveRequests 2\nReturn 200 b\n</VirtualHost>\n")
    c = s.client()
    assert [c.request("GET", "/", host="a").get("Connection") for _ in range(4)] == [None] * 4
    assert c.request("GET", "/", host="b").get("Connection") == "close" and c.closed()
    c = s.client()
    assert [c.request("GET", "/", host="b").get("Connection") for _ in range(2)] == [None, "close"]


def test_bodies_are_waited_for_as_their_host_says(sluice, origin):
    s = sluice(BASE + f"<VirtualHost a>\nProxyPass {origin}\n</VirtualHost>\n"
               f"<VirtualHost b>\nTimeout body=200ms\nProxyPass {origin}\n</VirtualHost>\n").expect("SL0409")
    head = "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\nhe"
    a, b = [s.client().send(head.format(h)) for h in ("a", "b")]
    assert b.response().status == 408
    assert a.send(b"llo").response().json()["body"] == "hello"


# ---- who asks ----

@pytest.mark.parametrize("written, is_text", [
    ("203.0.113.9:4711", "203.0.113.9"), ("203.0.113.9", "203.0.113.9"),
    ("[2001:db8::1]:80", "2001:db8::1"), ("[2001:DB8::1]", "2001:db8::1")])
def test_a_client_has_no_port(sluice, origin, tmp_path, written, is_text):
    s = sluice(f"TrustedProxies 127.0.0.0/8\n{BASE}AccessLog {tmp_path}/a host flush=10ms\n"
               f'LogFormat host "%h"\nProxyPass {origin}\n')
    assert s.get("/", {"X-Forwarded-For": written}).seen("X-Real-IP") == is_text
    assert logged_lines(tmp_path / "a") == [is_text]


def test_a_unix_peer_has_no_address(sluice, origin, tmp_path):
    s = sluice(f"Listen unix:{tmp_path}/s\n{BASE}ProxyPass {origin}\n"
               "<Location /rfc>\nProxyForwarded rfc7239\n</Location>\n")
    c = Client(0, family=socket.AF_UNIX, address=f"{tmp_path}/s")
    assert c.request("GET", "/rfc").seen("Forwarded") == 'for=unknown;proto=http;host="test"'
    r = c.request("GET", "/")
    assert "unix" not in (r.seen("X-Forwarded-For") or "") + (r.seen("X-Real-IP") or "")
    assert r.seen("X-Forwarded-Proto") == "http"


# ---- what HTTP asks of a hop ----

@pytest.mark.parametrize("path", ["/admin", "/%61dmin", "/x/../admin", "//admin"])
def test_patterns_of_redirects_see_the_normalised_path(sluice, path):
    s = sluice(BASE + 'RedirectMatch 301 "^/admin" /login\nReturn 200 open\n')
    assert s.get(path).status == 301


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS"])
def test_max_forwards_counts(sluice, origin, method):
    s = sluice(BASE + f"ProxyPass {origin}\n")
    assert s.get("/", {"Max-Forwards": "3"}, method=method).seen("Max-Forwards") == "2"
    assert s.get("/", {"Max-Forwards": "0"}).seen("Max-Forwards") == "0"  # GET: no business of ours
    n = len(origin.requests)
    assert s.get("/", {"Max-Forwards": "0"}, method=method).status < 500
    assert len(origin.requests) == n


@pytest.mark.parametrize("fields", [[], [("Connection", "close")]])
def test_an_answer_before_the_body_says_that_it_is_the_last(sluice, origin, fields):
    origin.on("/", early(lambda c, r: (c.send(reply(200, b"ok", fields)), c.fill(), False)[2]))
    s = sluice(BASE + f"ProxyPass {origin}\n")
    c = s.client().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
    r = c.response()
    assert r.body == b"ok" and r.get("Connection") == "close" and c.closed()


def test_a_flood_of_interim_answers_ends(sluice, origin):
    part = b"HTTP/1.1 103 Early Hints\r\nLink: </a>;" + b"x" * 900 + b"\r\n\r\n"
    sent = []

    def script(c, r):
        for _ in range(1000):
            c.send(part * 100)
            sent.append(1)
        return False
    origin.on("/", script)
    s = sluice(BASE + f"ProxyPass {origin}\n").expect("SL0507")
    worker = s.pids()[1]
    c = s.client().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.5)  # nobody reads
    assert c.response().status == 502 and len(sent) < 1000
    assert memory_mb(worker) < GROWTH_MB


def test_some_interim_answers_pass(sluice, origin):
    part = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    origin.on("/", part * 20 + reply(200, b"ok"))
    s = sluice(BASE + f"ProxyPass {origin}\n")
    r = s.get("/")
    assert r.body == b"ok" and len(r.interim) == 20


# ---- modules that fail or wait ----

@pytest.mark.parametrize("source", ["Return 200 hi", "ProxyPass {origin}"])
def test_a_response_hook_may_fail(sluice, origin, source):
    s = sluice(FAULTS + "<Location /bad>\nFaultsResponse fail\n</Location>\n" +
               source.format(origin=origin) + "\n").expect("SL0451")
    worker, c = s.pids()[1], s.client(timeout=3)
    for _ in range(2):
        assert c.request("GET", "/bad").status == 503
        assert c.request("GET", "/good").status == 200
    assert s.pids()[1] == worker


@pytest.mark.parametrize("source", ["Return 200 hi", "ProxyPass {origin}"])
def test_a_filter_that_fails_ends_the_answer_and_is_the_cause(sluice, origin, tmp_path, source):
    s = sluice(BASE + f"LoadModule probe\nProbeFilter fail\nAccessLog {tmp_path}/a cause flush=10ms\n"
               'LogFormat cause "%{cause}"\n' + source.format(origin=origin) + "\n")
    s.expect("SL0451", "SL0463")
    c = s.client(timeout=3).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not c.rest().endswith(b"hi")
    assert logged_lines(tmp_path / "a") == ["hook_failed"]


def test_the_time_of_an_answer_is_over_while_a_hook_waits(sluice, origin):
    s = sluice(FAULTS + f"ProxyPass {origin}\n<Location /wait>\nFaultsResponse wait\n"
               "ProxyTimeout total=200ms\n</Location>\n").expect("SL0511")
    c, began = s.client(timeout=3), time.time()
    assert c.request("GET", "/wait").status == 504 and time.time() - began < 0.6
    time.sleep(0.7)  # the hook resumes what is gone
    assert c.request("GET", "/after").json()["target"] == "/after" and not c.buf


def test_a_filter_that_waits_often_keeps_its_bytes_once(sluice):
    s = sluice(FAULTS + f"FaultsFilter on\nReturn 200 {'b' * 7000}\n")
    c = s.client().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    most = 0
    while not select.select([c.sock], [], [], 0.005)[0]:
        most = max(most, memory_mb(s.pids()[1]))
    assert c.response().body == b"b" * 7000 and 0 < most < GROWTH_MB


@pytest.fixture
def ahead(sluice, origin):
    """A server behind a transport that reads ahead, and one that speaks to servers so."""
    port = free_port()
    s = sluice(f"{FAULTS}Listen 127.0.0.1:{port} ahead\nProxyPass {origin}\n"
               f"<Location /up/>\nProxyPass ahead://{origin}/\n</Location>\n")
    s.ahead = lambda: Client(port, timeout=3)
    return s


def test_requests_a_transport_has_read_are_answered(ahead):
    c = ahead.ahead().send("".join(f"GET /p{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(20)))
    assert [c.response().json()["target"] for _ in range(20)] == [f"/p{i}" for i in range(20)]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 3000, 300000])
def test_bodies_a_transport_has_read_are_passed_on(ahead, n):
    c = ahead.ahead()
    for _ in range(2):
        assert c.request("POST", "/", body=b"b" * n).json()["body"] == "b" * n


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 3000, 300000])
def test_answers_a_transport_has_read_are_passed_on(ahead, origin, n):
    origin.on("/length", reply(200, b"d" * n))
    origin.on("/chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
              (b"%x\r\n%s\r\n" % (n, b"d" * n) if n else b"") + b"0\r\n\r\n")
    c = ahead.client(timeout=3)
    for path in ("length", "chunked") * 2:
        assert c.request("GET", "/up/" + path).body == b"d" * n


# ---- tunnels ----

UPGRADE = (b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def tunnel(s, origin, script, client=None):
    """An upgraded connection; the script runs at its other end."""
    def run(c, r):
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        script(c)
        return False
    origin.on("/ws", run)
    c = client or s.client(timeout=5)
    c.send(UPGRADE).until(b"\r\n\r\n")
    return c


def shout(c):
    while True:
        data = c.sock.recv(65536)
        if not data:
            return
        if data != b"quiet":
            c.send(data.upper())


def test_a_tunnel_whose_server_listens_stays_open(sluice, origin):
    s = sluice(BASE + f"ProxyTimeout idle=200ms\nProxyPass {origin}\n")
    c = tunnel(s, origin, shout)
    assert c.send(b"ping").exactly(4) == b"PING"
    for _ in range(6):
        c.send(b"quiet")
        time.sleep(0.1)
    time.sleep(0.4)
    assert c.send(b"pong").exactly(4) == b"PONG"


def test_the_least_rate_is_the_clients_own(sluice, origin):
    """Neither a quiet tunnel nor a slow server makes a client slow."""
    size = 12000000

    def slow(c, r):
        time.sleep(5.5)
        left = size - len(c.buf)
        while left > 0:
            left -= len(c.sock.recv(1 << 20))
        c.buf = b""
        c.send(reply(200, b"all"))
    origin.on("/slow", early(slow))
    s = sluice(BASE + f"Timeout minrate=2m\nProxyPass {origin}\n")
    c, t = s.client(timeout=15), tunnel(s, origin, shout)
    head = f"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
    sending = threading.Thread(target=lambda: c.send(head).send(b"x" * size), daemon=True)
    sending.start()
    assert t.send(b"ping").exactly(4) == b"PING"
    assert c.response().body == b"all"
    for _ in range(2):
        assert t.send(b"pong").exactly(4) == b"PONG"
    sending.join()


def test_what_a_client_says_while_it_drains_its_window_is_heard(sluice, origin):
    """Room to write and bytes to read come in one event: the process is stopped for it."""
    heard = threading.Event()
    size = [8000000]

    def script(c):
        c.send(b"z" * size[0])
        while c.sock.recv(1000):
            heard.set()
    s = sluice(BASE + f"ProxyPass {origin}\n")
    worker = s.pids()[1]

    def drain(c):
        n = 0
        c.sock.settimeout(0.15)
        try:
            while True:
                n += len(c.sock.recv(1 << 20))
        except socket.timeout:
            return n

    def narrow():
        c = s.client()
        c.close()
        c.sock = socket.socket()
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        c.sock.settimeout(5)
        c.sock.connect(("127.0.0.1", s.port))
        return c

    def held_back(says):
        """How much the kernel holds for a client that does not read."""
        heard.clear()
        c = tunnel(s, origin, script, narrow())
        time.sleep(0.4)
        os.kill(worker, signal.SIGSTOP)
        try:
            n = len(c.buf) + drain(c)
            if says:
                c.send(b"ack")
                time.sleep(0.05)
        finally:
            os.kill(worker, signal.SIGCONT)
        if says:
            drain(c)
            assert heard.wait(1), f"{n} of {size[0]}"
        hard_close(c)
        return n

    n = held_back(False)
    for more in (5000, 20000, 40000):
        size[0] = n + more
        held_back(True)


# ---- bodies on their way ----

def test_a_long_answer_begins_before_its_body(sluice, origin):
    go = threading.Event()

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        go.wait(5)
        c.send(b"b" * 100000)
    origin.on("/", script)
    s = sluice(BASE + f"ProxyPass {origin}\n")
    c = s.client(timeout=1).send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    c.until(b"\r\n\r\n")
    go.set()
    assert c.exactly(100000) == b"b" * 100000


class Reluctant(Origin):
    """A backend whose queue of connections is full until it is told to go on."""

    def __init__(self):
        self.go = threading.Event()
        super().__init__()
        self.listener.listen(0)
        self.queued = [socket.socket() for _ in range(2)]
        for q in self.queued:
            q.setblocking(False)
            q.connect_ex(self.listener.getsockname())

    def _accept(self):
        self.go.wait(20)
        super()._accept()

    def close(self):
        self.go.set()
        for q in self.queued:
            q.close()
        super().close()


@pytest.fixture
def reluctant():
    o = Reluctant()
    yield o
    o.close()


def test_a_chunked_body_that_ends_between_two_attempts(sluice, origin, reluctant):
    died = threading.Event()

    def die(c, r):
        c.until(b"hello")
        c.reset()
        died.set()
        return False
    origin.on("/", early(die))
    s = sluice(BASE + pool(origin, f"{reluctant} backup")).expect("SL05", "BALANCER")
    c = s.client().send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert died.wait(5) and s.logged("trying another server")
    c.send(b"0\r\n\r\n")
    time.sleep(0.1)
    reluctant.go.set()
    assert c.response().json()["body"] == "hello"


def test_copied_bytes_wait_for_a_connection(sluice, origin, reluctant):
    """A protocol hands over bytes without a buffer between two attempts."""
    origin.on("/up", early(lambda c, r: c.reset()))
    s = sluice(BASE + "LoadModule lines\nProtocols lines http/1.1\n" +
               pool(origin, f"{reluctant} backup")).expect("SL05", "BALANCER")
    worker, c = s.pids()[1], s.client().send(b"PUT h /up 2000\n")
    assert s.logged("trying another server")
    for part in (b"u", b"v"):
        c.send(part * 1000)
        time.sleep(0.1)
    reluctant.go.set()
    assert int(c.until(b"\n")) == 200 and s.pids()[1] == worker
    assert json.loads(c.exactly(int(c.until(b"\n"))))["body"] == "u" * 1000 + "v" * 1000


def test_a_body_in_small_pieces_is_held_in_little_memory(sluice, origin):
    came = [0]

    def script(c, r):
        came[0] = len(c.buf)
        while len(c.buf) < 60000 and c.fill():
            came[0] = len(c.buf)
        c.send(reply(200, c.exactly(60000)))
    origin.on("/", early(script))
    s = sluice(BASE + f"ProxyPass {origin}\n", env={"MALLOC_ARENA_MAX": "1"})
    worker, c, end = s.pids()[1], s.client(), time.time() + 10
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
    before = memory_mb(worker, "VmData", "VmSize")  # buffers are hardly touched
    for i in range(2000):  # one after the other, so that each is read alone
        c.send(b"%d" % (i % 10))
        while came[0] <= i and time.time() < end:
            time.sleep(0.0001)
    grown = memory_mb(worker, "VmData", "VmSize") - before
    assert c.send(b"0123456789" * 5800).response().body == b"0123456789" * 6000
    assert grown < GROWTH_MB


def test_a_client_that_leaves_says_nothing_about_a_server(sluice, origin):
    port = int(str(origin).split(":")[1])
    for s in list(origin.open):
        s.close()
    origin.close()
    s = sluice(BASE + pool(origin, "127.0.0.1:1 backup", extra="Eject errors=1\nRetry max=0\n"))
    s.expect("SL05", "BALANCER001")
    assert s.get("/").status == 502 and s.logged("rests for 1 s")
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        silent.bind(("127.0.0.1", port))
        silent.listen()
        time.sleep(1.1)
        assert s.get("/").status == 502  # by the backup, while a connection finds out who is there
        silent.settimeout(10)
        silent.accept()[0].close()
        time.sleep(0.2)
        c = s.client().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        asked = silent.accept()[0]
        assert asked.recv(1000)
        hard_close(c)
        assert asked.recv(1000) == b""
    assert not s.logged("is back", 0.2)


# ---- processes ----

OLD, NEW = "LoadModule route\nReturn 200 old\n", "LoadModule route\nReturn 200 new\n"


def crash_often(o, until_ms):
    """Kills worker after worker, until the next one is that far away."""
    end = time.time() + 10
    while time.time() < end:
        waits = re.findall(r"starts in (\d+) ms", o.s.log())
        if waits and int(waits[-1]) >= until_ms:
            return
        for pid in o.s.pids()[1:]:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    raise AssertionError("no long pause: " + o.s.log())


def test_a_reload_mends_what_crashes_again_and_again(operate):
    o = operate(OLD)
    o.s.expect("SL0202")
    crash_often(o, 1600)
    o.write(NEW)
    began = time.time()
    assert "generation 2 serves" in o.reload("--timeout", "3s") and time.time() - began < 1.5
    assert o.s.get("/").body == b"new" and o.settled(1, 1)
    o.reload()


def test_a_worker_that_is_late_does_not_serve_what_was_replaced(operate, tmp_path):
    hold = tmp_path / "hold"
    o = operate(f"LoadModule faults\nFaultsHold {hold}\n" + OLD)
    o.s.expect("SL0202")
    hold.touch()
    worker = o.serving()
    os.kill(worker, signal.SIGKILL)
    while o.s.pids()[1:] in ([], [worker]):
        time.sleep(0.01)
    o.write(NEW)
    reload = subprocess.Popen([PROGRAM, "-f", o.s.conf, "--module-dir", MODULES, "-k", "reload",
                               "--timeout", "4s"], stdout=subprocess.PIPE, text=True)
    while 2 not in o.generations() or o.generations()[2][0] != "serving":
        time.sleep(0.02)
    began = time.time()
    hold.unlink()
    assert "generation 2 serves" in reload.communicate(timeout=10)[0] and reload.returncode == 0
    assert time.time() - began < 2 and o.settled(1, 2)
    assert {o.s.get("/").body for _ in range(50)} == {b"new"}


def test_a_reload_that_changes_much_costs_the_master_little(operate):
    def text(word):
        return "LoadModule route\n" + "".join(
            f"Redirect 301 /old/{word}/{i}/{'x' * 40} /new/{i}\n" for i in range(1500))
    o = operate(text("a"))
    o.write(text("b"))
    began = time.time()
    assert o.reload().count("Redirect") >= 1000
    assert time.time() - began < 5 and memory_mb(o.s.proc.pid) < GROWTH_MB


def test_the_master_logs_where_its_configuration_says(operate, tmp_path):
    o = operate(OLD)
    o.s.expect("SL0208")
    o.write(f"ErrorLog {tmp_path}/log\n" + OLD)
    o.reload()
    o.write("Bogus 1\n")
    o.refused()
    assert "SL0208" in (tmp_path / "log").read_text() and "SL0208" not in o.s.log()
    o.write(OLD)
    o.reload()
    o.write("Bogus 2\n")
    o.refused()
    assert o.s.logged("SL0208", 2) and (tmp_path / "log").read_text().count("SL0208") == 1


def test_a_server_that_fails_behind_its_head_is_a_bad_gateway(sluice, origin):
    origin.on("/bad", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    r = sluice(BASE + f"ProxyPass {origin}\n").expect("SL0514").get("/bad")
    assert r.status == 502 and b"bad_response_chunk" in r.body


def test_a_length_in_an_interim_response_is_nobodys(sluice, origin):
    origin.on("/", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: <x>\r\n\r\n" + reply(body=b"ok"))
    r = sluice(BASE + f"ProxyPass {origin}\n").get("/")
    assert r.body == b"ok" and r.interim[0].get("Content-Length") is None and r.interim[0].get("Link")
