"""Caches as nginx's users have them, written by docs/cache-from-nginx.md: each does what its original did."""
import os
import threading
import time

import pytest
from origin import reply
from cache_peers import BASE, Film, asked, status

DISK = "CacheDisk {folder}/cache size=64m memory=16m\n"


@pytest.fixture
def site(sluice, origin, tmp_path):
    def start(lines):
        return sluice(BASE + DISK.format(folder=tmp_path) + lines.format(origin=origin))
    return start


def page(origin, path, body=b"page", code=200, *fields):
    origin.on(path, reply(code, body, list(fields)))


BLOG = """
# proxy_cache_valid 200 301 302 1h; 404 1m; proxy_ignore_headers Cache-Control Expires Set-Cookie;
# $skip_cache by cookie, query and path; use_stale ... http_500 http_503; background_update; lock
Cache on
CacheValid 200 301 302 1h
CacheValid 404 1m
CacheIgnore Cache-Control Expires Set-Cookie
CacheUseStale error timeout invalid updating 500 503
CacheBypass "%{{req:Cookie}} =~ 'comment_author|blog_logged_in' || %{{query}} != '' || %{{path}} =~ '^/admin/'"
Header set X-Cache %{{cache_status}} always
ProxyPass {origin}
"""


def test_a_blog(site, origin):
    private = [("Cache-Control", "no-cache, private"), ("Set-Cookie", "visit=1"), ("Expires", "0")]
    page(origin, "/", b"front", 200, *private)
    page(origin, "/gone", b"no", 404)
    page(origin, "/admin/", b"you")
    s = site(BLOG)
    for path in ("/", "/gone"):
        assert [status(s.get(path)) for _ in range(2)] == ["MISS", "HIT"]
        assert s.get(path).get("Set-Cookie") is None
    assert [status(s.get(p, f)) for p, f in (("/", {"Cookie": "a=1; blog_logged_in_x=2"}), ("/?s=word", {}), ("/admin/", {}))] == \
        ["BYPASS"] * 3
    assert not status(s.get("/", method="POST", body=b"x")) and status(s.get("/")) == "MISS", "a comment renews the page"


API = """
# proxy_cache_valid any 1s; proxy_cache_key "$host$request_uri$http_accept"; lock; use_stale updating
Cache on
CacheKey %{{host}}%{{uri}}%{{req:Accept}}
CacheValid any 1s
CacheUseStale updating error
Header set X-Cache %{{cache_status}} always
ProxyPass {origin}
"""


def test_an_api_that_is_asked_often(site, origin):
    n = []

    def script(c, r):
        n.append(r.get("Accept"))
        time.sleep(0.05)
        c.send(reply(200, f"{r.get('Accept')} {len(n)}".encode()))
        return True
    origin.on("/list", script)
    s = site(API)
    got, end = [], time.time() + 2.5

    def ask(accept):
        c = s.client()
        while time.time() < end:
            got.append((accept, c.request("GET", "/list", {"Accept": accept}).body))
            time.sleep(0.01)
        c.close()
    threads = [threading.Thread(target=ask, args=(a,)) for a in ("json", "xml") * 4]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(body.startswith(accept.encode()) for accept, body in got)
    assert len(got) > 200 and 4 <= len(n) <= 8, f"{len(n)} for {len(got)}"
    time.sleep(0.3)


VIDEO = """
# slice 1m; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1h
Cache on
CacheKey %{{host}}%{{path}}
CacheSlice 100k
CacheValid 200 206 1h
Header set X-Cache %{{cache_status}} always
ProxyPass {origin}
"""


def test_videos(site, origin):
    film = Film()
    origin.on("/film", film)
    s = site(VIDEO)
    r = s.get("/film?token=1", {"Range": "bytes=300000-300009"})
    assert r.status == 206 and r.body == film.body[300000:300010] and film.slices() == [2]
    r = s.get("/film?token=2", {"Range": "bytes=300005-300019"})
    assert r.body == film.body[300005:300020] and status(r) == "HIT" and film.slices() == []


MIRROR = """
# proxy_cache_min_uses 2; proxy_cache_methods GET; proxy_cache_revalidate on; proxy_no_cache by size
CacheValid 200 1s
CacheMinUses 2
CacheMaxObject 1m
<If "%{{method}} == 'GET'">
Cache on
</If>
Header set X-Cache %{{cache_status}} always
ProxyPass {origin}
"""


def test_a_mirror(site, origin):
    def packet(c, r):
        same = r.get("If-None-Match") == '"1"'
        c.send(reply(304, b"", [("ETag", '"1"')], length=False) if same else reply(200, b"deb", [("ETag", '"1"')]))
        return True
    origin.on("/packet", packet)
    page(origin, "/image", b"x" * 1100000)
    s = site(MIRROR)
    assert [status(s.get("/packet")) for _ in range(3)] == ["MISS", "MISS", "HIT"]
    assert not status(s.get("/packet", method="HEAD"))
    time.sleep(2.1)
    assert status(s.get("/packet")) == "REVALIDATED"
    assert [status(s.get("/image")) for _ in range(4)] == ["MISS"] * 4


EDGE = """
# proxy_cache_key $scheme$host$uri; proxy_cache_bypass $http_x_refresh; proxy_no_cache $http_authorization $sent_http_x_draft;
# proxy_cache_purge for 127.0.0.1
Cache on
CacheKey %{{scheme}}://%{{host}}%{{path}}
CacheValid 10m
CacheNoStore "%{{req:Authorization}} != '' || %{{resp:X-Draft}} != ''"
CachePurge 127.0.0.1
RequestHeader set Cache-Control no-cache if="%{{req:X-Refresh}} != ''"
Header set X-Cache %{{cache_status}} always
ProxyPass {origin}
"""


def test_an_edge(site, origin):
    origin.on("/a", lambda c, r: c.send(reply(200, b"one" if r.target.endswith("1") else b"two")) or True)
    page(origin, "/draft", b"x", 200, ("X-Draft", "1"))
    s = site(EDGE)
    assert [s.get(f"/a?utm={i}").body for i in (1, 2, 1)] == [b"one"] * 3
    r = s.get("/a?utm=2", {"X-Refresh": "1"})
    assert r.body == b"two" and s.get("/a?utm=1").body == b"two", "renewed for all"
    assert [status(s.get("/draft")) for _ in range(2)] == ["MISS"] * 2
    assert s.get("/a", method="PURGE").status == 200 and status(s.get("/a?utm=1")) == "MISS"
    assert asked(origin, "/a?utm=1") == 2
    assert s.get("/a?utm=1", {"Purge": "prefix"}, method="PURGE", host="test").status == 200
    assert status(s.get("/a?utm=1")) == "MISS"


def test_what_the_document_says_is_read(refused, tmp_path):
    """Each line of nginx it names is answered with the one that stands for it."""
    from conftest import TOP
    with open(os.path.join(TOP, "docs", "cache-from-nginx.md")) as f:
        rows = [l.split("|")[1].split("`")[1] for l in f if l.startswith("| `")]
    assert len(rows) >= 14
    for line in rows:
        assert "cure" in refused(line.replace("`", "").replace("$", "") + "\n"), line
