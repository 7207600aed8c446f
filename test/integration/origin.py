"""A backend whose every byte a test can script.

It answers each request with a JSON echo (method, target, fields, body) unless a script
stands for the path: bytes sent as they are, or a function that gets (connection, request).
"""
import json
import socket
import threading


class Request:
    def __init__(self, head, body):
        lines = head.split(b"\r\n")
        self.raw = head
        self.method, self.target, self.version = lines[0].decode("latin1").split(" ")
        self.fields = [tuple(x.strip() for x in l.decode("latin1").split(":", 1))
                       for l in lines[1:] if l]
        self.body = body
        self.trailers = []

    def get(self, name):
        values = [v for k, v in self.fields if k.lower() == name.lower()]
        return ", ".join(values) if values else None


class Connection:
    """One accepted connection, read with a buffer."""

    def __init__(self, sock):
        self.sock, self.buf, self.n_requests = sock, b"", 0

    def fill(self):
        data = self.sock.recv(65536)
        self.buf += data
        return data

    def until(self, mark):
        while mark not in self.buf:
            if not self.fill():
                return None
        part, _, self.buf = self.buf.partition(mark)
        return part

    def exactly(self, n):
        pieces = []  # joined once: some bodies are large
        while len(self.buf) < n:
            pieces.append(self.buf)
            n, self.buf = n - len(self.buf), b""
            if not self.fill():
                return None
        pieces.append(self.buf[:n])
        self.buf = self.buf[n:]
        return b"".join(pieces)

    def send(self, data):
        self.sock.sendall(data)

    def close(self):
        """A FIN, not a reset: what the proxy still sends is read."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def chunked(self, request):
        pieces = []
        while True:
            line = self.until(b"\r\n")
            if line is None:
                return None
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while True:
                    line = self.until(b"\r\n")
                    if not line:
                        return b"".join(pieces)
                    request.trailers.append(line.decode("latin1"))
            part = self.exactly(size + 2)
            if part is None:
                return None
            pieces.append(part[:-2])

    def read_head(self):
        head = self.until(b"\r\n\r\n")
        return None if head is None else Request(head, b"")

    def read_body(self, r):
        if (r.get("Transfer-Encoding") or "").lower() == "chunked":
            r.body = self.chunked(r)
        elif r.get("Content-Length"):
            r.body = self.exactly(int(r.get("Content-Length")))
        return r.body is not None


def reply(status=200, body=b"", fields=(), version="1.1", reason="OK", length=True):
    """The bytes of a response."""
    head = [f"HTTP/{version} {status} {reason}"] + [f"{k}: {v}" for k, v in fields]
    if length:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode("latin1") + b"\r\n\r\n" + body


class Origin:
    def __init__(self, family=socket.AF_INET, address=("127.0.0.1", 0)):
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        self.listener.listen(256)
        self.name = (f"unix:{address}" if family == socket.AF_UNIX
                     else "%s:%d" % self.listener.getsockname()[:2])
        self.scripts, self.requests, self.n_connections = {}, [], 0
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __str__(self):
        return self.name

    @property
    def last(self):
        return self.requests[-1]

    def on(self, path, script):
        """script: bytes, or a function(connection, request); path without query."""
        self.scripts[path] = script

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        except OSError:
            pass
        self.listener.close()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.n_connections += 1
            self.open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        c = Connection(sock)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while self._one(c):
                pass
        except (OSError, ValueError):
            pass
        finally:
            self.open.discard(sock)
            try:
                sock.close()
            except OSError:
                pass

    def _one(self, c):
        r = c.read_head()
        if r is None:
            return False
        script = self.scripts.get(r.target.split("?")[0])
        c.n_requests += 1
        if script is not None and not isinstance(script, bytes) and getattr(script, "early", False):
            self.requests.append(r)
            return script(c, r) is not False
        if (r.get("Expect") or "").lower() == "100-continue":
            c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not c.read_body(r):
            return False
        self.requests.append(r)
        if script is None:
            c.send(self._echo(r))
            return True
        if isinstance(script, bytes):
            c.send(script)
            return True
        return script(c, r) is not False

    @staticmethod
    def _echo(r):
        body = json.dumps({"method": r.method, "target": r.target, "fields": r.fields,
                           "body": r.body.decode("latin1"), "trailers": r.trailers}).encode()
        if r.method == "HEAD":
            return reply(200, b"", [("X-Echo", "1"), ("Content-Length", len(body))], length=False)
        return reply(200, body, [("Content-Type", "application/json")])


def early(script):
    """Marks a script that is called with the head alone, before any body is read."""
    script.early = True
    return script
