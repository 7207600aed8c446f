"""mod_tls: sessions that are resumed, and the keys of their tickets."""
import ssl
import subprocess
import time

import pytest
from conftest import free_port
from test_reload import Operator
from tls_peers import connect, context, pki, tls, tls_operator


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
    end, is_reused = time.time() + 8, True
    while is_reused and time.time() < end:
        time.sleep(0.3)
        c = connect(s, pki, ctx=ctx, session=session)
        is_reused = c.sock.session_reused
        assert c.request("GET", "/").status == 200
        c.close()
    assert not is_reused


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


def hosts(pki, **verify):
    return "".join(f"<VirtualHost {name}.test>\nTLSCertificate {getattr(pki, name)}\n" +
                   (f"TLSClientVerify {how}\nTLSClientCA {pki.ca.pem}\n" if how else "") + "Return 200 x\n</VirtualHost>\n"
                   for name, how in verify.items())


def tickets(s, pki, name):
    """How many tickets a client of TLS 1.3 gets."""
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", "-servername", name, "-tls1_3",
                        "-CAfile", pki.ca.pem, "-cert", pki.client.pem, "-key", pki.client.key, "-ign_eof"],
                       input=f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n", text=True,
                       capture_output=True, timeout=20)
    assert "HTTP/1.1 200" in r.stdout, r.stdout + r.stderr
    return r.stdout.count("Post-Handshake New Session Ticket arrived")


@pytest.mark.parametrize("a, b", [("require", None), (None, "require")])
def test_the_host_decides_on_tickets_not_the_listener(tls, pki, a, b):
    """The first host of a listener is whom every connection begins with."""
    s = tls(hosts(pki, a=a, b=b), certs=[], proxy=False)
    assert [tickets(s, pki, name) for name in ("a.test", "b.test")] == [int(not a), int(not b)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_keys_of_tickets_are_the_same_whatever_the_first_host(sluice, pki, version):
    port = free_port()
    o, ctx = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\n" +
                      hosts(pki, a="require", b=None)), context(pki, version=version)
    o.s.tls_port = port
    c = connect(o.s, pki, "b.test", ctx=ctx)
    c.request("GET", "/", host="b.test")
    session = c.sock.session
    c.close()
    o.write(o.text + "ServerHeader off\n")
    o.reload()
    c = connect(o.s, pki, "b.test", ctx=ctx, session=session)
    assert c.sock.session_reused
    c.close()
