"""mod_gzip, mod_brotli and mod_zstd."""
import ctypes
import gzip
import os
import subprocess
import time
import zlib

import pytest
from conftest import MODULES
from origin import reply

HAS = [m for m in ("gzip", "brotli", "zstd") if os.path.exists(f"{MODULES}/mod_{m}.so")]
CODING = {"gzip": "gzip", "brotli": "br", "zstd": "zstd"}
NAME = {"gzip": "Gzip", "brotli": "Brotli", "zstd": "Zstd"}
each = pytest.mark.parametrize("module", HAS)
all_three = pytest.mark.skipif(len(HAS) < 3, reason="built without brotli or zstd")
HTML = b"<html><body>" + b"".join(b'<div class="item" id="i%d">Item %d</div>\n' % (i, i * 7919 % 1000)
                                  for i in range(500)) + b"</body></html>"
TYPE = ("Content-Type", "text/html; charset=utf-8")


def decoded(coding, data):
    if coding == "gzip":
        return gzip.decompress(data)
    if coding == "br":
        lib, n = ctypes.CDLL("libbrotlidec.so.1"), ctypes.c_size_t(1 << 25)
        out = ctypes.create_string_buffer(n.value)
        assert lib.BrotliDecoderDecompress(ctypes.c_size_t(len(data)), data, ctypes.byref(n), out) == 1
        return out.raw[:n.value]
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout


def encoded(coding, data):
    if coding == "gzip":
        return gzip.compress(data)
    if coding == "br":
        lib = ctypes.CDLL("libbrotlienc.so.1")
        n = ctypes.c_size_t(len(data) + 1000)
        out = ctypes.create_string_buffer(n.value)
        assert lib.BrotliEncoderCompress(5, 22, 0, ctypes.c_size_t(len(data)), data, ctypes.byref(n), out)
        return out.raw[:n.value]
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def conf(origin, *modules, extra=""):
    return ("LoadModule route\n" + "".join(f"LoadModule {m}\n{NAME[m]} on\n" for m in modules) +
            extra + f"ProxyPass {origin}\n")


def page(origin, path="/", body=HTML, status=200, fields=(), **k):
    origin.on(path, reply(status, body, [TYPE, *fields], **k))


@each
@pytest.mark.parametrize("length", [True, False])
def test_round_trip(sluice, origin, module, length):
    coding = CODING[module]
    for n in (1, 1024, 4096, 65536, 70000, 1000000):
        body = (HTML * (n // len(HTML) + 1))[:n]
        page(origin, f"/{n}", body)
        if not length:
            page_bytes = reply(200, body, [TYPE, ("Connection", "close")], length=False)
            origin.on(f"/{n}", lambda c, r, b=page_bytes: (c.send(b), c.close()))
    s = sluice(conf(origin, module, extra=f"{NAME[module]}MinSize 1\n"))
    c = s.client()
    for n in (1, 1024, 4096, 65536, 70000, 1000000, 70000, 1):  # states are used again
        r = c.request("GET", f"/{n}", {"Accept-Encoding": coding})
        assert r.get("Content-Encoding") == coding and r.get("Vary") == "Accept-Encoding"
        assert r.get("Content-Length") is None
        assert decoded(coding, r.body) == (HTML * (n // len(HTML) + 1))[:n]
        assert n < 4096 or len(r.body) < n / 2
    c.close()


@each
def test_every_level(sluice, origin, module):
    page(origin)
    levels = {"gzip": range(1, 10), "brotli": range(0, 7), "zstd": range(1, 13)}[module]
    places = "".join(f"<Location /{i}>\n{NAME[module]}Level {i}\nStripPrefix /{i}\n</Location>\n" for i in levels)
    s = sluice(conf(origin, module, extra=places))
    for i in levels:
        r = s.get(f"/{i}/", {"Accept-Encoding": CODING[module]})
        assert decoded(CODING[module], r.body) == HTML


@all_three
@pytest.mark.parametrize("accept, coding", [
    (None, None), ("", None), ("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("zstd, gzip", "zstd"),
    ("gzip;q=1.0, br;q=0.9", "gzip"), ("br;q=0", None), ("*", "br"), ("br;q=0, *", "zstd"),
    ("identity, gzip;q=0.5", None), ("identity;q=0", None), ("identity;q=0, gzip;q=0.001", "gzip"),
    ("x-gzip", "gzip"), ("deflate", None), ("gzip;q=bad", None), ("gzip;q=0.5, identity;q=0.5", "gzip")])
def test_negotiation(sluice, origin, accept, coding):
    page(origin)
    s = sluice(conf(origin, "gzip", "zstd", "brotli"))
    r = s.get("/", {} if accept is None else {"Accept-Encoding": accept})
    assert r.get("Content-Encoding") == coding and r.get("Vary") == "Accept-Encoding"
    assert (decoded(coding, r.body) if coding else r.body) == HTML


@all_three
def test_lines_of_accept_encoding_are_one_list(sluice, origin):
    page(origin)
    s = sluice(conf(origin, "gzip", "brotli"))
    c = s.client()
    r = c.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br;q=0.1\r\nAccept-Encoding: gzip\r\n\r\n").response()
    c.close()
    assert r.get("Content-Encoding") == "gzip"


@all_three
def test_each_scope_has_its_own_codings(sluice, origin):
    page(origin)
    s = sluice("LoadModule route\nLoadModule gzip\nLoadModule brotli\nLoadModule zstd\nGzip on\n"
               "<Location /br>\nBrotli on\nStripPrefix /br\n</Location>\n"
               "<Location /none>\nGzip off\nStripPrefix /none\n</Location>\n"
               f"<Location /zstd>\nGzip off\nZstd on\nStripPrefix /zstd\n</Location>\nProxyPass {origin}\n")
    every = {"Accept-Encoding": "gzip, br, zstd"}
    for path, coding in (("/", "gzip"), ("/br/", "br"), ("/none/", None), ("/zstd/", "zstd")):
        assert s.get(path, every).get("Content-Encoding") == coding
    assert s.get("/none/", every).get("Vary") is None


GZIP = {"Accept-Encoding": "gzip"}


def test_what_is_left_as_it_is(sluice, origin):
    made = gzip.compress(HTML)
    cases = {
        "/short": reply(200, HTML[:1023], [TYPE]),
        "/empty": reply(200, b"", [TYPE]),
        "/image": reply(200, HTML, [("Content-Type", "image/png")]),
        "/untyped": reply(200, HTML),
        "/encoded": reply(200, made, [TYPE, ("Content-Encoding", "gzip"), ("ETag", '"a"')]),
        "/other": reply(200, HTML, [TYPE, ("Content-Encoding", "aws-chunked")]),
        "/fixed": reply(200, HTML, [TYPE, ("Cache-Control", "public, No-Transform"), ("ETag", '"a"')]),
        "/none": reply(204, b"", [TYPE], length=False),
    }
    for path, answer in cases.items():
        origin.on(path, answer)
    s = sluice(conf(origin, "gzip"))
    for path, answer in cases.items():
        r = s.get(path, GZIP)
        assert r.body == answer.split(b"\r\n\r\n", 1)[1], path
        assert r.get("Vary") is None and r.get("ETag") in (None, '"a"'), path
    assert s.get("/encoded", GZIP).get("Content-Encoding") == "gzip"
    origin.on("/identity", reply(200, HTML, [TYPE, ("Content-Encoding", "identity")]))
    r = s.get("/identity", GZIP)
    assert r.get("Content-Encoding") == "gzip" and gzip.decompress(r.body) == HTML


def test_fields(sluice, origin):
    page(origin, fields=[("ETag", '"abc"'), ("Content-MD5", "x"), ("Digest", "x"), ("Content-Digest", "x"),
                         ("Repr-Digest", "x"), ("Accept-Ranges", "bytes"), ("Vary", "Origin"), ("Vary", "Cookie"),
                         ("X-Else", "1")])
    s = sluice(conf(origin, "gzip"))
    r = s.get("/", GZIP)
    assert [v for k, v in r.fields if k == "Vary"] == ["Origin, Cookie, Accept-Encoding"]
    assert r.get("ETag") == 'W/"abc"' and r.get("X-Else") == "1"
    for gone in ("Content-MD5", "Digest", "Content-Digest", "Repr-Digest", "Accept-Ranges", "Content-Length"):
        assert r.get(gone) is None, gone
    r = s.get("/")
    assert [v for k, v in r.fields if k == "Vary"] == ["Origin, Cookie, Accept-Encoding"]
    assert r.get("ETag") == '"abc"' and r.get("Digest") == "x" and r.get("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("vary, becomes", [("*", "*"), ("accept-encoding", "accept-encoding"),
                                           ("Origin,ACCEPT-ENCODING", "Origin,ACCEPT-ENCODING"), ("", "Accept-Encoding")])
def test_vary_is_merged(sluice, origin, vary, becomes):
    page(origin, fields=[("Vary", vary)])
    assert sluice(conf(origin, "gzip")).get("/", GZIP).get("Vary") == becomes


@pytest.mark.parametrize("etag, becomes", [('W/"a"', 'W/"a"'), ('""', 'W/""'), ("bare", None)])
def test_etags(sluice, origin, etag, becomes):
    page(origin, fields=[("ETag", etag)])
    assert sluice(conf(origin, "gzip")).get("/", GZIP).get("ETag") == becomes


def test_head_has_the_fields_of_get(sluice, origin):
    head = reply(200, HTML, [TYPE, ("ETag", '"abc"')]).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    unknown = reply(200, b"", [TYPE], length=False)
    short = head.replace(str(len(HTML)).encode(), b"1023")
    for path, answer in (("/", head), ("/unknown", unknown), ("/short", short)):
        origin.on(path, answer)
    s = sluice(conf(origin, "gzip"))
    r = s.get("/", GZIP, method="HEAD")
    assert (r.get("Content-Encoding"), r.get("Vary"), r.get("ETag")) == ("gzip", "Accept-Encoding", 'W/"abc"')
    assert r.get("Content-Length") is None
    r = s.get("/", method="HEAD")
    assert (r.get("Content-Encoding"), r.get("Vary"), r.get("ETag")) == (None, "Accept-Encoding", '"abc"')
    assert r.get("Content-Length") == str(len(HTML))
    assert s.get("/unknown", GZIP, method="HEAD").get("Content-Encoding") == "gzip"
    r = s.get("/short", GZIP, method="HEAD")
    assert (r.get("Content-Encoding"), r.get("Vary"), r.get("Content-Length")) == (None, None, "1023")


@pytest.mark.parametrize("asked, becomes", [('W/"abc"', 'W/"abc"'), ('"abc"', '"abc"'), ('W/"abc", "abc"', '"abc"'),
                                            ('"x", W/"abc"', 'W/"abc"'), ('W/"x"', '"abc"'), (None, '"abc"')])
def test_not_modified(sluice, origin, asked, becomes):
    origin.on("/", reply(304, b"", [("ETag", '"abc"')], length=False))
    origin.on("/image", reply(304, b"", [("ETag", '"abc"'), ("Content-Type", "image/png")], length=False))
    s = sluice(conf(origin, "gzip"))
    fields = {**GZIP, **({"If-None-Match": asked} if asked else {})}
    r = s.get("/", fields)
    assert r.status == 304 and r.get("Vary") == "Accept-Encoding" and r.get("ETag") == becomes
    r = s.get("/image")
    assert r.get("Vary") is None and r.get("ETag") == '"abc"'


def test_ranges_are_not_encoded(sluice, origin):
    part = reply(206, HTML[:5000], [TYPE, ("Content-Range", f"bytes 0-4999/{len(HTML)}"), ("ETag", '"abc"')])

    def whole_or_part(c, r):
        c.send(part if r.target == "/part" else reply(200, HTML, [TYPE]))
    origin.on("/part", whole_or_part)
    origin.on("/whole", whole_or_part)
    s = sluice(conf(origin, "gzip"))
    r = s.get("/part", {**GZIP, "Range": "bytes=0-4999"})
    assert r.status == 206 and r.body == HTML[:5000] and r.get("Content-Encoding") is None
    assert r.get("Vary") == "Accept-Encoding" and r.get("ETag") == '"abc"'
    r = s.get("/whole", {**GZIP, "Range": "bytes=0-"})
    assert r.body == HTML and r.get("Vary") == "Accept-Encoding"
    assert s.get("/whole", {**GZIP, "Cache-Control": "no-transform"}).body == HTML


def test_types(sluice, origin):
    for path, kind in (("/a", "TEXT/HTML ;charset=x"), ("/b", "application/x-mine"), ("/c", "audio/x"), ("/d", "audiobook/x")):
        origin.on(path, reply(200, HTML, [("Content-Type", kind)]))
    s = sluice(conf(origin, "gzip", extra="GzipTypes application/x-mine audio/*\n"
                    "<Location /only>\nGzipTypes - audio/*\nStripPrefix /only\n</Location>\n"
                    "<Location /all>\nGzipTypes *\nStripPrefix /all\n</Location>\n"))
    got = {p: s.get(p, GZIP).get("Content-Encoding") for p in ("/a", "/b", "/c", "/d", "/only/a", "/only/c", "/all/d")}
    assert got == {"/a": "gzip", "/b": "gzip", "/c": "gzip", "/d": None, "/only/a": None, "/only/c": "gzip", "/all/d": "gzip"}


@pytest.mark.parametrize("field, is_left", [(("Set-Cookie", "a=b"), True), (("Cache-Control", "max-age=0, private"), True),
                                            (("Cache-Control", 'private="x"'), True), (("Cache-Control", "no-store"), True),
                                            (("Cache-Control", "public"), False)])
def test_private_responses_can_be_left_alone(sluice, origin, field, is_left):
    page(origin, fields=[field])
    s = sluice(conf(origin, "gzip", extra="<Location /guarded>\nGzipPrivate off\nStripPrefix /guarded\n</Location>\n"))
    assert s.get("/", GZIP).get("Content-Encoding") == "gzip"
    r = s.get("/guarded/", GZIP)
    assert (r.get("Content-Encoding"), r.get("Vary")) == ((None, None) if is_left else ("gzip", "Accept-Encoding"))


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_streams_stay_live(sluice, origin):
    """Each event is readable at the client before the server sends the next."""
    go = []

    def events(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(5):
            while len(go) <= i:
                time.sleep(0.005)
            c.send(chunk(b"data: %d\n\n" % i))
        c.send(b"0\r\n\r\n")
    origin.on("/", events)
    s = sluice(conf(origin, "gzip", extra="GzipTypes text/event-stream\n"))
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
    head = c.until(b"\r\n\r\n")  # before the first event
    assert b"Content-Encoding: gzip" in head
    z, text = zlib.decompressobj(31), b""
    for i in range(5):
        go.append(1)
        while b"data: %d\n\n" % i not in text:
            text += z.decompress(c.exactly(int(c.until(b"\r\n"), 16) + 2)[:-2])
    c.close()


def test_slow_pieces_of_known_length_are_passed_on(sluice, origin):
    go = []

    def slow(c, r):
        c.send(reply(200, HTML, [TYPE])[:-len(HTML)] + HTML[:2000])
        while not go:
            time.sleep(0.005)
        c.send(HTML[2000:])
    origin.on("/", slow)
    s = sluice(conf(origin, "gzip"))
    c = s.client()
    c.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
    c.until(b"\r\n\r\n")
    z, text = zlib.decompressobj(31), b""
    while len(text) < 2000:
        text += z.decompress(c.exactly(int(c.until(b"\r\n"), 16) + 2)[:-2])
    go.append(1)
    while not z.eof:
        text += z.decompress(c.exactly(int(c.until(b"\r\n"), 16) + 2)[:-2])
    assert text == HTML
    c.close()


def test_a_cut_body_is_not_made_whole(sluice, origin):
    def cut(c, r):
        c.send(reply(200, HTML, [TYPE])[:-5])
        c.reset()
    origin.on("/", cut)
    s = sluice(conf(origin, "gzip")).expect("SL0509", "SL0501", "SL0503")
    got = s.raw("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")
    assert b"0\r\n\r\n" not in got[-5:]


def test_old_clients(sluice, origin):
    page(origin)
    got = sluice(conf(origin, "gzip")).raw("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
    assert gzip.decompress(got.split(b"\r\n\r\n", 1)[1]) == HTML


def test_clients_that_leave_give_their_states_back(sluice, origin):
    big = os.urandom(1 << 20).hex().encode()
    page(origin, body=big)
    s = sluice(conf(origin, "gzip"))
    for _ in range(30):
        c = s.client()
        c.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n").until(b"\r\n\r\n")
        c.close()
    assert gzip.decompress(s.get("/", GZIP).body) == big


# ---- decoding ----

@each
def test_decoded_for_clients_that_cannot(sluice, origin, module):
    coding = CODING[module]
    made = encoded(coding, HTML)
    page(origin, body=made, fields=[("Content-Encoding", coding), ("ETag", '"z"')])
    s = sluice(conf(origin, module, extra=f"{NAME[module]}Decode on\n"))
    r = s.get("/")
    assert r.body == HTML and r.get("Content-Encoding") is None
    assert r.get("ETag") == 'W/"z"' and r.get("Vary") == "Accept-Encoding"
    r = s.get("/", {"Accept-Encoding": coding})
    assert r.body == made and r.get("Content-Encoding") == coding
    assert r.get("ETag") == '"z"' and r.get("Vary") == "Accept-Encoding"
    r = s.get("/", method="HEAD")
    assert r.get("Content-Encoding") is None and r.get("Content-Length") is None


@each
def test_decoded_in_any_pieces(sluice, origin, module):
    made = encoded(CODING[module], HTML)

    def pieces(c, r):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: %s\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n" % CODING[module].encode())
        for i in range(0, len(made), 97):
            c.send(chunk(made[i:i + 97]))
        c.send(b"0\r\n\r\n")
    origin.on("/", pieces)
    s = sluice(conf(origin, module, extra=f"{NAME[module]}Decode on\n"))
    assert s.get("/").body == HTML


@all_three
def test_decoded_and_encoded_anew(sluice, origin):
    page(origin, body=gzip.compress(HTML), fields=[("Content-Encoding", "gzip")])
    s = sluice(conf(origin, "gzip", "brotli", extra="GzipDecode on\n"))
    r = s.get("/", {"Accept-Encoding": "br"})
    assert r.get("Content-Encoding") == "br" and decoded("br", r.body) == HTML
    assert s.get("/").body == HTML


@pytest.mark.parametrize("module", [m for m in HAS if m != "brotli"])
def test_several_members(sluice, origin, module):
    coding = CODING[module]
    page(origin, body=encoded(coding, HTML) + encoded(coding, b"more"), fields=[("Content-Encoding", coding)])
    assert sluice(conf(origin, module, extra=f"{NAME[module]}Decode on\n")).get("/").body == HTML + b"more"


@each
@pytest.mark.parametrize("how", ["cut", "junk"])
def test_bodies_that_do_not_decode_are_cut(sluice, origin, module, how):
    made = encoded(CODING[module], HTML)
    made = made[:-20] if how == "cut" else os.urandom(3) + made
    page(origin, body=made, fields=[("Content-Encoding", CODING[module])])
    s = sluice(conf(origin, module, extra=f"{NAME[module]}Decode on\n")).expect("SL0463", "SL0507")
    got = s.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert not got.endswith(b"0\r\n\r\n")


def memory_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return int([l for l in f if l.startswith("VmRSS")][0].split()[1])


@each
@pytest.mark.parametrize("length", [True, False])
def test_a_bomb_waits_for_its_client(sluice, origin, module, length):
    """200 MB of zeros in a small body: memory stays small while nobody reads, and all comes."""
    n = 200 << 20
    made = encoded(CODING[module], bytes(n))
    page(origin, body=made, fields=[("Content-Encoding", CODING[module])])
    if not length:
        origin.on("/", lambda c, r: (c.send(reply(200, made, [TYPE, ("Content-Encoding", CODING[module])],
                                                  length=False)), c.close()))
    s = sluice(conf(origin, module, extra=f"{NAME[module]}Decode on\n"))
    s.get("/else")
    worker = s.pids()[-1]
    before = memory_kb(worker)
    c = s.client(timeout=60)
    c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").until(b"\r\n\r\n")
    time.sleep(0.5)
    grown = memory_kb(worker) - before
    assert grown < 40000, grown
    got = 0
    while True:
        size = int(c.until(b"\r\n"), 16)
        if size == 0:
            break
        got += size
        assert not c.exactly(size + 2)[:-2].strip(b"\0")
    assert got == n
    c.close()


@pytest.mark.parametrize("line, found", [("GzipLevel 0", "between 1 and 9"), ("GzipLevel 10", "between 1 and 9"),
                                         ("Gzip maybe", "on"), ("GzipMinSize x", "GzipMinSize")])
def test_bad_lines(refused, line, found):
    text = refused("LoadModule gzip\n" + line + "\n")
    assert "test.conf:2: " in text and found in text
