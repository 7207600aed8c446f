"""The PROXY protocol: from a load balancer in front (Listen ... proxy), to servers (SendProxy)."""
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from certs import CA
from conftest import Client, free_port
from test_peers import started

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
V2 = (SIGNATURE + b"\x21\x11\0\x0c" + socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.7") +
      struct.pack(">HH", 56324, 443))
V2_LOCAL = SIGNATURE + b"\x20\0\0\0"
V2_IPV6 = (SIGNATURE + b"\x21\x21\0\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::1") +
           socket.inet_pton(socket.AF_INET6, "2001:db8::2") + struct.pack(">HH", 1, 2))
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
BASE = "LoadModule route\n"


@pytest.fixture
def behind(sluice, origin):
    """A server that expects PROXY headers; .proxied is that listener."""
    def start(more=""):
        port = free_port()
        s = sluice(BASE + f"Listen 127.0.0.1:{port} proxy\n{more}ProxyPass {origin}\n")
        s.proxied = port
        return s
    return start


@pytest.mark.parametrize("header, who", [
    (V1, "192.0.2.1"), (V2, "192.0.2.1"), (V2_IPV6, "2001:db8::1"), (V2_LOCAL, "127.0.0.1"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
], ids=["v1", "v2", "ipv6", "local", "unknown"])
def test_client_is_who_the_header_names(behind, header, who):
    s = behind()
    c = Client(s.proxied)
    for first in (header, b""):
        r = c.send(first + GET).response()
        assert r.seen("X-Forwarded-For") == who, "for all requests of the connection"
    c.close()


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_header_in_pieces(behind, header):
    s = behind()
    c = Client(s.proxied)
    for byte in header + GET:
        c.send(bytes([byte]))
        time.sleep(0.002)
    assert c.response().seen("X-Forwarded-For") == "192.0.2.1"
    c.close()


@pytest.mark.parametrize("first", [GET, b"\0" * 30, b"PROXY TCP4 1.2.3.4\r\n" + GET, SIGNATURE + b"\x21\x11\xff\xff"],
                         ids=["http", "zeros", "broken", "endless"])
def test_without_a_header_nothing_is_said(behind, origin, first):
    s = behind()
    assert Client(s.proxied).send(first).rest() == b"" and origin.requests == []
    assert s.get("/").status == 200, "the other listener wants none"


def test_header_must_come_in_time(behind):
    s = behind("Timeout header=300ms\n")
    c = Client(s.proxied)
    began = time.time()
    assert c.send(V1[:10]).closed() and time.time() - began < 3


def test_trusted_proxies_are_judged_by_the_header(behind):
    s = behind("TrustedProxies 192.0.2.1\n")
    ask = b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
    assert Client(s.proxied).send(V1 + ask).response().seen("X-Forwarded-For") == "203.0.113.9, 192.0.2.1"
    r = Client(s.proxied).send(V2_LOCAL + ask).response()
    assert "203.0.113.9" not in r.seen("X-Forwarded-For"), "127.0.0.1 is not trusted"


def test_reload_does_not_hand_over_what_only_the_header_said(behind):
    s = behind("DrainIdle 500ms\n")
    c = Client(s.proxied)
    assert c.send(V1 + GET).response().seen("X-Forwarded-For") == "192.0.2.1"
    s.proc.send_signal(signal.SIGHUP)
    assert s.logged("serves now|generation 2")
    r = c.send(GET).response()
    assert r.seen("X-Forwarded-For") == "192.0.2.1" and r.get("Connection") == "close"
    assert Client(s.proxied).send(V1 + GET).response().status == 200


def test_tls_behind_the_header(sluice, origin, tmp_path):
    ca, port = CA(tmp_path), free_port()
    sluice(BASE + f"LoadModule tls\nListen 127.0.0.1:{port} tls proxy\nTLSCertificate {ca.make('test')}\n"
           f"ProxyPass {origin}\n")
    sock = socket.create_connection(("127.0.0.1", port), 5)
    sock.sendall(V2)
    with ssl.create_default_context(cafile=ca.pem).wrap_socket(sock, server_hostname="test") as s:
        s.sendall(GET)
        assert b"192.0.2.1" in s.recv(65536)
    r = subprocess.run(["curl", "-s", "--haproxy-protocol", "--cacert", ca.pem, "--resolve", f"test:{port}:127.0.0.1",
                        f"https://test:{port}/"], capture_output=True, text=True, timeout=20)
    assert '"X-Forwarded-For", "127.0.0.1"' in r.stdout, r.stdout + r.stderr


# ---- towards servers ----

@pytest.fixture
def nginx_behind(tmp_path):
    """An nginx that wants PROXY headers and says whom they name."""
    port = free_port()
    (tmp_path / "n.conf").write_text(("user root;\n" if os.geteuid() == 0 else "") + f"""
daemon off; pid {tmp_path}/pid; error_log {tmp_path}/err; worker_processes 1; events {{ }}
http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;
fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
server {{ listen 127.0.0.1:{port} proxy_protocol;
    return 200 "$proxy_protocol_addr $proxy_protocol_server_addr $proxy_protocol_server_port $connection"; }} }}
""")
    p = started(["nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/err", "-c", f"{tmp_path}/n.conf"], port, tmp_path)
    yield f"127.0.0.1:{port}"
    p.terminate()
    p.wait(10)


def pool(server, version, more=""):
    return (f"LoadModule route\nLoadModule balancer\nTrustedProxies 127.0.0.1\n{more}<Balancer p>\nServer {server}\n"
            f"SendProxy {version}\n</Balancer>\nProxyPass balancer://p\n")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_server_hears_who_asks(sluice, nginx_behind, version):
    s = sluice(pool(nginx_behind, version))
    c = s.client()
    said = c.request("GET", "/").body.decode().split()
    assert said[:3] == ["127.0.0.1", "127.0.0.1", str(s.port)]
    for who in ("203.0.113.9", "203.0.113.10", "2001:db8::7"):
        now = c.request("GET", "/", {"X-Forwarded-For": who}).body.decode().split()
        assert now[0] == who and now[3] != said[3], "a connection is one client's"
        said = now
    c.close()


@pytest.mark.parametrize("version, header", [("v1", b"PROXY UNKNOWN\r\n"), ("v2", V2_LOCAL)], ids=["v1", "v2"])
def test_client_without_an_address(sluice, tmp_path, version, header):
    got = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            sock, _ = listener.accept()
            with sock:
                data = sock.recv(65536)
                while b"GET " not in data:  # the header may come by itself
                    data += sock.recv(65536)
                got.append(data)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        thread = threading.Thread(target=answer)
        thread.start()
        sluice(pool("127.0.0.1:%d" % listener.getsockname()[1], version, f"Listen unix:{tmp_path}/s\n"))
        c = Client(0, socket.AF_UNIX, f"{tmp_path}/s")
        assert c.request("GET", "/").status == 200
        thread.join(10)
    assert got[0].startswith(header + b"GET / HTTP/1.1\r\n")


def test_tls_server_hears_it_before_the_handshake(sluice, tmp_path):
    ca, got = CA(tmp_path), []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert = ca.make("localhost")
    context.load_cert_chain(cert.pem, cert.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            sock, _ = listener.accept()
            got.append(sock.recv(len(V2_LOCAL) + 12))
            with context.wrap_socket(sock, server_side=True) as s:
                got.append(s.recv(65536))
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        s = sluice("LoadModule tls\n" + pool(f"https://localhost:{port}", "v2").replace(
            "SendProxy", f"ServerTLS ca={ca.pem}\nSendProxy"))
        assert s.get("/").status == 200
        thread.join(10)
    assert got[0].startswith(SIGNATURE + b"\x21\x11\0\x0c") and got[1].startswith(b"GET / ")


@pytest.mark.parametrize("line, what", [("SendProxy", "expected v1"), ("SendProxy v3", "expected v1 or v2"),
                                        ("SendProxy v1 v2", "nothing behind"),
                                        ("SendProxy v1\nSendProxy v2", "set twice")])
def test_line_refused(refused, line, what):
    assert what in refused(pool("127.0.0.1:1", "v1").replace("SendProxy v1", line))
