"""mod_balancer: health checks, ejection, the probe, panic floor, slow start."""
import re
import socket
import subprocess
import threading
import time

import pytest
from conftest import MODULES, PROGRAM, free_port
from origin import reply
from test_balancer import pool, until, who
from test_faults import hard_close
from test_reload import operate  # noqa: F401, a fixture
from test_route import names

CHECK = "    HealthCheck uri=/health interval=200ms timeout=300ms rise=2 fall=2\n"
SAY = "LogLevel info\n"


def health(o, status):
    o.on("/health", reply(status, b"x"))


def test_a_failing_check_takes_out_and_brings_back(sluice, make_origin):
    o = names(make_origin, "a", "b")
    for x in o.values():
        health(x, 200)
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], CHECK)).expect("BALANCER0012")
    assert set(who(s, 10)) == {"a", "b"}
    health(o["a"], 503)
    assert s.logged("server a is down: check: status 503, [0-9]+ ms; 1 of 2 are out")
    assert who(s, 10) == {"b": 10}
    health(o["a"], 200)
    assert s.logged("server a is back: check: status 200")
    assert set(who(s, 10)) == {"a", "b"}
    checks = [r for r in o["a"].requests if r.target == "/health"]
    assert checks[0].get("User-Agent") == "sluice-check" and checks[0].get("Host") == str(o["a"])


def test_all_down_is_503_at_once_and_one_good_round_heals(sluice, make_origin):
    o = names(make_origin, "a", "b")
    for x in o.values():
        health(x, 500)
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], CHECK)).expect("BALANCER0012", "SL0512")
    assert s.logged("server a is down") and s.logged("server b is down.*none is left")
    began = time.time()
    assert s.get("/").status == 503 and time.time() - began < 0.5
    health(o["b"], 200)
    began = time.time()
    until(lambda: s.get("/").status == 200)
    assert time.time() - began < 1.5


def test_what_is_asked_and_what_is_a_good_answer(sluice, make_origin):
    a, b = make_origin(), make_origin()
    a.on("/h", reply(204, b"", [("X-Y", "1")], length=False))
    b.on("/h", reply(200, b"all is fine"))
    s = sluice(SAY + pool([f"a={a}", f"b={b}"], "    HealthCheck uri=/h?x method=POST host=h.test "
                          "expect=200 body=fine interval=100ms timeout=1s fall=1\n"))
    s.expect("BALANCER0012")
    assert s.logged("server a is down: check: status 204")
    until(lambda: b.requests)
    assert b.last.method == "POST" and b.last.target == "/h?x" and b.last.get("Host") == "h.test"
    b.on("/h", reply(200, b"all is bad"))
    assert s.logged("server b is down: check: the body is without what is expected")


def silent_listener():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


@pytest.mark.parametrize("what, told", [
    ("refused", "the connection is refused or fails|connection refused"), ("silent", "no answer in time"),
    ("garbage", "no HTTP answer"), ("closes", "closed without an answer")])
def test_servers_that_do_not_answer(sluice, make_origin, what, told):
    good, bad = make_origin(), make_origin()
    health(good, 200)
    address = str(bad)
    listener = silent_listener()
    if what == "refused":
        address = f"127.0.0.1:{free_port()}"
    if what == "silent":
        address = "127.0.0.1:%d" % listener.getsockname()[1]
    bad.on("/health", b"SSH-2.0-what is this\r\n" if what == "garbage" else lambda c, r: False)
    s = sluice(pool([f"good={good}", f"bad={address}"], CHECK)).expect("BALANCER0012")
    assert s.logged(f"server bad is down: check: ({told})")
    assert s.get("/").status == 200
    listener.close()


def test_tcp_checks_and_another_port(sluice, make_origin):
    o = names(make_origin, "a", "b")
    door = make_origin()
    s = sluice(pool([f"a={o['a']} check checkport={str(door).split(':')[1]}", f"b={o['b']}"],
                    "    HealthCheck tcp interval=100ms fall=1\n")).expect("BALANCER0012")
    assert set(who(s, 10)) == {"a", "b"}
    door.close()
    assert s.logged("server a is down")
    assert who(s, 10) == {"b": 10} and not s.logged("server b is down", 0.3)


def test_check_off_and_check_without_a_line(sluice, make_origin):
    a, b = make_origin(), make_origin()
    s = sluice(pool([f"a={a} check=off", f"b={b}"], CHECK)).expect("BALANCER0012")
    until(lambda: any(r.target == "/health" for r in b.requests))
    time.sleep(0.5)
    assert not any(r.target == "/health" for r in a.requests)
    port = free_port()
    t = sluice(pool([f"a={a}", f"b=127.0.0.1:{port} check"])).expect("BALANCER0012")
    assert t.logged("server b is down", 8)


def test_checks_are_the_serving_generations(operate, make_origin):  # noqa: F811
    a, b = make_origin(), make_origin()
    for x in (a, b):
        health(x, 200)
    op = operate(pool([f"a={a}", f"b={b}"], CHECK))
    op.s.expect("BALANCER0012")
    health(a, 503)
    assert op.s.logged("server a is down")
    op.reload()
    began = len([r for r in b.requests if r.target == "/health"])
    time.sleep(2)
    n = len([r for r in b.requests if r.target == "/health"]) - began
    assert 6 <= n <= 14  # about ten, not twice as many
    assert op.s.log().count("server a is down") == 1  # known to the new generation
    # no check any more: what one said must not last
    op.write(op.text.replace(CHECK, ""))
    op.reload()
    assert op.s.logged("server a is back: it is not checked any more")


# ---- ejection ----

def test_errors_in_a_row(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject errors=3\n    Retry max=1\n"))
    s.expect("SL05", "BALANCER0010")
    o["a"].on("/x", lambda c, r: c.reset())
    for _ in range(8):
        s.get("/x")
    assert s.logged(r"server a rests for 1 s: the server closed before a response \(3 in a row\)")
    n = len(o["a"].requests)
    assert set(who(s, 10)) == {"b"} and len(o["a"].requests) == n


def test_one_error_is_not_enough(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()])).expect("SL05")
    o["a"].on("/x", lambda c, r: c.reset())
    for _ in range(3):
        s.get("/x")  # one of the two attempts a time fails, and a good one follows
        assert set(who(s, 4)) == {"a", "b"}
    assert not s.logged("rests", 0.2)


def test_the_ratio_of_failures(sluice, make_origin):
    o = names(make_origin, "a", "b")
    turn = [0]

    def flaps(c, r):
        turn[0] += 1
        c.send(reply(500 if turn[0] % 2 else 200, b"a"))
    o["a"].on("/x", flaps)
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject ratio=50 samples=10 window=5s\n"))
    s.expect("BALANCER0010")
    c = s.client()
    for _ in range(19):
        c.request("GET", "/x")
    assert s.log().count("rests") == 0  # fewer than ten samples of it
    for _ in range(6):
        c.request("GET", "/x")
    assert s.logged(r"server a rests for 1 s: [0-9]+ of its last 1[0-9] attempts failed or had a 5xx")


def test_the_last_share_is_never_taken_out(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject errors=1 panic=50\n    Retry on=none\n"))
    s.expect("SL05", "BALANCER001")
    for x in o.values():
        x.on("/x", lambda c, r: c.reset())
    for _ in range(12):
        s.get("/x")
    assert s.logged("server . stays in use: .*; without it less than 50 % of the pool would be left")
    assert s.log().count("rests for") == 1 and len(set(who(s, 20))) == 2


def test_one_probe_at_a_time(sluice, make_origin):
    """While one request tries a server that failed, no other one goes there."""
    o = names(make_origin, "a", "b")
    go = threading.Event()
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject errors=1\n"))
    s.expect("SL05", "BALANCER0010")
    o["a"].on("/x", lambda c, r: c.reset())
    until(lambda: s.get("/x").status == 200 and "rests for 1 s" in s.log())
    o["a"].on("/x", lambda c, r: (go.wait(5), c.send(reply(200, b"a back")))[1])
    time.sleep(1.1)
    n, clients = len(o["a"].requests), []

    def ask():
        clients.append(s.client().send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"))
        return len(o["a"].requests) > n
    until(ask)  # the first ones begin its connection, and go elsewhere
    for _ in range(8):
        ask()
    time.sleep(0.2)
    assert len(o["a"].requests) == n + 1
    go.set()
    assert sum(c.response().body == b"a back" for c in clients) == 1
    assert s.logged("server a is back: a request went well")
    assert set(who(s, 10)) == {"a", "b"}


@pytest.fixture
def gone():
    """The port of a server that does not answer: its backlog is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for c in waiting:
        c.setblocking(False)
        c.connect_ex(listener.getsockname())
    yield listener.getsockname()[1]
    for c in (listener, *waiting):
        c.close()


def test_no_request_waits_for_a_server_that_is_gone(sluice, make_origin, gone):
    """Once it rests, a connection of its own looks whether it is back."""
    s = sluice("ProxyTimeout connect=1s\n" + pool([f"a=127.0.0.1:{gone}", f"b={names(make_origin, 'b')['b']}"],
                                                 "    Eject errors=1\n")).expect("SL0502", "BALANCER0010")
    until(lambda: s.get("/").status == 200 and "rests for 1 s" in s.log())
    end = time.time() + 2.5
    while time.time() < end:
        began = time.time()
        assert s.get("/").status == 200 and time.time() - began < 0.9
        time.sleep(0.02)
    assert s.log().count("SL0502") == 1
    assert s.logged("server a rests for 2 s: no connection in time", 8)


def test_no_request_tries_a_server_that_is_dead(sluice, make_origin):
    s = sluice(pool([f"a=127.0.0.1:{free_port()}", f"b={names(make_origin, 'b')['b']}"], "    Eject errors=1\n"))
    s.expect("SL0501", "BALANCER0010")
    until(lambda: s.get("/").status == 200 and "rests for 2 s: " in s.log())
    assert s.log().count("SL0501") == 1


def test_a_probe_that_fails_backs_off(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject errors=1\n"))
    s.expect("SL05", "BALANCER0010")
    o["a"].on("/x", lambda c, r: c.reset())
    end = time.time() + 8
    while "rests for 4 s" not in s.log() and time.time() < end:
        assert s.get("/x").status == 200
        time.sleep(0.05)
    told = re.findall("server a rests for ([0-9]+) s", s.log())
    assert told == ["1", "2", "4"]
    tried = [r for r in o["a"].requests if r.target == "/x"]
    assert len(tried) == 3


def test_a_probe_whose_client_leaves_is_no_verdict(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Eject errors=1\n"))
    s.expect("SL05", "BALANCER0010")
    o["a"].on("/x", lambda c, r: c.reset())
    until(lambda: s.get("/x").status == 200 and "rests for 1 s" in s.log())
    o["a"].on("/x", lambda c, r: time.sleep(5))
    time.sleep(1.1)
    n = len(o["a"].requests)
    c = s.client()
    while len(o["a"].requests) == n:
        c.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)
        if len(o["a"].requests) == n:
            c.response()
    hard_close(c)
    time.sleep(0.2)
    assert set(who(s, 10)) == {"a", "b"} and s.logged("server a is back")


# ---- slow start ----

def test_a_server_that_came_back_gets_its_share_slowly(sluice, make_origin):
    o = names(make_origin, "a", "b")
    for x in o.values():
        health(x, 200)
    s = sluice(pool([f"a={o['a']} slowstart=2s", f"b={o['b']}"], CHECK)).expect("BALANCER0012")
    assert who(s, 40)["a"] == 20  # at the first start all are new
    health(o["a"], 503)
    assert s.logged("server a is down")
    health(o["a"], 200)
    assert s.logged("server a is back")
    assert who(s, 200)["a"] < 70
    time.sleep(2.1)
    assert who(s, 40)["a"] == 20


def test_an_added_server_gets_its_share_slowly(operate, make_origin):  # noqa: F811
    o = names(make_origin, "a", "b")
    op = operate(pool([f"a={o['a']} slowstart=20s"]))
    assert who(op.s, 10) == {"a": 10}
    op.write(op.text.replace("</Balancer>", f"Server b={o['b']} slowstart=20s\n</Balancer>"))
    op.reload()
    n = who(op.s, 400)
    assert 1 <= n["b"] < 120


# ---- over what connections begin with ----

def test_checks_of_a_pool_with_proxy_headers(sluice, make_origin):
    """They name nobody; another port is another service, which expects none."""
    listener, heads = silent_listener(), []

    def serve():
        while True:
            try:
                c = listener.accept()[0]
            except OSError:
                return
            heads.append(c.recv(1000))
            c.sendall(reply(200, b"x"))
            c.close()
    threading.Thread(target=serve, daemon=True).start()
    address = "127.0.0.1:%d" % listener.getsockname()[1]
    s = sluice(pool([f"a={address}"], CHECK + "    SendProxy v1\n"))
    until(lambda: len(heads) >= 2)
    assert heads[0].startswith((b"PROXY UNKNOWN\r\nGET /health", b"PROXY UNKNOWN\r\n"))
    assert not s.logged("is down", 0.6)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    s.expect("BALANCER0012")


def test_what_does_not_speak_http_is_checked_by_tcp_only(refused):
    out = refused("LoadModule route\nLoadModule uplines\nLoadModule balancer\n<Balancer p>\nServer uplines://a:1\n"
                  "HealthCheck uri=/\n</Balancer>\nProxyPass balancer://p\nListen 1\n")
    assert 'do not speak HTTP/1.1, which a check does; use "HealthCheck tcp"' in out


def test_a_reload_in_the_middle_of_everything(operate, make_origin):  # noqa: F811
    """Checks, rests and requests while generations come and go."""
    o = names(make_origin, "a", "b")
    for x in o.values():
        health(x, 200)
    op = operate(pool([f"{k}={v}" for k, v in o.items()], CHECK + "    Eject errors=1\n"))
    op.s.expect("SL05", "BALANCER001")
    o["a"].on("/x", lambda c, r: c.reset())
    statuses = []
    for i in range(6):
        statuses += [op.s.get("/x").status for _ in range(10)]
        op.reload()
    assert set(statuses) == {200}


# ---- what is explained ----

def test_a_dry_run_says_who_is_passed_over(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    for x in o.values():
        health(x, 200)
    s = sluice(pool([f"a={o['a']} drain", f"b={o['b']}", f"c={o['c']} backup"], CHECK))
    n = len([r for r in o["b"].requests if r.target != "/health"])
    r = subprocess.run([PROGRAM, "-f", s.conf, "--module-dir", MODULES, "-E", "GET http://a/x"],
                       capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    for told in ("server a: drained", "server b: is checked by /health every 200 ms",
                 "server c: waits for others to fail", "b, one of 3 of pool p"):
        assert told in r.stdout, r.stdout
    assert len([r for r in o["b"].requests if r.target != "/health"]) == n
