"""mod_cache_disk: every way to purge, hard and soft, and what each of them takes and leaves."""
import threading
import time

import pytest
from origin import reply
from cache_peers import BASE, cached, fresh, operated, status  # noqa: F401 (fixtures)

PATHS = ("/a", "/b", "/dir/c", "/dir/d")
# The words, and which of PATHS they take; tags are by path, in one of the three fields.
WAYS = [(("url", "http://h.test/a"), "/a"), (("prefix", "http://h.test/dir/"), "/dir/c /dir/d"), (("host", "h.test"), "/a /b /dir/c /dir/d"),
        (("tag", "tag-b"), "/b"), (("tag", "tag-c"), "/dir/c"), (("tag", "tag-d"), "/dir/d"), (("tag", "every"), "/a /b /dir/c /dir/d"),
        (("all",), "/a /b /dir/c /dir/d")]
FIELD = {"/a": "Surrogate-Key", "/b": "Surrogate-Key", "/dir/c": "Cache-Tag", "/dir/d": "xkey"}


def serve(origin):
    """Each answer another one; 304 to who has one already."""
    for path in PATHS:
        def script(c, r, path=path):
            same = r.get("If-None-Match") == '"1"'
            fields = [("Cache-Control", "max-age=60"), ("ETag", '"1"'), (FIELD[path], ("every, " if path == "/dir/c" else "every ") + f"tag-{path[-1]}")]
            c.send(reply(304, b"", fields, length=False) if same else reply(200, path.encode(), fields))
            return True
        origin.on(path, script)


def states(s, host="h.test"):
    return {p: status(s.get(p, host=host)) for p in PATHS}


def want(taken, soft):
    return {p: "HIT" if p not in taken.split() else "REVALIDATED" if soft else "MISS" for p in PATHS}


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_by_the_control_socket(operated, origin, soft):
    serve(origin)
    op = operated()
    states(op.s), states(op.s, "other.test")
    for words, taken in WAYS:
        r = op.say("ctl", "cache", "purge", *words, *(["soft"] if soft else []))
        assert (r.returncode, r.stdout) == (0, "purged\n"), r.stdout + r.stderr
        assert states(op.s) == want(taken, soft), words
        assert set(states(op.s).values()) == {"HIT"}
        is_of_others = words[0] == "all" or words[0] == "tag"
        assert states(op.s, "other.test") == (want(taken, soft) if is_of_others else dict.fromkeys(PATHS, "HIT")), words


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_by_the_method(cached, origin, soft):
    serve(origin)
    s = cached("CachePurge 127.0.0.1")
    states(s)
    for words, taken in WAYS:
        path = words[1].removeprefix("http://h.test") if words[0] in ("url", "prefix") else "/any"
        said = " ".join([words[0], *(words[1:] if words[0] == "tag" else []), *(["soft"] if soft else [])])
        r = s.get(path, {"Purge": said}, method="PURGE", host="h.test")
        assert (r.status, r.body) == (200, b"purged\n")
        assert states(s) == want(taken, soft), said
    if soft:
        assert s.get("/a", {"Purge": "soft"}, method="PURGE", host="h.test").status == 200
        assert states(s) == want("/a", True), "the URL, where nothing else is said"
    for wrong in ("nothing", "tag", "tag soft", "all x", "url x", "prefix a b", "soft soft x", "host h.test"):
        assert s.get("/a", {"Purge": wrong}, method="PURGE", host="h.test").status == 400, wrong
    assert set(states(s).values()) == {"HIT"}


@pytest.mark.parametrize("begun", ["before its head", "in its body"])
@pytest.mark.parametrize("words", ["url", "url soft", "prefix", "prefix soft", "host soft", "tag t", "tag t soft", "all", "all soft"])
def test_what_was_asked_for_before_is_not_joined_behind_it(cached, origin, words, begun):
    hold, asked = threading.Event(), []

    def script(c, r):
        asked.append(r)
        body, fields = b"%d" % len(asked) * 100000, [("Cache-Control", "max-age=60"), ("Surrogate-Key", "t")]
        whole = reply(200, body, fields)
        half = 0 if begun == "before its head" else 50000
        if len(asked) == 1:
            c.send(whole[:half])
            hold.wait(10)
            whole = whole[half:]
        c.send(whole)
        return True
    origin.on("/a", script)
    s = cached("CachePurge 127.0.0.1")
    first, second = s.client(), s.client()
    first.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\n")
    if begun == "in its body":
        first.until(b"\r\n\r\n")
    while not asked:
        time.sleep(0.01)
    assert s.get("/a", {"Purge": words}, method="PURGE").status == 200
    second.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\n")
    time.sleep(0.1)
    hold.set()
    assert second.response().body == b"2" * 100000
    if begun == "before its head":
        assert first.response().body == b"1" * 100000
    else:
        assert first.exactly(100000) == b"1" * 100000
    assert s.get("/a").body[:1] in b"23"
    first.close(), second.close()


@pytest.mark.parametrize("lines", ["CachePurge 10.0.0.0/8", "CachePurge 10.0.0.0/8\nTrustedProxies 192.0.2.1"])
@pytest.mark.parametrize("words", [None, "all", "tag every", "host", "prefix soft"])
def test_nobody_else_purges(cached, origin, lines, words):
    serve(origin)
    s = cached(lines)
    states(s)
    fields = {"X-Forwarded-For": "10.1.1.1", "X-Real-IP": "10.1.1.1", "Forwarded": "for=10.1.1.1"}
    r = s.get("/a", {**fields, **({"Purge": words} if words else {})}, method="PURGE", host="h.test")
    assert r.status == 403 and set(states(s).values()) == {"HIT"}


def test_a_trusted_proxys_client_may(cached, origin):
    serve(origin)
    s = cached("CachePurge 10.0.0.0/8\nTrustedProxies 127.0.0.1")
    states(s)
    assert s.get("/a", {"X-Forwarded-For": "10.1.1.1"}, method="PURGE", host="h.test").status == 200
    assert states(s) == want("/a", False)


def test_without_the_line_purge_is_the_servers(cached, origin):
    origin.on("/a", lambda c, r: c.send(reply(405 if r.method == "PURGE" else 200, b"", [("Cache-Control", "max-age=60")])) or True)
    s = cached()
    s.get("/a")
    assert s.get("/a", {"Purge": "all"}, method="PURGE").status == 405 and status(s.get("/a")) == "HIT"


def test_by_an_own_key(cached, origin):
    """CacheKey: the URL of a PURGE is what the key makes of it."""
    for path in ("/a", "/b"):
        origin.on(path, fresh(path.encode()))
    s = cached("CacheKey %{path}\nCachePurge 127.0.0.1")
    for words in (None, "url", "prefix"):
        [s.get(p) for p in ("/a", "/b")]
        assert s.get("/a?any", {"Purge": words} if words else {}, method="PURGE", host="other").status == 200
        assert [status(s.get(p)) for p in ("/a", "/b")] == ["MISS", "HIT"]


def test_variants_and_slices_and_forms_go_with_it(cached, origin):
    origin.on("/a", lambda c, r: c.send(fresh(f"{r.get('X-Lang')}".encode(), Vary="X-Lang", Cache_Tag="t")) or True)
    s = cached("CachePurge 127.0.0.1")
    for words in ("url", "prefix", "host", "tag t", "all"):
        for _ in range(2):
            got = [status(s.get("/a", {"X-Lang": lang})) for lang in ("de", "en")]
        assert got == ["HIT", "HIT"]
        assert s.get("/a", {"Purge": words}, method="PURGE").status == 200
        assert [status(s.get("/a", {"X-Lang": lang})) for lang in ("de", "en")] == ["MISS", "MISS"], words


def test_no_client_sees_tags(cached, origin):
    origin.on("/a", fresh(b"x", Surrogate_Key="a", Cache_Tag="b", xkey="c"))
    origin.on("/private", reply(200, b"x", [("Cache-Control", "private"), ("Surrogate-Key", "a"), ("Cache-Tag", "b"), ("xkey", "c")]))
    s = cached()
    for _ in range(2):
        for path in ("/a", "/private"):
            r = s.get(path)
            assert [r.get(k) for k in ("Surrogate-Key", "Cache-Tag", "xkey")] == [None] * 3, path


def test_purges_outlive_a_restart(sluice, origin, tmp_path):
    serve(origin)
    from test_reload import Operator
    text = BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}} always\nProxyPass {origin}\n"
    op = Operator(sluice, text)
    states(op.s)
    assert op.say("ctl", "cache", "purge", "tag", "tag-b").returncode == 0
    assert op.say("ctl", "cache", "purge", "prefix", "http://h.test/dir/", "soft").returncode == 0
    op.s.stop()
    op = Operator(sluice, text)
    got = states(op.s)
    assert got == {"/a": "HIT", "/b": "MISS", "/dir/c": "REVALIDATED", "/dir/d": "REVALIDATED"}
