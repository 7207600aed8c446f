"""mod_access: who may ask."""
import ipaddress
import json
import os
import random
import re
import subprocess
import threading

import pytest
from conftest import MODULES, PROGRAM
from test_explain import run
from test_upgrade import IS_ROOT, folder, folders, operate, put, within  # noqa: F401, fixtures

# Clients say who they are.
HEAD = "LoadModule route\nLoadModule access\nTrustedProxies 127.0.0.1\nReturn 200 in\n"


def status(s, client, path="/", fields=()):
    return s.get(path, {"X-Forwarded-For": client, **dict(fields)}).status


def check(s, inside, outside, path="/"):
    for client in inside:
        assert status(s, client, path) == 200, client
    for client in outside:
        assert status(s, client, path) == 403, client


@pytest.mark.parametrize("lines, inside, outside", [
    ("", ["10.0.0.1", "2001:db8::1"], []),
    ("Allow 10.0.0.0/8 192.168.1.7\nDeny all", ["10.9.9.9", "192.168.1.7"], ["192.168.1.8", "2001:db8::1"]),
    ("Allow 10.0.0.0/8", ["10.9.9.9"], ["11.0.0.1", "::1"]),
    ("Deny 10.0.0.0/8", ["11.0.0.1", "::1"], ["10.9.9.9", "::ffff:10.9.9.9"]),
    ("Deny 10.1.0.0/16\nAllow 10.0.0.0/8", ["10.2.0.1"], ["10.1.0.1", "11.0.0.1"]),
    ("Allow 10.0.0.0/8\nDeny 10.1.0.0/16", ["10.1.0.1", "10.2.0.1"], ["11.0.0.1"]),
    ("Deny 10.0.0.1\nAllow 10.0.0.0/24\nDeny 10.0.0.0/8\nAllow all",
     ["10.0.0.2", "11.0.0.1"], ["10.0.0.1", "10.0.1.1"]),
    ("Allow 2001:db8::/32\nDeny all", ["2001:db8:1::1"], ["2001:db9::1", "32.1.13.184"]),
    ("Allow ::/0", ["2001:db8::1"], ["10.0.0.1"]),
    ("Deny all", [], ["10.0.0.1", "::1"]),
    ("Allow all\nDeny all", ["10.0.0.1", "::1"], []),
])
def test_the_first_line_that_names_the_client_decides(sluice, lines, inside, outside):
    check(sluice(HEAD + lines + "\n"), inside, outside)


def test_the_innermost_scope_decides_alone(sluice):
    s = sluice(HEAD + "Deny 10.0.0.1\n"
               '<Location "/a">\nAllow 10.0.0.0/8\n<Location "/a/b">\nDeny 10.0.0.2\n</Location>\n</Location>\n'
               '<Location "/open">\nAllow all\n</Location>\n<Location "/none">\nReturn 200 x\n</Location>\n'
               "<If \"%{req:X-In} == '1'\">\nAllow 11.0.0.0/8\n</If>\n")
    for path in ("/", "/none"):
        check(s, ["10.0.0.2", "11.0.0.1"], ["10.0.0.1"], path)
    check(s, ["10.0.0.1", "10.0.0.2"], ["11.0.0.1"], "/a/x")
    check(s, ["10.0.0.1", "11.0.0.1"], ["10.0.0.2"], "/a/b")
    check(s, ["10.0.0.1"], [], "/open")
    for path in ("/", "/a/b"):  # an If is inside all of them
        assert status(s, "11.0.0.1", path, {"X-In": "1"}) == 200
        assert status(s, "10.0.0.3", path, {"X-In": "1"}) == 403


def test_conditions(sluice):
    s = sluice(HEAD + "Allow all if=\"%{req:X-Key} == 'k'\"\n"
               "Deny 10.0.0.1 if=\"%{path} starts_with '/x'\"\nAllow 10.0.0.0/8\n")
    assert status(s, "11.0.0.1") == 403 and status(s, "11.0.0.1", "/", {"X-Key": "k"}) == 200
    assert status(s, "10.0.0.1") == 200 and status(s, "10.0.0.1", "/x") == 403
    assert status(s, "10.0.0.2", "/x") == 200 and status(s, "10.0.0.1", "/x", {"X-Key": "k"}) == 200


def test_a_condition_that_gives_up_lets_nobody_in(sluice):
    s = sluice(HEAD + 'Deny all if="%{req:X} =~ \'^(a+)+$\'"\n').expect("SL0452")
    assert status(s, "10.0.0.1", "/", {"X": "a" * 40 + "b"}) == 500


def test_the_peer_counts_where_it_is_not_trusted(sluice):
    s = sluice(HEAD.replace("TrustedProxies 127.0.0.1", "LogLevel info") + "Allow 10.0.0.0/8\nDeny all\n")
    assert status(s, "10.0.0.1") == 403
    assert s.logged(r"ACCESS0010 .*the client may not ask for this: .*test.conf:\d+ Deny all")


def test_preflights_come_before(sluice):
    s = sluice(HEAD + "LoadModule headers\nCORS https://a.test headers=X-Key\n"
               "Allow all if=\"%{req:X-Key} == 'k'\"\n")
    ask = {"Origin": "https://a.test", "Access-Control-Request-Method": "GET"}
    assert s.get("/", ask, method="OPTIONS").status in (200, 204) and s.get("/").status == 403


# What mod_access says (its lines, whom 10.0.0.1 meets) and another says, and what comes of it.
OPINIONS = [
    # lines                  another    all  any
    ("Allow 10.0.0.0/8",     "granted", 200, 200),
    ("Allow 10.0.0.0/8",     "denied",  401, 200),
    ("Allow 10.0.0.0/8",     None,      200, 200),
    ("Allow 11.0.0.0/8",     "granted", 403, 200),
    ("Allow 11.0.0.0/8",     "denied",  403, 401),
    ("Allow 11.0.0.0/8",     None,      403, 403),
    ("Deny 10.0.0.0/8",      "granted", 403, 200),
    ("Deny 10.0.0.0/8",      None,      403, 403),
    ("Deny 11.0.0.0/8",      "granted", 200, 200),
    ("Deny 11.0.0.0/8",      "denied",  401, 401),
    ("Deny 11.0.0.0/8",      None,      200, 200),
]


def test_satisfy(sluice, tmp_path):
    text = HEAD + "LoadModule probe\n"
    for i, (lines, other, _, _) in enumerate(OPINIONS):
        probe = f"ProbeOpinion {other}\n" if other else ""
        for how in ("all", "any"):
            text += f"<Location /{how}{i}>\nSatisfy {how}\n{lines}\n{probe}</Location>\n"
    s = sluice(text)
    for i, row in enumerate(OPINIONS):
        got = tuple(status(s, "10.0.0.1", f"/{how}{i}") for how in ("all", "any"))
        assert got == row[2:], row
        for how, want in zip(("all", "any"), row[2:]):
            r = run(tmp_path, text, "-E", f"GET http://a/{how}{i}", "from=10.0.0.1", "--json")
            assert json.loads(r.stdout)["response"]["status"] == want, row


# ---- files ----

def test_a_file(sluice, tmp_path):
    put(tmp_path / "deny", "# blocked\n10.0.0.0/8 ; SBL1\r\n\n2001:db8::/32\n")
    put(tmp_path / "allow", "10.1.0.0/16\n")
    s = sluice(HEAD + f"AccessFile allow {tmp_path}/allow\nAccessFile deny {tmp_path}/deny\nAllow all\n"
               f'<Location "/if">\nAccessFile allow {tmp_path}/allow if="%{{req:X}} == 1"\n</Location>\n')
    check(s, ["10.1.0.1", "11.0.0.1", "2001:db9::1"], ["10.0.0.1", "2001:db8::1"])
    assert status(s, "10.1.0.1", "/if") == 403 and status(s, "10.1.0.1", "/if", {"X": "1"}) == 200


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_is_read_again(sluice, tmp_path, in_place):
    path = tmp_path / "list"
    write = (lambda t: path.write_text(t)) if in_place else (lambda t: put(path, t))
    write("10.0.0.1\n")
    # Two lines share it.
    s = sluice(HEAD + f"AccessFile allow {path}\n<Location /x>\nAccessFile deny {path}\n</Location>\n")
    check(s, ["10.0.0.1"], ["10.0.0.2"])
    for i in range(2, 6):
        write(f"10.0.0.{i}\n")
        assert within(4, lambda: status(s, f"10.0.0.{i}") == 200)
        check(s, [f"10.0.0.{i}"], ["10.0.0.1"])
        check(s, ["10.0.0.1"], [f"10.0.0.{i}"], "/x")
    assert s.logged("ACCESS0003 .*list: read again, 1 networks")


def test_a_bad_file_changes_nothing(sluice, tmp_path):
    path = tmp_path / "list"
    put(path, "10.0.0.1\n")
    s = sluice(HEAD + f"AccessFile allow {path}\n").expect("ACCESS0001")
    put(path, "10.0.0.2\n10.0.0.0/33 # too many\n")
    assert s.logged(r'ACCESS0001 .*/list:2: expected an address or a network .*found "10.0.0.0/33"; '
                    "the networks from before are kept")
    check(s, ["10.0.0.1"], ["10.0.0.2"])
    put(path, "10.0.0.2\n")
    assert within(4, lambda: status(s, "10.0.0.2") == 200)
    check(s, [], ["10.0.0.1"])


def test_a_file_that_vanishes_is_kept(sluice, tmp_path):
    path = tmp_path / "list"
    put(path, "10.0.0.1\n")
    s = sluice(HEAD + f"AccessFile allow {path}\n").expect("SL0250")
    os.unlink(path)
    assert s.logged("SL0250 .*No such file")
    check(s, ["10.0.0.1"], ["10.0.0.2"])
    put(path, "10.0.0.2\n")
    assert within(4, lambda: status(s, "10.0.0.2") == 200)


@pytest.mark.skipif(not IS_ROOT, reason="needs root")
def test_a_file_only_root_can_read(operate, folder):  # noqa: F811
    path = os.path.join(folder, "list")
    put(path, "10.0.0.1\n")
    o = operate(HEAD + f"AccessFile allow {path}\n")
    with open(f"/proc/{o.serving()}/status") as f:
        assert not re.search(r"^Uid:\t0", f.read(), re.M)
    check(o.s, ["10.0.0.1"], ["10.0.0.2"])
    put(path, "10.0.0.2\n")
    assert within(4, lambda: status(o.s, "10.0.0.2") == 200)
    check(o.s, [], ["10.0.0.1"])


def test_a_crash_depends_on_no_file(operate, folder):  # noqa: F811
    """What was accepted is served by the worker that comes, whatever became of the file."""
    path = os.path.join(folder, "list")
    put(path, "10.0.0.1\n")
    o = operate(HEAD + f"AccessFile allow {path}\n")
    o.s.expect("SL0202", "SL0250", "ACCESS0001", "ACCESS0004")
    put(path, "nonsense\n")
    assert o.s.logged("ACCESS0001")
    for text in ("nonsense\n", None, "10.0.0.3\n"):
        if text is None:
            os.unlink(path)
        else:
            put(path, text)
        old = o.serving()
        os.kill(old, 9)
        assert within(10, lambda: o.serving() not in (old, None))
        want = "10.0.0.3" if text == "10.0.0.3\n" else "10.0.0.1"
        assert within(4, lambda: status(o.s, want) == 200)
        check(o.s, [], ["10.0.0.2"])


def test_many_networks_change_under_load(sluice, tmp_path):
    """100,000 networks are read and replaced without a hook that takes long, and nobody who is in
    both lists, or in none, ever notices."""
    rng, path = random.Random(5), tmp_path / "list"

    def listed():
        nets = {rng.getrandbits(24) << 8 for _ in range(100000)} - {0x0a000000, 0x0a000100}
        return "".join(f"{ipaddress.IPv4Address(n)}/24\n" for n in nets) + "10.0.0.0/24\n"

    put(path, listed())
    s = sluice(HEAD + f"AccessFile allow {path}\n")
    bad, done = [], threading.Event()

    def ask(client, want):
        c = s.client()
        while not done.is_set():
            got = c.request("GET", "/", {"X-Forwarded-For": client}).status
            if got != want:
                bad.append((client, got))
        c.close()

    askers = [threading.Thread(target=ask, args=a)
              for a in (("10.0.0.9", 200), ("10.0.1.9", 403), ("10.0.0.7", 200), ("10.0.1.7", 403))]
    for t in askers:
        t.start()
    try:
        for i in range(5):
            put(path, listed() + f"2001:db8:{i}::/48\n")
            assert within(10, lambda: status(s, f"2001:db8:{i}::1") == 200), s.log()[-2000:]
    finally:
        done.set()
        for t in askers:
            t.join()
    assert not bad


def test_of_changes_in_a_row_the_last_holds(sluice, tmp_path):
    path = tmp_path / "list"
    put(path, "10.0.0.1\n")
    s = sluice(HEAD + f"AccessFile allow {path}\n")
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in s.pids()]
    for i in range(100):
        put(path, "".join(f"11.{k >> 8}.{k & 255}.{i}\n" for k in range(20000)) + f"10.0.1.{i}\n")
    assert within(10, lambda: status(s, "10.0.1.99") == 200)
    check(s, [], ["10.0.0.1", "10.0.1.98"])
    assert within(4, lambda: [len(os.listdir(f"/proc/{pid}/fd")) for pid in s.pids()] == before)


# ---- the configuration ----

@pytest.mark.parametrize("line, wanted", [
    ("Allow", ["test.conf:2: Allow: expected NET ...|all [if=CONDITION], found nothing"]),
    ("Allow 10.0.0.0/33", ['found "10.0.0.0/33"', "^~~~"]),
    ("Allow 10.0.0.1 10.0.0", ['found "10.0.0"']),
    ("Deny localhost", ['found "localhost"', "cure: names are not looked up"]),
    ("Deny from all", ['found "from"', 'cure: leave out "from"']),
    ("Alow all", ['did you mean "Allow"?']),
    ("Allow if=\"%{method} == 'GET'\"", ["expected an address, a network"]),
    ("Allow all if=\"%{status} == 200\"", ["if: ", "%{status}"]),
    ("Allow if=\"%{method} == 'GET'\" all", ["cure: there is one if=CONDITION, at the end"]),
    ("AccessFile list", ["expected allow or deny, and a file"]),
    ("AccessFile block list", ["expected allow or deny, and a file"]),
    ("AccessFile deny", ["expected allow or deny, and a file"]),
    ("AccessFile deny nowhere", ["nowhere: No such file"]),
    ("AccessFile deny .", ["expected a file, found"]),
    ("AccessFile deny test.conf", ["AccessFile: test.conf:1: expected an address or a network",
                                   'found "LoadModule access"', "cure: a line has one network"]),
])
def test_what_is_refused(refused, line, wanted):
    out = refused(f"LoadModule access\n{line}\n")
    for text in wanted:
        assert text in out, out


def test_it_is_explained(tmp_path):
    (tmp_path / "list").write_text("10.0.0.1\n")
    conf = (HEAD + f"AccessFile deny list\n<Location /a>\nAllow 10.0.0.0/8 if=\"%{{req:X}} == '1'\"\n"
            "Allow 10.0.0.7\n</Location>\n")

    def steps(what, *args):
        r = run(tmp_path, conf, "-E", f"GET http://a{what}", *args, "--json")
        said = json.loads(r.stdout)
        return (said["response"]["status"],
                [x["text"] for x in said["steps"] if x["module"] == "access" and not x["is_log"]])

    assert steps("/", "from=10.0.0.1") == (403, ["c.conf:5 AccessFile deny list: names the client"])
    assert steps("/", "from=10.0.0.2") == (200, ["c.conf:5 AccessFile deny list: does not name the client"])
    assert steps("/a", "from=10.0.0.2") == (403, [
        "c.conf:7 Allow 10.0.0.0/8 if=%{req:X} == '1': the condition does not hold",
        "c.conf:8 Allow 10.0.0.7: does not name the client",
        "no line names the client, and there are some that allow: denied"])
    assert steps("/a", "from=10.0.0.2", "-H", "X: 1")[0] == 200
    out = run(tmp_path, conf, "-T").stdout
    inner = out.split('<Location "/a">')[-1] if '<Location "/a">' in out else out.split("<Location /a>")[-1]
    assert re.search(r"Allow 10.0.0.7 +c.conf:8", inner) and re.search(r"AccessFile \(none\) +default", inner)


def test_many_networks_are_loaded_in_time(tmp_path):
    (tmp_path / "list").write_text("".join(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}\n" for i in range(0, 400000, 2)))
    r = run(tmp_path, HEAD + "Listen 80\nAccessFile deny list\n", "-E", "GET http://a/", "from=10.1.1.2", "--json")
    assert json.loads(r.stdout)["response"]["status"] == 403
    r = subprocess.run([PROGRAM, "-t", "-f", str(tmp_path / "c.conf"), "--module-dir", MODULES], timeout=60)
    assert r.returncode == 0
