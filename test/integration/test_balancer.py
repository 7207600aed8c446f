"""mod_balancer: rotation, least connections, retries, backups."""
import collections
import threading
import time

import pytest
from conftest import free_port
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
    ("Server a:80 maxconn=5", "not in this version")])
def test_bad_lines(refused, line, text):
    assert text in refused(f"LoadModule route\nLoadModule balancer\n<Balancer p>\n    Server x:1\n"
                           f"    {line}\n</Balancer>\nProxyPass balancer://p\nListen 1\n")


def test_a_pool_that_is_never_defined(refused):
    out = refused("LoadModule route\nLoadModule balancer\nListen 1\nProxyPass balancer://bakend\n"
                  "<Balancer backend>\n    Server a:80\n</Balancer>\n")
    assert "bakend" in out and 'did you mean "backend"' in out
