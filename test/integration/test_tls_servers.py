"""mod_tls towards servers."""
import os
import subprocess
import threading
import time

import pytest
from conftest import free_port
from origin import reply
from test_once import held_up
from tls_peers import pki, secure, to


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


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_server_that_has_just_left_is_asked_anew(sluice, pki, secure, says_goodbye):
    """The proxy hears at once of a POST and of the end of its kept connection, in this order."""
    o, go, gone = secure(), threading.Semaphore(0), threading.Semaphore(0)

    def script(c, r):
        c.send(reply(200, b"ok"))
        go.acquire()
        if says_goodbye:
            c.sock.settimeout(0.01)
            try:
                c.sock.unwrap()
            except OSError:  # the other side does not answer yet
                pass
        c.sock.close()
        gone.release()
        return False
    o.on("/last", script)
    s = sluice(to(o, options=f"ca={pki.ca.pem}"))
    client = s.client()
    for _ in range(3):
        assert client.request("GET", "/last").status == 200
        with held_up(s.pids()[-1]):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            go.release()
            gone.acquire()
        assert client.response().status == 200
    client.close()


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


@pytest.mark.parametrize("sni", ["", ".example.com"])
def test_no_name_stands_for_many_servers(refused, sni):
    assert f'expected sni=NAME, found "{sni}"' in refused(
        f'LoadModule route\nLoadModule tls\nProxyTLS sni="{sni}"\nProxyPass https://localhost:1\n')
