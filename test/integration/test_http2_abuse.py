"""What clients of HTTP/2 must not do, by hand: refused, counted, bounded, and never another's harm."""
import re
import socket
import struct
import threading
import time

import pytest
from conftest import IS_SANITIZED
from h2client import (Answer, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM,
                      ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, HEADERS,
                      NO_ERROR, PADDED, PING, PREFACE, PRIORITY, PRIORITY_UPDATE, PROTOCOL_ERROR, PUSH_PROMISE,
                      REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, frame, settings)
from test_http2 import h2, websocket_backend  # noqa: F401, a fixture


def rss(s):
    return sum(int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{p}/status").read())[1]) for p in s.pids())


def send_all(c, data):
    """As far as the server lets it."""
    try:
        c.send(data)
    except OSError:
        pass


# ---- requests that are none: RFC 9113, 8 ----

MALFORMED = {
    "capitals": dict(extra=[("X-Big", "1")]),
    "connection": dict(extra=[("connection", "close")]),
    "transfer-encoding": dict(extra=[("transfer-encoding", "chunked")]),
    "upgrade": dict(extra=[("upgrade", "websocket")]),
    "keep-alive": dict(extra=[("keep-alive", "timeout=5")]),
    "proxy-connection": dict(extra=[("proxy-connection", "close")]),
    "te": dict(extra=[("te", "gzip")]),
    "no method": dict(method=None),
    "no path": dict(path=None),
    "no scheme": dict(scheme=None),
    "empty path": dict(path=""),
    "unknown pseudo-field": dict(extra=[(":foo", "bar")]),
    "pseudo-field behind a field": dict(fields=[(":method", "GET"), (":scheme", "http"), (":path", "/"),
                                                ("x", "y"), (":authority", "test")]),
    "doubled pseudo-field": dict(fields=[(":method", "GET"), (":method", "POST"), (":scheme", "http"),
                                         (":path", "/"), (":authority", "test")]),
    "status": dict(fields=[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")]),
    "CR": dict(extra=[("x", "a\rb")]),
    "LF": dict(extra=[("x", "a\nX-Evil: 1")]),
    "NUL": dict(extra=[("x", "a\0b")]),
    "NUL in the path": dict(path="/a\0b"),
    "blank in a name": dict(extra=[("x y", "1")]),
    "colon in a name": dict(extra=[("x:y", "1")]),
    "empty name": dict(extra=[("", "1")]),
    "blanks around a value": dict(extra=[("x", " a ")]),
    "two lengths": dict(extra=[("content-length", "1"), ("content-length", "1")]),
    "length no number": dict(extra=[("content-length", "+1")]),
    "two hosts": dict(authority=None, extra=[("host", "a"), ("host", "a")]),
    "method no token": dict(method="G T"),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_reach_nobody(h2, origin, what):
    c = h2().h2()
    k = dict(MALFORMED[what])
    a = c.get(**k)
    assert a.reset == PROTOCOL_ERROR or a.status == 400, (a.reset, a.status)
    assert not origin.requests
    assert c.get(path="/next").status == 200  # a stream's error is not the connection's


REFUSED = {
    "another Host": (dict(extra=[("host", "evil")]), 400),
    "bad host": (dict(authority="a b"), 400),
    "userinfo": (dict(authority="user@test"), 400),
    "bad port": (dict(authority="test:99999"), 400),
    "fragment": (dict(path="/a#b"), 400),
    "blank in the path": (dict(path="/a b"), 400),
    "path without slash": (dict(path="a"), 400),
    "NUL escaped": (dict(path="/%00"), 400),
    "star": (dict(path="*"), 400),
    "absolute path": (dict(path="http://evil/"), 400),
    "scheme of TLS": (dict(scheme="https"), 421),
    "foreign scheme": (dict(scheme="ftp"), 400),
    "expectation": (dict(extra=[("expect", "tea")]), 417),
    "connect": (dict(fields=[(":method", "CONNECT"), (":authority", "a:80")]), 501),
    "too many fields": (dict(extra=[(f"x-{i}", "y") for i in range(300)]), 431),
    "too large": (dict(extra=[("x", "y" * 40000)]), 431),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_http_1_refuses_is_refused(h2, origin, what):
    c = h2().h2()
    k, status = REFUSED[what]
    a = c.get(**k)
    assert a.status == status or (status == 400 and a.reset == PROTOCOL_ERROR), (a.status, a.reset)
    assert not origin.requests and c.get(path="/next").status == 200


def test_options_of_the_server_as_a_whole(h2, origin):
    s = h2("<VirtualHost *>\nProxyPass http://%s\n</VirtualHost>\n" % origin)
    assert s.h2().get("OPTIONS", "*").status == s.get("*", method="OPTIONS").status
    assert [r.target for r in origin.requests] in (["*", "*"], [])


def test_names_that_pass_for_others_are_left_out(h2):
    a = h2().h2().get(extra=[("x_forwarded_for", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"),
                             ("content_length", "5")])
    assert a.seen("x_forwarded_for") is None and a.seen("content_length") is None
    assert a.seen("X-Forwarded-For") == "127.0.0.1"


@pytest.mark.parametrize("said, sent", [("5", b"abc"), ("2", b"abc"), ("0", b"a")])
def test_bodies_of_another_length_than_said(h2, origin, said, sent):
    c = h2().h2()
    a = c.answer(c.request("POST", extra=[("content-length", said)], body=sent))
    assert a.reset == PROTOCOL_ERROR or (said == "0" and a.status == 200)
    assert c.get(path="/next").status == 200 and [r.body for r in origin.requests if r.method == "POST"] in ([], [b""], [None])


def test_trailers_are_checked_like_heads(h2, origin):
    c = h2().h2()
    for bad in (("X-Big", "1"), (":path", "/"), ("x", "a\nb")):
        stream = c.request("POST", body=b"x", end=False)
        c.frame(HEADERS, END_HEADERS | END_STREAM, stream, c.block([bad]))
        assert c.answer(stream).reset == PROTOCOL_ERROR
    stream = c.request("POST", body=b"x", end=False)
    c.frame(HEADERS, END_HEADERS, stream, c.block([("x", "y")]))  # without END_STREAM
    a = c.answer(stream)
    assert a.reset == PROTOCOL_ERROR or c.goaway.code == PROTOCOL_ERROR


# ---- frames in the wrong place: GOAWAY with the right code ----

def head(c, flags=END_HEADERS | END_STREAM, stream=1):
    return frame(HEADERS, flags, stream, c.block(c.fields()))


WRONG = {
    "DATA on stream 0": (lambda c: frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "DATA on an idle stream": (lambda c: frame(DATA, 0, 9, b"x"), PROTOCOL_ERROR),
    "HEADERS on stream 0": (lambda c: head(c, stream=0), PROTOCOL_ERROR),
    "HEADERS on an even stream": (lambda c: head(c, stream=2), PROTOCOL_ERROR),
    "RST_STREAM of an idle stream": (lambda c: frame(RST_STREAM, 0, 9, b"\0\0\0\0"), PROTOCOL_ERROR),
    "RST_STREAM too short": (lambda c: head(c) + frame(RST_STREAM, 0, 1, b"\0"), FRAME_SIZE_ERROR),
    "RST_STREAM on stream 0": (lambda c: frame(RST_STREAM, 0, 0, b"\0\0\0\0"), PROTOCOL_ERROR),
    "SETTINGS on a stream": (lambda c: frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": (lambda c: frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
    "SETTINGS ACK with bytes": (lambda c: frame(SETTINGS, 1, 0, settings(window=1)), FRAME_SIZE_ERROR),
    "a window too large": (lambda c: frame(SETTINGS, 0, 0, settings(window=1 << 31)), FLOW_CONTROL_ERROR),
    "a frame size too small": (lambda c: frame(SETTINGS, 0, 0, settings(frame=100)), PROTOCOL_ERROR),
    "push neither on nor off": (lambda c: frame(SETTINGS, 0, 0, settings(push=2)), PROTOCOL_ERROR),
    "PING of 7 bytes": (lambda c: frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "PING on a stream": (lambda c: frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "PUSH_PROMISE": (lambda c: frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + c.block(c.fields())), PROTOCOL_ERROR),
    "CONTINUATION alone": (lambda c: frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
    "another frame within a head": (lambda c: head(c, END_STREAM) + frame(PING, 0, 0, b"12345678"), PROTOCOL_ERROR),
    "a frame larger than allowed": (lambda c: head(c, END_HEADERS) + frame(DATA, 0, 1, b"x" * 16385), FRAME_SIZE_ERROR),
    "padding longer than the frame": (lambda c: head(c, END_HEADERS) + frame(DATA, PADDED, 1, b"\xffx"), PROTOCOL_ERROR),
    "WINDOW_UPDATE by 0": (lambda c: frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), PROTOCOL_ERROR),
    "windows beyond 2^31": (lambda c: frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR),
    "WINDOW_UPDATE of 3 bytes": (lambda c: frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (lambda c: frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL_ERROR),
    "HPACK nonsense": (lambda c: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
    "HPACK index 0": (lambda c: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"), COMPRESSION_ERROR),
    "HPACK table too large": (lambda c: frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x3f\xe1\xff\x7f"), COMPRESSION_ERROR),
    "PRIORITY_UPDATE on a stream": (lambda c: frame(PRIORITY_UPDATE, 0, 1, b"\0\0\0\1u=1"), PROTOCOL_ERROR),
}


@pytest.mark.parametrize("what", WRONG)
def test_frames_in_the_wrong_place(h2, what):
    s = h2("LogLevel info\n")
    other = s.h2()
    c = s.h2()
    assert c.ping()
    make, code = WRONG[what]
    c.answers[1] = c.answers[2] = Answer()  # whatever comes
    send_all(c, make(c))
    assert c.ended() == code
    assert s.logged("HTTP20001 client 127.0.0.1: .*; its connection is closed")
    assert other.get().status == 200


# Each kind of frame for a stream that is open, half closed, closed, a tunnel: nothing, or the code of
# the stream's reset, or that of the connection's end.
NOTHING = (None, None)
BAD_STREAM, NO_ROOM = (PROTOCOL_ERROR, None), (FLOW_CONTROL_ERROR, None)
BAD, CLOSED = (None, PROTOCOL_ERROR), (None, STREAM_CLOSED)
STATES = {
    "DATA": (lambda c: frame(DATA, 0, 1, b"x"), [NOTHING, CLOSED, NOTHING, NOTHING]),
    "HEADERS": (lambda c: head(c), [BAD_STREAM, CLOSED, NOTHING, BAD_STREAM]),
    "trailers": (lambda c: frame(HEADERS, END_HEADERS | END_STREAM, 1, c.block([("x", "y")])),
                 [NOTHING, CLOSED, NOTHING, NOTHING]),
    "PRIORITY": (lambda c: frame(PRIORITY, 0, 1, b"\0\0\0\1\x10"), [NOTHING] * 4),
    "RST_STREAM": (lambda c: frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), [NOTHING] * 4),
    "SETTINGS": (lambda c: frame(SETTINGS, 0, 1), [BAD] * 4),
    "PUSH_PROMISE": (lambda c: frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"), [BAD] * 4),
    "PING": (lambda c: frame(PING, 0, 1, b"12345678"), [BAD] * 4),
    "GOAWAY": (lambda c: frame(GOAWAY, 0, 1, b"\0" * 8), [BAD] * 4),
    "WINDOW_UPDATE": (lambda c: frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), [NOTHING] * 4),
    "WINDOW_UPDATE by 0": (lambda c: frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\0"), [BAD, BAD, NOTHING, BAD]),
    "a window too large": (lambda c: frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
                           [NO_ROOM, NO_ROOM, NOTHING, NO_ROOM]),
    "CONTINUATION": (lambda c: frame(CONTINUATION, END_HEADERS, 1), [BAD] * 4),
    "PRIORITY_UPDATE": (lambda c: frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=9,\xff"), [NOTHING] * 4),
    "unknown": (lambda c: frame(0x55, 0xff, 1, b"xyz"), [NOTHING] * 4),
}


def brought_to(c, state):
    """A connection whose stream 1 is in this state."""
    if state == "closed":
        assert c.get().status == 200
    elif state == "tunnel":
        c.request("CONNECT", "/ws", protocol="websocket", end=False)
        assert c.until(lambda: c.answers[1].status) and c.answers[1].status == 200
    else:
        c.request("POST", "/wait", end=state == "half closed")


@pytest.mark.parametrize("what", STATES)
def test_frames_in_the_wrong_state(h2, origin, what):
    gate = threading.Event()
    origin.on("/wait", lambda c, r: gate.wait(20))
    origin.on("/ws", websocket_backend)
    s = h2("LogLevel info\n")
    make, outcomes = STATES[what]
    for state, (reset, end) in zip(("open", "half closed", "closed", "tunnel"), outcomes):
        c = s.h2()
        brought_to(c, state)
        send_all(c, make(c))
        if reset is not None:
            c.answer(1)
        assert c.ping() == (end is None), state
        assert (c.answers[1].reset, c.goaway and c.goaway.code) == (reset, end), state
        c.close()
    if any(end is not None for _, end in outcomes):
        assert s.logged("HTTP20001 client 127.0.0.1: .*; its connection is closed")
    assert s.h2().get().status == 200
    gate.set()


def test_what_is_unknown_is_ignored(h2):
    c = h2().h2()
    c.frame(0x77, 0xff, 0, b"whatever").frame(SETTINGS, 0, 0, b"\x77\x77\0\0\0\1").frame(PRIORITY, 0, 1, b"\0\0\0\0\x10")
    assert c.get().status == 200


def test_frames_for_streams_that_are_over(h2):
    c = h2().h2()
    stream = c.request()
    assert c.answer(stream).status == 200
    c.window(stream, 100).reset(stream)
    assert c.get().status == 200


@pytest.mark.parametrize("first", [b"GET / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + b"\0" * 40,
                                   PREFACE + b"\xff" * 60, PREFACE + frame(PING, 0, 0, b"12345678")],
                         ids=["HTTP/2 by name", "another preface", "garbage", "no SETTINGS"])
def test_bad_beginnings(h2, first):
    s = h2()
    c = s.client()
    c.send(first)
    c.sock.settimeout(5)
    c.rest()
    assert s.h2().get().status == 200


# ---- floods ----

@pytest.mark.parametrize("code", [CANCEL, NO_ERROR])
def test_rapid_reset(h2, origin, code):
    origin.on("/wait", lambda c, r: time.sleep(1))
    s = h2("HTTP2Resets 50\nLogLevel info\n")
    c = s.h2()
    assert c.ping()
    for i in range(80):
        stream, c.next_id = c.next_id, c.next_id + 2
        send_all(c, frame(HEADERS, END_HEADERS | END_STREAM, stream, c.block(c.fields(path="/wait"))) +
                 frame(RST_STREAM, 0, stream, struct.pack(">I", code)))
    assert c.ended() == ENHANCE_YOUR_CALM and s.logged("HTTP20001 .*HTTP2Resets")
    assert s.h2().get().status == 200


def test_resets_provoked(h2):
    """Streams that the server resets for what the client does count alike."""
    s = h2("HTTP2Resets 50\n")
    c = s.h2()
    assert c.ping()
    for i in range(80):
        stream, c.next_id = c.next_id, c.next_id + 2
        send_all(c, frame(HEADERS, END_HEADERS | END_STREAM, stream, c.block(c.fields(extra=[("connection", "x")]))))
    assert c.ended() == ENHANCE_YOUR_CALM


def test_resets_within_what_is_allowed(h2, origin):
    origin.on("/wait", lambda c, r: time.sleep(0.1))
    c = h2("HTTP2Resets 50\n").h2()
    for _ in range(40):
        c.reset(c.request(path="/wait"))
    assert c.get().status == 200


FLOODS = {
    "PING": frame(PING, 0, 0, b"12345678"),
    "SETTINGS": frame(SETTINGS, 0, 0, settings(window=65535)),
    "PRIORITY": frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"),
    "PRIORITY_UPDATE": frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=1"),
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_of_control_frames(h2, what):
    s = h2("HTTP2ControlFrames 500\nLogLevel info\n")
    c = s.h2()
    assert c.ping()
    before = rss(s)
    for _ in range(20):
        send_all(c, FLOODS[what] * 100)
    assert c.ended() == ENHANCE_YOUR_CALM
    assert s.logged("HTTP20001") and rss(s) - before < (40000 if IS_SANITIZED else 4000)
    assert s.h2().get().status == 200


@pytest.mark.parametrize("flags, payload", [(0, b""), (PADDED, b"\0"), (PADDED, b"\x07" + b"\0" * 7)],
                         ids=["empty", "no padding", "padding"])
def test_flood_of_empty_data(h2, flags, payload):
    c = h2("HTTP2ControlFrames 500\n").h2()
    stream = c.request("POST", end=False)
    assert c.ping()
    for _ in range(20):
        send_all(c, frame(DATA, flags, stream, payload) * 100)
    assert c.ended() == ENHANCE_YOUR_CALM


def test_padding_around_data_is_no_flood(h2):
    c = h2("HTTP2ControlFrames 50\n").h2()
    stream = c.request("POST", end=False)
    c.send(frame(DATA, PADDED, stream, b"\2x\0\0") * 200 + frame(DATA, PADDED | END_STREAM, stream, b"\2\0\0"))
    assert c.answer(stream).json()["body"] == "x" * 200


def test_continuation_flood(h2):
    s = h2("LogLevel info\n")
    c = s.h2()
    assert c.ping()
    send_all(c, frame(HEADERS, END_STREAM, 1, c.block(c.fields())))
    for _ in range(1000):
        send_all(c, frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 20))
    assert c.ended() == ENHANCE_YOUR_CALM and s.logged("HTTP20001")
    assert s.h2().get().status == 200


def test_hpack_bomb(h2):
    """A table entry of 4 KB named again and again: 64 MB in one frame."""
    s = h2()
    c = s.h2()
    assert c.ping()
    before = rss(s)
    bomb = c.block(c.fields()) + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4000 + b"\xbe" * 12000
    for _ in range(20):
        stream, c.next_id = c.next_id, c.next_id + 2
        c.answers[stream] = Answer()
        send_all(c, frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb))
        c.encoder = type(c.encoder)()
        a = c.answer(stream)
        assert a.status == 431
    assert rss(s) - before < (60000 if IS_SANITIZED else 8000)


def test_more_streams_than_allowed(h2, origin):
    origin.on("/wait", lambda c, r: time.sleep(0.3))
    c = h2("HTTP2Streams 3\n").h2()
    c.until(lambda: c.settings)
    streams = [c.request(path="/wait") for _ in range(5)]
    c.until(lambda: c.goaway is not None or c.answers[streams[4]].reset is not None)
    assert c.goaway is not None or c.answers[streams[4]].reset in (REFUSED_STREAM, PROTOCOL_ERROR)


def test_tiny_windows(h2, origin):
    """A byte at a time: answered slowly, and no more than HTTP2ControlFrames of it."""
    origin.on("/big", b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000)
    s = h2("HTTP2ControlFrames 500\n")
    c = s.h2(auto_window=False, window=1)
    stream = c.request(path="/big")
    for _ in range(3000):
        send_all(c, frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1"))
    assert c.ended() == ENHANCE_YOUR_CALM and len(c.answers[stream].body) < 3000


def test_windows_that_go_negative(h2, origin):
    origin.on("/big", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + b"x" * 90000)
    c = h2().h2(auto_window=False)
    stream = c.request(path="/big")
    c.until(lambda: len(c.answers[stream].body) >= 65535)
    c.frame(SETTINGS, 0, 0, settings(window=0)).window(0, 1 << 20)
    assert c.ping() and len(c.answers[stream].body) == 65535
    c.window(stream, 1 << 20)
    assert len(c.answer(stream).body) == 90000


def test_more_than_the_window(h2):
    nobody = socket.create_server(("127.0.0.1", 0))  # takes nothing
    c = h2(target="127.0.0.1:%d" % nobody.getsockname()[1]).h2()
    assert c.ping()
    stream = c.request("POST", "/x", end=False)
    for _ in range(1000):
        send_all(c, frame(DATA, 0, stream, b"x" * 16384))
    c.answer(stream)
    assert FLOW_CONTROL_ERROR in (c.answers[stream].reset, c.goaway and c.goaway.code)
    nobody.close()


def test_a_client_that_leaves_in_the_middle(h2, origin):
    origin.on("/wait", lambda c, r: time.sleep(0.2))
    s = h2()
    for n in (0, 5, 20, 60):
        c = s.h2()
        for _ in range(n):
            c.request(path="/wait")
        c.request("POST", body=b"x" * 1000, end=False)
        c.close()
    assert s.h2().get().status == 200


def test_errors_of_a_client_are_a_line_a_minute(h2):
    """Else one client fills the disk."""
    s = h2("LogLevel info\n")
    for _ in range(50):
        c = s.h2()
        c.frame(DATA, 0, 0, b"x")
        assert c.ended() == PROTOCOL_ERROR
    s.stop()
    assert s.log().count("HTTP20001") == 1
    assert re.search("SL0218 client 127.0.0.1: 49 more within a minute; the last: ", s.log())
