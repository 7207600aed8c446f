"""mod_cache_disk as its operator has it: purges, looks inside, reloads, crashes and restarts."""
import json
import os
import time

import pytest
from cache_peers import BASE, cached, fresh, operated, status  # noqa: F401 (fixtures)
from origin import reply


def test_purges(operated, origin):
    for path in ("/a", "/b", "/dir/c", "/dir/d"):
        origin.on(path, fresh(b"x", Surrogate_Key=f"all {path[-1]}"))
    op = operated()

    def state():
        return "".join(status(op.s.get(p, host="h.test"))[0] for p in ("/a", "/b", "/dir/c", "/dir/d"))
    assert state() == "MMMM" and state() == "HHHH"
    for words, left in ((("url", "http://H.test/a"), "MHHH"), (("tag", "b"), "HMHH"),
                        (("prefix", "http://h.test/dir/"), "HHMM"), (("host", "H.test"), "MMMM"),
                        (("tag", "all"), "MMMM"), (("all",), "MMMM")):
        r = op.say("ctl", "cache", "purge", *words)
        assert r.returncode == 0 and "purged" in r.stdout, r.stdout + r.stderr
        assert state() == left, words
        assert state() == "HHHH"
    assert op.s.get("/a", host="h.test").get("Surrogate-Key") is None, "for the cache alone"
    assert op.say("ctl", "cache", "purge", "url", "http://h.test/a", "soft").returncode == 0
    assert state() == "EHHH", "stale: it was fetched anew"
    for words in ((), ("url",), ("all", "x"), ("nothing", "x")):
        assert op.say("ctl", "cache", "purge", *words).returncode == 2


def test_looks_leave_no_trace(operated, origin):
    origin.on("/a", fresh(b"x" * 100))
    op = operated()

    def get(path="/a"):
        return json.loads(op.say("ctl", "cache", "get", f"http://h.test{path}", "--json").stdout)
    for _ in range(2):
        op.s.get("/a", host="h.test")
    assert get()["hits"] == get()["hits"] == 1
    op.s.get("/a", host="h.test")
    assert get()["hits"] == 2
    op.say("ctl", "cache", "purge", "url", "http://h.test/a", "soft")
    assert get()["state"] == "purged softly"
    op.say("ctl", "cache", "purge", "url", "http://h.test/a")
    assert not get()["stored"]


def test_what_cannot_be_stored_is_not_purged(operated, origin):
    """A purge that finds nothing says "purged" as well: what nothing can have is refused."""
    op = operated()
    for words in (("url", "/a"), ("url", "h.test/a", "soft"), ("prefix", "/dir/"), ("prefix", "http:///a"), ("url", "://h.test/")):
        r = op.say("ctl", "cache", "purge", *words)
        assert r.returncode == 2 and "expected a URL with scheme and host" in r.stdout + r.stderr, words
    assert op.say("ctl", "cache", "get", "/a").returncode == 2
    for host in ("h.test:80", "http://h.test", "h.test/", "[::1]:80"):
        r = op.say("ctl", "cache", "purge", "host", host)
        assert r.returncode == 2 and "without scheme and port" in r.stdout + r.stderr, host
    assert op.say("ctl", "cache", "purge", "host", "[::1]").returncode == 0


def test_keys_of_ones_own_are_purged_by_them(operated, origin):
    origin.on("/a", fresh(b"x"))
    op = operated("CacheKey %{uri}")
    op.s.get("/a")
    assert "key       /a" in op.say("ctl", "cache", "get", "/a").stdout
    for words in (("url", "/a"), ("prefix", "/")):
        assert status(op.s.get("/a")) == "HIT"
        assert op.say("ctl", "cache", "purge", *words).returncode == 0
        assert status(op.s.get("/a")) == "MISS"


def test_looks_into_it(operated, origin):
    origin.on("/a", fresh(b"x" * 100))
    op = operated()
    for _ in range(3):
        op.s.get("/a", host="h.test")
    r = op.say("ctl", "cache", "get", "http://h.test/a")
    assert "size      100" in r.stdout and "status    200" in r.stdout and "state     good" in r.stdout
    assert op.say("ctl", "cache", "get", "http://h.test/b").returncode == 1
    assert "http://h.test/a" in op.say("ctl", "cache", "top").stdout
    origin.on("/q", fresh(b"x", Surrogate_Key='a"b c'))
    origin.on("/p", reply(200, b"x", [("Cache-Control", "private")]))
    op.s.get("/q", host="h.test"), op.s.get("/p", host="h.test")
    got = {p: json.loads(op.say("ctl", "cache", "get", f"http://h.test/{p}", "--json").stdout) for p in "aqp"}
    assert got["a"]["size"] == 100 and got["a"]["stored"] and got["a"]["state"] == "good" and got["a"]["hits"] == 2
    assert got["q"]["tags"] == 'a"b c'
    assert got["p"] == {"key": "http://h.test/p", "because": "the server says private", "stored": False}
    stats = json.loads(op.say("ctl", "cache", "stats", "--json").stdout)
    hosts = {h["host"]: h for h in json.loads(op.say("ctl", "cache", "hosts", "--json").stdout)}
    asked = stats["hits"] + stats["misses"] + stats["bypassed"]
    assert stats["hit_ratio"] == pytest.approx(stats["hits"] / asked, abs=1e-4) and 0 < stats["hit_ratio"] < 1
    assert stats["hit_bytes_ratio"] == pytest.approx(
        stats["hit_bytes"] / (stats["hit_bytes"] + stats["miss_bytes"]), abs=1e-4)
    assert 0 < hosts["h.test"]["hit_ratio"] <= 1
    text = op.say("ctl", "metrics").stdout
    assert f'sluice_cache_host_requests{{host="h.test",of="hits"}} {hosts["h.test"]["hits"]}' in text
    assert f'sluice_cache_host_bytes{{host="h.test",of="hit_bytes"}} {hosts["h.test"]["hit_bytes"]}' in text
    top = json.loads(op.say("ctl", "cache", "top", "--json").stdout)
    assert (top[0]["key"], top[0]["size"], len(top)) == ("http://h.test/a", 100, 2) and top[0]["hits"] == 2
    assert "hits                     2" in op.say("ctl", "cache", "stats").stdout
    assert op.say("ctl", "cache", "stats", "--json").stdout.startswith("{")
    assert op.say("ctl", "cache").returncode == 2


def test_variants_are_told_of(operated, origin):
    origin.on("/", lambda c, r: c.send(fresh(b"v" * len(r.get("X-Lang") or ""), 60, Vary="X-Lang", xkey="t")) or True)
    op = operated()
    for lang in ("de", "de", "english"):
        op.s.get("/", [("X-Lang", lang)], host="h.test")

    def said(*words):
        return op.say("ctl", "cache", "get", "http://h.test/", *words)
    got = json.loads(said("-H", "X-Lang: de", "--json").stdout)
    assert (got["variants"], got["size"], got["hits"], got["tags"], got["stored"]) == ("by X-Lang", 2, 1, "t", True)
    assert 0 <= got["age"] < 10 and got["status"] == 200
    assert json.loads(said("-H", "X-Lang: english", "--json").stdout)["size"] == 7
    r = said()
    assert r.returncode == 1 and "variants  by X-Lang" in r.stdout and "none is stored for these fields" in r.stdout
    assert json.loads(said("-H", "X-Lang: fr", "--json").stdout)["stored"] is False
    listed = json.loads(said("--json").stdout)["in_memory"]
    assert [(v["fields"], v["size"], v["hits"]) for v in listed] == [("X-Lang:de", 2, 1), ("X-Lang:english", 7, 0)]
    assert "variant   X-Lang:de: age " in r.stdout and "size 7, hits 0\n" in r.stdout
    assert said("-H", "no field").returncode == 2 and said("de").returncode == 2


def test_metrics_say_what_is_kept(operated, origin):
    for path in ("/a", "/b"):
        origin.on(path, fresh(b"x" * 1000))
    op = operated()
    op.s.get("/a"), op.s.get("/b")

    def has(name):
        text = op.say("ctl", "metrics").stdout
        return [int(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"sluice_cache_{name}")]
    for _ in range(100):
        if has("objects{") == [2, 2]:
            break
        time.sleep(0.05)
    assert has("objects{") == [2, 2] and all(2000 < n < 5000 for n in has("bytes{"))
    assert has("size_bytes{") == [64 << 20, 16 << 20] and has("evicted{") == [0, 0]
    assert has("disk_in_use") == [1] and has("disk_errors") == [0]


def test_reloads_and_crashes_keep_it(operated, origin):
    origin.on("/", fresh(b"kept"))
    op = operated()
    op.s.expect("SL0220", "SL0221", "SL0240", "SL0241", "SL0222", "died", "ended by signal 9")
    op.s.get("/")
    time.sleep(0.5)
    for n in range(3):
        if n == 1:
            os.kill(op.serving(), 9)
        else:
            op.reload()
        for _ in range(200):
            try:
                r = op.s.get("/")
                if status(r) == "HIT":
                    break
            except (OSError, EOFError):
                pass
            time.sleep(0.02)
        assert status(r) == "HIT" and r.body == b"kept", n
    assert len(origin.requests) == 1, "nobody began cold"


def test_restart_keeps_it(sluice, origin, tmp_path):
    conf = BASE + f"CacheDisk {tmp_path}/cache size=64m memory=16m\nCache on\nHeader set X-Cache %{{cache_status}}\nProxyPass {origin}\n"
    big = os.urandom(700000)
    origin.on("/", fresh(b"kept"))
    origin.on("/big", fresh(big))
    s = sluice(conf)
    s.get("/")
    s.get("/big")
    s.stop()
    s = sluice(conf)
    r = s.get("/")
    assert status(r) == "HIT" and r.body == b"kept"
    r = s.get("/big")
    assert status(r) == "HIT" and r.body == big


def test_purge_method(cached, origin):
    origin.on("/", fresh())
    origin.on("/no", fresh())
    s = cached("CachePurge 127.0.0.1\n<Location /no>\nCachePurge - 10.0.0.0/8\n</Location>\n")
    s.get("/")
    assert s.get("/no", method="PURGE").status == 403
    assert status(s.get("/")) == "HIT"
    assert s.get("/", method="PURGE").status == 200
    assert status(s.get("/")) == "MISS"


@pytest.mark.parametrize("line, what", [
    ("Cache on", "CacheDisk /var/cache/sluice"), ("CacheDisk relative", "absolute path"),
    ("CacheDisk /x size=1k", "expected size="), ("CacheValid 99 1h", "between 200 and 599"),
    ("CacheValid 200", "expected a time"), ("CacheDisk off\nCache on\nCacheUseStale sometimes", "expected error, timeout"),
    ("CacheDisk off\nCache on\nCacheIgnore all", "expected Cache-Control, Expires"),
    ("CacheDisk off\nCache on\nCacheMinUses 65536", "expected 1 to 65535"),
])
def test_refused(refused, line, what):
    assert what in refused(BASE + line + "\nReturn 200 ok\n")


def test_explained(cached, origin, tmp_path):
    import subprocess
    from conftest import MODULES, PROGRAM
    s = cached("CacheBypass \"%{query} contains 'nocache'\"")
    for url, what in (("http://test/a", "the key is http://test/a"), ("http://test/a?nocache", "CacheBypass holds")):
        r = subprocess.run([PROGRAM, "-E", f"GET {url}", "-f", s.conf, "--module-dir", MODULES], capture_output=True,
                           text=True, timeout=20)
        assert what in r.stdout, r.stdout + r.stderr
