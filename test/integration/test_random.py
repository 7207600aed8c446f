"""Clients that send parts of requests in any order, wait, leave and reset: the server goes on,
every request is logged once as valid JSON, and the sanitizers find nothing."""
import json
import random
import socket
import threading
import time

SECONDS, CLIENTS = 3, 12
STARTS = [b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD /h HTTP/1.0\r\n", b"OPTIONS * HTTP/1.1\r\n",
          b"CONNECT a:1 HTTP/1.1\r\n", b"GET http://a/b?c HTTP/1.1\r\n", b"\0"]
PARTS = [b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
         b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"\r\n",
         b"5\r\nhello\r\n", b"0\r\n\r\n", b"hello", b"0\r\nA: b\r\n\r\n", b"X: " + b"y" * 3000 + b"\r\n",
         b"TE: trailers\r\n", b"ffffffffffffffff\r\n", b"Content-Length: 5, 5\r\n", b"Connection: Host, X\r\n"]


def behave_badly(port, r, end):
    while time.time() < end:
        c = socket.create_connection(("127.0.0.1", port), 5)
        try:
            c.settimeout(0.05)
            for _ in range(r.randint(1, 3)):
                data = b"".join([r.choice(STARTS), PARTS[0], *r.choices(PARTS, k=r.randint(0, 4)), b"\r\n",
                                 *r.choices(PARTS, k=r.randint(0, 2))])
                cut = r.randint(0, len(data))
                c.sendall(data[:cut])
                time.sleep(r.choice([0, 0, 0.002]))
                c.sendall(data[cut:])
            if r.random() < 0.5:
                while c.recv(65536):
                    pass
        except OSError:
            pass
        if r.random() < 0.4:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        c.close()


def test_clients_at_random(sluice, origin, tmp_path):
    s = sluice(f"LoadModule route\nLoadModule log\nAccessLog {tmp_path}/a.log json\nTimeout header=1s body=1s\n"
               f"ProxyPass {origin}\n")
    end = time.time() + SECONDS
    clients = [threading.Thread(target=behave_badly, args=(s.port, random.Random(i), end)) for i in range(CLIENTS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    assert s.get("/").status == 200
    assert s.stop() == 0
    lines = [json.loads(l) for l in open(tmp_path / "a.log", errors="replace")]
    assert len(lines) > 100 and {200, 400} < {l["status"] for l in lines} < {*range(200, 600)}
