"""What the operator types, and what is said in return: start, stop, restart, refusals, -t."""
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import BUILD, IS_SANITIZED, MODULES, PROGRAM, free_port
from origin import reply

CONF = "LoadModule route\nLoadModule log\nProxyPass http://{origin}\n"
ROOT = "User root\n" if os.geteuid() == 0 else ""


def run(*words, program=PROGRAM, modules=MODULES, **k):
    return subprocess.run([program, "--module-dir", modules, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60, **k)


def place(conf, text):
    """file:line of the first line that begins so."""
    lines = conf.read_text().splitlines()
    return f"{conf}:{next(i for i, l in enumerate(lines, 1) if l.startswith(text))}: "


class Daemon:
    def __init__(self, folder, origin, threads):
        self.dir, self.port, self.conf = folder, free_port(), folder / "c"
        self.head = f"{ROOT}Threads {threads}\nErrorLog {folder}/log\n"
        self.outside = f"PidFile {folder}/pid\nControlSocket {folder}/control\n"
        self.body = CONF.format(origin=origin)
        self.write()

    def write(self, more="", port=None, outside=None):
        self.conf.write_text(self.head + (self.outside if outside is None else outside)
                             + f"Listen 127.0.0.1:{port or self.port}\n" + self.body + more)

    def k(self, *words):
        return run("-f", str(self.conf), "-k", *words)

    def ctl(self, *words):
        return run("-f", str(self.conf), "ctl", *(words or ["generations"]))

    def pid(self):
        return int((self.dir / "pid").read_text())

    def status(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return c.recv(1000)[9:12]


@pytest.fixture
def daemon(tmp_path, origin, threads):
    d = Daemon(tmp_path, origin, threads)
    r = d.k("start")
    assert r.returncode == 0, r.stdout
    first = d.pid()
    yield d
    d.write()
    d.k("stop", "--timeout", "20s")
    try:
        os.kill(first, signal.SIGKILL)
    except ProcessLookupError:
        pass


# ---- a second start ----

@pytest.mark.parametrize("other_port", [False, True])
def test_a_second_start_meets_the_first(daemon, other_port):
    pid, port = daemon.pid(), free_port()
    daemon.write(port=port if other_port else None)
    r = daemon.k("start")
    assert r.returncode == 1 and f"a server is running already, process {pid}" in r.stdout, r.stdout
    assert "-k reload" in r.stdout and place(daemon.conf, "PidFile") in r.stdout
    assert daemon.pid() == pid and daemon.ctl().returncode == 0 and daemon.status() == b"200"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("row, mine", [("PidFile", "pid"), ("ControlSocket", "control")])
def test_one_of_both_places_is_enough(daemon, row, mine):
    pid = daemon.pid()
    daemon.write(port=free_port(), outside="".join(
        f"{r} {daemon.dir}/{name if r == row else 'other'}\n"
        for r, name in (("PidFile", "pid"), ("ControlSocket", "control"))))
    r = daemon.k("start")
    assert r.returncode == 1 and place(daemon.conf, row) in r.stdout
    assert f"{row} {daemon.dir}/{mine}: a server is running already, process {pid}" in r.stdout
    assert not (daemon.dir / "other").exists() and daemon.pid() == pid
    daemon.write()
    assert daemon.ctl().returncode == 0


def test_of_many_starts_at_once_one_serves(tmp_path, origin, threads):
    d = Daemon(tmp_path, origin, threads)
    args = [PROGRAM, "--module-dir", MODULES, "-f", str(d.conf), "-k", "start"]
    all_ = [subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(8)]
    said = [p.communicate(timeout=60)[0].decode() for p in all_]
    try:
        assert sorted(p.returncode for p in all_) == [0] + [1] * 7, said
        assert sum("running already" in x for x in said) == 7, said
        assert d.status() == b"200" and d.ctl().returncode == 0
    finally:
        assert d.k("stop").returncode == 0


def test_what_a_dead_server_left_is_no_obstacle(daemon):
    os.kill(daemon.pid(), signal.SIGKILL)
    deadline = time.time() + 10
    while daemon.k("start").returncode != 0:
        assert time.time() < deadline
        time.sleep(0.1)
    assert daemon.status() == b"200" and daemon.k("stop").returncode == 0


# ---- stop, restart ----

def test_a_stop_returns_when_the_server_has_stopped(daemon):
    for _ in range(3):
        pid = daemon.pid()
        r = daemon.k("stop")
        assert r.returncode == 0 and "stopped" in r.stdout
        assert not (daemon.dir / "pid").exists() and not (daemon.dir / "control").exists()
        r = daemon.k("start")
        assert r.returncode == 0 and daemon.pid() != pid, r.stdout
    assert daemon.k("stop").returncode == 0
    assert daemon.k("stop").returncode == 3


def test_a_stop_waits_no_longer_than_it_is_told(daemon, origin):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(20), c.send(reply(200, b"whole")))[1])
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as c:
        c.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.2)
        began = time.time()
        r = daemon.k("stop", "--timeout", "300ms")
        assert r.returncode == 1 and "within 300 ms" in r.stdout and time.time() - began < 3
        assert daemon.k("reload").returncode == 1
        go.set()
        assert b"whole" in c.recv(1000)
    deadline = time.time() + 10
    while (daemon.dir / "pid").exists():
        assert time.time() < deadline
        time.sleep(0.05)


def test_a_restart(daemon):
    first = daemon.pid()
    r = daemon.k("restart")
    assert r.returncode == 0 and "stopped" in r.stdout, r.stdout
    second = daemon.pid()
    assert second != first and daemon.status() == b"200"
    daemon.write("Bogus 1\n")
    r = daemon.k("restart")
    assert r.returncode == 1 and "Bogus" in r.stdout and daemon.pid() == second
    daemon.write()
    assert daemon.k("stop").returncode == 0
    r = daemon.k("restart")
    assert r.returncode == 0 and "no server answers" in r.stdout and daemon.status() == b"200"


# ---- commands of modules ----

@pytest.fixture
def commander(tmp_path, origin, threads):
    """A daemon whose modules have commands."""
    d = Daemon(tmp_path, origin, threads)
    d.body += "LoadModule command\n"
    d.write()
    r = d.k("start")
    assert r.returncode == 0, r.stdout
    yield d
    d.k("stop", "--timeout", "20s")


def raw(d, data=b""):
    """A client of the control socket that has said this."""
    c = socket.socket(socket.AF_UNIX)
    c.connect(f"{d.dir}/control")
    c.settimeout(20)
    c.sendall(data)
    return c


def answer(c):
    out = b""
    try:
        while part := c.recv(65536):
            out += part
    except ConnectionResetError:    # not all of the command was read
        pass
    return out


def test_a_command_of_a_module(commander):
    r = commander.ctl("say", "a b", "", "%20", "\u00e4", "x=1")
    assert r.returncode == 0 and r.stdout == "[a b]\n[]\n[%20]\n[\u00e4]\n[x=1]\nexit 7\n5 words\n"
    r = commander.ctl("say", "a", "--json")
    assert r.returncode == 0 and r.stdout == '{"a"}\nexit 7\n1 words\n'
    r = commander.ctl("say")
    assert r.returncode == 2 and r.stdout == "exit 7\n0 words\n"
    long = "y" * 60000
    assert commander.ctl("say", long).stdout == f"[{long}]\nexit 7\n1 words\n"
    began = time.time()
    assert commander.ctl("later", "300").stdout == "late\n" and time.time() - began > 0.29


def test_commands_after_an_upgrade(commander):
    for how in ("upgrade", "reload"):
        r = commander.k(how)
        assert r.returncode == 0, r.stdout
        assert commander.ctl("say", how).stdout == f"[{how}]\nexit 7\n1 words\n"
        assert commander.ctl("zones").returncode == 0


def test_commands_are_listed_and_nearly_named(commander):
    r = commander.ctl("help")
    assert r.returncode == 0
    for line in ("close id=N\n    ends a generation that drains\n", "say [WORD]...\n    says its words\n",
                 "crash\n    crashes\n"):
        assert line in r.stdout, r.stdout
    assert "reload" not in r.stdout
    r = commander.ctl("sey", "x")
    assert r.returncode == 2
    assert r.stdout == ('there is no command "sey"; did you mean say? expected generations, close, zones, counters, '
                        'help, explain, metrics, say, later, much or crash\n')
    assert "did you mean" not in commander.ctl("qqqqqqq").stdout
    r = commander.ctl("generations", "--json")
    assert r.returncode == 2 and r.stdout == "generations: it has no --json\n"


def test_an_answer_has_an_end(commander):
    r = commander.ctl("much", "200000")
    assert r.returncode == 0 and r.stdout == "0123456789abcde\n" * 200000
    r = commander.ctl("much", "300000")
    assert r.returncode == 1 and r.stdout.endswith("\n(the answer is too long: its end is missing)\n")
    assert 4000000 < len(r.stdout) < 4200000
    c = raw(commander, b"sluice-control 1 say " + b"x" * 70000)
    assert answer(c) == b"expected less than 64 KiB\nexit 2\n"


def test_clients_that_are_slow_or_gone_hurt_nobody(commander):
    pid = commander.ctl().stdout
    stuck = [raw(commander, b"sluice-control 1 say a\n") for _ in range(4)]     # read nothing
    gone = [raw(commander, b"sluice-control 1 later 200\n") for _ in range(4)]
    for c in gone:
        c.close()
    parts = raw(commander, b"sluice-control 1 say " + b"z" * 600)
    time.sleep(0.1)
    began = time.time()
    assert commander.ctl("say", "b").returncode == 0 and commander.status() == b"200"
    assert commander.ctl("generations").returncode == 0 and time.time() - began < 3
    parts.sendall(b"z b\n")
    assert answer(parts).endswith(b"z]\n[b]\nexit 7\n2 words\nexit 0\n")
    late = raw(commander, b"sluice-control 1 say " + b"z" * 600)    # and never its end
    assert answer(late) == b""
    for c in stuck:
        assert answer(c) == b"[a]\nexit 7\n1 words\nexit 0\n"
    assert commander.ctl().stdout.split()[:7] == pid.split()[:7]


def test_too_many_commands_at_once(commander):
    waiting = [raw(commander, b"sluice-control 1 later\n") for _ in range(64)]
    r = commander.ctl("say", "x")
    assert r.returncode == 1 and r.stdout == "64 commands are under way: try again\n"
    assert commander.ctl("generations").returncode == 0
    assert commander.k("reload").returncode == 0
    for c in waiting:       # no module ends these: the generation does
        assert answer(c) == b"the generation ended before the command did\nexit 1\n"
    assert commander.ctl("say", "x").returncode == 0


def test_a_crash_names_the_command(commander):
    r = commander.ctl("crash")
    assert r.returncode == 3 and r.stdout == "sluice: the server ended before its answer did\n"
    if not IS_SANITIZED:
        assert "the worker crashed by SIGABRT in the command crash" in (commander.dir / "log").read_text()
    deadline = time.time() + 10
    while (r := commander.ctl("say", "x")).returncode != 0:
        assert r.returncode == 1 and time.time() < deadline
        assert "no worker serves now" in r.stdout
        time.sleep(0.02)


# ---- clients of the control socket that are silent, and descriptors that run out ----

def cpu(pid):
    """Seconds of processor time so far."""
    with open(f"/proc/{pid}/stat") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def test_silent_clients_delay_nothing(daemon):
    silent = [raw(daemon, b"sluice-control 1 gen" if i % 2 else b"") for i in range(50)]
    began = time.time()
    assert daemon.ctl().returncode == 0 and daemon.k("reload").returncode == 0
    assert daemon.k("reopen").returncode == 0 and time.time() - began < (5 if IS_SANITIZED else 1)
    for c in silent:    # each has its second
        assert answer(c) == b""
    assert time.time() - began < 10
    full = [raw(daemon) for _ in range(200)]    # more than there is room for: the oldest go
    assert daemon.ctl().returncode == 0
    assert answer(full[0]) == b""


def test_the_master_without_descriptors_waits(daemon):
    pid = daemon.pid()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(open_files(pid)) + 5,) * 2)
    many = []
    began, used = time.time(), cpu(pid)
    while time.time() - began < 2:
        while len(many) < 60:
            many.append(raw(daemon))
        time.sleep(0.05)
    assert cpu(pid) - used < 0.3
    assert daemon.status() == b"200"
    for c in many:
        c.close()
    assert daemon.ctl().returncode == 0
    log = (daemon.dir / "log").read_text()
    assert "SL0264 the master has no descriptor left for a client" in log and log.count("SL0264") < 30


def open_files(pid):
    return [int(f) for f in os.listdir(f"/proc/{pid}/fd")]


def given_back(pid, n, timeout=10):
    """Whether so many descriptors are open in time: those of a worker go when it has ended."""
    deadline = time.time() + timeout
    while len(open_files(pid)) != n and time.time() < deadline:
        time.sleep(0.02)
    return len(open_files(pid)) == n


def test_a_reload_without_descriptors_is_refused(daemon):
    pid = daemon.pid()
    before, said = sorted(open_files(pid)), []
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    for more in range(1, 16):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(before) + more, limits[1]))
        r = daemon.k("reload", "--timeout", "20s")
        assert daemon.status() == b"200", r.stdout
        if r.returncode != 0:
            said.append(r.stdout)
            assert "nothing was changed" in r.stdout, r.stdout
        assert given_back(pid, len(before)), (before, open_files(pid))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert any("no descriptor left for what the new worker sends" in s for s in said), said
    assert any("Too many open files" in s for s in said), said
    assert daemon.k("reload").returncode == 0
    assert given_back(pid, len(before)), (before, open_files(pid))


# ---- a place that cannot be had ----

@pytest.mark.parametrize("row", ["ControlSocket", "PidFile"])
def test_a_reload_keeps_its_places_or_is_refused(daemon, row):
    places = {"ControlSocket": f"{daemon.dir}/control", "PidFile": f"{daemon.dir}/pid"}
    where = lambda: "".join(f"{k} {v}\n" for k, v in places.items())
    pid, old = daemon.pid(), places[row]
    # the folder is there when the file is checked, and nothing can be made in it
    places[row] = "/proc/self/no"
    daemon.write(outside=where())
    send = daemon.dir / "send"
    send.write_text(f"ControlSocket {daemon.dir}/control\n")
    r = run("-f", str(send), "-k", "reload")
    assert r.returncode == 1 and "nothing was changed" in r.stdout, r.stdout
    assert place(daemon.conf, row) + f"{row} /proc/self/no: " in r.stdout
    assert os.path.exists(old) and daemon.pid() == pid
    places[row] = f"{daemon.dir}/moved"
    daemon.write(outside=where())
    r = run("-f", str(send), "-k", "reload")
    assert r.returncode == 0 and os.path.exists(f"{daemon.dir}/moved") and not os.path.exists(old)
    assert daemon.ctl().returncode == 0
    daemon.write()
    assert run("-f", str(daemon.conf), "-k", "reload").returncode == (3 if row == "ControlSocket" else 0)
    daemon.write(outside=where())
    assert daemon.k("stop").returncode == 0


def test_an_unconfirmed_reload_takes_its_places_back(daemon):
    before = daemon.outside
    daemon.write(outside=before.replace("/control", "/moved"))
    first = daemon.dir / "first"
    first.write_text(before)
    assert run("-f", str(first), "-k", "reload", "--confirm", "500ms").returncode == 0
    assert (daemon.dir / "moved").exists() and not (daemon.dir / "control").exists()
    deadline = time.time() + 10
    while not (daemon.dir / "control").exists():
        assert time.time() < deadline
        time.sleep(0.05)
    assert not (daemon.dir / "moved").exists()
    assert run("-f", str(first), "ctl", "generations").returncode == 0


@pytest.mark.parametrize("line", ["ControlSocket /proc/self/no", "PidFile /proc/self/no"])
def test_a_start_without_its_places_is_an_error(tmp_path, origin, line):
    conf = tmp_path / "c"
    conf.write_text(f"{ROOT}{line}\nListen 127.0.0.1:{free_port()}\n" + CONF.format(origin=origin))
    r = run("-f", str(conf), "-X")
    assert r.returncode == 1 and place(conf, line) + line in r.stdout, r.stdout


@pytest.mark.parametrize("line", ["AccessLog {dir}", "AccessLog {dir}/taken", "ErrorLog {dir}/taken",
                                  "AccessLog {dir}/gone/x", "AccessLog /proc/self/no"])
def test_a_log_that_cannot_be_opened_is_told_to_who_reloads(daemon, line):
    (daemon.dir / "taken").mkdir()
    line = line.format(dir=daemon.dir)
    if line.startswith("ErrorLog"):
        daemon.head = daemon.head.replace(f"ErrorLog {daemon.dir}/log\n", "")
    daemon.write(line + "\n")
    r = daemon.k("reload")
    assert r.returncode == 1 and "nothing was changed" in r.stdout
    assert place(daemon.conf, line) + line.split()[0] in r.stdout and "failed at" not in r.stdout, r.stdout
    assert daemon.status() == b"200"


def test_a_rotation_that_fails_says_so(daemon):
    folder = daemon.dir / "logs"
    folder.mkdir()
    daemon.write(f"AccessLog {folder}/a\n")
    assert daemon.k("reload").returncode == 0 and daemon.k("reopen").returncode == 0
    os.unlink(folder / "a")
    folder.rmdir()
    n = (daemon.dir / "log").read_text().count("SL0215")
    r = daemon.k("reopen")
    assert r.returncode == 1 and r.stdout == "a file cannot be opened again: see the error log\n"
    log = (daemon.dir / "log").read_text()
    assert f"SL0241 {folder}/a cannot be opened again" in log and log.count("SL0215") == n


# ---- -t ----

def checked(folder, text, env=None):
    conf = folder / "t.conf"
    conf.write_text(text)
    before = sorted(os.listdir(folder))
    r = run("-f", str(conf), "-t", cwd=folder, env=env)
    assert sorted(os.listdir(folder)) == before
    return r.returncode, r.stdout.replace(f"{folder}/", "")


@pytest.mark.parametrize("text, wanted", [
    ("", ["no Listen line"]),
    ("Listen 80\nUser nosuchuser\n", ["t.conf:2: User: expected a user of this system", '2 | User nosuchuser',
                                      "|      ^~~~~~~~~~"]),
    ("Listen 80\nGroup nosuchgroup\n", ["t.conf:2: Group: expected a group", "nosuchgroup"]),
    ("Listen 80\nErrorLog /nosuch/folder/x\n", ["t.conf:2: ErrorLog /nosuch/folder/x: /nosuch/folder: No such"]),
    ("Listen 80\nPidFile /nosuch/folder/x\n", ["t.conf:2: PidFile"]),
    ("Listen 80\nControlSocket /nosuch/folder/x\n", ["t.conf:2: ControlSocket"]),
    ("LoadModule log\nListen 80\nAccessLog /nosuch/folder/x\n", ["t.conf:3: AccessLog /nosuch/folder/x: No such"]),
    ("Listen 80\nListen 80\n", ["t.conf:2: Listen 80: is said already at t.conf:1"]),
    ("Listen 80\nProtocols h9\n", ['t.conf:2: Protocols: no loaded module speaks "h9"', "^~"]),
    ("LoadModule log\nListen 80\nAccessLog x nosuch\n", ["t.conf:3: AccessLog", "|             ^~~~~~"]),
    ("LoadModule route\nLoadModule balancer\nListen 80\nProxyPass balancer://p\n",
     ["t.conf:4: balancer://p", "|           ^~~~~~~~~~~~"]),
])
def test_the_test_finds_what_a_start_would(tmp_path, text, wanted):
    rc, out = checked(tmp_path, text)
    assert rc == 1
    for w in wanted:
        assert w in out, out


def test_the_test_opens_and_creates_nothing(tmp_path):
    rc, out = checked(tmp_path, "LoadModule log\nListen 80\nErrorLog e.log\nPidFile pid\nControlSocket c\n"
                     "AccessLog a.log\nAccessLog off\n")
    assert rc == 0 and out == "configuration OK\n"


# ---- the command line ----

@pytest.mark.parametrize("words, wanted", [
    (["-k", "foo"], ["-k foo: expected start, reload, confirm, upgrade, reopen, stop or restart"]),
    (["-k", "status"], ["-k status: expected start"]),
    (["ctl"], ['ctl: expected a command; "sluice ctl help" lists them']),
    (["ctl", "stop"], ["ctl stop: expected -k stop"]),
    (["ctl", "say", "x" * 70000], ["ctl say: expected less than 64 KiB"]),
    (["reload"], ['expected an option, found "reload"', "usage: "]),
    (["-s", "reload"], ["invalid option", "here: -k reload", "usage: "]),
    (["-q"], ["here: -t"]),
    (["-E"], ["requires an argument", "usage: "]),
    (["-c", "x"], ["here: -f FILE"]),
])
def test_a_wrong_command_line(words, wanted):
    r = run(*words)
    assert r.returncode == 2 and len(r.stdout.splitlines()) < 9
    for w in wanted:
        assert w in r.stdout, r.stdout


def test_a_server_without_a_control_socket_gets_a_cure(tmp_path):
    conf = tmp_path / "c"
    conf.write_text("Listen 80\n")
    if not os.path.exists("/run/sluice.sock"):
        r = run("-f", str(conf), "-k", "reload")
        assert r.returncode == 3 and f'write "ControlSocket FILE" in {conf}' in r.stdout


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    assert "No such file" in run("-t", "-f", "/nonexistent").stdout
    assert "no regular file" in run("-t", "-f", str(tmp_path)).stdout


# ---- habits from elsewhere ----

ROUTE = "LoadModule route\nListen 80\n"


@pytest.mark.parametrize("line", [
    "ProxyPass http://127.0.0.1:80/;", "Return 200 ok;", "Redirect 301 /a /b;", "Rewrite ^/a /b;",
    "StripPrefix /v1;", "User nobody;", "ErrorLog e.log;", "Define X y;", "Listen 81 ;", 'Return 200 "a";',
])
def test_lines_end_without_semicolons(tmp_path, line):
    rc, out = checked(tmp_path, ROUTE + line + "\n")
    assert rc == 1 and 't.conf:3: found ";" at the end of a line' in out and "lines end without" in out
    assert f"     3 | {line}\n       | {' ' * (len(line) - 1)}^\n" in out and "1 error" in out, out


@pytest.mark.parametrize("line, here", [
    ("server {", "<VirtualHost"), ("upstream x {", "<Balancer NAME>"), ("location /x {", "<Location PATH>"),
    ("}", "sections are"), ("{", "sections are"), ("http{", "nothing: what is outside"),
])
def test_braces_are_no_sections(tmp_path, line, here):
    rc, out = checked(tmp_path, ROUTE + line + "\n")
    assert rc == 1 and "t.conf:3: found a brace" in out and here in out and "</NAME>" in out, out


def test_semicolons_and_braces_in_values(tmp_path):
    rc, out = checked(tmp_path, "LoadModule headers\n" + ROUTE + 'Header set A "1; b;"\nHeader set B %{host}\n'
                      'Return 200 "{}"\n# a;\n<LocationMatch ^/a{2}>\nReturn 200 "{"\n</LocationMatch>\n')
    assert rc == 0, out


@pytest.mark.parametrize("line, wanted", [
    ("ServerName a", "here: <VirtualHost NAME"), ("CustomLog a b", "here: AccessLog FILE"),
    ("ProxyPassReverse / http://a/", "ProxyRedirect"), ("RewriteRule ^/a /b", "here: Rewrite RE TO"),
    ("BalancerMember http://a", "here: Server HOST:PORT in <Balancer NAME>"),
    ("ProxyPreserveHost on", "ProxyHost preserve"), ("<IfModule x>\n</IfModule>", "here: nothing"),
    ("<Proxy balancer://a>\n</Proxy>", "<Balancer NAME>"), ("KeepAliveTimeout 5", "Timeout keepalive=75s"),
    ("proxy_pass http://a", "here: ProxyPass"), ("proxy_set_header a b", "here: RequestHeader set"),
    ("access_log off", "AccessLog off"), ("client_max_body_size 1m", "here: LimitBody"),
    ("balance roundrobin", "here: Method"), ("bind :80", "here: Listen"),
    ("Listen 81 ssl", "it is called tls"),
    ("Redirect /a /b", "the status stands first: 302 /a /b"),
    ("Redirect permanent /a /b", "the status is a number: 301"),
    ("ProxyPass / http://a", '<Location "/">, ProxyPass http://a'),
    ("Timeout 30", "write NAME=VALUE, for example Timeout header=10s"),
    ("ProxyTimeout 60", "for example ProxyTimeout connect=5s"),
    ("Return", "Return: expected STATUS [TEXT], found nothing"),
    ("ProxyPass", "ProxyPass: expected TARGET, found nothing"),
    ("LogLevel", "LogLevel: expected LEVEL [MODULE:LEVEL ...], found nothing"),
    ("Return 200 a b c", "found 4 words"),
    ("LoadModule mod_log", 'write "LoadModule log"'),
    ("LoadModule ssl_module modules/mod_ssl.so", "balancer, "),
    ("LoadModule log\nAccessLog", "AccessLog: expected FILE"),
    ("LoadModule log\nAccessLog none", 'write "AccessLog off"'),
    ('LoadModule log\nLogFormat "%h %l" common2', 'write "LogFormat common2 ...": the name stands first'),
    ("LoadModule log\nLogFormat z json", "expected MEMBER=VALUE behind json, found nothing"),
    ("LoadModule log\nLogFormat z json a=%b", 'found "%b": the letters are for text formats'),
    ("LoadModule log\nLogFormat z json a=%{User-Agent}i", "expected %{req:User-Agent}"),
    ("LoadModule log\nLogFormat z json a=%{nosuch} bb=1", "|                  ^~~~~~~~~~~"),
    ("Return 200 %{nosuch}", '"sluice -L" lists the variables'),
    ("Return 200 %{user_agent}", "did you mean %{req:User-Agent}?"),
    ("Return 301 http://a%{request_uri}", "did you mean %{uri}?"),
])
def test_what_is_meant_is_named(tmp_path, line, wanted):
    rc, out = checked(tmp_path, ROUTE + line + "\n")
    assert rc == 1 and wanted in out, out


def test_variables_are_listed(tmp_path):
    conf = tmp_path / "c"
    conf.write_text("Listen 80\n")
    out = run("-L", "-f", str(conf)).stdout
    assert "  %{req:NAME}\n      a field of the request. Type: string. Known when the request is.\n" in out
    assert "  %{bytes_sent}\n" in out and "Known when the request is over." in out


def test_access_log_off(sluice, origin, tmp_path):
    s = sluice(f"LoadModule route\nLoadModule log\nAccessLog {tmp_path}/all flush=50ms\n"
               f"<Location /off>\nAccessLog off\n</Location>\n"
               f"<Location /own>\nAccessLog off\nAccessLog {tmp_path}/own flush=50ms\n</Location>\n"
               f"ProxyPass http://{origin}\n")
    for path in ("/a", "/off", "/own"):
        assert s.get(path).status == 200
    s.stop()
    all_, own = (tmp_path / "all").read_text(), (tmp_path / "own").read_text()
    assert "/a " in all_ and "/o" not in all_ and own.count("\n") == 1 and "/own" in own
    assert not (tmp_path / "off").exists()


# ---- the manual ----

def manual(name):
    with open(os.path.join(BUILD, name)) as f:
        return f.read().replace("\\-", "-")


def test_the_manual_has_syntax_default_and_place():
    core, route, pool = manual("sluice-core.8"), manual("mod_route.8"), manual("mod_balancer.8")
    assert "Syntax: LimitHead SIZE\n.br\nDefault: 32k\n.br\nWhere: outside all sections, <VirtualHost>, <Location>" in core
    assert "Default: www-data, else nobody" in core and "\nkeepalive=75s  between two requests" in core
    assert "Syntax: <VirtualHost NAME ...>" in route and "Default: preserve" in route
    assert "Syntax: Retry on=LIST [max=N] [deadline=TIME] [budget=N]\n.br\nDefault: on=connect,error max=2\n.br\nWhere: <Balancer>" in pool
    for page in (core, route, pool, manual("mod_log.8"), manual("mod_headers.8")):
        entries = page.count("\n.TP\n.B ") - page.count("\n.TP\n.B %{")
        assert page.count("\nSyntax: ") == page.count("\nWhere: ") == entries > 1


def test_the_manual_has_what_the_list_has(tmp_path):
    conf = tmp_path / "c"
    conf.write_text("Listen 80\n")
    core = manual("sluice-core.8")
    for line in run("-L", "-f", str(conf)).stdout.splitlines():
        if line.startswith("  %{"):
            assert f".B {line.strip()}\n" in core
        elif line.startswith("  ") and line[2] != " ":
            assert f"Syntax: {line.strip()}\n" in core


# ---- what is not said elsewhere ----

def test_a_reload_names_the_file_that_is_read(daemon):
    other = daemon.dir / "other file"
    other.write_text(daemon.conf.read_text())
    r = run("-f", str(other), "-k", "reload")
    assert r.returncode == 0
    assert f"warning: {other} is not read: this server was started with {daemon.conf}, and reads that" in r.stdout
    link = daemon.dir / "link"
    link.symlink_to(daemon.conf)
    assert "warning" not in run("-f", str(link), "-k", "reload").stdout
    assert "warning" not in daemon.k("reload").stdout


def test_a_daemon_without_a_log_is_warned_of(tmp_path, origin):
    d = Daemon(tmp_path, origin, 1)
    assert "warning" not in d.k("start").stdout and d.k("stop").returncode == 0
    d.head = d.head.replace(f"ErrorLog {d.dir}/log\n", "")
    d.write()
    r = d.k("start")
    assert r.returncode == 0 and "warning: no ErrorLog" in r.stdout and "ControlSocket" not in r.stdout
    assert d.k("stop").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_daemon_without_a_control_socket_is_warned_of(tmp_path, origin):
    d = Daemon(tmp_path, origin, 1)
    d.head, place = "Threads 1\n", "/tmp/sluice-nobody-%d" % os.getpid()
    os.mkdir(place)
    shutil.chown(place, "nobody")
    d.conf = pathlib.Path(place) / "c"
    shutil.copy(PROGRAM, f"{place}/sluice")  # the build may be where nobody has no way to
    shutil.copytree(MODULES, f"{place}/modules")
    d.write(outside=f"PidFile {place}/pid\nErrorLog {place}/log\n")
    try:
        r = run("-f", str(d.conf), "-k", "start", program=f"{place}/sluice", modules=f"{place}/modules",
                user="nobody", cwd="/")
        assert r.returncode == 0 and "warning: no ControlSocket" in r.stdout and "ErrorLog" not in r.stdout, r.stdout
        pid = int((pathlib.Path(place) / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.time() + 10
        while os.path.exists(f"/proc/{pid}"):
            assert time.time() < deadline
            time.sleep(0.02)
    finally:
        shutil.rmtree(place)


def test_why_a_crashed_worker_cannot_start_again_is_logged(daemon):
    folder = daemon.dir / "logs"
    folder.mkdir()
    daemon.write(f"AccessLog {folder}/a\n")
    assert daemon.k("reload").returncode == 0
    shutil.rmtree(folder)
    os.kill(int(daemon.ctl().stdout.split()[6]), signal.SIGKILL)
    deadline = time.time() + 10
    while "SL0266" not in (log := (daemon.dir / "log").read_text()):
        assert time.time() < deadline, log
        time.sleep(0.05)
    assert f"cannot start again: {place(daemon.conf, 'AccessLog')}AccessLog {folder}/a: No such file" in log, log
    folder.mkdir()
    while daemon.ctl().stdout.split()[6] == "0" or "SL0213" not in (daemon.dir / "log").read_text():
        assert time.time() < deadline + 10
        time.sleep(0.05)
    assert daemon.status() == b"200"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of two users")
def test_root_opens_no_log_through_the_link_of_another(daemon):
    folder, target = daemon.dir / "logs", daemon.dir / "target"
    folder.mkdir()
    daemon.write(f"AccessLog {folder}/a common flush=10ms\n")
    assert daemon.k("reload").returncode == 0
    os.unlink(folder / "a")
    os.symlink(target, folder / "a")
    assert daemon.k("reopen").returncode == 0 and target.exists()   # root's own link
    os.unlink(target)
    os.lchown(folder / "a", 65534, 65534)
    r = daemon.k("reopen")
    assert r.returncode == 1 and not target.exists(), r.stdout
    assert f"{folder}/a cannot be opened again" in (daemon.dir / "log").read_text()
    r = daemon.k("reload")
    assert r.returncode == 1 and not target.exists(), r.stdout
    os.unlink(folder / "a")
    os.symlink("/dev/stdout", folder / "a")     # as images of containers have it
    assert daemon.k("reopen").returncode == 0


def test_a_unix_listener_is_for_everyone_from_the_beginning(daemon):
    before = os.umask(0o077)
    try:
        daemon.write(f"Listen unix:{daemon.dir}/web\n")
        assert daemon.k("reload").returncode == 0
        assert os.stat(daemon.dir / "web").st_mode & 0o777 == 0o666
        assert daemon.k("restart").returncode == 0
        assert os.stat(daemon.dir / "web").st_mode & 0o777 == 0o666
    finally:
        os.umask(before)
