"""mod_dns: names of servers by c-ares, from a name server that changes, fails and is silent."""
import threading
import time

import pytest
from conftest import free_port
from nameserver import NameServer
from origin import Origin, reply
from test_balancer import until
from test_reload import operate  # noqa: F401, a fixture


@pytest.fixture
def dns():
    server = NameServer()
    yield server
    server.close()


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
    s = sluice(text(dns, f"app.test:{port_of(a)}"))
    c = s.client()
    assert c.request("GET", "/").body == b"127.0.0.2"
    dns.zone["app.test"] = {"A": ["127.0.0.3"]}
    until(lambda: c.request("GET", "/").body == b"127.0.0.3")  # although a connection is kept
    a.close()
    assert {c.request("GET", "/").body for _ in range(5)} == {b"127.0.0.3"}
    n = dns.asked["app.test", "A"]
    time.sleep(2.5)
    assert n < dns.asked["app.test", "A"] <= n + 4  # ttl=1s bounds the TTL below and above
    c.close()


def test_failures_keep_what_was_found_and_are_told_once(sluice, dns, twins):
    a, = twins(1)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    s = sluice(text(dns, f"app.test:{port_of(a)}")).expect("SL0520")
    for failure in ("SERVFAIL", "NXDOMAIN", "SILENCE"):
        dns.zone["app.test"] = failure
        assert s.logged("SL0520.*app.test does not resolve.*its last addresses stay in use")
        n = dns.asked["app.test", "A"]
        until(lambda: dns.asked["app.test", "A"] > n)
        assert s.get("/").body == b"127.0.0.2"
    assert s.log().count("SL0520") == 1
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    assert s.logged("SL0521.*app.test resolves, to 127.0.0.2", 15)


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
    s = sluice(text(dns, f"app.test:{port_of(a)}"))
    assert s.get("/").body == b"127.0.0.2" and dns.by_tcp["app.test"] > 0
    n = dns.by_tcp["app.test"]
    until(lambda: dns.by_tcp["app.test"] > n)  # and in the loop, too


def test_the_next_name_server_is_asked(sluice, dns, twins):
    a, = twins(1)
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    s = sluice(text(dns, f"app.test:{port_of(a)}").replace("Resolver", f"Resolver 127.0.0.1:{free_port()}"))
    assert s.get("/").body == b"127.0.0.2"


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
