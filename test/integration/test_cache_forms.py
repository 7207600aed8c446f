"""Encoded forms: what the encoders make of a cached response is stored beside it."""
import gzip
import json
import threading
import time

import pytest
from origin import reply
from test_gzip import CODING, HTML, NAME, TYPE, all_three, decoded, each
from test_reload import Operator


@pytest.fixture
def forms(sluice, origin, tmp_path):
    """forms(lines): a cache with encoders before the origin, and a control socket."""
    def start(text="", modules=("gzip",), disk="size=64m memory=16m", start=sluice):
        return Operator(start, "LoadModule route\nLoadModule headers\nLoadModule cache_disk\n"
                        f"CacheDisk {tmp_path}/cache {disk}\nCache on\n"
                        "Header set X-Cache %{cache_status} always\nHeader set X-Why %{cache_reason} always\n" +
                        "".join(f"LoadModule {m}\n{NAME[m]} on\n" for m in modules) +
                        f"{text}\nProxyPass {origin}\n")
    return start


def page(body=HTML, *fields, age=60, etag='"a"'):
    return reply(200, body, [TYPE, ("Cache-Control", f"max-age={age}"), ("ETag", etag), *fields])


def get(s, coding="gzip", path="/", method="GET", **fields):
    return s.get(path, {**({"Accept-Encoding": coding} if coding else {}),
                        **{k.replace("_", "-"): v for k, v in fields.items()}}, method=method)


def is_stored(r, coding="gzip"):
    """A form has a length; what is encoded on its way has none."""
    return r.get("Content-Encoding") == coding and r.get("Content-Length") is not None


def made(s, coding="gzip", path="/", timeout=5, **fields):
    """The answer from the form, once it has been made."""
    end = time.time() + timeout
    while time.time() < end:
        r = get(s, coding, path, **fields)
        if is_stored(r, coding):
            return r
        time.sleep(0.02)
    raise AssertionError(f"no form was made: {r.status} {r.fields}")


def stat(op, name):
    return next(int(l.split()[1]) for l in op.say("ctl", "cache", "stats").stdout.splitlines() if l.split()[0] == name)


@each
@pytest.mark.parametrize("n", [2000, 60000, 200000, 3000000])
def test_made_once(forms, origin, module, n):
    coding, body = CODING[module], (HTML * (n // len(HTML) + 1))[:n]
    origin.on("/", page(body))
    op = forms(modules=[module])
    first = get(op.s, coding)
    assert first.get("X-Cache") == "MISS" and decoded(coding, first.body) == body
    r = made(op.s, coding)
    for _ in range(3):
        r = get(op.s, coding)
        assert decoded(coding, r.body) == body and len(r.body) == int(r.get("Content-Length"))
        assert r.get("X-Cache") == "HIT" and r.get("ETag") == 'W/"a"' and r.get("Vary") == "Accept-Encoding"
        assert r.get("Accept-Ranges") is None
        plain = get(op.s, None)
        assert plain.body == body and plain.get("ETag") == '"a"' and plain.get("Content-Encoding") is None
        assert plain.get("Vary") == "Accept-Encoding" and plain.get("Content-Length") == str(n)
    assert stat(op, "encoded") == 1
    assert len(origin.requests) == 1 or n > 262144  # large ones are found when they have been written


def test_in_memory_alone(forms, origin, sluice):
    origin.on("/", page())
    op = Operator(sluice, "LoadModule route\nLoadModule cache_disk\nLoadModule gzip\nGzip on\n"
                  f"CacheDisk off memory=16m\nCache on\nProxyPass {origin}\n")
    assert gzip.decompress(made(op.s).body) == HTML


def test_not_made_for_what_is_asked_for_once(forms, origin):
    origin.on("/", page())
    op = forms()
    get(op.s)
    get(op.s, None)
    time.sleep(0.2)
    assert stat(op, "encoded") == 0


@all_three
def test_each_client_gets_what_it_likes_best(forms, origin):
    origin.on("/", page())
    op = forms(modules=["gzip", "brotli", "zstd"])
    for coding in ("gzip", "br", "zstd"):
        get(op.s, coding)
        made(op.s, coding)
    assert stat(op, "encoded") == 3 and len(origin.requests) == 1
    for accept, coding in [
            (None, None), ("", None), ("gzip", "gzip"), ("gzip, deflate, br, zstd", "br"), ("zstd, gzip", "zstd"),
            ("gzip;q=1.0, br;q=0.9", "gzip"), ("br;q=0", None), ("br;q=0, *", "zstd"),
            ("identity, gzip;q=0.5", None), ("identity;q=0", None), ("x-gzip", "gzip"), ("deflate", None)]:
        for method in ("GET", "HEAD"):
            r = get(op.s, accept, method=method)
            assert r.get("Content-Encoding") == coding and r.get("Vary") == "Accept-Encoding"
            assert r.get("ETag") == ('W/"a"' if coding else '"a"') and r.get("Content-Length") is not None
        assert get(op.s, accept).get("Content-Length") == get(op.s, accept, method="HEAD").get("Content-Length")
        body = get(op.s, accept).body
        assert (decoded(coding, body) if coding else body) == HTML
    r = op.say("ctl", "cache", "get", "http://test/")
    assert all(f"form      {c}, " in r.stdout for c in ("gzip", "br", "zstd")), r.stdout
    assert "(br)" in op.say("ctl", "cache", "top").stdout
    r = json.loads(op.say("ctl", "cache", "get", "http://test/", "--json").stdout)
    assert {f["coding"] for f in r["forms"]} == {"gzip", "br", "zstd"} and r["stored"]
    assert "br" in [o.get("coding") for o in json.loads(op.say("ctl", "cache", "top", "--json").stdout)]
    assert get(op.s, "br").get("X-Why") == "fresh"


def test_conditions_hold_across_forms(forms, origin):
    origin.on("/", page(HTML, ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")))
    op = forms()
    get(op.s)
    made(op.s)
    for coding in ("gzip", None):
        for tag, answered in (('W/"a"', 'W/"a"'), ('"a"', '"a"'), ('"x", W/"a"', 'W/"a"')):
            r = get(op.s, coding, If_None_Match=tag)
            assert r.status == 304 and r.get("ETag") == answered and r.get("Vary") == "Accept-Encoding" and not r.body
            assert r.get("Content-Encoding") is None
        assert get(op.s, coding, If_None_Match='"b"').status == 200
        assert get(op.s, coding, If_Modified_Since="Mon, 01 Jan 2024 00:00:00 GMT").status == 304


def test_ranges_are_of_the_body_as_it_is(forms, origin):
    origin.on("/", page())
    op = forms()
    get(op.s)
    made(op.s)
    r = get(op.s, Range="bytes=10-19")
    assert r.status == 206 and r.body == HTML[10:20] and r.get("Content-Encoding") is None
    assert r.get("ETag") == '"a"' and r.get("Content-Range") == f"bytes 10-19/{len(HTML)}"
    r = get(op.s, Range="bytes=10-19", If_Range='W/"a"')  # RFC 9110, 13.1.5: a weak one holds for no part
    assert r.status == 200 and r.body == HTML
    assert get(op.s, Range="bytes=10-19", If_Range='"a"').body == HTML[10:20]
    assert get(op.s, Range="bytes=0-1,5-6").status == 206


@pytest.mark.parametrize("lines, fields, asked", [
    ("", [("Cache-Control", "max-age=60, no-transform")], {}),
    ("", [], {"Cache_Control": "no-transform"}),
    ("GzipPrivate off\nCacheIgnore Set-Cookie", [("Set-Cookie", "a=b")], {}),
    ("GzipMinSize 1m", [], {}),
    ("GzipTypes - text/css", [], {}),
    ("Header set Cache-Control no-transform", [], {}),
], ids=["no-transform", "request no-transform", "private", "short", "type", "a header set here"])
def test_left_as_it_is(forms, origin, lines, fields, asked):
    more = [f for f in fields if f[0] != "Cache-Control"]
    cc = dict(fields).get("Cache-Control", "max-age=60")
    origin.on("/", reply(200, HTML, [TYPE, ("Cache-Control", cc), *more]))
    op = forms(lines)
    for _ in range(3):
        r = get(op.s, **asked)
        assert "gzip" != r.get("Content-Encoding") or "Set-Cookie" in lines, r.fields
        time.sleep(0.05)
    if lines.startswith("Header"):
        assert get(op.s).body == HTML  # made for nothing, and never given
    elif "Set-Cookie" not in lines:
        assert stat(op, "encoded") == 0


def test_what_hides_a_secret_is_not_taken_from_the_store(forms, origin):
    origin.on("/", page())
    op = forms('GzipPrivate off\n<Location "/">\nHeader set Set-Cookie "a=b" if="%{req:X-Secret} != \'\'"\n</Location>')
    get(op.s)
    made(op.s)
    r = get(op.s, X_Secret="1")
    assert r.get("Set-Cookie") == "a=b" and r.get("Content-Encoding") is None and r.body == HTML


def test_what_the_origin_encodes_goes_on_as_it_is(forms, origin):
    def answer(c, r):
        zipped = "gzip" in (r.get("Accept-Encoding") or "")
        c.send(page(gzip.compress(HTML) if zipped else HTML, ("Vary", "Accept-Encoding"),
                    *([("Content-Encoding", "gzip")] if zipped else [])))
        return True
    origin.on("/", answer)
    op = forms()
    for _ in range(3):
        r = get(op.s)
        assert r.get("Content-Encoding") == "gzip" and gzip.decompress(r.body) == HTML and r.get("ETag") == '"a"'
        assert get(op.s, None).body == HTML
    assert stat(op, "encoded") == 0 and len(origin.requests) == 2


def test_variants_have_forms_of_their_own(forms, origin):
    origin.on("/", lambda c, r: c.send(page(HTML + r.get("X-Who").encode(), ("Vary", "X-Who"))) or True)
    op = forms()
    for who in "ab":
        get(op.s, X_Who=who)
        r = made(op.s, X_Who=who)
        assert gzip.decompress(r.body) == HTML + who.encode() and r.get("Vary") == "X-Who, Accept-Encoding"
    assert gzip.decompress(get(op.s, X_Who="a").body) == HTML + b"a"
    assert stat(op, "encoded") == 2 and len(origin.requests) == 2


def test_a_validated_one_keeps_its_form(forms, origin):
    def answer(c, r):
        same = r.get("If-None-Match") == '"a"'
        more = [("Cache-Control", "max-age=0"), ("ETag", '"a"'), ("X-N", str(len(origin.requests)))]
        c.send(reply(304, b"", more, length=False) if same else reply(200, HTML, [TYPE, *more]))
        return True
    origin.on("/", answer)
    op = forms()
    get(op.s)
    made(op.s)
    for _ in range(3):
        r = get(op.s)
        assert r.get("X-Cache") == "REVALIDATED" and is_stored(r) and gzip.decompress(r.body) == HTML
        assert r.get("X-N") == str(len(origin.requests))
    assert stat(op, "encoded") == 1


def test_a_soft_purge_keeps_it_if_the_server_agrees(forms, origin):
    origin.on("/", lambda c, r: c.send(
        reply(304, b"", [("ETag", '"a"')], length=False) if r.get("If-None-Match") else page()) or True)
    op = forms()
    get(op.s)
    made(op.s)
    assert op.say("ctl", "cache", "purge", "url", "http://test/", "soft").returncode == 0
    r = get(op.s)
    assert r.get("X-Cache") == "REVALIDATED" and is_stored(r) and stat(op, "encoded") == 1


def test_another_level_makes_another(forms, origin):
    origin.on("/", page())
    op = forms("GzipLevel 1")
    get(op.s)
    large = made(op.s)
    time.sleep(0.2)
    op.write(op.text.replace("GzipLevel 1", "GzipLevel 9"))
    op.reload()
    assert not is_stored(get(op.s))
    small = made(op.s)
    assert len(small.body) < len(large.body) and gzip.decompress(small.body) == HTML and len(origin.requests) == 1


@pytest.mark.parametrize("how", ["url", "tag", "prefix", "method", "post", "expired"])
def test_never_beside_another_body(forms, origin, how):
    n = [0]

    def answer(c, r):
        n[0] += r.method == "GET"
        c.send(page(HTML + b"%d" % n[0], ("Surrogate-Key", "k"), age=1 if how == "expired" else 60, etag=f'"{n[0]}"')
               if r.method == "GET" else reply(204, length=False))
        return True
    origin.on("/", answer)
    op = forms("CachePurge 127.0.0.1")
    for i in range(1, 4):
        r = get(op.s)
        assert gzip.decompress(r.body) == HTML + b"%d" % i and r.get("ETag") == f'W/"{i}"' and not is_stored(r)
        if how != "expired" or i == 1:
            r = made(op.s)
            assert gzip.decompress(r.body).startswith(HTML) and r.get("ETag").strip('W/"') == \
                gzip.decompress(r.body)[len(HTML):].decode()
        if how == "expired":
            time.sleep(1.1 + n[0] - i)
            if i == 1:
                n[0] = 1
            continue
        words = {"url": ("url", "http://test/"), "tag": ("tag", "k"), "prefix": ("prefix", "http://test/")}.get(how)
        if words:
            assert op.say("ctl", "cache", "purge", *words).returncode == 0
        else:
            assert op.s.get("/", method="PURGE" if how == "method" else "POST").status < 300


def test_a_restart_finds_it_on_disk(forms, origin):
    big = HTML * 20
    origin.on("/", page())
    origin.on("/big", page(big))
    op = forms(disk="size=64m memory=16m")
    for path in ("/", "/big"):
        get(op.s, path=path)
        made(op.s, path=path)
    time.sleep(0.5)
    assert op.s.stop() == 0
    n_asked = len(origin.requests)
    op = forms()
    for path, body in (("/", HTML), ("/big", big)):
        r = get(op.s, path=path)
        assert r.get("X-Cache") == "HIT" and is_stored(r) and gzip.decompress(r.body) == body
    assert stat(op, "encoded") == 0 and len(origin.requests) == n_asked


def test_bodies_that_change_while_forms_are_made(forms, origin):
    """Whatever is given is whole, and of the version its tag says."""
    n, lock = [0], threading.Lock()

    def answer(c, r):
        with lock:
            n[0] += 1
            i = n[0]
        c.send(reply(200, HTML + b"%d" % i, [TYPE, ("Cache-Control", "max-age=60"), ("ETag", f'"{i}"')]))
        return True
    origin.on("/", answer)
    op = forms("CachePurge 127.0.0.1\n")
    end, bad, n_stored = time.time() + 2, [], [0]

    def ask(purges):
        c = op.s.client()
        while time.time() < end:
            r = c.request("GET", "/", {"Accept-Encoding": "gzip"})
            body = gzip.decompress(r.body)
            n_stored[0] += is_stored(r)
            if body != HTML + r.get("ETag").strip('W/"').encode():
                bad.append(r.fields)
            if purges:
                time.sleep(0.02)
                c.request("PURGE", "/")
        c.close()
    threads = [threading.Thread(target=ask, args=(i == 0,)) for i in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not bad and n_stored[0] > 0 and n[0] > 3


def test_stops_while_forms_are_made(forms, origin):
    for i in range(8):
        origin.on(f"/{i}", page(HTML * 100))
    op = forms("GzipLevel 9")
    for _ in range(2):
        for i in range(8):
            get(op.s, path=f"/{i}")
    assert op.s.stop() == 0


def test_what_is_in_slices_has_none(forms, origin):
    body = HTML * 10

    def answer(c, r):
        first, last = (int(x) for x in r.get("Range").split("=")[1].split("-"))
        part = body[first:last + 1]
        c.send(b"HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n"
               b"Content-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n"
               % (first, first + len(part) - 1, len(body), len(part)) + part)
        return True
    origin.on("/", answer)
    op = forms("CacheSlice 64k")
    for _ in range(3):
        r = get(op.s)
        assert gzip.decompress(r.body) == body and r.get("ETag") == 'W/"a"' and not is_stored(r)
    assert r.get("X-Cache") == "HIT" and stat(op, "encoded") == 0


def test_the_log_says_that_it_was_given(forms, origin, tmp_path):
    origin.on("/", page())
    op = forms(f'LoadModule log\nAccessLog {tmp_path}/log "%{{cache_reason}}" buffer=0')
    get(op.s)
    made(op.s)
    assert op.s.stop() == 0
    assert (tmp_path / "log").read_text().splitlines()[-1] == "fresh, its gzip form"
