"""mod_tls: sessions that are resumed, and the keys of their tickets."""
import ssl
import time

import pytest
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
