"""sluice ctl server: what is shown and said of servers at run time; a method of a third party."""
import json
import os
import signal
import threading

import pytest
from origin import reply
from test_balancer import pool, until, who
from test_reload import operate  # noqa: F401, a fixture
from test_route import names


def ctl(op, *words, code=0):
    r = op.say("ctl", "server", *words)
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout + r.stderr


def as_json(op, *words):
    return json.loads(ctl(op, *words, "--json"))


@pytest.fixture
def two(operate, make_origin):  # noqa: F811
    def start(extra="", options=""):
        o = names(make_origin, "a", "b")
        op = operate(pool([f"a={o['a']}{options}", f"b={o['b']}"], extra))
        op.o = o
        return op
    return start


def test_the_list(two):
    op = two("    HealthCheck tcp\n", " weight=3 maxconn=7")
    lines = ctl(op, "list").splitlines()
    assert lines[0].split() == ["POOL", "SERVER", "STATE", "WEIGHT", "LEVEL", "ACTIVE", "NOTES"]
    assert lines[1].split() == ["p", "a", "up", "3", "0", "0", "checked"] and len(lines) == 3
    rows = as_json(op, "list", "p")
    assert rows[0] == {"pool": "p", "server": "a", "address": str(op.o["a"]), "state": "up", "weight": 3,
                       "level": 0, "active": 0, "maxconn": 7, "is_checked": True, "override": "", "said_at": "",
                       "configured": f"{op.o['a']} weight=3"}
    assert ctl(op, "list", "q", code=1) == 'there is no pool "q"\n'
    assert "expected POOL/SERVER" in ctl(op, "drain", "p/x", code=1)
    for words in (["drain"], ["nonsense"], ["list", "p", "a"], ["add", "p"], ["remove"]):
        assert ctl(op, *words, code=2).startswith("expected server list [POOL] | why|drain|"), words
    assert "1 to 256" in ctl(op, "weight", "p/a", "0", code=2)


def test_drain_finishes_what_runs(two):
    op = two()
    go = threading.Event()
    op.o["a"].on("/hold", lambda c, r: (go.wait(5), c.send(reply(200, b"held")))[1])
    clients = [op.s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
    until(lambda: any(r.target == "/hold" for r in op.o["a"].requests))
    assert "p/a is drained, weight 1, 1 in flight" in ctl(op, "drain", "p/a")
    assert who(op.s, 10) == {"b": 10} and op.s.logged("BALANCER0040.*the operator says drain")
    go.set()
    assert b"held" in [c.response().body for c in clients]
    assert "is up" in ctl(op, "enable", "p/a")
    assert who(op.s, 10) == {"a": 5, "b": 5}


def test_weights_change_at_once(two):
    op = two()
    assert who(op.s, 8) == {"a": 4, "b": 4}
    ctl(op, "weight", "p/a", "3")
    assert who(op.s, 8) == {"a": 6, "b": 2}
    assert as_json(op, "list")[0]["override"] == "weight=3"
    ctl(op, "reset", "p/a")
    assert who(op.s, 8) == {"a": 4, "b": 4} and as_json(op, "list")[0]["override"] == ""


@pytest.mark.parametrize("method, least", [("leastconn", 0), ("random2", 55), ("hash %{path}", 55), ("ewma", 0)])
def test_weights_change_under_load(two, method, least):
    op = two(f"    Method {method}\n")
    stop, statuses = threading.Event(), []

    def load():
        c = op.s.client()
        while not stop.is_set():
            statuses.append(c.request("GET", f"/{len(statuses)}").status)
        c.close()
    threads = [threading.Thread(target=load) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(6):
        ctl(op, "weight", "p/a", str(i % 3 + 2))
    stop.set()
    for t in threads:
        t.join()
    assert set(statuses) == {200} and len(statuses) > 10


def test_what_was_said_outlives_reload_and_crash_but_not_an_edit(two):
    op = two()
    op.s.expect("SL0202")
    ctl(op, "drain", "p/a")
    ctl(op, "weight", "p/b", "5")
    op.reload()
    assert who(op.s, 10) == {"b": 10} and as_json(op, "list")[1]["weight"] == 5
    worker = op.serving()
    os.kill(worker, signal.SIGKILL)
    until(lambda: op.s.pids()[1:] not in ([], [worker]))
    until(lambda: "b" in who_or_none(op))
    assert who(op.s, 10) == {"b": 10}
    assert [x["override"] for x in as_json(op, "list")] == ["drain", "weight=5"]
    op.write(op.text.replace(str(op.o["a"]), f"{op.o['a']} weight=2"))
    op.reload()
    assert op.s.logged("BALANCER0060.*server a: its line was edited and holds now")
    assert [x["override"] for x in as_json(op, "list")] == ["", "weight=5"]
    assert set(who(op.s, 14)) == {"a", "b"}


def who_or_none(op):
    try:
        return who(op.s, 1)
    except (OSError, EOFError):
        return {}


def test_disabled_is_out_and_enabled_outweighs_the_file(two):
    op = two("    Sticky cookie=srv\n", " drain")
    assert as_json(op, "list")[0]["state"] == "drained"
    ctl(op, "enable", "p/a")
    assert set(who(op.s, 10)) == {"a", "b"} and as_json(op, "list")[0]["override"] == "enable"
    mine = next(r.get("Set-Cookie").split(";")[0] for r in (op.s.get("/") for _ in range(4)) if r.body.startswith(b"a"))
    ctl(op, "disable", "p/a")
    assert op.s.get("/", {"Cookie": mine}).body.startswith(b"b")
    assert as_json(op, "list")[0]["state"] == "disabled"


def test_why(two):
    op = two("    HealthCheck uri=/health interval=100ms fall=1 rise=1\n")
    op.s.expect("BALANCER0012")
    op.o["a"].on("/health", reply(503))
    assert op.s.logged("server a is down")
    op.o["a"].on("/health", reply(200))
    assert op.s.logged("server a is back")
    ctl(op, "drain", "p/a")
    op.reload()
    lines = ctl(op, "why", "p/a").splitlines()
    assert lines[0] == "p/a is drained, 0 in flight"
    assert "the operator: drain" in lines[1] and "up: check: status 200" in lines[2]
    assert "down: check: status 503" in lines[3]
    why = as_json(op, "why", "p/a")
    assert why["state"] == "drained" and [e["event"] for e in why["events"]][0] == "the operator: drain"


def test_a_server_that_is_enabled_again_warms_up(two):
    op = two("", " slowstart=20s")
    ctl(op, "disable", "p/a")
    ctl(op, "enable", "p/a")
    assert who(op.s, 200)["a"] < 60


def test_a_method_of_a_third_party(operate, make_origin):  # noqa: F811
    o = names(make_origin, "a", "b", "c")
    servers = [f"{k}={v}" for k, v in o.items()]
    op = operate("LoadModule last\n" + pool(servers, "    Method last 1\n"))
    op.s.expect("SL05", "BALANCER")
    assert who(op.s, 5) == {"b": 5}
    ctl(op, "drain", "p/c")
    assert who(op.s, 5) == {"a": 5}  # the last but one of what is left
    ctl(op, "weight", "p/a", "2")
    assert op.s.logged("LAST0001")
