"""Pages of failures, answers of servers that are replaced, cookies mapped back; the error log."""
import json
import os
import re
import select
import shutil
import time

import pytest
from origin import early, reply
from conftest import free_port
from test_reload import Operator

BASE = "LoadModule route\nLoadModule headers\n"


# ---- LogLevel and ErrorLog ----

def lines(s, text):
    return [l for l in s.log().split("\n") if text in l]


def objects(text):
    """Every line of a JSON log is one object."""
    out = [json.loads(l) for l in text.split("\n") if l]
    assert all(isinstance(o, dict) for o in out)
    return out


def test_level_of_a_module_alone(sluice, origin):
    s = sluice(BASE + f"LogLevel notice route:debug\nHeader set X-A b\nProxyPass {origin}\n"
               "<Location /r>\nReturn 200 x\n</Location>\n")
    assert s.get("/r").status == 200
    assert s.logged("SL0460 .*Return 200")
    assert not lines(s, "SL0300") and not re.search(r" info ", s.log())


def test_level_of_all_but_a_module(sluice, origin):
    s = sluice(BASE + f"LogLevel debug mod_route:error CORE:notice\nProxyPass {origin}\n")
    assert s.get("/r").status == 200
    s.stop()
    assert not lines(s, "SL0460")


def test_level_of_a_host(sluice):
    s = sluice(BASE + "<VirtualHost quiet>\nReturn 200 y\n</VirtualHost>\n<VirtualHost loud>\n"
               "LogLevel notice route:debug core:info\nReturn 200 x\n</VirtualHost>\n")
    assert s.get("/", host="quiet").body == b"y" and s.get("/", host="loud").body == b"x"
    assert s.logged("SL0460 .*host loud.*Return 200")
    s.stop()
    assert not lines(s, "host quiet")


def test_module_whose_number_comes_from_its_name(sluice, make_origin):
    """A message is its module's by the number alone, also outside requests and hooks."""
    conf = BASE + ("LoadModule balancer\nLogLevel notice balancer:{level}\n<Balancer p>\n"
                   "Server 127.0.0.1:{dead}\nServer {alive}\n</Balancer>\nProxyPass balancer://p\n")
    alive, dead = make_origin(), free_port()
    for level in ("notice", "error"):
        s = sluice(conf.format(level=level, dead=dead, alive=alive)).expect(
            "SL0501", "SL0502", "BALANCER0010")
        for _ in range(8):
            assert s.get("/").status == 200
        s.stop()
        assert bool(lines(s, "BALANCER0010")) == (level == "notice")


@pytest.mark.parametrize("text,says", [
    ("LogLevel loud", ["LogLevel", "expected one of error, warn, notice", '"loud"']),
    ("LogLevel notice route", ["expected MODULE:LEVEL", '"route"']),
    ("LogLevel notice nosuch:debug", ["loaded module", '"nosuch"', "-M"]),
    ("LogLevel notice core:loud", ['"loud"']),
    ("LogLevel", ["expected LEVEL", "found nothing"]),
    ("ErrorLog", ["expected FILE|stderr|syslog", "found nothing"]),
    ("ErrorLog stderr format=xml", ["text, json"]),
    ("ErrorLog stderr fromat=json", ['did you mean "format"?']),
    ("<Location /a>\nErrorLog stderr\n</Location>", ["ErrorLog", "may not stand here", "<VirtualHost>"]),
    ("<VirtualHost a>\nErrorLog /nosuch/folder/x\n</VirtualHost>",
     ["test.conf:3: ErrorLog /nosuch/folder/x: /nosuch/folder: No such file"]),
])
def test_log_lines_that_are_refused(refused, text, says):
    out = refused("LoadModule route\n" + text + "\n")
    for word in says:
        assert word in out, out


def test_json_lines(sluice, origin):
    s = sluice(f"ErrorLog stderr format=json\nLogLevel info\n{BASE}ProxyPass 127.0.0.1:{free_port()}\n")
    s.raw(b"GET /\"\\\xff\xc3\xa9\x01 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    s.raw(b"GET /\"\\\xff\xc3\xa9 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    r = s.get("/x?" + "\\\"" * 2000, host="h.test")
    assert r.status == 502
    request = re.search(rb"request ([0-9a-f]{16})", r.body).group(1).decode()
    assert s.stop() == 0
    log = objects(s.log())
    for o in log:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", o["time"])
        assert o["level"] in ("error", "warn", "notice", "info") and o["message"]
        assert re.fullmatch(r"[A-Z]+\d{4}", o["id"]) and o["pid"] > 0
    mine = [o for o in log if o.get("request") == request]
    assert mine and all(o["client"] == "127.0.0.1" and o["host"] == "h.test" and
                        o["method"] == "GET" and o["path"] == "/x" for o in mine)
    assert any(o["id"] == "SL0501" and "pool" in o["message"] for o in mine)
    assert abs(time.time() - time.mktime(time.strptime(log[0]["time"][:19], "%Y-%m-%dT%H:%M:%S"))
               + time.timezone) < 120
    # the master's own lines, too
    assert {o["pid"] for o in log if o["message"].startswith(("ready", "stopping"))} == {s.proc.pid}


def test_json_of_a_crash(sluice):
    s = sluice("ErrorLog stderr format=json\nLoadModule trouble\nTrouble handler crash\n"
               "LoadModule route\nReturn 200 ok\n")
    c = s.client()
    c.send(b"GET /trouble HTTP/1.1\r\nHost: a\r\n\r\n")
    assert s.logged("serves again", 20)
    assert s.get("/").body == b"ok"
    if "Sanitizer" not in s.log():
        log = objects(s.log())
        report = next(o for o in log if o["id"] == "SL0330")
        assert f"mod_trouble at handler, request {report['request']}" in report["message"]
        assert report["level"] == "error" and report["pid"] != s.proc.pid
        assert any(o["id"] == "SL0202" and o["pid"] == s.proc.pid for o in log)
    s.check = s.stop  # a sanitizer's report is what was asked for


def test_json_of_a_panic(sluice):
    s = sluice("ErrorLog stderr format=json\n" + BASE + "LoadModule probe\n"
               "ProbeBlock on\nReturn 200 x\n")
    s.client().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert s.logged("SL0331", 20)
    if "Sanitizer" not in s.log():
        report = next(o for o in objects(s.log()) if o["id"] == "SL0331")
        assert report["message"].startswith("panic: ") and report["level"] == "error"
    s.check = s.stop


def test_format_follows_a_reload(sluice, tmp_path):
    """Master and worker change the file and the format together."""
    o = Operator(sluice, "LoadModule route\nReturn 200 ok\n")
    where = tmp_path / "error.log"
    o.write(f"ErrorLog {where} format=json\nLoadModule route\nReturn 200 ok\n")
    o.reload()
    assert o.settled() and o.s.get("/").body == b"ok"
    o.s.stop()
    log = [x for x in objects(where.read_text()) if x["id"] != "SL0203"]  # a busy machine holds loops
    assert {x["pid"] for x in log} == {o.s.proc.pid}
    assert any("generation 2 serves" in x["message"] for x in log)
    shutil.rmtree(o.dir)


HOST_LOGS = """LoadModule route
<VirtualHost a.test>
    ErrorLog {dir}/a
    ProxyPass 127.0.0.1:{dead}
    <Location /in>
        <If "%{{method}} == GET">
            ProxyPass 127.0.0.1:{dead}
        </If>
    </Location>
</VirtualHost>
<VirtualHost b.test>
    ErrorLog {dir}/b format=json
    ProxyPass 127.0.0.1:{dead}
</VirtualHost>
<VirtualHost c.test>
    ErrorLog {dir}/a format=json
    ProxyPass 127.0.0.1:{dead}
</VirtualHost>
<VirtualHost d.test>
    ErrorLog stderr
    ProxyPass 127.0.0.1:{dead}
</VirtualHost>
<VirtualHost e.test>
    ErrorLog {dir}/e
    ProxyPass 127.0.0.1:{dead}
</VirtualHost>
<VirtualHost f.test>
    ProxyPass 127.0.0.1:{dead}
</VirtualHost>
"""


def hosts_in(path):
    """Which hosts' refused connections stand in a log, in order."""
    out = []
    for line in path.read_text().splitlines():
        if "SL0501" in line:
            out.append(json.loads(line)["host"] if line[0] == "{" else re.search(r"host (\S+)", line).group(1))
    return out


def test_logs_of_hosts(sluice, tmp_path):
    """Of a request, the whole of it; two hosts may share a file; the others go where all goes."""
    s = sluice(HOST_LOGS.format(dir=tmp_path, dead=free_port())).expect("SL0501")
    for host in ("a.test", "b.test", "c.test", "d.test", "e.test", "f.test"):
        assert s.get("/", host=host).status == 502
    assert s.get("/in/x", host="a.test").status == 502
    s.stop()
    assert hosts_in(tmp_path / "a") == ["a.test", "c.test", "a.test"]
    assert hosts_in(tmp_path / "b") == ["b.test"] and objects((tmp_path / "b").read_text())
    assert hosts_in(tmp_path / "e") == ["e.test"]
    assert [re.search(r"host (\S+)", l).group(1) for l in s.log().splitlines() if "SL0501" in l] == [
        "d.test", "f.test"]


def test_logs_of_hosts_are_rotated(sluice, tmp_path):
    os.chmod(tmp_path, 0o700)  # a worker without privileges could not open them again
    o = Operator(sluice, HOST_LOGS.format(dir=tmp_path, dead=free_port()))
    o.s.expect("SL0501")
    assert o.s.get("/", host="a.test").status == 502 and o.s.get("/", host="b.test").status == 502
    for name in ("a", "b", "e"):
        (tmp_path / name).rename(tmp_path / (name + ".1"))
    assert o.say("-k", "reopen").returncode == 0
    end = time.time() + 5
    while time.time() < end and not all((tmp_path / n).exists() for n in ("a", "b", "e")):
        time.sleep(0.02)
    time.sleep(0.2)
    for host in ("a.test", "b.test", "c.test", "e.test"):
        assert o.s.get("/", host=host).status == 502
    assert hosts_in(tmp_path / "a.1") == ["a.test"] and hosts_in(tmp_path / "b.1") == ["b.test"]
    assert hosts_in(tmp_path / "a") == ["a.test", "c.test"] and hosts_in(tmp_path / "b") == ["b.test"]
    assert hosts_in(tmp_path / "e") == ["e.test"]
    o.reload()
    assert o.settled() and o.s.get("/", host="a.test").status == 502
    assert hosts_in(tmp_path / "a") == ["a.test", "c.test", "a.test"]
    o.s.stop()
    shutil.rmtree(o.dir)


# ---- ErrorPage ----

@pytest.fixture
def page(tmp_path):
    """page(name, bytes) -> how the file is written in an ErrorPage line."""
    def make(name, data):
        (tmp_path / name).write_bytes(data)
        return f"file:{tmp_path / name}"
    return make


def test_page_from_a_file(sluice, page, tmp_path):
    html, text = b"<h1>sorry</h1>\n" * 3, b"{}"
    s = sluice(BASE + f"ErrorPage 502 504 {page('a.html', html)}\nErrorPage 404 {page('b.json', text)}\n"
               f"Header set X-Seen yes always\nProxyPass 127.0.0.1:{free_port()}\n"
               "<Location /no>\nReturn 404\n</Location>\n<Location /own>\nReturn 404 own\n</Location>\n"
               ).expect("SL0501")
    c = s.client()
    r = c.request("GET", "/")
    assert (r.status, r.reason, r.body, r.get("Content-Type")) == (502, "Bad Gateway", html, "text/html")
    assert r.get("X-Seen") == "yes" and len(r.fields) == len(set(k for k, _ in r.fields))
    r = c.request("HEAD", "/")
    assert r.status == 502 and r.get("Content-Length") == str(len(html))
    r = c.request("GET", "/no")
    assert (r.status, r.body, r.get("Content-Type")) == (404, text, "application/json")
    assert c.request("GET", "/own").body == b"own"
    os.unlink(tmp_path / "a.html")  # it was read at start
    assert c.request("POST", "/", body=b"x").body == html
    c.close()


def test_page_of_what_is_refused_before_routing(sluice, page):
    s = sluice(BASE + f"ErrorPage 400 431 {page('a.txt', b'bad')}\nReturn 200 ok\n")
    assert s.raw(b"GET / HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\nbad")
    assert s.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000 + b"\r\n\r\n").endswith(b"bad")


def test_page_that_is_a_redirect(sluice, origin):
    dead = free_port()
    s = sluice(BASE + "ErrorPage 502 /sorry?from=502\nErrorPage 404 https://help.example.com/404\n"
               f"Header set X-Seen yes always\nProxyPass 127.0.0.1:{dead}\n"
               "<Location = /no>\nReturn 404\n</Location>\n").expect("SL0501")
    r = s.get("/x")
    assert (r.status, r.get("Location"), r.body) == (302, "/sorry?from=502", b"")
    assert r.get("X-Seen") == "yes" and r.get("Content-Length") == "0"
    r = s.get("/sorry")  # that page fails, too: no circle
    assert r.status == 502 and r.body.startswith(b"502 Bad Gateway\nrequest ")
    assert s.get("/no").get("Location") == "https://help.example.com/404"


def test_page_of_the_innermost_scope(sluice, page):
    s = sluice(BASE + f"ErrorPage 404 403 {page('a.html', b'outer')}\n<VirtualHost h>\nReturn 404\n"
               f"<Location /in>\nErrorPage 404 {page('b.html', b'inner')}\n</Location>\n"
               "<Location /none>\nErrorPage -\n</Location>\n</VirtualHost>\n")
    assert [s.get(p, host="h").body for p in ("/", "/in", "/none")] == [b"outer", b"inner", b""]


FAULTS = "LoadModule route\nLoadModule faults\n"


def test_page_when_a_response_hook_fails(sluice, origin, page):
    s = sluice(FAULTS + f"ErrorPage 503 {page('a.html', b'ours')}\nFaultsResponse fail\n"
               f"ProxyPass {origin}\n<Location /x>\nReturn 200 x\n</Location>\n").expect("SL0451")
    for path in ("/", "/x"):
        r = s.get(path)
        assert (r.status, r.body, r.get("Content-Type")) == (503, b"ours", "text/html")


def test_pages_while_hooks_and_filters_wait(sluice, origin, page):
    origin.on("/404", reply(404, b"theirs"))
    s = sluice(FAULTS + f"ErrorPage 404 {page('a.txt', b'ours' * 5000)}\nProxyIntercept 404\n"
               f"ProxyPass {origin}\nFaultsFilter on\nFaultsResponse wait\n"
               "<Location /no>\nReturn 404\n</Location>\n")
    c = s.client()
    for path in ("/404", "/no", "/404", "/echo", "/no"):
        r = c.request("GET", path)
        assert r.status == 200 if path == "/echo" else r.body == b"ours" * 5000
    c.close()


def test_head_of_bare_answers(sluice):
    s = sluice("LoadModule route\nReturn 204\n<Location /a>\nReturn 403\n</Location>\n")
    assert s.get("/", method="HEAD").get("Content-Length") is None
    assert s.get("/a", method="HEAD").get("Content-Length") == "0"


def test_page_relative_to_its_file_and_a_crash(sluice):
    """The page is part of what was accepted: a crash does not need its file again."""
    folder_page = "sluice-page.html"
    o = Operator(sluice, "LoadModule route\nReturn 404\n")
    where = os.path.join(o.s.dir, folder_page)
    with open(where, "w") as f:
        f.write("mine\0two")
    o.write(f"ErrorPage 404 {folder_page}\nLoadModule route\nReturn 404\n")
    o.reload()
    assert o.settled() and o.s.get("/").body == b"mine\0two"
    with open(where, "w") as f:
        f.write("other")
    assert "ErrorPage" in o.reload() and o.settled() and o.s.get("/").body == b"other"
    os.unlink(where)
    o.s.expect("SL0202", "SL0208")
    os.kill(o.serving(), 9)
    assert o.s.logged("serves again") and o.s.get("/").body == b"other"
    r = o.say("-k", "reload")
    assert r.returncode == 1 and folder_page in r.stdout and "No such file" in r.stdout
    shutil.rmtree(o.dir)


@pytest.mark.parametrize("text,says", [
    ("ErrorPage 502", ["expected one status or more"]),
    ("ErrorPage 200 a.html", ["between 400 and 599", '"200"']),
    ("ErrorPage 404 5xx a.html", ["between 400 and 599", '"5xx"']),
    ("ErrorPage 404 none.html", ["test.conf:1", "none.html: No such file"]),
    ("ErrorPage 404 file:/", ["which is something else"]),
    ("ErrorPage 404 /etc/passwd", ["there is a file of that name", "write file:/etc/passwd"]),
    ("ErrorPage 404 \"http://a/ b\"", ["without blanks"]),
    ("ErrorPage 404 file:/proc/self/exe", ["at most 262144 bytes"]),
])
def test_pages_that_are_refused(refused, text, says):
    out = refused(text + "\n")
    for word in says:
        assert word in out, out


# ---- ProxyIntercept ----

def answers(origin, **scripts):
    for name, data in scripts.items():
        origin.on("/" + name, data)


def test_intercepted_answers(sluice, origin, page):
    html = b"<p>ours</p>"
    answers(origin,
            plain=reply(404, b"theirs" * 100, [("X-Theirs", "1"), ("Set-Cookie", "a=b")], reason="Gone Fishing"),
            chunked=reply(503, b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
                          [("Transfer-Encoding", "chunked"), ("Retry-After", "7")], length=False),
            empty=reply(404), bare=reply(500, b"secret"), other=reply(403, b"theirs"),
            auth=reply(401, b"no", [("WWW-Authenticate", "Basic realm=x"), ("ETag", '"1"')]))
    s = sluice(BASE + f"ErrorPage 404 401 503 {page('a.html', html)}\nProxyIntercept 404 500\n"
               f"ProxyIntercept 503 401\nHeader set X-Seen yes always\nProxyPass {origin}\n")
    c = s.client()
    for path, status in (("/plain", 404), ("/chunked", 503), ("/empty", 404), ("/auth", 401)):
        r = c.request("GET", path)
        assert (r.status, r.body, r.get("Content-Type")) == (status, html, "text/html"), path
        assert r.get("X-Theirs") is None and r.get("Set-Cookie") is None and r.get("ETag") is None
        assert r.reason != "Gone Fishing" and r.get("X-Seen") == "yes" and not r.trailers
        assert r.get("Retry-After") == ("7" if path == "/chunked" else None)
        assert r.get("WWW-Authenticate") == ("Basic realm=x" if path == "/auth" else None)
    r = c.request("GET", "/bare")
    assert r.status == 500 and re.fullmatch(rb"500 Internal Server Error\nrequest [0-9a-f]{16}\n", r.body)
    assert c.request("GET", "/other").body == b"theirs"
    assert c.request("GET", "/echo").status == 200
    c.close()
    assert origin.n_connections == 1  # all of it went over one


def test_intercepted_head_and_redirect(sluice, origin, page):
    answers(origin, a=reply(404, b"", [("Content-Length", "99")], length=False),
            b=reply(503, b"x" * 10, [("Retry-After", "7")]))
    s = sluice(BASE + f"ErrorPage 404 {page('a.html', b'ours')}\nErrorPage 503 /sorry\n"
               f"ProxyIntercept 404 503\nProxyPass {origin}\n")
    c = s.client()
    r = c.request("HEAD", "/a")
    assert r.status == 404 and r.get("Content-Length") == "4"
    r = c.request("GET", "/b")
    assert (r.status, r.get("Location"), r.body) == (302, "/sorry", b"") and r.get("Retry-After") is None
    c.close()
    assert origin.n_connections == 1


def test_intercepted_answers_that_are_long_or_slow(sluice, origin):
    """Their connections are given up, the client's is not."""
    def endless(c, r):
        c.send(b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            c.send(b"1\r\nx\r\n")
            time.sleep(0.02)

    answers(origin, long=reply(500, b"x" * 5000000), endless=endless,
            stalls=lambda c, r: c.send(b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc"),
            cut=lambda c, r: (c.send(b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc"), False)[1],
            close=lambda c, r: (c.send(b"HTTP/1.0 500 X\r\n\r\nabc"), False)[1])
    s = sluice(BASE + f"ProxyIntercept 500\nProxyPass {origin}\n")
    c = s.client()
    for path in ("/long", "/endless", "/stalls", "/cut", "/close", "/long"):
        began = time.time()
        r = c.request("GET", path)
        assert r.status == 500 and r.body.startswith(b"500 Internal"), path
        assert time.time() - began < 3
    assert c.request("GET", "/echo").status == 200
    c.close()


def test_intercepted_before_the_request_was_read(sluice, origin):
    origin.on("/up", early(lambda c, r: c.send(reply(413, b"too much"))))
    s = sluice(BASE + f"ProxyIntercept 413\nProxyPass {origin}\n")
    c = s.client()
    c.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
    r = c.response()
    assert r.status == 413 and r.body.startswith(b"413 Content Too Large\nrequest")
    assert r.get("Connection") == "close" and c.closed()


def test_intercepted_when_the_client_leaves(sluice, origin):
    answers(origin, stalls=lambda c, r: c.send(b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc"))
    s = sluice(BASE + f"ProxyIntercept 500\nProxyPass {origin}\n")
    for _ in range(5):
        c = s.client()
        c.send(b"GET /stalls HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.05)
        c.close()
    assert s.get("/echo").status == 200


def test_intercepted_with_filters_and_pipelines(sluice, origin):
    answers(origin, x=reply(404, b"theirs"))
    s = sluice(BASE + f"ProxyIntercept 404\nProxyPass {origin}\n")
    c = s.client()
    c.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
    for _ in range(20):
        r = c.response()
        assert r.status == 404 and b"theirs" not in r.body
    c.close()


def test_intercept_that_is_refused(refused):
    for words in (" 200", " 404 x"):
        assert "between 400 and 599" in refused(f"LoadModule route\nProxyIntercept{words}\n")
    assert "expected STATUS ..., found nothing" in refused("LoadModule route\nProxyIntercept\n")


# ---- ProxyCookie ----

COOKIES = [
    # what the server writes, what the client gets
    ("a=b; Path=/two/; Domain=app.internal", "a=b; Path=/; Domain=www.example.com"),
    ("a=b; path=/two", "a=b; path=/"),
    ("a=b; Path=/two/x/y; HttpOnly", "a=b; Path=/x/y; HttpOnly"),
    ("a=b; Path=/twofold", "a=b; Path=/twofold"),
    ("a=b; Path=/three", "a=b; Path=/3"),
    ("a=b;PATH=/three/q;Secure;DOMAIN=.App.Internal;x", "a=b;PATH=/3/q;Secure;DOMAIN=www.example.com;x"),
    ("a=b ;  Path = /two/z\t; SameSite=Lax", "a=b ;  Path = /z\t; SameSite=Lax"),
    ('a=b; Path="/two/z"; Version=1', 'a=b; Path="/z"; Version=1'),
    ("path=/two; domain=app.internal", "path=/two; domain=www.example.com"),
    ("a=path=/two; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/two/",
     "a=path=/two; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Path=/"),
    ("a=b; Domain=host.internal; Path=/two/", "a=b; Path=/"),
    ("a=b; Secure; Domain=host.internal", "a=b; Secure"),
    ("a=b; Path=/two/; Path=/three", "a=b; Path=/; Path=/3"),
    ("a=b; Domain=other.internal", "a=b; Domain=other.internal"),
    ("a=b; Path; Path=; Domain=; ;", "a=b; Path; Path=; Domain=; ;"),
    ("a=b", "a=b"),
    ("", ""),
    (";Path=/two", ";Path=/"),
]


def test_cookies(sluice, origin):
    origin.on("/x", reply(200, b"ok", [("Set-Cookie", a) for a, _ in COOKIES] + [("X-Path", "Path=/two/")]))
    s = sluice(BASE + "ProxyCookie domain app.internal www.example.com\n"
               "ProxyCookie domain .host.internal \"\"\nProxyCookie path /two/ /\n"
               f"ProxyCookie path /three /3\nProxyCookie path /two /never\nProxyPass {origin}\n")
    r = s.get("/x")
    assert [v for k, v in r.fields if k == "Set-Cookie"] == [b for _, b in COOKIES]
    assert r.get("X-Path") == "Path=/two/"


@pytest.mark.parametrize("line,before,after", [
    ("path / /api", "/", "/api"), ("path / /api", "/x", "/api/x"), ("path / /api/", "/", "/api/"),
    ("path / /api/", "/x", "/api/x"), ("path /a /b", "/a/", "/b/"), ("path /a/ /b/", "/a", "/b"),
    ("path /a/ /b/", "/a/c", "/b/c"), ("path /A /b", "/a", "/a"),
])
def test_cookie_paths(sluice, origin, line, before, after):
    origin.on("/x", reply(200, b"", [("Set-Cookie", f"n=v; Path={before}; Max-Age=1")]))
    s = sluice(BASE + f"ProxyCookie {line}\nProxyPass {origin}\n"
               "<Location /x>\nHeader set X-A b\n</Location>\n")
    assert s.get("/x").get("Set-Cookie") == f"n=v; Path={after}; Max-Age=1"


def test_cookie_lines_that_are_refused(refused):
    for line, says in ((" domain a", "\"domain\" or \"path\""), (" host a b", "\"domain\" or \"path\""),
                       (" path a /b", "begins with '/'"), (" path /a b", "begins with '/'"),
                       (" path /a \"/; Secure\"", "no blanks"), (" domain \"\" b", "expected a domain")):
        assert says in refused(f"LoadModule route\nProxyCookie{line}\n"), line


# ---- what else the core and mod_route say about answers and connections ----

def test_server_header(sluice, origin):
    origin.on("/named", reply(200, b"", [("Server", "theirs/1")]))
    assert sluice("LoadModule route\nReturn 200 x\n").get("/").get("Server") is None
    s = sluice(BASE + f"ServerHeader on\nProxyPass {origin}\n<Location /off>\nServerHeader off\nReturn 404\n</Location>\n"
               "<Location /text>\nServerHeader \"web 7\"\nReturn 200 x\n</Location>\n")
    assert [s.get(p).get("Server") for p in ("/", "/named", "/off", "/text")] == [
        "sluice", "theirs/1", None, "web 7"]
    assert b"\r\nServer: sluice\r\n" in s.raw(b"BAD\r\n\r\n")


def test_server_header_that_is_refused(refused):
    assert "control bytes" in refused("ServerHeader \"a\x01b\"\n")


def test_keepalive_requests(sluice):
    s = sluice("LoadModule route\nKeepaliveRequests 2\nReturn 200 x\n")
    c = s.client()
    assert [c.request("GET", "/").get("Connection") for _ in range(2)] == [None, "close"] and c.closed()
    s = sluice("LoadModule route\nKeepaliveRequests unlimited\nReturn 200 x\n")
    c = s.client()
    assert all(c.request("GET", "/").get("Connection") is None for _ in range(300))
    c.close()


def test_keepalive_requests_that_are_refused(refused):
    assert "1 or more" in refused("KeepaliveRequests 0\n")


def test_least_rate_of_a_body(sluice, origin):
    """The time in which no rate is asked for is the same for all: they wait together."""
    rates = [sluice(BASE + f"Timeout minrate={rate}\nProxyPass {origin}\n") for rate in ("2k", "2k/s", "120k/m")]
    assert rates[0].get("/", method="POST", body=b"x" * 50000).json()["body"] == "x" * 50000
    slow = {c.sock: c for c in (s.client() for s in rates)}
    for c in slow.values():
        c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
    began = time.time()
    while slow and time.time() - began < 15:
        time.sleep(0.1)
        for sock in select.select(list(slow), [], [], 0)[0]:
            assert slow.pop(sock).response().status == 408 and 4 < time.time() - began < 12
        for c in slow.values():
            c.send(b"x" * 100)  # a thousand a second
    assert not slow


def test_rates_that_are_refused(refused):
    for rate in ("512", "1k/y", "fast"):
        assert "expected a rate such as" in refused(f"Timeout minrate={rate}\n")


def test_hosts_for_servers(sluice, origin):
    s = sluice(BASE + f"ProxyPass http://localhost:{str(origin).split(':')[1]}\n<Location /up>\n"
               "ProxyHost upstream\n</Location>\n<Location /up/not>\nProxyHost preserve\n</Location>\n")
    port = str(origin).split(":")[1]
    assert [s.get(p, host="pub.example:81").seen("Host") for p in ("/", "/up", "/up/not")] == [
        "pub.example:81", f"localhost:{port}", "pub.example:81"]


@pytest.mark.parametrize("mode,protocol,passes", [
    (None, "websocket", True), ("websocket", "WebSocket", True), ("websocket", "custom/1", False),
    ("any", "custom/1", True), ("any", "websocket", True), ("off", "websocket", False),
    ("off", "custom/1", False)])
def test_upgrades(sluice, origin, mode, protocol, passes):
    def switch(c, r):
        if r.get("Upgrade") is None:
            c.send(reply(200, b"plain"))
            return True
        c.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: upgrade"
               "\r\n\r\n".encode())
        c.send(b"<" + c.exactly(3) + b">")
        return False

    origin.on("/u", switch)
    line = f"ProxyUpgrade {mode}\n" if mode else ""
    s = sluice(BASE + line + f"ProxyPass {origin}\n")
    c = s.client()
    c.send(f"GET /u HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n")
    r = c.response()
    assert (r.status == 101) == passes
    if passes:
        assert r.get("Upgrade") == protocol
        c.send(b"abc")
        assert c.exactly(5) == b"<abc>"
    else:
        assert r.body == b"plain" and origin.last.get("Connection") is None
    c.close()


@pytest.mark.parametrize("hold,status", [("64k", 200), ("1k", 502), ("0", 502)])
def test_how_much_of_a_body_is_held(sluice, make_origin, hold, status):
    """A body that is held goes to the next server; one that is not cannot."""
    good, bad = make_origin(), make_origin()
    bad.on("/x", early(lambda c, r: (c.exactly(20000), c.reset(), False)[2]))
    s = sluice(BASE + f"LoadModule balancer\nProxyBodyHold {hold}\n<Balancer p>\nServer {bad}\n"
               f"Server {good} backup\n</Balancer>\nProxyPass balancer://p\n").expect(
                   "SL05", "BALANCER0010")
    body = bytes(range(65, 91)) * 1500
    c = s.client()
    c.send(f"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    for i in range(0, len(body), 3000):
        c.send(body[i:i + 3000])
        time.sleep(0.005)
    r = c.response()
    assert r.status == status
    if status == 200:
        assert r.json()["body"].encode() == body
    c.close()
