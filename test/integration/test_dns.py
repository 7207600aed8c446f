"""mod_dns: names of servers by c-ares, from a name server that changes, fails and is silent."""
import collections
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import MODULES, PROGRAM, free_port
from origin import Origin, reply
from test_balancer import until
from test_http2_servers import Server
from test_reload import operate  # noqa: F401, a fixture
from tls_peers import pki, secure  # noqa: F401, fixtures


@pytest.fixture
def dns(name_server):
    return name_server()


@pytest.fixture
def twins():
    """twins(n): n backends at one port of 127.0.0.2, 127.0.0.3 ..., which answer with their address."""
    made = []

    def make(n=2, port=None):
        port = port or free_port()
        for i in range(n):
            o = Origin(address=(f"127.0.0.{i + 2}", port))
            o._echo = lambda r, me=o.name: reply(200, me.split(":")[0].encode())
            made.append(o)
        return made[-n:]

    yield make
    for o in made:
        o.close()


def port_of(o):
    return o.name.rsplit(":", 1)[1]


def text(dns, target, extra="timeout=200ms ttl=100ms-1s"):
    return (f"LoadModule route\nLoadModule balancer\nLoadModule dns\nResolver {dns.address} {extra}\n"
            f"ProxyPass http://{target}\n")


def test_a_name_is_followed_by_ttl(sluice, dns, twins):
    a, b = twins()
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    dns.ttl = 0
    s = sluice(text(dns, f"app.test:{port_of(a)}", "timeout=1s ttl=200ms-400ms"))
    c = s.client()
    assert c.request("GET", "/").body == b"127.0.0.2"
    dns.zone["app.test"] = {"A": ["127.0.0.3"]}
    until(lambda: c.request("GET", "/").body == b"127.0.0.3")  # although a connection is kept
    a.close()
    assert {c.request("GET", "/").body for _ in range(5)} == {b"127.0.0.3"}
    c.close()
    dns.ttl = 3600
    n = dns.asked["app.test", "A"]
    time.sleep(1.2)
    assert n < dns.asked["app.test", "A"] <= n + 8  # ttl= bounds what records say, above and below


def test_failures_keep_what_was_found_and_are_told_once(sluice, dns, twins):
    a, = twins(1)
    failures = ("SERVFAIL", "NXDOMAIN", "SILENCE")
    dns.zone.update({f"{f.lower()}.test": {"A": ["127.0.0.2"]} for f in failures})
    s = sluice(f"LoadModule route\nLoadModule dns\nResolver {dns.address} timeout=100ms ttl=100ms-1s\n" + "".join(
        f"<Location /{f}>\n    ProxyPass http://{f.lower()}.test:{port_of(a)}\n</Location>\n"
        for f in failures)).expect("SL0520")
    for f in failures:
        dns.zone[f"{f.lower()}.test"] = f
    for f in failures:
        name = f"{f.lower()}.test"
        assert s.logged(f"SL0520.*{name} does not resolve: .*; its last addresses stay in use")
    n = dns.asked["servfail.test", "A"]
    until(lambda: dns.asked["servfail.test", "A"] > n)
    assert [s.get(f"/{f}").body for f in failures] == 3 * [b"127.0.0.2"] and s.log().count("SL0520") == 3
    for f in failures:
        dns.zone[f"{f.lower()}.test"] = {"A": ["127.0.0.2"]}
    for f in failures:
        assert s.logged(f"SL0521.*{f.lower()}.test resolves, to 127.0.0.2", 10)


def test_one_type_that_fails_takes_nothing_away(sluice, dns, twins):
    a, b = twins()
    dns.zone["app.test"] = {"A": ["127.0.0.2"], "AAAA": "SERVFAIL"}
    s = sluice(text(dns, f"app.test:{port_of(a)}"))
    assert s.get("/").body == b"127.0.0.2"
    dns.zone["app.test"] = {"A": "SERVFAIL", "AAAA": "SERVFAIL"}
    s.expect("SL0520")
    assert s.logged("SL0520") and s.get("/").body == b"127.0.0.2"


@pytest.mark.parametrize("failure", ["NXDOMAIN", "SILENCE"])
def test_the_start_does_not_need_an_answer(sluice, dns, twins, failure):
    a, = twins(1)
    dns.zone["app.test"] = failure
    begin = time.time()
    s = sluice(text(dns, f"app.test:{port_of(a)}")).expect("SL0520", "SL0522", "SL0513")
    assert time.time() - begin < 8 and s.get("/").status in (502, 503)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    until(lambda: s.get("/").body == b"127.0.0.2")


def test_a_long_answer_comes_by_tcp(sluice, dns, twins):
    a, = twins(1)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    dns.long.add("app.test")
    s = sluice(text(dns, f"app.test:{port_of(a)}", "timeout=1s ttl=100ms-1s"))
    assert s.get("/").body == b"127.0.0.2" and dns.by_tcp["app.test"] > 0
    n = dns.by_tcp["app.test"]
    until(lambda: dns.by_tcp["app.test"] > n)  # and in the loop, too


def test_the_next_name_server_is_asked(sluice, dns, twins):
    a, = twins(1)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    s = sluice(text(dns, f"app.test:{port_of(a)}").replace("Resolver", f"Resolver 127.0.0.1:{free_port()}"))
    assert s.get("/").body == b"127.0.0.2"


@pytest.mark.parametrize("target, name", [("srv:_a._tcp.b.test", "two.test"), ("a.test:9", "a.test")])
def test_what_failed_in_part_is_asked_for_again_soon(operate, dns, target, name):  # noqa: F811
    """Although the rest of the answer is good for minutes; ever less often, but not more often than it says."""
    dns.ttl = 300
    dns.zone["_a._tcp.b.test"] = {"SRV": [(0, 1, 9, "one.test"), (0, 1, 9, "two.test")]}
    dns.zone["one.test"], dns.zone["two.test"] = {"A": ["127.0.0.3"]}, "SERVFAIL"
    dns.zone["a.test"] = {"A": "SERVFAIL", "AAAA": ["::1"]}
    op = operate(pool(dns, [f"{target} resolve"]).replace("ttl=100ms-1s", "ttl=1s-5m"))
    assert len(rows(op)) == 1
    time.sleep(4.5)  # asked at 0, 1, 3 and 7 s, each time twice
    assert dns.asked[name, "A"] in (4, 6)
    dns.zone[name] = {"A": ["127.0.0.2"]}
    until(lambda: "127.0.0.2:9" in [r["server"] for r in rows(op)])
    time.sleep(2)
    assert dns.asked[name, "A"] in (5, 7)


def test_what_the_file_says_is_good_for_a_while(sluice, dns, make_origin):
    """It has no TTL, which is not a TTL of 0.  The other type of address is asked of name servers, which
    tells when the name was asked for."""
    name = socket.gethostname()
    if not re.search(rf"^127\.0\.\d\.1\s.*\b{name}\b", open("/etc/hosts").read(), re.M):
        pytest.skip("/etc/hosts does not have this machine's name")
    s = sluice(text(dns, f"{name}:{port_of(make_origin())}", "timeout=1s ttl=100ms-1h"))
    assert s.get().status == 200
    time.sleep(1)
    assert sum(n for (asked, kind), n in dns.asked.items() if asked.startswith(name) and kind == "AAAA") <= 2


@pytest.mark.parametrize("target", ["localhost:{port} resolve", "x.localhost:{port} resolve", "srv:_a._tcp.b.test resolve"])
def test_localhost_is_here(operate, dns, make_origin, target):  # noqa: F811
    """And asked of nobody, again and again, without a leak."""
    o = make_origin()
    dns.zone["_a._tcp.b.test"] = {"SRV": [(0, 1, int(port_of(o)), "localhost")]}
    dns.ttl = 0
    op = operate(pool(dns, [target.format(port=port_of(o))]))
    time.sleep(1)
    assert f"127.0.0.1:{port_of(o)}" in [r["server"] for r in rows(op)]
    in_file = re.search(r"^::1\s.*\blocalhost\b", open("/etc/hosts").read(), re.M) is not None
    assert (f"[::1]:{port_of(o)}" in [r["server"] for r in rows(op)]) == (in_file or "x." in target)
    assert op.s.get("/").status == 200
    assert all("localhost" not in name for name, _ in dns.asked)


def test_a_test_asks_nobody(refused, dns):
    assert "is set twice" in refused(text(dns, "app.test:80") + "ProxyPass http://b.test:80\n")
    assert not dns.asked


@pytest.mark.parametrize("line, said", [
    ("Resolver", "found nothing"),
    ("Resolver ns1.test", 'expected the address of a name server, found "ns1.test"'),
    ("Resolver 127.0.0.1:0", "expected a port between 1 and 65535"),
    ("Resolver [::1]53", "expected a colon and a port"),
    ("Resolver ttl=5s", "expected ttl=MIN-MAX"), ("Resolver ttl=5s-1s", "the shorter time first"),
    ("Resolver timeout=2m", "between 1ms and 1m"), ("Resolver tll=1s-2s", "ttl"),
])
def test_what_is_refused(refused, line, said):
    assert said in refused(f"LoadModule dns\n{line}\nLoadModule route\nReturn 200 x\n")


# ---- resolve: each address is a server ----

def pool(dns, servers, extra=""):
    return (f"LoadModule route\nLoadModule balancer\nLoadModule dns\n"
            f"Resolver {dns.address} timeout=200ms ttl=100ms-1s\n<Balancer p>\n" +
            "".join(f"    Server {x}\n" for x in servers) + extra + "</Balancer>\nProxyPass balancer://p\n")


def rows(op):
    return json.loads(op.say("ctl", "server", "list", "--json").stdout)


def who(s, n=12, path="/"):
    c = s.client()
    out = collections.Counter(c.request("GET", path).body.decode().rsplit(".", 1)[-1] for _ in range(n))
    c.close()
    return out


METHODS = ["roundrobin", "leastconn", "random2", "ewma", "hash %{path}", "iphash", "first"]


def test_addresses_come_and_go_under_load(operate, dns, twins):  # noqa: F811
    """Every method has a pool of its own; all of them follow one name, and no request notices."""
    o = twins(3)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    op = operate(f"LoadModule route\nLoadModule balancer\nLoadModule dns\nResolver {dns.address} timeout=1s "
                 "ttl=100ms-300ms\n" + "".join(
                     f"<Balancer p{i}>\n    Server app.test:{port_of(o[0])} resolve\n    Method {m}\n    Sticky "
                     f"cookie=c\n</Balancer>\n<Location /{i}/>\n    ProxyPass balancer://p{i}\n</Location>\n"
                     for i, m in enumerate(METHODS)))
    op.s.expect("SL0520")
    stop, statuses = threading.Event(), collections.Counter()

    def load(k):
        c = op.s.client()
        n = k
        while not stop.is_set():
            n += 1
            statuses[n % 7, c.request("GET", f"/{n % 7}/{k}/{n}").status] += 1
        c.close()
    clients = [threading.Thread(target=load, args=(k,)) for k in range(3)]
    for c in clients:
        c.start()
    for addresses in (["2", "3"], ["3", "4"], ["4"], ["2", "4"], ["2", "3", "4"]):
        dns.zone["app.test"] = {"A": [f"127.0.0.{a}" for a in addresses]}
        wanted = {(f"p{i}", a) for i in range(7) for a in addresses}
        until(lambda: {(r["pool"], r["server"].split(":")[0][-1]) for r in rows(op) if r["state"] == "up"} == wanted)
        time.sleep(0.3)
    stop.set()
    for c in clients:
        c.join()
    assert {status for _, status in statuses} == {200} and min(statuses[i, 200] for i in range(7)) > 20
    assert who(op.s, 12, "/0/") == {"2": 4, "3": 4, "4": 4}


def test_one_that_leaves_finishes_and_one_that_returns_keeps_its_state(operate, dns, twins):  # noqa: F811
    a, b = twins(2)
    go = threading.Event()
    b.on("/hold", lambda c, r: (go.wait(8), c.send(reply(200, b"held")))[1])
    dns.zone["app.test"] = {"A": ["127.0.0.2", "127.0.0.3"]}
    op = operate(pool(dns, [f"web=app.test:{port_of(a)} resolve=2 weight=3 maxconn=9"]))
    assert [(r["server"], r["weight"], r["maxconn"]) for r in rows(op)] == [
        (f"web@127.0.0.{i}:{port_of(a)}", 3, 9) for i in (2, 3)]
    held = [op.s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
    until(lambda: any(r.target == "/hold" for r in b.requests))
    assert op.say("ctl", "server", "weight", f"p/web@127.0.0.3:{port_of(a)}", "7").returncode == 0
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    until(lambda: [r["state"] for r in rows(op)] == ["up", "leaving"])
    assert who(op.s) == {"2": 12} and op.s.logged("SL0524.*web@127.0.0.3.*leaves; 1 requests in flight end there")
    go.set()
    assert b"held" in [c.response().body for c in held]
    until(lambda: len(rows(op)) == 1)
    op.reload()
    dns.zone["app.test"] = {"A": ["127.0.0.2", "127.0.0.3"]}
    until(lambda: [r["override"] for r in rows(op)] == ["", "weight=7"])
    assert who(op.s, 10) == {"2": 3, "3": 7}
    assert op.say("ctl", "explain", "GET http://x/").stdout.count("web@127.0.0.") > 0
    dns.zone["app.test"] = {"A": [f"127.0.0.{i}" for i in (2, 3, 4)]}
    op.s.expect("SL0525")
    assert op.s.logged("SL0525.*leads to 3 servers, and 1 of them have no seat: write resolve=3")


def test_a_reload_and_a_crash_know_who_sits(operate, dns, twins):  # noqa: F811
    o = twins(2)
    dns.zone["app.test"] = {"A": ["127.0.0.2", "127.0.0.3"]}
    op = operate(pool(dns, [f"app.test:{port_of(o[0])} resolve"]))
    op.s.expect("SL0202", "SL0520", "SL0522")
    assert who(op.s) == {"2": 6, "3": 6}
    dns.zone["app.test"] = "SILENCE"
    op.reload()
    assert who(op.s) == {"2": 6, "3": 6}
    worker = op.serving()
    os.kill(worker, signal.SIGKILL)
    until(lambda: op.s.pids()[1:] not in ([], [worker]))
    until(lambda: who_or_none(op) == {"2": 6, "3": 6})


def who_or_none(op):
    try:
        return who(op.s)
    except (OSError, EOFError):
        return {}


def test_services_have_ports_weights_and_levels(operate, dns, twins):  # noqa: F811
    a, = twins(1)
    b, = twins(1)
    c, = twins(1)
    dns.zone.update({"one.test": {"A": ["127.0.0.2"]}, "two.test": {"A": ["127.0.0.2"]}})
    at = [int(port_of(o)) for o in (a, b, c)]
    for o in (a, b, c):
        o._echo = lambda r, me=port_of(o): reply(200, me.encode())
    dns.zone["_http._tcp.app.test"] = {"SRV": [(10, 1, at[0], "one.test"), (10, 3, at[1], "One.test"),
                                               (20, 5, at[2], "two.test")]}
    op = operate(pool(dns, ["srv:_http._tcp.app.test resolve=8"]))
    found = {int(r["server"].split(":")[1]): (r["weight"], r["level"], r["address"]) for r in rows(op)}
    assert found == {at[0]: (1, 0, "app.test"), at[1]: (3, 0, "app.test"), at[2]: (5, 1, "app.test")}
    assert who(op.s, 8) == {str(at[0]): 2, str(at[1]): 6}
    dns.zone["_http._tcp.app.test"] = {"SRV": [(5, 600, at[2], "two.test"), (5, 300, at[0], "one.test")]}
    until(lambda: {(r["weight"], r["level"]) for r in rows(op)} == {(256, 0), (128, 0)})
    assert who(op.s, 9) == {str(at[0]): 3, str(at[2]): 6}


def test_names_are_followed_without_the_module(operate, make_origin):  # noqa: F811
    o = make_origin()
    op = operate(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server localhost:{port_of(o)} "
                 "resolve=4\n</Balancer>\nProxyPass balancer://p\n")
    op.s.expect("SL0501", "BALANCER")
    assert op.s.get("/").status == 200
    assert f"127.0.0.1:{port_of(o)}" in [r["server"] for r in rows(op)]


@pytest.mark.parametrize("line, said", [
    ("Server 127.0.0.1:80 resolve", "expected a name: an address has nothing to resolve"),
    ("Server a.test:80 resolve=0x", "resolve"), ("Server a.test:80 resolve=2000", "1 to 1024"),
    ("Server srv:_http._tcp.a.test", "cure: Server srv:_http._tcp.a.test resolve"),
    ("Server srv:a.test resolve", "a name of SRV records"),
    ("Server srv:_http._tcp.a.test resolve weight=2", "have the weights of these"),
    ("Seats 0", "1 to 1024"), ("Seats 2\n    Seats 2", "is set twice"),
])
def test_lines_that_are_refused(refused, line, said):
    assert said in refused(f"LoadModule route\nLoadModule balancer\nLoadModule dns\n<Balancer p>\n    {line}\n"
                           "    Server b:1\n</Balancer>\nProxyPass balancer://p\n")


def test_services_need_the_module(refused):
    assert "cure: LoadModule dns" in refused("LoadModule route\nLoadModule balancer\n<Balancer p>\n"
                                             "    Server srv:_http._tcp.a.test resolve\n</Balancer>\n")


# ---- the operator's ----

def ctl(op, *words, code=0):
    r = op.say("ctl", "server", *words)
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout + r.stderr


def test_the_operator_adds_and_removes(operate, twins):  # noqa: F811
    a, b, c = twins(3)
    go = threading.Event()
    b.on("/hold", lambda k, r: (go.wait(8), k.send(reply(200, b"held")))[1])
    op = operate(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server a={a}\n    Seats 1\n"
                 "    Sticky cookie=c\n</Balancer>\n<Balancer q>\n    Server b=127.0.0.1:9\n</Balancer>\n"
                 "ProxyPass balancer://p\n<Location /q>\n    ProxyPass balancer://q\n</Location>\n")
    assert who(op.s) == {"2": 12}
    assert "p/b is up, weight 2, 0 in flight" in ctl(op, "add", "p", "b", str(b), "weight=2", "maxconn=5")
    assert op.s.logged("SL0523.*server b joins") and who(op.s) == {"2": 4, "3": 8}
    row = rows(op)[1]
    assert (row["server"], row["address"], row["weight"], row["maxconn"]) == ("b", str(b), 2, 5)
    assert "already" in ctl(op, "add", "p", "b", str(c), code=1)
    assert "all 1 seats of pool p are taken" in ctl(op, "add", "p", "c", str(c), code=1)
    assert 'write "Seats N"' in ctl(op, "add", "q", "c", str(c), code=1)
    assert "is a name: expected an address" in ctl(op, "add", "p", "c", "c.test:80", code=1)
    assert 'found "size=1"' in ctl(op, "add", "p", "c", str(c), "size=1", code=1)
    assert "no pool" in ctl(op, "add", "r", "c", str(c), code=1)
    assert "take its line away" in ctl(op, "remove", "p/a", code=1)
    ctl(op, "add", "p", code=2)
    op.reload()
    assert who(op.s) == {"2": 4, "3": 8}
    held = [op.s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
    until(lambda: any(r.target == "/hold" for r in b.requests))
    assert "p/b is leaving" in ctl(op, "remove", "p/b")
    assert who(op.s) == {"2": 12}
    assert "all 1 seats" in ctl(op, "add", "p", "c", str(c), code=1)
    go.set()
    assert b"held" in [k.response().body for k in held]
    until(lambda: op.say("ctl", "server", "add", "p", "c", str(c), "--json").returncode == 0)
    assert [r["server"] for r in rows(op)] == ["a", "c", "b"] and who(op.s) == {"2": 6, "4": 6}


def test_what_is_said_is_said_of_a_name(operate, twins):  # noqa: F811
    """Of the server that has it, not of one that leaves and had it before."""
    a, b, c = twins(3)
    go = threading.Event()
    b.on("/hold", lambda k, r: (go.wait(8), k.send(reply(200, b"held")))[1])
    op = operate(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server a={a}\n    Seats 2\n"
                 "    Sticky route=%{cookie:s}\n</Balancer>\nProxyPass balancer://p\n")
    sticky = {"Cookie": "s=1.x"}
    ctl(op, "add", "p", "x", str(b))
    held = [op.s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
    until(lambda: any(r.target == "/hold" for r in b.requests))
    ctl(op, "remove", "p/x")
    ctl(op, "add", "p", "x", str(c), "weight=2")
    assert "p/x is up, weight 3, 0 in flight" in ctl(op, "weight", "p/x", "3")
    assert who(op.s) == {"2": 3, "4": 9}
    assert {op.s.get("/", sticky).body for _ in range(8)} == {b"127.0.0.4"}
    assert "p/x is drained, weight 3" in ctl(op, "drain", "p/x") and who(op.s) == {"2": 12}
    assert "p/x is up, weight 2" in ctl(op, "reset", "p/x") and who(op.s) == {"2": 4, "4": 8}
    assert [(r["server"], r["address"], r["active"]) for r in rows(op)] == [
        ("a", str(a), 0), ("x", str(b), 1), ("x", str(c), 0)]
    ctl(op, "remove", "p/x")
    assert who(op.s) == {"2": 12}
    go.set()
    assert b"held" in [k.response().body for k in held]


def test_two_lines_that_lead_to_one_address(operate, dns, twins):  # noqa: F811
    """What is said of it holds for both, and after reset for none, also when it has left meanwhile."""
    o = twins(2)
    port, name = port_of(o[0]), f"127.0.0.2:{port_of(o[0])}"
    dns.zone["a.test"] = dns.zone["b.test"] = {"A": ["127.0.0.2"]}
    dns.zone["c.test"] = {"A": ["127.0.0.3"]}
    op = operate(pool(dns, [f"{n}.test:{port} resolve" for n in "abc"]))
    until(lambda: len(rows(op)) == 3)
    ctl(op, "disable", f"p/{name}")
    ctl(op, "weight", f"p/{name}", "9")
    assert who(op.s) == {"3": 12}
    dns.zone["a.test"] = dns.zone["b.test"] = dns.zone["c.test"]
    until(lambda: name not in [r["server"] for r in rows(op)])
    assert "weight 1" in ctl(op, "reset", f"p/{name}")
    assert "no server" in ctl(op, "reset", f"p/{name}", code=1)
    dns.zone["a.test"] = dns.zone["b.test"] = {"A": ["127.0.0.2"]}
    until(lambda: [r["server"] for r in rows(op)].count(name) == 2)
    assert who(op.s) == {"2": 8, "3": 4} and {r["override"] for r in rows(op)} == {""}


def test_offline_the_line_stands_for_its_servers(tmp_path, dns):
    conf = tmp_path / "test.conf"
    conf.write_text("Listen 8999\n" + pool(dns, ["web=app.test:80 resolve"]) +
                    '<Test "GET http://x/">\n    Backend app.test:80\n</Test>\n')
    say = [subprocess.run([PROGRAM, *words, "-f", str(conf), "--module-dir", MODULES], capture_output=True,
                          text=True, timeout=30).stdout for words in (["-t"], ["-E", "GET http://x/"])]
    assert "1 test as expected" in say[0]
    assert "request to app.test:80, web, which stands for all that the name leads to" in say[1] and not dns.asked


def test_who_was_added_is_checked(operate, twins):  # noqa: F811
    a, b = twins(2)
    b.on("/health", reply(200))
    a.on("/health", reply(200))
    op = operate(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server a={a}\n    Seats 1\n    HealthCheck "
                 "uri=/health interval=100ms rise=1 fall=1\n</Balancer>\nProxyPass balancer://p\n")
    ctl(op, "add", "p", "b", str(b))
    until(lambda: any(r.target == "/health" for r in b.requests))
    assert {r.get("Host") for r in b.requests if r.target == "/health"} == {str(b)} and rows(op)[1]["is_checked"]
    op.s.expect("BALANCER0012")
    b.on("/health", reply(503))
    until(lambda: rows(op)[1]["state"] == "down")
    assert who(op.s) == {"2": 12}


# ---- other transports and protocols ----

def test_a_check_is_of_whom_it_asked(operate, dns, twins):  # noqa: F811
    """Not of the server that got the seat while the other one was silent."""
    o = twins(2)
    asked = threading.Event()
    o[0].on("/health", lambda k, r: (asked.set(), time.sleep(5))[1])
    o[1].on("/health", reply(200, b"well"))
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    op = operate(pool(dns, [f"app.test:{port_of(o[0])} resolve=1"],
                      "    HealthCheck uri=/health interval=200ms timeout=3500ms rise=1 fall=1\n"))
    op.s.expect("SL0525")
    assert asked.wait(5)
    dns.zone["app.test"] = {"A": ["127.0.0.3"]}
    assert op.s.logged(f"SL0523.*server 127.0.0.3:{port_of(o[0])} joins", 8)
    time.sleep(2.5)
    assert "BALANCER0012" not in op.s.log()
    assert [(r["server"], r["state"]) for r in rows(op)] == [(f"127.0.0.3:{port_of(o[0])}", "up")]


def test_servers_of_a_name_have_its_certificate(operate, dns, pki, secure):  # noqa: F811
    dns.zone["app.test"] = {"A": ["127.0.0.1"]}
    by_name, by_address = secure(pki.ca.make("app.test")), secure()
    op = operate(pool(dns, [f"https://app.test:{by_name.port} resolve"],
                      f"    ServerTLS ca={pki.ca.pem}\n    Seats 2\n    Retry on=none\n").replace(
                          "<Balancer", "LoadModule tls\n<Balancer"))
    assert op.s.get("/").status == 200 and by_name.names == ["app.test"]
    ctl(op, "add", "p", "more", f"127.0.0.1:{by_address.port}")
    assert [op.s.get("/").status for _ in range(6)] == 6 * [200]
    assert by_address.requests and not by_address.failures
    ctl(op, "remove", "p/more")
    op.s.expect("SL0", "TLS0", "BALANCER")
    until(lambda: op.say("ctl", "server", "add", "p", "wrong", f"127.0.0.1:{by_name.port}").returncode == 0)
    assert {op.s.get("/").status for _ in range(4)} == {200, 502}  # its certificate names no address


def test_shared_connections_follow_the_name(sluice, dns):
    held = threading.Event()

    def act(s, me):
        s.ended.wait(10)
        if s.get(":path") == "/hold":
            held.wait(10)
        s.respond(body=me.encode())

    port = free_port()
    servers = []
    for address in ("127.0.0.2", "127.0.0.3"):
        b = Server(lambda s, me=address: act(s, me))
        b.listener.close()
        b.listener = socket.create_server((address, port), backlog=16)
        threading.Thread(target=b._accept, daemon=True).start()
        servers.append(b)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    s = sluice(text(dns, f"h2c://app.test:{port}").replace("http://h2c", "h2c").replace(
        "LoadModule dns", "LoadModule dns\nLoadModule http2"))
    assert s.get("/").body == b"127.0.0.2"
    c = s.client().send(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n")
    until(lambda: any(x.get(":path") == "/hold" for x in servers[0].streams))
    dns.zone["app.test"] = {"A": ["127.0.0.3"]}
    until(lambda: s.get("/").body == b"127.0.0.3")
    held.set()
    assert c.response().body == b"127.0.0.2"
    assert {s.get("/").body for _ in range(4)} == {b"127.0.0.3"}
    c.close()
    for b in servers:
        b.stop()
