"""HTTP/2 towards clients: every frame by hand (h2client), and nghttp, curl and node as they are."""
import base64
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from certs import CA
from conftest import Client, free_port
from h2client import (CANCEL, CONNECT_ERROR, DATA, END_HEADERS, END_STREAM, H2, HEADERS, NO_ERROR,
                      PRIORITY_UPDATE, PROTOCOL_ERROR, frame)
from origin import reply

BASE = "LoadModule route\nLoadModule http2\nProtocols h2 http/1.1\n"


@pytest.fixture
def h2(sluice, origin):
    """h2(lines) -> a server that speaks both protocols in clear, with the echoing backend."""
    def start(text="", target=None, **k):
        s = sluice(f"{BASE}{text}<Location \"/\">\nProxyPass http://{target or origin}\n</Location>\n", **k)
        s.h2 = lambda **kk: H2(s.port, **kk)
        return s
    return start


def test_a_request_is_what_it_is_over_http_1(h2):
    s = h2()
    c = s.h2(authority="Example.test:81")
    a = c.get("GET", "/a/b?c=d", [("x-one", "1"), ("accept", "*/*")])
    r = a.json()
    assert a.status == 200 and (r["method"], r["target"]) == ("GET", "/a/b?c=d")
    assert a.seen("Host") == "Example.test:81" and a.seen("X-One") == "1"
    assert a.seen("Via") == "2 sluice" and a.seen("X-Forwarded-For") == "127.0.0.1"
    assert a.get("date") and a.get("content-length") == str(len(a.body)) and a.get("connection") is None
    c.close()
    assert s.get("/x").status == 200  # the same port, HTTP/1.1


def test_settings(h2):
    c = h2("HTTP2Streams 7\nHTTP2StreamWindow 128k\nHTTP2HeaderList 20k\nHTTP2FrameSize 32k\n").h2()
    assert c.get().status == 200 and c.acks == 1
    assert c.settings == {3: 7, 4: 131072, 5: 32768, 6: 20480, 8: 1, 9: 1}


def test_cookie_crumbs_become_one_field(h2):
    a = h2().h2().get(extra=[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")])
    assert [v for k, v in a.json()["fields"] if k.lower() == "cookie"] == ["a=1; b=2; c=3"]


def test_streams_side_by_side(h2, origin):
    gate = threading.Event()

    def slow(c, r):
        gate.wait(10)
        c.send(reply(body=b"slow"))
    origin.on("/slow", slow)
    c = h2().h2()
    first = c.request(path="/slow")
    assert [c.get(path=f"/{i}").status for i in range(5)] == [200] * 5
    gate.set()
    assert c.answer(first).body == b"slow"


@pytest.mark.parametrize("length", [True, False], ids=["length", "unknown"])
def test_request_bodies(h2, length):
    body = os.urandom(700000)
    c = h2().h2()
    c.until(lambda: c.settings)
    stream = c.request("POST", "/", [("content-length", str(len(body)))] if length else [], end=False)
    sent = 0
    window = {0: 65535, stream: 65535}
    while sent < len(body):
        n = min(16384, len(body) - sent, *window.values())
        if n == 0:
            f = c.read()
            if f.kind == 8:
                window[f.stream] += int.from_bytes(f.payload, "big")
            continue
        c.frame(DATA, END_STREAM if sent + n == len(body) else 0, stream, body[sent:sent + n])
        sent += n
        for k in window:
            window[k] -= n
    a = c.answer(stream)
    assert base64.b64decode(a.json()["body"]) == body if "body64" in a.json() else a.status == 200
    assert a.seen("Content-Length") == (str(len(body)) if length else None)


def test_a_body_of_no_length_is_said_to_be_one(h2):
    a = h2().h2().get("POST", extra=[("content-length", "0")])
    assert a.status == 200 and a.seen("Content-Length") == "0"


def test_windows_open_only_for_what_was_taken(h2, make_origin):
    """A backend that does not read: the client may send a window more than what pipes hold."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    slow.bind(("127.0.0.1", 0))
    slow.listen(8)
    c = h2(target="127.0.0.1:%d" % slow.getsockname()[1]).h2()
    c.until(lambda: c.settings)
    stream, sent, window = c.request("POST", end=False), 0, {0: 65535, 1: 65535}
    c.sock.settimeout(1)
    for _ in range(2000):
        n = min(16384, *window.values())
        if n > 0:
            c.frame(DATA, 0, stream, b"x" * n)
            window = {k: v - n for k, v in window.items()}
            sent += n
            continue
        try:
            f = c.read()
        except socket.timeout:
            break
        if f.kind == 8:
            window[f.stream] += int.from_bytes(f.payload, "big")
    assert 65535 <= sent < 8 << 20
    c.close()
    slow.close()


def test_slow_reader_holds_its_source_back(h2, origin):
    body = os.urandom(1 << 20) * 4
    origin.on("/big", reply(body=body))
    c = h2().h2(auto_window=False)
    stream = c.request(path="/big")
    a = c.answers[stream]
    c.until(lambda: len(a.body) == 65535)
    assert c.ping() and len(a.body) == 65535  # not a byte beyond the window
    c.auto_window = True
    c.window(0, 1 << 20), c.window(stream, 1 << 20)
    assert c.answer(stream).body == body


def test_head_has_no_body(h2, origin):
    origin.on("/h", reply(body=b"", length=False, fields=[("Content-Length", "77")]))
    a = h2().h2().get("HEAD", "/h")
    assert a.status == 200 and a.body == b"" and a.get("content-length") == "77"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_body(h2, origin, status):
    origin.on("/n", reply(status, length=False))
    a = h2().h2().get(path="/n")
    assert a.status == status and a.body == b"" and a.get("content-length") is None


def test_interim_responses(h2, origin):
    origin.on("/i", b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + reply(body=b"x"))
    a = h2().h2().get(path="/i")
    assert a.interim == [(103, [(":status", "103"), ("link", "</a.css>")])] and a.body == b"x"


def test_trailers_both_ways(h2, origin):
    origin.on("/t", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")
    c = h2().h2()
    assert c.get(path="/t").trailers == [("x-sum", "7")]
    stream = c.request("POST", "/echo", body=b"abc", end=False)
    c.frame(HEADERS, END_HEADERS | END_STREAM, stream, c.block([("x-check", "9")]))
    assert c.answer(stream).status == 200 and origin.last.trailers == ["x-check: 9"]


def test_connection_fields_of_a_server_stay_there(h2, origin):
    origin.on("/c", reply(body=b"x", fields=[("Connection", "keep-alive, x-hop"), ("Keep-Alive", "timeout=5"),
                                             ("X-Hop", "1"), ("Proxy-Connection", "x"), ("X-End", "2")]))
    a = h2().h2().get(path="/c")
    assert {k for k, _ in a.fields} & {"connection", "keep-alive", "x-hop", "proxy-connection"} == set()
    assert a.get("x-end") == "2"


def test_a_cut_response_is_a_reset(h2, origin):
    origin.on("/cut", lambda c, r: (c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), time.sleep(0.3), c.close()))
    s = h2().expect("SL0509")
    c = s.h2()
    a = c.get(path="/cut")
    assert (a.status, a.body, a.ended) == (200, b"abc", False) and a.reset == 2
    assert c.get().status == 200  # of that stream alone


def test_an_answer_before_the_end_of_the_request(h2):
    s = h2('<Location "/no">\nReturn 403 no\n</Location>\n')
    c = s.h2()
    stream = c.request("POST", "/no", end=False)
    a = c.answer(stream)
    assert a.status == 403
    c.until(lambda: a.reset is not None)
    assert a.reset == NO_ERROR and c.get().status == 200  # RFC 9113, 8.1


def test_a_client_that_resets_ends_its_request(h2, origin):
    ended = threading.Event()

    def wait(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        if c.fill() == b"":
            ended.set()
    origin.on("/wait", wait)
    c = h2().h2()
    stream = c.request(path="/wait")
    c.until(lambda: c.answers[stream].body == b"x")
    c.reset(stream)
    assert ended.wait(5) and c.get().status == 200


def test_answers_of_urgency(h2, origin):
    """RFC 9218: what is urgent leaves first, whatever was asked first; PRIORITY_UPDATE changes it."""
    for name in "abc":
        origin.on(f"/{name}", reply(body=os.urandom(50000)))
    c = h2().h2(auto_window=False, window=0)
    c.until(lambda: c.settings)
    streams = [c.request(path="/a", extra=[("priority", "u=6")]), c.request(path="/b", extra=[("priority", "u=1")]),
               c.request(path="/c", extra=[("priority", "u=7")])]
    c.until(lambda: all(c.answers[s].status for s in streams))
    c.frame(PRIORITY_UPDATE, 0, 0, streams[2].to_bytes(4, "big") + b"u=0")
    assert c.ping()
    c.frame(4, 0, 0, b"\0\4\0\1\0\0")  # all windows open at once
    c.window(0, 1 << 20)
    c.until(lambda: all(c.answers[s].ended for s in streams))
    assert [s for s, n in c.order if n][0] == streams[2]
    first = {s: [x for x, n in c.order].index(s) for s in streams}
    assert sorted(streams, key=first.get) == [streams[2], streams[1], streams[0]]


def test_incremental_answers_take_turns(h2, origin):
    for name in "ab":
        origin.on(f"/{name}", reply(body=os.urandom(60000)))
    c = h2().h2(auto_window=False, window=0)
    streams = [c.request(path=f"/{n}", extra=[("priority", "u=3, i")]) for n in "ab"]
    c.until(lambda: all(c.answers[s].status for s in streams))
    c.frame(4, 0, 0, b"\0\4\0\1\0\0")
    c.window(0, 1 << 20)
    c.until(lambda: all(c.answers[s].ended for s in streams))
    order = [s for s, n in c.order if n]
    assert order[0] != order[1] and order[1] != order[2]


def test_keepalive_requests_end_in_goaway(h2):
    c = h2("KeepaliveRequests 3\n").h2()
    assert [c.get().status for _ in range(3)] == [200] * 3
    assert c.ended() == NO_ERROR


def test_idle_connections_are_told_and_closed(h2):
    c = h2("Timeout keepalive=1s\n").h2()
    assert c.get().status == 200
    t = time.time()
    assert c.ended() == NO_ERROR and 0.9 < time.time() - t < 4


def test_unfinished_greetings_and_heads_have_their_time(h2):
    s = h2("Timeout header=1s\n")
    c = s.h2(greet=False)
    c.send(b"PRI * HT")
    assert c.sock.recv(1) == b""
    c = s.h2()
    assert c.ping()
    c.frame(HEADERS, END_STREAM, 1, c.block(c.fields())[:5])
    assert c.ended() == 11


def test_request_bodies_have_their_time(h2):
    c = h2("Timeout body=1s\n").h2()
    a = c.answer(c.request("POST", body=b"x", end=False))
    assert a.status == 408 and c.get().status == 200


def test_a_window_that_stays_closed(h2, origin):
    origin.on("/big", reply(body=b"x" * 300000))
    s = h2("Timeout send=1s\nLogLevel info\n")
    c = s.h2(auto_window=False)
    a = c.answer(c.request(path="/big"))
    assert a.reset == CANCEL and s.logged("SL0416")
    c.window(0, 1 << 20)
    assert c.get().status == 200


@pytest.mark.parametrize("at", ["stream", "connection"])
def test_a_window_that_opens_byte_by_byte(h2, origin, at):
    """No progress: else it would hold the answer and its server for days."""
    origin.on("/big", reply(body=b"x" * 300000))
    s = h2("Timeout send=1s\nLogLevel info\n")
    c = s.h2(auto_window=False, **({} if at == "stream" else {"window": 1 << 30}))
    if at == "stream":
        c.window(0, 1 << 20)
    stream = c.request(path="/big")
    a = c.answers[stream]
    c.until(lambda: len(a.body) == 65535)
    for _ in range(40):
        if a.reset is None:
            c.window(stream if at == "stream" else 0, 1)
            assert c.ping()
            time.sleep(0.1)
    assert a.reset == CANCEL and len(a.body) > 65535 and s.logged("SL0416")


def test_a_reader_that_takes_little_but_enough_has_time(h2, origin):
    origin.on("/big", reply(body=b"x" * 80000))
    c = h2("Timeout send=1s\n").h2(auto_window=False)
    c.window(0, 1 << 20)
    stream = c.request(path="/big")
    c.until(lambda: len(c.answers[stream].body) == 65535)
    for _ in range(12):
        c.window(stream, 600)
        assert c.ping() and c.answers[stream].reset is None
        time.sleep(0.2)
    c.window(stream, 1 << 20)
    assert len(c.answer(stream).body) == 80000


def test_whom_others_keep_waiting_has_time(h2, origin):
    """A long answer that is more urgent: the other's time for sending is not over for that."""
    origin.on("/long", reply(body=b"x" * 400000))
    origin.on("/other", reply(body=b"y" * 1000))
    c = h2("Timeout send=1s\n").h2(auto_window=False, window=1 << 30)
    long = c.request(path="/long", extra=[("priority", "u=0")])
    c.until(lambda: len(c.answers[long].body) == 65535)
    other = c.request(path="/other", extra=[("priority", "u=7")])
    for _ in range(6):
        time.sleep(0.4)
        c.window(0, 30000)
    assert c.ping() and c.answers[other].reset is None and c.answers[long].reset is None
    c.window(0, 1 << 20)
    assert len(c.answer(other).body) == 1000 and len(c.answer(long).body) == 400000


def test_a_client_that_reads_nothing_is_closed(h2, origin):
    origin.on("/big", reply(body=b"x" * (8 << 20)))
    s = h2("Timeout send=1s\nLogLevel info\n")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", s.port))
    c = s.h2(sock=sock, window=(1 << 31) - 1)
    c.window(0, 1 << 30)
    c.request(path="/big")
    assert s.logged("HTTP20006", 10)
    c.close()


# ---- ends ----

def test_reload_drains_by_goaway(h2, origin):
    gate = threading.Event()

    def slow(c, r):
        gate.wait(10)
        c.send(reply(body=b"done"))
    origin.on("/slow", slow)
    s = h2()
    c, idle = s.h2(), s.h2()
    assert idle.get().status == 200
    stream = c.request(path="/slow")
    assert c.ping()
    s.proc.send_signal(signal.SIGHUP)
    assert idle.ended() == NO_ERROR
    c.until(lambda: c.goaway is not None)
    assert int.from_bytes(c.goaway.payload[:4], "big") in (stream, 0x7fffffff)
    gate.set()
    assert c.answer(stream).body == b"done"
    assert c.ended() == NO_ERROR and int.from_bytes(c.goaway.payload[:4], "big") == stream
    assert s.h2().get().status == 200


def test_stop_finishes_what_runs(h2, origin):
    origin.on("/slow", lambda c, r: (time.sleep(0.5), c.send(reply(body=b"done"))))
    s = h2()
    c = s.h2()
    stream = c.request(path="/slow")
    assert c.ping()
    s.proc.send_signal(signal.SIGTERM)
    assert c.answer(stream).body == b"done" and c.ended() == NO_ERROR
    s.proc.wait(10)


# ---- WebSockets, RFC 8441 ----

def websocket_backend(c, r):
    import hashlib
    accept = base64.b64encode(hashlib.sha1((r.get("Sec-WebSocket-Key") +
                                            "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    assert len(base64.b64decode(r.get("Sec-WebSocket-Key"))) == 16
    c.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        data = c.buf or c.fill()
        c.buf = b""
        if not data:
            return
        c.send(data.upper())


def test_websocket(h2, origin):
    origin.on("/ws", websocket_backend)
    c = h2().h2()
    stream = c.request("CONNECT", "/ws", [("sec-websocket-version", "13")], end=False, protocol="websocket")
    a = c.answers[stream]
    c.until(lambda: a.status is not None)
    assert a.status == 200 and a.get("sec-websocket-accept") is None and a.get("upgrade") is None
    r = origin.last
    assert (r.method, r.get("Upgrade"), r.get("Sec-WebSocket-Version")) == ("GET", "websocket", "13")
    for word in (b"hello", b"again"):
        c.data(stream, word)
        c.until(lambda: a.body.endswith(word.upper()))
    assert c.get().status == 200
    c.data(stream, b"", end=True)
    assert c.answer(stream).body == b"HELLOAGAIN"


def test_what_is_no_switch_is_no_success(h2, origin):
    s = h2('<Location "/off">\nProxyUpgrade off\nProxyPass http://%s\n</Location>\n' % origin)
    c = s.h2()
    stream = c.request("CONNECT", "/off", end=False, protocol="websocket")
    assert c.answer(stream).reset == CONNECT_ERROR
    origin.on("/no", reply(403, body=b"no"))
    assert c.answer(c.request("CONNECT", "/no", end=False, protocol="websocket")).status == 403


def test_a_server_that_did_not_understand(h2, origin):
    origin.on("/ws", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: c29tZXRoaW5nIGVsc2U=\r\n\r\n")
    c = h2().h2()
    stream = c.request("CONNECT", "/ws", [("sec-websocket-version", "13")], end=False, protocol="websocket")
    assert c.answer(stream).reset == CONNECT_ERROR and c.get().status == 200


# ---- other modules see a request ----

def test_other_modules_do_not_notice(h2, tmp_path):
    log = tmp_path / "access.log"
    s = h2(f'LoadModule log\nLoadModule headers\nLoadModule gzip\nGzip on\nGzipTypes *\nGzipMinSize 1\n'
           f'LogFormat x "%{{method}} %{{host}} %{{path}} %{{status}} %{{request_id}}"\nAccessLog {log} x\n'
           'Header set X-Mod yes\n<VirtualHost a.test>\n<Location "/r">\nRedirect 302 /r /there\n</Location>\n'
           '</VirtualHost>\n')
    c = s.h2(authority="a.test")
    a = c.get(path="/r")
    assert (a.status, a.get("location"), a.get("x-mod")) == (302, "/there", "yes")
    c = s.h2()
    a = c.get(extra=[("accept-encoding", "gzip")])
    assert a.get("content-encoding") == "gzip" and a.get("content-length") is None and a.body[:2] == b"\x1f\x8b"
    c.close()
    s.stop()
    assert re.search(r"GET a.test /r 302 \w{16}\nGET test / 200", log.read_text())


# ---- over TLS, and clients as they are ----

@pytest.fixture
def secure(sluice, origin, tmp_path):
    ca = CA(tmp_path)
    cert = ca.make("a.test")
    port = free_port()
    s = sluice(f"{BASE}LoadModule tls\nListen 127.0.0.1:{port} tls\nTLSCertificate {cert}\n"
               f"<Location \"/\">\nProxyPass http://{origin}\n</Location>\n")
    s.tls_port, s.ca = port, ca
    return s


def test_alpn(secure):
    ctx = ssl.create_default_context(cafile=secure.ca.pem)
    ctx.set_alpn_protocols(["h2", "http/1.1"])
    sock = ctx.wrap_socket(socket.create_connection(("127.0.0.1", secure.tls_port)), server_hostname="a.test")
    assert sock.selected_alpn_protocol() == "h2"
    c = H2(0, sock=sock, scheme="https", authority="a.test")
    a = c.get("POST", body=b"x" * 60000)
    assert a.status == 200 and a.seen("X-Forwarded-Proto") == "https"


def test_curl(secure, origin):
    origin.on("/big", reply(body=b"x" * 3000000))
    r = subprocess.run(["curl", "-sS", "--http2", "--cacert", secure.ca.pem, "--connect-to",
                        f"a.test:443:127.0.0.1:{secure.tls_port}", "https://a.test/big", "-o", "/dev/null",
                        "-w", "%{http_version} %{http_code} %{size_download}"],
                       capture_output=True, text=True, timeout=30)
    assert r.stdout == "2 200 3000000", r.stderr


def test_many_requests_of_nghttp_and_h2load(secure):
    r = subprocess.run(["h2load", "-n", "2000", "-c", "5", "-m", "20", f"https://127.0.0.1:{secure.tls_port}/x"],
                       capture_output=True, text=True, timeout=60)
    assert "2000 succeeded, 0 failed, 0 errored" in r.stdout, r.stdout + r.stderr


def test_node(secure, tmp_path):
    (tmp_path / "c.js").write_text("""
const http2 = require('http2'), fs = require('fs')
const c = http2.connect('https://a.test:%d', {ca: fs.readFileSync('%s'), lookup: (h, o, f) => o.all ?
  f(null, [{address: '127.0.0.1', family: 4}]) : f(null, '127.0.0.1', 4)})
let left = 50
for (let i = 0; i < 50; i++) {
  const r = c.request({':path': '/' + i, ':method': 'POST'})
  let body = ''
  r.on('data', d => body += d)
  r.on('end', () => { if (JSON.parse(body).target !== '/' + i) process.exit(1); if (--left === 0) { c.close(); console.log('good') } })
  r.end('x'.repeat(10000))
}
""" % (secure.tls_port, secure.ca.pem))
    r = subprocess.run(["node", str(tmp_path / "c.js")], capture_output=True, text=True, timeout=60)
    assert r.stdout == "good\n", r.stdout + r.stderr


@pytest.mark.parametrize("line, error", [
    ("HTTP2Streams 0", "expected a number from 1 to 100000"),
    ("HTTP2StreamWindow 1k", "expected a size from 64k to 2047m"),
    ("HTTP2FrameSize 8k", "expected a size from 16k to 16383k"),
    ("HTTP2HeaderList 10", "expected a size from 1k to 1m"),
    ("HTTP2Stream 5", "HTTP2Streams"),
])
def test_errors_of_the_configuration(refused, line, error):
    assert error in refused(f"LoadModule http2\n{line}\n")
