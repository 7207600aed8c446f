"""TLSTickets FILE: keys that machines share, changed while they run."""
import os
import socket
import ssl
import statistics
import time

import pytest
from conftest import free_port
from tls_peers import connect, context, pki, tls  # noqa: F401 (fixtures)


def put(path, *keys):
    with open(f"{path}.new", "wb") as f:
        f.write(b"".join(keys))
    os.rename(f"{path}.new", path)


@pytest.fixture
def machine(sluice, pki, tmp_path):  # noqa: F811
    """machine() -> one of a fleet; all have the keys of tmp_path/keys."""
    def start(text=None):
        port = free_port()
        s = sluice(f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSCertificate {pki.a}\n"
                   f"TLSTickets {tmp_path}/keys\nLoadModule headers\nHeader set X-Resumed %{{tls_resumed}}\n"
                   "Return 200 x\n")
        s.tls_port = port
        return s
    return start


def visit(s, pki, ctx, session=None):  # noqa: F811
    """Whether the session was resumed, and the one that is good for the next visit."""
    c = connect(s, pki, ctx=ctx, session=session)
    resumed = c.request("GET", "/").get("X-Resumed") == "1"
    assert resumed == bool(c.sock.session_reused)
    session = c.sock.session
    c.close()
    return resumed, session


@pytest.mark.parametrize("version, size", [(ssl.TLSVersion.TLSv1_2, 48), (ssl.TLSVersion.TLSv1_3, 80)])
def test_machines_take_each_others_tickets(machine, pki, tmp_path, version, size):  # noqa: F811
    old, new, other = (os.urandom(size) for _ in range(3))
    put(tmp_path / "keys", old)
    a, b, ctx = machine(), machine(), context(pki, version=version)
    resumed, session = visit(a, pki, ctx)
    assert not resumed and visit(b, pki, ctx, session)[0]

    put(tmp_path / "keys", new, old)
    for s in (a, b):
        assert s.logged("TLS0066 .*are used, 2 of them")
    resumed, fresh = visit(a, pki, ctx, session)
    assert resumed  # by a key that only reads
    put(tmp_path / "keys", new)
    for s in (a, b):
        assert s.logged("(?s)TLS0066 .*are used, 2 of them.*TLS0066 .*are used, 1 of them")
    assert visit(b, pki, ctx, fresh)[0]  # it had a ticket of the new key
    assert not visit(b, pki, ctx, session)[0]

    for s in (a, b):
        s.expect("TLS0067")
    put(tmp_path / "keys", other[:-1])
    for s in (a, b):
        assert s.logged("TLS0067 TLSTickets: .*/keys changed, but holds .* bytes, not one to eight keys of 80 bytes.*before are kept")
    fresh = visit(a, pki, ctx)[1]
    assert visit(b, pki, ctx, fresh)[0]


@pytest.mark.parametrize("size, found", [(0, "found 0 bytes"), (79, "one to eight keys of 80 bytes, or one to four of 48, one behind the other, found 79 bytes"), (288, "found 288 bytes"), (641, "at most 640 bytes")])
def test_what_is_no_file_of_keys(refused, tmp_path, size, found):
    put(tmp_path / "keys", os.urandom(size))
    out = refused(f"LoadModule tls\nTLSTickets {tmp_path}/keys\n")
    assert found in out and "cure: write on, off, or the file of the keys" in out


def test_a_ticket_for_each_visit(machine, pki, tmp_path):  # noqa: F811
    """A client of TLS 1.3 uses each once (RFC 8446, C.4)."""
    put(tmp_path / "keys", os.urandom(80))
    s, ctx = machine(), context(pki, version=ssl.TLSVersion.TLSv1_3)
    session, ids = visit(s, pki, ctx)[1], set()
    for _ in range(4):
        ids.add(session.id)
        resumed, session = visit(s, pki, ctx, session)
        assert resumed
    assert len(ids) == 4


def test_nobody_waits_for_an_acknowledgement(tls, pki):  # noqa: F811
    """A request that leaves behind the end of the handshake, by a client without TCP_NODELAY."""
    s, took = tls(proxy=False, text="Return 200 x\n"), []
    for _ in range(9):
        c = connect(s, pki)
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        began = time.monotonic()
        assert c.request("GET", "/").status == 200
        took.append(time.monotonic() - began)
        c.close()
    assert statistics.median(took) < 0.03
