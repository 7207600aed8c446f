"""What must be refused, and every limit reached."""
import time

import pytest
from origin import early, reply

CONF = "LoadModule route\nProxyPass http://{origin}\n"


@pytest.fixture
def proxy(sluice, origin):
    return sluice(CONF.format(origin=origin))


OK = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
BAD = {
    "CL and TE": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a length that overflows": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "an empty length": POST + b"Content-Length: \r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "obs-fold": OK + b"A: b\r\n c\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in a field": OK + b"A: b\nC: d\r\n\r\n",
    "bare CR": OK + b"A: b\rC: d\r\n\r\n",
    "NUL": OK + b"A: b\0c\r\n\r\n",
    "a control byte": OK + b"A: b\x01c\r\n\r\n",
    "a space before the colon": OK + b"A : b\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "no colon": OK + b"abc\r\n\r\n",
    "a folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "two transfer codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an odd coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding with a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no version": b"GET / \r\nHost: a\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad version": b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": OK + b"Host: b\r\n\r\n",
    "Host with userinfo": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "Host with a bad port": b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "Host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "an encoded NUL": b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad escape": b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bad byte in the target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method with a bad byte": b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40 + b"\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_and_the_connection_closed(proxy, origin, name):
    answer = proxy.raw(BAD[name] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 "), answer[:100]
    assert answer.count(b"HTTP/1.1 ") == 1 and not origin.requests


def test_codings_we_do_not_speak(proxy):
    assert proxy.raw(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n").startswith(b"HTTP/1.1 501 ")


def test_other_major_versions(proxy):
    assert proxy.raw(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize("body", [b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n", b"3\nabc\r\n0\r\n\r\n",
                                  b"3\r\nabcX\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n\r\n",
                                  b"3 \r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n",
                                  b"0x3\r\nabc\r\n0\r\n\r\n", b"3;" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n"])
def test_bad_chunks(proxy, origin, body):
    answer = proxy.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


# ---- limits ----

def test_limit_line(sluice, origin):
    s = sluice("LimitLine 100\n" + CONF.format(origin=origin))
    assert b" 414 " in s.raw(b"GET /" + b"x" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b" 414 " in s.raw(b"GET /" + b"x" * 200)
    assert s.get("/" + "x" * 70).status == 200


def test_limit_fields(sluice, origin):
    s = sluice("LimitFields 10\n" + CONF.format(origin=origin))
    assert b" 431 " in s.raw(OK + b"A: b\r\n" * 10 + b"\r\n")
    assert s.get("/", {f"A{i}": "b" for i in range(9)}).status == 200


def test_limit_head(sluice, origin):
    s = sluice("LimitHead 1k\n" + CONF.format(origin=origin))
    assert b" 431 " in s.raw(OK + b"A: " + b"b" * 1100 + b"\r\n\r\n")
    assert s.get("/", {"A": "b" * 800}).status == 200


def test_the_largest_head_there_is(sluice, origin):
    s = sluice("LimitHead 60k\nLimitLine 30k\n" + CONF.format(origin=origin))
    r = s.get("/" + "y" * 20000, {"A": "b" * 30000})
    assert r.seen("A") == "b" * 30000


def test_limit_body(sluice, origin):
    s = sluice("LimitBody 1k\n" + CONF.format(origin=origin))
    assert s.get("/", method="POST", body=b"x" * 1024).status == 200
    c = s.client()
    assert c.send(POST + b"Content-Length: 1025\r\n\r\n").response().status == 413
    c.close()
    c = s.client()
    c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"100\r\n" + b"x" * 256 + b"\r\n")
    c.send((b"100\r\n" + b"x" * 256 + b"\r\n") * 5)
    assert c.response().status == 413
    c.close()


def test_slow_heads(sluice, origin):
    s = sluice("Timeout header=300ms\n" + CONF.format(origin=origin))
    c = s.client()
    assert c.send(b"GET / HTTP/1.1\r\nHost:").response().status == 408
    assert c.closed()
    c.close()


def test_a_slow_head_cannot_be_dripped(sluice, origin):
    s = sluice("Timeout header=500ms\n" + CONF.format(origin=origin))
    c, began = s.client(), time.time()
    try:
        for i in range(100):
            c.send(b"GET / HTTP/1.1\r\nHost: a\r\n" if i == 0 else b"A: b\r\n")
            time.sleep(0.05)
    except OSError:
        pass
    assert time.time() - began < 3
    c.close()


def test_silent_clients_are_closed_without_a_word(sluice, origin):
    s = sluice("Timeout header=300ms keepalive=300ms\n" + CONF.format(origin=origin))
    c = s.client()
    assert c.rest() == b""
    c = s.client()
    assert c.request("GET", "/").status == 200
    assert c.rest() == b""


def test_slow_bodies(sluice, origin):
    s = sluice("Timeout body=300ms\n" + CONF.format(origin=origin))
    c = s.client()
    assert c.send(POST + b"Content-Length: 10\r\n\r\nabc").response().status == 408
    c.close()


def test_connect_is_for_forward_proxies(proxy, origin):
    r = proxy.raw(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
    assert r.startswith(b"HTTP/1.1 501 ") and b"Connection: close" in r
    assert origin.requests == []


def test_clients_that_do_not_read(sluice, origin):
    s = sluice("Timeout send=300ms\n" + CONF.format(origin=origin))
    origin.on("/big", lambda c, r: c.send(reply(200, b"x" * (32 << 20))))
    c = s.client()
    c.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1.5)
    assert len(c.rest()) < 32 << 20
    c.close()


def test_keepalive_requests(sluice, origin):
    s = sluice("KeepaliveRequests 3\n" + CONF.format(origin=origin))
    c = s.client()
    assert [c.request("GET", "/").get("Connection") for _ in range(3)] == [None, None, "close"]
    assert c.closed()


# ---- backends ----

GARBAGE = {
    "garbage": b"hello\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "CL and TE": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad status": b"HTTP/1.1 20 OK\r\n\r\n",
    "a bad version": b"HTTP/3.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "obs-fold": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 0\r\n\r\n",
    "a huge head": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_bad_responses_are_502(proxy, origin, name):
    proxy.expect("SL05")
    origin.on("/bad", GARBAGE[name])
    assert proxy.get("/bad").status == 502
    assert proxy.logged("pool .* server") and proxy.get("/good").status == 200


def test_a_backend_that_refuses(sluice):
    from conftest import free_port
    s = sluice(f"LoadModule route\nProxyPass http://127.0.0.1:{free_port()}\n").expect("SL0501")
    assert s.get("/").status == 502 and s.logged("SL0501")


def test_a_backend_that_resets(proxy, origin):
    proxy.expect("SL05")
    origin.on("/r", lambda c, r: c.reset())
    assert proxy.get("/r", method="POST", body=b"x").status == 502
    assert proxy.logged("SL0505")


def test_a_backend_that_is_silent(sluice, origin):
    s = sluice("ProxyTimeout first=300ms\n" + CONF.format(origin=origin)).expect("SL0506")
    origin.on("/s", lambda c, r: time.sleep(2))
    assert s.get("/s").status == 504 and s.logged("SL0506")


def test_a_backend_that_stops_in_the_middle(sluice, origin):
    s = sluice("ProxyTimeout idle=300ms\n" + CONF.format(origin=origin)).expect("SL0510")

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(2)
    origin.on("/s", script)
    c = s.client()
    c.send(b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n")
    assert c.rest().endswith(b"half")


@pytest.mark.parametrize("head", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_truncated_answers_are_never_whole(proxy, origin, head):
    proxy.expect("SL0509")

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" +
               (b"4\r\nhalf\r\n" if b"chunked" in head else b"half"))
        return False
    origin.on("/t", script)
    answer = proxy.raw(b"GET /t HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"half" in answer and not answer.endswith(b"0\r\n\r\n")


def test_total_time(sluice, origin):
    s = sluice("ProxyTimeout total=500ms\n" + CONF.format(origin=origin)).expect("SL0511")

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            c.send(b"1\r\nx\r\n")
            time.sleep(0.1)
    origin.on("/s", script)
    began = time.time()
    s.raw(b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n")
    assert time.time() - began < 3


def test_bytes_behind_a_response_leak_to_nobody(proxy, origin):
    origin.on("/more", reply(200, b"ok") + reply(200, b"poison"))
    c = proxy.client()
    assert c.request("GET", "/more").body == b"ok"
    for i in range(5):
        assert c.request("GET", f"/{i}").json()["target"] == f"/{i}"
    c.close()


def test_a_stale_connection_is_replayed(proxy, origin):
    """The backend closes its kept connection just when the next request arrives."""
    proxy.expect("SL0505", "SL0503")

    def script(c, r):
        if c.n_requests > 1:
            c.reset()
            return False
        c.send(reply(200, b"fresh"))
    origin.on("/x", script)
    c = proxy.client()
    assert [c.request("GET", "/x").body for _ in range(6)] == [b"fresh"] * 6
    c.close()


def test_a_post_on_a_stale_connection_is_not_sent_twice(proxy, origin):
    proxy.expect("SL05")

    def script(c, r):
        if c.n_requests > 1:
            c.reset()
            return False
        c.send(reply(200, b"fresh"))
    origin.on("/x", script)
    c = proxy.client()
    assert c.request("POST", "/x", body=b"1").body == b"fresh"
    assert c.request("POST", "/x", body=b"2").status == 502
    assert [r.body for r in origin.requests].count(b"2") == 1
    c.close()


def test_a_client_that_leaves_stops_the_exchange(proxy, origin):
    import socket
    import threading
    over = threading.Event()

    def script(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                c.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except OSError:
            over.set()
    origin.on("/forever", script)
    c = proxy.client()
    c.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n").fill()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()
    assert over.wait(5)
