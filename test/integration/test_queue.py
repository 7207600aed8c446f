"""mod_balancer: limits, the queue, retries with a budget, stickiness."""
import re
import select
import threading
import time

from origin import reply
from test_balancer import pool, until, who
from test_faults import hard_close
from test_reload import operate  # noqa: F401, a fixture
from test_route import names

GET = b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"


class Held:
    """A path of a server that answers when told to, and knows how many came at once."""

    def __init__(self, *origins, path="/hold"):
        self.go, self.lock, self.now, self.most, self.order = threading.Semaphore(0), threading.Lock(), 0, 0, []
        for o in origins:
            o.on(path, self.hold)

    def hold(self, c, r):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(r.get("X-Who"))
        self.go.acquire(timeout=10)
        with self.lock:
            self.now -= 1
        c.send(reply(200, b"held"))

    def release(self, n=1):
        for _ in range(n):
            self.go.release()


def test_no_more_than_maxconn_at_once(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=3"], "    Queue 100 timeout=10s\n"))
    clients = [s.client().send(GET) for _ in range(20)]
    until(lambda: held.now == 3)
    time.sleep(0.3)
    assert held.now == 3
    held.release(20)
    assert [c.response().status for c in clients] == [200] * 20 and held.most == 3


def test_without_a_queue_all_full_is_503_at_once(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=1"])).expect("SL0512")
    c = s.client().send(GET)
    until(lambda: held.now == 1)
    assert s.get("/").status == 503
    held.release()
    assert c.response().status == 200
    until(lambda: s.get("/").status == 200)  # the place is free a moment after the answer


def test_full_servers_are_passed_over(sluice, make_origin):
    o = names(make_origin, "a", "b")
    held = Held(o["a"])
    s = sluice(pool([f"{o['a']} maxconn=1", f"{o['b']} backup"]))
    c = s.client().send(GET)
    until(lambda: held.now == 1)
    assert set(who(s, 10)) == {"b"}
    held.release()
    c.response()


def test_the_queue_is_bounded_in_length_and_time(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 2 timeout=700ms\n")).expect("BALANCER002")
    first = s.client().send(GET)
    until(lambda: held.now == 1)
    began = time.time()
    waiting = [s.client().send(GET) for _ in range(2)]
    time.sleep(0.3)
    assert s.get("/").status == 503 and time.time() - began < 0.6
    assert s.logged("BALANCER0020.*pool p: all servers are busy and the queue is full|queue_full|queue is full")
    assert [c.response().status for c in waiting] == [503, 503]
    assert 0.6 < time.time() - began < 1.5 and s.logged("BALANCER0021")
    held.release()
    assert first.response().status == 200


def test_who_left_is_skipped(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s\n"))
    first = s.client().send(GET)
    until(lambda: held.now == 1)
    leaving = [s.client().send(GET) for _ in range(10)]
    time.sleep(0.2)
    last = s.client().send(GET)
    time.sleep(0.2)
    for c in leaving:
        hard_close(c)
    time.sleep(0.2)
    held.release(2)
    assert first.response().status == last.response().status == 200
    assert len(a.requests) == 2


def test_priority(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s priority=%{req:X-Class}\n"))
    first = s.client().send(GET)
    until(lambda: held.now == 1)
    clients = []
    for name, cls in (("low", "9"), ("none", ""), ("high", "0"), ("five", "5"), ("strange", "17"), ("one", "1")):
        clients.append(s.client().send(b"GET /hold HTTP/1.1\r\nHost: a\r\nX-Who: %s\r\nX-Class: %s\r\n\r\n"
                                       % (name.encode(), cls.encode())))
        time.sleep(0.2)
    time.sleep(1)  # all of them wait by now
    for i in range(7):
        until(lambda: len(held.order) == i + 1)
        held.release()
    assert [c.response().status for c in [first, *clients]] == [200] * 7
    assert held.order[1:] == ["high", "one", "none", "five", "strange", "low"]


def test_nobody_is_overtaken(sluice, make_origin, threads):
    """Not even by those who look for themselves just when there is room; of several threads one may be
    a little faster than another."""
    a, order = make_origin(), []
    go = threading.Event()

    def script(c, r):
        order.append(r.get("X-Who"))
        go.wait(10)
        time.sleep(0.003)
        c.send(reply(200, b"ok"))
    a.on("/", script)
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s\n"))
    clients = []
    for i in range(60):
        clients.append(s.client().send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Who: %d\r\n\r\n" % i))
        time.sleep(0.01)
    go.set()
    assert {c.response().status for c in clients} == {200}
    assert max(abs(order.index(str(i)) - i) for i in range(60)) < threads


def test_a_limit_of_the_pool(sluice, make_origin):
    o = names(make_origin, "a", "b")
    held = Held(*o.values())
    s = sluice(pool(o.values(), "    Queue 100 timeout=10s maxconn=3\n"))
    clients = [s.client().send(GET) for _ in range(10)]
    until(lambda: held.now == 3)
    time.sleep(0.3)
    assert held.now == 3
    held.release(10)
    assert [c.response().status for c in clients] == [200] * 10 and held.most == 3
    assert set(who(s, 10)) == {"a", "b"}


def test_all_down_does_not_wait(sluice, make_origin):
    a = make_origin()
    a.on("/health", reply(500))
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s\n    HealthCheck uri=/health interval=100ms fall=1\n"))
    s.expect("BALANCER0012", "SL0512")
    assert s.logged("is down")
    began = time.time()
    assert s.get("/").status == 503 and time.time() - began < 0.5


def test_who_waits_when_all_go_down_does_not_wait_on(sluice, make_origin):
    a = make_origin()
    held, is_well = Held(a), [True]
    a.on("/health", lambda c, r: c.send(reply(200 if is_well[0] else 500)))
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s\n    HealthCheck uri=/health interval=100ms fall=1\n"))
    s.expect("BALANCER0012", "SL0512")
    clients = [s.client().send(GET) for _ in range(4)]
    until(lambda: held.now == 1)
    is_well[0] = False
    assert s.logged("is down")
    began = time.time()
    assert sorted(select_status(clients, 3)) == [503] * 3 and time.time() - began < 1
    held.release()


def select_status(clients, n):
    """Of the first n that get an answer."""
    out, waiting = [], list(clients)
    while len(out) < n:
        for c in select.select([c.sock for c in waiting], [], [], 10)[0]:
            client = next(x for x in waiting if x.sock is c)
            waiting.remove(client)
            out.append(client.response().status)
    return out


def test_bodies_wait_too(sluice, make_origin):
    a = make_origin()
    held = Held(a)
    s = sluice(pool([f"{a} maxconn=1"], "    Queue 100 timeout=10s\n"))
    first = s.client().send(GET)
    until(lambda: held.now == 1)
    c = s.client().send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000)
    time.sleep(0.3)
    held.release()
    assert len(c.response().json()["body"]) == 50000 and first.response().status == 200


def test_a_storm_through_one_place(sluice, make_origin):
    """Everybody gets an answer, whoever is faster."""
    a = make_origin()
    most, now, lock = [0], [0], threading.Lock()

    def busy(c, r):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
        c.send(reply(200, b"ok"))
    a.on("/", busy)
    s = sluice(pool([f"{a} maxconn=2"], "    Queue 1000 timeout=20s\n"))
    got = []

    def client():
        c = s.client(timeout=20)
        for _ in range(15):
            got.append(c.request("GET", "/").status)
        c.close()
    threads = [threading.Thread(target=client) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [200] * 300 and most[0] <= 2


# ---- retries ----

def test_statuses_are_tried_elsewhere(sluice, make_origin):
    o = names(make_origin, "a", "b")
    o["a"].on("/x", reply(503, b"busy"))
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Retry on=connect,503\n")).expect("SL0517")
    assert [s.get("/x").status for _ in range(6)] == [200] * 6
    assert [r.target for r in o["a"].requests].count("/x") >= 3
    # a POST may have been acted on: it gets what was said
    statuses = sorted(s.get("/x", method="POST", body=b"b").status for _ in range(4))
    assert statuses == [200, 200, 503, 503]
    # a listed status of all is given to the client
    o["b"].on("/x", reply(503, b"busy too"))
    r = s.get("/x")
    assert r.status == 503 and r.body.startswith(b"busy")
    assert s.logged("SL0517.*server [ab]: the server's status is one to try elsewhere.*trying another server")


def test_other_statuses_are_given(sluice, make_origin):
    o = names(make_origin, "a", "b")
    o["a"].on("/x", reply(500, b"no"))
    s = sluice(pool(o.values(), "    Retry on=503\n"))
    assert sorted(s.get("/x").status for _ in range(4)) == [200, 200, 500, 500]


def test_the_budget(sluice, make_origin):
    """Ten retries for a start, then one for ten requests."""
    o = names(make_origin, "a", "b")
    o["a"].on("/x", reply(503, b"busy"))
    s = sluice(pool([f"{k}={v}" for k, v in o.items()], "    Retry on=503 budget=10\n    Eject errors=off\n"))
    s.expect("SL0517")
    c = s.client()
    statuses = [c.request("GET", "/x").status for _ in range(200)]
    assert statuses[:10].count(503) == 0 and statuses.count(503) > 40
    assert 28 <= s.log().count("trying another server") <= 31


def test_the_deadline(sluice, make_origin):
    o = names(make_origin, "a", "b")
    o["a"].on("/x", lambda c, r: (time.sleep(0.4), c.send(reply(503, b"late")))[1])
    o["b"].on("/x", reply(503, b"soon"))
    s = sluice(pool([f"a={o['a']}", f"b={o['b']} backup"], "    Retry on=503 deadline=200ms\n"))
    assert s.get("/x").body == b"late"


# ---- stickiness ----

def cookie_of(r):
    return (r.get("Set-Cookie") or "").split(";")[0]


def test_a_cookie_keeps_the_client(sluice, make_origin):
    o = names(make_origin, "a", "b", "c")
    s = sluice("LogLevel info\n" + pool([f"{k}={v}" for k, v in o.items()],
                                        "    Sticky cookie=srv path=/app secure samesite=strict maxage=1h\n"
                                        "    Eject errors=1\n"))
    s.expect("SL05", "BALANCER")
    first = s.get("/")
    assert re.fullmatch("srv=[0-9a-f]{16}; Path=/app; Max-Age=3600; Secure; HttpOnly; SameSite=strict",
                        first.get("Set-Cookie"))
    mine, name = cookie_of(first), first.body.decode().split()[0]
    for _ in range(10):
        r = s.get("/", {"Cookie": f"x=1; {mine}; y=srv=2"})
        assert r.body.decode().split()[0] == name and r.get("Set-Cookie") is None
    others = {cookie_of(s.get("/")) for _ in range(9)}
    assert len(others) == 3
    # its server is gone: another one, for good, and the log says so
    o[name].close()
    r = s.get("/", {"Cookie": mine})
    assert r.status == 200 and cookie_of(r) not in ("", mine)
    for _ in range(8):
        r = s.get("/", {"Cookie": mine})
    assert s.logged(f"BALANCER0030.*its server {name} is resting; it goes to another")
    assert cookie_of(s.get("/", {"Cookie": "srv=0123456789abcdef"})) != ""
    assert s.logged(r"its server \(unknown\) is gone")


def test_draining_servers_keep_their_clients(operate, make_origin):  # noqa: F811
    o = names(make_origin, "a", "b")
    text = pool([f"{k}={v}" for k, v in o.items()], "    Sticky cookie=srv\n")
    op = operate(text)
    mine = next(cookie_of(r) for r in (op.s.get("/") for _ in range(4)) if r.body.startswith(b"a"))
    op.write(text.replace(f"a={o['a']}", f"a={o['a']} drain"))
    op.reload()
    assert set(who(op.s, 10)) == {"b"}
    assert op.s.get("/", {"Cookie": mine}).body.startswith(b"a")


def test_a_route_in_the_applications_cookie(sluice, make_origin):
    o = names(make_origin, "a", "b")
    s = sluice(pool([f"web1={o['a']}", f"web2={o['b']}"], "    Sticky route=%{cookie:JSESSIONID}\n"))
    for session, name in (("24a8.web1", b"a"), ("x.y.web2", b"b"), ("web1", b"a")):
        for _ in range(4):
            r = s.get("/", {"Cookie": f"JSESSIONID={session}"})
            assert r.body.startswith(name) and r.get("Set-Cookie") is None
    assert set(who(s, 10)) == {"a", "b"}
