"""The configuration language: what it refuses and how it says so; the lists."""
import subprocess

import pytest
from conftest import MODULES, PROGRAM, free_port


def run(*args, **k):
    return subprocess.run([PROGRAM, *args, "--module-dir", MODULES], capture_output=True, text=True,
                          timeout=30, **k)


@pytest.mark.parametrize("text, wanted", [
    ("Lissten 80", ['test.conf:1: Lissten: no loaded module knows this name', 'did you mean "Listen"?',
                    "     1 | Lissten 80", "^~~~~~~"]),
    ("ProxyPass http://a", ['LoadModule route']),
    ("Listen 99999", ["test.conf:1: Listen: expected a port", "^~~~~"]),
    ("Listen 80 tls", ["transport", "LoadModule tls"]),
    ("LogLevel loud", ['expected one of error, warn, notice, info, debug, trace, found "loud"']),
    ("Timeout header=fast", ["header: expected a time", "500ms"]),
    ("Timeout haeder=1s", ['did you mean "header"?']),
    ("LimitHead 100m", ["at most 60k"]),
    ("LimitBody 10x", ["expected a size"]),
    ("TrustedProxies 10.0.0.0/33", ["expected an address"]),
    ("User a\nUser b", ["test.conf:2: User: is set twice in this scope: first at test.conf:1"]),
    ("LoadModule nonesuch", ["cannot be loaded"]),
    ("LoadModule route\nLoadModule route", ["loaded already"]),
    ("LoadModule route\n<Location /a>\nReturn 200 x", ["test.conf:2: <Location>: is never closed"]),
    ("</Location>", ["closes a section that is not open"]),
    ("LoadModule route\n<Location /a>\n</VirtualHost>", ["expected </Location>"]),
    ("LoadModule route\n<Location /a>\nListen 80\n</Location>", ["may not stand here"]),
    ("LoadModule route\n<Location a>\n</Location>", ["test.conf:2: <Location>"]),
    ("LoadModule route\n<VirtualHost a>\n</VirtualHost>\n<VirtualHost a>\n</VirtualHost>",
     ["test.conf:4", "test.conf:2"]),
    ("LoadModule route\nReturn 200 %{nope}", ["%{nope}"]),
    ("LoadModule route\nReturn 200 %{remote_adr}", ["did you mean %{remote_addr}?"]),
    ("LoadModule route\nProxyPass ftp://x:1", ["ftp"]),
    ("LoadModule route\nProxyPass balancer://p", ["LoadModule balancer"]),
    ("LoadModule route\nProxyPass https://a", ["LoadModule tls"]),
    ('User "a', ["expected a closing quote"]),
    ("<Location /a", ['expected ">"']),
    ("Include /nonesuch/file", ["expected a file that can be read"]),
    ("User ${NO_SUCH_NAME}", ["${NO_SUCH_NAME}"]),
    ("Protocols h9", ['no loaded module speaks "h9"']),
    ("LoadModule route\nRewrite ( x\n", ["test.conf:2: Rewrite"]),
    ("LoadModule route\nRedirect 99 /a /b\n", ["test.conf:2: Redirect"]),
])
def test_errors_name_place_finding_and_cure(refused, text, wanted):
    out = refused(text + "\n")
    for w in wanted:
        assert w in out, out


def test_all_errors_of_a_run_together(refused):
    out = refused("Foo 1\nListen x\nLogLevel y\n")
    assert [f"test.conf:{i}:" in out for i in (1, 2, 3)] == [True] * 3 and "3 errors" in out


def test_include_define_environment_and_continuation(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text('<Location "/a">\r\n  Return ${CODE} "${WORD} x"\r\n</Location>\r\n')
    (tmp_path / "main.conf").write_text(
        f"# comment\nLoadModule route_module modules/mod_route.so\nDefine CODE 200\nListen \\\n  127.0.0.1:{free_port()}\n"
        "Include conf.d/*.conf\nInclude nothing/*.conf\n")
    import os
    r = run("-t", "-f", str(tmp_path / "main.conf"), env={**os.environ, "WORD": "hello"})
    assert r.returncode == 0, r.stdout + r.stderr
    assert "configuration OK" in r.stdout


def test_lists(tmp_path):
    conf = tmp_path / "c"
    conf.write_text('LoadModule route\nLoadModule headers\nListen 80\n<VirtualHost a>\n<Location "/x">\n'
                    "Header set A b\n</Location>\n</VirtualHost>\n")
    out = run("-L", "-f", str(conf)).stdout
    assert "ProxyPass TARGET" in out and "<VirtualHost NAME ...>" in out and "Timeout" in out
    out = run("-M", "-f", str(conf)).stdout
    assert "mod_route.so" in out and "head_read" in out and "headers_response" in out
    out = run("-S", "-f", str(conf)).stdout
    assert "Listen 80" in out and '<Location "/x">' in out and f"{conf}:5" in out


SHOWN = """\
Listen 127.0.0.1:8080  (c.conf:4)
(global)
  <VirtualHost a.test *.b.test>  (c.conf:5)
    <Location "/x">  (c.conf:6)
<Balancer api>  (c.conf:13)
  Server unix:/run/api.sock backup  (c.conf:14)
<Balancer images>  (pools.conf:1)
  Server one=10.0.0.1:80 weight=2  (pools.conf:2)
  Server http://10.0.0.2:80  (pools.conf:4)
  Server srv:_http._tcp.a.test resolve=4  (pools.conf:5)
"""


def test_golden_s(tmp_path):
    """Listeners, hosts, locations and pools with their servers, each with its place; what pools are
    told beside their servers is for -T."""
    (tmp_path / "pools.conf").write_text(
        "<Balancer images>\nServer one=10.0.0.1:80 weight=2\nMethod leastconn\nServer http://10.0.0.2:80\n"
        "Server srv:_http._tcp.a.test resolve=4\n</Balancer>\n")
    (tmp_path / "c.conf").write_text(
        "LoadModule route\nLoadModule balancer\nLoadModule dns\nListen 127.0.0.1:8080\n"
        '<VirtualHost a.test *.b.test>\n<Location "/x">\nProxyPass balancer://images\n</Location>\n'
        '</VirtualHost>\n<Test "GET http://a.test/x">\nHeader X-A b\n</Test>\n'
        "<Balancer api>\nServer unix:/run/api.sock backup\nSeats 2\n</Balancer>\nInclude pools.conf\n")
    r = run("-S", "-f", str(tmp_path / "c.conf"))
    assert (r.stdout.replace(f"{tmp_path}/", ""), r.stderr, r.returncode) == (SHOWN, "", 0)


def test_versions_and_usage(tmp_path):
    assert run("-V").stdout.startswith("sluice ") and "ABI" in run("-V").stdout
    assert "--proxy" in run("-h").stdout
    assert run("--nonsense").returncode == 2 and run("nonsense").returncode == 2
    (tmp_path / "c").write_text(f"ControlSocket {tmp_path}/s\n")
    no_server = run("-k", "reload", "-f", str(tmp_path / "c"))
    assert no_server.returncode == 3 and "no server answers" in no_server.stderr
    assert run("-t", "-f", "/nonexistent").returncode == 1


def test_merge_scalars_lists_and_options(sluice):
    """Inner, else outer, else default; options key by key."""
    s = sluice("LoadModule route\nTimeout header=7s\nReturn 200 outer\n"
               "<Location /a>\nReturn 201 inner\n</Location>\n")
    assert s.get("/").status == 200 and s.get("/a").status == 201
