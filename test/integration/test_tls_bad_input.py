"""mod_tls against clients that do not behave."""
import os
import re
import socket
import ssl
import struct
import subprocess
import time

import pytest
from conftest import Client
from origin import reply
from tls_peers import connect, context, more, pki, refusal, tls


def alert(c):
    """The fatal alert in clear the connection ends with, by its number (RFC 8446, 6)."""
    got = c.rest()
    if not got:
        return None
    assert len(got) == 7 and got[0] == 21 and got[3:6] == b"\0\2\2", got
    return got[6]


# What a client begins with; the alert it gets; the cause in the log.
HELLOS = [
    (b"\x16\x03\x01\x00\x05hello", 10, "unexpected message"),
    (b"\x16\x03\x01\xff\xff" + b"A" * 70000, 22, "packet length too long"),
    (b"\x17\x03\x03\x00\x05hello", 10, "unexpected message"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\3\3" + b"z" * 506, 50, "length mismatch"),
    (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", 47, "excessive message size"),
    (b"\x14\x03\x03\x00\x01\x01", 10, "unexpected message"),
    (b"\0" * 100, None, "wrong version number"),  # it does not speak TLS: nor do we
    (b"\xff" + os.urandom(300), None, "wrong version number"),
]


def test_garbage_for_a_hello(tls, pki):
    """A client beside the bad ones is served as if they were not there."""
    s = tls("LogLevel info\nTimeout header=500ms\n")
    good = connect(s, pki)
    for i, (hello, says, why) in enumerate(HELLOS, 2):
        c = Client(s.tls_port, source=f"127.0.0.{i}")
        try:
            c.send(hello)
        except OSError:
            pass
        began = time.time()
        assert good.request("GET", "/").status == 200 and time.time() - began < 0.5
        assert alert(c) == says, hello
        assert s.logged(f"TLS0010 client 127.0.0.{i}: the handshake failed: {why}")
        c.close()
    for i, start in enumerate((b"\x80\x2e\x01\x00\x02" + b"\0" * 40, b"\x16", b""), 100):
        c = Client(s.tls_port, source=f"127.0.0.{i}")
        c.send(start)
        assert c.rest() == b"" and s.logged(f"SL0216 client 127.0.0.{i}: .*no handshake within Timeout") or not start
        c.close()
    c = Client(s.tls_port, source="127.0.0.200")
    c.send(b"\x16\x03\x01\x02\x00\x01")
    c.sock.shutdown(socket.SHUT_WR)
    c.rest()
    assert s.logged("TLS0010 client 127.0.0.200: the handshake failed: unexpected eof")
    good.close()


def extension(kind, body):
    return struct.pack(">HH", kind, len(body)) + body


def name(text, kind=0):
    return extension(0, struct.pack(">HBH", len(text) + 3, kind, len(text)) + text)


def protocols(*names):
    text = b"".join(bytes([len(n)]) + n for n in names)
    return extension(16, struct.pack(">H", len(text)) + text)


def hello(*extensions, version=b"\3\3", suites=b"\xc0\x2b\xc0\x2f", size=16384):
    """A ClientHello of TLS 1.2, in records of this size."""
    more = extension(10, b"\0\4\0\x1d\0\x17") + extension(13, b"\0\4\4\3\x08\4") + b"".join(extensions)
    body = (version + os.urandom(32) + b"\0" + struct.pack(">H", len(suites)) + suites + b"\1\0" +
            struct.pack(">H", len(more)) + more)
    body = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"".join(b"\x16\3\1" + struct.pack(">H", len(body[i:i + size])) + body[i:i + size]
                    for i in range(0, len(body), size))


# What a hello says; the certificate it gets, or the alert.
ODD = {
    "in records of a byte": (hello(name(b"b.test"), size=1), b"b.test"),
    "in capitals": (hello(name(b"B.TEST")), b"b.test"),
    "with a dot behind": (hello(name(b"b.test.")), b"b.test"),
    "nothing but a dot": (hello(name(b".")), b"a.test"),
    "an empty name": (hello(name(b"")), b"a.test"),
    "an address": (hello(name(b"127.0.0.1")), b"a.test"),
    "255 bytes": (hello(name(b"x" * 255)), b"a.test"),
    "256 bytes": (hello(name(b"x" * 256)), 112),
    "a NUL": (hello(name(b"b.test\0.a.test")), 112),
    "a line of the log": (hello(name(b"x\n2026-01-01 error \x1b[31m\xff%s%n")), b"a.test"),
    "another kind of name": (hello(name(b"b.test", 1)), 50),
    "two names": (hello(extension(0, b"\0\x12" + b"\0\0\6a.test" * 2)), 50),
    "two lists of names": (hello(name(b"a.test"), name(b"b.test")), 47),
    "a name longer than its list": (hello(extension(0, b"\0\x09\0\0\x20b.test")), 50),
    "a list longer than its extension": (hello(extension(0, b"\0\x40\0\0\6b.test")), 50),
    "no list": (hello(extension(0, b"")), 50),
    "an empty list of protocols": (hello(name(b"b.test"), extension(16, b"\0\0")), 50),
    "a protocol of no name": (hello(name(b"b.test"), extension(16, b"\0\1\0")), 50),
    "a protocol longer than its list": (hello(name(b"b.test"), extension(16, b"\0\3\xffh2")), 50),
    "thousands of protocols": (hello(name(b"b.test"), protocols(*[b"x%d" % i for i in range(5000)])), 120),
    "a protocol in capitals": (hello(name(b"b.test"), protocols(b"HTTP/1.1")), 120),
    "a ticket nobody gave": (hello(name(b"b.test"), extension(35, os.urandom(50000))), b"b.test"),
    "an old version": (hello(name(b"b.test"), version=b"\3\1"), 70),
    "a fallback": (hello(name(b"b.test"), version=b"\3\2", suites=b"\x56\0\xc0\x2b"), 70),
    "no suites": (hello(name(b"b.test"), suites=b""), 47),
    "empty records before": (b"\x16\3\1\0\0" * 50 + hello(name(b"b.test")), 10),
    "a warning before": (b"\x15\3\1\0\2\1\0" + hello(name(b"b.test")), 10),
}


def test_odd_hellos(tls, pki):
    s = tls("LogLevel info\n")
    good = connect(s, pki)
    for i, (what, (said, wanted)) in enumerate(ODD.items(), 2):
        c = Client(s.tls_port, source=f"127.0.0.{i}")
        c.send(said)
        c.fill()
        if isinstance(wanted, bytes):
            while b"test" not in c.buf:
                assert c.fill(), what
            assert wanted in c.buf, what
        else:
            assert alert(c) == wanted, what
            assert s.logged(f"TLS0010 client 127.0.0.{i}( for b.test)?: the handshake failed: "), what
        c.close()
        assert good.request("GET", "/").status == 200
    assert s.logged(r"for x\?2026-01-01 error \?\[31m") and "\n2026-01-01" not in s.log()
    s.expect("2026-01-01")
    good.close()


def test_renegotiation_is_refused(tls, pki):
    """By an alert that openssl's client takes for the end."""
    s = tls("LogLevel info\n")
    r = subprocess.run(["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{s.tls_port}", "-servername", "a.test"],
                       input="R\n", capture_output=True, text=True, timeout=20)
    assert "RENEGOTIATING" in r.stderr and "no renegotiation" in r.stderr
    c = connect(s, pki)
    assert c.request("GET", "/").status == 200
    c.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bad_records_in_a_connection(tls, pki, origin, version):
    s = tls("LogLevel info\n")
    good = connect(s, pki)
    for i, (record, says, why) in enumerate((
            (b"\x17\x03\x03\x48\x01" + b"x" * 18433, "RECORD_OVERFLOW", "packet length too long"),
            (b"\x17\x03\x03\x00\x20" + b"x" * 32, "BAD_RECORD_MAC", "bad record mac")), 2):
        c = connect(s, pki, version=version, source=f"127.0.0.{i}")
        assert c.request("GET", "/").status == 200
        os.write(c.sock.fileno(), record)
        with pytest.raises(ssl.SSLError, match=says):
            c.sock.recv(1)
        assert s.logged(f"TLS0010 client 127.0.0.{i} for a.test: reading failed: .*{why}")
        assert good.request("GET", "/").status == 200
        c.close()
    c = connect(s, pki, version=version, source="127.0.0.9")
    c.send(b"POST /cut HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\n0123456789")
    os.write(c.sock.fileno(), b"\x17\x03\x03\x00\x40abc")
    socket.socket.shutdown(c.sock, socket.SHUT_WR)
    assert s.logged("TLS0010 client 127.0.0.9 for a.test: reading failed: unexpected eof")
    assert good.request("GET", "/").status == 200 and all(r.target == "/" for r in origin.requests)
    good.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bad_certificates_and_names_of_clients(tls, pki, version):
    s = tls(f"LogLevel info\nTLSStrictSNI on\nTLSClientVerify require\nTLSClientCA {pki.ca.pem}\n")
    missing = "CERTIFICATE_REQUIRED" if version == ssl.TLSVersion.TLSv1_3 else "HANDSHAKE_FAILURE"
    for i, (name, cert, says, why) in enumerate((
            ("a.test", None, missing, "peer did not return a certificate"),
            ("a.test", pki.stranger, "UNKNOWN_CA", "certificate verify failed: "),
            ("a.test", pki.expired, "CERTIFICATE_EXPIRED", "certificate verify failed: certificate has expired"),
            ("a.test", pki.a, "UNSUPPORTED_CERTIFICATE", "certificate verify failed: unsuitable certificate purpose"),
            ("w.test", None, "UNRECOGNIZED_NAME", "refused, no certificate has the name it asks for: w.test")), 2):
        k = {"cert": cert} if cert else {}
        got = refusal(s, pki, name, version=version, source=f"127.0.0.{i}", **k)
        assert says in got, got
        assert s.logged(f"TLS001[05] client 127.0.0.{i}( for {name})?: .*{why}")


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


def told_as_more(log):
    """Failures without a line of their own.  Whose thread finds the table taken is not told apart."""
    told = re.findall(r"SL0218 client 127.0.0.[12]: (\d+) more within a minute; the last: |SL0219 (\d+) more connections", log)
    return sum(int(n) for pair in told for n in pair if n)


def test_who_says_nothing_has_one_line(tls):
    s = tls("Timeout header=300ms\nLogLevel info\n")
    for c in [Client(s.tls_port) for _ in range(5)]:
        assert c.closed()
    assert s.stop() == 0
    assert len(re.findall("SL0216 client 127.0.0.1: Listen .* tls: no handshake within Timeout header", s.log())) == 1
    assert told_as_more(s.log()) == 4


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
            into.write(more(raw))
    o.write(b"GET /s HTTP/1.1\r\nHost: a.test\r\n\r\n")
    for b in out.read():
        raw.send(bytes([b]))
    got = b""
    while b'"/s"' not in got:
        into.write(more(raw))
        try:
            got += o.read(65536)
        except ssl.SSLWantReadError:
            pass
    raw.close()


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
    assert told_as_more(s.log()) == 118
