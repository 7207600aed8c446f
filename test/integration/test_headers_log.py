"""mod_headers and mod_log."""
import json
import os
import re
import time

import pytest
from origin import reply

BASE = "LoadModule route\nLoadModule headers\nLoadModule log\n"


def test_response_fields(sluice, origin):
    origin.on("/", reply(200, b"x", [("X-Old", "1"), ("X-Gone", "1"), ("X-Gone", "2"),
                                     ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Vary", "Origin")]))
    s = sluice(BASE + f"""
Header set X-Old 2
Header add X-New a
Header add X-New b
Header append X-New c
Header merge Vary Accept
Header merge Vary origin
Header setifempty X-Old 3
Header setifempty X-Fresh "%{{method}} %{{status}}"
Header unset X-Gone
Header edit Set-Cookie "^(.*)$" "$1; Secure"
Header edit* X-Fresh "[A-Z]" "z"
ProxyPass {origin}
""")
    r = s.get("/")
    assert r.get("X-Old") == "2" and r.get("X-New") == "a, b, c" and r.get("X-Gone") is None
    assert r.get("Vary") == "Origin, Accept" and r.get("X-Fresh") == "zzz 200"
    assert [v for k, v in r.fields if k == "Set-Cookie"] == ["a=1; Secure", "b=2; Secure"]


def test_request_fields(sluice, origin):
    s = sluice(BASE + f"""
RequestHeader set X-Client %{{remote_addr}}
RequestHeader unset X-Debug
RequestHeader edit User-Agent "curl/([0-9]+)" "browser $1"
RequestHeader set Host inner.test
ProxyPass {origin}
""")
    r = s.get("/", {"X-Debug": "1", "User-Agent": "curl/7"})
    assert r.seen("X-Client") == "127.0.0.1" and r.seen("X-Debug") is None
    assert r.seen("User-Agent") == "browser 7" and r.seen("Host") == "inner.test"


def test_captures_of_an_edit(sluice, origin):
    origin.on("/", reply(200, b"", [("X-A", "2026-11-25"), ("X-B", "a.b.c"), ("X-C", ""), ("X-D", "aXbX")]))
    s = sluice(BASE + f"""
Header edit X-A "(?<y>\\d+)-(\\d+)-(\\d+)" "$3.$2.$<y> of $0 for $$1 at %{{arg:x}}"
Header edit* X-B "\\." "%{{status}}"
Header edit X-C "^$" "was empty"
Header edit* X-D "X*" "-"
ProxyPass {origin}
""")
    r = s.get("/?x=$2")
    assert r.get("X-A") == "25.11.2026 of 2026-11-25 for $1 at $2"
    assert r.get("X-B") == "a200b200c" and r.get("X-C") == "was empty" and r.get("X-D") == "-a--b--"


@pytest.mark.parametrize("line", ['Header edit X-A "^(a+)+$" x', 'RequestHeader edit X-A "^(a+)+$" x'])
def test_an_edit_that_gives_up_fails_the_request(sluice, origin, line):
    origin.on("/bad", reply(200, b"", [("X-A", "a" * 60 + "b")]))
    s = sluice(BASE + f"{line}\nProxyPass {origin}\n").expect("SL0453")
    assert s.get("/", {"X-A": "aaaa"}).status == 200
    assert s.get("/bad", {"X-A": "a" * 60 + "b"}).status == 500


def test_outer_fields_hold_inside(sluice, origin):
    s = sluice(BASE + f"Header set X-Outer 1\nProxyPass {origin}\n"
               "<Location /in>\nHeader set X-Inner 2\n</Location>\n"
               "<Location /anew>\nHeader - set X-Only 3\n</Location>\n")
    r = s.get("/in")
    assert r.get("X-Outer") == "1" and r.get("X-Inner") == "2"
    r = s.get("/anew")
    assert r.get("X-Outer") is None and r.get("X-Only") == "3"


def test_always_means_errors_too(sluice):
    s = sluice(BASE + "Header set X-Good 1\nHeader set X-Always 1 always\nReturn 404 no\n")
    r = s.get("/")
    assert r.status == 404 and r.get("X-Good") is None and r.get("X-Always") == "1"


def test_no_value_can_split_a_message(sluice, origin):
    s = sluice(BASE + f"Header set X-Path %{{path}}\nProxyPass {origin}\n").expect("HEADERS0001")
    r = s.get("/a%0d%0aEvil:%20yes")
    assert r.status == 200 and r.get("Evil") is None and r.get("X-Path") is None


def test_no_client_speaks_where_a_line_sets(sluice, origin):
    """A value that may not stand there leaves nothing: not what the client said."""
    s = sluice(BASE + f"""
<LocationMatch "^/u/(.*)$">
    RequestHeader set X-User $1
    RequestHeader edit X-Edited ".*" "clean $0 %{{path}}"
</LocationMatch>
ProxyPass {origin}
""").expect("HEADERS0001")
    assert s.get("/u/joe", [("X-User", "root")]).seen("X-User") == "joe"
    r = s.get("/u/joe%0a", [("X-User", "root"), ("X-Edited", "raw")])
    assert r.seen("X-User") is None and r.seen("X-Edited") == ""


@pytest.mark.parametrize("line", ["Header set Content-Length 5", "Header frob X y", "Header set X-A",
                                  "Header set \"X A\" y", "Header edit X [ y", "Header set X %{nope}",
                                  "RequestHeader set X %{status}", "Header set X y if=%{path}"])
def test_bad_lines(refused, line):
    assert "test.conf:2: " in refused("LoadModule headers\n" + line + "\n")


def lines(path, n, timeout=5):
    end = time.time() + timeout
    while time.time() < end:
        if os.path.exists(path):
            with open(path) as f:
                out = f.read().split("\n")
            if len(out) > n:
                return out[:-1]
        time.sleep(0.05)
    raise AssertionError(f"no {n} lines in {path}")


def test_combined(sluice, origin, tmp_path):
    s = sluice(BASE + f"AccessLog {tmp_path}/a.log combined flush=10ms\nProxyPass {origin}\n")
    s.get('/x?y="z"', {"User-Agent": 'evil "quote\\', "Referer": "http://r/"})
    line = lines(f"{tmp_path}/a.log", 1)[0]
    assert re.match(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] '
                    r'"GET /x\?y=\\"z\\" HTTP/1\.1" 200 \d+ "http://r/" "evil \\"quote\\\\"$', line)


def test_json_is_always_valid(sluice, origin, tmp_path):
    s = sluice(BASE + f"AccessLog {tmp_path}/a.json json flush=10ms\nProxyPass {origin}\n")
    c = s.client()
    for agent in (b"plain", b'q"\\', b"\xff\xfe bad", "grüße €".encode(), b"\t tab"):
        c.send(b"GET /j HTTP/1.1\r\nHost: a\r\nUser-Agent: " + agent + b"\r\n\r\n").response()
    c.close()
    out = [json.loads(l) for l in lines(f"{tmp_path}/a.json", 5)]
    assert out[0]["user_agent"] == "plain" and out[0]["status"] == 200 and out[0]["referer"] is None
    assert out[3]["user_agent"] == "grüße €" and isinstance(out[0]["request_time"], float)
    assert out[0]["upstream"] == str(origin) and out[0]["cause"] is None
    assert len({o["request_id"] for o in out}) == 5


def test_formats_of_ones_own(sluice, origin, tmp_path):
    s = sluice(BASE + f'AccessLog {tmp_path}/a.log mine flush=10ms\nLogFormat mine "%m %>s %{{uri}} %{{X-A}}i 5%%"\n'
               f'LogFormat obj json path=%{{path}} n=%{{status}}\nAccessLog {tmp_path}/b.log obj flush=10ms\n'
               f"ProxyPass {origin}\n")
    s.get("/p?q", {"X-A": "v"})
    assert lines(f"{tmp_path}/a.log", 1)[0] == "GET 200 /p?q v 5%"
    assert json.loads(lines(f"{tmp_path}/b.log", 1)[0]) == {"path": "/p", "n": 200}


def test_failures_are_logged_with_their_cause(sluice, tmp_path):
    from conftest import free_port
    s = sluice(BASE + f"AccessLog {tmp_path}/a.json json flush=10ms\nProxyPass 127.0.0.1:{free_port()}\n")
    s.expect("SL0501")
    s.get("/")
    assert json.loads(lines(f"{tmp_path}/a.json", 1)[0])["cause"] == "connect_failed"


def test_every_line_is_written_at_the_stop(sluice, origin, tmp_path):
    s = sluice(BASE + f"AccessLog {tmp_path}/a.log common flush=1h\nProxyPass {origin}\n")
    clients = [s.client() for _ in range(8)]
    for i in range(400):
        clients[i % 8].request("GET", f"/{i}")
    for c in clients:
        c.close()
    assert s.stop() == 0
    out = lines(f"{tmp_path}/a.log", 400)
    assert len(out) == 400 and len({re.search(r"GET (\S+)", l).group(1) for l in out}) == 400


def test_clients_that_leave_within_their_body_are_logged(sluice, origin, tmp_path):
    s = sluice(f"LoadModule route\nLoadModule log\nAccessLog {tmp_path}/a.log common\nProxyPass {origin}\n")
    for i in range(5):
        c = s.client()
        c.send(f"POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        c.close()
    time.sleep(0.3)
    assert s.stop() == 0
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert len(lines) == 5 and all('" 499 ' in l for l in lines), lines


# ---- SecurityHeaders, CookieFlags, CORS ----

def fields(r, name):
    return [v for k, v in r.fields if k.lower() == name.lower()]


def test_security_headers(sluice, origin):
    origin.on("/", reply(200, b"x", [("Server", "Apache/2.4.1 (Unix)"), ("X-Powered-By", "PHP/5.2"),
                                     ("X-Frame-Options", "DENY")]))
    s = sluice(BASE + f"""
SecurityHeaders basic
<Location /strict/>
    SecurityHeaders strict
    Header set X-Frame-Options SAMEORIGIN
    Header unset Referrer-Policy
</Location>
<Location /off/>
    SecurityHeaders off
</Location>
<Location /none/>
    Return 404
</Location>
<Location /own/>
    ServerHeader mine
</Location>
ProxyPass {origin}
StripPrefix /strict
""".replace("StripPrefix /strict\n", "Rewrite . /\n"))
    r = s.get("/")
    assert r.get("X-Content-Type-Options") == "nosniff"
    assert r.get("Referrer-Policy") == "strict-origin-when-cross-origin"
    assert fields(r, "X-Frame-Options") == ["DENY"], "what the server has set stays"
    assert r.get("Server") is None and r.get("X-Powered-By") is None
    assert r.get("Content-Security-Policy") is None
    r = s.get("/strict/")
    assert fields(r, "X-Frame-Options") == ["SAMEORIGIN"], "Header acts after it"
    assert r.get("Referrer-Policy") is None and "default-src 'self'" in r.get("Content-Security-Policy")
    assert r.get("Cross-Origin-Opener-Policy") == "same-origin"
    r = s.get("/off/")
    assert r.get("X-Content-Type-Options") is None and r.get("Server") == "Apache/2.4.1 (Unix)"
    r = s.get("/none/")
    assert r.status == 404 and r.get("X-Content-Type-Options") == "nosniff", "errors, too"
    assert fields(s.get("/own/"), "Server") == ["mine"]


def test_cookie_flags(sluice, origin):
    origin.on("/", reply(200, b"x", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/; secure ;SameSite=None"),
                                     ("Set-Cookie", "theme=secure; Max-Age=1"), ("Set-Cookie", "bad")]))
    s = sluice(BASE + f"""
CookieFlags secure httponly samesite=lax except=theme
<Location /more/>
    CookieFlags samesite=strict only=theme,other
</Location>
Rewrite . /
ProxyPass {origin}
""")
    assert fields(s.get("/"), "Set-Cookie") == [
        "a=1; Secure; HttpOnly; SameSite=Lax", "b=2; Path=/; secure ;SameSite=None; HttpOnly",
        "theme=secure; Max-Age=1", "bad; Secure; HttpOnly; SameSite=Lax"]
    assert "theme=secure; Max-Age=1; SameSite=Strict" in fields(s.get("/more/"), "Set-Cookie")


@pytest.mark.parametrize("line, what", [
    ("CookieFlags", "found nothing"),
    ("CookieFlags only=a", "expected secure, httponly or samesite="),
    ("CookieFlags samesite=none", "browsers drop such cookies"),
    ("CookieFlags samesite=sometimes", "lax"),
    ("CookieFlags secur", "secure"),
    ("CORS", "found nothing"),
    ("CORS methods=GET", "expected origins before the options"),
    ("CORS app.example.com", "an origin has a scheme"),
    ("CORS https://app.example.com/", "expected an origin"),
    ("CORS null", "expected an origin"),
    ("CORS https://*", "expected an origin"),
    ("CORS * credentials", "any page could act as the user"),
    ("CORS * methods=G(T", "expected names with commas between in methods="),
    ("CORS * max_age=off", "expected max_age= as a time"),
    ("SecurityHeaders lax", "off"),
])
def test_lines_refused(refused, line, what):
    assert what in refused(BASE + line + "\nReturn 200 ok\n")


CORS = BASE + """
CORS https://app.example.com https://*.example.org:8443 methods=GET,PUT headers=Content-Type,X-Token \\
    expose=X-Total max_age=5m credentials
<Location /open/>
    CORS * headers=*
</Location>
<Location /off/>
    CORS off
</Location>
ProxyPass {origin}
"""


def ask(s, path, origin):
    return s.get(path, [("Origin", origin)] if origin else [])


def preflight(s, path, origin, headers=None):
    return s.get(path, method="OPTIONS", fields=[("Origin", origin), ("Access-Control-Request-Method", "PUT")] +
                     ([("Access-Control-Request-Headers", headers)] if headers else []))


def test_cors(sluice, origin):
    origin.on("/", reply(200, b"x", [("Access-Control-Allow-Origin", "*"), ("Vary", "Accept")]))
    origin.on("/open/", reply(200, b"x"))
    origin.on("/off/", reply(200, b"x", [("Access-Control-Allow-Origin", "*")]))
    s = sluice(CORS.replace("{origin}", str(origin)))
    for good in ("https://app.example.com", "https://a.b.example.org:8443", "https://APP.example.com"):
        r = ask(s, "/", good)
        assert fields(r, "Access-Control-Allow-Origin") == [good], good
        assert r.get("Access-Control-Allow-Credentials") == "true" and r.get("Vary") == "Accept, Origin"
        assert r.get("Access-Control-Expose-Headers") == "X-Total"
    for bad in (None, "http://app.example.com", "https://app.example.com.evil.test", "https://evilexample.org:8443",
                "https://x.example.org", "https://evil.test/.example.org:8443", "null",
                "https://evil.test:1@x.example.org:8443", "https://evil.test#.example.org:8443",
                "https://evil.test\\.example.org:8443", "https://evil.test .example.org:8443"):
        r = ask(s, "/", bad)
        assert r.status == 200 and fields(r, "Access-Control-Allow-Origin") == [], bad
        assert r.get("Vary") == "Accept, Origin"
    r = ask(s, "/open/", "https://any.test")
    assert r.get("Access-Control-Allow-Origin") == "*" and r.get("Vary") is None
    assert fields(ask(s, "/off/", "https://any.test"), "Access-Control-Allow-Origin") == ["*"]


def test_cors_preflight(sluice, origin):
    s = sluice(CORS.replace("{origin}", str(origin)))
    r = preflight(s, "/", "https://app.example.com", "x-token")
    assert r.status == 204 and r.get("Access-Control-Allow-Origin") == "https://app.example.com"
    assert r.get("Access-Control-Allow-Methods") == "GET,PUT" and r.get("Access-Control-Max-Age") == "300"
    assert r.get("Access-Control-Allow-Headers") == "Content-Type,X-Token"
    assert r.get("Access-Control-Allow-Credentials") == "true"
    assert "Origin" in r.get("Vary") and "Access-Control-Request-Headers" in r.get("Vary")
    r = preflight(s, "/", "https://evil.test")
    assert r.status == 403 and r.get("Access-Control-Allow-Origin") is None
    r = preflight(s, "/open/", "https://any.test", "X-Any, X-Other")
    assert r.get("Access-Control-Allow-Origin") == "*" and r.get("Access-Control-Allow-Headers") == "X-Any, X-Other"
    assert origin.requests == [], "the server never hears of them"
    r = s.get("/off/", [("Origin", "https://a.test")], method="OPTIONS")
    assert len(origin.requests) == 1, "an OPTIONS that is no preflight is a request like any other"


def test_cors_decides_for_what_a_cache_holds(sluice, origin, tmp_path):
    """Also of an answer that has the fields of one to a preflight."""
    origin.on("/", reply(200, b"x", [("Cache-Control", "max-age=60"), ("Access-Control-Allow-Methods", "GET"),
                                     ("Access-Control-Allow-Origin", "https://evil.test"),
                                     ("Access-Control-Allow-Credentials", "true")]))
    s = sluice(CORS.replace("{origin}", str(origin)) + f"LoadModule cache_disk\nCacheDisk {tmp_path}/c size=64m\nCache on\n")
    for _ in range(2):
        r = ask(s, "/", "https://evil.test")
        assert r.status == 200 and fields(r, "Access-Control-Allow-Origin") == []
        assert r.get("Access-Control-Allow-Credentials") is None
        assert fields(ask(s, "/", "https://app.example.com"), "Access-Control-Allow-Origin") == ["https://app.example.com"]
    assert len(origin.requests) == 1
