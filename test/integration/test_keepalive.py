"""Connections to servers: how many are kept, how long, and how old they get."""
import time

import pytest
from origin import reply
from test_balancer import pool, until


def open_now(origin):
    return len(origin.open)


def used(s, n, path="/"):
    c = s.client()
    for _ in range(n):
        assert c.request("GET", path).status == 200
    c.close()


@pytest.mark.parametrize("line, kept, gone_after", [
    ("Keepalive 8 idle=300ms", True, 1.5), ("Keepalive 8 life=500ms", True, 1.5),
    ("Keepalive 8 idle=off life=off", True, None), ("Keepalive off", False, 1.5)])
def test_idle_connections(sluice, origin, line, kept, gone_after):
    s = sluice(pool([origin], f"    {line}\n"))
    used(s, 3)
    assert origin.n_connections == (1 if kept else 3)
    if gone_after is None:
        time.sleep(0.5)
        assert open_now(origin) == 1
    else:
        until(lambda: open_now(origin) == 0, gone_after)


def test_crowds_that_come_again_find_their_connections(sluice, origin):
    origin.on("/", lambda c, r: (time.sleep(0.3), c.send(reply(200)))[1])
    s = sluice(f"LoadModule route\nProxyPass {origin}\n")
    clients = [s.client(timeout=20) for _ in range(150)]
    for _ in range(2):
        for c in clients:
            c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert all(c.response().status == 200 for c in clients)
    assert 100 <= origin.n_connections <= 200


def test_a_connection_grows_old_in_use(sluice, origin):
    """It is never idle for long, and is replaced all the same; no request notices."""
    s = sluice(pool([origin], "    Keepalive 8 life=400ms\n"))
    end, c = time.time() + 1.5, s.client()
    while time.time() < end:
        assert c.request("GET", "/").status == 200
        time.sleep(0.02)
    assert 3 <= origin.n_connections <= 7


def test_what_is_under_way_is_not_cut(sluice, origin):
    origin.on("/slow", lambda c, r: (time.sleep(0.6), c.send(reply(200, b"whole")))[1])
    s = sluice(pool([origin], "    Keepalive 8 life=200ms\n"))
    assert s.get("/slow").body == b"whole"
    until(lambda: open_now(origin) == 0, 1)


def test_lives_end_at_different_times(sluice, origin):
    origin.on("/hold", lambda c, r: (time.sleep(0.2), c.send(reply(200)))[1])
    s = sluice(pool([origin], "    Keepalive 40 life=1s\n"))
    clients = [s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(40)]
    for c in clients:
        c.response()
    assert origin.n_connections == 40
    seen, end = set(), time.time() + 3
    while open_now(origin) > 0 and time.time() < end:
        seen.add(open_now(origin))
        time.sleep(0.002)
    assert open_now(origin) == 0 and len(seen) > 1  # not all in one turn


@pytest.mark.parametrize("says, gone_after, stays", [
    ("timeout=1", 0.9, 0.3), ("max=5, Timeout=1", 0.9, 0.3), ("timeout=0", 0.3, 0),
    ("timeout=60", None, 1.2), ("timeout=x", None, 1.2), ("timeout=99999999999", None, 1.2)])
def test_what_the_server_says_is_believed(sluice, origin, says, gone_after, stays):
    """It is left before it closes: its own end would meet a request."""
    origin.on("/", reply(200, b"", [("Keep-Alive", says)]))
    s = sluice(pool([origin]))
    r = s.get("/")
    assert r.status == 200 and r.get("Keep-Alive") is None
    at = time.time()
    while stays and time.time() < at + stays:
        assert open_now(origin) == 1
        time.sleep(0.02)
    if gone_after is not None:
        until(lambda: open_now(origin) == 0, gone_after)


@pytest.mark.parametrize("line, says", [
    ("Keepalive", "expected N [idle=TIME] [life=TIME]"), ("Keepalive -1", "number"), ("Keepalive 4 idle=0s", "1ms or more"),
    ("Keepalive 4 life=0s", "1ms or more"), ("Keepalive 4 lief=1s", "did you mean"), ("Keepalive 4 life=x", "expected")])
def test_bad_lines(refused, line, says):
    out = refused(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server x:1\n    {line}\n"
                  "</Balancer>\nProxyPass balancer://p\nListen 1\n")
    assert says in out
