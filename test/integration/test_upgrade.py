"""What outlives what: files that change under an unprivileged worker, modules that are damaged on
disk, a program and a master that are replaced while clients are served."""
import ctypes
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import MODULES, PROGRAM, TOP, free_port
from origin import reply
from test_reload import Operator

CONF = "LoadModule route\nProxyPass http://{origin}\n"
IS_ROOT = os.geteuid() == 0
ASAN = "asan" in PROGRAM


def put(path, text, mode=0o600):
    """As careful writers do: a new file, renamed."""
    fresh = f"{path}.new"
    with open(fresh, "w") as f:
        os.fchmod(f.fileno(), mode)
        f.write(text)
    os.rename(fresh, path)


def within(seconds, what):
    """Whether what() comes true in time."""
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def open_files(pid):
    """Where its descriptors lead; one that it closes meanwhile leads nowhere."""
    for n in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{n}")
        except FileNotFoundError:
            pass


@pytest.fixture
def folders():
    """What is made in it stays until the server, who would miss it, has ended."""
    made = []
    yield made
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def operate(folders, sluice):
    """Operator, with the worker as an unprivileged user where the tests run as root."""
    made = []

    def start(text, user="nobody", **k):
        o = Operator(sluice, text, **k)
        made.append(o)
        if IS_ROOT and user:
            with open(o.s.conf) as f:
                conf = f.read().replace("User root\n", f"User {user}\n")
            with open(o.s.conf, "w") as f:
                f.write(conf)
            o.reload()
            assert o.settled()
        return o

    yield start
    for o in made:
        shutil.rmtree(o.dir, ignore_errors=True)


# ---- files that are read again ----

@pytest.fixture
def folder(folders):
    """One only root can enter."""
    path = tempfile.mkdtemp(prefix="sluice-files-")
    os.chmod(path, 0o700)
    folders.append(path)
    return path


class Served:
    def __init__(self, operate, folder, text="", **k):
        self.path = os.path.join(folder, "served")
        put(self.path, "one")
        self.o = operate(f"LoadModule files\nServeFile {self.path}\n{text}", **k)
        assert self.words()[0] == "one"
        if IS_ROOT:
            assert "uid=0" not in self.words()

    def words(self, client=None):
        r = client.request("GET", "/") if client else self.o.s.get("/")
        return r.body.decode().split()

    def becomes(self, text, seconds=4):
        return within(seconds * (2 if ASAN else 1), lambda: self.words()[0] == text)

    def changes(self):
        return int(self.words()[3].split("=")[1])


def test_a_file_is_renamed_over(operate, folder):
    v = Served(operate, folder)
    for i in range(3):
        put(v.path, f"again{i}")
        assert v.becomes(f"again{i}", 1)  # inotify, not the look every two seconds
    assert v.changes() == 3


def test_a_file_is_written_in_place(operate, folder):
    v = Served(operate, folder)
    with open(v.path, "w") as f:
        f.write("in-place")
    assert v.becomes("in-place", 1) and v.changes() == 1


def test_a_slow_writer_is_waited_for(operate, folder):
    v = Served(operate, folder)
    for i in range(8):
        with open(v.path, "w") as f:
            f.write(f"part{i}")
        time.sleep(0.06)
    assert v.becomes("part7") and v.changes() == 1


def test_a_file_held_open_is_looked_at(operate, folder):
    v = Served(operate, folder)
    with open(v.path, "w") as f:
        f.write("flushed")
        f.flush()
        assert v.becomes("flushed", 5)
    time.sleep(0.5)
    assert v.changes() == 1


def test_a_link_that_leads_elsewhere(operate, folder):
    real = os.path.join(folder, "elsewhere")
    os.mkdir(real)
    for name in ("first", "second"):
        put(os.path.join(real, name), name)
    v = Served(operate, folder)
    os.symlink("elsewhere/first", v.path + ".link")
    os.rename(v.path + ".link", v.path)
    assert v.becomes("first", 1)
    os.unlink(v.path)
    os.symlink("elsewhere/second", v.path)
    assert v.becomes("second", 1)
    put(os.path.join(real, "second"), "seen-by-looking")
    assert v.becomes("seen-by-looking", 5)


def test_a_file_vanishes_and_returns(operate, folder):
    v = Served(operate, folder)
    v.o.s.expect("SL0250")
    os.unlink(v.path)
    assert v.o.s.logged("SL0250 .*No such file")
    time.sleep(2.5)  # it is looked for every 2 s
    assert v.o.s.log().count("SL0250") == 1 and v.words()[0] == "one"
    put(v.path, "back")
    assert v.becomes("back", 1) and v.o.s.logged("SL0251")


def test_its_folder_is_replaced(operate, folder):
    inner = os.path.join(folder, "inner")
    os.mkdir(inner)
    v = Served(operate, inner)
    os.rename(inner, inner + ".old")
    os.mkdir(inner)
    put(v.path, "replaced")
    assert v.becomes("replaced", 5)
    put(v.path, "watched-again")
    assert v.becomes("watched-again", 1)
    v.o.s.expect("SL0250")  # if the look fell between


def test_what_is_no_file_is_told_once(operate, folder):
    v = Served(operate, folder)
    v.o.s.expect("SL0250")
    os.unlink(v.path)
    os.mkfifo(v.path)
    assert v.o.s.logged("SL0250 .*no regular file")
    assert v.words()[0] == "one" and v.o.say("ctl", "generations").returncode == 0
    os.unlink(v.path)
    put(v.path, "a-file")
    assert v.becomes("a-file", 1)


def test_reopen_looks_at_once(operate, folder):
    v = Served(operate, folder)
    put(v.path, "at-once")
    assert v.o.say("-k", "reopen").returncode == 0
    assert "SL0253" in v.o.s.log() and v.becomes("at-once", 1)
    time.sleep(0.5)
    assert v.changes() == 1


def test_generations_that_drain_and_stand_by_get_it_too(operate, folder, origin):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(30), c.send(reply(200, b"whole")))[1])
    slow = f"LoadModule route\n<Location /slow>\nProxyPass http://{origin}\n</Location>\n"
    v = Served(operate, folder, "DrainIdle 30s\n" + slow)
    busy = v.o.s.client(timeout=30).send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
                                         b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    old = v.words()[2]
    v.o.reload("--confirm", "2s")
    new = v.words()[2]
    assert new != old
    put(v.path, "for-all")
    assert v.becomes("for-all", 1) and v.words()[2] == new
    assert v.o.s.logged("was not confirmed")
    v.o.s.expect("SL0212")
    assert within(3, lambda: v.words()[:1] + v.words()[2:3] == ["for-all", old])
    v.o.reload()
    assert within(5, lambda: sorted(s for s, _ in v.o.generations().values())
                  == ["draining", "serving"])
    put(v.path, "while-draining")
    assert v.becomes("while-draining", 1)
    time.sleep(0.3)
    go.set()
    assert busy.response().body == b"whole"
    last = busy.response().body.decode().split()
    assert last[0] == "while-draining" and last[2] == old
    busy.close()
    assert v.o.settled()


def test_after_a_crash(operate, folder):
    v = Served(operate, folder)
    v.o.s.expect("SL0202")
    put(v.path, "before")
    assert v.becomes("before", 1)
    time.sleep(1.1)  # calm: no back-off
    os.kill(v.o.serving(), signal.SIGKILL)
    assert v.o.s.logged("serves again") and v.words()[0] == "before"
    put(v.path, "after")
    assert v.becomes("after", 1) and v.changes() == 1


def test_a_reload_reads_what_is_there(operate, folder):
    v = Served(operate, folder)
    put(v.path, "two")
    v.o.reload()
    assert v.words()[0] == "two"
    time.sleep(0.5)
    assert v.changes() == 0


def test_no_file_no_start(operate, folder):
    v = Served(operate, folder)
    v.o.s.expect("SL0208", "FILES0001")
    v.o.write(f"LoadModule files\nServeFile {v.path}.not\n")
    assert v.o.say("-k", "reload").returncode == 1
    assert v.o.s.logged("FILES0001 .*No such file")


def stolen(pid):
    """The worker's end of its channel, as somebody has it who has taken the worker over."""
    with open(f"/proc/{pid}/cmdline") as f:
        words = f.read().split("\0")
    process = os.pidfd_open(pid)
    fd = ctypes.CDLL(None).syscall(438, process, int(words[words.index("--worker") + 1]), 0)
    os.close(process)
    if fd < 0:
        pytest.skip("descriptors of other processes cannot be had")
    return socket.socket(fileno=fd)


def test_a_worker_that_serves_gets_no_more(operate, folder):
    v = Served(operate, folder)
    v.o.s.expect("SL0255")
    secret = os.path.join(folder, "secret")
    put(secret, "secret")
    version = int(re.search(r"CHANNEL_VERSION (\d+)", open(f"{TOP}/server/channel.h").read()).group(1))
    kinds = re.findall(r"^    (MSG_[A-Z]+),", open(f"{TOP}/server/channel.h").read(), re.M)
    with stolen(v.o.serving()) as channel:
        for kind in ("MSG_WATCH", "MSG_FILE", "MSG_LISTEN"):
            text = secret.encode()
            channel.send(struct.pack("=IIqiiiI1024s", version, kinds.index(kind), 7, 7, 0, 0,
                                     len(text), text).ljust(1056, b"\0"))
    assert within(5, lambda: v.o.s.log().count("SL0255") == 3)
    assert not any("secret" in path for path in open_files(v.o.s.proc.pid))
    put(secret, "other")
    assert v.o.say("-k", "reopen").returncode == 0 and open(secret).read() == "other"
    assert v.words()[0] == "one" and v.changes() == 0


def test_without_a_master(sluice, folder):
    path = os.path.join(folder, "served")
    put(path, "one")
    s = sluice(f"LoadModule files\nServeFile {path}\n", args=("-XX",))
    s.expect("SL0250")
    for text in ("two", "three"):
        put(path, text)
        assert within(1, lambda: s.get("/").body.split()[0] == text.encode())
    os.unlink(path)
    assert s.logged("SL0250 .*No such file") and s.get("/").body.split()[0] == b"three"
    put(path, "four")
    assert within(1, lambda: s.get("/").body.split()[0] == b"four")


# ---- modules that are damaged on disk ----

@pytest.fixture
def installed(operate, folder):
    """installed(configuration) -> a server with a program and modules of its own to replace."""
    os.chmod(folder, 0o755)
    program, modules = os.path.join(folder, "sluice"), os.path.join(folder, "modules")
    shutil.copy(PROGRAM, program)
    shutil.copytree(MODULES, modules, ignore=lambda d, names: [n for n in names if not n.endswith(".so")])

    def start(text, **k):
        o = operate(f"ModuleDir {modules}\n{text}", program=program, **k)
        o.program, o.modules = program, modules
        return o

    return start


def install(path, source):
    """As packages do: a new file, renamed.  source: bytes, or a file to copy."""
    if isinstance(source, bytes):
        with open(path + ".new", "wb") as f:
            f.write(source)
    else:
        shutil.copy(source, path + ".new")
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)


def crash(o, calm=True):
    """The worker is killed and is replaced; the new one's process."""
    o.s.expect("SL0202")
    if calm:
        time.sleep(1.1)  # no back-off
    n = o.s.log().count("serves again")
    worker = o.serving()
    os.kill(worker, signal.SIGKILL)
    assert within(10, lambda: o.s.log().count("serves again") == n + 1), o.s.log()
    assert o.serving() != worker
    return o.serving()


def test_a_crash_restarts_the_modules_that_were_accepted(installed, origin):
    o = installed(CONF.format(origin=origin))
    route = os.path.join(o.modules, "mod_route.so")
    for damage in (b"no module", open(route, "rb").read()[:5000], None):
        if damage is None:
            os.unlink(route)
        else:
            install(route, damage)
        for calm in (True, False):  # the replacement is replaced as well
            crash(o, calm)
            assert o.s.get("/x").json()["target"] == "/x"
    o.s.expect("SL0208")
    assert "cannot be loaded" in o.refused()
    install(route, os.path.join(MODULES, "mod_route.so"))
    o.reload()
    crash(o, calm=False)
    assert o.s.get("/x").status == 200 and o.settled()


def test_a_generation_that_drains_keeps_no_modules(installed, origin):
    o = installed(CONF.format(origin=origin))
    kept = lambda: sum("mod_route" in path for path in open_files(o.s.proc.pid))
    assert kept() == 1
    o.reload()
    assert kept() == 1
    o.reload("--confirm", "60s")
    assert kept() == 2
    assert o.say("-k", "confirm").returncode == 0 and kept() == 1
    assert o.settled()


# ---- the program and the master ----

def inode(path):
    return os.stat(path).st_ino


def runs(pid, path):
    """Whether the process executes the file that lies at path now."""
    return inode(f"/proc/{pid}/exe") == inode(path)


def maps(pid, path):
    with open(f"/proc/{pid}/maps") as f:
        return any(l.split()[4] == str(inode(path)) for l in f if len(l.split()) > 5)


class Load:
    """Clients with kept connections that ask again and again, and never repeat a request."""

    def __init__(self, s, n=6):
        self.n, self.errors, self.is_over = 0, [], False
        self.threads = [threading.Thread(target=self._run, args=(s.client(timeout=30), i)) for i in range(n)]
        for t in self.threads:
            t.start()

    def _run(self, client, i):
        try:
            k = 0
            while not self.is_over:
                k += 1
                r = client.request("POST", f"/{i}/{k}", body=b"x" * (k % 50))
                assert r.status == 200 and r.json()["target"] == f"/{i}/{k}"
                self.n += 1
        except Exception as e:
            self.errors.append(repr(e))
        client.close()

    def end(self):
        enough = self.n + 50  # requests after the last event
        within(20, lambda: self.errors or self.n >= enough)
        self.is_over = True
        for t in self.threads:
            t.join(40)
        assert not self.errors and self.n >= enough, (self.n, self.errors)


def upgrade(o, *words):
    r = o.say("-k", "upgrade", *words)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


def test_an_upgrade_under_load(installed, origin):
    o = installed("GenerationsMax 60\n" + CONF.format(origin=origin))
    master, port = o.s.proc.pid, o.s.port
    load = Load(o.s)
    install(o.program, PROGRAM)  # the binary
    worker = o.serving()
    assert not runs(master, o.program) and not runs(worker, o.program)
    said = upgrade(o)
    assert "the master is the program" in said and "the program is another one" in said
    assert runs(master, o.program) and runs(o.serving(), o.program) and o.serving() != worker
    route = os.path.join(o.modules, "mod_route.so")
    for _ in range(3):  # one module
        install(route, os.path.join(MODULES, "mod_route.so"))
        assert not maps(o.serving(), route)
        upgrade(o)
        assert maps(o.serving(), route)
    for _ in range(5):  # the master, again and again
        install(o.program, PROGRAM)
        upgrade(o)
        assert runs(master, o.program) and runs(o.serving(), o.program)
        o.reload()
    load.end()
    assert o.settled() and o.s.proc.poll() is None
    with open(f"/proc/{master}/comm") as f:
        assert f.read() == "sluice\n"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_upgrades_under_heavy_load_leak_nothing(installed, origin):
    origin.on("/x", reply(200, b"x" * 100))
    o = installed(CONF.format(origin=origin))
    descriptors = lambda: len(os.listdir(f"/proc/{o.s.proc.pid}/fd"))
    upgrade(o)
    assert o.settled()
    before = descriptors()
    load = subprocess.Popen(["wrk", "-t1", "-c20", "-d4s", f"http://127.0.0.1:{o.s.port}/x"],
                            stdout=subprocess.PIPE, text=True)
    for _ in range(6):
        install(o.program, PROGRAM)
        upgrade(o)
        assert o.settled(1, 20)
    out = load.communicate(timeout=30)[0]
    assert "requests in" in out and "Socket errors" not in out and "Non-2xx" not in out, out
    assert o.settled() and descriptors() == before


HANGS = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
TALKS = "#include <stdio.h>\nint main(void) { while (puts(\"takes over\") > 0); return 0; }\n"


def compiled(folder, text, *more):
    source, program = os.path.join(folder, "x.c"), os.path.join(folder, "x")
    with open(source, "w") as f:
        f.write(text)
    subprocess.run([os.environ.get("CC", "cc"), "-D_GNU_SOURCE", "-o", program, source, *more], check=True)
    return program


@pytest.mark.parametrize("what, says", [
    ("script", "it is a script"),
    ("text", "cannot be executed"),
    ("half", "ended by signal|cannot be executed|ended by exit"),
    ("false", "ended by exit 1"),
    ("true", "ended by exit 0"),
    ("hangs", "did not answer in time"),
    ("talks", "asked to take over, it ended"),
    ("other state", "another format"),
    ("missing", "No such file"),
])
def test_a_broken_program_changes_nothing(installed, origin, folder, what, says):
    o = installed(CONF.format(origin=origin))
    o.s.expect("SL0261")
    program = open(PROGRAM, "rb").read()
    master, worker = o.s.proc.pid, o.serving()
    running = inode(f"/proc/{master}/exe")
    load = Load(o.s, 2)
    if what == "missing":
        os.unlink(o.program)
    else:
        install(o.program, {"script": b"#!/bin/sh\nexit 1\n", "text": b"this is no program\n" * 100,
                            "half": program[:65536], "false": "/bin/false",
                            "true": "/bin/true",
                            "other state": program.replace(b"sluice-state 1", b"sluice-state 0"),
                            }.get(what) or compiled(folder, HANGS if what == "hangs" else TALKS))
    r = o.say("-k", "upgrade", "--timeout", "1s" if what == "hangs" else "20s")
    assert r.returncode == 1 and "nothing was changed" in r.stdout and re.search(says, r.stdout), r.stdout
    assert inode(f"/proc/{master}/exe") == running and o.generations() == {
        max(o.generations()): ("serving", worker)}
    load.end()
    install(o.program, PROGRAM)
    upgrade(o)
    assert runs(master, o.program) and o.serving() != worker and o.settled()


LATER = """
#include "channel.h"
#include <stdlib.h>
int main(int argc, char **argv) {
    struct message m;
    int channel = atoi(argv[argc - 1]), fd;
    do
        if (channel_receive(channel, &m, &fd) != 1) return 2;
    while (m.kind != MSG_FRESH);
    message_make(&m, MSG_REFUSED, 0);
    m.version = CHANNEL_VERSION + 1;
    return channel_send(channel, &m, -1) != 0;
}
"""


def test_a_worker_of_a_later_channel_asks_for_an_upgrade(installed, origin, folder):
    o = installed(CONF.format(origin=origin))
    o.s.expect("SL0208")
    worker = o.serving()
    install(o.program, compiled(folder, LATER, f"-I{TOP}/server", f"{TOP}/server/channel.c"))
    assert "needs a master of its own version: -k upgrade" in o.refused()
    assert o.settled() and o.serving() == worker


def test_sigusr2_upgrades(installed, origin):
    o = installed(CONF.format(origin=origin))
    worker = o.serving()
    install(o.program, PROGRAM)
    o.s.proc.send_signal(signal.SIGUSR2)
    assert within(10, lambda: runs(o.s.proc.pid, o.program))
    assert within(20, lambda: o.serving() != worker) and o.s.get("/").status == 200


def test_what_the_next_generation_refuses(installed, origin):
    """The master is replaced, the generation that serves stays, and is restarted as it was."""
    o = installed(CONF.format(origin=origin))
    o.s.expect("SL0208")
    worker, before = o.serving(), o.program + ".before"
    os.link(o.program, before)
    install(o.program, PROGRAM)
    route = os.path.join(o.modules, "mod_route.so")
    install(route, b"half")
    r = o.say("-k", "upgrade")
    assert r.returncode == 1 and "cannot be loaded" in r.stdout, r.stdout
    assert "the master is the new program, the workers are not" in r.stdout
    assert runs(o.s.proc.pid, o.program) and o.serving() == worker and runs(worker, before)
    assert "nothing was changed" in o.refused()
    assert runs(crash(o), before) and o.s.get("/").status == 200
    install(route, os.path.join(MODULES, "mod_route.so"))
    o.reload()
    assert runs(o.serving(), o.program) and o.settled()


def test_confirm_and_return_after_an_upgrade(installed, origin):
    o = installed(CONF.format(origin=origin))
    o.s.expect("SL0204", "SL0212", "SL0262")
    install(o.program, PROGRAM)
    worker = o.serving()
    assert "returns in" in upgrade(o, "--confirm", "2s")
    assert o.serving() != worker
    for command in ("upgrade", "reload"):
        r = o.say("-k", command)
        assert r.returncode == 1 and "waits for -k confirm" in r.stdout
    assert o.s.logged("was not confirmed") and o.serving() == worker and o.settled()
    upgrade(o, "--confirm", "60s")
    assert o.say("-k", "confirm").returncode == 0 and o.serving() != worker and o.settled()
    o.reload("--confirm", "60s")
    assert o.say("-k", "confirm").returncode == 0 and o.settled()
    assert o.s.get("/").status == 200


def test_who_drains_goes_on_draining(installed, origin):
    go = threading.Event()
    origin.on("/slow", lambda c, r: (go.wait(30), c.send(reply(200, b"whole")))[1])
    origin.on("/never", lambda c, r: time.sleep(40))
    o = installed("StopTimeout 200ms\n" + CONF.format(origin=origin))
    slow = o.s.client(timeout=30).send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    o.reload()
    never = o.s.client(timeout=30).send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    first, second = sorted(o.generations())
    pids = {i: o.generations()[i][1] for i in (first, second)}
    upgrade(o)
    now = o.generations()
    assert [now[first], now[second]] == [("draining", pids[first]), ("draining", pids[second])]
    assert o.say("ctl", "close", f"id={second}").returncode == 0 and never.closed(5)
    go.set()
    assert slow.response().body == b"whole"
    assert slow.request("GET", "/next").json()["target"] == "/next"  # handed to the newest
    slow.close()
    assert o.settled()


def test_listeners_and_log_files_after_an_upgrade(installed, origin, folder):
    log, port = os.path.join(folder, "access.log"), free_port()
    base = f"LoadModule log\nAccessLog {log} common flush=10ms\n" + CONF.format(origin=origin)
    o = installed(base + f"Listen 127.0.0.1:{port}\n")
    connects = lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0
    o.write("Bogus\n" + base)  # keeps the generation from being replaced
    o.s.expect("SL0208")
    assert o.say("-k", "upgrade").returncode == 1 and connects()
    o.s.get("/before")
    assert within(3, lambda: "/before" in open(log).read())
    os.rename(log, log + ".1")
    assert o.say("-k", "reopen").returncode == 0
    time.sleep(0.2)
    o.s.get("/after")
    assert within(3, lambda: os.path.exists(log) and "/after" in open(log).read())
    o.write(base)
    o.reload()
    assert within(5, lambda: not connects()) and o.settled()


def test_watched_files_after_an_upgrade(installed, folder):
    v = Served(installed, folder)
    old = v.o.serving()
    v.o.write("Bogus\n")
    v.o.s.expect("SL0208")
    assert v.o.say("-k", "upgrade").returncode == 1 and v.o.serving() == old
    put(v.path, "two")
    assert v.becomes("two", 1) and v.changes() == 1
    v.o.write(f"ModuleDir {v.o.modules}\nLoadModule files\nServeFile {v.path}\n")
    upgrade(v.o)
    assert v.words()[0] == "two" and v.changes() == 0
    put(v.path, "three")
    assert v.becomes("three", 1)
    crash(v.o)
    put(v.path, "four")
    assert v.becomes("four", 1)


def test_the_daemon_is_upgraded(origin, tmp_path):
    port, program, conf = free_port(), str(tmp_path / "sluice"), tmp_path / "c"
    shutil.copy(PROGRAM, program)
    user = "User root\n" if IS_ROOT else ""
    conf.write_text(f"{user}Threads 1\nPidFile {tmp_path}/pid\nControlSocket {tmp_path}/control\n"
                    f"ErrorLog {tmp_path}/log\nListen 127.0.0.1:{port}\n" + CONF.format(origin=origin))
    run = lambda *w: subprocess.run([program, "-f", str(conf), "--module-dir", MODULES, *w],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run("-k", "start").returncode == 0
    try:
        pid = int((tmp_path / "pid").read_text())
        install(program, PROGRAM)
        for _ in range(2):
            r = run("-k", "upgrade")
            assert r.returncode == 0 and runs(pid, program), r.stdout
        assert int((tmp_path / "pid").read_text()) == pid
        with socket.create_connection(("127.0.0.1", port)) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert c.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        assert run("-k", "stop").returncode == 0
    assert within(10, lambda: not (tmp_path / "pid").exists() and not (tmp_path / "control").exists())
    log = (tmp_path / "log").read_text()
    assert "SL0260" in log and "SL0263" in log and "stopped" in log and " error " not in log
