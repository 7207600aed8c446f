"""How each method shares requests: statistics, by weight."""
import collections
import threading

import pytest
from origin import reply
from test_balancer import pool, until
from test_route import names

WEIGHTS = {"a": 1, "b": 2, "c": 3}
N = 600
# Of the sum of (found - expected)^2 / expected with two degrees of freedom: once in a million.
UNLIKELY = 27.6


@pytest.fixture
def shared(sluice, make_origin):
    def start(method, weights=WEIGHTS):
        o = names(make_origin, *weights)
        s = sluice("TrustedProxies 127.0.0.1\n" +
                   pool([f"{k}={o[k]} weight={w}" for k, w in weights.items()], f"    Method {method}\n"))
        s.o = o
        return s
    return start


def shares(s, n=N, fields=lambda i: {}):
    c = s.client()
    got = [c.request("GET", f"/{i}", fields(i)).body.decode().split()[0] for i in range(n)]
    c.close()
    return collections.Counter(got)


def surprise(got, weights=WEIGHTS):
    whole, n = sum(weights.values()), sum(got.values())
    return sum((got[k] - n * w / whole) ** 2 / (n * w / whole) for k, w in weights.items())


def test_roundrobin_is_exact(shared):
    assert surprise(shares(shared("roundrobin"))) == 0


def test_random2_draws_by_weight(shared):
    assert surprise(shares(shared("random2"))) < UNLIKELY


def test_random2_is_no_rotation(shared):
    """Neighbours are independent: pairs of equals come as often as chance has them."""
    s = shared("random2", {"a": 1, "b": 1})
    c = s.client()
    got = [c.request("GET", "/").body[:1] for _ in range(N)]
    pairs = sum(x == y for x, y in zip(got, got[1:]))
    assert abs(pairs - N / 2) < 5 * (N / 4) ** 0.5


def held(s, n):
    """n requests at the same time, and who has how many of them."""
    go = threading.Event()
    for k, o in s.o.items():
        o.on("/hold", lambda c, r, k=k: (go.wait(10), c.send(reply(200, k.encode())))[1])
    clients = []
    for i in range(n):
        clients.append(s.client().send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"))
        until(lambda: sum(len(o.requests) for o in s.o.values()) == i + 1)
    go.set()
    return collections.Counter(c.response().body.decode() for c in clients)


def test_leastconn_fills_by_weight(shared):
    got = held(shared("leastconn"), 24)
    assert all(abs(got[k] - 4 * w) <= 1 for k, w in WEIGHTS.items()), got


def test_leastconn_takes_equals_in_turn(shared):
    got = shares(shared("leastconn", {"a": 1, "b": 1, "c": 1}), 300)
    assert all(95 <= got[k] <= 105 for k in "abc"), got


def test_random2_evens_out_what_is_in_flight(shared):
    """The lesser of two: far more even than chance, of which the largest of four had 18 or more."""
    got = held(shared("random2", {k: 1 for k in "abcd"}), 48)
    assert max(got.values()) <= 16 and min(got[k] for k in "abcd") >= 8, got


@pytest.mark.parametrize("method, fields", [
    ("hash %{path}", lambda i: {}), ("iphash", lambda i: {"X-Forwarded-For": f"10.{i >> 8}.{i & 255}.1"})])
def test_hashes_share_keys_by_weight(shared, method, fields):
    got = shares(shared(method), N, fields)
    for k, w in WEIGHTS.items():  # the points of a ring are no even grid
        assert 0.65 < got[k] / (N * w / 6) < 1.35, got


def test_a_bound_spreads_one_hot_key(shared):
    got = held(shared("hash fixed bound=150", {k: 1 for k in "abcd"}), 24)
    assert max(got.values()) <= 10 and len(got) >= 3, got  # 150 % of the mean and one; without: 24


def test_first_takes_the_first(shared):
    assert shares(shared("first"), 100) == {"a": 100}
