"""Conditions: if= on directives, and <If>."""
import os
import subprocess
import threading
import time

import pytest
from conftest import MODULES, PROGRAM

BASE = "LoadModule route\nLoadModule headers\nLoadModule log\n"


# ---- if= ----

def test_header_if(sluice):
    s = sluice(BASE + """
Header set X-Post yes if="%{method} == POST"
Header set X-Not-Found yes always if="%{status} == 404"
Header set X-Both "a b" if="%{method} in {GET, POST} && %{path} starts_with '/ok'"
Header unset X-Post if="%{arg:hide} != ''"
<Location "/ok">
    Return 200 ok
</Location>
""")
    r = s.get("/ok/x")
    assert r.get("X-Post") is None and r.get("X-Both") == "a b" and r.get("X-Not-Found") is None
    assert s.get("/ok", method="POST").get("X-Post") == "yes"
    assert s.get("/ok?hide=1", method="POST").get("X-Post") is None
    r = s.get("/gone")
    assert r.status == 404 and r.get("X-Not-Found") == "yes" and r.get("X-Both") is None


def test_request_header_if(sluice, origin):
    s = sluice(BASE + f"""
RequestHeader set X-Local yes if="%{{remote_addr}} in {{127.0.0.0/8, ::1}}"
RequestHeader set X-Far yes if="!%{{remote_addr}} in {{127.0.0.0/8, ::1}}"
RequestHeader edit X-Name "b" "c" if="%{{req:X-Name}} contains b"
ProxyPass {origin}
""")
    r = s.get("/", {"X-Name": "abb"})
    assert r.seen("X-Local") == "yes" and r.seen("X-Far") is None and r.seen("X-Name") == "acb"


def test_rewrite_if(sluice, origin):
    s = sluice(BASE + f"""
Rewrite "^/(.*)" "/beta/$1" if="%{{cookie:beta}} == '1'"
Rewrite "^/old" "/new"
ProxyPass {origin}
""")
    assert s.get("/a").json()["target"] == "/a"
    assert s.get("/a?q", {"Cookie": "x=2; beta=1"}).json()["target"] == "/beta/a?q"
    assert s.get("/old").json()["target"] == "/new"


def test_access_log_if(sluice, tmp_path):
    s = sluice(BASE + f"""
AccessLog {tmp_path}/bad.log "%{{path}} %{{status}}" buffer=0 if="%{{status}} >= 400 && %{{cause}} == no_handler"
AccessLog {tmp_path}/quick.log "%{{path}}" buffer=0 if="%{{request_time}} < 1h"
AccessLog {tmp_path}/slow.log "%{{path}}" buffer=0 if="%{{request_time}} > 1h"
<Location "/ok">
    Return 200 ok
</Location>
""")
    s.get("/ok"), s.get("/a"), s.get("/ok/2"), s.get("/b")
    end = time.time() + 5
    while time.time() < end and len(open(f"{tmp_path}/quick.log").readlines()) < 4:
        time.sleep(0.02)
    assert sorted(open(f"{tmp_path}/bad.log").read().split("\n")) == ["", "/a 404", "/b 404"]
    assert len(open(f"{tmp_path}/quick.log").readlines()) == 4
    assert open(f"{tmp_path}/slow.log").read() == ""


def test_captures_in_values(sluice, origin):
    s = sluice(BASE + f"""
RequestHeader set X-User "$1 of $0 for $$1" if="%{{path}} =~ '^/u/([a-z]+)/(x)?'"
RequestHeader set X-Plain "$1"
Header set X-Second "<$2>" if="%{{path}} =~ '^/u/([a-z]+)/(x)?'"
ProxyPass {origin}
""")
    r = s.get("/u/ann/x")
    assert r.seen("X-User") == "ann of /u/ann/x for $1" and r.seen("X-Plain") == "$1"
    assert r.get("X-Second") == "<x>"
    r = s.get("/u/bob/")
    assert r.seen("X-User") == "bob of /u/bob/ for $1" and r.get("X-Second") == "<>"
    assert s.get("/v").seen("X-User") is None


@pytest.mark.parametrize("line", [
    """Header set X-A yes if="%{req:X} =~ '^(a+)+$'" """,
    """RequestHeader set X-A yes if="%{req:X} !~ '^(a+)+$'" """,
    """Rewrite /x /y if="%{req:X} =~ '^(a+)+$'" """])
def test_a_pattern_that_gives_up_fails_the_request(sluice, origin, line):
    s = sluice(BASE + f"{line}\nProxyPass {origin}\n").expect("SL0452", "SL0453")
    assert s.get("/x", {"X": "aaaa"}).status == 200
    assert s.get("/x", {"X": "a" * 60 + "b"}).status == 500
    assert s.get("/x", {"X": "aaaa"}).status == 200


def test_a_log_loses_no_line_to_a_pattern(sluice, tmp_path):
    s = sluice(BASE + f"""AccessLog {tmp_path}/a.log "%{{path}}" buffer=0 if="%{{req:X}} =~ '^(a+)+$'"
Return 200 ok
""")
    s.get("/no", {"X": "b"}), s.get("/gave-up", {"X": "a" * 60 + "b"}), s.get("/yes", {"X": "a"})
    end = time.time() + 5
    while time.time() < end and len(open(f"{tmp_path}/a.log").readlines()) < 2:
        time.sleep(0.02)
    assert sorted(open(f"{tmp_path}/a.log").read().split()) == ["/gave-up", "/yes"]


def test_a_module_has_a_row_for_a_condition(sluice, refused):
    """SL_COND: merged like any scalar."""
    s = sluice(BASE + """LoadModule probe
ProbeSay hello
ProbeWhen "%{arg:say} == yes"
Return 200 no
<Location "/in">
    ProbeWhen "%{arg:say} == aye"
</Location>
""")
    assert s.get("/?say=yes").body == b"hello" and s.get("/").body == b"no"
    assert s.get("/in?say=yes").body == b"no" and s.get("/in?say=aye").body == b"hello"
    out = refused(BASE + "LoadModule probe\nProbeWhen %{path}=/x\n")
    assert 'test.conf:5: ProbeWhen: expected an operator, "&&" or "||", found = at character 8' in out
    assert "cure: \"==\" compares" in out


# ---- <If> ----

WHERE = BASE + """
Header set X-Where outside
<If "%{req:A} == '1'">
    Header set X-Where if-outside
    Return 200 if-outside
</If>
<VirtualHost *>
    Return 200 host
    <If "%{req:B} == '1'">
        Header set X-Where if-host
        Return 200 if-host
    </If>
    <Location "/l">
        Return 200 location
        Header set X-Location yes
        <If "%{req:C} == '1'">
            Header set X-Where if-location
            Return 200 if-location
        </If>
        <Location "/l/deep/er">
            Return 200 deeper
        </Location>
    </Location>
</VirtualHost>
"""


@pytest.mark.parametrize("path, on, who", [
    ("/", "", "host"), ("/l", "", "location"), ("/l/deep/er", "", "deeper"),
    ("/", "A", "if-outside"), ("/l", "A", "if-outside"), ("/l/deep/er", "A", "if-outside"),
    ("/", "AB", "if-host"), ("/l", "AB", "if-host"), ("/l/deep/er", "BA", "if-host"),
    ("/", "ABC", "if-host"), ("/l", "ABC", "if-location"), ("/l", "AC", "if-location"),
    ("/l/deep/er", "ABC", "if-location"), ("/l/deep/er", "C", "if-location")])
def test_ifs_hold_over_the_location_innermost_last(sluice, path, on, who):
    s = sluice(WHERE)
    r = s.get(path, {x: "1" for x in on})
    assert r.body.decode() == who
    assert r.get("X-Where") == (who if who.startswith("if-") else "outside")
    assert r.get("X-Location") == ("yes" if path.startswith("/l") else None)


def test_file_order_among_siblings_and_ifs_inside(sluice):
    s = sluice(BASE + """
<If "%{req:A} != ''">
    Return 200 first
    Header add X-Order first
    <If "%{req:In} != ''">
        Return 200 inside
        Header add X-Order inside
    </If>
</If>
<If "%{req:B} != ''">
    Return 200 second
    Header add X-Order second
</If>
Return 200 none
""")
    assert s.get("/").body == b"none" and s.get("/", {"In": "1"}).body == b"none"
    r = s.get("/", {"A": "1", "B": "1"})
    assert r.body == b"second" and r.get("X-Order") == "first, second"
    r = s.get("/", {"A": "1", "B": "1", "In": "1"})
    assert r.body == b"inside" and r.get("X-Order") == "first, second, inside"


def test_an_if_alone_serves_no_host_nobody_claims(sluice):
    s = sluice(BASE + """
<If "%{arg:x} == 1">
    Return 403 no
</If>
<VirtualHost a.test>
    Return 200 a
</VirtualHost>
""")
    assert s.get("/?x=1", host="a.test").status == 403 and s.get("/", host="a.test").status == 200
    assert s.get("/?x=1", host="b.test").status == 421


def test_the_guides_example(sluice, make_origin):
    api, beta = make_origin(), make_origin()
    s = sluice(BASE + f"""
<VirtualHost *>
    <Location "/api/">
        ProxyPass {api}
    </Location>
    <If "%{{method}} == 'POST' && %{{req:X-Beta}} == '1'">
        ProxyPass {beta}
    </If>
</VirtualHost>
""")
    assert s.get("/api/x", {"X-Beta": "1"}).status == 200 and len(api.requests) == 1
    assert s.get("/api/x", {"X-Beta": "1"}, "POST", b"x").status == 200 and len(beta.requests) == 1
    assert s.get("/other", {"X-Beta": "1"}, "POST", b"x").status == 200 and len(beta.requests) == 2
    assert s.get("/other").status == 404


def test_scalars_lists_and_the_cores_own_values(sluice, origin):
    s = sluice(BASE + f"""
ProxyPass {origin}
LimitBody 10
Header add X-List outer
<If "%{{path}} =~ '^/up/([^/]+)'">
    LimitBody 100
    Header add X-List "$1"
    RequestHeader set X-Dir "$1"
</If>
<If "%{{req:Alone}} != ''">
    Header - add X-List alone
</If>
""")
    body = b"x" * 50
    assert s.get("/x", method="POST", body=body).status == 413
    r = s.get("/up/d1/f", method="POST", body=body)
    assert r.status == 200 and r.get("X-List") == "outer, d1" and r.seen("X-Dir") == "d1"
    assert s.get("/x").get("X-List") == "outer"
    assert s.get("/x", {"Alone": "1"}).get("X-List") == "alone"


def test_a_module_that_only_an_if_configures_runs_there_alone(sluice, tmp_path):
    s = sluice(BASE + f"""Return 200 ok
<If "%{{arg:log}} == yes">
    AccessLog {tmp_path}/a.log "%{{uri}}" buffer=0
</If>
""")
    s.get("/1"), s.get("/2?log=yes"), s.get("/3?log=no")
    end = time.time() + 5
    while time.time() < end and os.path.getsize(f"{tmp_path}/a.log") == 0:
        time.sleep(0.02)
    assert open(f"{tmp_path}/a.log").read() == "/2?log=yes\n"


def test_whom_to_trust_may_depend(sluice, origin):
    s = sluice(BASE + f"""ProxyPass {origin}
<If "%{{remote_addr}} in {{127.0.0.0/8}} && %{{req:Key}} == secret">
    TrustedProxies 127.0.0.1
    RequestHeader set X-Client %{{remote_addr}}
</If>
""")
    forged = {"X-Forwarded-For": "192.0.2.7"}
    assert s.get("/", forged).seen("X-Real-IP") == "127.0.0.1"
    r = s.get("/", {**forged, "Key": "secret"})
    assert r.seen("X-Client") == "192.0.2.7" and r.seen("X-Real-IP") == "192.0.2.7"


def test_an_if_that_gives_up_fails_the_request(sluice):
    s = sluice(BASE + """Return 200 ok
<If "%{req:X} =~ '^(a+)+$'">
    Return 403 no
</If>
""").expect("SL0452")
    assert s.get("/", {"X": "b"}).status == 200 and s.get("/", {"X": "aa"}).status == 403
    assert s.get("/", {"X": "a" * 60 + "b"}).status == 500


def test_rewrite_and_redirect_in_an_if(sluice, origin):
    s = sluice(BASE + f"""
<Location "/app/">
    ProxyPass {origin}/inner/
    <If "%{{arg:v}} >= 2">
        StripPrefix /app
    </If>
    <If "%{{arg:v}} >= 3">
        Redirect 302 /app/x /elsewhere
    </If>
</Location>
""")
    assert s.get("/app/x").json()["target"] == "/inner/x"
    assert s.get("/app/x?v=2").json()["target"] == "/inner/x?v=2"
    assert s.get("/app/x?v=10").get("Location") == "/elsewhere?v=10"
    assert s.get("/app/x?v=ten").json()["target"] == "/inner/x?v=ten"


def test_many_combinations_by_many_clients(sluice):
    """2^12 sets of Ifs and more, made on all threads at once; the bound on what is kept is passed."""
    n = 13
    s = sluice(BASE + "Return 200 ok\n" + "".join(
        f'<If "%{{arg:i}} =~ \'[{chr(97 + i)}]\'">\n    Header add X-On {chr(97 + i)}\n</If>\n'
        for i in range(n)))
    wrong = []

    def client(first, step):
        c = s.client(timeout=30)
        for bits in range(first, 1 << n, step):
            on = [chr(97 + i) for i in range(n) if bits >> i & 1]
            got = c.request("GET", "/?i=" + "".join(on)).get("X-On") or ""
            if got != ", ".join(on):
                wrong.append((on, got))
        c.close()

    # each set is asked for by two clients at about the same time
    all_ = [threading.Thread(target=client, args=(i % 4, 4)) for i in range(8)]
    [t.start() for t in all_]
    [t.join() for t in all_]
    assert not wrong, wrong[:5]


def test_ifs_of_a_new_generation(sluice):
    s = sluice(BASE + 'Return 200 ok\n<If "%{path} == /x">\n    Return 200 one\n</If>\n')
    assert s.get("/x").body == b"one"
    with open(s.conf) as f:
        text = f.read()
    with open(s.conf, "w") as f:
        f.write(text.replace("Return 200 one", "Return 200 two"))
    os.kill(s.proc.pid, 1)
    end = time.time() + 10
    while time.time() < end and s.get("/x").body != b"two":
        time.sleep(0.05)
    assert s.get("/x").body == b"two" and s.get("/y").body == b"ok"


# ---- errors when the configuration is read ----

@pytest.mark.parametrize("text, found, cure", [
    ('Header set X y if="%{path} = /x"', "if: expected an operator", '"==" compares'),
    ('Header set X y if="%{metod} == GET"', "did you mean %{method}?", None),
    ('Header set X y if="%{status} == abc"', "expected a number beside %{status}, found abc", None),
    ('Header set X y if="%{upstream_time} > 1s"', "is known when the request is over", "runs later"),
    ('RequestHeader set X y if="%{status} == 200"', "is known when the response is", "runs later"),
    ('Header set X if="%{path} == /x"', "expected a value", None),
    ('Header set X $2 if="%{path} =~ \'(x)\'"', "expected $0 to $1", None),
    ('Header set X y if="%{path} == /x" if="%{path} == /x"', "one if=CONDITION", None),
    ('Rewrite /a /b if="%{path} =="', "expected a value behind ==, found the end", "''"),
    ('Rewrite /a /b what', "expected one of the options if, found", None),
    ('AccessLog stdout if="(%{path} == /x"', 'or ")", found the end', None),
    ('<If "%{status} == 200">\n</If>', "is known when the response is", "runs later"),
    ('<If "%{path} =~ \'(\'">\n</If>', "expected a valid pattern at character 12", "backslash"),
    ('<If %{path} == /x>\n</If>', "expected one condition", "double quotes|write <If"),
    ('<If>\n</If>', "expected one condition", None),
    ('<If "%{path} == /x">\nLocation x\n</If>', "no loaded module knows", None),
    ('<If "%{path} == /x">\n<Location "/y">\n</Location>\n</If>', "may not stand in <If>",
     "put the <If> inside"),
    ('<If "%{path} == /x">\n<LocationMatch y>\n</LocationMatch>\n</If>', "may not stand in <If>", None),
    ('<If "%{path} == /x">\n<VirtualHost y>\n</VirtualHost>\n</If>', "may not stand here", None),
    ('<If "%{path} == /x">\nListen 80\n</If>', "may not stand here", None),
    ('<Location "/a">\n' + '<If "%{path} == /x">\n</If>\n' * 20 + '</Location>\n' +
     '<If "%{path} == /x">\n</If>\n' * 13, "at most 32 Ifs", "join conditions"),
])
def test_errors(refused, text, found, cure):
    out = refused(BASE + text + "\n")
    assert "test.conf:" in out and found in out, out
    assert cure is None or any(c in out for c in cure.split("|")), out
    assert "cure: " in out or cure is None


def test_errors_of_all_lines_are_reported_together(refused):
    out = refused(BASE + 'Header set A b if="x"\n<If "%{path}">\n    Header set A b if="%{n}"\n</If>\n')
    assert all(f"test.conf:{n}: " in out for n in (4, 5, 6))


def test_scopes_are_printed(tmp_path):
    (tmp_path / "t.conf").write_text(WHERE)
    out = subprocess.run([PROGRAM, "-S", "-f", str(tmp_path / "t.conf"), "--module-dir", MODULES],
                         capture_output=True, text=True, timeout=20)
    assert out.returncode == 0
    lines = out.stdout.split("\n")
    assert any(l.startswith("  <If \"%{req:A} == '1'\">  (") for l in lines)
    assert any(l.startswith("    <If \"%{req:B} == '1'\">  (") for l in lines)
    assert any(l.startswith("      <If \"%{req:C} == '1'\">  (") and "t.conf:19" in l for l in lines), out.stdout


def test_the_directives_name_it(tmp_path):
    (tmp_path / "t.conf").write_text(BASE)
    out = subprocess.run([PROGRAM, "-L", "-f", str(tmp_path / "t.conf"), "--module-dir", MODULES],
                         capture_output=True, text=True, timeout=20).stdout
    assert "<If CONDITION>" in out and "[if=CONDITION]" in out
