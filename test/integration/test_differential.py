"""What nginx, httpd and node behind the server understand is what the server understood.

Several hundred messages that could be read in two ways are sent, each followed by a plain
request on the same connection. What is forwarded must be, for each backend, the same requests
with the same methods, targets and bodies as for a scripted backend; a backend may also refuse
one. What is refused is answered once and closed."""
import json
import os
import re
import shutil
import time

import pytest
from conftest import free_port
from test_peers import started

HOST = b"Host: a\r\n"
SMUGGLED = b"GET /m%d/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


# ---- backends that write a line of JSON for each request they understood or refused ----

def nginx(port, d):
    user = "user root;\n" if os.geteuid() == 0 else ""
    (d / "n.conf").write_text(f"""{user}daemon off; pid {d}/pid; error_log {d}/err; worker_processes 1;
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
events {{ }} http {{ client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; client_body_buffer_size 64k; lingering_close off;
log_format seen escape=json '{{"line":"$request","status":$status,"body":"$request_body"}}';
access_log {d}/seen seen; keepalive_requests 100000;
server {{ listen 127.0.0.1:{port}; location / {{ echo_read_request_body; echo ok; }} }} }}
""")
    return ["nginx", "-p", str(d), "-e", f"{d}/err", "-c", f"{d}/n.conf"]


def httpd(port, d):
    (d / "body").write_text("""#!/bin/sh
printf 'Content-Type: text/plain\nX-Body: %s\n\nok' "$(od -An -v -w65536 -tx1)"
""")
    os.chmod(d / "body", 0o755)
    (d / "h.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ErrorLog {d}/err
Listen 127.0.0.1:{port}
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
ScriptSock {d}/sock
ScriptAliasMatch .* {d}/body
MaxKeepAliveRequests 0
LogFormat "%r\\t%>s\\t%{{X-Body}}o" seen
CustomLog {d}/seen seen
User www-data
Group www-data
""")
    return ["apache2", "-DFOREGROUND", "-f", f"{d}/h.conf"]


def node(port, d):
    (d / "s.js").write_text(f"""
const fs = require('fs'), seen = o => fs.appendFileSync('{d}/seen', JSON.stringify(o) + '\\n');
const s = require('http').createServer((q, a) => {{
  let body = '';
  q.on('data', c => body += c.toString('latin1'));
  q.on('end', () => {{ seen({{line: q.method + ' ' + q.url + ' HTTP/1.1', status: 200, body}}); a.end('ok'); }});
}});
s.on('clientError', (e, c) => {{
  if (e.rawPacket) seen({{line: e.rawPacket.toString('latin1').split('\\r\\n')[0], status: 400, body: ''}});
  c.end('HTTP/1.1 400 Bad Request\\r\\nConnection: close\\r\\n\\r\\n');
}});
s.listen({port}, '127.0.0.1');
""")
    return [shutil.which("node") or "nodejs", "s.js"]


def httpd_line(text):
    line, status, body = text.rsplit("\t", 2)
    line = line.encode("latin1").decode("unicode_escape")
    return {"line": line, "status": int(status), "body": bytes.fromhex(body.strip("-")).decode("latin1")}


class Backend:
    def __init__(self, make, d):
        self.name, self.port, self.file = make.__name__, free_port(), d / "seen"
        for up in (d, d.parent, d.parent.parent):
            os.chmod(up, 0o755)
        self.process = started(make(self.port, d), self.port, d)

    def seen(self):
        read = httpd_line if self.name == "httpd" else json.loads
        with open(self.file, encoding="latin1") as f:
            return [read(line) for line in f.read().split("\n") if line]


@pytest.fixture
def backends(tmp_path_factory):
    made = [Backend(make, tmp_path_factory.mktemp(make.__name__)) for make in (nginx, httpd, node)]
    yield made
    for b in made:
        b.process.terminate()
        b.process.wait(10)


# ---- the messages ----

LENGTHS = [b"", b"Content-Length: %d\r\n", b"Content-Length: +%d\r\n", b"Content-Length:%d\r\n", b"Content-Length : %d\r\n",
           b"Content-Length: 0%d\r\n", b"Content-Length: %d, %d\r\n", b"Content-Length: %d\r\nContent-Length: 0\r\n",
           b"Content-Length: 0\r\nContent-Length: %d\r\n", b"Content-Length: 0x%x\r\n", b"Content-Length:\t%d\t\r\n",
           b"Content_Length: %d\r\n", b"X: y\r\n Content-Length: %d\r\n", b"Content-Length: %d\x0b\r\n"]
CODINGS = [b"", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:chunked\r\n", b"transfer-encoding: CHUNKED\r\n",
           b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
           b"Transfer-Encoding: identity, chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
           b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding:\tchunked \r\n",
           b"Transfer-Encoding: \x0bchunked\r\n", b"Transfer-Encoding:\r\n chunked\r\n", b"Transfer_Encoding: chunked\r\n",
           b"Transfer-Encoding: chunked;q=1\r\n", b"X: y\rTransfer-Encoding: chunked\r\n", b"X: y\nTransfer-Encoding: chunked\r\n",
           b"Transfer-Encoding: ,chunked\r\n", b"TE: chunked\r\n", b"Transfer-Encoding: \"chunked\"\r\n"]
CHUNKS = [b"3\r\nabc\r\n0\r\n\r\n", b"003\r\nabc\r\n000\r\n\r\n", b"3;a=b\r\nabc\r\n0;c\r\n\r\n", b"3 ;a\r\nabc\r\n0\r\n\r\n",
          b"3 \r\nabc\r\n0\r\n\r\n", b"3\nabc\n0\n\n", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n",
          b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"2\r\nabc\r\n0\r\n\r\n",
          b"3;\n\r\nabc\r\n0\r\n\r\n", b"3;a\rX\r\nabc\r\n0\r\n\r\n", b"A\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n",
          b"1\r\na\r\n" * 50 + b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n", b"3\r\nabc\r\n-0\r\n\r\n", b"100000003\r\nabc\r\n0\r\n\r\n",
          b"10000000000000003\r\nabc\r\n0\r\n\r\n", b"3;\"a\r\nabc\r\n0\r\n\r\n", b"3;a=\"\r\nabc\r\n0\r\n\r\n\"", b"0\r\nHost: b\r\n\r\n",
          b"0\r\n X: y\r\n\r\n", b"0;a\r\nX:y\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\nX", b"3\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"get", b"FOO", b"M-SEARCH", b"GET!",
           b"GET\t", b"TRACE", b"CONNECT", b"PRI"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/01.1", b"HTTP/1", b""]
ENDS = [b"\r\n", b"\n", b"\r\r\n", b"\r", b" \r\n", b"\t\r\n", b"\0\r\n", b"\x0b\r\n", b"\n\r", b"\r\n ", b"\r\n\t"]
HOSTS = [b"a", b"A", b"a:80", b"a:", b"a:080", b"a:99999", b"[::1]", b"[::1", b"u@a", b"a,b", b"a, b", b"a/b", b"a?b", b"a#b", b"a\\b",
         b"a%41", b"a%zz", b"", b" ", b"a\tb", b"a_b", b"a;b", b"a'b", b'a"b', b"\xe9", b"a.", b".a", b"*", b"a:b", b"127.0.0.1"]
TARGETS = [b"/m%d", b"/m%d?a=b", b"/m%d?", b"/m%d/../x", b"/m%d//x", b"/m%d/%%2e%%2e/x", b"/m%d/%%2Fx", b"/m%d/%%zz", b"/m%d/%%00",
           b"/m%d#f", b"/m%d\x7f", b"/m%d\xff", b"/m%d a", b"/m%d\ta", b"http://b/m%d", b"http://b:80/m%d?x", b"HTTP://b/m%d",
           b"http://u@b/m%d", b"http:///m%d", b"https://b/m%d", b"//b/m%d", b"/m%d;p", b"/m%d\\x", b"/m%d|x", b"/m%d\"<>", b"m%d",
           b"?m%d", b"*", b"b:443", b"/m%d/http://c/", b"/m%d\x0bx", b"ftp://b/m%d"]
FIELDS = [b"Host: a\r\nHost: a\r\n", b"Host: a\r\nHost: b\r\n", b"host: a\r\n", b"Host:a\r\n", b"Host : a\r\n", b" Host: a\r\n", b"",
          b"X: y\r\nHost: a\r\n", b"Host: a\r\nX\r\n", b"Host: a\r\n: x\r\n", b"Host: a\r\nX Y: z\r\n", b"Host: a\r\nX\x00: z\r\n",
          b"Host: a\r\nX: \x00\r\n", b"Host: a\r\nX: y\r\n z\r\n", b"Host: a\r\nX: y\r\n\tz\r\n", b"Host: a\r\n\tX: y\r\n",
          b"Host: a\r\nX: y\rZ: w\r\n", b"Host: a\r\nX: y\nZ: w\r\n", b"Host: a\r\nX: \xe9\r\n", b"Host: a\r\nX\xe9: y\r\n", b"Host: a\r\nX:\r\n",
          b"Host: a\r\n(X): y\r\n", b"Host: a\r\nX: \x7f\r\n", b"Host: a\r\nX: \x01\r\n", b"Host: a\r\nConnection: Host\r\n",
          b"Host: a\r\nConnection: Content-Length\r\n", b"Host: a\r\nConnection: Transfer-Encoding\r\n",
          b"Host: a\r\nExpect: 100-continue\r\n", b"Host: a\r\nExpect: x\r\n", b"Host: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n",
          b"Host: a\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"]


def message(n, first=None, fields=HOST, length=b"", coding=b"", body=b"", end=b"\r\n"):
    """Message number n; its number stands in every target."""
    body = body.replace(SMUGGLED, SMUGGLED % n)
    length = length % ((len(body),) * length.count(b"%")) if length else b""
    head = (first or b"POST /m%d HTTP/1.1" % n) + end + fields + length + coding + b"\r\n"
    return head + body


def messages():
    n = 0

    def made(**k):
        nonlocal n
        n += 1
        first = k.pop("first", None)
        return n, message(n, first(n) if first else None, **k)

    for length in LENGTHS:
        for coding in CODINGS:
            yield made(length=length, coding=coding, body=b"0\r\n\r\n" + SMUGGLED)
    for coding in CODINGS[:4]:
        yield made(length=LENGTHS[1], coding=coding, body=b"3\r\nabc\r\n0\r\n\r\n")
        yield made(coding=coding, length=LENGTHS[7], body=b"3\r\nabc\r\n0\r\n\r\n")
        yield made(coding=coding, first=lambda n: b"POST /m%d HTTP/1.0" % n, body=b"3\r\nabc\r\n0\r\n\r\n")
    for chunk in CHUNKS:
        yield made(coding=CODINGS[1], body=chunk)
        for method in METHODS[:7]:
            yield made(coding=CODINGS[1], body=chunk, first=lambda n: method + b" /m%d HTTP/1.1" % n)
    for method in METHODS:
        yield made(first=lambda n: method + b" /m%d HTTP/1.1" % n)
        yield made(first=lambda n: method + b" /m%d HTTP/1.1" % n, length=LENGTHS[1], body=b"abc")
        yield made(first=lambda n: method + b" /m%d HTTP/1.1" % n, coding=CODINGS[1], body=b"0\r\n\r\n")
    for version in VERSIONS:
        yield made(first=lambda n: b"GET /m%d " % n + version)
        yield made(first=lambda n: b"POST /m%d " % n + version, length=LENGTHS[1], body=b"abc")
    for end in ENDS:
        yield made(first=lambda n: b"GET /m%d HTTP/1.1" % n, end=end)
        yield made(fields=b"Host: a" + end, length=LENGTHS[1], body=b"abc")
        yield made(fields=HOST, length=b"Content-Length: %d" + end, body=SMUGGLED)
        yield made(fields=HOST, coding=b"Transfer-Encoding: chunked" + end, body=b"0\r\n\r\n" + SMUGGLED)
        yield made(fields=HOST + b"X: y" + end + b"Content-Length: 5\r\n", body=b"abcde")
    for host in HOSTS:
        yield made(fields=b"Host: " + host + b"\r\n")
        yield made(first=lambda n: b"GET http://b/m%d HTTP/1.1" % n, fields=b"Host: " + host + b"\r\n")
        yield made(first=lambda n: b"GET http://" + host + b"/m%d HTTP/1.1" % n)
    for target in TARGETS:
        for method in (b"GET ", b"OPTIONS "):
            yield made(first=lambda n: method + (target % ((n,) if b"%d" in target else ())) + b" HTTP/1.1")
    for fields in FIELDS:
        yield made(fields=fields)
        yield made(fields=fields, length=LENGTHS[1], body=b"abc")
        yield made(fields=fields, coding=CODINGS[1], body=b"3\r\nabc\r\n0\r\n\r\n")


# ---- the comparison ----

REFUSALS = {400, 417, 421, 501, 505}


def number_in(line):
    found = re.search(r"/m(?:ark)?(\d+)|m(\d+)", line)
    return int(found.group(1) or found.group(2)) if found else None


def statuses(answer):
    return [s for s in map(int, re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)) if s >= 200]


def by_number(seen):
    groups = {}
    for one in seen:
        groups.setdefault(number_in(one["line"]), []).append(one)
    return groups


def send_all(s, sent):
    """What came back for each message, and for the plain request behind it."""
    answers = {}
    for n, raw in sent:
        c = s.client()
        c.send(raw + b"GET /mark%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % n)
        c.sock.shutdown(1)
        answers[n] = c.rest()
        c.close()
    return answers


def agree(backend, wanted, seen, raw):
    """Each request wanted was understood or refused. One that was cut short may be there as a
    refusal, if what stood behind it was not forwarded either."""
    rest, is_cut = list(seen), not any(line.startswith("GET /mark") for line, _ in wanted)
    for line, body in wanted:
        same = [x for x in rest if (x["line"], x["body"]) == (line, body)]
        refused = [x for x in rest if x["status"] >= 400 and x["status"] != 499]
        assert same or refused, (backend, raw, wanted, seen)
        rest.remove((same or refused)[0])
    assert all(x["status"] >= 400 for x in rest), (backend, raw, wanted, seen)
    assert raw is None or len(rest) <= is_cut, (backend, raw, wanted, seen)


def test_backends_understand_what_was_understood(sluice, origin, backends):
    sent = list(messages())
    text = "LoadModule route\nAbortOnClose off\nTimeout header=1s body=1s\nProxyPass http://{}\n"
    front = sluice(text.format(origin)).expect("SL05")
    answers = send_all(front, sent)
    wanted = {}
    for r in origin.requests:
        line = r.raw.split(b"\r\n")[0].decode("latin1")
        wanted.setdefault(number_in(line), []).append((line, r.body.decode("latin1")))
    for n, raw in sent:
        got, forwarded = statuses(answers[n]), len(wanted.get(n, []))
        if number_in(raw.decode("latin1").split(" HTTP")[0]) is None:
            continue  # "*" and the like have no number; they are compared all together below
        refused = [s for s in got if s in REFUSALS]
        assert len(got) == forwarded + len(refused) and len(refused) <= 1, (raw, answers[n], wanted.get(n))
        assert not refused or got[-1] in REFUSALS and b"Connection: close" in answers[n], (raw, answers[n])
    assert len(sent) > 500 and len(wanted) > 100

    for b in backends:
        s = sluice(text.format(f"127.0.0.1:{b.port}")).expect("SL05")
        behind = send_all(s, sent)
        time.sleep(0.2)  # for the last lines of the log
        seen = by_number(b.seen())
        for n, raw in sent:
            agree(b.name, wanted.get(n, []), seen.get(n, []), raw)
            assert len(statuses(behind[n])) == len(statuses(answers[n])), (b.name, raw, behind[n], answers[n])
        agree(b.name, wanted[None], seen.get(None, []), None)
