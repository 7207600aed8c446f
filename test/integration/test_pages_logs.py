"""Pages of failures, answers of servers that are replaced, cookies mapped back; the error log."""
import json
import os
import re
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
    ("LogLevel", ["expected one of"]),
    ("ErrorLog", ["expected a file, stderr or syslog"]),
    ("ErrorLog stderr format=xml", ["text, json"]),
    ("ErrorLog stderr fromat=json", ['did you mean "format"?']),
    ("<VirtualHost a>\nErrorLog stderr\n</VirtualHost>", ["ErrorLog"]),
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
    log = objects(where.read_text())
    assert {x["pid"] for x in log} == {o.s.proc.pid}
    assert any("generation 2 serves" in x["message"] for x in log)
    shutil.rmtree(o.dir)
