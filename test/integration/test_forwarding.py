"""Requests and responses through the proxy as HTTP/1.1 wants them."""
import hashlib
import os
import socket
import threading
import time

import pytest
from origin import early, reply

CONF = "LoadModule route\nProxyPass http://{origin}\n"


@pytest.fixture
def proxy(sluice, origin):
    return sluice(CONF.format(origin=origin))


def test_a_request_reaches_the_backend(proxy):
    r = proxy.get("/a/b?x=1&y=%20")
    assert r.status == 200 and r.json()["target"] == "/a/b?x=1&y=%20"


def test_the_backend_learns_who_asked(proxy):
    r = proxy.get("/", host="api.test:8080")
    assert r.seen("Host") == "api.test:8080" == r.seen("X-Forwarded-Host")
    assert r.seen("X-Forwarded-For") == r.seen("X-Real-IP") == "127.0.0.1"
    assert r.seen("X-Forwarded-Proto") == "http" and r.seen("Via") == "1.1 sluice"


def test_forged_fields_are_replaced(proxy):
    r = proxy.get("/", {"X-Forwarded-For": "6.6.6.6", "X-Real-IP": "6.6.6.6",
                        "Forwarded": "for=6.6.6.6", "X-Forwarded-Proto": "https"})
    assert r.seen("X-Forwarded-For") == "127.0.0.1" and r.seen("Forwarded") is None
    assert r.seen("X-Forwarded-Proto") == "http"


def test_trusted_peers_are_believed(sluice, origin):
    s = sluice("TrustedProxies 127.0.0.0/8 10.0.0.0/8\n" + CONF.format(origin=origin))
    r = s.get("/", {"X-Forwarded-For": "1.2.3.4, 10.0.0.9", "X-Forwarded-Proto": "https"})
    assert r.seen("X-Forwarded-For") == "1.2.3.4, 10.0.0.9, 127.0.0.1"
    assert r.seen("X-Real-IP") == "1.2.3.4" and r.seen("X-Forwarded-Proto") == "https"


def test_forwarded_as_in_rfc_7239(sluice, origin):
    s = sluice("ProxyForwarded rfc7239\n" + CONF.format(origin=origin))
    r = s.get("/", {"X-Forwarded-For": "6.6.6.6"})
    assert r.seen("Forwarded") == 'for=127.0.0.1;proto=http;host="test"'
    assert r.seen("X-Forwarded-For") is None


def test_hop_by_hop_fields_end_here(proxy):
    r = proxy.get("/", {"Connection": "X-Mine, keep-alive", "X-Mine": "1", "Keep-Alive": "5",
                        "Proxy-Connection": "x", "TE": "trailers", "X-Other": "2"})
    for name in ("X-Mine", "Keep-Alive", "Proxy-Connection", "Connection", "TE"):
        assert r.seen(name) is None
    assert r.seen("X-Other") == "2"


def test_connection_cannot_name_the_clients_address_away(proxy):
    r = proxy.get("/", {"Connection": "X-Forwarded-For, X-Real-IP, Host"})
    assert r.seen("X-Forwarded-For") == "127.0.0.1" and r.seen("Host") == "test"


def test_keep_alive_and_reuse(proxy, origin):
    c = proxy.client()
    for i in range(20):
        assert c.request("GET", f"/{i}").json()["target"] == f"/{i}"
    assert origin.n_connections == 1
    c.close()


def test_pipelined_requests_are_answered_in_order(proxy):
    c = proxy.client()
    c.send("".join(f"GET /p{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(50)))
    assert [c.response().json()["target"] for _ in range(50)] == [f"/p{i}" for i in range(50)]
    c.close()


@pytest.mark.parametrize("n", [0, 1, 100, 5000, 70000, 1000000])
def test_bodies_up_and_down(proxy, origin, n):
    body = os.urandom(n)
    origin.on("/up", lambda c, r: c.send(reply(200, hashlib.sha256(r.body).hexdigest().encode())))
    origin.on("/down", lambda c, r: c.send(reply(200, body)))
    c = proxy.client()
    head = f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n".encode()
    assert c.send(head + body).response().body.decode() == hashlib.sha256(body).hexdigest()
    assert c.request("GET", "/down").body == body
    c.close()


@pytest.mark.parametrize("sizes", [[1] * 500, [70000, 1, 3000], [200000], []])
def test_chunked_both_ways(proxy, origin, sizes):
    parts = [os.urandom(n) for n in sizes]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"
    origin.on("/c", lambda c, r: c.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded))
    c = proxy.client()
    r = c.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded).response()
    assert r.body == b"".join(parts) == origin.last.body
    assert c.request("GET", "/after").status == 200
    c.close()


def test_a_chunked_body_byte_by_byte(proxy):
    c = proxy.client()
    for b in b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nA: b\r\n\r\n":
        c.send(bytes([b]))
    r = c.response()
    assert r.json()["body"] == "hello" and r.json()["trailers"] == ["A: b"]
    c.close()


def test_trailers_of_responses(proxy, origin):
    origin.on("/t", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                    b"2\r\nhi\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n")
    r = proxy.get("/t")
    assert r.body == b"hi" and r.trailers == ["X-Sum: 7"]


def test_trailers_of_requests_do_not_say_who_asked(proxy):
    c = proxy.client().send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
                            "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
                            "Via: evil\r\nX-Sum: 1\r\n\r\n")
    assert c.response().json()["trailers"] == ["X-Sum: 1"]
    c.close()


def test_date_is_made_where_a_server_takes_its_own_back(proxy, origin):
    origin.on("/d", reply(body=b"x", fields=[("Connection", "date"), ("Date", "never")]))
    assert proxy.get("/d").get("Date").endswith("GMT")


# A read takes 4096 bytes at first, a pipe what the length says: what is behind, neither sees.
def filled(head, body, n=4096):
    pad = n - len(head) - len(body) - len("X-Pad: \r\n\r\n")
    return head + b"X-Pad: " + b"p" * pad + b"\r\n\r\n" + body


@pytest.mark.parametrize("method, answer", [
    ("HEAD", filled(b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\n", b"")),
    ("GET", filled(b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n", b"x" * 3000)),
    ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200000)], ids=["head", "filled", "spliced"])
def test_bytes_behind_a_response_are_nobodys(proxy, origin, method, answer):
    origin.on("/a", answer + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
    c = proxy.client()
    c.send(f"{method} /a HTTP/1.1\r\nHost: a\r\n\r\n")
    c.response(method)
    for i in range(3):
        time.sleep(0.1)  # for what came late
        assert proxy.get(f"/{i}").json()["target"] == f"/{i}"
    c.close()


def test_head_has_no_body(proxy):
    c = proxy.client()
    r = c.request("HEAD", "/h")
    assert r.status == 200 and int(r.get("Content-Length")) > 0
    assert c.request("GET", "/g").json()["target"] == "/g"
    c.close()


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(proxy, origin, status):
    origin.on("/s", b"HTTP/1.1 %d Fine\r\nX-A: 1\r\n\r\n" % status)
    c = proxy.client()
    r = c.request("GET", "/s")
    assert r.status == status and r.get("X-A") == "1" and r.get("Transfer-Encoding") is None
    assert c.request("GET", "/g").status == 200
    c.close()


def test_a_response_that_ends_with_its_connection(proxy, origin):
    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n" + b"z" * 100000)
        return False
    origin.on("/u", script)
    r = proxy.get("/u")
    assert r.get("Transfer-Encoding") == "chunked" and r.body == b"z" * 100000


def test_http_1_0_clients_never_get_chunks(proxy, origin):
    origin.on("/c", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    answer = proxy.raw(b"GET /c HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabc") and b"chunked" not in answer
    assert b"Connection: close" in answer


def test_http_1_0_keep_alive(proxy):
    c = proxy.client()
    for _ in range(3):
        c.send(b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert c.response().get("Connection") == "keep-alive"
    c.close()


def test_http_1_0_backends(proxy, origin):
    def script(c, r):
        c.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return False
    origin.on("/old", script)
    assert proxy.get("/old").body == b"ok" == proxy.get("/old").body


def test_connection_close_is_kept(proxy):
    c = proxy.client()
    r = c.request("GET", "/", {"Connection": "close"})
    assert r.get("Connection") == "close" and c.closed()


def test_absolute_form(proxy):
    c = proxy.client()
    r = c.send(b"GET http://other.test/abs?q HTTP/1.1\r\nHost: wrong.test\r\n\r\n").response()
    assert r.json()["target"] == "/abs?q" and r.seen("Host") == "other.test"
    c.close()


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "M-SEARCH", "FOO!"])
def test_any_method_passes(proxy, method):
    assert proxy.get("/m", method=method).json()["method"] == method


def test_options_star(proxy):
    c = proxy.client()
    assert c.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").response().json()["target"] == "*"
    c.close()


def test_expect_continue(proxy, origin):
    c = proxy.client()
    c.send(b"POST /e HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert c.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    assert c.send(b"abc").response().json()["body"] == "abc"
    c.close()


def test_expectations_nobody_knows(proxy):
    assert b" 417 " in proxy.raw(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracle\r\n\r\n")


def test_early_hints_pass(proxy, origin):
    origin.on("/h", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
                    b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n" + reply(200, b"x"))
    r = proxy.get("/h")
    assert [i.get("Link") for i in r.interim] == ["</a.css>", "</b.css>"] and r.body == b"x"


def test_hints_are_not_for_http_1_0(proxy, origin):
    origin.on("/h", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + reply(200, b"x"))
    assert proxy.raw(b"GET /h HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_a_response_may_come_before_the_body_is_sent(proxy, origin):
    @early
    def script(c, r):
        c.send(reply(413, b"no", [("Connection", "close")], reason="Too Large"))
        return False
    origin.on("/early", script)
    c = proxy.client()
    c.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
    r = c.response()
    assert r.status == 413 and r.body == b"no" and r.get("Connection") == "close"
    c.close()


def test_events_are_streamed_at_once(proxy, origin):
    go = threading.Event()

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
        go.wait(5)
        c.send(b"8\r\ndata: 2\n\r\n0\r\n\r\n")
    origin.on("/sse", script)
    c = proxy.client()
    c.send(b"GET /sse HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"event-stream" in c.until(b"\r\n\r\n")
    assert c.until(b"data: 1\n\r\n") == b"8\r\n"
    go.set()
    assert c.until(b"0\r\n\r\n") == b"8\r\ndata: 2\n\r\n"
    c.close()


def test_a_head_alone_is_sent_at_once(proxy, origin):
    go = threading.Event()

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        go.wait(5)
        c.send(b"ok")
    origin.on("/slow", script)
    c = proxy.client()
    c.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert c.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    go.set()
    assert c.exactly(2) == b"ok"
    c.close()


def test_request_bodies_are_streamed(proxy, origin):
    seen = threading.Event()

    @early
    def script(c, r):
        assert c.until(b"hello\r\n") is not None
        seen.set()
        c.chunked(r)
        c.send(reply(200, b"done"))
    origin.on("/stream", script)
    c = proxy.client()
    c.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert seen.wait(5)
    assert c.send(b"0\r\n\r\n").response().body == b"done"
    c.close()


def memory_kb(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            total += int([l for l in f if l.startswith("VmRSS")][0].split()[1])
    return total


def test_a_slow_reader_holds_the_backend_back(proxy, origin):
    """64 MiB to a client that does not read: memory stays where it was."""
    sent = []

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1024):
            c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent.append(1)
        c.send(b"0\r\n\r\n")
    origin.on("/big", script)
    proxy.get("/warm")
    before = memory_kb(proxy.pids())
    c = proxy.client()
    c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1)
    assert len(sent) < 1024
    assert memory_kb(proxy.pids()) - before < 8192
    assert len(c.response().body) == 64 << 20
    c.close()


def test_bursts_reach_a_slow_reader_whole(proxy, origin):
    """Parts come while the client still has not taken the last: nothing may be cut or kept."""
    for _ in range(4):
        read_bursts(proxy, origin)


def read_bursts(proxy, origin):
    part = bytes(range(251)) * 1300
    parts = 40

    def script(conn, request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(part) * parts))
        for _ in range(parts):
            conn.send(part)
            time.sleep(0.002)

    origin.on("/bursts", script)
    clients = [proxy.client() for _ in range(4)]
    for c in clients:
        c.send(b"GET /bursts HTTP/1.1\r\nHost: a\r\n\r\n")
        c.until(b"\r\n\r\n")
    left = {c: (len(part) * parts, hashlib.sha1()) for c in clients}
    while left:
        for c, (n, digest) in list(left.items()):
            data = c.exactly(min(n, 100000))
            digest.update(data)
            left[c] = (n - len(data), digest)
            if n == len(data):
                assert digest.digest() == hashlib.sha1(part * parts).digest()
                del left[c]
        time.sleep(0.001)


def test_a_slow_backend_holds_the_client_back(proxy, origin):
    go = threading.Event()

    @early
    def script(c, r):
        go.wait(10)
        c.exactly(32 << 20)
        c.send(reply(200, b"ok"))
    origin.on("/up", script)
    proxy.get("/warm")
    before = memory_kb(proxy.pids())
    c = proxy.client(timeout=20)
    c.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (32 << 20))
    t = threading.Thread(target=lambda: c.send(b"x" * (32 << 20)))
    t.start()
    time.sleep(1)
    assert t.is_alive() and memory_kb(proxy.pids()) - before < 8192
    go.set()
    t.join()
    assert c.response().body == b"ok"
    c.close()


def websocket(proxy, origin, path="/ws", upgrade="websocket"):
    def script(c, r):
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
               b"Upgrade: " + upgrade.encode() + b"\r\nSec-WebSocket-Accept: x\r\n\r\nfirst")
        while True:
            data = c.buf or c.sock.recv(65536)
            c.buf = b""
            if not data:
                return False
            c.send(data.upper())
    origin.on(path, script)
    c = proxy.client()
    c.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
           "Sec-WebSocket-Key: k\r\n\r\nearly")
    return c


def test_websocket_tunnels(proxy, origin):
    c = websocket(proxy, origin)
    r = c.response()
    assert r.status == 101 and r.get("Upgrade") == "websocket"
    assert origin.last.get("Upgrade") == "websocket" and "pgrade" in origin.last.get("Connection")
    assert c.exactly(10) == b"firstEARLY"
    for i in range(20):
        data = os.urandom(5000).hex().encode()
        assert c.send(data).exactly(len(data)) == data.upper()
    c.sock.shutdown(socket.SHUT_WR)
    assert c.rest() == b""
    c.close()


def test_other_upgrades_are_not_passed_on(proxy, origin):
    r = proxy.get("/", {"Connection": "upgrade", "Upgrade": "h2c"})
    assert r.status == 200 and r.seen("Upgrade") is None


def test_a_switch_nobody_asked_for(proxy, origin):
    proxy.expect("SL0515")
    origin.on("/", b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert proxy.get("/").status == 502


def test_unix_sockets_on_both_sides(sluice, make_origin, tmp_path):
    o = make_origin(socket.AF_UNIX, str(tmp_path / "backend"))
    s = sluice(f"LoadModule route\nListen unix:{tmp_path}/front\nProxyPass {o}\n")
    from conftest import Client
    c = Client(0, socket.AF_UNIX, str(tmp_path / "front"))
    r = c.request("GET", "/u")
    assert r.json()["target"] == "/u" and r.seen("X-Forwarded-For") is None
    c.close()


def test_ipv6(sluice, origin):
    from conftest import Client, free_port
    port = free_port()
    sluice(f"Listen [::1]:{port}\n" + CONF.format(origin=origin))
    c = Client(port, socket.AF_INET6, ("::1", port))
    assert c.request("GET", "/").seen("X-Forwarded-For") == "::1"
    c.close()


def test_many_clients_at_once(proxy):
    clients = [proxy.client() for _ in range(200)]
    for i, c in enumerate(clients):
        c.send(f"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n")
    for i, c in enumerate(clients):
        assert c.response().json()["target"] == f"/{i}"
        c.close()


def test_a_client_silent_at_first_is_served_and_bounded(sluice, origin):
    s = sluice("Timeout header=300ms\n" + CONF.format(origin=origin))
    late, never = s.client(), s.client()
    time.sleep(0.7)  # held by the kernel: the time of a head has not begun
    assert late.request("GET", "/").status == 200
    began = time.time()
    assert never.sock.recv(1) == b"" and time.time() - began < 5
    late.close()
    never.close()
