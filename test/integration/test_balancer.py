"""mod_balancer: rotation, least connections, retries, backups."""
import collections
import os
import re
import socket
import threading
import time

import pytest
from conftest import TOP, free_port
from origin import reply
from test_route import names


def pool(servers, extra=""):
    return ("LoadModule route\nLoadModule balancer\n<Balancer p>\n" +
            "".join(f"    Server {x}\n" for x in servers) + extra +
            "</Balancer>\nProxyPass balancer://p\n")


def who(s, n):
    c = s.client()
    out = [c.request("GET", "/").body.decode().split()[0] for _ in range(n)]
    c.close()
    return collections.Counter(out)


def test_weighted_rotation_is_exact(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    s = sluice(pool([f"{o['a']} weight=3", f"{o['b']} weight=2", o["c"]]))
    assert who(s, 60) == {"a": 30, "b": 20, "c": 10}


def test_the_rotation_is_one_for_all_threads(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([o["a"], o["b"]]))
    total = collections.Counter()
    for _ in range(20):
        total += who(s, 5)
    assert total == {"a": 50, "b": 50}


def test_least_connections(sluice, make_origin):
    o = names(make_origin, "a", "b")
    go = threading.Event()
    o["a"].on("/hold", lambda c, r: (go.wait(5), c.send(reply(200, b"a held")))[1])
    o["b"].on("/hold", lambda c, r: (go.wait(5), c.send(reply(200, b"b held")))[1])
    s = sluice(pool([o["a"], o["b"]], "    Method leastconn\n"))
    held = s.client().send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    busy = "a" if o["a"].requests else "b"
    assert set(who(s, 10)) == {"a", "b"} - {busy}
    go.set()
    held.response()


def test_a_dead_server_is_passed_over(sluice, make_origin):
    o = names(make_origin, "a")
    s = sluice(pool([f"127.0.0.1:{free_port()}", o["a"]])).expect("SL0501", "BALANCER")
    assert who(s, 20) == {"a": 20}
    assert s.logged("trying another server") and s.logged("BALANCER")


def test_backups_wait_for_the_others(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([o["a"], f"{o['b']} backup"])).expect("SL05", "BALANCER")
    assert who(s, 10) == {"a": 10}
    o["a"].close()
    assert set(who(s, 5)) == {"b"}


def test_drained_servers_get_nothing(sluice, make_origin):
    o = names(make_origin, "a", "b")
    assert who(sluice(pool([o["a"], f"{o['b']} drain"])), 10) == {"a": 10}


def test_a_post_with_a_held_body_goes_to_another_server(sluice, make_origin, origin):
    s = sluice(pool([f"127.0.0.1:{free_port()}", origin])).expect("SL0501", "BALANCER")
    for _ in range(4):
        assert s.get("/", method="POST", body=b"x" * 5000).json()["body"] == "x" * 5000


def test_a_post_is_not_sent_to_a_second_server_when_the_first_may_have_acted(sluice, make_origin):
    o = names(make_origin, "a", "b")
    for x in o.values():
        x.on("/p", lambda c, r: c.reset())
    s = sluice(pool([o["a"], o["b"]])).expect("SL05", "BALANCER")
    assert s.get("/p", method="POST", body=b"once").status == 502
    assert len(o["a"].requests) + len(o["b"].requests) == 1


def test_all_dead(sluice):
    s = sluice(pool([f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]))
    s.expect("SL05", "BALANCER")
    assert s.get("/").status in (502, 503)


def test_names_are_looked_up(sluice, origin):
    port = str(origin).split(":")[1]
    s = sluice(pool([f"localhost:{port}"])).expect("SL0501", "BALANCER")
    assert s.get("/n").json()["target"] == "/n"


def test_a_name_nobody_knows_does_not_stop_the_start(sluice, make_origin):
    o = names(make_origin, "a")
    s = sluice(pool(["no-such-host.invalid:80", o["a"]])).expect("SL05", "BALANCER")
    assert who(s, 6) == {"a": 6}


@pytest.mark.parametrize("line, text", [
    ("Server", "expected"), ("Server 127.0.0.1", "port"), ("Server a:80 weight=0", "weight"),
    ("Server a:80 wieght=2", "weight"), ("Method nonesuch", "roundrobin"),
    ("Server a:80 resolve=0", "1 to 1024"), ("Server a:80 maxconn=0", "maxconn"),
    ("Server a:80 priority=100", "0 to 99"), ("Server a:80 checkport=70000", "65535"),
    ("Server unix:/x checkport=1", "Unix socket"), ("Method hash", "needs an expression"),
    ("Method hash %{path} bound=50", "101"), ("Method hash %{nonesuch}", "nonesuch"),
    ("Method first 1", "no arguments"), ("HealthCheck rise=1", "expected tcp or uri=PATH"),
    ("HealthCheck uri=x", "begin with '/'"), ("HealthCheck tcp uri=/", "tcp asks nothing"),
    ("HealthCheck uri=/ expect=700", "200-399,404"), ("HealthCheck uri=/ fall=0", "1 and 255"),
    ("HealthCheck tcp interval=1ms", "100ms"), ("HealthCheck uri=/ intreval=1s", "interval"),
    ("Eject errors=0", "1 or more"), ("Eject ratio=101", "per cent"), ("Eject panic=101", "per cent"),
    ("Queue -1", "number"), ("Queue 5 timeout=0s", "timeout"), ("Queue 5 priority=%{x}", "x"),
    ("Retry on=connect,700", "statuses of 400 to 599"), ("Retry budget=101", "budget"),
    ("Sticky path=/", "cookie=NAME or route=EXPR"), ("Sticky cookie=a route=b", "cookie=NAME or route=EXPR"),
    ("Sticky cookie=a samesite=none", "secure"), ("Sticky cookie=a path=/;x", "without blanks"),
    ("SendProxy v3", "v1 or v2")])
def test_bad_lines(refused, line, text):
    assert text in refused(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server x:1\n"
                           f"    {line}\n</Balancer>\nProxyPass balancer://p\nListen 1\n")


def test_a_pool_that_is_never_defined(refused):
    out = refused("LoadModule route\nLoadModule balancer\nListen 1\nProxyPass balancer://bakend\n"
                  "<Balancer backend>\n    Server a:80\n</Balancer>\n")
    assert "bakend" in out and 'did you mean "backend"' in out


def test_servers_of_every_family(sluice, make_origin, tmp_path):
    six = make_origin(socket.AF_INET6, ("::1", 0))
    path = str(tmp_path / "s")
    make_origin(socket.AF_UNIX, path)
    s = sluice(pool([f"[::1]:{six.listener.getsockname()[1]}", f"unix:{path}", f"http://{make_origin()}"]))
    c = s.client()
    hosts = {c.request("GET", "/", host="").seen("Host").rsplit(":", 1)[0] for _ in range(3)}
    assert hosts == {"[::1]", "localhost", "127.0.0.1"}


def test_each_promise_names_a_test_there_is():
    with open(os.path.join(TOP, "docs", "balancing.md")) as f:
        table = f.read().split("## What is promised")[1]
    rows = re.findall(r"^\| (?!---|promise|\*\*)(.*) \|$", table, re.M)
    named = re.findall(r"`(unit/)?([a-z_0-9]+)::(\w+)`", table)
    assert len(rows) > 40 and all("::" in row for row in rows)
    for unit, file, name in named:
        if name == "name":
            continue
        path, text = ((f"unit/test_{file}.c", f"{name}(void **state)") if unit
                      else (f"integration/test_{file}.py", f"def test_{name}("))
        with open(os.path.join(TOP, "test", path)) as f:
            assert text in f.read(), f"{file}::{name}"


# ---- methods ----

def spread(s, n, path=lambda i: f"/{i}"):
    """Which server each of n requests went to."""
    c = s.client()
    out = [c.request("GET", path(i)).body.decode().split()[0] for i in range(n)]
    c.close()
    return out


def test_random2_uses_all(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    n = who(sluice(pool(o.values(), "    Method random2\n")), 300)
    assert set(n) == {"a", "b", "c"} and min(n.values()) > 50


def test_ewma_uses_all(sluice, make_origin):
    """The first response of one may be slow; that is forgotten."""
    o = names(make_origin, "a", "b", "c")
    s = sluice(pool(o.values(), "    Method ewma\n"))
    until(lambda: min(who(s, 200)[k] for k in "abc") > 20, 10)


def test_random2_keeps_to_weights(sluice, make_origin):
    o = names(make_origin, "a", "b")
    n = who(sluice(pool([f"{o['a']} weight=4", o["b"]], "    Method random2\n")), 400)
    assert n["a"] > 220


def test_ewma_avoids_the_slow(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    o["a"].on("/", lambda c, r: (time.sleep(0.1), c.send(reply(200, b"a")))[1])
    n = who(sluice(pool(o.values(), "    Method ewma\n")), 200)
    assert 1 <= n["a"] < 30


def test_equal_keys_go_to_the_same_server(sluice, make_origin):
    o = names(make_origin, "a", "b", "c", "d")
    servers = [f"{k}={v}" for k, v in o.items()]
    s = sluice(pool(servers, "    Method hash %{path}\n"))
    before = spread(s, 200)
    assert set(before) == set("abcd") and spread(s, 200) == before
    # without one of them, and with another order: only its own keys have moved
    t = sluice(pool(servers[:0:-1], "    Method hash %{path}\n"))
    after = spread(t, 200)
    assert all(x == y or x == "a" for x, y in zip(before, after))


def test_a_dead_servers_keys_go_to_all_others(sluice, make_origin):
    o = names(make_origin, "a", "b", "c", "d")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Method hash %{path}\n"))
    s.expect("SL05", "BALANCER")
    before = spread(s, 200)
    o["a"].close()
    after = spread(s, 200)
    moved = collections.Counter(y for x, y in zip(before, after) if x == "a")
    assert all(x == y or x == "a" for x, y in zip(before, after)) and set(moved) == set("bcd")


def test_a_client_keeps_its_server_by_address(sluice, make_origin):
    o = names(make_origin, "a", "b", "c", "d")
    s = sluice("TrustedProxies 127.0.0.1\n" + pool(o.values(), "    Method iphash\n"))
    c = s.client()
    got = [[c.request("GET", "/", {"X-Forwarded-For": f"10.0.{i}.1"}).body.decode().split()[0]
            for i in range(40)] for _ in range(2)]
    assert got[0] == got[1] and len(set(got[0])) == 4


def test_the_first_with_room(sluice, make_origin):
    o = names(make_origin, "a", "b")
    go = threading.Event()
    for k, x in o.items():
        x.on("/hold", lambda c, r, k=k: (go.wait(5), c.send(reply(200, k.encode())))[1])
    s = sluice(pool([f"{o['a']} maxconn=2", o["b"]], "    Method first\n"))
    clients = [s.client().send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(5)]
    until(lambda: len(o["a"].requests) + len(o["b"].requests) == 5)
    assert len(o["a"].requests) == 2 and len(o["b"].requests) == 3
    go.set()
    assert sorted(c.response().body for c in clients) == [b"a", b"a", b"b", b"b", b"b"]
    assert set(who(s, 10)) == {"a"}


def until(what, timeout=5):
    end = time.time() + timeout
    while not what():
        assert time.time() < end
        time.sleep(0.01)


# ---- levels ----

def test_levels(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    s = sluice(pool([f"{o['c']} backup", f"{o['b']} priority=2", f"{o['a']} priority=1"]))
    s.expect("SL05", "BALANCER")
    assert set(who(s, 5)) == {"a"}
    o["a"].close()
    assert set(who(s, 5)) == {"b"}
    o["b"].close()
    assert set(who(s, 5)) == {"c"}


# ---- large pools ----

@pytest.mark.parametrize("method", ["roundrobin", "leastconn", "random2", "ewma", "hash %{path}", "first"])
def test_no_server_is_tried_twice(sluice, make_origin, method):
    """Also of those that are far behind: one of ninety answers, and each request finds it."""
    a = make_origin()
    dead = [f"d{i}=127.0.0.1:{free_port()}" for i in range(89)]
    s = sluice(pool([*dead[:80], f"a={a}", *dead[80:]],
                    f"    Method {method}\n    Retry max=89\n    Eject errors=off\n")).expect("SL0501")
    assert s.get("/x").json()["target"] == "/x"
