"""HTTP/2 towards servers: one by hand (python3-h2), nghttpd, node, and gRPC end to end."""
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from certs import CA
from conftest import free_port
from h2client import (CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, PING, PUSH_PROMISE,
                      RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, settings)

BASE = "LoadModule route\nLoadModule http2\nProtocols h2 http/1.1\n"


class Stream:
    def __init__(self, conn, sid, fields):
        self.conn, self.id, self.fields, self.body = conn, sid, fields, b""
        self.trailers, self.ended, self.gone, self.reset = None, threading.Event(), threading.Event(), None

    def get(self, name):
        return dict(self.fields).get(name)

    def respond(self, status=200, fields=(), body=b"", end=True, trailers=None):
        last = end and not body and trailers is None
        self.conn.do(lambda c: c.send_headers(self.id, [(":status", str(status)), *fields], end_stream=last))
        if body:
            self.send(body, end and trailers is None)
        if trailers is not None:
            self.conn.do(lambda c: c.send_headers(self.id, trailers, end_stream=True))
        return self

    def send(self, body, end=False):
        while body:
            n = self.conn.do(lambda c: c.local_flow_control_window(self.id))
            n = min(n, len(body), 16384)
            if n == 0:
                time.sleep(0.002)
                continue
            part, body = body[:n], body[n:]
            self.conn.do(lambda c: c.send_data(self.id, part, end_stream=end and not body))


class Conn:
    """One connection of a server that is told what to do by a function of the stream."""

    def __init__(self, server, sock):
        self.server, self.sock, self.lock = server, sock, threading.RLock()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8",
                                                                      **server.config))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=server.settings)
        self.streams, self.takes, self.closed = {}, server.takes, threading.Event()
        self.do(lambda c: c.initiate_connection())

    def do(self, f):
        with self.lock:
            r = f(self.h2)
            self.flush()
            return r

    def flush(self):
        try:
            self.sock.sendall(self.h2.data_to_send())
        except OSError:
            pass

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)

    def run(self):
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.closed.set()
                for s in self.streams.values():
                    s.ended.set()
                return
            with self.lock:
                for e in self.h2.receive_data(data):
                    self.event(e)
                self.flush()

    def event(self, e):
        s = self.streams.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.RequestReceived):
            s = self.streams[e.stream_id] = Stream(self, e.stream_id, e.headers)
            self.server.streams.append(s)
            threading.Thread(target=self.server.act, args=(s,), daemon=True).start()
        elif isinstance(e, h2.events.DataReceived):
            s.body += e.data
            if self.takes and e.flow_controlled_length:
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.TrailersReceived):
            s.trailers = e.headers
        elif isinstance(e, h2.events.StreamReset):
            s.reset = e.error_code
            s.ended.set()
            s.gone.set()
        elif isinstance(e, h2.events.StreamEnded):
            s.ended.set()


class Server:
    def __init__(self, act, settings=None, takes=True, **config):
        self.act, self.settings, self.takes, self.config = act, settings or {}, takes, config
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port, self.conns, self.streams = self.listener.getsockname()[1], [], []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.conns.append(Conn(self, sock))
            threading.Thread(target=self.conns[-1].run, daemon=True).start()

    def stop(self):
        self.listener.close()
        for c in self.conns:
            c.sock.close()


def echo(s):
    s.ended.wait(10)
    s.respond(body=s.body or b"empty", fields=[("x-path", s.get(":path"))])


@pytest.fixture
def proxied(sluice):
    """proxied(act, lines) -> a server in front of one that does what act(stream) says."""
    made = []

    def start(act=echo, text="", **k):
        b = Server(act, **k)
        made.append(b)
        s = sluice(f"{BASE}{text}<Location \"/\">\nProxyPass h2c://127.0.0.1:{b.port}\n</Location>\n")
        s.backend = b
        return s
    yield start
    for b in made:
        b.stop()


@pytest.mark.parametrize("version", [1, 2])
def test_requests_and_responses(proxied, version):
    s = proxied()
    body = os.urandom(300000)
    if version == 1:
        r = s.get("/a?b", method="POST", body=body, fields={"X-One": "1", "Connection": "x-hop", "X-Hop": "2"})
        assert (r.status, r.body, r.get("x-path")) == (200, body, "/a?b")
    else:
        c = s.h2 = H2(s.port)
        a = c.get("POST", "/a?b", [("x-one", "1")], body=b"x" * 60000)
        assert (a.status, a.body, a.get("x-path")) == (200, b"x" * 60000, "/a?b")
    f = s.backend.streams[-1]
    assert (f.get(":method"), f.get(":scheme"), f.get(":authority"), f.get("x-one")) == ("POST", "http", "test", "1")
    assert f.get("x-forwarded-for") == "127.0.0.1" and f.get("x-hop") is None and f.get("host") is None
    assert f.get("connection") is None and f.get("te") is None


def test_one_connection_for_all(proxied):
    s = proxied(lambda x: (time.sleep(0.2), x.respond(body=b"x")))
    c = H2(s.port)
    streams = [c.request(path=f"/{i}") for i in range(50)]
    assert all(c.answer(x).status == 200 for x in streams)
    assert len(s.backend.conns) == 1 and len(s.backend.streams) == 50
    assert c.get().status == 200 and len(s.backend.conns) == 1  # and it is kept


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_no_more_than_the_server_allows(proxied, known):
    most, running, lock = [0], {}, threading.Lock()

    def act(x):
        with lock:
            running[x.conn] = running.get(x.conn, 0) + 1
            most[0] = max(most[0], running[x.conn])
        time.sleep(0.1)
        with lock:
            running[x.conn] -= 1
        x.respond(body=b"x")
    s = proxied(act, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 4})
    if known:
        assert s.get().status == 200
    c = H2(s.port)
    streams = [c.request(path=f"/{i}") for i in range(20)]
    assert all(c.answer(x).status == 200 for x in streams)
    assert most[0] == 4


def test_no_more_than_we_allow(proxied):
    s = proxied(lambda x: (time.sleep(0.3), x.respond(body=b"x")), "HTTP2ServerStreams 5\n")
    c = H2(s.port)
    streams = [c.request(path=f"/{i}") for i in range(20)]
    assert all(c.answer(x).status == 200 for x in streams)
    assert len(s.backend.conns) >= 4


def test_trailers_and_interim(proxied):
    def act(x):
        x.ended.wait(5)
        x.conn.do(lambda c: c.send_headers(x.id, [(":status", "103"), ("link", "</a>")]))
        x.respond(body=b"abc", trailers=[("grpc-status", "0"), ("x", "y")])
    s = proxied(act)
    c = H2(s.port)
    stream = c.request("POST", extra=[("te", "trailers")], body=b"q", end=False)
    c.frame(1, 5, stream, c.block([("x-check", "9")]))
    a = c.answer(stream)
    assert a.interim[0][0] == 103 and a.body == b"abc" and a.trailers == [("grpc-status", "0"), ("x", "y")]
    f = s.backend.streams[-1]
    assert f.trailers == [("x-check", "9")] and f.get("te") == "trailers"
    r = s.client()
    r.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    assert r.response().trailers == ["grpc-status: 0", "x: y"]


def test_response_without_a_body(proxied):
    s = proxied(lambda x: x.respond(int(x.get(":path")[1:]), fields=[("content-length", "9")] if
                                    x.get(":method") == "HEAD" else []))
    assert s.get("/204").status == 204 and s.get("/304").status == 304
    r = s.get("/200", method="HEAD")
    assert r.status == 200 and r.get("content-length") == "9"
    assert s.get("/200").get("content-length") == "0"


def test_a_slow_client_holds_the_server_back(proxied):
    sent = [0]

    def act(x):
        x.respond(end=False)
        for _ in range(50):
            x.send(b"x" * 65536)
            sent[0] += 65536
        x.send(b"y", end=True)
    s = proxied(act)
    c = H2(s.port, auto_window=False)
    stream = c.request()
    c.until(lambda: len(c.answers[stream].body) == 65535)
    time.sleep(0.5)
    assert sent[0] <= 65536 * 6
    c.auto_window = True
    c.window(0, 1 << 24), c.window(stream, 1 << 24)
    assert len(c.answer(stream).body) == 50 * 65536 + 1


def test_a_slow_server_holds_the_client_back(proxied):
    s = proxied(lambda x: None, takes=False)
    c = H2(s.port)
    stream, sent, window = c.request("POST", end=False), 0, {0: 65535, 1: 65535}
    c.sock.settimeout(1)
    while True:
        n = min(16384, *window.values())
        if n:
            c.frame(0, 0, stream, b"x" * n)
            window, sent = {k: v - n for k, v in window.items()}, sent + n
            continue
        try:
            f = c.read()
        except socket.timeout:
            break
        if f.kind == 8:
            window[f.stream] += int.from_bytes(f.payload, "big")
    assert len(s.backend.streams[0].body) == 65535 and sent <= 65535 * 4


def test_a_client_that_leaves_resets_the_stream_alone(proxied):
    s = proxied(lambda x: x.respond(end=False) if x.get(":path") == "/wait" else x.respond(body=b"x"))
    c = H2(s.port)
    stream = c.request(path="/wait")
    c.until(lambda: c.answers[stream].status)
    c.reset(stream)
    first = s.backend.streams[0]
    assert first.gone.wait(5) and first.reset == 8
    assert c.get().status == 200 and len(s.backend.conns) == 1


@pytest.mark.parametrize("code", [2, 8])
def test_streams_the_server_resets(proxied, code):
    s = proxied(lambda x: x.conn.do(lambda c: c.reset_stream(x.id, code))).expect("SL0505")
    assert s.get(method="POST", body=b"x").status == 502


def test_reset_in_the_middle(proxied):
    def act(x):
        x.respond(end=False)
        x.send(b"abc")
        time.sleep(0.3)
        x.conn.do(lambda c: c.reset_stream(x.id, 2))
    s = proxied(act).expect("SL0509")
    a = H2(s.port).get()
    assert a.body == b"abc" and a.reset == 2


def test_what_was_refused_is_sent_again(proxied):
    """RFC 9113, 8.7: not acted on, so a POST, too, finds another connection."""
    n = [0]

    def act(x):
        x.ended.wait(5)
        n[0] += 1
        if n[0] == 2:
            x.conn.do(lambda c: c.reset_stream(x.id, 7))
        else:
            x.respond(body=b"good")
    s = proxied(act).expect("SL0505")
    assert s.get(method="POST", body=b"1").body == b"good"
    assert s.get(method="POST", body=b"2").body == b"good" and n[0] == 3


def test_what_a_new_connection_refuses_is_sent_again(proxied):
    n = [0]

    def act(x):
        x.ended.wait(5)
        n[0] += 1
        if n[0] != 2 and x.get(":path") == "/":
            x.conn.do(lambda c: c.reset_stream(x.id, 7))
        elif x.get(":path") == "/never":
            x.conn.do(lambda c: c.reset_stream(x.id, 7))
        else:
            x.respond(body=b"good")
    s = proxied(act).expect("SL0505")
    assert s.get(method="POST", body=b"1").body == b"good" and n[0] == 2
    assert s.get("/never").status == 502 and n[0] == 4


def test_goaway(proxied):
    def act(x):
        x.ended.wait(5)
        if x.get(":path") == "/last":
            x.conn.sock.sendall(b"\0\0\x08\7\0\0\0\0\0" + x.id.to_bytes(4, "big") + b"\0" * 4)
            time.sleep(0.1)
        x.respond(body=b"x")
    s = proxied(act)
    c = s.client()
    assert c.request("GET", "/").status == 200
    assert c.request("GET", "/last").status == 200  # what runs is finished
    assert c.request("GET", "/").status == 200 and len(s.backend.conns) == 2


def test_connections_that_break(proxied):
    s = proxied(lambda x: x.conn.close() if x.get(":path") == "/x" else x.respond(body=b"x")).expect("SL0505")
    assert s.get("/x").status == 502
    assert s.get("/").status == 200
    s.backend.conns[-1].close()  # while it is idle
    time.sleep(0.2)
    assert s.get("/").status == 200


def test_nobody_there(sluice):
    s = sluice(f'{BASE}<Location "/">\nProxyPass h2c://127.0.0.1:{free_port()}\n</Location>\n').expect("SL0501")
    c = H2(s.port)
    streams = [c.request() for _ in range(5)]
    assert [c.answer(x).status for x in streams] == [502] * 5


@pytest.mark.parametrize("bytes_", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 50, b"\0\0\4\0\0\0\0\0\0abcd"])
def test_servers_that_speak_something_else(sluice, bytes_):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            c.recv(1000)
            c.sendall(bytes_)
            time.sleep(0.2)
            c.close()
    threading.Thread(target=serve, daemon=True).start()
    s = sluice(f'{BASE}<Location "/">\nProxyPass h2c://127.0.0.1:{listener.getsockname()[1]}\n</Location>\n')
    s.expect("SL0505", "SL0507", "HTTP20012")
    assert s.get().status == 502 and s.logged("HTTP20012 .* for what it sent: PROTOCOL_ERROR")
    listener.close()


# ---- servers that do what they must not ----

class Bare:
    """A server that answers each head with the frames it is told to send, right or wrong."""

    def __init__(self, act, greeting=b""):
        self.act, self.greeting, self.n_requests, self.n_open = act, greeting, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        reader, encoder = sock.makefile("rb"), hpack.Encoder()
        self.n_open += 1
        try:
            sock.sendall(frame(SETTINGS, payload=self.greeting))
            reader.read(24)
            while len(head := reader.read(9)) == 9:
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                reader.read(int.from_bytes(head[:3], "big"))
                if kind == SETTINGS and not flags:
                    sock.sendall(frame(SETTINGS, 1))
                if kind == HEADERS:
                    self.n_requests += 1
                    for part in self.act(stream, lambda *f: encoder.encode([(":status", "200"), *f])):
                        time.sleep(part) if isinstance(part, float) else sock.sendall(part)
        except OSError:
            pass
        self.n_open -= 1

    def stop(self):
        self.listener.close()


@pytest.fixture
def bare(sluice):
    """bare(act, lines) -> a server in front of one that sends what act(stream, head) gives; /ok answers
    without it."""
    made = []

    def start(act, text="", **k):
        made.append(Bare(act, **k))
        s = sluice(f"{BASE}{text}<Location \"/ok\">\nReturn 204\n</Location>\n<Location \"/\">\n"
                   f"ProxyPass h2c://127.0.0.1:{made[-1].port}\n</Location>\n")
        s.backend = made[-1]
        return s.expect("SL0505", "SL0507", "SL0509", "HTTP20012")
    yield start
    for b in made:
        b.stop()


# ---- servers that allow no streams ----

def test_a_server_that_allows_no_streams(bare, sluice):
    """No room: what it did not get, and what it refused, goes elsewhere at once, and the connections
    are not kept."""
    made = [Bare(lambda s, h: [frame(RST_STREAM, 0, s, struct.pack(">I", 7))], greeting=settings(streams=0)),
            Bare(lambda s, h: answers(s, h))]
    s = sluice(f"{BASE}LoadModule balancer\n<Balancer p>\n" +
               "".join(f"Server h2c://127.0.0.1:{b.port}\n" for b in made) +
               "Retry on=error max=2 budget=100\n</Balancer>\n<Location \"/\">\nProxyPass balancer://p\n"
               "</Location>\n").expect("SL0505", "BALANCER0010")
    c = H2(s.port)
    streams = [c.request(path=f"/{i}") for i in range(20)]
    assert [c.answer(x).body for x in streams] == [b"abc"] * 20
    time.sleep(0.3)
    assert made[0].n_open == 0
    for b in made:
        b.stop()


def test_a_server_that_allows_no_more_streams(proxied):
    """What is under way ends, then the connection: the next request has another."""
    def act(x):
        if x.get(":path") == "/last":
            x.conn.do(lambda c: c.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 0}))
            time.sleep(0.3)
        x.respond(body=b"good")
    s = proxied(act)
    c = H2(s.port)
    assert c.get().body == b"good" and c.get(path="/last").body == b"good"
    assert s.backend.conns[0].closed.wait(5)
    assert c.get().body == b"good" and len(s.backend.conns) == 2


def head_of(stream, block, flags=END_HEADERS):
    return frame(HEADERS, flags, stream, block)


def answers(stream, head, *fields, body=b"abc"):
    return [head_of(stream, head(*fields)), frame(DATA, END_STREAM, stream, body)]


def alone(*fields):
    """A head with just these, and no body."""
    return lambda s, h: [head_of(s, hpack.Encoder().encode(fields), END_HEADERS | END_STREAM)]


ALL = END_HEADERS | END_STREAM
TRAILER = b"\x00\x01x\x01y"
FORBIDDEN = {
    "PUSH_PROMISE": lambda s, h: [frame(PUSH_PROMISE, END_HEADERS, s, b"\0\0\0\2" + h())],
    "no status": alone(("x", "y")),
    "status of letters": alone((":status", "abc")),
    "status 000": alone((":status", "000")),
    "status 1000": alone((":status", "1000")),
    "101": alone((":status", "101")),
    "two statuses": alone((":status", "200"), (":status", "200")),
    "a pseudo-field of requests": alone((":status", "200"), (":path", "/")),
    "an interim response at the end": alone((":status", "103")),
    "capitals": alone((":status", "200"), ("X-Up", "y")),
    "CRLF": alone((":status", "200"), ("x", "y\r\nset-cookie: a=b")),
    "NUL": alone((":status", "200"), ("x", "y\0")),
    "connection": alone((":status", "200"), ("connection", "close")),
    "transfer-encoding": alone((":status", "200"), ("transfer-encoding", "chunked")),
    "DATA without a head": lambda s, h: [frame(DATA, END_STREAM, s, b"x")],
    "a head on a stream of its own": lambda s, h: [head_of(2, h(), ALL)],
    "a head on an idle stream": lambda s, h: [head_of(s + 2, h(), ALL)],
    "less than announced": lambda s, h: answers(s, h, ("content-length", "9")),
    "more than announced": lambda s, h: answers(s, h, ("content-length", "2")),
    "two lengths": lambda s, h: answers(s, h, ("content-length", "3"), ("content-length", "3")),
    "a negative length": lambda s, h: answers(s, h, ("content-length", "-3")),
    "a length and no body": lambda s, h: [head_of(s, h(("content-length", "9")), ALL)],
    "a status in the trailers": lambda s, h: [head_of(s, h()), frame(DATA, 0, s, b"abc"), head_of(s, h(), ALL)],
    "trailers and then more": lambda s, h: [head_of(s, h()), frame(DATA, 0, s, b"abc"), head_of(s, TRAILER),
                                            frame(DATA, END_STREAM, s, b"def")],
    "a reset with NO_ERROR": lambda s, h: [head_of(s, h()), frame(DATA, 0, s, b"abc"), 0.1,
                                           frame(RST_STREAM, 0, s, b"\0\0\0\0")],
    "REFUSED_STREAM in the middle": lambda s, h: [head_of(s, h()), frame(DATA, 0, s, b"abc"), 0.1,
                                                  frame(RST_STREAM, 0, s, b"\0\0\0\7")],
    "GOAWAY for what is answered": lambda s, h: [head_of(s, h()), frame(DATA, 0, s, b"abc"), 0.1,
                                                 frame(GOAWAY, 0, 0, b"\0" * 8)],
    "a flood of interim responses": lambda s, h: [head_of(s, b"\x08\x03103") * 20000, *answers(s, h)],
    "a stream's window too large": lambda s, h: [frame(WINDOW_UPDATE, 0, s, b"\x7f\xff\xff\xff"), *answers(s, h)],
    "more than the window": lambda s, h: [head_of(s, h())] + [frame(DATA, 0, s, b"x" * 16384)] * 200,
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_is_malformed_is_never_whole(bare, what):
    s = bare(FORBIDDEN[what])
    a = H2(s.port, auto_window=False).get()
    assert a.status == 502 or (a.status == 200 and a.reset is not None)
    assert s.logged('SL05.*"GET /": the server') and s.get("/ok").status == 204
    assert s.backend.n_requests <= 2


BROKEN = {
    "SETTINGS of 5 bytes": (lambda s, h: [frame(SETTINGS, 0, 0, b"12345")], "FRAME_SIZE_ERROR"),
    "HPACK nonsense": (lambda s, h: [head_of(s, b"\x80", ALL)], "COMPRESSION_ERROR"),
    "a window too large": (lambda s, h: [frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")], "FLOW_CONTROL_ERROR"),
    "a head without end": (lambda s, h: [frame(HEADERS, 0, s, h())] + [frame(CONTINUATION, 0, s)] * 5000,
                           "CONTINUATION"),
    "a flood of PINGs": (lambda s, h: [frame(PING, 0, 0, b"12345678") * 30000], "Flooding"),
    "a flood of SETTINGS": (lambda s, h: [frame(SETTINGS, 0, 0, settings(window=65535)) * 30000], "Flooding"),
    "GOAWAY with an error": (lambda s, h: [frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0b")], "ENHANCE_YOUR_CALM"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_why_a_server_lost_its_connection_is_told(bare, what):
    act, why = BROKEN[what]
    s = bare(act)
    assert H2(s.port).get().status == 502
    assert s.logged(f"HTTP20012 pool .* server .*: it.*: .*{why}") and s.get("/ok").status == 204


def test_times(proxied):
    s = proxied(lambda x: None if x.get(":path") == "/first" else x.respond(end=False),
                "ProxyTimeout first=500ms idle=500ms\n").expect("SL0506", "SL0510")
    assert s.get("/first").status == 504
    assert H2(s.port).get(path="/idle").reset == 2


def test_a_body_that_goes_on_has_no_idle_time(proxied):
    def act(x):
        x.respond(end=False)
        for _ in range(6):
            time.sleep(0.3)
            x.send(b"x")
        x.send(b"y", end=True)
    s = proxied(act, "ProxyTimeout idle=1s\n")
    assert s.get().body == b"xxxxxxy"


def test_idle_connections_are_closed(sluice):
    b = Server(echo)
    s = sluice(f"{BASE}LoadModule balancer\n<Balancer b>\nServer h2c://127.0.0.1:{b.port}\nKeepalive 4 idle=1s\n</Balancer>\n"
               '<Location "/">\nProxyPass balancer://b\n</Location>\n')
    assert s.get().status == 200
    time.sleep(0.3)
    assert len(b.conns) == 1
    t = time.time()
    while time.time() - t < 5 and b.conns[0].h2.state_machine.state.name != "CLOSED":
        time.sleep(0.05)
    assert b.conns[0].h2.state_machine.state.name == "CLOSED"
    assert s.get().status == 200 and len(b.conns) == 2
    b.stop()


def test_shared_connections_grow_old(sluice):
    """One that is too old takes no more requests, and those on it are not cut."""
    b = Server(echo)
    s = sluice(f"{BASE}LoadModule balancer\n<Balancer b>\nServer h2c://127.0.0.1:{b.port}\nKeepalive 4 life=300ms\n"
               '</Balancer>\n<Location "/">\nProxyPass balancer://b\n</Location>\n')
    c, began = s.client(), time.time()  # one client, for each thread has a connection of its own
    while len(b.conns) < 4 and time.time() - began < 10:
        assert c.request("GET", "/").status == 200
    assert len(b.conns) == 4 and time.time() - began > 3 * 0.26  # a life is up to a tenth shorter
    time.sleep(0.5)
    assert all(c.h2.state_machine.state.name == "CLOSED" for c in b.conns)
    b.stop()


def test_retry_at_another_server(sluice):
    b = Server(echo)
    s = sluice(f"{BASE}LoadModule balancer\n<Balancer b>\nServer h2c://127.0.0.1:{free_port()}\n"
               f"Server h2c://127.0.0.1:{b.port}\n</Balancer>\n"
               '<Location "/">\nProxyPass balancer://b\n</Location>\n').expect("SL0501", "BALANCER0010")
    assert [s.get().status for _ in range(4)] == [200] * 4
    b.stop()


def test_nghttpd_over_tls(sluice, tmp_path):
    ca, port = CA(tmp_path), free_port()
    cert = ca.make("localhost")
    (tmp_path / "file").write_bytes(os.urandom(500000))
    p = subprocess.Popen(["nghttpd", "-d", str(tmp_path), str(port), cert.key, cert.pem],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    try:
        s = sluice(f"{BASE}LoadModule tls\nProxyTLS h2://localhost:{port} ca={ca.pem}\n"
                   f"<Location \"/\">\nProxyPass h2://localhost:{port}\n</Location>\n")
        assert s.get("/file").body == (tmp_path / "file").read_bytes()
    finally:
        p.kill()
        p.wait()


def test_a_tls_server_without_h2(sluice, tmp_path):
    ca, port = CA(tmp_path), free_port()
    cert = ca.make("localhost")
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert.pem, cert.key)
    listener = ctx.wrap_socket(socket.create_server(("127.0.0.1", port)), server_side=True)

    def serve():
        try:
            while True:
                c, _ = listener.accept()
                time.sleep(0.2)
                c.close()
        except OSError:
            pass
    threading.Thread(target=serve, daemon=True).start()
    s = sluice(f"{BASE}LoadModule tls\nProxyTLS h2://localhost:{port} ca={ca.pem}\n"
               f"<Location \"/\">\nProxyPass h2://localhost:{port}\n</Location>\n").expect("HTTP20010", "SL0503")
    assert s.get().status == 502 and s.logged("HTTP20010 .*does not speak HTTP/2")
    listener.close()


# ---- gRPC ----

@pytest.fixture
def grpc_pair(sluice):
    """A service of bytes behind the server, and a channel to it."""
    grpc = pytest.importorskip("grpc")
    from concurrent import futures
    seen = []

    def unary(request, context):
        seen.append(dict(context.invocation_metadata()))
        if request == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        if request == b"slow":
            time.sleep(3)
        context.set_trailing_metadata((("x-trail", "end"),))
        return request.upper()

    def down(request, context):
        for i in range(100):
            yield request * i

    def up(requests, context):
        return b",".join(requests)

    def both(requests, context):
        for r in requests:
            yield r.upper()

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return {"/t.T/unary": grpc.unary_unary_rpc_method_handler(unary),
                    "/t.T/down": grpc.unary_stream_rpc_method_handler(down),
                    "/t.T/up": grpc.stream_unary_rpc_method_handler(up),
                    "/t.T/both": grpc.stream_stream_rpc_method_handler(both)}.get(details.method)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    s = sluice(f'{BASE}<Location "/">\nProxyPass h2c://127.0.0.1:{port}\n</Location>\n')
    s.expect("SL0505", "SL0509", "GOAWAY: INTERNAL_ERROR")  # as stop() below ends a call under way
    channel = grpc.insecure_channel(f"127.0.0.1:{s.port}")
    channel.seen = seen
    yield grpc, channel
    channel.close()
    server.stop(0)


def test_grpc_unary(grpc_pair):
    grpc, channel = grpc_pair
    call = channel.unary_unary("/t.T/unary")
    reply, rpc = call.with_call(b"hello", metadata=(("x-key", "v"),))
    assert reply == b"HELLO" and dict(rpc.trailing_metadata())["x-trail"] == "end"
    assert channel.seen[0]["x-key"] == "v"
    assert call(b"x" * 1000000) == b"X" * 1000000


def test_grpc_status(grpc_pair):
    grpc, channel = grpc_pair
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/unary")(b"fail")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND and e.value.details() == "no such thing"
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/none")(b"x")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_grpc_deadline(grpc_pair):
    grpc, channel = grpc_pair
    t = time.time()
    with pytest.raises(grpc.RpcError) as e:
        channel.unary_unary("/t.T/unary")(b"slow", timeout=0.5)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.time() - t < 2
    assert channel.unary_unary("/t.T/unary")(b"x") == b"X"


def test_grpc_streams(grpc_pair):
    grpc, channel = grpc_pair
    assert [len(x) for x in channel.unary_stream("/t.T/down")(b"x" * 1000)] == [i * 1000 for i in range(100)]
    assert channel.stream_unary("/t.T/up")(iter([b"a", b"b", b"c"])) == b"a,b,c"


def test_grpc_both_streams_in_turns(grpc_pair):
    """Each message is answered before the next is sent: nothing waits for the end of anything."""
    grpc, channel = grpc_pair
    ask = threading.Event()

    def words():
        for w in (b"one", b"two", b"three"):
            yield w
            assert ask.wait(5)
            ask.clear()
    got = []
    for r in channel.stream_stream("/t.T/both")(words()):
        got.append(r)
        ask.set()
    assert got == [b"ONE", b"TWO", b"THREE"]


def test_grpc_many_at_once(grpc_pair):
    grpc, channel = grpc_pair
    calls = [channel.unary_unary("/t.T/unary").future(b"%d" % i) for i in range(200)]
    assert [c.result(20) for c in calls] == [b"%d" % i for i in range(200)]


# ---- WebSockets, RFC 8441 ----

OFFERED = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
WEBSOCKET = (b"GET /ws?a HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")


def shout(x):
    """Says in capitals what it hears, to the end."""
    x.respond(end=False)
    said = 0
    while not x.ended.wait(0.005) or said < len(x.body):
        part = x.body[said:]
        said += len(part)
        x.send(part.upper())
    if x.reset is None:
        x.conn.do(lambda c: c.end_stream(x.id))


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_websockets_of_clients_of_http_1(proxied, known):
    s = proxied(lambda x: shout(x) if x.get(":protocol") else x.respond(body=b"x"), settings=OFFERED)
    c = s.client()
    if known:  # to this client's thread
        assert c.request("GET", "/").status == 200
    r = c.send(WEBSOCKET + b"early").response()
    assert (r.status, r.get("Upgrade"), r.get("Sec-WebSocket-Accept")) == (101, "websocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert c.exactly(5) == b"EARLY"
    for i in range(20):
        data = os.urandom(4000).hex().encode()
        assert c.send(data).exactly(len(data)) == data.upper()
    f = s.backend.streams[-1]
    assert [f.get(n) for n in (":method", ":protocol", ":path", ":scheme", ":authority")] == [
        "CONNECT", "websocket", "/ws?a", "http", "test"]
    assert f.get("sec-websocket-key") is None and f.get("sec-websocket-version") == "13" and f.get("upgrade") is None
    c.sock.shutdown(socket.SHUT_WR)
    assert c.rest() == b"" and f.ended.is_set() and f.reset is None
    assert len(s.backend.conns) == 1 and s.get().status == 200


def test_websockets_of_clients_of_http_2(proxied):
    s = proxied(shout, settings=OFFERED)
    c = H2(s.port)
    c.until(lambda: c.settings)
    stream = c.request("CONNECT", "/ws", [("sec-websocket-version", "13")], end=False, protocol="websocket")
    c.until(lambda: c.answers[stream].status)
    c.data(stream, b"hello", end=True)
    a = c.answer(stream)
    assert (a.status, a.body, a.get("sec-websocket-accept")) == (200, b"HELLO", None)


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_server_without_websockets(proxied, known):
    """Nothing is asked of it, and it is none the worse for it."""
    s = proxied(lambda x: x.respond(body=b"x")).expect("HTTP20011")
    if known:
        assert s.get().status == 200
    r = s.client().send(WEBSOCKET).response()
    assert r.status == 502 and b"no_tunnel" in r.body and s.logged("HTTP20011 .*offers no WebSockets")
    assert len(s.backend.streams) == known and s.get().status == 200


def test_a_websocket_that_is_refused_and_one_that_is_left(proxied):
    def act(x):
        if x.get(":path") == "/no":
            x.respond(403, body=b"no")
        else:
            x.respond(end=False)
    s = proxied(act, settings=OFFERED)
    c = s.client().send(WEBSOCKET.replace(b"/ws?a", b"/no"))
    r = c.response()
    assert (r.status, r.body, r.get("Upgrade")) == (403, b"no", None)
    c = s.client().send(WEBSOCKET)
    assert c.response().status == 101
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()
    assert s.backend.streams[-1].gone.wait(5) and s.backend.streams[-1].reset == 8
