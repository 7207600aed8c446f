"""What RFC 9112 and RFC 9110 ask of a gateway: the rows of docs/conformance.md that no other
test shows.  A table is walked with one server, so that a row costs a request."""
import os
import re
import socket
import time

import pytest
from conftest import TOP, free_port
from origin import early, reply

CONF = "LoadModule route\nProxyPass http://{origin}\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture
def proxy(sluice, origin):
    return sluice(CONF.format(origin=origin))


def ask(proxy, raw, method="GET"):
    c = proxy.client()
    try:
        return c.send(raw).response(method)
    finally:
        c.close()


def refuses(proxy, origin, raw, status=400):
    """Answered with the status and closed, nothing of it forwarded."""
    n = len(origin.requests)
    answer = proxy.raw(raw + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), (raw, answer[:80])
    assert answer.count(b"HTTP/1.1 ") == 1 and b"Connection: close\r\n" in answer, raw
    assert len(origin.requests) == n, raw


# ---- requests: the message and its first line (RFC 9112, 2 and 3) ----

def test_one_empty_line_before_a_request_is_ignored(proxy):
    c = proxy.client()
    c.send(b"\r\n" + GET + b"\r\n\r\n" + GET + b"\r\n")
    assert [c.response().status for _ in range(2)] == [200, 200]
    c.close()


FIRST_LINES = [
    b"GET / http/1.1", b"GET / HTTP/1.", b"GET / HTTP/11", b"GET / HTTP/1.10", b"GET / HTTP/1.1 ",
    b"GET / HTTP/01.1", b"GET / HTTP/1,1", b"GET / HTTQ/1.1", b"GET / H", b" GET / HTTP/1.1",
    b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1", b"GET /\x0bHTTP/1.1", b"GET /\x0cHTTP/1.1",
    b"GET /\rHTTP/1.1", b"GET /a b HTTP/1.1", b"GET  HTTP/1.1", b"GET /\0 HTTP/1.1",
    b"GET /\x7f HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET HTTP/1.1", b"G\xe9T / HTTP/1.1",
    b"GET * HTTP/1.1", b"POST * HTTP/1.1", b"OPTIONS *a HTTP/1.1", b"GET a HTTP/1.1",
    b"GET ?a HTTP/1.1", b"GET a:80 HTTP/1.1", b"GET ftp://a/ HTTP/1.1", b"GET http:/a HTTP/1.1",
    b"GET http:///a HTTP/1.1", b"GET http://:80/ HTTP/1.1", b"GET http://u@a/ HTTP/1.1",
    b"GET http://u:p@a/ HTTP/1.1", b"GET http://a:65536/ HTTP/1.1", b"GET http://a:x/ HTTP/1.1",
    b"GET http://[::1/ HTTP/1.1", b"GET http://a/#f HTTP/1.1", b"GET http://a\\b/ HTTP/1.1",
]


def test_first_lines_that_are_none(proxy, origin):
    for line in FIRST_LINES:
        refuses(proxy, origin, line + b"\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "1.9"])
def test_each_hop_speaks_its_own_version(proxy, origin, version):
    r = ask(proxy, f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    assert r.version == origin.last.version == "HTTP/1.1"
    assert r.seen("Via") == ("1.0" if version == "1.0" else "1.1") + " sluice"


def test_request_lines_of_8000_bytes(proxy):
    path = "/" + "x" * (8000 - len("GET / HTTP/1.1"))
    assert proxy.get(path).json()["target"] == path


def test_nothing_is_done_before_the_head_is_whole(proxy, origin):
    c = proxy.client()
    c.send(GET)
    time.sleep(0.2)
    assert not origin.requests
    assert c.send(b"\r\n").response().status == 200
    c.close()


PATHS = ["/a//b/../c;p=1,2?x=/../&y=%2F%41", "/%7e~", "/%2e%2e/x", "/?", "/a?b?c", "//host/x", "/.",
         "/:;@!$&'()*+,=", "/\"<>[]\\^`{|}", "/%C3%A9", "/a%20b", "/a?%00", "/a?http://b/"]


def test_the_target_is_forwarded_as_it_came(proxy):
    for path in PATHS:
        assert proxy.get(path).json()["target"] == path


ABSOLUTE = {
    "GET http://b": ("/", "b"), "GET http://b?q": ("/?q", "b"), "GET http://b/x?y": ("/x?y", "b"),
    "GET HTTP://B:8080/x": ("/x", "B:8080"), "GET http://[::1]:81/": ("/", "[::1]:81"),
    "GET http://b:/x": ("/x", "b:"), "OPTIONS http://b": ("*", "b"), "OPTIONS http://b/": ("/", "b"),
    "OPTIONS http://b?q": ("/?q", "b"), "OPTIONS *": ("*", "a"),
}


def test_absolute_form_and_the_host_it_names(proxy):
    for line, (target, host) in ABSOLUTE.items():
        r = ask(proxy, f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (r.json()["target"], r.seen("Host")) == (target, host), line
    r = ask(proxy, b"GET http://b/ HTTP/1.0\r\n\r\n")
    assert r.seen("Host") == "b"


def test_https_uris_need_tls_or_a_trusted_gateway(sluice, origin):
    raw = b"GET https://b/x HTTP/1.1\r\nHost: b\r\n\r\n"
    refuses(sluice(CONF.format(origin=origin)), origin, raw, 421)
    trusting = sluice("TrustedProxies 127.0.0.1/32\n" + CONF.format(origin=origin))
    assert ask(trusting, raw).json()["target"] == "/x"


HOSTS = ["a", "A.B", "a:", "a:80", "a:0", "a:65535", "[::1]", "[::1]:8080", "127.0.0.1", "a.", "%41",
         "a-_~!$&'()*+,;=.b", "xn--bcher-kva.example"]
BAD_HOSTS = ["a:b", "a:-1", "a:65536", "a:000080", "[::1", "[::g]", "[]", "::1", 'a"b', "a<b", "a?x",
             "a#", "a\\b", ":80", "u@a", "u:p@a", "a/", "a b", "a, b", "a:80:80", "%4", "%zz", "[::1]x",
             "a\xe9", "http://a"]


def test_hosts_that_are_valid(proxy):
    for host in HOSTS:
        r = proxy.get("/", host=host)
        assert r.seen("Host") == r.seen("X-Forwarded-Host") == host
    for raw in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\nHost:\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: \r\n\r\n"):
        assert ask(proxy, raw).status == 200


def test_hosts_that_are_not(proxy, origin):
    for host in BAD_HOSTS:
        raw = f"Host: {host}\r\n\r\n".encode("latin1")
        for line in (b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://b/ HTTP/1.1"):
            refuses(proxy, origin, line + b"\r\n" + raw)
    for line in (b"GET / HTTP/1.0", b"GET http://b/ HTTP/1.1"):
        refuses(proxy, origin, line + b"\r\nHost: a\r\nHost: a\r\n\r\n")
    refuses(proxy, origin, b"GET http://a/ HTTP/1.1\r\n\r\n")


# ---- fields (RFC 9112, 5; RFC 9110, 5) ----

def test_values_lose_white_space_and_nothing_else(proxy):
    lines = {b"A:b": "b", b"A: b": "b", b"A:\t b \t": "b", b"A:": "", b"A: \t": "", b"A: b\tc  d": "b\tc  d",
             b"A: \xe9\xff": "\xe9\xff", b'A: "q, \\" ;x"': 'q, \\" ;x'}
    for line, value in lines.items():
        got = ask(proxy, GET + line + b"\r\n\r\n").seen("A")
        assert got.strip('"') == value, line


def test_names_are_any_token_and_unknown_ones_pass(proxy):
    names = ["!#$%&'*+-.^_`|~0Az", "0", "X" * 200, "Content_Type", "X-Forwarded-Forx", "Contentxlength"]
    for name in names:
        assert proxy.get("/", {name: "1"}).seen(name) == "1", name


def test_lines_of_one_name_keep_their_order(proxy, origin):
    r = ask(proxy, GET + b"X: 1\r\nY: a\r\nx: 2\r\nX:3\r\n\r\n")
    assert r.seen("X") == "1, 2, 3"
    origin.on("/c", reply(200, b"", [("Set-Cookie", "a=1, b"), ("X", "1"), ("Set-Cookie", "c=2")]))
    r = proxy.get("/c")
    assert [v for k, v in r.fields if k == "Set-Cookie"] == ["a=1, b", "c=2"]


BAD_FIELDS = [b" A: b", b"\tA: b", b"A\t: b", b"A b: c", b"A\0: b", b"A\xe9: b", b"A: b\x7f", b"A: b\x1b",
              b"A: b\rc", b"A: b\0", b'"A": b', b"A(: b", b"A", b":", b"A: b\r\n\tc", b"A: b\r\n ", b"A:b\r\r"]


def test_field_lines_that_are_none(proxy, origin):
    for line in BAD_FIELDS:
        refuses(proxy, origin, GET + line + b"\r\n\r\n")
        refuses(proxy, origin, b"GET / HTTP/1.1\r\n" + line + b"\r\nHost: a\r\n\r\n")


def test_empty_members_of_lists_are_ignored(proxy):
    r = ask(proxy, GET + b"Connection: ,, x-a , ,\r\nX-A: 1\r\nX-B: 2\r\n\r\n")
    assert r.seen("X-A") is None and r.seen("X-B") == "2"
    assert proxy.raw(GET + b"Connection: , close,\r\n\r\n").count(b"HTTP/1.1 200") == 1


FOLDED = ["X_Forwarded_For", "x_real_ip", "X-Forwarded_Proto", "X_FORWARDED-HOST", "Content_Length",
          "Transfer_Encoding", "TRANSFER_encoding"]


@pytest.mark.parametrize("mode", ["", "ProxyForwarded rfc7239\n", "ProxyForwarded off\n"])
def test_names_that_cgi_folds_into_ours_are_dropped(sluice, origin, mode):
    s = sluice(mode + CONF.format(origin=origin))
    fields = dict.fromkeys(FOLDED, "6.6.6.6")
    r = s.get("/", {**fields, "X_Forwarded_Foo": "1", "Content_Type": "2", "_": "3", "X_Real_Ipx": "4"},
              method="POST", body=b"abc")
    for name in FOLDED:
        assert r.seen(name) is None, name
    assert [r.seen(n) for n in ("X_Forwarded_Foo", "Content_Type", "_", "X_Real_Ipx")] == ["1", "2", "3", "4"]
    assert r.json()["body"] == "abc"
    c = s.client().send(CHUNKED + b"0\r\nX_Real_IP: 6.6.6.6\r\nX-Sum: 1\r\n\r\n")
    assert c.response().json()["trailers"] == ["X-Sum: 1"]
    c.close()


def test_names_that_cgi_folds_pass_from_trusted_peers(sluice, origin):
    s = sluice("TrustedProxies 127.0.0.1/32\n" + CONF.format(origin=origin))
    assert s.get("/", {"X_Real_IP": "1.2.3.4"}).seen("X_Real_IP") == "1.2.3.4"


# ---- bodies of requests (RFC 9112, 6 and 7; RFC 9110, 8.6) ----

LENGTHS = [b"Content-Length: 3", b"content-length:3", b"CONTENT-LENGTH: \t3 ", b"Content-Length: 0003"]
CODINGS = [b"Transfer-Encoding: chunked", b"transfer-encoding:ChUnKeD", b"TRANSFER-ENCODING: \tchunked "]


def test_lengths_and_codings_that_are_valid(proxy, origin):
    for method in (b"POST", b"GET", b"DELETE", b"OPTIONS", b"get"):
        for field, body in [(f, b"abc") for f in LENGTHS] + [(f, b"3\r\nabc\r\n0\r\n\r\n") for f in CODINGS]:
            r = ask(proxy, method + b" / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n" + body)
            assert r.json()["body"] == "abc" and r.json()["method"] == method.decode(), field
            assert (r.seen("Content-Length") is None) != (r.seen("Transfer-Encoding") is None)
    for field in (b"Content-Length: 0", b"A: b"):
        assert ask(proxy, POST + field + b"\r\n\r\n").json()["body"] == ""


BAD_FRAMES = [b"Content-Length: -0", b"Content-Length: 3 3", b"Content-Length: 3;", b"Content-Length: 3.0",
              b"Content-Length: ,3", b"Content-Length: 3,", b'Content-Length: "3"', b"Content-Length: \xb3",
              b"Content-Length: 9223372036854775808", b"Content-Length: 18446744073709551619",
              b"Content-Length: 3\r\ncontent-length: 3", b"Content-Length:\r\nContent-Length: 3",
              b"Transfer-Encoding:", b"Transfer-Encoding: ,", b"Transfer-Encoding: , chunked",
              b"Transfer-Encoding: chunked,", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding: chunked x",
              b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: gzip", b"Transfer-Encoding: identity",
              b"Transfer-Encoding: gzip;q=1, chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
              b"Transfer-Encoding: chunked\r\nContent-Length: 0", b"Transfer-Encoding: identity\r\nContent-Length: 3",
              b"Content-Length: x\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: \xa0chunked"]


def test_lengths_and_codings_that_are_not(proxy, origin):
    for field in BAD_FRAMES:
        refuses(proxy, origin, POST + field + b"\r\n\r\nabc")
    for field in CODINGS:
        refuses(proxy, origin, b"POST / HTTP/1.0\r\n" + field + b"\r\n\r\n")
        refuses(proxy, origin, b"POST / HTTP/1.0\r\n" + field + b"\r\nContent-Length: 3\r\n\r\nabc")
    for coding in (b"gzip, chunked", b"x, y, CHUNKED"):
        refuses(proxy, origin, POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n", 501)


CHUNKS = [b"3\r\nabc\r\n0\r\n\r\n", b"003\r\nabc\r\n00\r\n\r\n", b"3;a\r\nabc\r\n0;b\r\n\r\n",
          b"3;a=b;c\r\nabc\r\n0\r\n\r\n", b'3 ; a = "q;\\",\xe9"\r\nabc\r\n0\r\n\r\n', b"3\t;\r\nabc\r\n0\r\n\r\n",
          b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", b"3;" + b"x" * 1000 + b"\r\nabc\r\n0\r\n\r\n",
          b"3\r\nabc\r\n0\r\nA: b\r\n c: d\r\n\r\n".replace(b" c", b"c"), b"0000000000000003\r\nabc\r\n0\r\n\r\n"]
BAD_CHUNKS = [b"\r\n3\r\nabc\r\n0\r\n\r\n", b" 3\r\nabc\r\n", b"3\r\nabc0\r\n\r\n", b"3\r\nab\r\n0\r\n\r\n", b"g\r\n",
              b"3\rabc\r\n", b"+3\r\nabc\r\n", b"3\r\nabc\n0\r\n\r\n", b"3;a\rb\r\nabc\r\n", b"3;a\0\r\nabc\r\n",
              b"3,a\r\nabc\r\n", b";a\r\n", b"\r\n", b"3_0\r\n", b"8000000000000000\r\n", b"0\r\n A: b\r\n\r\n",
              b"0\r\nA : b\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n", b"0\r\nA\r\n\r\n",
              b"00000000000000003\r\nabc\r\n0\r\n\r\n"]


def test_chunks_that_are_valid(proxy):
    for body in CHUNKS:
        c = proxy.client()
        assert c.send(CHUNKED + body).response().json()["body"] == "abc", body
        assert c.request("GET", "/next").json()["target"] == "/next", body
        c.close()


def test_hex_digits_of_both_cases(proxy):
    for size in (b"1f", b"1F", b"01f"):
        assert len(ask(proxy, CHUNKED + size + b"\r\n" + b"x" * 31 + b"\r\n0\r\n\r\n").json()["body"]) == 31


def test_chunks_that_are_not(proxy, origin):
    for body in BAD_CHUNKS:
        refuses(proxy, origin, CHUNKED + body)


def test_thousands_of_small_chunks(proxy):
    r = ask(proxy, CHUNKED + b"1;x=y\r\nz\r\n" * 20000 + b"0\r\n\r\n")
    assert r.json()["body"] == "z" * 20000


def test_requests_cut_short_reach_nobody_as_whole(proxy, origin):
    for raw in (POST + b"Content-Length: 5\r\n\r\nabc", CHUNKED + b"5\r\nabc", CHUNKED + b"3\r\nabc\r\n0\r\n"):
        c = proxy.client().send(raw)
        c.sock.shutdown(socket.SHUT_WR)
        assert b" 200 " not in c.rest()
        c.close()
    assert not origin.requests


NO_TRAILERS = ["Host: x", "Content-Length: 1", "Transfer-Encoding: chunked", "Connection: x", "TE: x", "Upgrade: x",
               "Trailer: X", "Authorization: x", "Cookie: a=b", "Content-Type: a/b", "Range: x", "Expect: x"]


def test_trailers_stay_trailers_and_some_are_left_out(proxy, origin):
    coded = b"3\r\nabc\r\n0\r\n" + "".join(t + "\r\n" for t in NO_TRAILERS + ["X-Sum: 1", "x-b: "]).encode() + b"\r\n"
    r = ask(proxy, POST + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + coded)
    assert r.json()["trailers"] == ["X-Sum: 1", "x-b: "] and r.seen("X-Sum") is None
    assert r.seen("Trailer") == "X-Sum"
    origin.on("/t", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded)
    r = proxy.get("/t")
    assert r.trailers == ["X-Sum: 1", "x-b: "] and r.get("X-Sum") is None and r.get("Cookie") is None
    answer = proxy.raw(b"GET /t HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabc")


def test_trailers_named_by_connection_end_here(proxy, origin):
    coded = b"0\r\nX-A: 1\r\nX-B: 2\r\nWarning: 3\r\nETag: 4\r\n\r\n"
    head = b"Connection: x-a, etag\r\nConnection: WARNING\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert ask(proxy, POST + head + coded).json()["trailers"] == ["X-B: 2"]
    origin.on("/t", b"HTTP/1.1 200 OK\r\n" + head + coded)
    assert proxy.get("/t").trailers == ["X-B: 2"]


# ---- connections (RFC 9112, 9) ----

PERSISTS = [("1.1", [], True), ("1.1", ["close"], False), ("1.1", ["CLOSE"], False), ("1.1", ["x, close"], False),
            ("1.1", ["keep-alive, close"], False), ("1.1", ["keep-alive", "close"], False), ("1.1", ["closed"], True),
            ("1.1", ["keep-alive"], True), ("1.0", [], False), ("1.0", ["keep-alive"], True),
            ("1.0", ["Keep-Alive"], True), ("1.0", ["keep-alive, close"], False), ("1.2", [], True)]


def test_who_keeps_a_connection_and_who_does_not(proxy, origin):
    for version, options, persists in PERSISTS:
        n = len(origin.requests)
        raw = f"GET /1 HTTP/{version}\r\nHost: a\r\n" + "".join(f"Connection: {o}\r\n" for o in options) + "\r\n"
        c = proxy.client().send(raw + "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        first = c.response()
        assert ((first.get("Connection") or "") == "close") is not persists, (version, options)
        assert (c.rest().count(b"HTTP/1.1 200") == 1) is persists, (version, options)
        assert len(origin.requests) == n + (2 if persists else 1)
        c.close()


KEPT = [("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.1", "Connection: x, Close\r\n", False),
        ("1.0", "", False), ("1.0", "Connection: keep-alive\r\n", True)]


def test_which_connections_to_servers_are_kept(proxy, origin):
    for version, field, kept in KEPT:
        head = f"HTTP/{version} 200 OK\r\n{field}Content-Length: 2\r\n\r\nok".encode()
        origin.on("/k", lambda c, r: c.send(head))
        proxy.get("/fresh", {"Connection": "close"})
        c, n = proxy.client(), origin.n_connections
        ports = [c.request("GET", "/k").body for _ in range(4)]
        assert ports == [b"ok"] * 4
        assert (origin.n_connections - n <= 1) is kept, (version, field)
        c.close()


# ---- forwarding (RFC 9110, 7.6 to 7.8) ----

def test_fields_named_by_connection_end_here(proxy, origin):
    head = [("Connection", "x-a,\tAccept"), ("X-A", "1"), ("connection", "X-B"), ("Accept", "2"), ("x-b", "3"),
            ("X-C", "4"), ("Keep-Alive", "5"), ("Proxy-Connection", "6"), ("TE", "trailers"), ("Upgrade", "h2c")]
    gone = [k for k, _ in head if k != "X-C"]
    raw = "".join(f"{k}: {v}\r\n" for k, v in head).encode()
    r = ask(proxy, GET + raw + b"\r\n")
    assert [n for n in gone if r.seen(n) is not None] == [] and r.seen("X-C") == "4"
    origin.on("/c", b"HTTP/1.1 103 Early\r\n" + raw + b"\r\nHTTP/1.1 200 OK\r\n" + raw + b"Content-Length: 0\r\n\r\n")
    r = proxy.get("/c")
    for x in (r, r.interim[0]):
        assert [n for n in gone if x.get(n) is not None] == [] and x.get("X-C") == "4"


def test_via_grows_at_its_end(proxy):
    r = ask(proxy, GET + b"Via: 1.0 fred, 1.1 p.example (x)\r\nVia: 2 q\r\n\r\n")
    assert r.seen("Via") == "1.0 fred, 1.1 p.example (x), 2 q, 1.1 sluice"


FORWARDS = {"1": "0", "2": "1", "010": "9", "999999999": "999999998", "1000000000": "999999999",
            "99999999999999999999": "999999999"}


def test_max_forwards_of_any_size(proxy, origin):
    for method in ("OPTIONS", "TRACE"):
        for given, sent in FORWARDS.items():
            assert proxy.get("/", {"Max-Forwards": given}, method=method).seen("Max-Forwards") == sent
        n = len(origin.requests)
        for zero in ("0", "00", "0000000000000"):
            r = proxy.get("/", {"Max-Forwards": zero}, method=method)
            assert r.status == (204 if method == "OPTIONS" else 405) and r.get("Allow") == "OPTIONS"
        assert len(origin.requests) == n
    assert proxy.get("/").seen("Max-Forwards") is None


def test_a_loop_ends(sluice):
    port = free_port()
    s = sluice(f"LimitFields 30\nLoadModule route\nProxyPass http://127.0.0.1:{port}\n", port=port)
    assert s.get("/").status == 431


def switching(proxy, origin, fields, asked="websocket"):
    origin.on("/ws", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n" + fields + b"\r\n")
    return proxy.get("/ws", {"Connection": "upgrade", "Upgrade": asked})


def test_servers_switch_only_to_what_was_asked(sluice, origin):
    s = sluice("LoadModule route\nProxyUpgrade any\n" + f"ProxyPass http://{origin}\n").expect("SL0515")
    for fields in (b"", b"Upgrade: other\r\n", b"Upgrade: websocket, other\r\n", b"Upgrade:\r\n"):
        assert switching(s, origin, fields).status == 502, fields
    assert switching(s, origin, b"Upgrade: WebSocket\r\n").get("Upgrade") == "WebSocket"
    r = switching(s, origin, b"Upgrade: b/2\r\n", "a/1, B/2")
    assert r.status == 101 and r.get("Upgrade") == "b/2" and r.get("Connection") == "upgrade"


def test_upgrade_required_says_to_what(proxy, origin):
    origin.on("/u", reply(426, b"", [("Connection", "Upgrade"), ("Upgrade", "websocket")], reason="Upgrade Required"))
    c = proxy.client()
    r = c.request("GET", "/u")
    assert r.status == 426 and r.get("Upgrade") == "websocket" and r.get("Connection") == "upgrade"
    r = c.request("GET", "/u", {"Connection": "close"})
    assert r.get("Connection") == "upgrade, close" and c.closed()
    origin.on("/a", reply(200, b"", [("Connection", "Upgrade"), ("Upgrade", "h2c")]))
    assert proxy.get("/a").get("Upgrade") is None


def test_http_1_0_upgrades_nothing(proxy, origin):
    r = ask(proxy, b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert r.status == 200 and r.seen("Upgrade") is None


# ---- Expect and 1xx (RFC 9110, 10.1.1 and 15.2) ----

def test_expectations(proxy, origin):
    body = b"Content-Length: 3\r\n\r\nabc"
    for value in (b"100-continue", b"100-Continue"):
        r = ask(proxy, POST + b"Expect: " + value + b"\r\n" + body)
        assert [i.status for i in r.interim] == [100] and r.json()["body"] == "abc"
    for value in (b"100-continue", b"miracle"):
        r = ask(proxy, b"POST / HTTP/1.0\r\nExpect: " + value + b"\r\n" + body)
        assert r.interim == [] and r.seen("Expect") is None and r.json()["body"] == "abc"
    refuses(proxy, origin, POST + b"Expect: 200-ok\r\n" + body, 417)


def test_a_server_may_refuse_instead_of_100(proxy, origin):
    origin.on("/no", early(lambda c, r: (c.send(reply(417, b"", reason="No")), False)[1]))
    r = ask(proxy, b"POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert r.status == 417 and r.interim == [] and r.get("Connection") == "close"


def test_a_series_of_interim_responses(proxy, origin):
    wanted = [100, 102, 103, 199, 103]
    series = b"".join(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX-N: %d\r\n\r\n" % (s, n)
                      for n, s in enumerate(wanted))
    origin.on("/i", series + reply(200, b"ok"))
    r = proxy.get("/i")
    assert [i.status for i in r.interim] == wanted and r.body == b"ok"
    assert [i.get("X-N") for i in r.interim] == ["0", "1", "2", "3", "4"]
    assert all(i.get("Content-Length") is i.get("Transfer-Encoding") is None for i in r.interim)
    assert proxy.raw(b"GET /i HTTP/1.0\r\n\r\n").count(b"HTTP/1.1 ") == 1


# ---- responses (RFC 9112, 4 to 8; RFC 9110, 15) ----

METHODS = ["get", "GETS", "PATCH", "TRACE", "DELETE", "X_Y.Z~1", "!", "0", "M" * 200, "LINK"]


def test_methods_are_case_sensitive_and_any_token(proxy):
    for method in METHODS:
        assert proxy.get("/", method=method).json()["method"] == method


STATUS_LINES = {b"HTTP/1.1 200 OK": (200, "OK"), b"HTTP/1.1 299 ": (299, ""), b"HTTP/1.1 418 I'm\ta t\xe9": (418, "I'm\ta t\xe9"),
                b"HTTP/1.1 599 X": (599, "X"), b"HTTP/1.1 499 X  Y": (499, "X  Y"), b"HTTP/1.0 200 OK": (200, "OK"),
                b"HTTP/1.7 205 R": (205, "R"), b"HTTP/1.1 402": (402, "Payment Required")}


def test_status_lines_that_are_valid(proxy, origin):
    for line, (status, reason) in STATUS_LINES.items():
        origin.on("/s", line + b"\r\nContent-Length: 0\r\n\r\n")
        r = proxy.get("/s")
        assert r.version == "HTTP/1.1" and r.status == status, line
        assert r.line == f"HTTP/1.1 {status} {reason}", line


BAD_RESPONSES = [
    b"HTTP/1.1 099 X\r\n\r\n", b"HTTP/1.1 600 X\r\n\r\n", b"HTTP/1.1 999 X\r\n\r\n", b"HTTP/1.1 2 X\r\n\r\n",
    b"HTTP/1.1 2000 X\r\n\r\n", b"HTTP/1.1 200OK\r\n\r\n", b"HTTP/1.1  200 OK\r\n\r\n", b"HTTP/1.1\t200 OK\r\n\r\n",
    b"HTTP/1.1 -20 OK\r\n\r\n", b"HTTP/1.1 0x1 OK\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n", b"HTTP/1 200 OK\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n", b"ICY 200 OK\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n", b" HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 O\0K\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\n\r\n", b"HTTP/1.1 200 OK\n\r\n", b"<html>\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", b"HTTP/1.1 200 OK\r\n : b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\x01\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\xe9: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n",
] + [b"HTTP/1.1 200 OK\r\n" + f + b"\r\n\r\nabc" for f in (
    b"Content-Length: x", b"Content-Length: +3", b"Content-Length: -3", b"Content-Length:", b"Content-Length: 3, 3",
    b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 0x3", b"Content-Length: 9223372036854775808",
    b"Content-Length : 3\r\nContent-Length: 4", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:", b"Transfer-Encoding : chunked\r\nContent-Length: 3")] + [
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 103 X\r\nA b\r\n\r\n", b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 2 OK\r\n\r\n",
]


def test_responses_that_are_none_become_502(proxy, origin):
    proxy.expect("SL05")
    for raw in BAD_RESPONSES:
        origin.on("/bad", raw)
        c = proxy.client()
        r = c.request("GET", "/bad")
        assert r.status == 502, raw
        assert c.request("GET", "/good").json()["target"] == "/good", raw  # the client is not to blame
        c.close()


@pytest.mark.parametrize("coded", [b"x\r\n", b"3 \r\nabc\r\n", b"3\nabc\r\n", b"2\r\nabc\r\n", b"-1\r\n", b"0\r\nA\r\n\r\n",
                                   b"ffffffffffffffffff\r\n"])
def test_bad_chunks_of_responses_are_never_whole(proxy, origin, coded):
    proxy.expect("SL0514")
    origin.on("/b", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + coded)
    answer = proxy.raw(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not answer.endswith(b"0\r\n\r\n") or b" 502 " in answer


def test_white_space_before_the_colon_is_taken_out_of_responses(proxy, origin):
    origin.on("/w", b"HTTP/1.1 200 OK\r\nX-A : 1\r\nX-B\t :2\r\nContent-Length : 2\r\nX-C: 3\r\n\r\nok")
    c = proxy.client()
    c.send(b"GET /w HTTP/1.1\r\nHost: a\r\n\r\n")
    head = c.until(b"\r\n\r\n")
    for line in (b"X-A: 1", b"X-B: 2", b"Content-Length: 2", b"X-C: 3"):
        assert line in head.split(b"\r\n"), head
    assert c.exactly(2) == b"ok" and c.request("GET", "/x").status == 200
    c.close()


FRAMED = [(204, b"Content-Length: 5\r\n", None), (204, b"Transfer-Encoding: chunked\r\n", None), (204, b"", None),
          (304, b"Content-Length: 5\r\n", "5"), (304, b"Transfer-Encoding: chunked\r\n", None), (304, b"", None)]


def test_responses_without_a_body_say_no_more_than_they_may(proxy, origin):
    c = proxy.client()
    for status, field, length in FRAMED:
        origin.on("/s", b"HTTP/1.1 %d X\r\n" % status + field + b"\r\n")
        r = c.request("GET", "/s")
        assert r.get("Content-Length") == length and r.get("Transfer-Encoding") is None
    for field, length in ((b"Content-Length: 5\r\n", "5"), (b"", None), (b"Transfer-Encoding: chunked\r\n", None)):
        origin.on("/s", b"HTTP/1.1 200 X\r\n" + field + b"\r\n")
        r = c.request("HEAD", "/s")
        assert r.get("Content-Length") == length and r.get("Transfer-Encoding") is None
    c.close()


def test_responses_have_one_way_to_end(proxy, origin):
    for raw in (reply(200, b"ok"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"):
        origin.on("/o", raw)
        r = proxy.get("/o")
        assert (r.get("Content-Length") is None) != (r.get("Transfer-Encoding") is None) and r.body == b"ok"
    origin.on("/e", lambda c, r: (c.send(b"HTTP/1.0 200 OK\r\n\r\nold"), False)[1])
    assert proxy.get("/e").body == b"old"
    assert proxy.raw(b"GET /e HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nold")


def test_every_answer_has_a_date(proxy, origin):
    for status in (200, 302, 404, 500):
        origin.on("/d", reply(status, b"x"))
        assert proxy.get("/d").get("Date").endswith(" GMT")
    origin.on("/d", reply(200, b"x", [("Date", "Sun, 06 Nov 1994 08:49:37 GMT")]))
    assert proxy.get("/d").get("Date") == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert b"\r\nDate: " in proxy.raw(b"GET / HTTP/1.1\r\n\r\n")


def test_each_row_names_a_test_there_is():
    with open(os.path.join(TOP, "docs", "conformance.md")) as f:
        named = set(re.findall(r"`([a-z_0-9]+)::(\w+)`", f.read()))
        f.seek(0)
        units = set(re.findall(r"`unit/([a-z_0-9]+)::(\w+)`", f.read()))
    assert len(named) > 60 and len(units) > 10
    for file, name in named - {("bad_input", "name")}:
        with open(os.path.join(TOP, "test", "integration", f"test_{file}.py")) as f:
            assert f"def test_{name}(" in f.read(), f"{file}::{name}"
    for file, name in units:
        with open(os.path.join(TOP, "test", "unit", f"test_{file}.c")) as f:
            assert f"cmocka_unit_test({name})" in f.read(), f"unit/{file}::{name}"
    with open(__file__) as f:
        mine = re.findall(r"^def test_(\w+)\(", f.read(), re.M)
    assert {n for n in mine if ("conformance", n) not in named} == {"each_row_names_a_test_there_is"}
