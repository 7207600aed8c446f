"""mod_ratelimit: rates, requests at once, bandwidth."""
import gzip
import json
import os
import re
import socket
import threading
import time

import pytest
from origin import reply
from test_reload import operate  # noqa: F401, a fixture
from test_zones import counted, counters, kill

HEAD = "LoadModule route\nLoadModule ratelimit\n"
FROM_ANYWHERE = "TrustedProxies 127.0.0.0/8\n"


def statuses(s, n, path="/", fields=()):
    """Of n requests on one connection."""
    c = s.client()
    try:
        return [c.request("GET", path, fields).status for _ in range(n)]
    finally:
        c.close()


def admitted(s, n, path="/", **fields):
    got = statuses(s, n, path, {k.replace("_", "-"): v for k, v in fields.items()})
    assert set(got) <= {200, 429}
    return got.count(200)


def eventually(holds, timeout=10):
    """A request's count goes a moment after its answer; a worker that died is not there at once."""
    end = time.time() + timeout
    while time.time() < end:
        try:
            if holds():
                return True
        except (OSError, EOFError):
            pass
        time.sleep(0.05)
    return False


def reset(c):
    """The client is gone, and the server can tell."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()


# ---- rates ----

def test_a_burst_without_delay(sluice):
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=2r/m\nRateLimit z burst=4 nodelay\nReturn 200 ok\n")
    began = time.time()
    assert statuses(s, 8) == [200] * 5 + [429] * 3
    assert time.time() - began < 5
    r = s.get("/")
    assert r.status == 429 and 1 <= int(r.get("Retry-After")) <= 30 and b"rate_limited" in r.body
    assert r.get("RateLimit") is None


def test_retry_after_is_right(sluice):
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=1r/s\nRateLimit z\nReturn 200 ok\n")
    assert s.get("/").status == 200
    r = s.get("/")
    assert (r.status, r.get("Retry-After")) == (429, "1")
    time.sleep(1.01)
    assert s.get("/").status == 200


def test_a_refused_request_costs_nothing(sluice):
    """Who keeps asking is admitted as often as the rate says."""
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=10r/s\nRateLimit z\nReturn 200 ok\n")
    began, n, c = time.time(), 0, s.client()
    while time.time() - began < 2:
        n += c.request("GET", "/").status == 200
        time.sleep(0.002)
    c.close()
    assert 18 <= n <= 21


@pytest.mark.parametrize("options, least, most", [
    ("burst=10", 0.45, 1.5), ("burst=10 delay=3", 0.15, 1.2), ("burst=10 delay=5", 0, 0.4)])
def test_delay(sluice, options, least, most):
    """Six requests at once at 10r/s: one at once, the others one after the other."""
    s = sluice(HEAD + f"RateLimitZone z key=%{{remote_addr}} rate=10r/s\nRateLimit z {options}\nReturn 200 ok\n")
    began, clients = time.time(), [s.client() for _ in range(6)]
    for c in clients:
        c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    sent = time.time() - began  # of a busy machine: the later ones may have nothing to wait for yet
    assert all(c.response().status == 200 for c in clients)
    took = time.time() - began
    for c in clients:
        c.close()
    assert least <= took <= most + sent


def test_clients_that_leave_while_they_wait(sluice):
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=10r/s\nRateLimit z burst=50\nReturn 200 ok\n")
    for i in range(8):
        c = s.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        if i % 2:
            c.sock.shutdown(1)
        c.close()
    assert s.get("/").status == 200


def test_several_limits_on_one_location(sluice):
    """What the second refuses, the first does not count."""
    s = sluice(HEAD + "RateLimitZone wide key=%{remote_addr} rate=1r/h\nRateLimitZone narrow key=%{path} rate=1r/h\n"
               "RateLimit wide burst=9 nodelay\n<Location /x>\nRateLimit narrow burst=1 nodelay\n</Location>\nReturn 200 ok\n")
    assert statuses(s, 5, "/x") == [200, 200, 429, 429, 429]
    assert admitted(s, 20) == 8


def test_the_innermost_line_of_a_zone_counts(sluice):
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=1r/h\nRateLimit z burst=9 nodelay\n"
               "<Location /x>\nRateLimit z burst=3 nodelay if=\"%{method} == GET\"\n</Location>\nReturn 200 ok\n")
    assert admitted(s, 9, "/x") == 4 and admitted(s, 2) == 2
    assert [s.get("/x", method="POST", body=b"x").status for _ in range(6)] == [200] * 4 + [429] * 2


def test_keys(sluice):
    s = sluice(HEAD + FROM_ANYWHERE +
               "RateLimitZone key key=%{req:X-Key} rate=1r/h\nRateLimitZone cookie key=%{cookie:sid} rate=1r/h\n"
               "RateLimitZone both key=\"%{remote_addr} %{req:X-Key}\" rate=1r/h\n"
               "RateLimitZone net key=%{remote_addr} rate=1r/h ipv4=24 ipv6=48\nRateLimitZone addr key=%{remote_addr} rate=1r/h\n" +
               "".join(f"<Location /{z}>\nRateLimit {z}\n</Location>\n" for z in ("key", "cookie", "both", "net", "addr")) +
               "Return 200 ok\n")

    def ok(path, **f):
        return admitted(s, 1, path, **f) == 1
    assert ok("/key", X_Key="a") and not ok("/key", X_Key="a") and ok("/key", X_Key="b")
    assert ok("/key", X_Key="k" * 2000) and ok("/key", X_Key="k" * 2001)
    assert all(ok("/key") for _ in range(3)), "without a key there is no limit"
    assert ok("/cookie", Cookie="sid=1") and not ok("/cookie", Cookie="x=y; sid=1") and ok("/cookie", Cookie="sid=2")
    for path in ("/both", "/addr", "/net"):
        assert ok(path, X_Forwarded_For="2001:db8:1:2::1", X_Key="a")
        assert not ok(path, X_Forwarded_For="2001:db8:1:2:f::9", X_Key="a"), "one /64 is one client"
        assert ok(path, X_Forwarded_For="198.51.100.1", X_Key="a")
    assert ok("/both", X_Forwarded_For="2001:db8:1:2::1", X_Key="b")
    assert ok("/addr", X_Forwarded_For="2001:db8:1:3::1") and ok("/addr", X_Forwarded_For="198.51.100.2")
    assert not ok("/net", X_Forwarded_For="2001:db8:1:3::1") and not ok("/net", X_Forwarded_For="198.51.100.2")
    assert ok("/net", X_Forwarded_For="2001:db8:2::1") and ok("/net", X_Forwarded_For="198.51.101.2")


def test_long_keys_are_whole(sluice):
    """Those that begin alike are not one, wherever they differ."""
    s = sluice(HEAD + FROM_ANYWHERE + "RateLimitZone one key=%{req:X-Key} rate=1r/h\n"
               "RateLimitZone both key=\"%{req:X-Key} %{remote_addr}\" rate=1r/h\n"
               "<Location /one>\nRateLimit one\n</Location>\n<Location /both>\nRateLimit both\n</Location>\n"
               "Return 200 ok\n")
    for end in "ab":
        assert admitted(s, 2, "/one", X_Key="x" * 3000 + end) == 1
        assert admitted(s, 2, "/both", X_Key="x" * 3000, X_Forwarded_For=f"192.0.2.{ord(end)}") == 1


def test_exemptions_status_and_shadow(sluice):
    s = sluice(HEAD + FROM_ANYWHERE + "".join(f"RateLimitZone {z} key=%{{remote_addr}} rate=1r/h\n" for z in "abcd") +
               "<Location /a>\nRateLimit a except=10.0.0.0/8,2001:db8::/32 status=503\n</Location>\n"
               "<Location /b>\nRateLimit b if=\"%{method} == POST\"\n</Location>\n"
               "<Location /c>\nRateLimit c shadow\n</Location>\n"
               "<Location /d>\nRateLimit d\n<Location /d/free>\nRateLimit -\n</Location>\n</Location>\nReturn 200 ok\n")
    for address in ("10.1.2.3", "2001:db8::1"):
        assert statuses(s, 3, "/a", {"X-Forwarded-For": address}) == [200] * 3
    assert statuses(s, 3, "/a", {"X-Forwarded-For": "11.1.2.3"}) == [200, 503, 503]
    assert statuses(s, 3, "/b") == [200] * 3
    assert [s.get("/b", method="POST", body=b"x").status for _ in range(2)] == [200, 429]
    assert statuses(s, 3, "/c") == [200] * 3
    assert s.logged("RATELIMIT0002 .*zone c: key \"127.0.0.1\" is over 1r/h with burst=0: would be refused")
    assert statuses(s, 2, "/d") == [200, 429] and statuses(s, 2, "/d/free") == [200, 200]


def test_fields_tell_clients(sluice):
    s = sluice(HEAD + "RateLimitZone api key=%{remote_addr} rate=1r/m\nRateLimitZone day key=%{remote_addr} rate=1000r/d\n"
               "RateLimit api burst=2 nodelay fields\n<Location /two>\nRateLimit day burst=99 nodelay fields\n</Location>\nReturn 200 ok\n")
    seen = [s.get("/") for _ in range(2)] + [s.get("/two"), s.get("/two")]
    assert [r.status for r in seen] == [200, 200, 200, 429]
    assert {r.get("RateLimit-Policy") for r in seen[:2]} == {'"api";q=3;w=180'}
    assert [r.get("RateLimit").rsplit("=", 1)[0] for r in seen[:2]] == ['"api";r=2;t', '"api";r=1;t']
    assert seen[2].get("RateLimit-Policy") == '"day";q=100;w=8640, "api";q=3;w=180'
    assert re.fullmatch(r'"day";r=99;t=\d+, "api";r=0;t=\d+', seen[2].get("RateLimit"))
    left = int(re.search(r'"api";r=0;t=(\d+)', seen[3].get("RateLimit")).group(1))
    assert left == int(seen[3].get("Retry-After")) and 50 <= left <= 60


def test_a_key_is_logged_once(sluice):
    s = sluice(HEAD + FROM_ANYWHERE + "RateLimitZone z key=%{remote_addr} rate=1r/h\nRateLimit z\nReturn 200 ok\n"
               "RateLimitZone often key=%{remote_addr} rate=1r/h log=200ms\n<Location /often>\nRateLimit -\nRateLimit often\n</Location>\n")
    for address in ("10.0.0.1", "2001:db8::5"):
        statuses(s, 10, "/", {"X-Forwarded-For": address})
    lines = [l for l in s.log().split("\n") if "RATELIMIT0002" in l]
    assert len(lines) == 2 and 'key "10.0.0.1"' in lines[0] and 'key "2001:db8::/64"' in lines[1]
    assert "rate_limited" not in s.log() and "RATELIMIT0001" not in s.log()
    for _ in range(2):
        statuses(s, 3, "/often", {"X-Forwarded-For": "10.0.0.2"})
        time.sleep(0.3)
    assert s.log().count('zone often: key "10.0.0.2"') == 2


def test_the_page_of_a_refusal_keeps_retry_after(sluice, tmp_path):
    (tmp_path / "slow.html").write_text("slower, please")
    s = sluice(HEAD + f"ErrorPage 429 file:{tmp_path}/slow.html\nRateLimitZone z key=%{{remote_addr}} rate=1r/h\n"
               "RateLimit z\nReturn 200 ok\n")
    s.get("/")
    r = s.get("/")
    assert (r.status, r.body, r.get("Retry-After")) == (429, b"slower, please", "3600")


def test_a_rate_survives_reload_and_crash(operate):  # noqa: F811
    text = HEAD + "RateLimitZone z key=%{{req:X-Key}} rate={rate} size={size}\nRateLimit z burst=3 nodelay\nReturn 200 ok\n"
    o = operate(text.format(rate="1r/h", size="1m"))
    assert admitted(o.s, 3, X_Key="a") == 3
    o.reload()
    assert admitted(o.s, 3, X_Key="a") == 1
    kill(o)
    assert admitted(o.s, 3, X_Key="a") == 0 and admitted(o.s, 9, X_Key="b") == 4
    assert counted(o, "ratelimit_refused", 10)
    o.write(text.format(rate="1r/h", size="2m"))
    o.reload()
    assert o.s.logged("SL0320 .*ratelimit:z.*afresh") and admitted(o.s, 9, X_Key="a") == 4
    assert o.settled()
    o.write(text.format(rate="2r/h", size="2m"))
    o.reload()
    assert o.s.log().count("SL0320") == 2 and admitted(o.s, 9, X_Key="a") == 4


def test_threads_and_generations_share_a_rate(operate):  # noqa: F811
    """Clients on all threads, of two generations: exactly the burst and one."""
    text = HEAD + "RateLimitZone z key=%{req:X-Key} rate=1r/h\nRateLimit z burst=199 nodelay\nReturn 200 ok\n"
    o = operate(text)
    clients = [o.s.client() for _ in range(12)]
    got = []

    def ask(c, n):
        got.extend(c.request("GET", "/", {"X-Key": "a"}).status for _ in range(n))
    for half in range(2):
        threads = [threading.Thread(target=ask, args=(c, 20)) for c in clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if half == 0:
            o.reload()
    for c in clients:
        c.close()
    assert len(got) == 480 and got.count(200) == 200


# ---- requests at once ----

@pytest.fixture
def holding(make_origin):
    """An origin that answers /hold when it is told to."""
    o = make_origin()
    o.go = threading.Event()
    o.on("/hold", lambda c, r: (o.go.wait(20), c.send(reply(200, b"held"))))
    yield o
    o.go.set()


def begin(s, origin, n, fields=""):
    before, clients = len(origin.requests), []
    for _ in range(n):
        clients.append(s.client(timeout=30).send(f"GET /hold HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    end = time.time() + 10
    while len(origin.requests) < before + n and time.time() < end:
        time.sleep(0.01)
    assert len(origin.requests) == before + n
    return clients


def test_requests_at_once(sluice, holding):
    s = sluice(HEAD + f"ConnLimit 3\nProxyPass {holding}\n")
    clients = begin(s, holding, 3)
    r = s.get("/")
    assert r.status == 429 and b"conn_limited" in r.body and r.get("Retry-After") is None
    assert s.get("/").status == 429 and s.log().count("RATELIMIT0011") == 1
    reset(clients.pop())  # one leaves, another may come
    assert eventually(lambda: s.get("/").status == 200)
    holding.go.set()
    assert all(c.response().status == 200 for c in clients)
    assert eventually(lambda: statuses(s, 20) == [200] * 20)


def test_counts_of_lines(sluice, holding):
    """Lines of one key share a count, in which a request is once; a name has a count of its own."""
    s = sluice(HEAD + FROM_ANYWHERE + "ConnLimit 4\n<Location /hold>\nConnLimit 3\nConnLimit 2 key=%{req:X-Key} name=k status=503\n"
               f"</Location>\n<Location /free>\nConnLimit -\n</Location>\nProxyPass {holding}\n")
    clients = begin(s, holding, 2, "X-Key: a\r\n")
    assert s.get("/hold", {"X-Key": "a"}).status == 503
    time.sleep(0.1)  # until its thread lets it go, a refused one counts for the others
    clients += begin(s, holding, 1, "X-Key: b\r\n")
    assert s.get("/hold", {"X-Key": "c"}).status == 429
    assert eventually(lambda: s.get("/").status == 200)
    time.sleep(0.1)
    clients += begin(s, holding, 1, "X-Forwarded-For: 10.9.9.9\r\nX-Key: c\r\n")
    assert s.get("/").status == 200, "another address, another count"
    assert s.get("/free").status == 200
    holding.go.set()
    assert all(c.response().status == 200 for c in clients)


def test_what_a_dead_worker_held_does_not_count(operate, holding):  # noqa: F811
    o = operate(HEAD + f"ConnLimit 2\nProxyPass {holding}\n")
    old = begin(o.s, holding, 1)
    o.reload()
    new = begin(o.s, holding, 1)
    assert o.s.get("/").status == 429, "the old generation's counts, too"
    for pid in [p for p in o.s.pids()[1:]]:
        o.s.expect("SL0202", "SL0245")
        os.kill(pid, 9)
    assert eventually(lambda: o.s.get("/").status == 200)
    assert statuses(o.s, 10) == [200] * 10
    holding.go.set()
    for c in old + new:
        c.close()


def test_connections_in_shadow(sluice, holding):
    s = sluice(HEAD + f"ConnLimit 1 shadow\nProxyPass {holding}\n")
    clients = begin(s, holding, 2)
    assert s.get("/").status == 200 and s.logged("RATELIMIT0011 .*would be refused")
    holding.go.set()
    assert all(c.response().status == 200 for c in clients)


# ---- bandwidth ----

BODY = bytes(range(256)) * 4096  # 1 MiB


def download(s, path, fields=(), n=None):
    """A body and the seconds it took."""
    c = s.client(timeout=60)
    began = time.time()
    try:
        r = c.request("GET", path, fields)
        return r, time.time() - began
    finally:
        c.close()


def upload(s, path, n, chunked=False):
    c = s.client(timeout=60)
    began = time.time()
    try:
        if chunked:
            c.send("POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path)
            for at in range(0, n, 8192):
                part = BODY[at:min(at + 8192, n)]
                c.send(b"%x\r\n%s\r\n" % (len(part), part))
            r = c.send(b"0\r\n\r\n").response()
        else:
            r = c.request("POST", path, body=BODY[:n])
        return r, time.time() - began
    finally:
        c.close()


def near(took, expected, late=1.0):
    """Never sooner by more than the credit of 0.2 s and a part in fifty; a busy machine is late."""
    assert expected * 0.98 - 0.25 <= took <= expected * 1.05 + late, f"{took:.2f} s, expected {expected:.2f}"


@pytest.mark.parametrize("length", [True, False])
def test_download(sluice, origin, length):
    origin.on("/x", reply(200, BODY) if length else
              lambda c, r: (c.send(reply(200, BODY, [("Connection", "close")], length=False)), c.close()))
    s = sluice(HEAD + f"BandwidthLimit 512k\nProxyTimeout idle=1s\nTimeout send=1s\nProxyPass {origin}\n")
    r, took = download(s, "/x")
    assert r.body == BODY
    near(took, 2)


def test_downloads_one_after_the_other_on_a_connection(sluice, origin):
    origin.on("/x", reply(200, BODY[:100000]))
    s = sluice(HEAD + f"BandwidthLimit 100k\nProxyPass {origin}\n")
    c, began = s.client(), time.time()
    for _ in range(2):
        assert c.request("GET", "/x").body == BODY[:100000]
    near(time.time() - began, 2 * 100000 / 102400 - 0.2)
    c.close()


def test_a_key_shares_its_bandwidth(sluice, origin):
    origin.on("/x", reply(200, BODY[:500000]))
    s = sluice(HEAD + f"BandwidthLimit 400k key=%{{req:X-Key}}\nProxyPass {origin}\n")
    took = {}

    def get(i, key):
        r, took[i] = download(s, "/x", {"X-Key": key})
        assert r.body == BODY[:500000]
    threads = [threading.Thread(target=get, args=(i, key)) for i, key in enumerate(("a", "a", "a", "b"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    near(max(took[0], took[1], took[2]), 1500000 / 409600)
    near(took[3], 500000 / 409600)


def test_all_of_many_lines_hold(sluice, origin):
    origin.on("/x", reply(200, BODY[:500000]))
    s = sluice(HEAD + "BandwidthLimit 100m\n" * 6 + f"BandwidthLimit 400k\nProxyPass {origin}\n")
    r, took = download(s, "/x")
    assert r.body == BODY[:500000]
    near(took, 500000 / 409600)


def test_after_and_small_bodies_are_free(sluice, origin):
    origin.on("/x", reply(200, BODY))
    origin.on("/small", reply(200, b"x" * 1000))
    s = sluice(HEAD + f"BandwidthLimit 256k after=768k\nProxyPass {origin}\n")
    r, took = download(s, "/x")
    assert r.body == BODY
    near(took, 1)
    assert all(download(s, "/small")[1] < 0.5 for _ in range(3))


def test_what_is_encoded_is_counted_as_it_leaves(sluice, origin):
    text = b"once more\n" * 100000
    origin.on("/x", reply(200, text, [("Content-Type", "text/plain")]))
    s = sluice(HEAD + f"LoadModule gzip\nGzip on\nBandwidthLimit 64k\nProxyPass {origin}\n")
    r, took = download(s, "/x", {"Accept-Encoding": "gzip"})
    assert gzip.decompress(r.body) == text and took < 2


@pytest.mark.parametrize("chunked", [False, True])
def test_upload(sluice, origin, chunked):
    s = sluice(HEAD + f"BandwidthLimit 256k upload\nProxyTimeout send=1s\nTimeout body=1s\nProxyPass {origin}\n")
    r, took = upload(s, "/x", 800000, chunked)
    assert r.status == 200 and len(origin.last.body) == 800000 and origin.last.body == BODY[:800000]
    near(took, 800000 / 262144 - 0.25, 1.25)


def test_uploads_share_and_downloads_do_not_count(sluice, origin):
    origin.on("/x", lambda c, r: c.send(reply(200, BODY if r.method == "GET" else b"ok")))
    s = sluice(HEAD + f"BandwidthLimit 256k upload key=%{{remote_addr}}\nProxyPass {origin}\n")
    took = []
    threads = [threading.Thread(target=lambda: took.append(upload(s, "/x", 400000)[1])) for _ in range(2)]
    for t in threads:
        t.start()
    assert download(s, "/x")[1] < 1.5
    for t in threads:
        t.join()
    near(max(took), 800000 / 262144 - 0.5, 1.5)


def test_small_uploads_share_a_rate(sluice, origin):
    """A body of one piece counts, and the next one waits for what the key owes."""
    s = sluice(HEAD + f"BandwidthLimit 20k upload key=%{{remote_addr}}\nProxyPass {origin}\n")
    took = [upload(s, "/x", 10000)[1] for _ in range(5)]
    near(sum(took), 40000 / 20480 - 0.25, 1.5)


def test_what_is_owed_beyond_the_most_is_not_forgotten(sluice, origin):
    """128 s are the most a key may owe: more than that is not nothing."""
    s = sluice(HEAD + f"BandwidthLimit 1k upload key=%{{remote_addr}}\nStopTimeout 100ms\nProxyPass {origin}\n").expect("SL0505")
    c = [s.client().send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + BODY[:300000])
         for _ in range(40)]
    time.sleep(1)  # each has had its first piece: together more than 128 KB
    c.append(s.client(timeout=2).send(b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"))
    with pytest.raises(socket.timeout):
        c[-1].response()
    for x in c:
        reset(x)


def test_clients_that_leave_a_slow_body(sluice, origin):
    origin.on("/x", reply(200, BODY))
    s = sluice(HEAD + f"BandwidthLimit 10k\nBandwidthLimit 100k upload\nProxyPass {origin}\n")
    for _ in range(4):
        c = s.client().send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        c.fill()
        reset(c)
        c = s.client().send(b"POST /y HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + BODY[:150000])
        time.sleep(0.05)
        reset(c)
    time.sleep(1.9)  # what had come of a body is passed on before its end is seen
    assert download(s, "/y")[0].status == 200


def test_a_reset_is_seen_while_the_body_is_held(sluice, origin):
    """What the client has sent still lies there: the request goes all the same."""
    s = sluice(HEAD + "LogLevel debug\nBandwidthLimit 1k upload\n<Location /x>\nConnLimit 2\n</Location>\n"
               f"ProxyPass {origin}\n")
    c = [s.client().send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + BODY[:200000])
         for _ in range(2)]
    assert eventually(lambda: s.log().count("the request's body is read at") == 2)  # else a GET has their place
    assert s.get("/x").status == 429
    for x in c:
        reset(x)
    assert eventually(lambda: s.get("/x").status == 200)


# ---- configuration ----

@pytest.mark.parametrize("text, says", [
    ("RateLimitZone key=%{path} rate=1r/s", "expected the name of the zone first"),
    ("RateLimitZone z rate=1r/s", "expected key=EXPR"),
    ("RateLimitZone z key=%{path}", "expected rate="),
    ("RateLimitZone z key=%{path} rate=1k/s", "rate: expected a rate such as 10r/s"),
    ("RateLimitZone z key=%{path} rate=0r/s", "expected between 1 and 1000000 requests"),
    ("RateLimitZone z key=%{status} rate=1r/s", "key:"),
    ("RateLimitZone z key=%{path} rate=1r/s size=1k", "size: expected 64k to 64g"),
    ("RateLimitZone z key=%{path} rate=1r/s ipv6=129", "ipv6: expected the length of a network"),
    ("RateLimitZone z key=%{path} rat=1r/s", 'did you mean "rate"?'),
    ("RateLimitZone z key=%{path} rate=1r/s\nRateLimitZone z key=%{path} rate=1r/s", "defined already at test.conf:3"),
    ("RateLimitZone login key=%{path} rate=1r/s\nRateLimit logn", 'no RateLimitZone "logn" is defined; did you mean "login"?'),
    ("RateLimitZone z key=%{path} rate=1r/d\nRateLimit z burst=1000", "expected a burst of at most 794"),
    ("RateLimitZone z key=%{path} rate=1r/s\nRateLimit z status=200", "status: expected a status between 400 and 599"),
    ("RateLimitZone z key=%{path} rate=1r/s\nRateLimit z except=10.0.0.0/33", "except:"),
    ("RateLimitZone z key=%{path} rate=1r/s\nRateLimit z burst=unlimited", "burst and delay: expected a number"),
    ("ConnLimit many", "expected a number of requests first"),
    ("ConnLimit 0", "expected a number of requests first"),
    ("ConnLimit 5 key=%{path} name=a\nConnLimit 5 key=%{host} name=a", "counts by another key or network at test.conf:3"),
    ("BandwidthLimit 10r/s", "expected bytes a second first"),
    ("BandwidthLimit 10", "expected bytes a second first"),
    ("<VirtualHost a>\nRateLimitZone z key=%{path} rate=1r/s\n</VirtualHost>", "RateLimitZone"),
])
def test_refused(refused, text, says):
    assert says in refused(HEAD + text + "\nReturn 200 ok\n")


def test_dry_runs_leave_no_trace(sluice):
    import subprocess
    from conftest import MODULES, PROGRAM
    s = sluice(HEAD + "RateLimitZone z key=%{remote_addr} rate=1r/h\nRateLimit z\nConnLimit 1\nReturn 200 ok\n")
    for _ in range(3):
        out = subprocess.run([PROGRAM, "-E", f"GET http://127.0.0.1:{s.port}/", "-f", s.conf, "--module-dir", MODULES],
                             capture_output=True, text=True, timeout=30).stdout
        assert "1r/h of zone z holds" in out and "answer 200" in out
    assert s.get("/").status == 200 and s.get("/").status == 429


def test_counters(operate):  # noqa: F811
    o = operate(HEAD + "RateLimitZone z key=%{remote_addr} rate=1r/h size=64k\nRateLimitZone y key=%{req:X-Key} rate=1r/h size=64k\n"
                "<Location /r>\nRateLimit z\n</Location>\n<Location /s>\nRateLimit z shadow\n</Location>\n"
                "<Location /y>\nRateLimit y\n</Location>\nReturn 200 ok\n")
    statuses(o.s, 3, "/r")
    statuses(o.s, 3, "/s")
    assert counted(o, "ratelimit_refused", 2) and counted(o, "ratelimit_shadowed", 3)
    c, n = o.s.client(), 0
    for i in range(180):
        c.send("".join(f"GET /y HTTP/1.1\r\nHost: a\r\nX-Key: {i}-{k}\r\n\r\n" for k in range(50)))
        n += sum(c.response().status == 200 for _ in range(50))
    c.close()
    assert n >= 8998, "two keys share a word once in a million"
    assert counters(o)["ratelimit_evicted"] > 500 and o.s.log().count("RATELIMIT0003") == 1


# ---- the operator ----

def limit(o, *words, status=0):
    r = o.say("ctl", "limit", *words)
    assert r.returncode == status, r.stdout + r.stderr
    return r.stdout + r.stderr


def test_the_operator_looks_and_forgives(operate, holding):  # noqa: F811
    o = operate(HEAD + FROM_ANYWHERE + "RateLimitZone z key=%{remote_addr} rate=1r/h\nRateLimitZone k key=\"%{req:X-Key}\" rate=1r/h\n"
                "RateLimit z burst=1 nodelay\nConnLimit 1 key=%{req:X-Conn}\n<Location /k>\nRateLimit k\n</Location>\n"
                f"ProxyPass {holding}\n")
    for address, n in (("10.0.0.1", 5), ("10.0.0.2", 9), ("2001:db8::77", 4), ("10.0.0.3", 1)):
        statuses(o.s, n, "/", {"X-Forwarded-For": address})
    rows = [l.split() for l in limit(o, "top", "z").splitlines()]
    assert [r[:2] for r in rows[1:]] == [["10.0.0.2", "7"], ["10.0.0.1", "3"], ["2001:db8::/64", "2"]]
    assert len(limit(o, "top", "z", "1").splitlines()) == 2
    top = json.loads(limit(o, "--json", "top", "z"))
    assert [(r["key"], r["over"]) for r in top][:2] == [("10.0.0.2", 7), ("10.0.0.1", 3)]
    assert "4 have a debt" in limit(o, "show", "z")
    assert json.loads(limit(o, "--json", "show", "z"))["keys"] == 4
    assert "owes 2 requests, paid in 7" in limit(o, "show", "z", "10.0.0.2")
    assert "owes 2 requests" in limit(o, "show", "z", "2001:db8::/64") and "owes 0" in limit(o, "show", "z", "10.9.9.9")
    assert "10.0.0.2: forgotten" in limit(o, "clear", "z", "10.0.0.2")
    assert "owed nothing" in limit(o, "clear", "z", "10.9.9.9")
    assert admitted(o.s, 3, X_Forwarded_For="10.0.0.2") == 2 and admitted(o.s, 3, X_Forwarded_For="10.0.0.1") == 0
    assert admitted(o.s, 2, "/k", X_Key='a"b', X_Forwarded_For="10.0.0.9") == 1
    assert json.loads(limit(o, "--json", "top", "k"))[0]["key"] == 'a"b'
    assert "owes 1 requests" in limit(o, "show", "k", 'a"b')
    limit(o, "clear", "z")
    assert admitted(o.s, 3, X_Forwarded_For="10.0.0.1") == 2 and len(limit(o, "top", "z").splitlines()) == 2
    clients = begin(o.s, holding, 1, "X-Conn: c\r\nX-Forwarded-For: 10.0.0.10\r\n")
    assert statuses(o.s, 1, "/", {"X-Conn": "c", "X-Forwarded-For": "10.0.0.10"}) == [429]
    assert "c: 1 under way" in limit(o, "show", "%{req:X-Conn}", "c") and "c " in limit(o, "top", "%{req:X-Conn}")
    holding.go.set()
    assert all(c.response().status == 200 for c in clients)
    for words, status in (((), 2), (("top",), 2), (("tip", "z"), 2), (("top", "nix"), 1), (("show", "z", "x"), 2),
                          (("top", "z", "x"), 2), (("top", "z", "0"), 2)):
        limit(o, *words, status=status)
