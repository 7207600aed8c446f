"""The language as a whole: every variable, operator and directive of the core and of mod_route has
a test, and what is added to the code without one is told here."""
import grp
import os
import pwd
import re
import subprocess
import time

import pytest
from at_home import at_home
from conftest import MODULES, PROGRAM, TOP, free_port
from origin import reply

HERE = os.path.dirname(os.path.abspath(__file__))


def listed(folder):
    """-L of the core and mod_route: {directive or <Section>}, {variable: takes a name}."""
    conf = os.path.join(str(folder), "l.conf")
    with open(conf, "w") as f:
        f.write("LoadModule route\nListen 80\n")
    out = subprocess.run([PROGRAM, "-f", conf, "--module-dir", MODULES, "-L"], capture_output=True,
                         text=True, timeout=60).stdout
    names = set(re.findall(r"^  <?([A-Z]\w+)", out, re.M)) | set(re.findall(r"^    ([A-Z]\w+)", out, re.M))
    return names, {n: bool(arg) for n, arg in re.findall(r"^  %\{(\w+)(:NAME)?\}", out, re.M)}


# ---- variables ----

# What each is in one request: text of a value, where it can be used, a pattern of what it gives.
VARIABLES = {
    "remote_addr": ("%{remote_addr}", "request", r"127\.0\.0\.1"),
    "remote_port": ("%{remote_port}", "request", r"[1-9]\d{3,4}"),
    "host": ("%{host}", "request", r"h\.test"),
    "path": ("%{path}", "request", r"/p q"),
    "query": ("%{query}", "request", r"x=1&y=%20"),
    "uri": ("%{uri}", "request", r"/a/\.\./p%20q\?x=1&y=%20"),
    "arg": ("%{arg:y}", "request", r"%20"),
    "req": ("%{req:X-A}", "request", r"b, c"),
    "cookie": ("%{cookie:n}", "request", r"v"),
    "method": ("%{method}", "request", r"PATCH"),
    "scheme": ("%{scheme}", "request", r"http"),
    "protocol": ("%{protocol}", "request", r"HTTP/1\.1"),
    "request_id": ("%{request_id}", "request", r"[0-9a-f]{16}"),
    "time": ("%{time}", "request", r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\S*"),
    "time_clf": ("%{time_clf}", "request", r"\d\d/[A-Z][a-z]{2}/20\d\d:\d\d:\d\d:\d\d [+-]\d{4}"),
    "env": ("%{env:LANGUAGE_TEST}", "request", r"from outside"),
    "resp": ("%{resp:X-R}", "response", r"r1, r2"),
    "status": ("%{status}", "response", r"203"),
    "upstream_addr": ("%{upstream_addr}", "response", r"127\.0\.0\.1:\d+"),
    "bytes_sent": ("%{bytes_sent}", "log", r"4"),
    "upstream_time": ("%{upstream_time}", "log", r"\d+\.\d+"),
    "request_time": ("%{request_time}", "log", r"\d+\.\d+"),
    "cause": ("%{cause}", "log", r"-?"),
}


def test_every_variable_gives_its_value(sluice, origin, tmp_path, monkeypatch):
    monkeypatch.setenv("LANGUAGE_TEST", "from outside")
    origin.on("/a/../p%20q", reply(203, b"body", [("X-R", "r1"), ("X-R", "r2")]))
    lines, log = "", ""
    for name, (text, phase, _) in VARIABLES.items():
        if phase == "request":
            lines += f'RequestHeader set X-Var-{name} "{text}"\n'
        if phase != "log":
            lines += f'Header set X-Var-{name} "{text}"\n'
        log += f"{name}=[{text}] "
    s = sluice(f"LoadModule route\nLoadModule headers\nLoadModule log\n{lines}"
               f'AccessLog {tmp_path}/log "{log}" buffer=0\nProxyPass {origin}\n')
    r = s.get("/a/../p%20q?x=1&y=%20", {"X-A": "b, c", "Cookie": "m=1; n=v; o=2"}, method="PATCH", host="H.test:80")
    assert r.status == 203
    s.stop()
    written = dict(re.findall(r"(\w+)=\[([^\]]*)\]", (tmp_path / "log").read_text()))
    sent = {k.lower(): v for k, v in origin.last.fields}
    for name, (_, phase, wanted) in VARIABLES.items():
        assert re.fullmatch(wanted, written[name]), (name, written[name])
        if phase != "log":
            assert re.fullmatch(wanted, r.get(f"X-Var-{name}")), (name, r.get(f"X-Var-{name}"))
        if phase == "request":
            assert re.fullmatch(wanted, sent[f"x-var-{name}".lower()]), name


def test_the_cause_of_a_failure_is_a_variable(sluice, tmp_path):
    s = sluice(f'LoadModule route\nLoadModule log\nAccessLog {tmp_path}/log "%{{cause}} %{{status}}" buffer=0\n'
               f"ProxyPass 127.0.0.1:{free_port()}\n").expect("SL0501")
    assert s.get("/").status == 502
    s.stop()
    assert (tmp_path / "log").read_text() == "connect_failed 502\n"


@pytest.mark.parametrize("name", sorted(n for n in VARIABLES if VARIABLES[n][1] != "request"))
def test_a_variable_used_too_early_is_an_error(refused, name):
    text, phase, _ = VARIABLES[name]
    line = "Return 200 " if phase == "response" else "Header set X-A "
    out = refused(f"LoadModule route\nLoadModule headers\n{line}{text}\n")
    assert f"test.conf:3: {line.split()[0]}: expected a variable known by now, but %{{{name}}} is known when" in out


# ---- operators ----

# Each type and operator, true and false; the request is the one below.
CONDITIONS = [
    ("%{method} == GET", 1), ("%{method} == POST", 0), ("%{method} != GET", 0), ("%{method} != 'POST'", 1),
    ("%{req:A} < b", 1), ("%{req:A} <= abc", 1), ("%{req:A} > abc", 0), ("%{req:A} >= abc", 1),
    ("abd > %{req:A}", 1),
    ("%{path} =~ '^/x(\\d+)$'", 1), ("%{path} =~ ^/y", 0), ("%{path} !~ ^/y", 1), ("%{path} !~ ^/x", 0),
    ("%{method} in {GET, HEAD}", 1), ("%{method} in {'POST', PUT}", 0),
    ("%{path} starts_with /x", 1), ("%{path} starts_with 1", 0), ("%{path} ends_with 17", 1),
    ("%{path} ends_with /x", 0), ("%{path} contains x1", 1), ("%{path} contains 18", 0),
    ("%{method} == GET && %{path} == /x17", 1), ("%{method} == GET && %{path} == /", 0),
    ("%{method} == PUT || %{path} == /x17", 1), ("%{method} == PUT || %{path} == /", 0),
    ("!%{method} == PUT", 1), ("!(%{method} == GET)", 0), ("!!(%{method} == GET)", 1),
    ("%{method} == PUT && %{method} == GET || %{path} == /x17", 1),
    ("%{method} == PUT && (%{method} == GET || %{path} == /x17)", 0),
    # addresses and networks
    ("%{remote_addr} == 127.0.0.1", 1), ("%{remote_addr} != 127.0.0.1", 0),
    ("%{remote_addr} == ::ffff:127.0.0.1", 1), ("%{remote_addr} in {10.0.0.0/8, 127.0.0.0/8}", 1),
    ("%{remote_addr} in {10.0.0.0/8, fd00::/8}", 0), ("%{req:IP} in {192.0.2.0/24}", 1),
    ("%{req:A} in {192.0.2.0/24}", 0),
    # numbers
    ("%{status} == 200", 1), ("%{status} != 200", 0), ("%{status} < 300", 1), ("%{status} <= 200", 1),
    ("%{status} > 200", 0), ("%{status} >= 200.5", 0), ("%{status} in {200, 304}", 1), ("%{status} in {404}", 0),
    ("%{req:N} == %{status}", 1), ("%{req:A} == %{status}", 0), ("%{req:A} != %{status}", 1),
    ("%{req:A} < %{status}", 0), ("%{req:A} > %{status}", 0),
    # what is absent is the empty text
    ("%{req:None} == ''", 1), ("%{req:None} != ''", 0), ("%{arg:q} == ''", 0), ("%{req:None} =~ '^$'", 1),
    ("%{req:None} contains a", 0), ("%{req:None} in {'', x}", 1),
    # values of several parts
    ("'%{method} %{path}' == 'GET /x17'", 1), ("'100%%' == '%{req:P}'", 1),
]


def test_every_operator(sluice):
    lines = "".join(f'Header set X-{i} yes if="{c}"\n' for i, (c, _) in enumerate(CONDITIONS))
    s = sluice("LoadModule route\nLoadModule headers\n" + lines + "Return 200 ok\n")
    r = s.get("/x17?q=1", {"A": "abc", "N": "200", "IP": "192.0.2.7", "P": "100%"})
    for i, (c, holds) in enumerate(CONDITIONS):
        assert (r.get(f"X-{i}") == "yes") == bool(holds), c


def test_times_are_compared(sluice, tmp_path):
    rows = [("%{request_time} < 1h", 1), ("%{request_time} > 500ms", 0), ("%{request_time} <= 1d", 1),
            ("%{request_time} >= 1m", 0), ("%{request_time} != 10s", 1), ("%{request_time} == 10s", 0)]
    lines = "".join(f'AccessLog {tmp_path}/{i} "%{{status}}" buffer=0 if="{c}"\n' for i, (c, _) in enumerate(rows))
    s = sluice("LoadModule route\nLoadModule log\n" + lines + "Return 200 ok\n")
    s.get("/")
    s.stop()
    for i, (c, holds) in enumerate(rows):
        assert ((tmp_path / str(i)).read_text() == "200\n") == bool(holds), c


def test_named_captures_of_conditions(sluice, refused):
    s = sluice("""LoadModule route
LoadModule headers
<If "%{path} =~ '^/(?<kind>[a-z]+)/(?<id>[0-9]+)$' && %{method} == GET">
    Header set X-Kind "$<kind>-$<id>-$2-$$<id>"
    Return 200 "$<id>"
</If>
Return 404
""")
    r = s.get("/car/7")
    assert r.body == b"7" and r.get("X-Kind") == "car-7-7-$<id>" and s.get("/car").status == 404
    bad = "LoadModule route\n<If \"%{path} =~ '^/(?<a>x)' || %{host} =~ '(y)(?<a>x)'\">\nReturn 200 $<a>\n</If>\n"
    assert "expected the name of a group of the condition's pattern, found $<a>" in refused(bad)


# ---- directives nothing else tries ----

def test_define_is_taken_from_there_on(sluice):
    s = sluice('Define WHO world\nDefine AGAIN "${WHO}!"\nLoadModule route\nReturn 200 "hello ${AGAIN}"\n')
    assert s.get("/").body == b"hello world!"


def test_a_body_is_held_for_another_try(sluice, make_origin):
    """ProxyBodyHold: what fits is sent again, the rest is not."""
    bad, good = make_origin(), make_origin()
    bad.on("/small", lambda c, r: False)
    bad.on("/large", lambda c, r: False)
    s = sluice("LoadModule route\nLoadModule balancer\n<Balancer p>\n"
               f"Server {bad}\nServer {good} backup\n</Balancer>\nProxyBodyHold 1k\nProxyPass balancer://p\n").expect(
                   "SL0505", "SL0502", "SL0503", "BALANCER0010")
    r = s.get("/small", method="PUT", body=b"x" * 900)
    assert r.status == 200 and r.json()["body"] == "x" * 900
    assert [len(o.requests) for o in (bad, good)] == [1, 1]
    time.sleep(0.1)
    s2 = sluice("LoadModule route\nLoadModule balancer\n<Balancer p>\n"
                f"Server {bad}\nServer {good} backup\n</Balancer>\nProxyBodyHold 1k\nProxyPass balancer://p\n").expect(
                    "SL0505", "SL0502", "SL0503", "BALANCER0010")
    assert s2.get("/large", method="PUT", body=b"x" * 5000).status == 502
    assert [len(o.requests) for o in (bad, good)] == [2, 1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up rights")
def test_the_worker_is_of_user_and_group(sluice):
    s = sluice("Group daemon\nLoadModule route\nReturn 200 ok\n", user="nobody")
    assert s.get("/").body == b"ok"
    ids = set()
    for pid in s.pids():
        with open(f"/proc/{pid}/status") as f:
            text = f.read()
        ids.add(tuple(re.search(rf"^{w}:\s+(\d+)", text, re.M).group(1) for w in ("Uid", "Gid")))
    assert (str(pwd.getpwnam("nobody").pw_uid), str(grp.getgrnam("daemon").gr_gid)) in ids


# ---- nothing without a test ----

# Each directive, and a test that shows what it does.
SHOWN = {
    "LoadModule": "test_config.py::test_include_define_environment_and_continuation",
    "ModuleDir": "test_upgrade.py::test_watched_files_after_an_upgrade",
    "Include": "test_config.py::test_include_define_environment_and_continuation",
    "Define": "test_language.py::test_define_is_taken_from_there_on",
    "User": "test_reload.py::test_log_files_are_opened_again",
    "Group": "test_language.py::test_the_worker_is_of_user_and_group",
    "PidFile": "test_process.py::test_pid_file",
    "ControlSocket": "test_operator.py::test_one_of_both_places_is_enough",
    "StateDir": "test_state.py::test_bad_lines",
    "Threads": "test_reload.py::test_the_daemon",
    "Listen": "test_forwarding.py::test_ipv6",
    "ErrorLog": "test_pages_logs.py::test_logs_of_hosts",
    "LogLevel": "test_pages_logs.py::test_level_of_a_host",
    "MaxConnections": "test_process.py::test_max_connections_wait_and_are_not_reset",
    "StopTimeout": "test_process.py::test_stop_timeout",
    "DrainIdle": "test_tls.py::test_a_reload_with_tls_clients",
    "GenerationsMax": "test_reload.py::test_generations_max",
    "Timeout": "test_bad_input.py::test_slow_heads",
    "KeepaliveRequests": "test_bad_input.py::test_keepalive_requests",
    "Protocols": "test_tls.py::test_alpn_chooses_among_protocols",
    "LimitLine": "test_bad_input.py::test_limit_line",
    "LimitHead": "test_bad_input.py::test_limit_head",
    "LimitFields": "test_bad_input.py::test_limit_fields",
    "LimitBody": "test_bad_input.py::test_limit_body",
    "TrustedProxies": "test_forwarding.py::test_trusted_peers_are_believed",
    "ProxyForwarded": "test_forwarding.py::test_forwarded_as_in_rfc_7239",
    "ServerHeader": "test_pages_logs.py::test_server_header",
    "Satisfy": "test_auth.py::test_satisfy",
    "AbortOnClose": "test_client_close.py::test_half_a_close_is_taken_for_one_or_not",
    "ErrorPage": "test_pages_logs.py::test_page_from_a_file",
    "Test": "test_explain.py::test_tests_that_fail_say_what_came",
    "Backend": "test_explain.py::test_tests_that_fail_say_what_came",
    "Path": "test_explain.py::test_tests_that_fail_say_what_came",
    "Status": "test_explain.py::test_tests_of_answers",
    "Header": "test_explain.py::test_tests_of_answers",
    "VirtualHost": "test_route.py::test_one_host_wins",
    "Location": "test_route.py::test_one_location_wins",
    "LocationMatch": "test_route.py::test_captures_of_a_location",
    "If": "test_route.py::test_a_condition_gives_proxypass_a_path",
    "ProxyPass": "test_route.py::test_a_path_in_the_target_replaces_the_prefix",
    "ProxyTimeout": "test_bad_input.py::test_a_backend_that_is_silent",
    "ProxyHost": "test_pages_logs.py::test_hosts_for_servers",
    "ProxyUpgrade": "test_pages_logs.py::test_upgrades",
    "ProxyBodyHold": "test_language.py::test_a_body_is_held_for_another_try",
    "ProxyIntercept": "test_pages_logs.py::test_intercepted_answers",
    "ProxyCookie": "test_pages_logs.py::test_cookies",
    "ProxyRedirect": "test_route.py::test_locations_mapped_by_hand",
    "StripPrefix": "test_route.py::test_strip_and_rewrite",
    "Rewrite": "test_route.py::test_captures_of_a_rewrite",
    "Redirect": "test_route.py::test_redirects",
    "RedirectMatch": "test_route.py::test_captures_of_a_redirect",
    "Return": "test_route.py::test_return_with_values",
}


def test_every_directive_and_variable_has_a_test(tmp_path):
    directives, variables = listed(tmp_path)
    assert directives == set(SHOWN)
    assert set(variables) == set(VARIABLES)
    for name, takes_name in variables.items():
        assert (":" in VARIABLES[name][0]) == takes_name
    for name, where in SHOWN.items():
        file, test = where.split("::")
        with open(os.path.join(HERE, file)) as f:
            text = f.read()
        assert f"def {test}(" in text and re.search(rf"\b{name}\b", text), where


def test_every_operator_has_a_row():
    """Those the parser knows."""
    with open(os.path.join(TOP, "server", "config", "cond_parse.c")) as f:
        known = set(re.findall(r'\{"([^"]+)", TOKEN_(?:OP|AND|OR|NOT), COND_', f.read()))
    assert len(known) > 12
    used = " ".join(c for c, _ in CONDITIONS)
    assert [op for op in known if f" {op} " not in used and f" {op}" not in used] == []


# ---- the manual and the reference come from the code ----

MODULE = """/*man
NAME
    mod_x - for a test
DESCRIPTION
    One.
DIRECTIVES
  Alpha
    The first.
%s*/
static const struct sl_directive directives[] = {
    SL_FLAG("Alpha", struct x_conf, alpha, "off", SL_IN_ANY, "The first"),
%s    SL_DIRECTIVES_END,
};
"""


@pytest.mark.parametrize("entry, row, says", [
    ("", "", None),
    ("", '    SL_FLAG("Beta", struct x_conf, beta, "off", SL_IN_ANY, "The second"),\n', "Beta has no manual entry"),
    ("  Beta\n    The second.\n", "", "Beta is documented but does not exist")])
def test_the_manual_fails_on_drift(tmp_path, entry, row, says):
    (tmp_path / "mod_x.c").write_text(MODULE % (entry, row))
    r = subprocess.run([os.path.join(TOP, "build", "mkman"), "mod_x", str(tmp_path / "mod_x.c")],
                       capture_output=True, text=True, timeout=60)
    assert (r.returncode == 0) == (says is None), r.stderr
    assert says is None or says in r.stderr


# ---- the installed default ----

with open(os.path.join(TOP, "conf", "sluice.conf.in")) as _f:
    HEAD_LINES, *BLOCKS = re.split(r"^# ---- (?=.* ----)", _f.read(), flags=re.M)


def checked(folder, text, *args):
    conf = folder / "sluice.conf"
    conf.write_text(at_home(text.replace("@sysconfdir@", "/etc"), folder, f"{TOP}/conf/examples"))
    return subprocess.run([PROGRAM, "-f", str(conf), "--module-dir", MODULES, *args], capture_output=True,
                          text=True, timeout=60)


def test_the_default_says_what_to_write_next(tmp_path, sluice):
    r = checked(tmp_path, HEAD_LINES, "-t")
    assert (r.returncode, r.stdout) == (0, "configuration OK\n"), r.stderr
    assert checked(tmp_path, HEAD_LINES, "--lint").stdout == "nothing found\n"
    s = sluice(HEAD_LINES.replace("Listen 80\n", ""))
    r = s.get("/any/where", host="anybody")
    assert r.status == 200 and b"ProxyPass http://127.0.0.1:3000" in r.body


@pytest.mark.parametrize("block", BLOCKS, ids=[b.split(" ----")[0].replace(" ", "-")[:40] for b in BLOCKS])
def test_each_block_of_the_default_holds(tmp_path, block):
    """Without its number signs; the two that give all requests to one backend want no text before."""
    lines = "".join(l[1:] + "\n" for l in block.split("\n") if re.match(r"#(?! \S)", l))
    for name in re.findall(r"^LoadModule (\w+)", lines, re.M):
        if not os.path.exists(f"{MODULES}/mod_{name}.so"):
            lines = re.sub(rf"^LoadModule {name}\n{name}.*\n", "", lines, flags=re.M | re.I)
    head = HEAD_LINES
    head += "".join(f"LoadModule {m}\n" for m in re.findall(r"needs LoadModule (\w+)", block))
    if "balancer://backend" in lines and "<Balancer backend>" not in lines:
        lines += "<Balancer backend>\nServer 192.168.1.101:8080\n</Balancer>\n"
    if "TLSCertificate" in lines:
        lines += "TLSPlaceholder on\n"
    if "<Test" in lines:
        lines += "Redirect 301 /old-page /new-page\n"
    assert lines.strip()
    r = checked(tmp_path, head + lines, "-t")
    assert r.returncode == 0, r.stderr
    r = checked(tmp_path, head + lines, "--lint")
    assert r.stdout == "nothing found\n", r.stdout
