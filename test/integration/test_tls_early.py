"""TLSEarlyData, with openssl s_client as the client and a wire that can hold back what it sends."""
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import free_port
from origin import reply
from test_reload import Operator
from tls_peers import pki  # noqa: F401 (a fixture)

GET = b"GET /%s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
POST = b"POST /%s HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody"


class Wire:
    """Between client and server.  Whatever the client sends behind the server's first bytes stays
    here until go(); all before that is its first flight, with the early data."""

    def __init__(self, to):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.to = self.listener.getsockname()[1], to
        self.flight, self._go = b"", threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def go(self):
        self._go.set()

    def _run(self):
        client = self.listener.accept()[0]
        server, answered = socket.create_connection(("127.0.0.1", self.to)), threading.Event()

        def back():
            try:
                while data := server.recv(65536):
                    answered.set()
                    client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        threading.Thread(target=back, daemon=True).start()
        try:
            while data := client.recv(65536):
                if answered.is_set():
                    self._go.wait(20)
                else:
                    self.flight += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.go()
        self.listener.close()


class Visitor:
    """A client that has been there, and comes back."""

    def __init__(self, port, folder, alpn="http/1.1"):
        self.port, self.folder, self.alpn = port, folder, alpn
        self.session = f"{folder}/session-{port}-{(alpn or 'none')[:4]}"
        self.n = 0

    def client(self, port, *more, **k):
        alpn = ("-alpn", self.alpn) if self.alpn else ()
        return subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "a.test",
                                 *alpn, "-ign_eof", *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **k)

    def first(self, request):
        p = self.client(self.port, "-sess_out", self.session, stdin=subprocess.PIPE)
        out = p.communicate(request, timeout=20)[0]
        assert os.path.exists(self.session), out.decode()
        return self

    def back(self, early, port=None):
        """Sends early data; the process, whose output has the answer and whether they were taken."""
        self.n += 1
        path = f"{self.session}.{self.n}"
        with open(path, "wb") as f:
            f.write(early)
        return self.client(port or self.port, "-sess_in", self.session, "-early_data", path,
                           stdin=subprocess.DEVNULL)


def said(p):
    return p.communicate(timeout=20)[0].decode(errors="replace")


def seen(origin, path, timeout=5):
    """The request for this path, when it has come."""
    end = time.time() + timeout
    while time.time() < end:
        for r in list(origin.requests):
            if r.target == path:
                return r
        time.sleep(0.01)
    return None


@pytest.fixture
def early(sluice, pki, origin, tmp_path):  # noqa: F811
    """early(lines) -> a server with TLSEarlyData on, its .visitor and .wire()."""
    wires = []

    def start(text="", on="on", target=None, first=GET % b"first", alpn="http/1.1", start=sluice):
        port = free_port()
        s = start(f"LoadModule route\nLoadModule tls\nLoadModule headers\nListen 127.0.0.1:{port} tls\n"
                  f"TLSCertificate {pki.a}\nTLSEarlyData {on}\nRequestHeader set X-Went %{{tls_early_data}}\n"
                  f"ProxyPass {target or 'http://' + str(origin)}\n" + text)
        (s.s if hasattr(s, "s") else s).tls_port = port
        s.visitor = Visitor(port, tmp_path, alpn).first(first)

        def wire():
            wires.append(Wire(port))
            return wires[-1]
        s.wire = wire
        return s
    yield start
    for w in wires:
        w.close()


def test_a_safe_request_goes_on_at_once(early, origin):
    s = early()
    assert seen(origin, "/first").get("Early-Data") is None
    for i in range(3):
        wire = s.wire()
        p = s.visitor.back(GET % (b"%d" % i), wire.port)
        r = seen(origin, f"/{i}")
        assert r and r.get("Early-Data") == "1" and r.get("X-Went") == "1"
        time.sleep(0.05)
        wire.go()
        out = said(p)
        assert "Early data was accepted" in out and f'"/{i}"' in out and "closed" in out


def test_others_wait_for_the_handshake(early, origin):
    s = early()
    wire = s.wire()
    p = s.visitor.back(POST % b"post", wire.port)
    assert seen(origin, "/post", 0.4) is None
    wire.go()
    r = seen(origin, "/post")
    assert r.body == b"body" and r.get("Early-Data") is None and r.get("X-Went") == "0"
    assert "200 OK" in said(p)


def test_one_behind_the_other(early, origin):
    """A safe request, one that is not, and one behind it, in one piece."""
    s = early()
    wire, keep = s.wire(), b"Connection: close\r\n"
    p = s.visitor.back((GET % b"1").replace(keep, b"") + (POST % b"2").replace(keep, b"") + GET % b"3", wire.port)
    assert seen(origin, "/1").get("Early-Data") == "1" and seen(origin, "/2", 0.3) is None
    wire.go()
    assert said(p).count("200 OK") == 3
    assert [r.get("Early-Data") for r in origin.requests[-3:]] == ["1", None, None]


def replay(port, flight):
    """Sends a first flight again, and waits for what it brings about."""
    c = socket.create_connection(("127.0.0.1", port))
    c.settimeout(5)
    c.sendall(flight)
    c.recv(65536)
    return c


def test_a_copy_is_no_early_data(early, sluice, origin):
    """Not in any thread, nor after a reload, nor in a worker after a crash."""
    o = early(start=lambda text: Operator(sluice, text))
    o.s.expect("SL0202")
    wire = o.wire()
    p = o.visitor.back(GET % b"once", wire.port)
    assert seen(origin, "/once")
    wire.go()
    assert "accepted" in said(p)

    def copies(n):
        time.sleep(0.1)
        before = len(origin.requests)
        sent = [replay(o.s.tls_port, wire.flight) for _ in range(n)]
        time.sleep(0.2)
        assert len(origin.requests) == before
        for c in sent:
            c.close()
    copies(8)
    o.write(o.text + "ServerHeader off\n")
    o.reload()
    copies(4)
    assert "accepted" in said(o.visitor.back(GET % b"other"))
    worker = o.serving()
    os.kill(worker, signal.SIGKILL)
    while o.serving() in (0, worker):
        time.sleep(0.05)
    copies(4)


def test_copies_at_once(early, origin):
    """The first flight before its own connection: of many in the same moment one is taken."""
    s = early()
    wire = Wire(free_port())  # nobody is there: what the client sends first is had, and not said
    with socket.create_server(("127.0.0.1", wire.to)) as nobody:
        p = s.visitor.back(GET % b"crowd", wire.port)
        c = nobody.accept()[0]
        time.sleep(0.2)
        flight = c.recv(65536)
        c.close()
        wire.close()
        p.kill()
        p.wait()
    before, crowd = len(origin.requests), []

    def one():
        crowd.append(replay(s.tls_port, flight))
    threads = [threading.Thread(target=one) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen(origin, "/crowd")
    time.sleep(0.3)
    assert len(origin.requests) == before + 1
    for c in crowd:
        c.close()


def test_who_never_completes_the_handshake(early, origin):
    """Neither what went on nor what waits is kept longer than the handshake may take."""
    s = early("Timeout header=500ms\nLogLevel info\n")
    for request in (GET % b"get", POST % b"post"):
        wire = s.wire()
        began = time.time()
        p = s.visitor.back(request, wire.port)
        assert "closed" in said(p) or p.returncode is not None
        assert 0.3 < time.time() - began < 5
        assert s.logged("TLS0064 client 127.0.0.1: the handshake was not completed within Timeout header")
    assert seen(origin, "/get") and seen(origin, "/post", 0.1) is None


def test_too_early_is_the_clients_to_know(early, make_origin):
    servers = [make_origin(), make_origin()]
    for o in servers:
        o.on("/early", reply(425, b"too early"))
    s = early("LoadModule balancer\n<Balancer p>\nRetry on=425 max=2\n" +
              "".join(f"Server {o}\n" for o in servers) + "</Balancer>\n", target="balancer://p")
    wire = s.wire()
    p = s.visitor.back(GET % b"early", wire.port)
    time.sleep(0.2)
    wire.go()
    assert "425" in said(p)
    assert sum(r.target == "/early" for o in servers for r in o.requests) == 1


def test_off_by_default_and_by_host(early, origin):
    s = early("<VirtualHost other.test>\nTLSEarlyData off\n</VirtualHost>\n<VirtualHost a.test>\n</VirtualHost>\n")
    wire = s.wire()  # its name is that of a host which has it, the request's is not
    p = s.visitor.back((GET % b"other").replace(b"a.test", b"other.test"), wire.port)
    assert seen(origin, "/other", 0.3) is None
    wire.go()
    assert "accepted" in said(p) and seen(origin, "/other").get("Early-Data") is None
    s = early(on="off")
    p = s.visitor.back(GET % b"off")
    assert seen(origin, "/off", 0.3) is None  # its ticket does not allow it: the client sends nothing
    p.kill()
    p.wait()


def test_shared_keys_and_a_memory_that_is_new(early, origin, tmp_path):
    """Who may have given tickets before the start has no early data for a while."""
    (tmp_path / "keys").write_bytes(os.urandom(80))
    s = early(f"TLSTickets {tmp_path}/keys\n")
    p = s.visitor.back(GET % b"new")
    while not (line := p.stdout.readline()).startswith(b"Early data was"):
        assert line
    assert b"rejected" in line
    p.kill()
    p.wait()
    assert seen(origin, "/new", 0.1) is None


def test_streams(early, origin):
    """HTTP/2: what is safe goes on, another stream of the same connection waits."""
    hpack = pytest.importorskip("hpack")

    def stream(number, method, path, body=b""):
        head = hpack.Encoder().encode([(":method", method), (":scheme", "https"), (":authority", "a.test"),
                                       (":path", path)], huffman=False)
        frames = frame(1, 4 if body else 5, number, head)
        return frames + (frame(0, 1, number, body) if body else b"")

    def frame(kind, flags, number, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    away = frame(7, 0, 0, bytes(8))
    s = early("LoadModule http2\nProtocols h2 http/1.1\n", alpn="h2",
              first=hello + stream(1, "GET", "/first") + away)
    wire = s.wire()
    p = s.visitor.back(hello + stream(1, "POST", "/post", b"body") + stream(3, "GET", "/get") + away, wire.port)
    r = seen(origin, "/get")
    assert r and r.get("Early-Data") == "1" and r.get("X-Went") == "1"
    assert seen(origin, "/post", 0.2) is None
    wire.go()
    r = seen(origin, "/post")
    assert r.body == b"body" and r.get("Early-Data") is None and r.get("X-Went") == "0"
    p.kill()
    p.wait()


def test_a_protocol_that_shows_by_its_first_bytes(early, origin):
    """No ALPN, two protocols: they begin when the handshake is over."""
    s = early("LoadModule lines\nProtocols lines http/1.1\n", alpn=None)
    wire = s.wire()
    p = s.visitor.back(GET % b"sniffed", wire.port)
    assert seen(origin, "/sniffed", 0.3) is None
    wire.go()
    assert "200 OK" in said(p) and seen(origin, "/sniffed").get("Early-Data") is None
