"""Fixtures: a real server in front of scripted backends.

A test fails when the server leaves a warning, an error or a sanitizer's report it was not
told to expect (s.expect("SL0501")), and when it does not stop cleanly.
"""
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import origin as origin_module

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SLUICE_BUILD", os.path.join(TOP, "build-dev"))
PROGRAM = os.environ.get("SLUICE_PROGRAM", os.path.join(BUILD, "sluice"))
MODULES = os.environ.get("SLUICE_MODULES", os.path.join(BUILD, "modules-dir"))


# Below those the kernel gives to whoever connects, and of each parallel run its own.
RUN = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
ports = itertools.cycle(range(12000 + RUN * 5000, 17000 + RUN * 5000))
for _ in range(os.getpid() % 5000):
    next(ports)


def free_port():
    for port in ports:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Response:
    """One response as read off a socket."""

    def __init__(self, head, body, interim=()):
        lines = head.decode("latin1").split("\r\n")
        self.line = lines[0]
        self.version, status, *rest = lines[0].split(" ", 2)
        self.status, self.reason = int(status), rest[0] if rest else ""
        self.fields = [tuple(x.strip() for x in l.split(":", 1)) for l in lines[1:] if l]
        self.body, self.interim, self.trailers = body, list(interim), []

    def get(self, name):
        values = [v for k, v in self.fields if k.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        import json
        return json.loads(self.body)

    def seen(self, name):
        """A field as the echoing backend saw it."""
        values = [v for k, v in self.json()["fields"] if k.lower() == name.lower()]
        return ", ".join(values) if values else None


class Client:
    """A client connection that sends what it is told and reads strictly."""

    def __init__(self, port, family=socket.AF_INET, address=None, timeout=10, source=None):
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.connect(address or ("127.0.0.1", port))
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin1"))
        return self

    def fill(self):
        data = self.sock.recv(65536)
        self.buf += data
        return data

    def until(self, mark):
        while mark not in self.buf:
            if not self.fill():
                raise EOFError(self.buf)
        part, _, self.buf = self.buf.partition(mark)
        return part

    def exactly(self, n):
        pieces = []  # joined once: some bodies are large
        while len(self.buf) < n:
            pieces.append(self.buf)
            n, self.buf = n - len(self.buf), b""
            if not self.fill():
                raise EOFError(b"".join(pieces))
        pieces.append(self.buf[:n])
        self.buf = self.buf[n:]
        return b"".join(pieces)

    def rest(self):
        """All until the server closes; a reset counts as an end."""
        pieces = []
        try:
            while self.fill():
                pieces.append(self.buf)
                self.buf = b""
        except ConnectionResetError:
            pass
        pieces.append(self.buf)
        self.buf = b""
        return b"".join(pieces)

    def response(self, method="GET"):
        interim = []
        while True:
            r = Response(self.until(b"\r\n\r\n"), b"")
            if r.status >= 200 or r.status == 101:
                break
            interim.append(r)
        r.interim = interim
        if method == "HEAD" or r.status in (101, 204, 304):
            return r
        if (r.get("Transfer-Encoding") or "") == "chunked":
            pieces = []
            while size := int(self.until(b"\r\n"), 16):
                pieces.append(self.exactly(size + 2)[:-2])
            r.body = b"".join(pieces)
            while True:
                line = self.until(b"\r\n")
                if not line:
                    return r
                r.trailers.append(line.decode("latin1"))
        if r.get("Content-Length") is not None:
            r.body = self.exactly(int(r.get("Content-Length")))
        else:
            r.body = self.rest()
        return r

    def request(self, method, path, fields=(), body=b"", host="test"):
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
        head += "".join(f"{k}: {v}\r\n" for k, v in dict(fields).items())
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        self.send(head.encode("latin1") + b"\r\n" + body)
        return self.response(method)

    def closed(self, timeout=5):
        """Whether the server ends the connection."""
        self.sock.settimeout(timeout)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def close(self):
        self.sock.close()


# A hook's own time; sanitizers make it several times as long.
IS_SANITIZED = "asan" in PROGRAM or "tsan" in PROGRAM
HOOK_FATAL_MS = "25" if IS_SANITIZED else "5"


class Sluice:
    def __init__(self, text, threads, folder, port=None, listen=True, args=("-X",), env=None,
                 program=PROGRAM, user="root"):
        self.dir, self.port, self.expected = folder, port or free_port(), []
        self.conf = os.path.join(folder, "test.conf")
        self.log_file = os.path.join(folder, "error.log")
        head = f"Threads {threads}\n" + (f"Listen 127.0.0.1:{self.port}\n" if listen else "")
        head += f"User {user}\n" if os.geteuid() == 0 else ""
        with open(self.conf, "w") as f:
            f.write(head + text)
        self.err = open(os.path.join(folder, "stderr"), "wb")
        self.proc = subprocess.Popen([program, *args, "-f", self.conf, "--module-dir", MODULES],
                                     stdin=subprocess.DEVNULL, stdout=self.err, stderr=self.err,
                                     env={**os.environ, "SLUICE_HOOK_FATAL": HOOK_FATAL_MS, **(env or {})})
        self._wait()

    def _wait(self):
        end = time.time() + 20
        while time.time() < end:
            if self.proc.poll() is not None:
                raise RuntimeError(f"ended with {self.proc.returncode}: {self.log()}")
            if "ready" in self.log():
                return
            time.sleep(0.02)
        raise RuntimeError("not ready: " + self.log())

    def log(self):
        with open(os.path.join(self.dir, "stderr"), errors="replace") as f:
            return f.read()

    def logged(self, text, timeout=5):
        """Whether a line with this text comes in time."""
        end = time.time() + timeout
        while time.time() < end:
            if re.search(text, self.log()):
                return True
            time.sleep(0.02)
        return False

    def expect(self, *numbers):
        """Message numbers of warnings and errors this test provokes."""
        self.expected += numbers
        return self

    def client(self, **k):
        return Client(self.port, **k)

    def get(self, path="/", fields=(), method="GET", body=b"", host="test"):
        c = self.client()
        try:
            return c.request(method, path, fields, body, host)
        finally:
            c.close()

    def raw(self, data):
        """Sends bytes and reads until the server closes."""
        c = self.client()
        try:
            c.send(data)
            return c.rest()
        finally:
            c.close()

    def pids(self):
        """Master and worker."""
        out = [self.proc.pid]
        try:
            with open(f"/proc/{self.proc.pid}/task/{self.proc.pid}/children") as f:
                out += [int(x) for x in f.read().split()]
        except OSError:
            pass
        return out

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(15)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                raise AssertionError("does not stop: " + self.log())
        self.err.close()
        return self.proc.returncode

    def check(self, code=0):
        """code: what it ends with."""
        ended, log = self.stop(), self.log()
        bad = [l for l in log.split("\n")
               if (re.search(r" (warn|error) ", l) and not any(e in l for e in self.expected)
                   and "SL0310" not in l)  # a busy machine may stop a thread for some ms
               or re.search(r"Sanitizer|runtime error|panic", l)]
        assert not bad, "\n".join(bad[:20])
        assert ended == code, f"ended with {ended}: {log[-3000:]}"


@pytest.fixture(params=[1, 4], ids=["t1", "t4"])
def threads(request):
    return request.param


@pytest.fixture
def sluice(threads):
    """sluice(configuration) -> a running server; checked and stopped at the end."""
    running = []

    def start(text, **k):
        folder = tempfile.mkdtemp(prefix="sluice-test-")
        s = Sluice(text, threads, folder, **k)
        running.append(s)
        return s

    yield start
    for s in running:  # all of them, before a check can fail
        s.stop()
    for s in running:
        s.check()


@pytest.fixture
def refused():
    """refused(configuration) -> what -t prints of a configuration it must refuse."""
    def run(text):
        with tempfile.TemporaryDirectory() as folder:
            conf = os.path.join(folder, "test.conf")
            with open(conf, "w") as f:
                f.write(text)
            r = subprocess.run([PROGRAM, "-t", "-f", conf, "--module-dir", MODULES],
                               capture_output=True, text=True, timeout=30, cwd=folder)
            assert r.returncode == 1, r.stdout + r.stderr
            return (r.stdout + r.stderr).replace(folder + "/", "")
    return run


@pytest.fixture
def make_origin():
    made = []

    def make(*a, **k):
        o = origin_module.Origin(*a, **k)
        made.append(o)
        return o

    yield make
    for o in made:
        o.close()


@pytest.fixture
def name_server():
    from nameserver import NameServer
    made = []

    def make(zone=None):
        made.append(NameServer(zone))
        return made[-1]

    yield make
    for n in made:
        n.close()


@pytest.fixture
def origin(make_origin):
    return make_origin()
