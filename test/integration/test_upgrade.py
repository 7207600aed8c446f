"""What outlives what: files that change under an unprivileged worker, modules that are damaged on
disk, a program and a master that are replaced while clients are served."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import pytest
from conftest import MODULES, PROGRAM, free_port
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


@pytest.fixture
def operate(sluice):
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
def folder():
    """One only root can enter."""
    path = tempfile.mkdtemp(prefix="sluice-files-")
    os.chmod(path, 0o700)
    yield path
    shutil.rmtree(path, ignore_errors=True)


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
        return within(seconds, lambda: self.words()[0] == text)

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
    time.sleep(4.5)
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
    assert v.becomes("at-once", 0.15 if not ASAN else 1)
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


def crash(o):
    """The worker is killed and is replaced; the new one's process."""
    o.s.expect("SL0202")
    time.sleep(1.1)  # calm: no back-off
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
        for _ in range(2):  # the replacement is replaced as well
            crash(o)
            assert o.s.get("/x").json()["target"] == "/x"
    o.s.expect("SL0208")
    assert "cannot be loaded" in o.refused()
    install(route, os.path.join(MODULES, "mod_route.so"))
    o.reload()
    crash(o)
    assert o.s.get("/x").status == 200 and o.settled()


def test_a_generation_that_drains_keeps_no_modules(installed, origin):
    o = installed(CONF.format(origin=origin))
    kept = lambda: sum("mod_route" in os.readlink(f"/proc/{o.s.proc.pid}/fd/{n}")
                       for n in os.listdir(f"/proc/{o.s.proc.pid}/fd"))
    assert kept() == 1
    o.reload()
    assert kept() == 1
    o.reload("--confirm", "60s")
    assert kept() == 2
    assert o.say("-k", "confirm").returncode == 0 and kept() == 1
    assert o.settled()
