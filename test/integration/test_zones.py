"""What generations share: zones, counters, how servers fare and what they have in flight."""
import os
import signal
import threading
import time

import pytest
from conftest import free_port
from origin import reply
from test_reload import descriptors, operate  # noqa: F401, a fixture
from test_route import names

PROBE = "LoadModule route\nLoadModule probe\nProbeActive on\n"
POOL = ("LoadModule balancer\n<Balancer p>\n    Server a={a}\n    Server b={b}\n"
        "    Method leastconn\n    Retry max=0\n</Balancer>\nProxyPass balancer://p\n")


@pytest.fixture
def two(operate, make_origin):  # noqa: F811
    """An operator of a pool of two, whose servers hold /hold until told to go on."""
    o = names(make_origin, "a", "b")
    go = {name: threading.Event() for name in o}
    for name, server in o.items():
        server.on("/hold", lambda c, r, n=name: (go[n].wait(20), c.send(reply(200, n.encode()))))
    op = operate(PROBE + POOL.format(**o))
    op.go, op.origins, op.held = go, o, []
    yield op
    for e in go.values():
        e.set()


def hold(op, n=1):
    """Requests that stay in flight, one begun after the other has arrived: two that are begun at
    once by two threads may choose alike.  Which server the first of them is at."""
    clients, first = [], None
    for _ in range(n):
        before = {k: len(v.requests) for k, v in op.origins.items()}
        clients.append(op.s.client(timeout=30).send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"))
        end, at = time.time() + 5, None
        while at is None and time.time() < end:
            time.sleep(0.01)
            at = next((k for k, v in op.origins.items() if len(v.requests) > before[k]), None)
        first = first or at
    op.held += clients  # one that is closed is in flight no more
    return clients, first


def active(op):
    """In flight at each server, but for the request that asks."""
    r = op.s.get("/")
    out = {k: int(v) for k, v in (x.split("=") for x in r.get("X-Active").split())}
    out[r.body.decode().split()[0]] -= 1
    return out


def in_flight(op, expected, timeout=5):
    """Whether it comes to this: an answer may be read before its server is done with."""
    end = time.time() + timeout
    while (seen := active(op)) != expected and time.time() < end:
        time.sleep(0.02)
    assert seen == expected
    return True


def counters(op):
    return {k: int(v) for k, v in (l.split() for l in op.say("ctl", "counters").stdout.splitlines())}


def counted(op, name, n, timeout=5):
    end = time.time() + timeout
    while time.time() < end and counters(op).get(name) != n:
        time.sleep(0.05)
    return counters(op).get(name) == n


def zones(op):
    rows = [l.split() for l in op.say("ctl", "zones").stdout.splitlines()[1:]]
    return [(name, int(layout), int(size), users) for name, layout, size, users in rows]


def kill(op, pid=None):
    """kill -9 of the worker that serves, or another; returns when a new one serves."""
    op.s.expect("SL0202")
    pid = pid or op.serving()
    os.kill(pid, signal.SIGKILL)
    end = time.time() + 10
    while time.time() < end:
        try:
            if op.serving() not in (0, pid) and op.s.get("/").status == 200:
                return
        except (OSError, EOFError, StopIteration):
            pass
        time.sleep(0.02)
    raise AssertionError("no worker serves again: " + op.s.log())


def memfds(pid):
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return sorted(x for x in links if "memfd:" in x)


# ---- zones ----

def test_a_zone_survives_reload_and_kill(operate):  # noqa: F811
    o = operate(PROBE + "Return 200 x\n")
    assert o.s.get("/").get("X-Starts") == "1"
    o.reload()
    assert o.s.get("/").get("X-Starts") == "2" and o.settled()
    kill(o)
    assert o.s.get("/").get("X-Starts") == "3"
    o.reload()
    assert o.s.get("/").get("X-Starts") == "4" and "SL0320" not in o.s.log()


def test_another_layout_begins_afresh_and_says_so(two):
    op = two
    held, at = hold(op)
    assert op.s.get("/").get("X-Starts") == "1"
    op.reload()
    assert op.s.get("/").get("X-Starts") == "2"
    op.write(op.text.replace(PROBE, PROBE + "ProbeLayout 2\n"))
    op.reload()
    assert op.s.get("/").get("X-Starts") == "1"
    assert op.s.logged("SL0320 zone probe: layout 2 of 4096 bytes instead of layout 1 of 4096: "
                       "it begins afresh with generation 3")
    assert op.settled(2)  # the first one still drains, and keeps its own
    kept = {(layout, users) for name, layout, _, users in zones(op) if name == "probe"}
    assert (1, "1") in kept and (2, "3") in kept
    op.go[at].set()
    held[0].response()
    held[0].close()
    assert op.settled()
    assert [z for z in zones(op) if z[0] == "probe"] == [("probe", 2, 4096, "3")]


def test_a_refused_reload_leaves_no_zone(operate):  # noqa: F811
    o = operate(PROBE + "Return 200 x\n")
    o.s.expect("SL0208")
    before = zones(o)
    o.write(PROBE + "ProbeLayout 2\nLoadModule trouble\nTrouble ready fail\nReturn 200 x\n")
    o.refused()
    assert o.settled() and zones(o) == before
    o.write(PROBE + "Return 200 x\n")
    o.reload()


def test_a_new_zone_is_refused_once_the_worker_serves(sluice):
    s = sluice(PROBE + "ProbeLate on\nReturn 200 x\n").expect("SL0322")
    assert s.get("/").get("X-Late") == "refused"
    assert s.logged('SL0322 zone "late": new zones are asked for before the worker is ready')


def test_without_a_master_zones_are_the_process_s_own(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(PROBE + POOL.format(**o), args=("-XX",))
    r = s.get("/")
    assert r.get("X-Starts") == "1" and sorted(r.get("X-Active").split()) in (["a=1", "b=0"],
                                                                              ["a=0", "b=1"])


def test_workers_cannot_write_who_is_alive(operate):  # noqa: F811
    o = operate(PROBE + "Return 200 x\n")
    rights = lambda pid: [l.split()[1] for l in open(f"/proc/{pid}/maps") if "memfd:processes" in l]
    assert rights(o.serving()) == ["r--s"] and rights(o.s.proc.pid) == ["rw-s"]
    o.reload()
    assert rights(o.serving()) == ["r--s"]


# ---- in flight ----

def test_least_connections_see_a_draining_generation(two):
    op = two
    hold(op, 6)
    op.go["b"].set()
    assert in_flight(op, {"a": 3, "b": 0})
    op.reload()
    assert in_flight(op, {"a": 3, "b": 0})
    assert [op.s.get("/").body.decode().split()[0] for _ in range(6)] == ["b"] * 6
    op.go["a"].set()
    assert op.settled() and in_flight(op, {"a": 0, "b": 0})


def test_counts_in_flight_end_with_a_killed_worker(two):
    op = two
    hold(op, 6)
    assert in_flight(op, {"a": 3, "b": 3})
    kill(op)
    assert in_flight(op, {"a": 0, "b": 0})


def test_counts_in_flight_end_with_a_killed_worker_that_drains(two):
    op = two
    hold(op, 4)
    op.reload()
    hold(op, 2)
    assert in_flight(op, {"a": 3, "b": 3})
    kill(op)  # the one that serves: four are left, of the one that drains
    assert in_flight(op, {"a": 2, "b": 2})
    op.s.expect("SL0245")
    os.kill(next(pid for state, pid in op.generations().values() if state == "draining"), signal.SIGKILL)
    assert op.settled() and in_flight(op, {"a": 0, "b": 0})


# ---- failures ----

def test_a_server_rests_through_reload_and_kill(operate, make_origin):  # noqa: F811
    o = names(make_origin, "b")
    port = free_port()
    op = operate(PROBE + f"LoadModule balancer\n<Balancer p>\n    Server a=127.0.0.1:{port}\n"
                 f"    Server b={o['b']}\n</Balancer>\nProxyPass balancer://p\n")
    op.s.expect("SL0501", "BALANCER0010")
    end = time.time() + 15
    while op.s.log().count("BALANCER0010") < 3 and time.time() < end:
        op.s.get("/")
        time.sleep(0.1)
    assert "server a rests for 4 s" in op.s.log()
    op.reload()
    assert all(op.s.get("/").status == 200 for _ in range(6))
    kill(op)
    assert all(op.s.get("/").status == 200 for _ in range(6))
    assert op.s.log().count("BALANCER0010") == 3  # nobody had to learn it again
    op.write(op.text.replace(f"a=127.0.0.1:{port}", f"a={o['b']}"))
    op.reload()  # at another address it has a new chance
    seen = len(o["b"].requests)
    assert all(op.s.get("/").status == 200 for _ in range(4)) and len(o["b"].requests) == seen + 4
    assert op.s.log().count("BALANCER0010") == 3


# ---- counters ----

def test_counters_lose_nothing(operate):  # noqa: F811
    o = operate(PROBE + "Return 200 x\n")
    for _ in range(5):
        o.s.get("/")
    assert counted(o, "requests", 5) and counters(o)["connections"] == 5
    o.reload()
    for _ in range(3):
        o.s.get("/")
    assert o.settled() and counted(o, "requests", 8)
    pid = o.serving()
    o.s.expect("SL0202")
    os.kill(pid, signal.SIGKILL)
    assert counted(o, "requests", 8)
    assert o.s.logged("SL0213")
    for _ in range(4):
        o.s.get("/")
    assert counted(o, "requests", 12)


def test_lost_log_lines_are_counted(operate):  # noqa: F811
    o = operate("LoadModule route\nLoadModule log\nAccessLog /dev/full common flush=10ms\nReturn 200 x\n")
    o.s.expect("LOG0002")
    for _ in range(3):
        o.s.get("/")
    assert counted(o, "access_log_lines_lost", 3)
    o.reload()
    o.s.get("/")
    assert o.settled() and counted(o, "access_log_lines_lost", 4)
    assert o.s.logged("lines of access logs have been lost so far")


# ---- nothing leaks ----

def test_nothing_leaks(two):
    op = two
    master = op.s.proc.pid
    op.reload()
    assert op.settled()
    before, n = memfds(master), descriptors(master)
    for i in range(20):
        op.reload()
        if i % 4 == 0:
            kill(op)
    assert op.settled() and len(op.generations()) == 1
    assert memfds(master) == before and descriptors(master) == n
    with open(f"/proc/{master}/task/{master}/children") as f:
        assert [int(pid) for pid in f.read().split()] == [op.serving()]
    assert {users for _, _, _, users in zones(op)} == {str(max(op.generations()))}
    assert in_flight(op, {"a": 0, "b": 0})
