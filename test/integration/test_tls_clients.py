"""mod_tls: clients that show certificates."""
import ssl

import pytest
from certs import CA, openssl
from conftest import Client
from tls_peers import connect, context, pki, refusal, tls


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
