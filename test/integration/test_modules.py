"""Modules of third parties: a transport, a protocol, suspension, filters, the loader."""
import socket
import threading
import time

import pytest
from conftest import Client, free_port
from origin import reply

BASE = "LoadModule route\nLoadModule probe\n"


# ---- the loader ----

def test_twenty_lines_are_a_module(sluice, origin):
    s = sluice(f"LoadModule direct\nDirectTo {origin}\n")
    assert s.get("/d").json()["target"] == "/d"


def test_another_abi_is_refused_with_both_versions(refused):
    out = refused("LoadModule oldabi\nListen 1\n")
    assert "ABI 2.7" in out and "this server has 1.0" in out and "slxs" in out


def test_what_is_no_module_is_refused(refused, tmp_path):
    (tmp_path / "x.so").write_text("not a shared object")
    assert "cannot be loaded" in refused(f"LoadModule x {tmp_path}/x.so\nListen 1\n")
    assert "no sl_abi_record" in refused("LoadModule c /lib/x86_64-linux-gnu/libm.so.6\nListen 1\n")
    from conftest import MODULES
    assert "holds another module" in refused(f"LoadModule other {MODULES}/mod_direct.so\nListen 1\n")


def test_nothing_configured_means_not_called(sluice):
    s = sluice(BASE + "<Location /in>\nProbeFail on\n</Location>\nReturn 200 ok\n").expect("SL0450")
    assert s.get("/out").get("X-Probe") is None and s.get("/in").status == 418


# ---- suspension ----

@pytest.mark.parametrize("how", ["offload", "timer", "twice"])
def test_requests_wait_and_go_on(sluice, origin, how):
    s = sluice(BASE + f"ProbeWait {how}\nProxyPass {origin}\n")
    clients = [s.client() for _ in range(20)]
    for i, c in enumerate(clients):
        c.send(f"POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    for i, c in enumerate(clients):
        r = c.response()
        assert r.json()["target"] == f"/{i}" and r.json()["body"] == "abc" and r.get("X-Probe") == "probed"
        c.close()


@pytest.mark.parametrize("lines,calls", [("ProbeWait again", "2, 1"), ("ProbeFilter again", "1, 2")])
def test_a_hook_that_waited_is_called_again(sluice, origin, lines, calls):
    s = sluice(BASE + f"{lines}\nProxyPass {origin}\n")
    r = s.get("/x")
    assert r.json()["target"] == "/x" and r.get("X-Calls") == calls


def test_a_client_that_leaves_while_its_request_waits(sluice, origin):
    s = sluice(BASE + f"ProbeWait offload\nProxyPass {origin}\n")
    for _ in range(30):
        c = s.client()
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()
    time.sleep(0.2)
    assert s.get("/").status == 200


def test_a_stop_does_not_wait_for_ever(sluice):
    s = sluice(BASE + "StopTimeout 300ms\nProbeWait never\nReturn 200 x\n")
    c = s.client()
    c.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    assert s.stop() == 0


def test_waiting_without_a_token_fails(sluice):
    s = sluice(BASE + "ProbeNoToken on\nReturn 200 x\n").expect("SL0451")
    assert s.get("/").status == 500 and s.logged("mod_probe: probe_access waits without a token")


def test_blocking_is_fatal_in_tests(sluice):
    s = sluice(BASE + "ProbeBlock on\nReturn 200 x\n").expect("SL0310", "SL0202", "panic")
    with pytest.raises((EOFError, OSError)):
        s.get("/")
    assert s.logged("mod_probe: probe_access held its thread")
    s.check = lambda: s.stop()


def test_blocking_is_a_warning_outside_tests(sluice):
    s = sluice(BASE + "ProbeBlock on\nReturn 200 x\n", env={"SLUICE_HOOK_FATAL": ""}).expect("SL0310")
    assert s.get("/").body == b"x" and s.logged("mod_probe: probe_access held its thread")


# ---- filters ----

@pytest.mark.parametrize("how", ["upper", "upper,pass", "upper,slow", "upper,grow", "upper,pass,slow,grow"])
@pytest.mark.parametrize("n", [0, 5, 3000, 300000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_filters(sluice, origin, how, n, framing):
    body = (b"abcdefghij" * (n // 10 + 1))[:n]
    if framing == "length":
        origin.on("/f", reply(200, body))
    else:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7000]), body[i:i + 7000]) for i in range(0, n, 7000))
        origin.on("/f", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    s = sluice(BASE + f"ProbeFilter {how}\nProxyPass {origin}\n")
    c = s.client()
    for _ in range(2):
        got = c.request("GET", "/f").body
        assert got.replace(b"<", b"").replace(b">", b"") == body.upper()
        if "grow" in how:
            assert got.count(b"<") == got.count(b">") >= (n > 0)
    assert c.request("HEAD", "/f").status == 200
    c.close()


def test_a_filter_that_fails_cuts_the_answer(sluice, origin):
    origin.on("/f", reply(200, b"x" * 100))
    s = sluice(BASE + f"ProbeFilter fail\nProxyPass {origin}\n").expect("SL0463")
    assert len(s.raw(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")[2]) < 100


def test_filters_on_answers_of_ones_own(sluice):
    s = sluice(BASE + "ProbeSay hello\nProbeFilter upper,slow\n")
    assert s.get("/").body == b"HELLO"


# ---- a transport ----

class Rot13:
    def __init__(self, sock):
        self.sock, self.settimeout = sock, sock.settimeout

    @staticmethod
    def turn(data):
        import codecs
        return codecs.encode(data.decode("latin1"), "rot13").encode("latin1")

    def sendall(self, data):
        self.sock.sendall(self.turn(data))

    def recv(self, n):
        return self.turn(self.sock.recv(n))

    def close(self):
        self.sock.close()


@pytest.fixture
def turned(sluice, origin):
    port = free_port()
    s = sluice(f"LoadModule route\nLoadModule rot13\nListen 127.0.0.1:{port} rot13\nProxyPass {origin}\n")

    def client():
        c = Client(port)
        c.sock = Rot13(c.sock)
        return c
    s.client = client
    return s


def test_http_over_a_transport(turned, origin):
    c = turned.client()
    for i in range(5):
        assert c.request("GET", f"/t{i}").json()["target"] == f"/t{i}"
    body = b"Body " * 40000
    origin.on("/down", reply(200, body))
    assert c.request("GET", "/down").body == body
    assert c.request("POST", "/up", body=body).json()["body"].encode() == body
    c.close()


def test_pipelining_over_a_transport(turned):
    c = turned.client()
    c.send("".join(f"GET /p{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(20)))
    assert [c.response().json()["target"] for _ in range(20)] == [f"/p{i}" for i in range(20)]
    c.close()


def test_bad_input_over_a_transport(turned):
    assert turned.raw(b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")


# ---- a transport with a handshake ----

@pytest.fixture
def greeting(sluice, origin):
    port = free_port()
    s = sluice("LoadModule route\nLoadModule rot13\nLoadModule lines\nProtocols lines http/1.1\n"
               f"Timeout header=700ms\nListen 127.0.0.1:{port} rot13hello\nProxyPass {origin}\n"
               "LogLevel info\n")
    s.hello_port = port
    return s


def greet(s, word, behind=b""):
    c = Client(s.hello_port)
    c.send(word + b"\n" + Rot13.turn(behind))
    line = c.until(b"\n")
    c.sock, c.buf = Rot13(c.sock), Rot13.turn(c.buf)
    return line, c


def test_a_handshake_comes_first_and_tells_the_protocol(greeting, origin):
    line, c = greet(greeting, b"http/1.1")
    assert line == b"welcome" and c.request("GET", "/h").seen("X-Forwarded-Proto") == "https"
    c.close()
    line, c = greet(greeting, b"lines", b"GET host.test /l\n")  # in the same packet
    assert answer(c)[0] == 200 and origin.last.target == "/l"
    c.close()
    line, c = greet(greeting, b"other")
    assert line == b"unknown" and c.closed()


def test_a_handshake_byte_for_byte(greeting):
    c = Client(greeting.hello_port)
    for b in b"http/1.1\n":
        c.send(bytes([b]))
        time.sleep(0.01)
    assert c.until(b"\n") == b"welcome"
    c.close()


def test_a_handshake_has_its_time(greeting):
    c = Client(greeting.hello_port)
    c.send(b"http/")
    began = time.time()
    assert c.closed() and 0.5 < time.time() - began < 3
    assert greeting.logged("SL0216 client 127.0.0.1: Listen .* rot13hello: no handshake")


def test_a_handshake_with_a_server(sluice, greeting, origin):
    front = sluice("LoadModule route\nLoadModule rot13\nProxyTimeout connect=300ms\n"
                   f"<Location /silent>\nProxyPass rot13hello://{origin}\n</Location>\n"
                   f"ProxyPass rot13hello://127.0.0.1:{greeting.hello_port}\n").expect("SL0502", "SL0516")
    c = front.client()
    for i in range(3):
        assert c.request("GET", f"/u{i}").json()["target"] == f"/u{i}"
    assert origin.n_connections == 1
    c.close()
    assert front.get("/silent").status == 504  # its server waits for the end of a head
    origin.close()


def test_a_handshake_that_a_server_refuses(sluice, make_origin):
    import threading
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        s, _ = listener.accept()
        s.recv(100)
        s.sendall(b"unknown\n")
        s.close()
    threading.Thread(target=refuse, daemon=True).start()
    front = sluice("LoadModule route\nLoadModule rot13\n"
                   f"ProxyPass rot13hello://127.0.0.1:{listener.getsockname()[1]}\n").expect("SL0516")
    assert front.get("/").status == 502 and front.logged("the handshake with the server failed")
    listener.close()


# ---- a protocol ----

@pytest.fixture
def lines(sluice, origin):
    return sluice(f"LoadModule route\nLoadModule lines\nProtocols lines http/1.1\nProxyPass {origin}\n")


def answer(c):
    status, body = int(c.until(b"\n")), b""
    while True:
        n = int(c.until(b"\n"))
        if n == 0:
            return status, body
        body += c.exactly(n)


def test_another_protocol(lines, origin):
    import json
    c = lines.client()
    for i in range(5):
        c.send(f"GET host.test /l{i}\n")
        status, body = answer(c)
        assert status == 200 and json.loads(body)["target"] == f"/l{i}"
    assert origin.last.get("Host") == "host.test"
    c.close()


def test_bodies_over_another_protocol(lines, origin):
    import json
    c = lines.client()
    c.send(b"PUT h /up 200000\n" + b"u" * 200000)
    assert json.loads(answer(c)[1])["body"] == "u" * 200000
    origin.on("/down", reply(200, b"d" * 3000000))
    c.send(b"GET h /down\n")
    assert answer(c) == (200, b"d" * 3000000)
    c.close()


def test_both_protocols_on_one_port(lines):
    assert lines.get("/h").json()["target"] == "/h"


def test_a_cut_answer_over_another_protocol(lines, origin):
    lines.expect("SL0509")

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        return False
    origin.on("/cut", script)
    c = lines.client()
    c.send(b"GET h /cut\n")
    assert c.until(b"cut\n") == b"200\n4\nhalf"
    c.close()


# ---- a protocol towards servers ----

@pytest.fixture
def chained(sluice, origin):
    """HTTP in, lines between, HTTP out."""
    back = sluice(f"LoadModule route\nLoadModule lines\nProtocols lines\nProxyPass {origin}\n")
    front = sluice("LoadModule route\nLoadModule uplines\nProxyTimeout first=500ms\n"
                   f"ProxyPass uplines://127.0.0.1:{back.port}\n")
    return front, back


def test_another_protocol_to_servers(chained, origin):
    front, _ = chained
    c = front.client()
    for i in range(5):
        assert c.request("GET", f"/u{i}", host="host.test").json()["target"] == f"/u{i}"
    assert origin.last.get("Host") == "host.test"
    assert c.request("HEAD", "/h").status == 200
    c.close()


def test_bodies_over_another_protocol_to_servers(chained, origin):
    front, _ = chained
    body = b"u" * 3000000
    assert front.get("/up", method="PUT", body=body).json()["body"].encode() == body
    origin.on("/down", reply(200, b"d" * 3000000))
    c = front.client()
    c.send(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.3)  # nobody reads: the parts wait at the server
    assert c.response().body == b"d" * 3000000
    c.close()


def test_failures_of_another_protocol_to_servers(chained, origin):
    front, back = chained
    front.expect("SL0503", "SL0505", "SL0506", "SL0509")
    back.expect("SL0505", "SL0509")

    def cut(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        return False
    origin.on("/cut", cut)
    origin.on("/late", lambda c, r: time.sleep(1))
    c = front.client()
    c.send(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
    assert c.rest().endswith(b"half\r\n")  # no last chunk
    assert front.get("/late").status == 504
    r = front.raw(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 502 ")
    for _ in range(20):  # clients that leave with their answer on the way
        c = front.client()
        c.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        c.close()
    assert front.get("/after").status == 200
