"""Certificates for tests, made by the openssl command."""
import os
import subprocess


def openssl(*args, **k):
    r = subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=60, **k)
    assert r.returncode == 0, r.stderr
    return r.stdout


class Cert:
    def __init__(self, pem, key):
        self.pem, self.key = pem, key

    def __str__(self):
        return f"{self.pem} {self.key}"

    def read(self):
        return open(self.pem).read(), open(self.key).read()

    def write(self, other):
        """Takes the place of this one's files, as a renewal does: key, then chain."""
        for to, text in ((self.key, other.read()[1]), (self.pem, other.read()[0])):
            with open(to + ".new", "w") as f:
                f.write(text)
            os.rename(to + ".new", to)


class CA:
    def __init__(self, folder, name="ca"):
        self.dir, self.name, self.n = str(folder), name, 0
        self.pem, self.key = f"{folder}/{name}.pem", f"{folder}/{name}.key"
        openssl("req", "-x509", *self.kind("ec"), "-nodes", "-days", "90", "-subj", f"/CN={name}",
                "-keyout", self.key, "-out", self.pem, "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    @staticmethod
    def kind(kind):
        if kind == "ec":
            return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        return ["-newkey", kind if ":" in kind else "rsa:2048"]

    def make(self, *names, kind="ec", days=90, usage="serverAuth", more=()):
        self.n += 1
        at = f"{self.dir}/{self.name}-{names[0].replace('*', 'any')}-{self.n}"
        alt = ",".join(("IP:" if n[0].isdigit() else "DNS:") + n for n in names)
        openssl("req", "-x509", *self.kind(kind), "-nodes", "-days", str(days), "-subj",
                f"/O=test/CN={names[0]}", "-CA", self.pem, "-CAkey", self.key, "-keyout", at + ".key",
                "-out", at + ".pem", "-addext", f"subjectAltName={alt}",
                "-addext", "basicConstraints=critical,CA:FALSE",
                "-addext", f"extendedKeyUsage={usage}", *(w for m in more for w in ("-addext", m)))
        return Cert(at + ".pem", at + ".key")

    def make_expired(self, name):
        at = f"{self.dir}/{self.name}-expired-{name}"
        openssl("req", *self.kind("ec"), "-nodes", "-subj", f"/CN={name}", "-keyout", at + ".key", "-out", at + ".csr")
        openssl("x509", "-req", "-in", at + ".csr", "-CA", self.pem, "-CAkey", self.key, "-set_serial", "99",
                "-days", "-1", "-out", at + ".pem")
        return Cert(at + ".pem", at + ".key")


def of_the_examples(folder):
    """What conf/examples look for in /etc/ssl/sluice, made in folder; the CAs and others by name."""
    made = {n: CA(folder, n) for n in ("own-ca", "clients-ca")}
    ca = made["own-ca"]
    certs = {"example.com": ca.make("example.com", "www.example.com", "api.example.com"),
             "example.com-rsa": ca.make("example.com", kind="rsa"),
             "secure": ca.make("secure.example.com")}
    for name, c in certs.items():
        os.rename(c.pem, f"{folder}/{name}.pem")
        os.rename(c.key, f"{folder}/{name}.key")
    made["back"] = ca.make("127.0.0.1")
    made["ca"] = ca
    return made
