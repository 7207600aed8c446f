"""A client of HTTP/2 that sends the frames it is told, right or wrong, and reads strictly."""
import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
 CONTINUATION) = range(10)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = 5, 6, 7, 8, 9
CONNECT_ERROR, ENHANCE_YOUR_CALM = 10, 11
MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 3, 4, 5


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    ids = {"header_table": 1, "push": 2, "streams": 3, "window": 4, "frame": 5, "header_list": 6}
    return b"".join(struct.pack(">HI", ids[k], v) for k, v in values.items())


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    @property
    def code(self):
        return struct.unpack(">I", self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8])[0]

    def __repr__(self):
        return f"Frame({self.kind}, {self.flags:#x}, {self.stream}, {self.payload[:60]!r})"


class Answer:
    def __init__(self):
        self.status, self.fields, self.body, self.trailers = None, [], bytearray(), None
        self.interim, self.reset, self.ended = [], None, False

    def get(self, name):
        values = [v for k, v in self.fields if k == name]
        return ", ".join(values) if values else None

    def json(self):
        import json
        return json.loads(self.body)

    def seen(self, name):
        values = [v for k, v in self.json()["fields"] if k.lower() == name.lower()]
        return ", ".join(values) if values else None


class H2:
    def __init__(self, port, sock=None, greet=True, auto_window=True, authority="test", scheme="http",
                 **own_settings):
        self.sock = sock or socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.settimeout(10)
        self.buf, self.next_id, self.answers = b"", 1, {}
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.settings, self.goaway, self.auto_window = {}, None, auto_window
        self.authority, self.scheme, self.pongs, self.acks = authority, scheme, [], 0
        self.order = []  # (stream, bytes) of every DATA
        if greet:
            self.send(PREFACE + frame(SETTINGS, payload=settings(**own_settings)))

    def send(self, data):
        self.sock.sendall(data)
        return self

    def frame(self, *a, **k):
        return self.send(frame(*a, **k))

    def fields(self, method="GET", path="/", extra=(), **pseudo):
        head = {":method": method, ":scheme": self.scheme, ":authority": self.authority, ":path": path}
        head.update({":" + k: v for k, v in pseudo.items()})
        return [(k, v) for k, v in head.items() if v is not None] + list(extra)

    def block(self, fields):
        return self.encoder.encode([(k, v) for k, v in fields])

    def request(self, method="GET", path="/", extra=(), body=None, end=True, fields=None, **pseudo):
        """Begins a request: its stream."""
        stream, self.next_id = self.next_id, self.next_id + 2
        block = self.block(fields if fields is not None else self.fields(method, path, extra, **pseudo))
        self.answers[stream] = Answer()
        last = body is None and end
        self.head(stream, block, END_STREAM if last else 0)
        if body is not None:
            self.data(stream, body, end)
        return stream

    def head(self, stream, block, flags=0):
        """In as many frames as it needs."""
        parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
        for i, part in enumerate(parts):
            self.frame(CONTINUATION if i else HEADERS,
                       (0 if i else flags) | (END_HEADERS if i == len(parts) - 1 else 0), stream, part)
        return self

    def data(self, stream, body, end=False):
        for i in range(0, len(body), 16384):
            self.frame(DATA, 0, stream, body[i:i + 16384])
        if end:
            self.frame(DATA, END_STREAM, stream)
        return self

    def reset(self, stream, code=CANCEL):
        return self.frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def window(self, stream, n):
        return self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", n))

    def _exactly(self, n):
        while len(self.buf) < n:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            self.buf += data
        part, self.buf = self.buf[:n], self.buf[n:]
        return part

    def read(self):
        """The next frame, taken note of."""
        head = self._exactly(9)
        f = Frame(head[3], head[4], struct.unpack(">I", head[5:])[0] & 0x7fffffff,
                  self._exactly(int.from_bytes(head[:3], "big")))
        a = self.answers.get(f.stream)
        if f.kind == SETTINGS and not f.flags & ACK:
            self.settings.update(struct.iter_unpack(">HI", f.payload))
            self.frame(SETTINGS, ACK)
        elif f.kind == SETTINGS:
            self.acks += 1
        elif f.kind == PING and f.flags & ACK:
            self.pongs.append(f.payload)
        elif f.kind == GOAWAY:
            self.goaway = f
        elif f.kind == RST_STREAM and a is not None:
            a.reset = f.code
        elif f.kind == HEADERS:
            self._headers(f, a)
        elif f.kind == DATA:
            self.order.append((f.stream, len(f.payload)))
            a.body += f.payload
            if self.auto_window and f.payload:
                self.window(0, len(f.payload))
                if not f.flags & END_STREAM:
                    self.window(f.stream, len(f.payload))
        if a is not None and f.kind in (HEADERS, DATA) and f.flags & END_STREAM:
            a.ended = True
        return f

    def _headers(self, f, a):
        block = f.payload
        assert not f.flags & PADDED
        while not f.flags & END_HEADERS:
            head = self._exactly(9)
            assert head[3] == CONTINUATION
            f.flags |= head[4] & END_HEADERS
            block += self._exactly(int.from_bytes(head[:3], "big"))
        fields = self.decoder.decode(block)
        for k, _ in fields:
            assert k == k.lower(), k
        status = dict(fields).get(":status")
        if status is None:
            a.trailers = fields
        elif int(status) < 200:
            a.interim.append((int(status), fields))
        else:
            a.status, a.fields = int(status), fields

    def until(self, done, seconds=10):
        """Reads until done() holds; False when the connection ends before."""
        end = time.time() + seconds
        while not done():
            if time.time() > end:
                raise TimeoutError(self.answers)
            try:
                self.read()
            except EOFError:
                return bool(done())
        return True

    def answer(self, stream):
        a = self.answers[stream]
        self.until(lambda: a.ended or a.reset is not None or self.goaway_is_bad())
        return a

    def goaway_is_bad(self):
        return self.goaway is not None and self.goaway.code != NO_ERROR

    def get(self, *a, **k):
        return self.answer(self.request(*a, **k))

    def ended(self):
        """Reads to the end: the code of GOAWAY, None without one."""
        self.until(lambda: False)
        return self.goaway.code if self.goaway is not None else None

    def ping(self):
        """Whether the connection is alive and has seen all that was sent."""
        n = len(self.pongs)
        self.frame(PING, payload=b"12345678")
        return self.until(lambda: len(self.pongs) > n)

    def close(self):
        self.sock.close()
