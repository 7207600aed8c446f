"""Subrequests and sources, by way of a module that asks, relays and makes answers of its own."""
import gzip
import threading
import time

import pytest
from origin import reply

BASE = "LoadModule route\nLoadModule sub\n"


def test_an_access_hook_asks_first(sluice, origin):
    origin.on("/who", reply(207, b"12345", [("X-A", "b")]))
    s = sluice(BASE + f"SubAsk /who?x=1\nProxyPass {origin}\n")
    r = s.get("/a?b", {"X-Mine": "1", "Connection": "X-Hop", "X-Hop": "1"})
    assert r.seen("X-Asked") == "207 5 whole" and r.json()["target"] == "/a?b"
    asked = origin.requests[0]
    assert asked.target == "/who?x=1" and asked.get("X-Mine") == "1" and asked.get("X-Hop") is None
    assert asked.get("X-Forwarded-For") == "127.0.0.1" and asked.get("X-Forwarded-Host") == "test"


def test_body_of_the_client_stays_with_it(sluice, origin):
    origin.on("/who", reply(200, b""))
    s = sluice(BASE + f"SubAsk /who\nProxyPass {origin}\n")
    r = s.get("/up", method="POST", body=b"x" * 100000)
    assert len(r.json()["body"]) == 100000 and origin.requests[0].body == b""
    assert origin.requests[0].get("Content-Length") is None


def test_failure_of_the_question_is_its_answer(sluice, origin):
    origin.on("/who", lambda c, r: c.sock.close() or False)
    s = sluice(BASE + f"SubAsk /who\nProxyPass {origin}\n").expect("SL0505")
    asked = s.get("/").seen("X-Asked")
    assert asked.startswith("502 ") and asked.endswith("no_response")


def test_neither_counted_nor_logged_nor_edited(sluice, origin, tmp_path):
    s = sluice(BASE + f"LoadModule log\nLoadModule headers\nAccessLog {tmp_path}/log common\nHeader add X-One 1\n"
               f"SubRelay on\nProxyPass {origin}\n")
    for _ in range(3):
        assert [v for k, v in s.get("/").fields if k == "X-One"] == ["1"]
    s.stop()
    assert (tmp_path / "log").read_text().count("\n") == 3


@pytest.mark.parametrize("n", [0, 1, 5000, 3000000])
def test_relayed(sluice, origin, n):
    origin.on("/n", reply(200, b"y" * n))
    s = sluice(BASE + f"SubRelay on\nProxyPass {origin}\n")
    c = s.client()
    for _ in range(3):
        assert c.request("GET", "/n").body == b"y" * n
    assert c.request("HEAD", "/n").body == b""
    c.close()


def test_relayed_with_a_slow_client(sluice, origin):
    origin.on("/n", reply(200, b"y" * 20000000))
    s = sluice(BASE + f"SubRelay on\nProxyPass {origin}\n")
    c = s.client()
    c.send("GET /n HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.5)
    with open(f"/proc/{s.pids()[-1]}/status") as f:
        rss = int([x for x in f if x.startswith("VmRSS")][0].split()[1])
    assert rss < 400000, "bounded memory"
    assert len(c.response().body) == 20000000


def test_clients_that_leave(sluice, origin):
    release = threading.Event()

    def slow(c, r):
        release.wait(5)
        c.send(reply(200, b"z" * 100000))
        return True
    origin.on("/n", slow)
    origin.on("/who", slow)
    s = sluice(BASE + f"<Location /n>\nSubRelay on\n</Location>\n<Location /asks>\nSubAsk /who\n</Location>\n"
               f"ProxyPass {origin}\n").expect("SL0505", "SL0501")
    for path in ("/n", "/asks") * 5:
        c = s.client()
        c.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.02)
        c.close()
    c = s.client()
    c.send("GET /n HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    release.set()
    c.until(b"\r\n\r\n")
    c.close()  # in the middle of the answer
    assert len(s.get("/n").body) == 100000


def test_server_that_cuts_its_answer(sluice, origin):
    origin.on("/few", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") or False)
    origin.on("/n", lambda c, r: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"half" * 25000) or False)
    s = sluice(BASE + f"SubRelay on\nProxyPass {origin}\n").expect("SL0509")
    for path in (b"/n", b"/few"):
        got = s.raw(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert not got.endswith(b"0\r\n\r\n") or b" 502 " in got, "the client can tell"


def test_stop_waits_for_them(sluice, origin):
    origin.on("/n", lambda c, r: time.sleep(0.5) or c.send(reply(200, b"late")) or True)
    s = sluice(BASE + f"SubRelay on\nProxyPass {origin}\n")
    c = s.client()
    c.send("GET /n HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    stop = threading.Thread(target=s.stop)
    stop.start()
    assert c.response().body == b"late"
    stop.join()  # a second SIGTERM would not wait


@pytest.mark.parametrize("n", [1, 6999, 7000, 7001, 10000000])
def test_source(sluice, n):
    s = sluice(BASE + f"SourceBytes {n}\n")
    c = s.client()
    for _ in range(3):
        r = c.request("GET", "/")
        assert r.body == b"\0" * n and r.get("Content-Length") == str(n)
    r = c.request("HEAD", "/")
    assert r.get("Content-Length") == str(n)
    assert c.request("GET", "/").status == 200
    c.close()
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    c.sock.recv(1)
    c.close()


def test_source_through_a_filter(sluice):
    s = sluice(BASE + "LoadModule gzip\nGzip on\nGzipTypes */*\nSourceBytes 500000\n")
    r = s.get("/", {"Accept-Encoding": "gzip"})
    assert r.get("Content-Encoding") == "gzip" and gzip.decompress(r.body) == b"\0" * 500000
