"""mod_tls: what goes through it, both ways, and how it ends."""
import base64
import os
import socket
import ssl
import subprocess
import time

import pytest
from origin import reply
from tls_peers import connect, context, more, pki, tls


@pytest.mark.parametrize("size", [1, 16384, 16385, 70000, 5000000])
def test_bodies_both_ways(tls, pki, origin, size):
    s, body = tls(), os.urandom(size // 2 + 1).hex().encode()[:size]
    origin.on("/down", reply(200, body))
    c = connect(s, pki)
    assert c.request("POST", "/up", body=body).json()["body"].encode() == body
    assert c.request("GET", "/down").body == body
    c.close()


def test_a_slow_reader_gets_all(tls, pki, origin):
    body = os.urandom(1000000) * 16  # more than the sockets hold
    origin.on("/down", reply(200, body))
    s = tls()
    c = connect(s, pki)
    c.send(b"GET /down HTTP/1.1\r\nHost: a.test\r\n\r\n" * 2)
    for _ in range(2):
        time.sleep(0.5)
        assert c.response().body == body
    c.close()


def test_chunked_answers_in_small_parts(tls, pki, origin):
    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(50):
            c.send(b"5\r\nab%03d\r\n" % i)
            time.sleep(0.002)
        c.send(b"0\r\n\r\n")
    origin.on("/c", script)
    c = connect(tls(), pki)
    assert c.request("GET", "/c").body == b"".join(b"ab%03d" % i for i in range(50))
    c.close()


def test_pipelining_inside_tls(tls, pki):
    """All requests in one record, and each byte of one in a record of its own."""
    c = connect(tls(), pki)
    c.send("".join(f"GET /p{i} HTTP/1.1\r\nHost: a.test\r\n\r\n" for i in range(150)))
    assert [c.response().json()["target"] for _ in range(150)] == [f"/p{i}" for i in range(150)]
    for b in b"GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n":
        c.send(bytes([b]))
    assert c.response().json()["target"] == "/slow"
    c.close()


def test_a_request_with_the_end_of_the_handshake(tls, pki):
    """Finished and request in one packet: what is pending is read without another event."""
    s = tls()
    for _ in range(20):
        raw = socket.create_connection(("127.0.0.1", s.tls_port))
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        o = context(pki).wrap_bio(into, out, server_hostname="a.test")
        raw.settimeout(5)
        while True:
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(out.read())
                into.write(raw.recv(65536))
        o.write(b"GET /early HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        raw.sendall(out.read())
        while True:
            data = raw.recv(65536)
            into.write(data) if data else into.write_eof()
            if not data:
                break
        assert b'"/early"' in o.read(65536)
        raw.close()


@pytest.mark.parametrize("aborts", ["on", "off"])
def test_half_close(tls, pki, origin, aborts):
    """The client ends its side behind the request, in TLS (which ends what lies below) or below it."""
    origin.on("/late", lambda c, r: (time.sleep(0.3), c.send(reply(200, b"late")))[0])
    s = tls(f"AbortOnClose {aborts}\n")
    for in_tls in (False,) if aborts == "off" else (False, True):
        c = connect(s, pki)
        c.send(b"GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n")
        if in_tls:
            c.sock.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):  # close_notify is sent, its answer not waited for
                c.sock.unwrap()
            c.sock.settimeout(10)
        socket.socket.shutdown(c.sock, socket.SHUT_WR)
        if aborts == "off":
            assert c.response().body == b"late"
        else:
            with pytest.raises((EOFError, OSError)):
                c.response()
        c.close()


def test_the_end_is_said(tls, pki, origin):
    """close_notify after Connection: close and after a body that ends with the connection; none
    after one that was cut."""
    origin.on("/ends", b"HTTP/1.0 200 OK\r\n\r\nall of it")
    s = tls("LogLevel info\n").expect("SL0509")
    ctx = context(pki)

    def ends_well(request):
        raw = socket.create_connection(("127.0.0.1", s.tls_port))
        c = ctx.wrap_socket(raw, server_hostname="a.test", suppress_ragged_eofs=False)
        c.sendall(request)
        got = b""
        try:
            while True:
                data = c.recv(65536)
                if not data:
                    return True, got
                got += data
        except (ssl.SSLError, ConnectionResetError):
            return False, got
        finally:
            c.close()
    assert ends_well(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")[0]
    origin.on("/http10", lambda c, r: (c.send(b"HTTP/1.0 200 OK\r\n\r\nall of it"), False)[1])
    assert ends_well(b"GET /http10 HTTP/1.0\r\nHost: a.test\r\n\r\n")[0]

    def cut(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf ")
        return False
    origin.on("/cut", cut)
    good, got = ends_well(b"GET /cut HTTP/1.0\r\nHost: a.test\r\n\r\n")
    assert not good and got.endswith(b"half ")


def test_websocket_over_tls(tls, pki, origin):
    def script(c, r):
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        while c.buf or c.fill():
            c.send(b"<" + c.buf + b">")
            c.buf = b""
        c.send(b"bye")
        return False
    origin.on("/ws", script)
    s = tls()
    c = connect(s, pki)
    c.send(b"GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Key: " + base64.b64encode(b"0" * 16) + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
    assert c.response().status == 101
    for word in (b"one", b"two" * 100):
        c.send(word)
        assert c.exactly(len(word) + 2) == b"<" + word + b">"
    c.close()


@pytest.mark.parametrize("fragment", ["512", "4096"])
def test_clients_that_want_small_records_get_whole_answers(tls, fragment):
    s = tls(f"Return 200 {'q' * 7000}\n", proxy=False)
    with subprocess.Popen(["openssl", "s_client", "-quiet", "-maxfraglen", fragment, "-connect",
                           f"127.0.0.1:{s.tls_port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as p:
        p.stdin.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        p.stdin.flush()
        assert p.stdout.read().count(b"q") == 7000


def test_the_first_bytes_may_come_in_several_records(tls, pki):
    s = tls("LoadModule lines\nProtocols lines http/1.1\n")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = context(pki).wrap_bio(incoming, outgoing, server_hostname="a.test")
    with socket.create_connection(("127.0.0.1", s.tls_port), 5) as c:
        while True:
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                c.sendall(outgoing.read())
                incoming.write(more(c))
        o.write(b"G")
        o.write(b"ET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        c.sendall(outgoing.read())  # both records in one piece
        got = b""
        while b"200 OK" not in got:
            incoming.write(more(c))
            try:
                got += o.read(65536)
            except ssl.SSLWantReadError:
                pass
