"""mod_tls: OCSP responses beside certificates, against openssl's responder and a scripted one."""
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from certs import CA, openssl
from conftest import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from test_reload import Operator
from tls_peers import connect, pki, tls

MUST = "tlsfeature=status_request"


def loaded(pem, key):
    with open(pem, "rb") as f, open(key, "rb") as g:
        return x509.load_pem_x509_certificate(f.read()), serialization.load_pem_private_key(g.read(), None)


class Responder:
    """Answers each question about a certificate as it is told to."""

    def __init__(self, ca):
        self.ca, self.certs, self.n_asked, self.answer = ca, [], 0, self.good
        self.port = free_port()
        self.listen()

    def listen(self):
        responder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                responder.n_asked += 1
                try:
                    answer = responder.answer(ocsp.load_der_ocsp_request(body))
                    self.send_response(200)
                    self.send_header("Content-Type", "application/ocsp-response")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass

            def log_message(self, *a):
                pass
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def make(self, *names, more=(), **k):
        """A certificate that names this responder, with its issuer behind it."""
        c = self.ca.make(*names, more=(f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{self.port}/ocsp", *more), **k)
        with open(c.pem, "a") as f, open(self.ca.pem) as g:
            f.write(g.read())
        self.certs.append(loaded(c.pem, c.key)[0])
        return c

    def good(self, question, status=ocsp.OCSPCertStatus.GOOD, signer=None, lasts=3600, age=10, about=None):
        issuer, key = loaded(self.ca.pem, self.ca.key)
        by, key = loaded(signer.pem, signer.key) if signer else (issuer, key)
        cert = about or next(c for c in self.certs if c.serial_number == question.serial_number)
        now = datetime.datetime.utcnow()
        is_revoked = status == ocsp.OCSPCertStatus.REVOKED
        made = ocsp.OCSPResponseBuilder().add_response(
            cert, issuer, hashes.SHA1(), status, now - datetime.timedelta(seconds=age),
            now + datetime.timedelta(seconds=lasts) if lasts is not None else None,
            now - datetime.timedelta(seconds=age) if is_revoked else None,
            None).responder_id(ocsp.OCSPResponderEncoding.NAME, by).certificates([by])
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def responder(tmp_path):
    r = Responder(CA(tmp_path))
    yield r
    r.close()


def stapled(port, name="a.test"):
    """What a client that asks is told: good, revoked, or None."""
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-status"],
                       input="", capture_output=True, text=True, timeout=20)
    assert "BEGIN CERTIFICATE" in r.stdout, r.stderr
    status = re.search(r"Cert Status: (\w+)", r.stdout)
    assert (status is None) == ("no response sent" in r.stdout)
    return status and status.group(1)


def until(what, seconds=12):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_responses_are_fetched_and_kept(sluice, responder):
    """Before clients come; renewed while the last one is good; over a reload and a crash."""
    responder.answer = lambda q: responder.good(q, lasts=9)
    cert, port = responder.make("a.test"), free_port()
    o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nTLSStapling on\n"
                         f"TLSCertificate {cert}\nReturn 200 x\nLogLevel info\n")
    o.s.expect("SL0202")
    assert o.s.logged(f"TLS0050 {cert.pem}: its OCSP response is good until 2")
    assert stapled(port) == "good"
    responder.answer = responder.good
    assert until(lambda: o.s.log().count("TLS0050") == 2) and stapled(port) == "good"
    o.write(o.text + "ServerHeader off\n")
    o.reload()
    assert stapled(port) == "good"
    os.kill(o.serving(), signal.SIGKILL)
    assert until(lambda: o.serving() is not None) and stapled(port) == "good"
    assert responder.n_asked == 2


DATE = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def test_ctl_cert_tells_of_responses(sluice, responder, tmp_path):
    """Of what is stapled, whence and until when; of the last failure beside it; of what is none."""
    a, b, c, d = (responder.make(f"{n}.test") for n in "abcd")
    mute, file, port = responder.ca.make("mute.test"), tmp_path / "b.ocsp", free_port()
    responder.answer = lambda q: responder.good(q, lasts=8 if q.serial_number == responder.certs[0].serial_number else 99,
                                                status=ocsp.OCSPCertStatus.REVOKED if q.serial_number ==
                                                responder.certs[2].serial_number else ocsp.OCSPCertStatus.GOOD)
    file.write_bytes(responder.good(None, about=responder.certs[1]))
    text = f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\nReturn 200 x\n"
    for n, cert, on in (("a", a, "on"), ("b", b, file), ("c", c, "on"), ("d", d, "off"), ("mute", mute, "on")):
        text += f"<VirtualHost {n}.test>\nTLSCertificate {cert}\nTLSStapling {on}\n</VirtualHost>\n"
    o = Operator(sluice, text)
    o.s.expect("TLS0051", "TLS0052", "TLS0054")
    assert o.s.logged("TLS0052") and o.s.logged("TLS0050")
    responder.answer = lambda q: b"no"
    assert o.s.logged("TLS0051", 12)

    def told():
        return {c["names"][0][0]: c["stapling"] for c in json.loads(o.say("ctl", "cert", "--json").stdout)["certificates"]}
    t = told()
    assert t["d"] is None and {t[n]["source"] for n in "acm"} == {"responder"} and t["b"]["source"] == "file"
    for n in "ab":
        assert re.fullmatch(DATE, t[n]["fetched"]) and t[n]["fetched"] < t[n]["until"]
    assert t["a"]["failures"] >= 1 and t["a"]["failure"].startswith(f"http://127.0.0.1:{responder.port}/ocsp: ")
    assert re.fullmatch(DATE, t["a"]["failed"]) and t["a"]["failed"] >= t["a"]["fetched"]
    assert re.fullmatch(DATE, t["a"]["next"]) and t["b"]["next"] is None
    assert [t[n]["revoked"] for n in "abcm"] == [False, False, True, False]
    assert t["b"]["failure"] is t["c"]["failure"] is t["c"]["until"] is t["m"]["until"] is None
    assert t["m"]["failure"] == "it names no OCSP responder (http://)"
    out = o.say("ctl", "cert").stdout
    assert re.search(f"; a.test\n    OCSP response: fetched {DATE}, (good until|over since) {DATE}; next asked for {DATE}; "
                     f"last failure {DATE}: http://127.0.0.1:{responder.port}/ocsp: ", out), out
    assert re.search(f"; b.test\n    OCSP response: read {DATE}, good until {DATE}\n", out), out
    assert re.search(f"; c.test\n    OCSP response: none, the certificate is revoked; next asked for {DATE}\n", out), out
    assert re.search("; d.test\n[^ ]", out), out
    assert re.search(f"; mute.test\n    OCSP response: none; last failure {DATE}: it names no OCSP responder", out), out
    o.reload()
    assert told()["b"]["source"] == "file" and told()["c"]["revoked"]


@pytest.mark.parametrize("what, says", [
    ("garbage", "TLS0051 .*: http://127.0.0.1:.*/ocsp: "),
    ("endless", "TLS0051 .*: http://127.0.0.1:.*/ocsp: "),
    ("wrong signer", "not signed by the certificate's issuer"),
    ("signer without the right", "not signed by the certificate's issuer"),
    ("expired", "it has expired"),
    ("not yet", "it begins in the future"),
    ("without end", "does not say how long it holds"),
    ("unknown", "the responder does not know the certificate"),
    ("another", "it is about another certificate"),
    ("try later", "trylater"),
    ("revoked", "TLS0052 .*its CA has revoked this certificate; nothing is stapled"),
])
def test_bad_responses_are_not_stapled(tls, responder, what, says):
    answer = {
        "garbage": lambda q: b"<html>" + os.urandom(500),
        "endless": lambda q: b"\x30\x84\x7f\xff\xff\xff" + b"0" * 100000,
        "wrong signer": lambda q: responder.good(q, signer=CA(responder.ca.dir, "other")),
        "signer without the right": lambda q: responder.good(q, signer=responder.ca.make("signer")),
        "expired": lambda q: responder.good(q, age=100, lasts=-10),
        "not yet": lambda q: responder.good(q, age=-1000),
        "without end": lambda q: responder.good(q, lasts=None),
        "unknown": lambda q: responder.good(q, ocsp.OCSPCertStatus.UNKNOWN),
        "another": lambda q: responder.good(q, about=loaded(*str(responder.make("b.test")).split())[0]),
        "try later": lambda q: ocsp.OCSPResponseBuilder.build_unsuccessful(
            ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(serialization.Encoding.DER),
        "revoked": lambda q: responder.good(q, ocsp.OCSPCertStatus.REVOKED),
    }[what]
    cert, responder.answer = responder.make("a.test"), answer
    s = tls("TLSStapling on\n", certs=[cert]).expect("TLS0051", "TLS0052")
    assert s.logged(says) and stapled(s.tls_port) is None
    assert responder.n_asked == 1


WITHOUT_END = {
    "a redirect": [b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:%d/elsewhere\r\n\r\n"],
    "a head without end": [b"HTTP/1.0 200 OK\r\n"] + [b"X-More: " + b"y" * 1000 + b"\r\n"] * 60 * 16,
    "a head that comes fast": [b"HTTP/1.0 200 OK\r\n"] + [b"X: y\r\n" * 20000] * 2000,
    "a line without end": [b"HTTP/1.0 200 " + b"y" * 100000] * 100,
    "a body in drops": [b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\n\x30\x82\x06\x00"] + [b"0"] * 200,
    "too much of a body": [b"HTTP/1.0 200 OK\r\nContent-Length: 2000000000\r\n\r\n\x30\x84\x40\0\0\0"] + [b"0" * 65536] * 500,
}


@pytest.mark.parametrize("what", WITHOUT_END)
def test_a_responder_that_does_not_come_to_an_end(tls, responder, pki, what):
    """Some seconds of one thread are all it gets, and it is asked nowhere else."""
    listener, n_asked = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        while True:
            try:
                c = listener.accept()[0]
            except OSError:
                return
            n_asked.append(c.recv(65536))
            try:
                for part in WITHOUT_END[what]:
                    c.sendall(part.replace(b"%d", b"%d" % responder.port))
                    time.sleep(0.02 if len(part) < 5000 else 0)
                c.settimeout(20)
                c.recv(1)
            except OSError:
                pass
    threading.Thread(target=serve, daemon=True).start()
    own, responder.port = responder.port, listener.getsockname()[1]
    cert = responder.make("a.test")
    responder.port = own
    s = tls("TLSStapling on\n", certs=[cert]).expect("TLS0051")
    c = connect(s, pki, verify=False)
    assert s.logged("TLS0051 .*; none is stapled, asked again in [3-7] s", 8)
    assert c.request("GET", "/").status == 200 and stapled(s.tls_port) is None
    assert len(n_asked) == 1 and responder.n_asked == 0
    c.close()
    listener.close()


def test_a_delegated_signer_and_a_response_of_somebody_else(tls, responder, tmp_path):
    """The first is asked for, the second comes from files, of which each certificate gets its own."""
    a, b, file = responder.make("a.test"), responder.make("b.test"), tmp_path / "b.ocsp"
    signer = responder.ca.make("signer", usage="OCSPSigning")
    responder.answer = lambda q: responder.good(q, signer=signer)
    file.write_bytes(responder.good(None, about=responder.certs[1], lasts=4))
    s = tls(f"TLSStapling on\n<VirtualHost a.test>\n</VirtualHost>\n<VirtualHost b.test>\nTLSCertificate -\n"
            f"TLSCertificate {b}\nTLSStapling {file}\n</VirtualHost>\n", certs=[a]).expect("TLS0055")
    assert s.logged("TLS0050") and stapled(s.tls_port) == "good" and stapled(s.tls_port, "b.test") == "good"
    assert responder.n_asked == 1
    file.write_bytes(responder.good(None, about=responder.certs[0]))
    assert s.logged(f"TLS0055 TLSStapling {file}: it is about another certificate; nothing of it is stapled")
    assert until(lambda: stapled(s.tls_port, "b.test") is None)  # what was there has ended
    file.write_bytes(responder.good(None, about=responder.certs[1]))
    assert until(lambda: stapled(s.tls_port, "b.test") == "good")


def test_a_responder_that_hangs_keeps_nobody_waiting(tls, responder, pki):
    """A certificate that wants to be stapled is served without."""
    gate = threading.Event()
    responder.answer = lambda q: gate.wait(20) and b"" or b""
    cert = responder.make("a.test", more=[MUST])
    s = tls("TLSStapling on\n", certs=[cert]).expect("TLS0051")
    assert until(lambda: responder.n_asked == 1)
    for _ in range(3):
        began = time.time()
        c = connect(s, pki, verify=False)
        assert c.request("GET", "/").status == 200 and time.time() - began < 0.5
        c.close()
    assert s.logged("TLS0051 .*/ocsp: no response in time; none is stapled, asked again in [3-7] s", 8)
    gate.set()


def test_the_end_waits_for_no_responder(tls, responder):
    gate = threading.Event()
    responder.answer = lambda q: gate.wait(20) and b"" or b""
    s = tls("TLSStapling on\n", certs=[responder.make("a.test")])
    assert until(lambda: responder.n_asked == 1)
    began = time.time()
    assert s.stop() == 0 and time.time() - began < 2
    gate.set()


def test_openssl_as_the_responder(tls, responder, tmp_path):
    """Good; gone, while the last word holds; revoked."""
    responder.close()
    cert = responder.make("a.test")
    index = tmp_path / "index.txt"
    serial = openssl("x509", "-in", cert.pem, "-noout", "-serial").split("=")[1].strip()
    index.write_text(f"V\t400101000000Z\t\t{serial}\tunknown\t/O=test/CN=a.test\n")

    def run(*more):
        p = subprocess.Popen(["openssl", "ocsp", "-index", index, "-port", str(responder.port), "-rsigner",
                              responder.ca.pem, "-rkey", responder.ca.key, "-CA", responder.ca.pem, *more],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        return p
    p = run("-nmin", "60")
    try:
        s = tls("TLSStapling on\n", certs=[cert])
        assert s.logged("TLS0050") and stapled(s.tls_port) == "good"
    finally:
        p.kill()
        p.wait()
    assert stapled(s.tls_port) == "good"
    index.write_text(f"R\t400101000000Z\t200101000000Z\t{serial}\tunknown\t/O=test/CN=a.test\n")
    p = run("-nmin", "60")
    try:
        s = tls("TLSStapling on\n", certs=[cert]).expect("TLS0052")
        assert s.logged("TLS0052") and stapled(s.tls_port) is None
    finally:
        p.kill()
        p.wait()


def test_signatures_made_elsewhere_staple_as_well(tls, responder):
    s = tls("TLSStapling on\nTLSOffload 2\n", certs=[responder.make("a.test", kind="rsa")])
    assert s.logged("TLS0050") and stapled(s.tls_port) == "good"


def test_nobody_answers_and_then_somebody_does(tls, responder):
    responder.close()
    cert = responder.make("a.test")
    s = tls("TLSStapling on\n", certs=[cert]).expect("TLS0051")
    assert s.logged("TLS0051 .*/ocsp: Connection refused; none is stapled, asked again in [3-7] s")
    assert stapled(s.tls_port) is None
    responder.listen()
    assert s.logged("TLS0050", 12) and stapled(s.tls_port) == "good"


def test_a_renewed_certificate_has_a_response_of_its_own(tls, responder):
    cert, fresh = responder.make("a.test"), responder.make("a.test", "new.test")
    s = tls("TLSStapling on\n", certs=[cert])
    assert s.logged("TLS0050") and stapled(s.tls_port) == "good"
    cert.write(fresh)
    assert until(lambda: responder.n_asked == 2) and until(lambda: s.log().count("TLS0050") == 2)
    r = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", "-status", "-servername",
                        "new.test"], input="", capture_output=True, text=True, timeout=20).stdout
    serial = openssl("x509", "-in", fresh.pem, "-noout", "-serial").split("=")[1].strip()
    assert re.search(r"Serial Number: 0*" + serial, r) and "Cert Status: good" in r


def test_what_cannot_be_stapled_is_said(tls, responder, pki):
    lone = responder.ca.make("a.test", more=[f"authorityInfoAccess=OCSP;URI:http://127.0.0.1:{responder.port}/"])
    s = tls("TLSStapling on\n", certs=[lone, pki.b]).expect("TLS0054")
    assert s.logged(f"TLS0054 {lone.pem}: TLSStapling: its issuer is not in its chain; nothing is stapled")
    assert s.logged(f"TLS0054 {pki.b.pem}: TLSStapling: it names no OCSP responder")
    s = tls(certs=[responder.make("a.test", more=[MUST])]).expect("TLS0053")
    assert s.logged('TLS0053 .*wants an OCSP response stapled: .*write "TLSStapling on"')
    assert stapled(s.tls_port) is None and responder.n_asked == 0


@pytest.mark.parametrize("line, wanted", [
    ("TLSStapling maybe", ["test.conf:3: TLSStapling: expected on, off or files: maybe: No such file", "cure: name files"]),
    ("TLSStapling on off", ["TLSStapling: on and off stand alone"]),
    ("TLSStapling {a.pem}", ["{a.pem} holds no OCSP response in DER form", "cure: \"openssl ocsp"]),
])
def test_lines_that_are_refused(refused, pki, line, wanted):
    out = refused(f"LoadModule tls\nListen 443 tls\n{line.replace('{a.pem}', pki.a.pem)}\nTLSCertificate {pki.a}\n")
    for w in wanted:
        assert w.replace("{a.pem}", pki.a.pem) in out, out
