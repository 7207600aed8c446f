"""sluice --lint: each rule finds what it is for, and leaves alone what is next to it."""
import json
import os
import re
import subprocess

import pytest
from at_home import at_home
from certs import CA, of_the_examples
from conftest import MODULES, PROGRAM, TOP
from test_examples import FOLDER


def lint(folder, text, *args):
    conf = os.path.join(str(folder), "c.conf")
    with open(conf, "w") as f:
        f.write(text)
    r = subprocess.run([PROGRAM, "-f", conf, "--module-dir", MODULES, "--lint", *args],
                       capture_output=True, text=True, timeout=60)
    return r.returncode, (r.stdout + r.stderr).replace(str(folder) + "/", "")


HEAD = "LoadModule route\nLoadModule balancer\nLoadModule headers\nListen 8080\n"
HOST = HEAD + "<VirtualHost a.test>\n{}\n</VirtualHost>\n"
PASS = "ProxyPass http://10.0.0.1:80\n"


def inside(text):
    return HOST.format(PASS + text)


EARLY = "LoadModule tls\n" + HEAD
CACHE = "LoadModule cache_disk\n" + HEAD + "CacheDisk off\n"
ZONE = "LoadModule ratelimit\n" + HEAD + "RateLimitZone z key=%{remote_addr} rate=1r/s\n"


# rule, the line it is told of (from 1), a configuration that has it
FOUND = [
    ("trusts-everyone", 5, HEAD + "TrustedProxies 0.0.0.0/0\n" + PASS),
    ("trusts-everyone", 5, HEAD + "TrustedProxies ::/0\n" + PASS),
    ("no-time-limit", 5, HEAD + "Timeout header=off\n" + PASS),
    ("no-time-limit", 7, inside("Timeout body=off")),
    ("log-lost", 5, HEAD + "PidFile /run/x.pid\n" + PASS),
    ("relative-path", 5, HEAD + "ErrorLog e.log\n" + PASS),
    ("relative-path", 5, HEAD + "ControlSocket c\n" + PASS),
    ("runs-as-root", 5, HEAD + "User root\n" + PASS),
    ("repeated-line", 8, inside("Header set X-A 1\nHeader set X-A 1")),
    ("repeated-line", 8, HEAD + PASS + "<Test \"GET http://a.test/\">\nHeader X-A 1\nHeader X-A 1\n</Test>\n"),
    ("never-equal", 7, inside("<If \"%{host} == 'A.test'\">\n</If>")),
    ("never-equal", 7, inside("<If \"post == %{method}\">\n</If>")),
    ("never-equal", 7, inside("Header set X-A b if=\"!(%{path} starts_with '/x?y' || %{arg:a} == b)\"")),
    ("never-equal", 7, inside("<If \"%{method} in {GET, get}\">\n</If>")),
    ("never-equal", 7, inside("<If \"%{scheme} == 'https:'\">\n</If>")),
    ("endless-pattern", 7, inside("<LocationMatch \"^/r/(a+)+$\">\n</LocationMatch>")),
    ("endless-pattern", 7, inside("Header edit X-A \"^(.*,)*$\" x")),
    ("endless-pattern", 7, inside("<If \"%{path} =~ '^/(x|xx)+$'\">\n</If>")),
    ("endless-pattern", 7, inside("Rewrite \"^/(?:[^/]+/?)+\\.php$\" /x")),
    ("never-reached", 9, inside("<LocationMatch \"^/static/\">\n</LocationMatch>\n"
                                "<Location /static/css>\n</Location>")),
    ("never-reached", 9, inside("<LocationMatch \"^/static\">\n</LocationMatch>\n"
                                "<LocationMatch \"^/static/.*\\.png$\">\n</LocationMatch>")),
    ("never-reached", 7, inside("<Location /a>\n</Location>\n<LocationMatch \"^/(.*)\">\n</LocationMatch>")),
    ("never-reached", 8, inside("<Location /api>\n<Location /other>\n</Location>\n</Location>")),
    ("never-reached", 8, inside("<Location /api>\n<Location = /ap>\n</Location>\n</Location>")),
    ("never-reached", 8, inside("<Location = /api>\n<Location /api/x>\n</Location>\n</Location>")),
    ("never-reached", 8, inside("<Location /api>\nRedirect 301 /old /new\n</Location>")),
    ("never-reached", 8, inside("Redirect 301 /old /new\nRedirect 302 /old /newer")),
    ("never-reached", 9, inside("Redirect 301 /a/x /new\n<Location /a>\nRedirect 302 /a/x /newer\n</Location>")),
    ("never-reached", 5, HEAD + "<Location /x>\n" + PASS + "</Location>\n<VirtualHost *>\n" + PASS
     + "</VirtualHost>\n"),
    ("unknown-hosts-only", 5, HEAD + "<Location /x>\n" + PASS + "</Location>\n<VirtualHost a.test>\n"
     + PASS + "</VirtualHost>\n"),
    ("answers-nothing", 5, HOST.format("ProxyHost upstream")),
    ("unanchored-pattern", 7, inside("<LocationMatch \"/admin\">\n</LocationMatch>")),
    ("unanchored-pattern", 7, inside("Rewrite \"/v1/(.*)\" \"/$1\"")),
    ("unanchored-pattern", 7, inside("RedirectMatch 301 /old /new")),
    ("any-byte-dot", 7, inside("<LocationMatch \"^/.*.png$\">\n</LocationMatch>")),
    ("any-byte-dot", 7, inside("Rewrite ^/.well-known/ /x")),
    ("redirect-loop", 7, inside("Redirect 301 /x /x")),
    ("redirect-loop", 7, inside("Redirect 301 /x /x?again=1")),
    ("redirect-loop", 7, inside("RedirectMatch 302 ^/login /login/")),
    ("decoded-path", 7, inside("Redirect 302 /x https://b.test%{path}")),
    ("decoded-path", 7, inside("RedirectMatch 302 ^/x https://b.test%{path}")),
    ("decoded-path", 7, inside("Rewrite ^/ /new%{path}")),
    ("decoded-path", 6, HOST.format("Return 302 https://b.test%{path}")),
    ("no-effect", 8, inside("<Location /v3>\nStripPrefix /v2\n</Location>")),
    ("no-effect", 8, inside("<Location /v3/>\nRewrite ^/v2/(.*) /$1\n</Location>")),
    ("proxy-loop", 6, HOST.format("ProxyPass http://127.0.0.1:8080")),
    ("proxy-loop", 6, HOST.format("ProxyPass http://localhost:8080/x")),
    ("any-upgrade", 7, inside("ProxyUpgrade any")),
    ("unverified-server", 6, "LoadModule tls\n" + HEAD + "ProxyTLS verify=off\nProxyPass https://10.0.0.1\n"),
    ("unverified-server", 8, "LoadModule tls\n" + HEAD + "<Balancer p>\nServer https://10.0.0.1\n"
     "ServerTLS verify=off\n</Balancer>\nProxyPass balancer://p\n"),
    ("no-early-data", 6, EARLY + "TLSEarlyData on\nTLSClientVerify optional\nTLSClientCA ca.pem\n" + PASS),
    ("no-early-data", 8, EARLY + "TLSEarlyData on\n<VirtualHost a.test>\nTLSClientVerify require\nTLSClientCA ca.pem\n"
     + PASS + "</VirtualHost>\n<VirtualHost b.test>\n" + PASS + "</VirtualHost>\n"),
    ("unused-zone", 6, ZONE + PASS),
    ("unused-cache", 6, CACHE + PASS),
    ("unused-pool", 5, HEAD + "<Balancer p>\nServer 10.0.0.1:80\n</Balancer>\n" + PASS),
]

CLEAN = [
    HEAD + "TrustedProxies 10.0.0.0/8 192.168.0.0/16 fd00::/8\n" + PASS,
    HEAD + "Timeout header=5s keepalive=off\n" + PASS,
    HEAD + "PidFile /run/x.pid\nErrorLog syslog\nUser nobody\n" + PASS,
    HEAD + "ErrorLog stderr\n" + PASS,
    inside("Header add X-A 1\nHeader add X-A 2\n<Location /x>\nHeader add X-A 1\n</Location>"),
    inside("<If \"%{host} == 'a.test' && %{method} != 'POST' && %{path} == '/x'\">\n</If>"),
    inside("<If \"%{req:Host} == 'A.test' || %{arg:x} == post || %{query} contains '?'\">\n</If>"),
    inside("<LocationMatch \"^(/[^/]+)*/x$\">\n</LocationMatch>"),
    inside("<LocationMatch \"\\.(png|jpg)$\">\n</LocationMatch>\n<Location /pics>\n</Location>"),
    inside("<LocationMatch \"^/a/\">\n</LocationMatch>\n<Location /a>\n</Location>\n"
           "<Location = /a/x>\n</Location>\n<Location /b/a>\n</Location>"),
    inside("<LocationMatch \"^/a/.*\\.png$\">\n</LocationMatch>\n<Location /a/b>\n</Location>\n"
           "<LocationMatch \"^/a/c\">\n</LocationMatch>"),
    inside("<LocationMatch \"^/a|^/b\">\n</LocationMatch>\n<Location /a/b>\n</Location>"),
    inside("<Location /api>\n<Location /api/x>\n</Location>\n<Location = /api>\n</Location>\n"
           "Redirect 301 /api/x /new\nRedirect 301 /api/y /api/x\n</Location>"),
    HEAD + PASS + "<VirtualHost a.test>\nHeader set X-A b\n</VirtualHost>\n",
    HEAD + "<Location /x>\n" + PASS + "</Location>\n",
    HOST.format("<If \"%{arg:x} == 1\">\nReturn 200 x\n</If>"),
    inside("Rewrite \"^/v1/(.*)\" \"/$1\"\nRewrite \"x$\" /\nRewrite \"[.]php/a\\.b$\" /"),
    inside("Redirect 301 /x /y\nRedirect 301 /y https://b.test/y\nRedirectMatch 302 ^/login$ /login/\n"
           "RedirectMatch 301 ^/b/(.*)$ /c/$1\nRedirect 302 /uri https://b.test%{uri}"),
    HOST.format("Return 200 %{path}"),
    inside("<Location /v2>\nStripPrefix /v2\nRewrite ^/x /y\n</Location>\n<Location /v3/>\n"
           "Rewrite ^/v3/(.*) /$1\nRewrite ^/v4 /y\n</Location>\n<Location /v5/>\nRewrite ^/v5$ /\n</Location>"),
    EARLY + "TLSEarlyData on\n<VirtualHost a.test>\nTLSClientVerify require\nTLSClientCA ca.pem\nTLSEarlyData off\n"
    + PASS + "</VirtualHost>\n",
    CACHE + "<Location /x>\nCache on\n</Location>\n" + PASS,
    ZONE + "<Location /x>\nRateLimit z\n</Location>\n" + PASS,
    "LoadModule tls\n" + HEAD + "ProxyTLS sni=a.test\nProxyPass https://10.0.0.1\n",
    HOST.format("ProxyPass http://127.0.0.1:8081\nProxyUpgrade websocket"),
    inside("<Location /app/>\nProxyPass http://10.0.0.1:80/base\n</Location>\n<Location /app2>\n"
           "ProxyPass http://10.0.0.1:80/base/\n</Location>"),
]


@pytest.mark.parametrize("rule, line, text", FOUND)
def test_what_is_found(tmp_path, rule, line, text):
    CA(tmp_path, "ca")
    rc, out = lint(tmp_path, text)
    assert rc == 1 and f"c.conf:{line}: {rule}: " in out, out
    assert "\n1 finding\n" in out, out
    written = text.split("\n")[line - 1]
    assert f"{line:6} | {written}\n    why: " in out and "\n    cure: " in out


@pytest.mark.parametrize("text", CLEAN)
def test_what_is_left_alone(tmp_path, text):
    CA(tmp_path, "ca")
    assert lint(tmp_path, text) == (0, "nothing found\n")


def test_findings_stand_in_the_order_of_lines(tmp_path):
    rc, out = lint(tmp_path, HEAD + "User root\n<VirtualHost a.test>\nProxyUpgrade any\n" + PASS
                   + "Rewrite /a /b\n</VirtualHost>\nTrustedProxies 0.0.0.0/0\n")
    assert re.findall(r"^c.conf:(\d+): ", out, re.M) == ["5", "7", "9", "11"] and rc == 1
    assert out.endswith("4 findings\n")


def test_json(tmp_path):
    rc, out = lint(tmp_path, inside('Header edit X-"A [ x'), "--json")
    told = json.loads(out)
    assert rc == 1 and told["findings"] == [] and len(told["errors"]) == 1
    e = told["errors"][0]
    assert (e["kind"], e["file"], e["line"]) == ("error", "c.conf", 7) and "quote" in e["text"]
    rc, out = lint(tmp_path, inside('<LocationMatch "/a\\"b">\n</LocationMatch>'), "--json")
    told = json.loads(out)
    assert rc == 1 and told["errors"] == []
    f = told["findings"][0]
    assert (f["rule"], f["file"], f["line"]) == ("unanchored-pattern", "c.conf", 7)
    assert f["text"] == '"/a"b" has neither ^ nor $' and f["why"] and f["cure"]
    assert lint(tmp_path, HEAD + PASS, "--json") == (0, '{"errors":[],"findings":[]}\n')


def test_an_error_is_told_as_by_t(tmp_path):
    rc, out = lint(tmp_path, HEAD + "Rewriet x y\n")
    assert rc == 1 and "c.conf:5: Rewriet: no loaded module knows this name" in out
    assert 'did you mean "Rewrite"?' in out and "1 error" in out and "nothing found" not in out


@pytest.mark.parametrize("text, says", [
    ('<LocationMatch "([">\n</LocationMatch>\n', "expected a valid pattern"),
    ('<LocationMatch "^/a">\n</LocationMatch>\n<LocationMatch "^/a">\n</LocationMatch>\n', "has a LocationMatch already"),
    ('<LocationMatch "([">\n<LocationMatch "(">\n</LocationMatch>\n</LocationMatch>\n', "expected a valid pattern"),
    ('Rewrite "([" /x\nRedirectMatch 301 "([" /x\n', "expected a valid pattern"),
])
def test_broken_patterns_are_told_as_by_t(tmp_path, text, says):
    code, out = lint(tmp_path, HEAD + text + PASS)
    assert code == 1 and says in out and "error" in out.splitlines()[-1], out


def test_a_start_looks_for_nothing(sluice, origin):
    s = sluice("LoadModule route\nRewrite /a /b\nProxyUpgrade any\nProxyPass " + str(origin) + "\n")
    assert s.get("/x").status == 200 and "unanchored" not in s.log()


@pytest.mark.parametrize("name", sorted(n for n in os.listdir(FOLDER) if n.endswith(".conf")))
def test_examples_are_as_meant(tmp_path, name):
    with open(os.path.join(FOLDER, name)) as f:
        text = f.read()
    modules = set(re.findall(r"^LoadModule (\w+)", text, re.M))
    if not all(os.path.exists(f"{MODULES}/mod_{m}.so") for m in modules):
        pytest.skip("built without a module")
    if "/etc/ssl/sluice" in text:
        of_the_examples(tmp_path)
        text = text.replace("/etc/ssl/sluice", str(tmp_path))
    assert lint(tmp_path, at_home(text, tmp_path, FOLDER)) == (0, "nothing found\n")


def test_the_manual_has_every_rule():
    """And every rule has a test."""
    rules = set()
    for folder in ("server", "modules"):
        for at, _, names in os.walk(os.path.join(TOP, folder)):
            for n in names:
                if n.endswith(".c"):
                    text = open(os.path.join(at, n)).read()
                    rules |= set(re.findall(r'sl_lint_rule \w+ = \{\s*"([a-z-]+)"', text))
    with open(os.path.join(TOP, "docs", "lint.md")) as f:
        written = set(re.findall(r"^\| ([a-z]+(?:-[a-z]+)+) \|", f.read(), re.M))
    assert rules == written
    assert rules == {rule for rule, _, _ in FOUND}
