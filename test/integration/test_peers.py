"""Real peers: nginx, httpd and node behind, curl, wrk and a WebSocket client in front."""
import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import free_port

SERVERS = {}


def started(argv, port, cwd):
    p = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    import socket
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return p
        except OSError:
            assert p.poll() is None, argv
            time.sleep(0.05)
    raise AssertionError("does not open its port")


def nginx(port, d):
    (d / "www").mkdir()
    (d / "www" / "file").write_bytes(b"nginx" * 100000)
    (d / "n.conf").write_text(f"""daemon off; pid {d}/pid; error_log {d}/err; worker_processes 1;
events {{ }} http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; server {{ listen 127.0.0.1:{port}; root {d}/www; }} }}
""" + "")
    conf = (d / "n.conf").read_text()
    (d / "n.conf").write_text(("user root;\n" if os.geteuid() == 0 else "") + conf)
    return ["nginx", "-p", str(d), "-e", f"{d}/err", "-c", f"{d}/n.conf"]


def httpd(port, d):
    (d / "www").mkdir()
    (d / "www" / "file").write_bytes(b"httpd" * 100000)
    (d / "h.conf").write_text(f"""ServerRoot {d}
PidFile {d}/pid
ErrorLog {d}/err
Listen 127.0.0.1:{port}
ServerName localhost
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
DocumentRoot {d}/www
User www-data
Group www-data
""")
    os.chmod(d, 0o755)
    return ["apache2", "-DFOREGROUND", "-f", f"{d}/h.conf"]


def node(port, d):
    (d / "s.js").write_text(f"""
const b = Buffer.from('node-'.repeat(100000).slice(0, 500000));
require('http').createServer((q, s) => {{
  if (q.method === 'POST') {{ let n = 0; q.on('data', c => n += c.length); q.on('end', () => s.end(String(n))); }}
  else {{ s.write(b.subarray(0, 1000)); s.end(b.subarray(1000)); }}
}}).listen({port}, '127.0.0.1');
""")
    return [shutil.which("node") or "nodejs", "s.js"]


@pytest.fixture(params=[nginx, httpd, node], ids=["nginx", "httpd", "node"])
def backend(request, tmp_path_factory):
    d = tmp_path_factory.mktemp(request.param.__name__)
    for up in list(d.parents)[:3]:  # workers of the peers have another user
        if up.name.startswith(("pytest-", "popen-")):
            up.chmod(0o755)
    port = free_port()
    p = started(request.param(port, d), port, d)
    yield f"127.0.0.1:{port}"
    p.terminate()
    p.wait(10)


def test_files_come_whole(sluice, backend):
    s = sluice(f"LoadModule route\nProxyPass {backend}\n")
    c = s.client()
    for _ in range(5):
        r = c.request("GET", "/file")
        assert r.status == 200 and len(r.body) == 500000 and len(set(r.body[i:i + 5] for i in range(0, 500000, 5))) == 1
    c.close()
    out = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                          f"http://127.0.0.1:{s.port}/file"], capture_output=True, text=True).stdout
    assert out == "200 500000"


def test_wrk_sees_no_error(sluice, backend):
    s = sluice(f"LoadModule route\nLoadModule balancer\n<Balancer b>\nServer {backend}\n</Balancer>\n"
               "ProxyPass balancer://b\n").expect("SL05", "BALANCER")
    out = subprocess.run(["wrk", "-t1", "-c20", "-d2s", f"http://127.0.0.1:{s.port}/file"],
                         capture_output=True, text=True).stdout
    assert "Requests/sec" in out and "Socket errors" not in out and "Non-2xx" not in out, out


def test_curl_uploads(sluice, origin, tmp_path):
    s = sluice(f"LoadModule route\nProxyPass {origin}\n")
    (tmp_path / "up").write_bytes(b"u" * 3000000)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-0"]):
        out = subprocess.run(["curl", "-s", "-T", str(tmp_path / "up"), *extra,
                              f"http://127.0.0.1:{s.port}/"], capture_output=True).stdout
        assert out.count(b"u") >= 3000000


def test_a_websocket_client(sluice):
    websockets = pytest.importorskip("websockets")
    port = free_port()

    async def run(front):
        async def echo(ws, *_):
            async for m in ws:
                await ws.send(m)
        async with websockets.serve(echo, "127.0.0.1", port):
            async with websockets.connect(f"ws://127.0.0.1:{front}/") as ws:
                for m in ("hello", "x" * 100000, b"\0\1\2"):
                    await ws.send(m)
                    assert await ws.recv() == m

    s = sluice(f"LoadModule route\nProxyPass 127.0.0.1:{port}\n")
    asyncio.run(run(s.port))
