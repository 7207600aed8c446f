"""mod_tls: clients that show certificates."""
import itertools
import os
import shutil
import ssl
import time

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
    assert refusal(s, pki, version=version, cert=pki.stranger, source="127.0.0.2")
    assert s.logged("TLS0010 client 127.0.0.1 .*peer did not return a certificate")
    assert s.logged("TLS0010 client 127.0.0.2 .*certificate verify failed: ")


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


class Revoking(CA):
    """A CA that keeps a list of what it has revoked."""

    def __init__(self, folder, name="ca"):
        super().__init__(folder, name)
        for file, text in (("index.txt", ""), ("crlnumber", "01\n")):
            with open(f"{folder}/{file}", "w") as f:
                f.write(text)
        with open(f"{folder}/ca.cnf", "w") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\ncrlnumber={folder}/crlnumber\n"
                    "default_md=sha256\ndefault_days=9\npolicy=p\n[p]\n")
        self.crl = f"{folder}/{name}.crl"
        self.run = ["ca", "-config", f"{folder}/ca.cnf", "-cert", self.pem, "-keyfile", self.key]

    def publish(self, *revoked, lasts=("-crldays", "9")):
        for c in revoked:
            openssl(*self.run, "-revoke", c.pem)
        openssl(*self.run, "-gencrl", *lasts, "-out", self.crl + ".new")
        os.rename(self.crl + ".new", self.crl)


def test_revoked_clients(tls, pki, tmp_path):
    """A list that changes is used without a reload, and so is another CA with its own."""
    ca = Revoking(tmp_path)
    good, bad = ca.make("good", usage="clientAuth"), ca.make("bad", usage="clientAuth")
    ca.publish(bad)
    s = tls(f"TLSClientVerify require\nTLSClientCA {ca.pem}\nTLSClientCRL {ca.crl}\nLogLevel info\n")
    s.expect("TLS0061", "TLS0062")
    hosts = itertools.count(2)  # each fails for the first time

    def passes(cert):
        try:
            c = connect(s, pki, cert=cert, source=f"127.0.0.{next(hosts)}")
            status = c.request("GET", "/").status
            c.close()
            return status == 200
        except OSError:
            return False
    assert passes(good) and not passes(bad) and s.logged("certificate revoked")
    ca.publish(good)
    assert s.logged(f"TLS0060 {ca.crl}: read again") and not passes(good)
    with open(ca.crl, "w") as f:
        f.write("-----BEGIN X509 CRL-----\n")
    assert s.logged(f"TLS0061 {ca.crl} holds no list of revoked certificates") and not passes(good)
    shutil.copy(pki.ca.pem, ca.pem)  # one half of a change
    assert s.logged("TLS0061 .*; clients are verified as before")
    os.mkdir(tmp_path / "fresh")
    other = Revoking(tmp_path / "fresh", "fresh")
    other.publish(lasts=("-crlsec", "3"))
    shutil.copy(other.pem, ca.pem)
    shutil.copy(other.crl, ca.crl)
    fresh = other.make("fresh", usage="clientAuth")
    assert s.logged(f"(?s)(TLS0060 {tmp_path}/ca.(pem|crl): .*){{2}}") and passes(fresh)
    end = time.time() + 6
    while passes(fresh) and time.time() < end:
        time.sleep(0.2)
    assert s.logged("CRL has expired", 1)


def test_a_list_that_has_ended_is_told(tls, pki, tmp_path):
    ca = Revoking(tmp_path)
    ca.publish(lasts=("-crlsec", "1"))
    time.sleep(1.2)
    s = tls(f"TLSClientVerify require\nTLSClientCA {ca.pem}\nTLSClientCRL {ca.crl}\n").expect("TLS0062")
    assert s.logged(f"TLS0062 TLSClientCRL {ca.crl}: a list in it has ended; clients of its CA are refused")
    assert refusal(s, pki, cert=ca.make("alice", usage="clientAuth"))


def test_files_are_counted_from_the_configuration(refused, pki):
    """In an error as well, which names the line and the cure."""
    text = f"LoadModule tls\nLoadModule route\nListen 443 tls\nTLSCertificate {pki.a}\nTLSClientVerify require\n"
    out = refused(text + f"<VirtualHost a>\nTLSClientCA sub/ca.pem\n</VirtualHost>\nTLSClientCA {pki.ca.pem}\n")
    assert "test.conf:7: TLSClientCA: expected a file that can be read, found sub/ca.pem: No such file" in out
    assert "cure: name the file with the certificates of those who sign clients' ones" in out
    out = refused(text + f"TLSClientCA {pki.a.key}\n")
    assert f"test.conf:6: TLSClientCA: {pki.a.key} holds no certificate in PEM form" in out
    out = refused(text + f"TLSClientCA {pki.ca.pem}\nTLSClientCRL {pki.ca.pem}\n")
    assert f"test.conf:7: TLSClientCRL: {pki.ca.pem} holds no list of revoked certificates" in out


def test_lists_of_other_cas_are_refused(refused, pki, tmp_path):
    ca = Revoking(tmp_path)
    ca.publish()
    out = refused(f"LoadModule tls\nListen 443 tls\nTLSCertificate {pki.a}\nTLSClientVerify require\n"
                  f"TLSClientCA {pki.other.pem}\nTLSClientCRL {ca.crl}\n")
    assert f"test.conf:6: TLSClientCRL: {ca.crl} holds a list that none of TLSClientCA's has signed" in out


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
