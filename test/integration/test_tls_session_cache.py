"""TLSSessionCache: clients of TLS 1.2 that take no tickets."""
import os
import signal
import ssl
import subprocess

import pytest
from conftest import free_port
from test_reload import Operator
from test_zones import counted, counters
from tls_peers import connect, context, pki, refusal, tls  # noqa: F401 (fixtures)

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LINES = "LoadModule headers\nHeader set X-Resumed %{tls_resumed}\nReturn 200 x\n"


def without_tickets(pki, version=V12, **k):  # noqa: F811
    ctx = context(pki, version=version, **k)
    ctx.options |= ssl.OP_NO_TICKET
    return ctx


def visit(s, pki, ctx, session=None, name="a.test"):  # noqa: F811
    """Whether the session was resumed, and the one for the next visit."""
    c = connect(s, pki, name, ctx=ctx, session=session)
    resumed = c.request("GET", "/", host=name).get("X-Resumed") == "1"
    assert resumed == bool(c.sock.session_reused)
    session = c.sock.session
    c.close()
    return resumed, session


@pytest.fixture
def cached(sluice, pki):  # noqa: F811
    """cached(lines) -> an operator of a server with a TLS port."""
    def start(text="", certs=True):
        port = free_port()
        o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\n" +
                     (f"TLSCertificate {pki.a}\nTLSCertificate {pki.b}\n" if certs else "") + text + LINES)
        o.s.tls_port = port
        return o
    return start


def numbers(o):
    return [counters(o)[f"tls_sessions_{n}"] for n in ("stored", "resumed", "missed", "evicted")]


def test_every_thread_resumes_it(cached, pki):  # noqa: F811
    o, ctx = cached(), without_tickets(pki)
    resumed, session = visit(o.s, pki, ctx)
    assert not resumed and not session.has_ticket
    for _ in range(12):
        assert visit(o.s, pki, ctx, session)[0]
    assert counted(o, "tls_sessions_resumed", 12) and numbers(o) == [1, 12, 0, 0]


def test_openssl_and_its_files(cached, tmp_path):
    o, file = cached(), str(tmp_path / "session")

    def client(*args):
        return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{o.s.tls_port}", "-tls1_2", *args],
                              input="GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", text=True,
                              capture_output=True, timeout=20).stdout
    assert "New, TLSv1.2" in client("-no_ticket", "-sess_out", file, "-ign_eof")
    assert "Reused, TLSv1.2" in client("-no_ticket", "-sess_in", file, "-ign_eof")
    assert "New, TLSv1.2" in client("-sess_out", file, "-ign_eof")  # with a ticket
    assert "Reused, TLSv1.2" in client("-sess_in", file, "-ign_eof")
    assert numbers(o)[:2] == [1, 1]


@pytest.mark.parametrize("ticket", [True, False])
@pytest.mark.parametrize("version", [V12, V13])
def test_who_takes_tickets_takes_no_room(cached, pki, version, ticket):  # noqa: F811
    o, ctx = cached(), (context if ticket else without_tickets)(pki, version=version)
    for _ in range(4):
        visit(o.s, pki, ctx, visit(o.s, pki, ctx)[1])
    assert counted(o, "requests", 8)
    assert numbers(o) == ([0, 0, 0, 0] if ticket or version == V13 else [4, 4, 0, 0])


def test_tickets_off(cached, pki):  # noqa: F811
    o = cached("TLSTickets off\n")
    ctx = context(pki, version=V12)
    assert visit(o.s, pki, ctx, visit(o.s, pki, ctx)[1])[0]
    ctx = context(pki, version=V13)
    c = connect(o.s, pki, ctx=ctx)
    c.request("GET", "/")
    assert c.sock.session is None or not c.sock.session.has_ticket
    c.close()


def test_sessions_outlive_reloads_and_crashes(cached, pki):  # noqa: F811
    o, ctx = cached(), without_tickets(pki)
    session = visit(o.s, pki, ctx)[1]
    o.write(o.text + "ServerHeader off\n")
    o.reload()
    assert visit(o.s, pki, ctx, session)[0]
    o.s.expect("SL0202")
    worker = o.serving()
    os.kill(worker, signal.SIGKILL)
    assert visit(o.s, pki, ctx, session)[0] and o.serving() != worker


def test_another_size_begins_afresh(cached, pki):  # noqa: F811
    o, ctx = cached("TLSSessionCache 128k\n"), without_tickets(pki)
    session = visit(o.s, pki, ctx)[1]
    o.write(o.text.replace("128k", "256k"))
    o.reload()
    assert o.s.logged("SL0320 zone tls.sessions: ")
    assert not visit(o.s, pki, ctx, session)[0]
    assert counted(o, "tls_sessions_missed", 1)
    o.write(o.text.replace("128k", "off"))
    o.reload()
    assert o.settled()
    session = visit(o.s, pki, ctx)[1]
    assert not visit(o.s, pki, ctx, session)[0]
    assert "tls.sessions" not in o.say("ctl", "zones").stdout


@pytest.mark.parametrize("size", ["63k", "2g", "0", "unlimited"])
def test_sizes(refused, size):
    assert "expected off or a size from 64k to 1g" in refused(f"LoadModule tls\nTLSSessionCache {size}\n")


def test_older_ones_make_place(cached, pki):  # noqa: F811
    """64 KiB have room for 192."""
    o, ctx = cached("TLSSessionCache 64k\n"), without_tickets(pki)
    sessions = [visit(o.s, pki, ctx)[1] for _ in range(401)]
    assert counted(o, "tls_sessions_stored", 401)
    stored, _, _, evicted = numbers(o)
    assert 401 - 192 <= evicted < stored
    assert sum(visit(o.s, pki, ctx, s)[0] for s in sessions[:20]) < 10
    assert visit(o.s, pki, ctx, sessions[-1])[0]


def test_clients_with_certificates_are_verified_each_time(cached, pki):  # noqa: F811
    """Neither is their session kept, nor does one of another host let anybody in."""
    o = cached("".join(f"<VirtualHost {name}.test>\nTLSCertificate {cert}\n{verify}</VirtualHost>\n" for name, cert, verify in (
        ("a", pki.a, ""), ("b", pki.b, f"TLSClientVerify require\nTLSClientCA {pki.ca.pem}\n"))), certs=False)
    ctx = without_tickets(pki, cert=pki.client)
    resumed, session = visit(o.s, pki, ctx, name="b.test")
    assert not visit(o.s, pki, ctx, session, name="b.test")[0]
    assert counters(o)["tls_sessions_stored"] == 0
    ctx = without_tickets(pki)
    session = visit(o.s, pki, ctx)[1]
    assert refusal(o.s, pki, "b.test", ctx=ctx, session=session)
    assert visit(o.s, pki, ctx, session)[0]


def test_the_rules_of_the_first_host_are_its_own(cached, pki):  # noqa: F811
    """The other way around: every connection begins with a host that verifies clients."""
    o = cached("".join(f"<VirtualHost {name}.test>\nTLSCertificate {cert}\n{verify}</VirtualHost>\n" for name, cert, verify in (
        ("a", pki.a, f"TLSClientVerify optional\nTLSClientCA {pki.ca.pem}\n"), ("b", pki.b, ""))), certs=False)
    ctx = without_tickets(pki)
    session = visit(o.s, pki, ctx, name="b.test")[1]
    assert visit(o.s, pki, ctx, session, name="b.test")[0]
    assert not visit(o.s, pki, ctx, session, name="a.test")[0]


def test_a_broken_connection_has_no_session(cached, pki):  # noqa: F811
    """RFC 5246, 7.2.2; but who just ends, as many clients do, may come back."""
    o, ctx = cached(), without_tickets(pki)
    session = visit(o.s, pki, ctx)[1]
    c = connect(o.s, pki, ctx=ctx, session=session)
    os.close(c.sock.detach())
    assert visit(o.s, pki, ctx, session)[0]
    c = connect(o.s, pki, ctx=ctx, session=session)
    assert c.request("GET", "/").status == 200
    os.write(c.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        c.sock.recv(1)
    c.close()
    assert not visit(o.s, pki, ctx, session)[0]


def test_with_signatures_on_other_threads(sluice, pki):  # noqa: F811
    """Who comes back needs no signature."""
    port = free_port()
    o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSOffload 1\n"
                         f"TLSCertificate {pki.a_rsa}\n" + LINES)
    o.s.tls_port = port
    ctx = without_tickets(pki)
    session = visit(o.s, pki, ctx)[1]
    for _ in range(4):
        assert visit(o.s, pki, ctx, session)[0]
    assert counted(o, "tls_sessions_resumed", 4) and numbers(o) == [1, 4, 0, 0]
