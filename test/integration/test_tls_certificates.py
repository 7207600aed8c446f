"""mod_tls: which certificate is shown, and what becomes of those that are not good."""
import datetime
import json
import os
import re
import shutil
import socket
import ssl
import time

import pytest
from certs import CA, openssl
from conftest import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from test_reload import Operator
from tls_peers import connect, names_of, pki, refusal, tls


@pytest.mark.parametrize("name, first", [
    ("a.test", "a.test"), ("WWW.A.test", "a.test"), ("b.test", "b.test"), ("x.w.test", "b.test"),
    ("x.y.w.test", "a.test"), ("w.test", "a.test"), ("unknown.test", "a.test"), (None, "a.test"),
])
def test_certificates_by_name(tls, pki, name, first):
    c = connect(tls(), pki, name, check=False)
    assert names_of(c)[0] == first
    c.close()


def test_hosts_have_certificates_of_their_own(tls, pki, sluice):
    s = tls(f"<VirtualHost b.test>\nTLSCertificate -\nTLSCertificate {pki.b}\nTLSProfile modern\n"
            "Return 200 b\n</VirtualHost>\n<VirtualHost a.test other.test>\nReturn 200 a\n</VirtualHost>\n",
            certs=[pki.a], proxy=False).expect("TLS0010")
    for name, first, says in (("b.test", "b.test", b"b"), ("a.test", "a.test", b"a"),
                              ("other.test", "a.test", b"a"), (None, "b.test", b"b")):
        c = connect(s, pki, name, check=False)
        assert names_of(c)[0] == first and c.request("GET", "/", host=name or "b.test").body == says
        c.close()
    connect(s, pki, "a.test", version=ssl.TLSVersion.TLSv1_2).close()
    assert "protocol" in refusal(s, pki, "b.test", version=ssl.TLSVersion.TLSv1_2)


def test_rsa_and_ecdsa_side_by_side(tls, pki):
    s = tls(certs=[pki.a_rsa, pki.a])
    for ciphers in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        c = connect(s, pki, version=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)
        assert c.sock.cipher()[0] == ciphers and c.request("GET", "/").status == 200
        c.close()


def test_strict_sni(tls, pki):
    s = tls("TLSStrictSNI on\nLogLevel info\n")
    connect(s, pki, "b.test").close()
    assert "unrecognized" in refusal(s, pki, "unknown.test", check=False).lower().replace(" ", "_")
    refusal(s, pki, None, check=False, source="127.0.0.2")
    assert s.logged("TLS0015 client 127.0.0.1: refused, no certificate has the name it asks for: unknown.test")
    assert s.logged("TLS0015 client 127.0.0.2: refused, no certificate has the name it asks for: none")


@pytest.mark.parametrize("lines, wanted", [
    ("TLSCertificate /nowhere.pem", ["test.conf:3: TLSCertificate: /nowhere.pem: No such file", "cure: name the file"]),
    ("TLSCertificate {a.pem} /nowhere.key", ["test.conf:3: TLSCertificate: /nowhere.key: No such file"]),
    ("TLSCertificate {a.pem} {b.key}", ["test.conf:3: TLSCertificate: {b.key} is not the key of this certificate",
                                        "cure: expected the private key that belongs"]),
    ("TLSCertificate {a.key} {a.key}", ["{a.key} holds no certificate in PEM form"]),
    ("TLSCertificate {a.pem}", ["{a.pem} holds no private key in PEM form"]),
    ("", ["test.conf:2: Listen 443 tls: its default host has no certificate", "cure: write \"TLSCertificate CHAIN KEY\""]),
    ("TLSCertificate {a}\nTLSCiphers nonesuch", ["test.conf:4: TLSCiphers: expected names of ciphers"]),
    ("TLSCertificate {a}\nTLSProtocols TLSv1.1", ['expected TLSv1.2 or TLSv1.3, found "TLSv1.1"']),
    ("TLSCertificate {a}\nTLSProfile old", ['expected one of modern, intermediate, found "old"']),
    ("TLSCertificate {a}\nTLSClientVerify require", ["TLSClientVerify: there is no TLSClientCA"]),
    ("TLSCertificate {a}\nTLSClientVerify require\nTLSClientCA /nowhere", ["test.conf:5: TLSClientCA: expected a file that can be read, found /nowhere: No such"]),
    ("TLSCertificate {a}\nTLSTickets maybe", ["found maybe: No such file", "cure: write on, off, or the file of the keys"]),
    ("TLSCertificate {a}\nHSTS never", ['expected on, off or a time such as 365d, found "never"']),
    ("TLSCertificate {a}\nHTTPSRedirect on port=0", ["expected port= between"]),
    ("TLSCertificate {a}\nProxyTLS ca=/nowhere", ["test.conf:4: ProxyTLS: ca: /nowhere: "]),
    ("TLSCertificate {a}\nLoadModule route\nProxyTLS http://x verify=off", ["not spoken to by TLS", "https://"]),
    ("TLSCertificate {a}\nLoadModule route\nProxyTLS https://x verify=off\nProxyTLS https://x:443 verify=on",
     ["already given for these servers at test.conf:5"]),
    ("TLSCertificate {a}\nLoadModule route\nProxyPass https://x\nProxyTLS https://x key=/k", ["expected cert= with key="]),
])
def test_what_is_refused(refused, pki, lines, wanted):
    def fill(text):
        for n in ("a", "b"):
            c = getattr(pki, n)
            text = text.replace("{%s.pem}" % n, c.pem).replace("{%s.key}" % n, c.key).replace("{%s}" % n, str(c))
        return text
    out = refused("LoadModule tls\nListen 443 tls\n" + fill(lines) + "\n")
    for w in wanted:
        assert fill(w) in out, out


def test_a_key_with_a_password_and_a_weak_one(refused, pki, tmp_path):
    openssl("ec", "-in", pki.a.key, "-aes128", "-passout", "pass:x", "-out", f"{tmp_path}/locked.key")
    out = refused(f"LoadModule tls\nListen 443 tls\nTLSCertificate {pki.a.pem} {tmp_path}/locked.key\n")
    assert "needs a password" in out
    weak = pki.ca.make("weak.test", kind="rsa:1024")
    assert "too small" in refused(f"LoadModule tls\nListen 443 tls\nTLSCertificate {weak}\n")


def test_a_reload_with_an_unreadable_key_changes_nothing(sluice, pki, tmp_path):
    cert = CA(tmp_path).make("a.test")
    text = f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{{}} tls\nTLSCertificate {cert}\nReturn 200 x\n"
    o = Operator(sluice, text.format(free_port()))
    o.s.expect("SL0208", "SL0250")  # who watches may see it away
    worker = o.serving()
    os.rename(cert.key, cert.key + ".away")
    o.write(o.text)
    assert f"TLSCertificate: {cert.key}: No such file" in o.refused()
    o.write(text.format(free_port()).replace(str(cert), f"{cert.pem} {pki.b.key}"))
    assert "is not the key of this certificate" in o.refused()
    assert o.serving() == worker
    os.rename(cert.key + ".away", cert.key)
    o.write(o.text + "ServerHeader off\n")
    o.reload()


def test_a_placeholder(tls, pki, tmp_path):
    s = tls("TLSPlaceholder on\n", certs=[f"{tmp_path}/none.pem {tmp_path}/none.key"]).expect("TLS0023")
    assert s.logged("TLS0023 .*none.pem: No such file or directory; a self-signed placeholder is used")
    c = connect(s, pki, verify=False)
    assert c.request("GET", "/").status == 200
    c.close()
    assert "verify failed" in refusal(s, pki)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_keys_only_root_can_read(sluice, pki, tmp_path):
    cert = CA(tmp_path).make("a.test")
    os.chmod(cert.key, 0o600)
    os.chown(cert.key, 0, 0)
    port = free_port()
    s = sluice(f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSCertificate {cert}\n"
               "Return 200 x\n", user="nobody")
    s.tls_port = port
    with open(f"/proc/{s.pids()[1]}/status") as f:
        assert not re.search(r"^Uid:\t0", f.read(), re.M)
    c = connect(s, pki, verify=False)
    assert c.request("GET", "/").body == b"x"
    c.close()


def test_a_certificate_changes_without_a_reload(tls, pki, tmp_path):
    ca = CA(tmp_path)
    cert, fresh, other = ca.make("a.test"), pki.ca.make("a.test", "new.test"), pki.ca.make("b.test")
    s = tls(certs=[cert]).expect("TLS0021")
    old = connect(s, pki, verify=False)
    assert old.request("GET", "/").status == 200
    with open(cert.key, "w") as f:  # half of a pair is not taken
        f.write(other.read()[1])
    assert s.logged("TLS0021 ", 3)
    connect(s, pki, verify=False).close()
    cert.write(fresh)
    assert s.logged("TLS0020 .*the new certificate is used", 3)
    c = connect(s, pki, "new.test")
    assert names_of(c) == ["a.test", "new.test"]
    assert old.request("GET", "/").status == 200
    c.close()
    old.close()


def test_names_of_files_are_counted_from_the_configuration(tls, pki, tmp_path):
    for c, name in ((pki.a.pem, "a.pem"), (pki.a.key, "a.key"), (pki.ca.pem, "ca.pem")):
        shutil.copy(c, tmp_path / name)
    (tmp_path / "tls.conf").write_text("TLSCertificate a.pem a.key\nTLSClientVerify require\nTLSClientCA ca.pem\n")
    s = tls(f"Include {tmp_path}/tls.conf\n", certs=[])
    c = connect(s, pki, cert=pki.client)
    assert c.request("GET", "/").status == 200
    c.close()


def test_days_that_are_left(sluice, pki, tmp_path):
    """In the log when they are few, and by sluice ctl cert."""
    soon, late = pki.ca.make("soon.test", days=6), pki.ca.make("a.test", "b.test", "c.test", "d.test")
    o = Operator(sluice, f"LoadModule tls\nListen 127.0.0.1:{free_port()} tls\nTLSPlaceholder on\n"
                         f"TLSCertificate {late}\nTLSCertificate {soon}\nTLSCertificate {tmp_path}/none\n")
    o.s.expect("TLS0023", "TLS0025")
    assert o.s.logged(f"TLS0025 .*test.conf:9: {soon.pem} expires in [56] days")
    assert o.s.log().count("TLS0025") == 1
    out = o.say("ctl", "cert").stdout
    assert re.search(rf"^{late.pem}: (89|90) days, until 20[0-9T:-]+Z; a.test b.test c.test and 1 more$", out, re.M)
    got = json.loads(o.say("ctl", "cert", "--json").stdout)["certificates"]
    assert [(c["file"], c["names"], c["placeholder"], c["stapling"]) for c in got] == [
        (late.pem, ["a.test", "b.test", "c.test", "d.test"], False, None), (soon.pem, ["soon.test"], False, None),
        (f"{tmp_path}/none", [], True, None)]
    assert got[1]["days"] in (5, 6) and got[0]["place"].endswith("test.conf:8")
    assert o.say("ctl", "cert", "x").returncode == 2


def test_many_that_are_renewed_at_once(sluice, tmp_path):
    """They are taken together: neither clients nor the server's end wait for one after the other."""
    key, port, n = ec.generate_private_key(ec.SECP256R1()), free_port(), 60
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def renew(i, serial):
        now, name = datetime.datetime.utcnow(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"n{i}")])
        cert = x509.CertificateBuilder(name, name, key.public_key(), serial, now, now + datetime.timedelta(90))
        names = x509.SubjectAlternativeName([x509.DNSName(f"{p}.n{i}.test") for p in ("www", "api", "img")])
        cert = cert.add_extension(names, False).sign(key, hashes.SHA256())
        (tmp_path / "fresh").write_bytes(cert.public_bytes(Encoding.PEM) + text)
        os.rename(tmp_path / "fresh", tmp_path / f"{i}.pem")

    def serial_of(i):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            c = ssl._create_unverified_context().wrap_socket(raw, server_hostname=f"api.n{i}.test")
            return x509.load_der_x509_certificate(c.getpeercert(True)).serial_number
    for i in range(n):
        renew(i, i + 1)
    s = sluice(f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nReturn 200 x\n" +
               "".join(f"TLSCertificate {tmp_path}/{i}.pem\n" for i in range(n)))
    assert serial_of(n - 1) == n
    for i in range(n):
        renew(i, i + 1001)
    end = time.time() + 15
    while s.log().count("TLS0020") < n and time.time() < end:
        assert s.get("/").status == 200
        time.sleep(0.05)
    moments = [l[:21] for l in s.log().split("\n") if "TLS0020" in l]  # to a tenth of a second
    assert len(moments) == n and len(set(moments)) <= 10
    assert [serial_of(i) for i in (0, n - 1)] == [1001, 1000 + n]
