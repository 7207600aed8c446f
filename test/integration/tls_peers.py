"""Both sides of TLS for tests: certificates, a server with a TLS port, clients, backends."""
import ssl

import pytest
from certs import CA
from conftest import Client, free_port
from origin import Origin
from test_reload import Operator


class Pki:
    def __init__(self, folder):
        self.ca, self.other = CA(folder), CA(folder, "other")
        self.a = self.ca.make("a.test", "www.a.test")
        self.a_rsa = self.ca.make("a.test", kind="rsa")
        self.b = self.ca.make("b.test", "*.w.test")
        self.back = self.ca.make("localhost", "127.0.0.1")
        self.client = self.ca.make("alice", usage="clientAuth")
        self.expired = self.ca.make_expired("late")
        self.stranger = self.other.make("mallory", usage="clientAuth")


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


def context(pki, **k):
    c = ssl.create_default_context(cafile=pki.ca.pem)
    c.check_hostname = k.get("check", True)
    if not k.get("verify", True):
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if "version" in k:
        c.minimum_version = c.maximum_version = k["version"]
    if "alpn" in k:
        c.set_alpn_protocols(k["alpn"])
    if "cert" in k:
        c.load_cert_chain(k["cert"].pem, k["cert"].key)
    if "ciphers" in k:
        c.set_ciphers(k["ciphers"])
    return c


@pytest.fixture
def tls(sluice, pki, origin):
    """tls(lines) -> a server with a TLS port, certificates a and b, and the echoing backend."""
    def start(text="", certs=None, proxy=True, **k):
        port = free_port()
        certs = [pki.a, pki.b] if certs is None else certs
        s = sluice("LoadModule route\nLoadModule tls\n" +
                   f"Listen 127.0.0.1:{port} tls\n" + "".join(f"TLSCertificate {c}\n" for c in certs) +
                   (f"ProxyPass http://{origin}\n" if proxy else "") + text, **k)
        s.tls_port = port
        return s
    return start


def connect(s, pki, name="a.test", ctx=None, session=None, source=None, **k):
    """A client whose connection is encrypted."""
    c = Client(s.tls_port, source=source)
    c.sock = (ctx or context(pki, **k)).wrap_socket(c.sock, server_hostname=name, session=session)
    return c


def more(sock):
    """What comes next: a peer that ends instead fails the test, which would wait for ever."""
    got = sock.recv(65536)
    assert got, "the server has ended the connection"
    return got


def names_of(c):
    return [v for k, v in c.sock.getpeercert()["subjectAltName"]]


def refusal(s, pki, *a, **k):
    with pytest.raises((ssl.SSLError, OSError)) as e:
        c = connect(s, pki, *a, **k)
        c.request("GET", "/")
    return str(e.value)


def tls_operator(sluice, pki, origin, more=""):
    port = free_port()
    o = Operator(sluice, f"LoadModule route\nLoadModule tls\nListen 127.0.0.1:{port} tls\n"
                         f"TLSCertificate {pki.a}\nProxyPass http://{origin}\n{more}")
    o.s.tls_port = port
    return o


class SecureOrigin(Origin):
    """A backend that speaks TLS; counts handshakes and resumptions."""

    def __init__(self, cert, **k):
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(cert.pem, cert.key)
        self.n_resumed, self.names, self.failures, self.peers = 0, [], [], []
        if "ca" in k:
            self.ctx.load_verify_locations(k["ca"])
            self.ctx.verify_mode = ssl.CERT_REQUIRED
        self.ctx.sni_callback = lambda s, name, c: self.names.append(name)
        super().__init__()

    def _serve(self, sock):
        try:
            secure = self.ctx.wrap_socket(sock, server_side=True)
        except (ssl.SSLError, OSError) as e:
            self.failures.append(str(e))
            sock.close()
            return
        self.n_resumed += secure.session_reused
        self.peers.append(secure.getpeercert())
        super()._serve(secure)

    @property
    def port(self):
        return int(self.name.rsplit(":", 1)[1])


@pytest.fixture
def secure(pki):
    made = []

    def make(cert=None, **k):
        made.append(SecureOrigin(cert or pki.back, **k))
        return made[-1]
    yield make
    for o in made:
        o.close()


def to(o, text="", options=None, host="localhost"):
    return (f"LoadModule route\nLoadModule tls\nProxyPass https://{host}:{o.port}\n" +
            (f"ProxyTLS https://{host}:{o.port} {options}\n" if options else "") + text)
