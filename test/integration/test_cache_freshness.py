"""mod_cache_disk: what RFC 9111 and RFC 5861 let a shared cache keep and give, at its edges, seen from outside.

What a response says of its Age makes it as old as a test needs it, without a wait."""
import time

import pytest
from origin import reply
from cache_peers import asked, cached, failing, fresh, operated, status  # noqa: F401 (fixtures)


def aged(control, age, *more, body=b"old"):
    """A response that was made so many seconds ago."""
    return reply(200, body, [("Cache-Control", control), ("Age", str(age)), *more])


# ---- what clients wish (RFC 9111, 5.2.1) ----

@pytest.mark.parametrize("age, wish, is_asked", [
    (20, "max-age=30", False), (20, "max-age=10", True), (20, "max-age=0", True), (20, "max-age=nonsense", True),
    (20, "min-fresh=30", False), (20, "min-fresh=50", True), (20, "no-cache", True), (20, "unknown=1", False),
    (70, "max-stale", False), (70, "max-stale=30", False), (70, "max-stale=5", True), (70, "", True),
    (70, "max-stale=30, max-age=60", True), (20, "no-store", False),
], ids=str)
def test_what_clients_wish(cached, origin, age, wish, is_asked):
    origin.on("/", aged("max-age=60", age))
    s = cached()
    s.get("/")
    s.get("/", {"Cache-Control": wish} if wish else {})
    assert asked(origin) == 1 + is_asked


@pytest.mark.parametrize("age, code", [(20, 200), (70, 504)])
def test_only_if_cached(cached, origin, age, code):
    origin.on("/", aged("max-age=60", age))
    s = cached()
    assert s.get("/", {"Cache-Control": "only-if-cached"}).status == 504
    s.get("/")
    assert s.get("/", {"Cache-Control": "only-if-cached"}).status == code and asked(origin) == 1


def test_wishes_can_be_ignored(cached, origin):
    origin.on("/", aged("max-age=60", 20))
    s = cached("CacheIgnore request")
    s.get("/")
    for wish in ("no-cache", "no-store", "max-age=0", "min-fresh=50"):
        assert status(s.get("/", {"Cache-Control": wish, "Pragma": "no-cache"})) == "HIT", wish


# ---- stale (RFC 9111, 4.2.4; RFC 5861) ----

STRICT = ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"]


@pytest.mark.parametrize("control, age, state", [
    ("max-age=60, stale-while-revalidate=100", 150, "UPDATING"), ("max-age=60, stale-while-revalidate=100", 170, "EXPIRED"),
    ("max-age=60, s-maxage=60, stale-while-revalidate=100", 150, "UPDATING"),
    *[(f"max-age=60, stale-while-revalidate=100, {word}", 150, "EXPIRED") for word in STRICT if "s-max" not in word]])
def test_stale_while_revalidate_has_an_end(cached, origin, control, age, state):
    origin.on("/", aged(control, age))
    s = cached()
    s.get("/")
    origin.on("/", fresh(b"new"))
    assert status(s.get("/")) == state
    for _ in range(200):  # the update is behind that
        if status(s.get("/")) == "HIT":
            break
        time.sleep(0.02)
    assert s.get("/").body == b"new" and asked(origin) == 2


@pytest.mark.parametrize("control, age, is_given", [
    ("max-age=60, stale-if-error=100", 150, True), ("max-age=60, stale-if-error=100", 170, False),
    ("max-age=60", 150, False), ("s-maxage=60, stale-if-error=100", 150, True),
    *[(f"max-age=60, stale-if-error=100, {word}", 150, False) for word in STRICT if "s-max" not in word]])
@pytest.mark.parametrize("fails", ["refused", 500, 502, 503, 504])
def test_stale_if_error_has_an_end(cached, origin, control, age, is_given, fails):
    origin.on("/", aged(control, age))
    s = cached().expect("SL0505", "SL0501")
    s.get("/")
    failing(origin) if fails == "refused" else origin.on("/", reply(fails, b"no"))
    r = s.get("/")
    assert (r.status, r.body) == (200, b"old") if is_given else r.status == (502 if fails == "refused" else fails)


@pytest.mark.parametrize("code", [404, 429, 501, 505, 507])
def test_stale_if_error_is_of_errors_alone(cached, origin, code):
    """500, 502, 503 and 504: RFC 5861, 4."""
    origin.on("/", aged("max-age=60, stale-if-error=100", 70))
    s = cached()
    s.get("/")
    origin.on("/", reply(code, b"gone"))
    assert s.get("/").status == code


@pytest.mark.parametrize("wish, is_given", [("stale-if-error=100", True), ("stale-if-error=5", False), ("max-age=60", False)])
def test_clients_may_take_what_is_stale_on_errors(cached, origin, wish, is_given):
    """RFC 5861, 4: stale-if-error of a request."""
    origin.on("/", aged("max-age=60", 70))
    origin.on("/strict", aged("max-age=60, must-revalidate", 70))
    s = cached()
    for path in ("/", "/strict"):
        s.get(path)
        origin.on(path, reply(503, b"no"))
        assert s.get(path, {"Cache-Control": wish}).status == (200 if is_given and path == "/" else 503)


@pytest.mark.parametrize("word", STRICT)
def test_what_is_strict_is_never_stale(cached, origin, word):
    origin.on("/", aged(f"max-age=60, {word}", 70))
    s = cached("CacheUseStale error timeout invalid updating 500 503")
    s.get("/")
    origin.on("/", reply(503, b"no"))
    for wish in ("", "max-stale", "stale-if-error=100"):
        assert s.get("/", {"Cache-Control": wish} if wish else {}).status == 503


def test_s_maxage_is_stale_only_as_it_says(cached, origin):
    """RFC 9111, 5.2.2.10: neither clients nor the configuration may make more of it than its own RFC 5861 words."""
    origin.on("/", aged("s-maxage=60, stale-while-revalidate=1, stale-if-error=20", 70))
    origin.on("/old", aged("s-maxage=60, stale-while-revalidate=1, stale-if-error=5", 70))
    s = cached("CacheUseStale error timeout invalid updating 500 503")
    for path, code in (("/", 200), ("/old", 503)):
        s.get(path)
        origin.on(path, reply(503, b"no"))
        for wish in ("", "max-stale", "stale-if-error=100"):
            r = s.get(path, {"Cache-Control": wish} if wish else {})
            assert r.status == code and (code != 200 or r.get("Cache-Status").startswith("sluice; fwd=stale;")), wish


# ---- what may be kept (RFC 9111, 3) ----

@pytest.mark.parametrize("code, control, is_kept", [
    (200, "must-understand, no-store, max-age=60", True), (404, "must-understand, max-age=60", True),
    (499, "max-age=60", True), (499, "must-understand, no-store, max-age=60", False),
    (499, "must-understand, max-age=60", False), (428, "max-age=60", False), (429, "max-age=60", False),
    (431, "max-age=60", False), (511, "max-age=60", False)])
def test_of_statuses(cached, origin, code, control, is_kept):
    """RFC 9111, 3 and 5.2.2.3; RFC 6585, 3 to 6."""
    origin.on("/", reply(code, b"x", [("Cache-Control", control)]))
    s = cached()
    assert [s.get("/").status for _ in range(2)] == [code] * 2
    assert asked(origin) == (1 if is_kept else 2)


@pytest.mark.parametrize("control, is_kept", [
    ("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True), ("must-revalidate, max-age=60", True),
    ("proxy-revalidate, max-age=60", False), ("private, public, max-age=60", False), ("s-maxage=0", True)])
def test_of_who_signed_in(cached, origin, control, is_kept):
    """RFC 9111, 3.5."""
    origin.on("/", reply(200, b"x", [("Cache-Control", control), ("ETag", '"a"')]))
    s = cached()
    who = {"Authorization": "Basic x"}
    s.get("/", who), s.get("/", who)
    want = None if not is_kept or control == "s-maxage=0" else 1
    assert asked(origin) == (want or 2)
    assert (origin.requests[-1].get("If-None-Match") == '"a"') == (is_kept and want is None)


@pytest.mark.parametrize("status_, modified_ago, n_asked", [(200, 1000, 1), (404, 1000, 1), (410, 1000, 1), (302, 1000, 2), (200, 5, 2)])
def test_a_lifetime_nobody_says_is_guessed(cached, origin, status_, modified_ago, n_asked):
    """A tenth of the time since the last change (RFC 9111, 4.2.2), for the statuses that allow it."""
    from email.utils import formatdate
    origin.on("/", reply(status_, b"x", [("Last-Modified", formatdate(time.time() - modified_ago, usegmt=True))]))
    s = cached()
    s.get("/"), s.get("/")
    assert asked(origin) == n_asked


def test_a_guess_has_an_end(cached, origin):
    from email.utils import formatdate
    origin.on("/", reply(200, b"x", [("Last-Modified", formatdate(time.time() - 10 ** 8, usegmt=True)), ("Age", "86000")]))
    origin.on("/old", reply(200, b"x", [("Last-Modified", formatdate(time.time() - 10 ** 8, usegmt=True)), ("Age", "86500")]))
    s = cached()
    for path, n_asked in (("/", 1), ("/old", 2)):
        s.get(path), s.get(path)
        assert asked(origin, path) == n_asked, "a day at most"


def test_a_field_in_several_lines(cached, origin):
    origin.on("/private", reply(200, b"x", [("Cache-Control", "max-age=60"), ("Cache-Control", "private")]))
    origin.on("/cdn", reply(200, b"x", [("CDN-Cache-Control", "max-age=60"), ("CDN-Cache-Control", "no-store")]))
    s = cached()
    for path in ("/private", "/cdn"):
        s.get(path), s.get(path)
        assert asked(origin, path) == 2


def test_vary_in_several_lines(cached, origin):
    origin.on("/", lambda c, r: c.send(reply(200, f"{r.get('A')}{r.get('B')}".encode(), [
        ("Cache-Control", "max-age=60"), ("Vary", "A"), ("Vary", "B")])) or True)
    s = cached()
    for want in ("MISS", "HIT"):
        for a in "12":
            for b in "12":
                r = s.get("/", {"A": a, "B": b})
                assert (r.body, status(r)) == ((a + b).encode(), want)


def test_the_field_for_caches_goes_before_the_others(cached, origin):
    """RFC 9213, 2.2; those behind this one get the field, too (3.1)."""
    origin.on("/", reply(200, b"x", [("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-cache"), ("Expires", "0"),
                                     ("Age", "30")]))
    origin.on("/short", reply(200, b"x", [("CDN-Cache-Control", "max-age=10"), ("Cache-Control", "s-maxage=60"), ("Age", "30")]))
    origin.on("/empty", reply(200, b"x", [("CDN-Cache-Control", ""), ("Cache-Control", "max-age=60"), ("Age", "30")]))
    s = cached()
    for path, n_asked in (("/", 1), ("/short", 2), ("/empty", 1)):
        r = [s.get(path) for _ in range(2)][1]
        assert asked(origin, path) == n_asked, path
        assert r.get("Cache-Control") is not None and r.get("CDN-Cache-Control") is not None


# ---- HEAD ----

def test_head_is_answered_from_what_get_brought(cached, origin):
    origin.on("/", fresh(b"12345", ETag='"a"', X_Own="1"))
    s = cached()
    s.get("/")
    got, head = s.get("/"), s.get("/", method="HEAD")
    assert status(head) == "HIT" and head.body == b"" and asked(origin) == 1
    without = lambda r: {f for f in r.fields if f[0] not in ("Age", "Cache-Status", "Connection")}  # noqa: E731
    assert without(head) == without(got)
    assert s.get("/", {"If-None-Match": '"a"'}, method="HEAD").status == 304


def test_head_has_no_ranges(cached, origin):
    """RFC 9110, 14.2: Range is for GET."""
    origin.on("/", fresh(b"12345", ETag='"a"'))
    s = cached()
    s.get("/")
    for field in ("bytes=0-1", "bytes=9-", "bytes=0-0,2-2"):
        r = s.get("/", {"Range": field, "If-Range": '"a"'}, method="HEAD")
        assert r.status == 200 and r.get("Content-Length") == "5" and r.get("Content-Range") is None
    assert s.get("/", {"If-Range": '"b"'}).status == 200, "If-Range alone says nothing (13.1.5)"
    assert asked(origin) == 1


def test_head_brings_what_is_new(cached, origin):
    """A HEAD for what is stale renews it for all (RFC 9111, 4.3.5): the server is asked as by GET."""
    origin.on("/", aged("max-age=60", 70, ("ETag", '"a"')))
    s = cached()
    s.get("/")
    origin.on("/", fresh(b"news", ETag='"b"'))
    r = s.get("/", method="HEAD")
    assert r.get("ETag") == '"b"' and r.get("Content-Length") == "4"
    r = s.get("/")
    assert status(r) == "HIT" and r.body == b"news" and asked(origin) == 2


# ---- what unsafe methods make invalid (RFC 9111, 4.4) ----

@pytest.mark.parametrize("method, code, is_gone", [
    ("POST", 200, True), ("PUT", 201, True), ("PUT", 204, True), ("DELETE", 204, True), ("PATCH", 200, True),
    ("MOVE", 201, True), ("POST", 303, True), ("POST", 302, True), ("POST", 400, False), ("POST", 404, False),
    ("DELETE", 403, False), ("POST", 500, False), ("OPTIONS", 200, False), ("TRACE", 200, False)])
def test_what_unsafe_methods_make_invalid(cached, origin, method, code, is_gone):
    origin.on("/", lambda c, r: c.send(fresh(b"g") if r.method == "GET" else reply(code, b"", length=code != 204)) or True)
    s = cached()
    s.get("/")
    assert s.get("/", method=method).status == code
    assert status(s.get("/")) == ("MISS" if is_gone else "HIT")


# ---- where an answer ends ----

@pytest.mark.parametrize("version, is_kept", [("1.0", True), ("1.1", True)])
def test_an_answer_that_ends_with_its_connection(cached, origin, version, is_kept):
    body = b"until the end" * 1000

    def script(c, r):
        c.send(reply(200, body[:5000], [("Cache-Control", "max-age=60"), ("Connection", "close")], version, length=False))
        time.sleep(0.05)
        c.send(body[5000:])
        c.close()
        return False
    origin.on("/", script)
    s = cached()
    got = [s.get("/") for _ in range(2)]
    assert [r.body for r in got] == [body] * 2 and (status(got[1]) == "HIT") == is_kept


def test_one_that_is_reset_is_not_whole(cached, origin):
    def script(c, r):
        c.send(reply(200, b"x" * 5000, [("Cache-Control", "max-age=60"), ("Connection", "close")], length=False))
        time.sleep(0.2)
        c.reset()
        return False
    origin.on("/", script)
    s = cached().expect("SL05")
    s.raw(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    origin.on("/", fresh(b"whole"))
    assert s.get("/").body == b"whole"


# ---- what else is read of fields ----

@pytest.mark.parametrize("control, is_kept", [
    ('max-age=60, x="no-store, private", y=no-store', True), ("max-age=60, immutable, no-transform", True),
    ("must-understand, no-store, max-age=60", True), ("MAX-AGE=60", True), ('max-age="60"', True), ("max-age=60,,", True),
    ("max-age = 60", False), ("max-age=60, No-Store", False), ('no-cache="X-Own", max-age=60', False)])
def test_directives_known_and_unknown(cached, origin, control, is_kept):
    """RFC 9111, 5.2 and 5.2.3."""
    origin.on("/", reply(200, b"x", [("Cache-Control", control)]))
    s = cached()
    s.get("/"), s.get("/")
    assert asked(origin) == (1 if is_kept else 2)


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
def test_dates_in_all_three_forms(cached, origin, form):
    """RFC 9110, 5.6.7."""
    for path, ahead in (("/fresh", 100), ("/stale", -100)):
        origin.on(path, reply(200, b"x", [("Expires", time.strftime(form, time.gmtime(time.time() + ahead)))]))
    s = cached()
    for path, n_asked in (("/fresh", 1), ("/stale", 2)):
        s.get(path), s.get(path)
        assert asked(origin, path) == n_asked


def test_entity_tags_go_before_dates(cached, origin):
    """RFC 9110, 13.2.2."""
    from email.utils import formatdate
    changed = formatdate(time.time() - 1000, usegmt=True)
    origin.on("/", fresh(b"x", ETag='W/"a"', Last_Modified=changed))
    s = cached()
    s.get("/")
    for fields, code in (({"If-None-Match": '"b"', "If-Modified-Since": changed}, 200), ({"If-None-Match": '"a"', "If-Modified-Since": "x"}, 304),
                         ({"If-Modified-Since": changed}, 304), ({"If-Modified-Since": formatdate(time.time() - 2000, usegmt=True)}, 200)):
        assert s.get("/", fields).status == code, fields
    assert asked(origin) == 1


def test_a_date_said_twice_is_no_condition(cached, origin):
    """RFC 9110, 13.1.3."""
    from email.utils import formatdate
    changed = formatdate(time.time() - 1000, usegmt=True)
    origin.on("/", fresh(b"x", Last_Modified=changed))
    s = cached()
    s.get("/")
    for lines, code in ((1, 304), (2, 200)):
        got = s.raw(b"GET / HTTP/1.1\r\nHost: test\r\n" + f"If-Modified-Since: {changed}\r\n".encode() * lines +
                    b"Connection: close\r\n\r\n")
        assert got.startswith(f"HTTP/1.1 {code} ".encode())


def test_a_304_that_says_nothing_moves_no_expires(cached, origin):
    """RFC 9111, 3.2: what is stored expires when it said, and by the new Date that has passed."""
    from email.utils import formatdate
    made, expires = (formatdate(time.time() - ago, usegmt=True) for ago in (100, 50))

    def script(c, r):
        if r.get("If-None-Match"):
            c.send(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
        else:
            c.send(reply(200, b"x", [("Date", made), ("Expires", expires), ("ETag", '"a"')]))
        return True
    origin.on("/", script)
    s = cached()
    assert [status(s.get("/")) for _ in range(3)] == ["MISS", "REVALIDATED", "REVALIDATED"]


def test_a_304_renews_fields_and_freshness(cached, origin):
    """RFC 9111, 3.2 and 4.3.4."""
    def script(c, r):
        if r.get("If-None-Match") == '"a"' and r.get("If-Modified-Since"):
            c.send(reply(304, b"", [("ETag", '"a"'), ("Cache-Control", "max-age=60"), ("X-New", "2"), ("Content-Length", "99")], length=False))
        else:
            c.send(aged("max-age=60", 70, ("ETag", '"a"'), ("X-New", "1"), ("X-Old", "1"), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")))
        return True
    origin.on("/", script)
    s = cached()
    got = [s.get("/") for _ in range(3)]
    assert [status(r) for r in got] == ["MISS", "REVALIDATED", "HIT"]
    assert [r.get("X-New") for r in got] == ["1", "2", "2"] and [r.body for r in got] == [b"old"] * 3
    assert got[2].get("X-Old") == "1" and int(got[2].get("Age")) <= 2 and got[2].get("Content-Length") == "3"
