"""mod_tls: towards clients and servers, with Python's ssl, curl and openssl as the other side."""
import base64
import os
import re
import socket
import ssl
import subprocess
import threading
import time

import pytest
from certs import CA, openssl
from conftest import Client, free_port
from origin import Connection, Origin, reply
from test_reload import Operator


class Pki:
    def __init__(self, folder):
        self.ca, self.other = CA(folder), CA(folder, "other")
        self.a = self.ca.make("a.test", "www.a.test")
        self.a_rsa = self.ca.make("a.test", kind="rsa")
        self.b = self.ca.make("b.test", "*.w.test")
        self.back = self.ca.make("localhost", "127.0.0.1")
        self.client = self.ca.make("alice", usage="clientAuth")
        self.stranger = self.other.make("mallory", usage="clientAuth")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


def context(pki, **k):
    c = ssl.create_default_context(cafile=pki.ca.pem)
    c.check_hostname = k.get("check", True)
    if not k.get("verify", True):
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if "version" in k:
        c.minimum_version = c.maximum_version = k["version"]
    if "alpn" in k:
        c.set_alpn_protocols(k["alpn"])
    if "cert" in k:
        c.load_cert_chain(k["cert"].pem, k["cert"].key)
    if "ciphers" in k:
        c.set_ciphers(k["ciphers"])
    return c


@pytest.fixture
def tls(sluice, pki, origin):
    """tls(lines) -> a server with a TLS port, certificates a and b, and the echoing backend."""
    def start(text="", certs=None, proxy=True, **k):
        port = free_port()
        certs = [pki.a, pki.b] if certs is None else certs
        s = sluice("LoadModule route\nLoadModule tls\n" +
                   f"Listen 127.0.0.1:{port} tls\n" + "".join(f"TLSCertificate {c}\n" for c in certs) +
                   (f"ProxyPass http://{origin}\n" if proxy else "") + text, **k)
        s.tls_port = port
        return s
    return start


def connect(s, pki, name="a.test", ctx=None, session=None, **k):
    """A client whose connection is encrypted."""
    c = Client(s.tls_port)
    c.sock = (ctx or context(pki, **k)).wrap_socket(c.sock, server_hostname=name, session=session)
    return c


def names_of(c):
    return [v for k, v in c.sock.getpeercert()["subjectAltName"]]


def refusal(s, pki, *a, **k):
    with pytest.raises((ssl.SSLError, OSError)) as e:
        c = connect(s, pki, *a, **k)
        c.request("GET", "/")
    return str(e.value)


# ---- towards clients ----

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls(tls, pki, version):
    s = tls('RequestHeader set X-TLS "%{tls_version} %{tls_sni} %{tls_cipher} %{tls_resumed}"\n'
            "LoadModule headers\n")
    c = connect(s, pki, version=version)
    for i in range(5):
        r = c.request("GET", f"/x{i}")
        assert r.json()["target"] == f"/x{i}" and r.seen("X-Forwarded-Proto") == "https"
    assert r.seen("X-TLS") == f"{c.sock.version()} a.test {c.sock.cipher()[0]} 0"
    c.close()
    assert s.get("/").seen("X-Forwarded-Proto") == "http" and s.get("/").seen("X-TLS").strip() == "" 


@pytest.mark.parametrize("name, first", [
    ("a.test", "a.test"), ("WWW.A.test", "a.test"), ("b.test", "b.test"), ("x.w.test", "b.test"),
    ("x.y.w.test", "a.test"), ("w.test", "a.test"), ("unknown.test", "a.test"), (None, "a.test"),
])
def test_certificates_by_name(tls, pki, name, first):
    c = connect(tls(), pki, name, check=False)
    assert names_of(c)[0] == first
    c.close()


def test_hosts_have_certificates_of_their_own(tls, pki, sluice):
    s = tls(f"<VirtualHost b.test>\nTLSCertificate -\nTLSCertificate {pki.b}\nTLSProfile modern\n"
            "Return 200 b\n</VirtualHost>\n<VirtualHost a.test other.test>\nReturn 200 a\n</VirtualHost>\n",
            certs=[pki.a], proxy=False).expect("TLS0010")
    for name, first, says in (("b.test", "b.test", b"b"), ("a.test", "a.test", b"a"),
                              ("other.test", "a.test", b"a"), (None, "b.test", b"b")):
        c = connect(s, pki, name, check=False)
        assert names_of(c)[0] == first and c.request("GET", "/", host=name or "b.test").body == says
        c.close()
    connect(s, pki, "a.test", version=ssl.TLSVersion.TLSv1_2).close()
    assert "protocol" in refusal(s, pki, "b.test", version=ssl.TLSVersion.TLSv1_2)


def test_rsa_and_ecdsa_side_by_side(tls, pki):
    s = tls(certs=[pki.a_rsa, pki.a])
    for ciphers in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        c = connect(s, pki, version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)
        assert c.sock.cipher()[0] == ciphers and c.request("GET", "/").status == 200
        c.close()


def test_strict_sni(tls, pki):
    s = tls("TLSStrictSNI on\nLogLevel info\n")
    connect(s, pki, "b.test").close()
    assert "unrecognized" in refusal(s, pki, "unknown.test", check=False).lower().replace(" ", "_")
    refusal(s, pki, None, check=False)
    assert s.logged("TLS0010 client 127.0.0.1")


def test_alpn(tls, pki):
    s = tls("LogLevel info\n")
    c = connect(s, pki, alpn=["h2", "http/1.1"])
    assert c.sock.selected_alpn_protocol() == "http/1.1" and c.request("GET", "/").status == 200
    c.close()
    refusal(s, pki, alpn=["nonesuch"])
    assert s.logged("no application protocol")


def test_alpn_chooses_among_protocols(tls, pki):
    from test_modules import answer
    s = tls("LoadModule lines\nProtocols lines http/1.1\n")
    for alpn, picked in ((["lines"], "lines"), (["http/1.1", "lines"], "lines"), (["http/1.1"], "http/1.1")):
        c = connect(s, pki, alpn=alpn)
        assert c.sock.selected_alpn_protocol() == picked
        if picked == "lines":
            c.send(b"GET a.test /x\n")
            assert answer(c)[0] == 200
        else:
            assert c.request("GET", "/x").status == 200
        c.close()
    c = connect(s, pki)  # nothing agreed on: the first bytes tell
    assert c.request("GET", "/x").status == 200
    c.close()


@pytest.mark.parametrize("lines, can, cannot", [
    ("", ["TLSv1.2", "TLSv1.3"], ["TLSv1", "TLSv1.1"]),
    ("TLSProfile modern\n", ["TLSv1.3"], ["TLSv1.2"]),
    ("TLSProtocols TLSv1.2\n", ["TLSv1.2"], ["TLSv1.3"]),
])
def test_versions(tls, lines, can, cannot):
    s = tls(lines + "LogLevel info\n")

    def works(version):
        r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", "-servername",
                            "a.test", "-" + version.lower().replace("v", "").replace(".", "_"), "-cipher", "ALL:@SECLEVEL=0"],
                           input="", capture_output=True, text=True, timeout=20)
        return f"New, {version}" in r.stdout
    assert all(works(v) for v in can) and not any(works(v) for v in cannot)


def test_ciphers(tls, pki):
    s = tls("TLSCiphers TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES256-GCM-SHA384\nLogLevel info\n")
    c = connect(s, pki)
    assert c.sock.cipher()[0] == "TLS_AES_256_GCM_SHA384"
    c.close()
    c = connect(s, pki, version=ssl.TLSVersion.TLSv1_2)
    assert c.sock.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    c.close()
    refusal(s, pki, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    assert s.logged("no shared cipher")


def test_defaults_are_safe(tls, pki):
    s = tls()
    c = connect(s, pki)
    assert c.sock.cipher()[0] == "TLS_AES_128_GCM_SHA256" and c.sock.compression() is None
    c.close()
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", "-tls1_2", "-servername",
                        "a.test"], input="R\n", capture_output=True, text=True, timeout=20)
    assert "no renegotiation" in r.stderr.lower() + r.stdout.lower()


def test_curl(tls, pki):
    s = tls()
    r = subprocess.run(["curl", "-sS", "--cacert", pki.ca.pem, "--connect-to", f"a.test:443:127.0.0.1:{s.tls_port}",
                        "https://a.test/1", "https://a.test/2"], capture_output=True, text=True, timeout=20)
    assert '"target": "/1"' in r.stdout and '"target": "/2"' in r.stdout, r.stderr


def test_a_request_in_clear_on_a_tls_port(tls):
    s = tls("LogLevel info\n")
    for method in ("GET", "OPTIONS", "XYZ"):
        c = Client(s.tls_port)
        c.send(f"{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        r = c.response()
        assert r.status == 400 and b"HTTPS" in r.body and c.closed()
    assert s.logged("TLS0012 client 127.0.0.1: a request in clear")


# ---- bodies, pipelines, ends ----

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


def test_half_close(tls, pki, origin):
    """The client ends its side with the request: the answer comes all the same."""
    origin.on("/late", lambda c, r: (time.sleep(0.3), c.send(reply(200, b"late")))[0])
    s = tls()
    c = connect(s, pki)
    c.send(b"GET /late HTTP/1.1\r\nHost: a.test\r\n\r\n")
    socket.socket.shutdown(c.sock, socket.SHUT_WR)
    assert c.response().body == b"late"
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


# ---- bad input ----

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


# ---- configuration ----

@pytest.mark.parametrize("lines, wanted", [
    ("TLSCertificate /nowhere.pem", ["test.conf:3: TLSCertificate: /nowhere.pem: No such file", "cure: name the file"]),
    ("TLSCertificate {a.pem} /nowhere.key", ["test.conf:3: TLSCertificate: /nowhere.key: No such file"]),
    ("TLSCertificate {a.pem} {b.key}", ["test.conf:3: TLSCertificate: {b.key} is not the key of this certificate",
                                        "cure: expected the private key that belongs"]),
    ("TLSCertificate {a.key} {a.key}", ["{a.key} holds no certificate in PEM form"]),
    ("TLSCertificate {a.pem}", ["{a.pem} holds no private key in PEM form"]),
    ("", ["test.conf:2: Listen 443 tls: its default host has no certificate", "cure: write \"TLSCertificate CHAIN KEY\""]),
    ("TLSCertificate {a}\nTLSCiphers nonesuch", ["test.conf:4: TLSCiphers: expected names of ciphers"]),
    ("TLSCertificate {a}\nTLSProtocols TLSv1.1", ['expected TLSv1.2 or TLSv1.3, found "TLSv1.1"']),
    ("TLSCertificate {a}\nTLSProfile old", ['expected one of modern, intermediate, found "old"']),
    ("TLSCertificate {a}\nTLSClientVerify require", ["TLSClientVerify: there is no TLSClientCA"]),
    ("TLSCertificate {a}\nTLSClientVerify require\nTLSClientCA /nowhere", ["TLSClientCA: /nowhere: "]),
    ("TLSCertificate {a}\nTLSTickets maybe", ["found maybe: No such file", "cure: write on, off, or the file of the keys"]),
    ("TLSCertificate {a}\nHSTS never", ['expected on, off or a time such as 365d, found "never"']),
    ("TLSCertificate {a}\nHTTPSRedirect on port=0", ["expected port= between"]),
    ("TLSCertificate {a}\nProxyTLS ca=/nowhere", ["test.conf:4: ProxyTLS: ca: /nowhere: "]),
    ("TLSCertificate {a}\nLoadModule route\nProxyTLS http://x verify=off", ["not spoken to by TLS", "https://"]),
    ("TLSCertificate {a}\nLoadModule route\nProxyTLS https://x verify=off\nProxyTLS https://x:443 verify=on",
     ["already given for these servers at test.conf:5"]),
    ("TLSCertificate {a}\nLoadModule route\nProxyPass https://x\nProxyTLS https://x key=/k", ["expected cert= with key="]),
])
def test_what_is_refused(refused, pki, lines, wanted):
    def fill(text):
        for n in ("a", "b"):
            c = getattr(pki, n)
            text = text.replace("{%s.pem}" % n, c.pem).replace("{%s.key}" % n, c.key).replace("{%s}" % n, str(c))
        return text
    out = refused("LoadModule tls\nListen 443 tls\n" + fill(lines) + "\n")
    for w in wanted:
        assert fill(w) in out, out


def test_a_key_with_a_password_and_a_weak_one(refused, pki, tmp_path):
    openssl("ec", "-in", pki.a.key, "-aes128", "-passout", "pass:x", "-out", f"{tmp_path}/locked.key")
    out = refused(f"LoadModule tls\nListen 443 tls\nTLSCertificate {pki.a.pem} {tmp_path}/locked.key\n")
    assert "needs a password" in out
    weak = pki.ca.make("weak.test", kind="rsa:1024")
    assert "too small" in refused(f"LoadModule tls\nListen 443 tls\nTLSCertificate {weak}\n")


def test_a_reload_with_an_unreadable_key_changes_nothing(sluice, pki, tmp_path):
    cert = CA(tmp_path).make("a.test")
    text = f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{{}} tls\nTLSCertificate {cert}\nReturn 200 x\n"
    o = Operator(sluice, text.format(free_port()))
    o.s.expect("SL0208", "SL0250")  # who watches may see it away
    worker = o.serving()
    os.rename(cert.key, cert.key + ".away")
    o.write(o.text)
    assert f"TLSCertificate: {cert.key}: No such file" in o.refused()
    o.write(text.format(free_port()).replace(str(cert), f"{cert.pem} {pki.b.key}"))
    assert "is not the key of this certificate" in o.refused()
    assert o.serving() == worker
    os.rename(cert.key + ".away", cert.key)
    o.write(o.text + "ServerHeader off\n")
    o.reload()


def test_a_placeholder(tls, pki, tmp_path):
    s = tls("TLSPlaceholder on\n", certs=[f"{tmp_path}/none.pem {tmp_path}/none.key"]).expect("TLS0023")
    assert s.logged("TLS0023 .*none.pem: No such file or directory; a self-signed placeholder is used")
    c = connect(s, pki, verify=False)
    assert c.request("GET", "/").status == 200
    c.close()
    assert "verify failed" in refusal(s, pki)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_keys_only_root_can_read(sluice, pki, tmp_path):
    cert = CA(tmp_path).make("a.test")
    os.chmod(cert.key, 0o600)
    os.chown(cert.key, 0, 0)
    port = free_port()
    s = sluice(f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSCertificate {cert}\n"
               "Return 200 x\n", user="nobody")
    s.tls_port = port
    with open(f"/proc/{s.pids()[1]}/status") as f:
        assert not re.search(r"^Uid:\t0", f.read(), re.M)
    c = connect(s, pki, verify=False)
    assert c.request("GET", "/").body == b"x"
    c.close()


# ---- sessions ----

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_by_every_thread(tls, pki, version):
    s, ctx = tls("LoadModule headers\nHeader set X-Resumed %{tls_resumed}\n"), context(pki, version=version)
    c = connect(s, pki, ctx=ctx)
    assert c.request("GET", "/").get("X-Resumed") == "0"
    session = c.sock.session
    c.close()
    for _ in range(12):
        c = connect(s, pki, ctx=ctx, session=session)
        assert c.request("GET", "/").get("X-Resumed") == "1" and c.sock.session_reused
        c.close()


def test_tickets_off(tls, pki):
    s, ctx = tls("TLSTickets off\n"), context(pki)
    c = connect(s, pki, ctx=ctx)
    c.request("GET", "/")
    assert c.sock.session is None or not c.sock.session.has_ticket
    c.close()


def test_keys_of_tickets_are_rotated(tls, pki):
    s, ctx = tls("TLSTickets on rotate=1s\n"), context(pki, version=ssl.TLSVersion.TLSv1_2)
    c = connect(s, pki, ctx=ctx)
    c.request("GET", "/")
    session = c.sock.session
    c.close()
    time.sleep(1.2)
    c = connect(s, pki, ctx=ctx, session=session)
    assert c.sock.session_reused  # by a key that only reads
    c.close()
    time.sleep(5)
    c = connect(s, pki, ctx=ctx, session=session)
    assert not c.sock.session_reused and c.request("GET", "/").status == 200
    c.close()


# ---- clients' certificates ----

def verified(tls, pki, how="require", more=""):
    return tls(f"TLSClientVerify {how}\nTLSClientCA {pki.ca.pem}\nLoadModule headers\nLogLevel info\n"
               'RequestHeader set X-Who "%{tls_client_verify} %{tls_client_dn} %{tls_client_fingerprint}"\n' + more)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_are_verified(tls, pki, version):
    s = verified(tls, pki)
    c = connect(s, pki, cert=pki.client, version=version)
    who = c.request("GET", "/").seen("X-Who")
    fp = openssl("x509", "-in", pki.client.pem, "-noout", "-fingerprint", "-sha256").split("=")[1]
    assert who == "ok CN=alice,O=test " + fp.strip().replace(":", "").lower()
    c.close()
    assert refusal(s, pki, version=version)
    assert refusal(s, pki, version=version, cert=pki.stranger)
    assert s.logged("TLS0010 .*peer did not return a certificate")
    assert s.logged("TLS0010 .*certificate verify failed: ")


def test_clients_may_be_verified(tls, pki):
    s = verified(tls, pki, "optional")
    for k, says in (({}, "none"), ({"cert": pki.client}, "ok")):
        c = connect(s, pki, **k)
        assert c.request("GET", "/").seen("X-Who").split()[0] == says
        c.close()
    assert refusal(s, pki, cert=pki.stranger)


def test_verification_cannot_be_gone_around_by_another_name(tls, pki):
    s = tls(f"<VirtualHost a.test>\nReturn 200 open\n</VirtualHost>\n<VirtualHost b.test>\n"
            f"TLSClientVerify require\nTLSClientCA {pki.ca.pem}\nReturn 200 closed\n</VirtualHost>\nLogLevel info\n",
            proxy=False)
    c = connect(s, pki, "a.test")
    assert c.request("GET", "/", host="a.test").body == b"open"
    assert c.request("GET", "/", host="b.test").status == 421
    c.close()
    assert refusal(s, pki, "b.test")
    ctx = context(pki, cert=pki.client)
    c = connect(s, pki, "b.test", ctx=ctx)
    assert c.request("GET", "/", host="b.test").body == b"closed"
    c.close()
    ctx = context(pki)  # nor by a session of another host
    c = connect(s, pki, "a.test", ctx=ctx)
    c.request("GET", "/", host="a.test")
    session = c.sock.session
    c.close()
    assert refusal(s, pki, "b.test", ctx=ctx, session=session)


def test_revoked_clients(tls, pki, tmp_path):
    ca = CA(tmp_path)
    good, bad = ca.make("good", usage="clientAuth"), ca.make("bad", usage="clientAuth")
    (tmp_path / "index.txt").write_text("")
    (tmp_path / "crlnumber").write_text("01\n")
    (tmp_path / "ca.cnf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={tmp_path}/index.txt\ncrlnumber="
                                     f"{tmp_path}/crlnumber\ndefault_md=sha256\ndefault_crl_days=9\n"
                                     "default_days=9\npolicy=p\n[p]\n")
    base = ["ca", "-config", f"{tmp_path}/ca.cnf", "-cert", ca.pem, "-keyfile", ca.key]
    openssl(*base, "-revoke", bad.pem)
    openssl(*base, "-gencrl", "-out", f"{tmp_path}/crl.pem")
    s = tls(f"TLSClientVerify require\nTLSClientCA {ca.pem}\nTLSClientCRL {tmp_path}/crl.pem\nLogLevel info\n")
    c = connect(s, pki, cert=good)
    assert c.request("GET", "/").status == 200
    c.close()
    assert refusal(s, pki, cert=bad) and s.logged("certificate revoked")


# ---- redirect, HSTS, key log ----

def test_https_redirect(tls, pki):
    s = tls("HTTPSRedirect on port=8443\n<Location /.well-known/acme-challenge/>\nHTTPSRedirect off\n"
            "Return 200 token\n</Location>\nHSTS 365d subdomains preload\n")
    r = s.get("/a/b?x=%20y", host="a.test:80")
    assert r.status == 301 and r.get("Location") == "https://a.test:8443/a/b?x=%20y"
    assert r.get("Strict-Transport-Security") is None
    assert s.get("/p", method="POST", body=b"x", host="a.test").status == 308
    assert s.get("/.well-known/acme-challenge/t", host="a.test").body == b"token"
    assert s.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    c = connect(s, pki)
    r = c.request("GET", "/x")
    assert r.status == 200 and r.get("Strict-Transport-Security") == "max-age=31536000; includeSubDomains; preload"
    c.close()


def test_key_log(tls, pki, tmp_path):
    s = tls(f"TLSKeyLog {tmp_path}/keys\n").expect("TLS0042")
    connect(s, pki).close()
    assert s.logged("TLS0042")
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET " in (tmp_path / "keys").read_text()
    assert os.stat(tmp_path / "keys").st_mode & 0o037 == 0


# ---- towards servers ----

class SecureOrigin(Origin):
    """A backend that speaks TLS; counts handshakes and resumptions."""

    def __init__(self, cert, **k):
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(cert.pem, cert.key)
        self.n_resumed, self.names, self.failures, self.peers = 0, [], [], []
        if "ca" in k:
            self.ctx.load_verify_locations(k["ca"])
            self.ctx.verify_mode = ssl.CERT_REQUIRED
        self.ctx.sni_callback = lambda s, name, c: self.names.append(name)
        super().__init__()

    def _serve(self, sock):
        try:
            secure = self.ctx.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, OSError) as e:
            self.failures.append(str(e))
            sock.close()
            return
        self.n_resumed += secure.session_reused
        self.peers.append(secure.getpeercert())
        super()._serve(secure)

    @property
    def port(self):
        return int(self.name.rsplit(":", 1)[1])


@pytest.fixture
def secure(pki):
    made = []

    def make(cert=None, **k):
        made.append(SecureOrigin(cert or pki.back, **k))
        return made[-1]
    yield make
    for o in made:
        o.close()


def to(o, text="", options=None, host="localhost"):
    return (f"LoadModule route\nLoadModule tls\nProxyPass https://{host}:{o.port}\n" +
            (f"ProxyTLS https://{host}:{o.port} {options}\n" if options else "") + text)


def test_requests_to_an_https_server(sluice, pki, secure):
    o = secure()
    s = sluice(to(o, options=f"ca={pki.ca.pem}"))
    c = s.client()
    body = os.urandom(800000).hex().encode()
    for i in range(4):
        assert c.request("POST", f"/u{i}", body=body).json()["body"].encode() == body
    o.on("/down", reply(200, body))
    assert c.request("GET", "/down").body == body
    assert o.n_connections == 1 and o.names == ["localhost"]  # kept between requests
    c.close()


@pytest.mark.parametrize("options, host, good, why", [
    ("ca={ca}", "127.0.0.1", True, None),  # an address in the certificate
    ("ca={ca} sni=localhost", "127.0.0.1", True, None),
    ("ca={ca} sni=wrong.test", "127.0.0.1", False, "hostname mismatch"),
    ("ca={other}", "localhost", False, "certificate"),
    (None, "localhost", False, "certificate"),  # verified by the system's CAs
])
def test_servers_are_verified(sluice, pki, secure, options, host, good, why):
    o = secure()
    options = options and options.format(ca=pki.ca.pem, other=pki.other.pem)
    s = sluice(to(o, options=options, host=host)).expect("SL0516", "TLS0011")
    r = s.get("/")
    assert r.status == (200 if good else 502)
    if not good:
        assert s.logged(f"TLS0011 pool {host}:{o.port} server {host}:{o.port}: the handshake failed: .*{why}", 3)
        assert not o.requests


def test_an_unverified_server_is_complained_about(sluice, pki, secure):
    o = secure(pki.other.make("wrong.test"))
    s = sluice(to(o, options="verify=off")).expect("TLS0030")
    assert s.get("/").status == 200 and s.logged("TLS0030 .*test.conf:7: verify=off")
    s = sluice(to(o, "ProxyTLS verify=off\n")).expect("TLS0030")
    assert s.get("/").status == 200


def test_sessions_with_servers_are_resumed(sluice, pki, secure, threads):
    o = secure()
    o.on("/close", lambda c, r: (c.send(reply(200, b"x", [("Connection", "close")])), False)[1])
    s = sluice(to(o, options=f"ca={pki.ca.pem}"))
    for _ in range(10):
        assert s.get("/close").status == 200
    assert o.n_connections == 10 and o.n_resumed >= 10 - threads


def test_a_certificate_for_servers(sluice, pki, secure):
    o = secure(ca=pki.ca.pem)
    s = sluice(to(o, options=f"ca={pki.ca.pem} cert={pki.client.pem} key={pki.client.key}"))
    assert s.get("/").status == 200 and "alice" in str(o.peers[0])


def test_a_pool_of_https_servers(sluice, pki, secure, make_origin):
    good, bad = secure(), secure(pki.other.make("localhost"))
    s = sluice(f"LoadModule route\nLoadModule balancer\nLoadModule tls\n<Balancer p>\n"
               f"ServerTLS ca={pki.ca.pem}\nServer https://localhost:{bad.port}\n"
               f"Server https://localhost:{good.port}\n</Balancer>\nProxyPass balancer://p\n")
    s.expect("SL0516", "TLS0011", "BALANCER0010")
    for _ in range(6):  # the bad one is never spoken to
        assert s.get("/").status == 200
    assert len(good.requests) == 6 and not bad.requests


def test_checks_over_tls(sluice, pki, secure):
    """The handshake is a part of them, with its verification."""
    good, bad = secure(), secure(pki.other.make("localhost"))
    s = sluice(f"LoadModule route\nLoadModule balancer\nLoadModule tls\n<Balancer p>\n"
               f"ServerTLS ca={pki.ca.pem}\nHealthCheck uri=/health interval=200ms fall=2\n"
               f"Server bad=https://localhost:{bad.port}\nServer good=https://localhost:{good.port}\n"
               "</Balancer>\nProxyPass balancer://p\n").expect("SL05", "TLS0011", "BALANCER001")
    assert s.logged("server bad is down: check: the connection is refused or fails")
    time.sleep(1)
    assert {r.target for r in good.requests} == {"/health"} and s.get("/").status == 200
    assert "server good is down" not in s.log() and not bad.requests


def test_a_server_that_does_not_speak_tls(sluice, origin, pki):
    s = sluice("LoadModule route\nLoadModule tls\nProxyTimeout connect=400ms\n"
               f"ProxyPass https://{origin}\n").expect("SL0516", "TLS0011", "SL0502")
    assert s.get("/").status in (502, 504)


def test_a_cut_by_somebody_between_is_no_end(sluice, pki, secure):
    """A body that ends with the connection needs close_notify (RFC 9112, 9.8)."""
    o = secure()

    def ends(c, r):
        c.send(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        c.sock.settimeout(2)
        try:
            c.sock.unwrap()
        except OSError:
            pass
        return False
    o.on("/ends", ends)
    o.on("/cut", lambda c, r: (c.send(b"HTTP/1.0 200 OK\r\n\r\nhalf"), False)[1])
    s = sluice(to(o, options=f"ca={pki.ca.pem}")).expect("SL0509")
    assert s.get("/ends").body == b"all of it"
    assert b"0\r\n\r\n" not in s.raw(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n") and s.logged("SL0509")


def test_s_server_and_its_tickets(sluice, pki):
    """openssl's own server sends tickets behind the handshake: kept connections stay usable."""
    port = free_port()
    p = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pki.back.pem, "-key",
                          pki.back.key, "-www"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        s = sluice(f"LoadModule route\nLoadModule tls\nProxyPass https://127.0.0.1:{port}\n"
                   f"ProxyTLS https://127.0.0.1:{port} ca={pki.ca.pem}\n").expect("SL0509")
        for _ in range(3):
            r = s.get("/", host="localhost")
            assert r.status == 200 and b"TLSv1.3" in r.body
    finally:
        p.kill()
        p.wait()


# ---- generations ----

def tls_operator(sluice, pki, origin, more=""):
    port = free_port()
    o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\n"
                         f"TLSCertificate {pki.a}\nProxyPass http://{origin}\n{more}")
    o.s.tls_port = port
    return o


def test_a_reload_with_tls_clients(sluice, pki, origin):
    """A busy one is told to close with its next answer, an idle one when DrainIdle is over."""
    o = tls_operator(sluice, pki, origin, "DrainIdle 1s\n")
    idle, busy = connect(o.s, pki), connect(o.s, pki)
    assert idle.request("GET", "/").status == busy.request("GET", "/").status == 200
    o.write(o.text + "ServerHeader off\n")
    began = time.time()
    o.reload()
    r = busy.request("GET", "/")
    assert r.status == 200 and r.get("Connection") == "close" and busy.closed()
    assert idle.closed() and 0.5 < time.time() - began < 5
    c = connect(o.s, pki)
    assert c.request("GET", "/").status == 200
    c.close()
    assert o.settled()


def test_sessions_outlive_a_reload(sluice, pki, origin):
    o, ctx = tls_operator(sluice, pki, origin), context(pki)
    c = connect(o.s, pki, ctx=ctx)
    c.request("GET", "/")
    session = c.sock.session
    c.close()
    o.write(o.text + "ServerHeader off\n")
    o.reload()
    c = connect(o.s, pki, ctx=ctx, session=session)
    assert c.sock.session_reused and c.request("GET", "/").status == 200
    c.close()


def test_a_certificate_changes_without_a_reload(tls, pki, tmp_path):
    ca = CA(tmp_path)
    cert, fresh, other = ca.make("a.test"), pki.ca.make("a.test", "new.test"), pki.ca.make("b.test")
    s = tls(certs=[cert]).expect("TLS0021")
    old = connect(s, pki, verify=False)
    assert old.request("GET", "/").status == 200
    with open(cert.key, "w") as f:  # half of a pair is not taken
        f.write(other.read()[1])
    assert s.logged("TLS0021 ", 3)
    connect(s, pki, verify=False).close()
    cert.write(fresh)
    assert s.logged("TLS0020 .*the new certificate is used", 3)
    c = connect(s, pki, "new.test")
    assert names_of(c) == ["a.test", "new.test"]
    assert old.request("GET", "/").status == 200
    c.close()
    old.close()


@pytest.mark.parametrize("fragment", ["512", "4096"])
def test_clients_that_want_small_records_get_whole_answers(tls, fragment):
    s = tls(f"Return 200 {'q' * 7000}\n", proxy=False)
    with subprocess.Popen(["openssl", "s_client", "-quiet", "-maxfraglen", fragment, "-connect",
                           f"127.0.0.1:{s.tls_port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as p:
        p.stdin.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        p.stdin.flush()
        assert p.stdout.read().count(b"q") == 7000


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clients_with_certificates_are_verified_each_time(tls, pki, version):
    s = tls(f"TLSClientVerify require\nTLSClientCA {pki.ca.pem}\n")
    ctx = context(pki, cert=pki.client, version=version)
    c = connect(s, pki, ctx=ctx)
    assert c.request("GET", "/").status == 200
    session = c.sock.session
    c.close()
    again = connect(s, pki, ctx=ctx, session=session)
    assert again.request("GET", "/").status == 200 and not again.sock.session_reused
    again.close()


def test_a_host_that_verifies_clients_is_not_served_in_clear(tls, pki):
    s = tls(f"<VirtualHost b.test>\nTLSClientVerify require\nTLSClientCA {pki.ca.pem}\n</VirtualHost>\n"
            "<VirtualHost a.test>\n</VirtualHost>\n")
    c = Client(s.port)
    assert c.request("GET", "/", host="b.test").status == 421
    c.close()


@pytest.mark.parametrize("sni", ["", ".example.com"])
def test_no_name_stands_for_many_servers(refused, sni):
    assert f'expected sni=NAME, found "{sni}"' in refused(
        f'LoadModule route\nLoadModule tls\nProxyTLS sni="{sni}"\nProxyPass https://localhost:1\n')


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
                incoming.write(c.recv(65536))
        o.write(b"G")
        o.write(b"ET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        c.sendall(outgoing.read())  # both records in one piece
        got = b""
        while b"200 OK" not in got:
            incoming.write(c.recv(65536))
            try:
                got += o.read(65536)
            except ssl.SSLWantReadError:
                pass
