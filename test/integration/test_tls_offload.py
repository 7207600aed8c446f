"""TLSOffload: signatures by RSA keys on threads of their own."""
import os
import socket
import ssl
import statistics
import threading
import time

import pytest
from conftest import Client, free_port
from tls_peers import connect, context, pki  # noqa: F401 (a fixture)


@pytest.fixture
def rsa(sluice, pki):  # noqa: F811
    """rsa(lines) -> a server whose certificate is by RSA, with TLSOffload."""
    def start(text="", certs=None, n=2):
        port = free_port()
        certs = certs or [pki.a_rsa]
        s = sluice(f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSOffload {n}\n" +
                   "".join(f"TLSCertificate {c}\n" for c in certs) +
                   "LoadModule headers\nHeader set X-Resumed %{tls_resumed}\nReturn 200 x\n" + text)
        s.tls_port = port
        return s
    return start


def offloaded(s):
    """How many threads there are beside the core's, which begin when there is something to do."""
    return len(os.listdir(f"/proc/{s.pids()[1]}/task"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_handshakes_and_sessions(rsa, pki, version):  # noqa: F811
    s = rsa()
    before = offloaded(s)
    ctx = context(pki, version=version, alpn=["nonesuch", "http/1.1"])
    c = connect(s, pki, ctx=ctx)
    assert c.sock.selected_alpn_protocol() == "http/1.1" and c.request("GET", "/").get("X-Resumed") == "0"
    session = c.sock.session
    c.close()
    assert offloaded(s) > before
    c = connect(s, pki, ctx=ctx, session=session)
    assert c.request("GET", "/").get("X-Resumed") == "1"
    c.close()


def test_who_has_another_key_stays(rsa, pki):  # noqa: F811
    s = rsa(certs=[pki.a_rsa, pki.a])
    before = offloaded(s)
    c = connect(s, pki, ctx=context(pki, version=ssl.TLSVersion.TLSv1_2))
    assert c.request("GET", "/").status == 200
    c.close()
    assert offloaded(s) == before


@pytest.mark.parametrize("how, alert, cause", [
    (dict(alpn=["nonesuch"]), "NO_APPLICATION_PROTOCOL", "no application protocol"),
    (dict(version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"), "HANDSHAKE_FAILURE",
     "no shared cipher"),
], ids=["alpn", "cipher"])
def test_failures_are_told(rsa, pki, how, alert, cause):  # noqa: F811
    """An alert that the other thread wrote, and the cause it had."""
    s = rsa("LogLevel info\n")
    with pytest.raises(ssl.SSLError) as e:
        connect(s, pki, ctx=context(pki, **how))
    assert alert in str(e.value).upper().replace(" ", "_")
    assert s.logged(f"TLS0010 client 127.0.0.1 for a.test: the handshake failed: {cause}")


def hello(pki):  # noqa: F811
    out = ssl.MemoryBIO()
    o = context(pki).wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.test")
    with pytest.raises(ssl.SSLWantReadError):
        o.do_handshake()
    return out.read()


def test_a_storm_with_many_who_leave(rsa, pki):  # noqa: F811
    """Clients that go away while their signature is made, at the beginning and at the end of the queue,
    and the process's end while some are away."""
    s = rsa("Timeout header=2s\nLogLevel info\n", n=1)
    first, left, stay = hello(pki), [], []
    for i in range(300):
        c = socket.create_connection(("127.0.0.1", s.tls_port))
        c.sendall(first)
        (stay if i % 3 == 0 else left).append(c)
        if i % 3 == 1:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            c.close()
    good = connect(s, pki)
    assert good.request("GET", "/").status == 200
    for c in stay:
        c.settimeout(10)
        assert c.recv(5)[:1] == b"\x16"
        c.close()
    good.close()
    for _ in range(60):
        c = socket.create_connection(("127.0.0.1", s.tls_port))
        c.sendall(first)
        left.append(c)


@pytest.fixture(scope="module")
def big(pki):  # noqa: F811
    return pki.ca.make("a.test", kind="rsa:4096")


def test_others_do_not_wait_for_it(rsa, pki, big):  # noqa: F811
    """Answers on a kept connection come at once while large signatures are made one after the other."""
    s = rsa(certs=[big], n=1)
    first, over, flights, answers = hello(pki), threading.Event(), [], []

    def storm():
        while not over.is_set():
            with socket.create_connection(("127.0.0.1", s.tls_port)) as c:
                began = time.perf_counter()
                c.sendall(first)
                c.recv(1)
                flights.append(time.perf_counter() - began)
    threads = [threading.Thread(target=storm) for _ in range(8)]
    c = Client(s.port)
    for t in threads:
        t.start()
    try:
        for _ in range(100):
            began = time.perf_counter()
            assert c.request("GET", "/").status == 200
            answers.append(time.perf_counter() - began)
            time.sleep(0.002)
    finally:
        over.set()
        for t in threads:
            t.join()
    c.close()
    assert statistics.median(answers) < statistics.median(flights) / 4


@pytest.mark.parametrize("n", ["0", "65", "many"])
def test_what_is_refused(refused, n):
    assert "expected" in refused(f"LoadModule tls\nTLSOffload {n}\n")
