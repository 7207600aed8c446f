"""A name server that a test changes while it answers: A, AAAA and SRV over UDP and TCP.

zone["a.test"] = {"A": ["127.0.0.2"], "SRV": [(priority, weight, port, target)]}; a name that is not
there does not exist.  zone["a.test"] = "SERVFAIL", "REFUSED" or "SILENCE" fails; {"A": "SERVFAIL"}
does for one type.  Names in `long` are answered over UDP with nothing but the TC bit.
"""
import collections
import socket
import struct
import threading

from conftest import free_port

TYPES = {1: "A", 28: "AAAA", 33: "SRV"}
CODES = {"SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}


def name_bytes(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\0"


def data_bytes(kind, value):
    if kind == "SRV":
        priority, weight, port, target = value
        return struct.pack("!HHH", priority, weight, port) + name_bytes(target)
    return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, value)


class NameServer:
    def __init__(self, zone=None, ttl=1):
        self.zone, self.ttl, self.long = dict(zone or {}), ttl, set()
        self.asked = collections.Counter()
        self.by_tcp = collections.Counter()
        port = free_port()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for s in (self.udp, self.tcp):
            s.bind(("127.0.0.1", port))
        self.tcp.listen(16)
        self.address = "%s:%d" % self.udp.getsockname()
        for serve in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=serve, daemon=True).start()

    def answer(self, question, is_udp):
        """The bytes of an answer; None: nobody answers."""
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode().lower())
            at += 1 + question[at]
        name, asked = ".".join(labels), question[12:at + 5]
        kind = TYPES.get(struct.unpack("!H", question[at + 1:at + 3])[0])
        self.asked[name, kind] += 1
        if not is_udp:
            self.by_tcp[name] += 1
        records = self.zone.get(name, "NXDOMAIN")
        if isinstance(records, dict):
            records = records.get(kind, [])
        if records == "SILENCE":
            return None
        if isinstance(records, str):
            return question[:2] + struct.pack("!HHHHH", 0x8180 | CODES[records], 1, 0, 0, 0) + asked
        if is_udp and name in self.long:
            return question[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + asked
        out = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0) + asked
        number = next(k for k, v in TYPES.items() if v == kind) if records else 0
        for value in records:
            data = data_bytes(kind, value)
            out += b"\xc0\x0c" + struct.pack("!HHIH", number, 1, self.ttl, len(data)) + data
        return out

    def _serve_udp(self):
        while True:
            try:
                question, peer = self.udp.recvfrom(4096)
                if not question:  # closed
                    return
                out = self.answer(question, True)
                if out is not None:
                    self.udp.sendto(out, peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                c, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._speak_tcp, args=(c,), daemon=True).start()

    def _speak_tcp(self, c):
        with c, c.makefile("rwb") as f:
            while (head := f.read(2)) and len(head) == 2:
                out = self.answer(f.read(struct.unpack("!H", head)[0]), False)
                if out is not None:
                    f.write(struct.pack("!H", len(out)) + out)
                    f.flush()

    def close(self):
        for s in (self.udp, self.tcp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
