"""mod_tls towards clients: protocols, ciphers, redirects, reloads."""
import os
import ssl
import subprocess
import time

import pytest
from conftest import Client
from tls_peers import connect, pki, refusal, tls, tls_operator


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


def test_alpn(tls, pki):
    s = tls("LogLevel info\n")
    c = connect(s, pki, alpn=["h2", "http/1.1"])
    assert c.sock.selected_alpn_protocol() == "http/1.1" and c.request("GET", "/").status == 200
    c.close()
    refusal(s, pki, alpn=["nonesuch"])
    assert s.logged("no application protocol")


def test_alpn_chooses_among_protocols(tls, pki):
    from test_modules import answer
    s = tls("LoadModule lines\n" "Protocols lines http/1.1\n")
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
