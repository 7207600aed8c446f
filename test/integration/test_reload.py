"""Generations: reloads, their refusals, hand-over, going back, crashes, rotation, the daemon."""
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import IS_SANITIZED, MODULES, PROGRAM, free_port
from origin import reply

CONF = "LoadModule route\nProxyPass http://{origin}\n"


class Operator:
    """A server with a control socket, and the commands one gives it."""

    def __init__(self, start, text, **k):
        self.dir = tempfile.mkdtemp(prefix="sluice-control-")
        self.head = f"ControlSocket {self.dir}/control\n"
        self.s = start(self.head + text, **k)
        self.text = text

    def write(self, text):
        """Replaces the configuration behind the fixture's own lines."""
        with open(self.s.conf) as f:
            own = f.read().split(self.head)[0]
        with open(self.s.conf, "w") as f:
            f.write(own + self.head + text)

    def say(self, *words):
        return subprocess.run([PROGRAM, "-f", self.s.conf, "--module-dir", MODULES, *words],
                              capture_output=True, text=True, timeout=90)

    def reload(self, *words):
        r = self.say("-k", "reload", *words)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout

    def refused(self, *words):
        r = self.say("-k", "reload", *words)
        assert r.returncode == 1 and "nothing was changed" in r.stdout, r.stdout + r.stderr
        assert self.s.get("/").status == 200
        return r.stdout

    def generations(self):
        rows = [l.split() for l in self.say("ctl", "generations").stdout.splitlines()[1:]]
        return {int(r[0]): (r[1], int(r[2])) for r in rows}

    def serving(self):
        return next(pid for state, pid in self.generations().values() if state == "serving")

    def settled(self, n=1, timeout=10):
        """Whether n generations are left in time."""
        end = time.time() + timeout
        while time.time() < end:
            if len(self.generations()) == n:
                return True
            time.sleep(0.05)
        return False


@pytest.fixture
def operate(sluice, origin):
    made = []

    def start(text=None, **k):
        made.append(Operator(sluice, CONF.format(origin=origin) if text is None else text, **k))
        return made[-1]

    yield start
    for o in made:
        shutil.rmtree(o.dir, ignore_errors=True)


def test_a_reload_says_what_changed(operate, origin):
    o = operate()
    assert "the configuration is the same" in o.reload()
    o.write("LoadModule route\nReturn 200 new\n")
    said = o.reload()
    assert re.search(r"- .*: ProxyPass http://", said) and re.search(r"\+ .*: Return 200 new", said)
    assert "LoadModule" not in said and "generation 3 serves" in said
    assert o.s.get("/").body == b"new" and o.settled()


def test_sighup_reloads(operate):
    o = operate()
    o.write("LoadModule route\nReturn 200 new\n")
    o.s.proc.send_signal(signal.SIGHUP)
    assert o.s.logged("generation 2 serves") and o.s.get("/").body == b"new"


@pytest.mark.parametrize("text, says", [
    ("Bogus 1\n", "Bogus: no loaded module knows this name"),
    ("LoadModule nosuch\n", "cannot be loaded"),
    ("LoadModule oldabi\n", "was built for ABI"),
    ("LoadModule trouble\nTrouble post_config fail\n", "mod_trouble failed at post_config"),
    ("LoadModule trouble\nTrouble worker_init fail\n", "mod_trouble failed at worker_init"),
    ("LoadModule trouble\nTrouble ready fail\n", "mod_trouble failed at ready"),
    ("LoadModule trouble\nTrouble check_config crash\n", "before it was ready"),
    ("LoadModule trouble\nTrouble post_config crash\n", "before it was ready"),
    ("LoadModule trouble\nTrouble open_logs crash\n", "before it was ready"),
    ("LoadModule trouble\nTrouble ready crash\n", "before it was ready"),
    ("LoadModule trouble\nTrouble worker_init crash\n", "before it was ready"),
    ("LoadModule trouble\nTrouble thread_init crash\n", "before it was ready"),
    ("ErrorLog /nowhere/at/all\n", "ErrorLog /nowhere/at/all"),
])
def test_refusals(operate, text, says):
    o = operate()
    o.s.expect("SL0208")
    worker = o.serving()
    o.write(o.text + text)
    assert says in o.refused()
    assert o.serving() == worker and o.settled()
    if "crash" in text:
        o.s.check = o.s.stop  # a sanitizer's report is what was asked for
    o.write(o.text)
    o.reload()


def test_a_port_that_is_taken_is_a_refusal(operate):
    o = operate()
    o.s.expect("SL0208")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        o.write(o.text + f"Listen 127.0.0.1:{taken.getsockname()[1]}\n")
        assert "in use" in o.refused()
    o.reload()


def test_a_worker_that_is_never_ready_is_a_refusal(operate):
    o = operate()
    o.s.expect("SL0208")
    o.write(o.text + "LoadModule trouble\nTrouble worker_init hang\n")
    began = time.time()
    assert "not ready in time" in o.refused("--timeout", "500ms") and time.time() - began < 5
    assert o.settled()


def test_generations_max(operate, origin):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(20), c.send(reply(200, b"whole")))[1])
    o = operate("GenerationsMax 2\n" + CONF.format(origin=origin))
    o.s.expect("SL0208")
    busy = o.s.client(timeout=20).send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    o.reload()
    said = o.refused()
    assert "GenerationsMax" in said and "draining" in said
    go.set()
    assert busy.response().body == b"whole"
    busy.close()
    assert o.settled()
    o.reload()


def test_reloads_in_a_row_do_not_pile_up(operate):
    """An idle worker that drains is gone before the next one has started."""
    o = operate("GenerationsMax 4\nLoadModule route\nReturn 200 x\n")
    for _ in range(20):
        o.reload()
    assert o.settled()


@pytest.mark.skipif(IS_SANITIZED, reason="looking for leaks at the end takes descriptors")
def test_a_worker_without_descriptors_drains_all_the_same(operate):
    """It cannot take what leads to the next generation: as where nothing can be handed over."""
    o = operate("DrainIdle 3s\nLoadModule route\nReturn 200 x\n")
    idle = o.s.client()
    assert idle.request("GET", "/").get("Connection") is None
    limits = resource.prlimit(o.serving(), resource.RLIMIT_NOFILE)
    resource.prlimit(o.serving(), resource.RLIMIT_NOFILE, (1, limits[1]))
    o.reload()
    assert idle.request("GET", "/").get("Connection") == "close" and idle.closed()
    assert o.settled()


def test_a_draining_generation_can_be_closed(operate, origin):
    origin.on("/never", lambda c, r: time.sleep(30))
    o = operate("StopTimeout 200ms\n" + CONF.format(origin=origin))
    busy = o.s.client(timeout=20).send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    o.reload()
    assert o.generations()[1][0] == "draining"
    assert o.say("ctl", "close", "id=1").returncode == 0
    assert busy.closed(5) and o.settled()
    assert o.say("ctl", "close", "id=1").returncode == 1
    assert "expected id=N" in o.say("ctl", "close").stdout and o.say("ctl", "close", "id=x").returncode == 2


def test_an_unconfirmed_reload_goes_back(operate, origin):
    o = operate()
    o.s.expect("SL0212", "SL0204")
    idle = o.s.client()
    idle.request("GET", "/")
    o.write("LoadModule route\nReturn 200 new\n")
    o.reload("--confirm", "1s")
    assert o.s.get("/").body == b"new"
    assert o.say("-k", "reload").returncode == 1  # one at a time
    assert o.s.logged("was not confirmed")
    end = time.time() + 5  # it is told at once, and hears it in its own time
    while o.s.get("/").body == b"new" and time.time() < end:
        time.sleep(0.02)
    assert o.s.get("/").body != b"new"
    assert idle.request("GET", "/").status == 200 and o.settled()


def test_a_standby_that_dies_is_replaced(operate):
    o = operate("LoadModule route\nReturn 200 old\n")
    o.s.expect("SL0212", "SL0214")
    o.write("LoadModule route\nReturn 200 new\n")
    o.reload("--confirm", "3s")
    for _ in range(2):
        before = o.generations()[1]
        os.kill(before[1], signal.SIGKILL)
        end = time.time() + 5
        while o.generations()[1][1] in (0, before[1]) and time.time() < end:
            time.sleep(0.02)
        assert o.generations()[1][0] == "standby" and o.s.get("/").body == b"new"
    assert o.s.logged("SL0212")
    end = time.time() + 5
    while o.s.get("/").body == b"new" and time.time() < end:
        time.sleep(0.02)
    assert o.s.get("/").body == b"old" and o.settled()


def test_a_standby_that_is_gone_when_it_is_called(operate):
    o = operate("LoadModule route\nReturn 200 old\n")
    o.s.expect("SL0212", "SL0214", "SL0202")
    o.write("LoadModule route\nReturn 200 new\n")
    o.reload("--confirm", "1s")
    while "SL0212" not in o.s.log():    # whenever it comes back it is killed again: back-off
        pid = o.generations()[1][1]
        try:
            os.kill(pid or o.s.proc.pid, signal.SIGKILL if pid else 0)
        except ProcessLookupError:
            pass
        assert o.s.get("/").body
    end = time.time() + 10
    while (o.s.get("/").body == b"new" or len(o.generations()) > 1) and time.time() < end:
        time.sleep(0.02)
    assert o.s.get("/").body == b"old" and o.settled()


def test_a_confirmed_reload_stays(operate):
    o = operate()
    o.write("LoadModule route\nReturn 200 new\n")
    o.reload("--confirm", "2s")
    assert o.say("-k", "confirm").returncode == 0
    time.sleep(2.3)
    assert o.s.get("/").body == b"new" and o.settled()
    assert o.say("-k", "confirm").returncode == 1


def test_a_listener_comes_and_goes(operate, origin):
    o, port = operate(), free_port()
    o.write(o.text + f"Listen 127.0.0.1:{port}\n")
    o.reload()
    with socket.create_connection(("127.0.0.1", port)) as c:
        c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert c.recv(100).startswith(b"HTTP/1.1 200")
    o.write(o.text)
    o.reload()
    for _ in range(50):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("still listening")


def upgraded(origin, o):
    def script(conn, request):
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  b"Connection: upgrade\r\n\r\n")
        while True:
            data = conn.sock.recv(65536)
            if not data:
                return False
            conn.send(data.upper())

    origin.on("/ws", script)
    c = o.s.client(timeout=30)
    c.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
    c.until(b"\r\n\r\n")
    return c


def test_five_clients_live_through_twenty_reloads(operate, origin):
    go = threading.Event()

    def download(conn, request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1000000)
        go.wait(60)
        conn.send(b"y" * 1000000)

    origin.on("/down", download)
    o = operate("GenerationsMax 30\nTimeout header=60s body=60s\n" + CONF.format(origin=origin))
    idle, part, up, down = [o.s.client(timeout=30) for _ in range(4)]
    ws = upgraded(origin, o)
    assert idle.request("GET", "/").status == 200
    part.send(b"GET /part HTTP/1.1\r\nHo")
    up.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"u" * 300000)
    down.send(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
    down.until(b"\r\n\r\n")
    for i in range(20):
        o.reload()
        assert idle.request("GET", f"/{i}").json()["target"] == f"/{i}"
        assert ws.send(b"ping%d" % i).exactly(5 + (i > 9)) == b"PING%d" % i
    assert part.send(b"st: a\r\n\r\n").response().json()["target"] == "/part"
    assert len(up.send(b"u" * 700000).response().json()["body"]) == 1000000
    go.set()
    assert down.exactly(2000000) == b"x" * 1000000 + b"y" * 1000000
    for c in (part, up, down):  # they were handed over as well
        assert c.request("GET", "/again").json()["target"] == "/again"
    ws.close()
    assert o.settled(1)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def back_after(o):
    """Seconds from kill -9 of the worker to the first answer on a new connection."""
    worker = o.serving()
    began = time.time()
    os.kill(worker, signal.SIGKILL)
    while True:
        try:
            if o.s.get("/").status == 200:
                return time.time() - began
        except (EOFError, ConnectionResetError):    # the dead one had taken it
            pass


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_load_through_reloads_and_kills(operate, origin):
    origin.on("/x", reply(200, b"x" * 100))
    o = operate()
    o.reload()
    assert o.settled()
    before = descriptors(o.s.proc.pid)

    def load(seconds):
        return subprocess.Popen(["wrk", "-t1", "-c20", f"-d{seconds}s", f"http://127.0.0.1:{o.s.port}/x"],
                                stdout=subprocess.PIPE, text=True)
    running = load(5)
    for _ in range(12):
        o.reload()
        time.sleep(0.1)
    out = running.communicate(timeout=30)[0]
    assert "requests in" in out and "Socket errors" not in out and "Non-2xx" not in out, out
    assert o.settled() and descriptors(o.s.proc.pid) <= before
    o.s.expect("SL0202")
    kills, running, times = 3, load(5), []
    for _ in range(kills):
        time.sleep(1.1)  # calm: no back-off
        times.append(back_after(o))
    out = running.communicate(timeout=30)[0]
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    assert failed and "Non-2xx" not in out, out
    connect, read, write, late = map(int, failed.groups())
    assert connect == late == 0 and 0 < read + write <= 20 * kills, out    # those of the dead
    print("back after ms:", " ".join(f"{1000 * t:.1f}" for t in times), out)
    assert statistics.median(times) < (2 if IS_SANITIZED else 0.1) and max(times) < 5, times
    assert o.settled() and descriptors(o.s.proc.pid) <= before


def test_a_crash_restarts_what_was_accepted(operate):
    o = operate()
    o.s.expect("SL0202")
    o.write("Bogus 1\n")
    os.kill(o.serving(), signal.SIGKILL)
    assert o.s.logged("serves again") and o.s.get("/").status == 200


@pytest.mark.parametrize("hook", [
    "pre_connection", "created", "head_read", "route", "access", "fixup", "handler", "select_server",
    "upstream_request", "upstream_response", "upstream_done", "response", "log", "close_connection"])
def test_a_crash_is_reported(operate, origin, tmp_path, hook):
    (tmp_path / "once").touch()
    o = operate(f"LoadModule trouble\nTrouble {hook} crash {tmp_path}/once\nLoadModule route\n"
                f"ProxyPass http://{origin}\n")
    o.s.expect("SL0202", "SL0330")
    c = o.s.client().send(b"GET /trouble HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert o.s.logged("serves again", 20)
    log, request = o.s.log(), "" if "connection" in hook else ", request [0-9a-f]{16}"
    if "Sanitizer" not in log:
        assert re.search(rf"SL0330 .*mod_trouble at {hook}{request}\n", log), log
    assert o.s.get("/").status == 200
    c.close()
    o.s.check = o.s.stop  # a sanitizer's report is what was asked for


@pytest.mark.parametrize("hook", ["drain", "worker_exit"])
def test_a_crash_while_leaving_changes_nothing(operate, hook):
    o = operate(f"LoadModule trouble\nTrouble {hook} crash\nLoadModule route\nReturn 200 ok\n")
    o.s.expect("SL0330", "SL0245")
    o.write(o.text.replace(f"LoadModule trouble\nTrouble {hook} crash\n", ""))
    o.reload()
    assert o.s.logged("SL0245") and o.s.get("/").body == b"ok"
    assert len(o.generations()) == 1
    o.s.check = o.s.stop  # a sanitizer's report is what was asked for


def test_what_a_reload_takes_is_given_back(operate):
    o = operate("LoadModule route\nLoadModule balancer\nLoadModule headers\nReturn 200 ok\n")
    master = o.s.proc.pid

    def reloads(n):
        for _ in range(n):
            o.reload()
            assert o.settled()
        with open(f"/proc/{master}/smaps_rollup") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("Private_Dirty"))
    before = reloads(5)
    assert reloads(20) < before + (20000 if IS_SANITIZED else 400)


def test_log_files_are_opened_again(operate, origin, tmp_path):
    os.chmod(tmp_path, 0o700)
    user = "User nobody\n" if os.geteuid() == 0 else ""
    log, errors = tmp_path / "access.log", tmp_path / "error.log"
    o = operate(f"LoadModule log\nAccessLog {log} common flush=10ms\n" + CONF.format(origin=origin))
    if user:
        with open(o.s.conf) as f:
            text = f.read().replace("User root\n", user)
        with open(o.s.conf, "w") as f:
            f.write(text)
        o.reload()
        assert o.settled()
    o.s.get("/before")
    time.sleep(0.3)
    log.rename(tmp_path / "old")
    assert o.say("-k", "reopen").returncode == 0
    time.sleep(0.2)
    o.s.get("/after")
    time.sleep(0.3)
    assert "/before" in (tmp_path / "old").read_text() and "/after" not in (tmp_path / "old").read_text()
    assert "/after" in log.read_text()


def test_the_daemon(origin, tmp_path):
    port = free_port()
    conf = tmp_path / "c"
    user = "User root\n" if os.geteuid() == 0 else ""
    conf.write_text(f"{user}Threads 1\nPidFile {tmp_path}/pid\nControlSocket {tmp_path}/control\n"
                    f"ErrorLog {tmp_path}/log\nListen 127.0.0.1:{port}\n" + CONF.format(origin=origin))
    run = lambda *w: subprocess.run([PROGRAM, "-f", str(conf), "--module-dir", MODULES, *w],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run("-k", "stop").returncode == 3
    assert run("-k", "start").returncode == 0
    try:
        pid = int((tmp_path / "pid").read_text())
        assert os.stat(tmp_path / "control").st_mode & 0o777 == 0o600
        assert os.getsid(pid) == pid
        socket.create_connection(("127.0.0.1", port)).close()
        assert run("-k", "nonsense").returncode == 2
    finally:
        assert run("-k", "stop").returncode == 0
    for _ in range(100):
        if not (tmp_path / "pid").exists():
            break
        time.sleep(0.05)
    assert not (tmp_path / "pid").exists() and not (tmp_path / "control").exists()
    assert "stopped" in (tmp_path / "log").read_text()


def test_a_daemon_that_cannot_start_says_so(origin, tmp_path):
    conf = tmp_path / "c"
    conf.write_text(f"PidFile {tmp_path}/pid\nControlSocket {tmp_path}/control\nBogus\nListen 1\n")
    r = subprocess.run([PROGRAM, "-f", str(conf), "--module-dir", MODULES, "-k", "start"],
                       capture_output=True, text=True, timeout=30)
    assert r.returncode == 1 and "Bogus" in r.stderr and not (tmp_path / "pid").exists()


def test_the_control_socket_is_versioned(operate):
    o = operate()
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(f"{o.dir}/control")
        c.sendall(b"sluice-control 99 stop\n")
        answer = c.recv(1000)
    assert b"speaks sluice-control 1" in answer and o.s.get("/").status == 200


def test_systemd_is_told(sluice, origin, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
        n.bind(str(tmp_path / "notify"))
        n.settimeout(5)
        own = f"ControlSocket {tmp_path}/c\nPidFile {tmp_path}/p\n"  # else those in /run
        s = sluice(own + CONF.format(origin=origin), env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert n.recv(200).startswith(b"READY=1")
        s.proc.send_signal(signal.SIGHUP)
        assert n.recv(200).startswith(b"RELOADING=1") and n.recv(200).startswith(b"READY=1")
        s.stop()
        assert n.recv(200).startswith(b"STOPPING=1")


# ---- a stop in the middle of something ----

def test_a_stop_while_a_reload_waits_for_its_confirmation(operate, origin):
    o = operate(CONF.format(origin=origin) + "StopTimeout 3s\n")
    held = o.s.client().send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    time.sleep(0.1)
    o.reload("--confirm", "1s")
    stop = subprocess.Popen([PROGRAM, "-f", o.s.conf, "--module-dir", MODULES, "-k", "stop"])
    time.sleep(1.5)  # past the time to confirm
    assert o.s.proc.poll() is None
    held.send(b"12345")
    assert held.response().status == 200
    assert stop.wait(10) == 0 and o.s.proc.wait(10) == 0
    held.close()


def test_a_stop_while_a_reload_starts(operate, origin, tmp_path):
    o = operate(CONF.format(origin=origin))
    (tmp_path / "hold").touch()
    o.write(o.text + f"LoadModule faults\nFaultsHold {tmp_path}/hold\n")
    reload = subprocess.Popen([PROGRAM, "-f", o.s.conf, "--module-dir", MODULES, "-k", "reload"],
                              stdout=subprocess.PIPE, text=True)
    time.sleep(0.2)
    o.s.proc.send_signal(signal.SIGTERM)
    assert reload.wait(10) == 1 and "stopping" in reload.stdout.read()
    (tmp_path / "hold").unlink()
    assert o.s.proc.wait(10) == 0
    reload.stdout.close()


def test_the_pid_file_in_use_by_another_name(operate, origin, tmp_path):
    os.symlink(tmp_path, tmp_path / "other")
    o = operate(CONF.format(origin=origin) + f"PidFile {tmp_path}/pid\n")
    o.s.expect("SL0208")
    o.write(CONF.format(origin=origin) + f"PidFile {tmp_path}/other/pid\n")
    assert "by another name" in o.refused()
    assert (tmp_path / "pid").read_text().strip() == str(o.s.proc.pid)


def test_nobody_changes_what_was_accepted(operate, origin):
    o = operate(CONF.format(origin=origin))
    os.kill(o.serving(), signal.SIGKILL)
    o.s.expect("SL0202")
    assert o.s.logged("serves again")
    folder = f"/proc/{o.serving()}/fd"
    found = [f for f in os.listdir(folder) if "sluice-configuration" in os.readlink(f"{folder}/{f}")]
    for f in found + []:
        with pytest.raises(OSError), open(f"{folder}/{f}", "r+b", buffering=0) as memory:
            memory.write(b"x")


def test_a_pid_file_is_no_other_file(tmp_path):
    (tmp_path / "notes").write_text("dear diary\n")
    os.symlink(tmp_path / "notes", tmp_path / "link")
    for name in ("notes", "link"):
        run = subprocess.run([PROGRAM, "--module-dir", MODULES, "-X", "-f", str(conf(tmp_path, name))],
                             capture_output=True, text=True, timeout=20)
        assert run.returncode == 1 and "PidFile" in run.stderr
    assert (tmp_path / "notes").read_text() == "dear diary\n"


def conf(folder, name):
    path = folder / "conf"
    path.write_text(f"LoadModule route\nListen 127.0.0.1:{free_port()}\nReturn 200 x\nPidFile {folder}/{name}\n")
    return path


def test_a_stop_while_the_next_one_starts(sluice):
    """A generation that is told to go before it is ready is no error."""
    for wait_s in (0, .01, .02, .03, .05, .08):
        s = sluice("LoadModule route\nReturn 200 x\n")
        s.proc.send_signal(signal.SIGHUP)
        time.sleep(wait_s)
        s.stop()


@pytest.mark.parametrize("sign", [signal.SIGQUIT, signal.SIGTERM])
@pytest.mark.parametrize("hook", ["post_config", "ready"])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_generation_that_starts_hears_of_the_stop(sluice, tmp_path, hook, sign, is_first):
    """Whatever it asks of the master meanwhile, and although it would take its time."""
    once = tmp_path / "once"
    text = (f"LoadModule trouble\nTrouble {hook} slow {once}\nLoadModule route\nLoadModule ratelimit\n"
            "StopTimeout 30s\nReturn 200 x\nRateLimitZone z key=%{remote_addr} rate=9r/s\nRateLimit z\n")
    s = sluice(text)
    once.touch()
    if is_first:
        os.kill(s.pids()[-1], signal.SIGKILL)
        s.expect("SL0202")
    else:
        s.proc.send_signal(signal.SIGHUP)
    assert until_gone(once)
    s.proc.send_signal(sign)
    assert s.proc.wait(4) == 0


def until_gone(path):
    end = time.time() + 5
    while path.exists() and time.time() < end:
        time.sleep(0.01)
    return not path.exists()
