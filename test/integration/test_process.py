"""Processes: start, stop, drain, privileges, crash."""
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import MODULES, PROGRAM, Client, free_port
from origin import reply

CONF = "LoadModule route\nProxyPass http://{origin}\n"


def test_without_any_file(origin):
    port = free_port()
    p = subprocess.Popen([PROGRAM, "--listen", f"127.0.0.1:{port}", "--proxy", f"http://{origin}",
                          "--module-dir", MODULES], stderr=subprocess.PIPE)
    try:
        for _ in range(200):
            try:
                c = Client(port)
                break
            except OSError:
                time.sleep(0.05)
        assert c.request("GET", "/x").json()["target"] == "/x"
        c.close()
    finally:
        p.terminate()
        assert p.wait(10) == 0
        p.stderr.close()


def test_one_process_for_debuggers(sluice, origin):
    s = sluice(CONF.format(origin=origin), args=("-XX",))
    assert s.get("/").status == 200 and len(s.pids()) == 1


def test_master_and_worker(sluice, origin):
    s = sluice(CONF.format(origin=origin))
    assert len(s.pids()) == 2
    fds = [os.readlink(f"/proc/{s.pids()[1]}/fd/{n}") for n in os.listdir(f"/proc/{s.pids()[1]}/fd")]
    assert all(x.startswith(("/dev/null", "socket:", "anon_inode:", "pipe:")) or x.endswith("stderr")
               for x in fds), fds


def test_pid_file(sluice, origin, tmp_path):
    s = sluice(f"PidFile {tmp_path}/pid\n" + CONF.format(origin=origin))
    time.sleep(0.1)
    assert int((tmp_path / "pid").read_text()) == s.proc.pid
    assert s.stop() == 0 and not (tmp_path / "pid").exists()


def test_a_stop_finishes_what_is_under_way(sluice, origin):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(5), c.send(reply(200, b"whole")))[1])
    s = sluice(CONF.format(origin=origin))
    idle, busy = s.client(), s.client()
    assert idle.request("GET", "/").status == 200
    busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    s.proc.send_signal(signal.SIGTERM)
    assert idle.closed(2)
    with pytest.raises(OSError):
        time.sleep(0.3)
        c = s.client(timeout=1)
        c.request("GET", "/")
    go.set()
    r = busy.response()
    assert r.body == b"whole" and r.get("Connection") == "close"
    assert s.proc.wait(5) == 0


def test_stop_timeout(sluice, origin):
    origin.on("/never", lambda c, r: time.sleep(20))
    s = sluice("StopTimeout 500ms\n" + CONF.format(origin=origin))
    c = s.client()
    c.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    began = time.time()
    assert s.stop() == 0 and time.time() - began < 4


@pytest.mark.parametrize("number, is_patient", [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGQUIT, 1)])
def test_signals_that_stop(sluice, origin, number, is_patient):
    """TERM and INT within StopTimeout, QUIT in its own time; a second one ends at once."""
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(20), c.send(reply(200, b"whole")))[1])
    s = sluice("StopTimeout 400ms\n" + CONF.format(origin=origin))
    busy = s.client(timeout=20).send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    s.proc.send_signal(number)
    if is_patient:
        time.sleep(1)
        assert s.proc.poll() is None
        go.set()
        assert busy.response().body == b"whole"
    assert s.proc.wait(5) == 0
    go.set()
    busy.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_ends_at_once(sluice, origin, number):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(20), c.send(reply(200, b"whole")))[1])
    s = sluice("StopTimeout 20s\n" + CONF.format(origin=origin))
    busy = s.client(timeout=20).send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.1)
    began = time.time()
    s.proc.send_signal(number)
    time.sleep(0.3)
    assert s.proc.poll() is None
    s.proc.send_signal(number)
    assert s.proc.wait(5) == 0 and time.time() - began < 4
    go.set()
    busy.close()


def test_sigusr1_opens_logs_again(sluice, origin, tmp_path):
    s = sluice(f"LoadModule log\nAccessLog {tmp_path}/a common flush=10ms\n" + CONF.format(origin=origin))
    os.rename(tmp_path / "a", tmp_path / "old")
    s.proc.send_signal(signal.SIGUSR1)
    assert s.logged("SL0215 files were opened again") and (tmp_path / "a").exists()
    end = time.time() + 5
    while not (tmp_path / "a").read_text() and time.time() < end:
        s.get("/new")
        time.sleep(0.05)
    assert "/new" in (tmp_path / "a").read_text()


def test_a_worker_that_dies_is_replaced(sluice, origin):
    s = sluice(CONF.format(origin=origin)).expect("SL0202")
    worker = s.pids()[1]
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.05)
    assert s.get("/").status == 200 and s.pids()[1] != worker


def test_a_worker_whose_master_dies_goes_too(sluice, origin):
    s = sluice(CONF.format(origin=origin))
    worker = s.pids()[1]
    s.check = lambda: None
    s.proc.kill()
    s.proc.wait()
    for _ in range(100):
        try:
            with open(f"/proc/{worker}/stat") as f:
                if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except (FileNotFoundError, ProcessLookupError):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the worker is still there")


def test_a_port_that_is_taken(origin, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        conf = tmp_path / "c"
        conf.write_text(f"Listen 127.0.0.1:{taken.getsockname()[1]}\n" + CONF.format(origin=origin))
        r = subprocess.run([PROGRAM, "-X", "-f", str(conf), "--module-dir", MODULES],
                           capture_output=True, text=True, timeout=20)
    assert r.returncode == 1 and "c:1: Listen" in r.stderr and "in use" in r.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_privileges_are_dropped(origin, tmp_path):
    port = free_port()
    conf = tmp_path / "c"
    conf.write_text(f"Listen 127.0.0.1:{port}\nUser nobody\n" + CONF.format(origin=origin))
    p = subprocess.Popen([PROGRAM, "-X", "-f", str(conf), "--module-dir", MODULES],
                         stderr=subprocess.PIPE)
    try:
        while b"ready" not in p.stderr.readline():
            assert p.poll() is None
        with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
            worker = f.read().split()[0]
        with open(f"/proc/{worker}/status") as f:
            status = dict(l.split(":", 1) for l in f)
        assert "0" not in status["Uid"].split() and "0" not in status["Gid"].split()
        assert status["CapEff"].strip() == "0" * 16 and status["NoNewPrivs"].strip() == "1"
        c = Client(port)
        assert c.request("GET", "/").status == 200
        c.close()
    finally:
        p.terminate()
        assert p.wait(10) == 0
        p.stderr.close()


def test_max_connections_wait_and_are_not_reset(sluice, origin):
    s = sluice("MaxConnections 5\n" + CONF.format(origin=origin))
    held = [s.client() for _ in range(5)]
    for c in held:
        assert c.request("GET", "/").status == 200
    late = s.client()
    late.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
    late.sock.settimeout(0.5)
    with pytest.raises(socket.timeout):
        late.response()
    held.pop().close()
    late.sock.settimeout(5)
    assert late.response().json()["target"] == "/late"
    for c in held + [late]:
        c.close()


def test_ten_thousand_idle_clients(sluice, origin):
    """As many as the limit of open files allows, up to that; others are served beside them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n = min(10000, hard - 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    s = sluice(f"MaxConnections {n + 100}\n" + CONF.format(origin=origin))
    clients = [s.client() for _ in range(n)]
    try:
        for c in clients[::n // 50]:
            assert c.request("GET", "/").status == 200
        assert s.get("/").status == 200
        for c in clients[::n // 50]:  # and idle again
            assert c.request("GET", "/").status == 200
    finally:
        for c in clients:
            c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert s.get("/").status == 200


def test_too_many_open_files_are_survived(sluice, origin):
    s = sluice(f"LoadModule route\nProxyPass http://{origin}\n").expect("SL0210", "SL0450")
    worker = s.pids()[1]
    room = len(os.listdir(f"/proc/{worker}/fd")) + 8
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (room, room))
    clients = [s.client().send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(40)]
    assert s.logged("SL0210")
    for c in clients[:20]:
        c.close()
    for c in clients[20:]:  # they waited in the backlog, and none is reset
        assert c.response().status in (200, 500)
        c.close()
    end = time.time() + 5  # descriptors come back with the connections
    while s.get("/").status != 200 and time.time() < end:
        time.sleep(0.02)
    assert s.get("/").status == 200 and s.pids()[1] == worker
