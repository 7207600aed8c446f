"""mod_tls against clients that do not behave."""
import os
import re
import socket
import ssl
import time

import pytest
from conftest import Client
from origin import reply
from tls_peers import connect, context, pki, tls


@pytest.mark.parametrize("hello", [
    b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b"\xff" + os.urandom(300), b"\x80\x2e\x01\x00\x02" + b"\0" * 40,
    b"\x16\x03\x01\xff\xff" + b"A" * 70000, b"\x16", b"",
], ids=["bad-hello", "zeros", "noise", "sslv2", "oversized", "one-byte", "nothing"])
def test_garbage_for_a_hello(tls, pki, hello):
    s = tls("LogLevel info\nTimeout header=500ms\n")
    c = Client(s.tls_port)
    try:
        c.send(hello)
    except OSError:
        pass
    assert b"HTTP" not in c.rest()
    c.close()
    assert s.logged("TLS0010 client 127.0.0.1|SL0216 client 127.0.0.1|TLS0012") or hello == b""
    c = connect(s, pki)
    assert c.request("GET", "/").status == 200
    c.close()


def test_a_handshake_has_its_time(tls, pki):
    s = tls("Timeout header=600ms\nLogLevel info\n")
    slow = Client(s.tls_port)
    slow.send(b"\x16\x03\x01\x02\x00")
    began = time.time()
    fast = connect(s, pki)
    assert fast.request("GET", "/").status == 200 and time.time() - began < 0.5  # nobody waits for it
    assert slow.closed() and 0.4 < time.time() - began < 3
    assert s.logged("SL0216 client 127.0.0.1: Listen .* tls: no handshake within Timeout header")
    fast.close()


def test_a_handshake_byte_by_byte(tls, pki):
    s = tls()
    raw = socket.create_connection(("127.0.0.1", s.tls_port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.settimeout(5)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = context(pki).wrap_bio(into, out, server_hostname="a.test")
    while True:
        try:
            o.do_handshake()
            break
        except ssl.SSLWantReadError:
            for b in out.read():
                raw.send(bytes([b]))
            into.write(raw.recv(65536))
    o.write(b"GET /s HTTP/1.1\r\nHost: a.test\r\n\r\n")
    for b in out.read():
        raw.send(bytes([b]))
    got = b""
    while b'"/s"' not in got:
        into.write(raw.recv(65536))
        try:
            got += o.read(65536)
        except ssl.SSLWantReadError:
            pass
    raw.close()


def test_a_broken_record_ends_the_connection(tls, pki):
    s = tls("LogLevel info\n")
    c = connect(s, pki)
    assert c.request("GET", "/").status == 200
    fd = os.dup(c.sock.fileno())
    os.write(fd, b"\x17\x03\x03\x00\x20" + b"x" * 32)
    raw = socket.socket(fileno=fd)
    raw.settimeout(5)
    while True:
        try:
            if raw.recv(4096) == b"":
                break
        except ConnectionResetError:
            break
    raw.close()
    assert s.logged("TLS0010 client 127.0.0.1 for a.test: reading failed: ")


def test_clients_that_leave_at_any_time(tls, pki, origin):
    origin.on("/big", reply(200, b"b" * 3000000))
    s = tls()
    for how in range(60):
        c = Client(s.tls_port)
        if how % 3:
            c = connect(s, pki)
        if how % 3 == 2:
            c.send(b"GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n")
            c.sock.recv(1000)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0%c\0\0\0" % (how % 2))
        c.close()
    c = connect(s, pki)
    assert c.request("GET", "/").status == 200
    c.close()


def test_a_client_cannot_flood_the_log(tls):
    """One line a client and minute, on whatever threads; the rest is counted, and told at the end."""
    s = tls("LogLevel info\n")
    for i in range(120):
        c = Client(s.tls_port, source=f"127.0.0.{1 + i % 2}")
        c.send(b"garbage for a hello" if i % 3 else b"GET / HTTP/1.1\r\n\r\n")
        c.rest()
        c.close()
    assert s.stop() == 0
    assert len(re.findall("TLS001[02] client 127.0.0.1", s.log())) == 1 == len(
        re.findall("TLS001[02] client 127.0.0.2", s.log()))
    told = re.findall(r"TLS0013 client 127.0.0.[12]: (\d+) more within a minute; the last: |TLS0014 .* of (\d+) more", s.log())
    assert sum(int(n) for pair in told for n in pair if n) == 118
