"""StateDir: what the operator said of servers outlives the server, and is weighed with the file."""
import json
import os
import re
import signal
import threading
import time

import pytest
from conftest import free_port
from test_balancer import pool, until, who
from test_reload import operate  # noqa: F401, a fixture
from test_route import names
from test_servers import as_json, ctl

AT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def stateful(operate, make_origin, tmp_path):  # noqa: F811
    """stateful() -> a server whose pool has a and b; again: another one with the same StateDir."""
    folder = tmp_path / "state"
    folder.mkdir()
    o = names(make_origin, "a", "b")
    lines = {"a": f"a={o['a']}", "b": f"b={o['b']}"}

    def start(before=None):
        if before is not None:
            (folder / "overrides").write_text(before)
        op = operate(text(lines))
        op.folder, op.file, op.lines, op.o = folder, folder / "overrides", lines, o
        return op

    def text(lines):
        return f"StateDir {folder}\n" + pool(list(lines.values()), start.extra)
    start.text, start.extra = text, ""
    return start


def overrides(op):
    return [x["override"] for x in as_json(op, "list")]


def test_what_was_said_outlives_all(stateful):
    op = stateful()
    op.s.expect("SL0202")
    assert "until the server stops" not in ctl(op, "drain", "p/a")
    assert as_json(op, "weight", "p/b", "5")["is_kept"] is True
    lines = op.file.read_text().splitlines()
    assert lines[0] == "sluice-overrides 1" and os.listdir(op.folder) == ["overrides"]
    assert re.fullmatch(f'server "p/a" says "drain" of "{op.o["a"]} weight=1" at {AT}', lines[2])
    shown = op.say("-T").stdout
    assert re.search(rf"Server a=\S+ .*\n    server p/a: drain +control socket, {AT}; the file says "
                     rf"{op.o['a']} weight=1\n", shown)
    assert re.search(rf"server p/b: weight=5 +control socket, {AT}; the file says", shown)
    assert re.search(rf"drain since {AT}; the file says {op.o['a']} weight=1", ctl(op, "list"))
    row = as_json(op, "list")[1]
    assert row["configured"] == f"{op.o['b']} weight=1" and re.fullmatch(AT, row["said_at"])

    def holds(op):
        assert who(op.s, 10) == {"b": 10} and overrides(op) == ["drain", "weight=5"]
        assert as_json(op, "list")[1]["said_at"] == row["said_at"]
    op.reload()
    holds(op)
    worker = op.serving()
    os.kill(worker, signal.SIGKILL)
    until(lambda: op.s.pids()[1:] not in ([], [worker]) and op.s.logged("serves again"))
    holds(op)
    op.s.stop()
    op = stateful()  # after a stop
    holds(op)
    assert op.s.logged(rf"BALANCER0061.*server a: .* holds: drain; the file says {op.o['a']} weight=1")
    op.s.check = op.s.stop
    os.kill(op.s.proc.pid, signal.SIGKILL)
    op.s.proc.wait()
    op = stateful()  # after the master was killed
    holds(op)
    ctl(op, "reset", "p/a")
    ctl(op, "weight", "p/b", "1")
    assert "server" not in op.file.read_text().split("\n", 2)[2] and overrides(op) == ["", ""]
    op.reload()
    op.s.stop()
    op = stateful()
    assert overrides(op) == ["", ""] and set(who(op.s, 10)) == {"a", "b"}


def test_an_edited_line_holds_and_says_so(stateful):
    op = stateful()
    ctl(op, "drain", "p/a")
    ctl(op, "weight", "p/b", "5")
    edited = dict(op.lines, b=op.lines["b"] + " weight=2")
    op.s.expect("SL0208")
    for lines in (edited, dict(op.lines, a=f"a=127.0.0.1:{free_port()}")):
        op.write("LoadModule trouble\nTrouble worker_init fail\n" + stateful.text(lines))
        op.refused()  # nothing was changed
        assert overrides(op) == ["drain", "weight=5"] and 'says "weight=5"' in op.file.read_text()
    op.write(stateful.text(edited))
    assert re.search(r"weight=5 .*; holds no more, for the file said \S+ weight=1", op.say("-T").stdout)
    op.reload()
    assert op.s.logged(r"BALANCER0060.*server b: its line was edited and holds now \(\S+ weight=2\); "
                       r"what was said of it at run time \(weight=5\) is forgotten")
    assert overrides(op) == ["drain", ""] and as_json(op, "list")[1]["weight"] == 2
    until(lambda: "p/b" not in op.file.read_text())
    op.s.stop()
    op.file.write_text(op.file.read_text().replace("weight=1", "weight=7"))
    op = stateful()  # it was edited between a stop and a start
    assert op.s.logged("BALANCER0060.*server a: its line was edited") and overrides(op) == ["", ""]
    until(lambda: "p/a" not in op.file.read_text())


def test_a_server_that_is_gone_leaves_what_was_said(stateful):
    op = stateful()
    ctl(op, "drain", "p/a")
    op.write(stateful.text({"b": op.lines["b"]}))
    op.reload()
    assert op.s.logged("BALANCER0062.*server p/a is not there: what was said of it at run time "
                       r"\(drain\) waits for it")
    assert re.search(r"StateDir\n    server p/a: drain +control socket, .*; waits for ", op.say("-T").stdout)
    op.write(stateful.text(op.lines))
    op.reload()
    assert overrides(op) == ["drain", ""]
    op.s.stop()
    op.lines.pop("a")
    op = stateful()
    assert "what was said of it is forgotten" in ctl(op, "reset", "p/a")
    assert "p/a" not in op.file.read_text()
    assert "expected POOL/SERVER" in ctl(op, "reset", "p/x", code=1)


def test_added_servers_are_there_after_a_stop(stateful, make_origin):
    """With what was said of them, which holds when they are."""
    o = names(make_origin, "c", "d")
    stateful.extra = "    Seats 4\n"
    op = stateful()
    for name in "cd":
        assert "until the server stops" not in ctl(op, "add", "p", name, str(o[name]), "weight=2")
    ctl(op, "drain", "p/d")
    assert as_json(op, "remove", "p/c")["is_kept"] is True and 'added "p/c"' not in op.file.read_text()
    assert re.search(rf"Seats 4 .*\n    added p/d: {o['d']} weight=2 +control socket", op.say("-T").stdout)
    ctl(op, "add", "p", "c", str(o["c"]), "weight=2")
    op.reload()
    op.s.stop()
    op = stateful()
    until(lambda: [(x["server"], x["override"], x["weight"]) for x in as_json(op, "list")][2:] ==
          [("d", "drain", 2), ("c", "", 2)])
    assert who(op.s, 8) == {"a": 2, "b": 2, "c": 4}
    ctl(op, "remove", "p/d")
    until(lambda: "p/d" not in op.file.read_text())


def test_who_is_added_again_begins_anew(stateful, make_origin):
    """Nothing of what was said of him before, nothing of how he fared, whatever his name was then."""
    o = names(make_origin, "c", "d")
    stateful.extra = "    Seats 2\n"
    op = stateful()

    def row(name):
        return next((x["state"], x["weight"], x["override"]) for x in as_json(op, "list") if x["server"] == name)
    for name in "cc", "ce":
        ctl(op, "add", "p", name[0], str(o["c"]), "weight=2")
        ctl(op, "disable", "p/c")
        ctl(op, "weight", "p/c", "7")
        assert row("c") == ("disabled", 7, "disable weight=7")
        ctl(op, "remove", "p/c")
        until(lambda: "p/c" not in op.file.read_text())
        time.sleep(2.1)  # seats rest
        ctl(op, "add", "p", name[1], str(o["c"]), "weight=3")
        assert row(name[1]) == ("up", 3, "")
        op.reload()
        assert row(name[1]) == ("up", 3, "")
        ctl(op, "remove", f"p/{name[1]}")
    ctl(op, "add", "p", "c", str(o["c"]), "drain")
    assert row("c") == ("drained", 1, "")
    op.s.stop()
    op = stateful()
    until(lambda: row("c") == ("drained", 1, ""))


def test_a_line_that_is_edited_while_its_server_is_away_holds(stateful, name_server, make_origin):
    dns = name_server({"app.test": {"A": ["127.0.0.2"]}})
    port = free_port()
    resolver = f"LoadModule dns\nResolver {dns.address} timeout=200ms ttl=100ms-1s\n"
    op = stateful()
    stateful.extra = f"    Server app.test:{port} resolve\n"
    op.write(resolver + stateful.text(op.lines))
    op.reload()
    name = f"127.0.0.2:{port}"
    until(lambda: name in [x["server"] for x in as_json(op, "list")])
    ctl(op, "weight", f"p/{name}", "9")
    dns.zone["app.test"] = {"A": ["127.0.0.3"]}
    until(lambda: name not in [x["server"] for x in as_json(op, "list")])
    stateful.extra = f"    Server app.test:{port} resolve drain\n"
    op.write(resolver + stateful.text(op.lines))
    op.reload()
    dns.zone["app.test"] = {"A": ["127.0.0.2"]}
    until(lambda: name in [x["server"] for x in as_json(op, "list")])
    row = next(x for x in as_json(op, "list") if x["server"] == name)
    assert (row["state"], row["weight"], row["override"]) == ("drained", 1, "")
    assert op.s.logged(f"BALANCER0060.*server {name}: its line was edited and holds now")
    until(lambda: name not in op.file.read_text())


def test_what_is_said_while_a_generation_starts_is_not_lost(stateful, make_origin, tmp_path):
    """The next one has read StateDir when it is said, and takes over later."""
    c, once = names(make_origin, "c")["c"], tmp_path / "once"
    stateful.extra = "    Seats 2\n"
    op = stateful()
    ctl(op, "add", "p", "c", str(c))
    once.touch()
    op.lines.pop("a")
    op.write(f"LoadModule trouble\nTrouble worker_init slow {once}\n" + stateful.text(op.lines))
    op.s.proc.send_signal(signal.SIGHUP)
    until(lambda: not once.exists())
    ctl(op, "remove", "p/c")
    ctl(op, "drain", "p/a")
    assert op.s.logged("generation 2 serves")
    assert op.s.logged(r"BALANCER0062.*server p/a is not there.*\(drain\) waits")
    time.sleep(0.2)
    assert [x["server"] for x in as_json(op, "list")] == ["b"]
    assert "what was said of it is forgotten" in ctl(op, "reset", "p/a")
    assert "p/" not in op.file.read_text()


def test_a_command_that_meets_a_reload_is_kept(stateful):
    """It was passed to a generation that drains when it comes to it."""
    op = stateful()
    worker, said = op.serving(), []
    os.kill(worker, signal.SIGSTOP)
    command = threading.Thread(target=lambda: said.append(op.say("ctl", "server", "drain", "p/a")))
    command.start()
    time.sleep(0.3)
    reload = threading.Thread(target=op.reload)
    reload.start()
    until(lambda: op.serving() != worker)
    os.kill(worker, signal.SIGCONT)
    command.join()
    reload.join()
    assert said[0].returncode == 0 and "not kept" not in said[0].stdout
    assert overrides(op) == ["drain", ""] and 'server "p/a" says "drain"' in op.file.read_text()


def test_two_servers_do_not_share_their_state(stateful):
    op = stateful()
    ctl(op, "drain", "p/a")
    for command in ("reload", "upgrade"):
        with pytest.raises(RuntimeError) as e:
            stateful()
        assert re.search(r"StateDir \S+: another server keeps its state there", str(e.value))
        assert op.say("-k", command).returncode == 0
    assert overrides(op) == ["drain", ""]
    op.write(op.text.replace(f"StateDir {op.folder}\n", ""))  # it is given free
    op.reload()
    other = stateful()
    assert overrides(other) == ["drain", ""]
    op.s.expect("SL0208")
    op.write(op.text)
    assert "another server keeps its state there" in op.refused()


def test_who_was_added_and_has_a_line_now_is_there_once(stateful, make_origin):
    c = names(make_origin, "c")["c"]
    stateful.extra = "    Seats 2\n"
    op = stateful()
    ctl(op, "add", "p", "c", str(c))
    op.lines["c"] = f"c={c} weight=2"
    op.write(stateful.text(op.lines))
    op.reload()
    assert op.s.logged("BALANCER0065.*server c has a line in the configuration now")
    until(lambda: [(x["server"], x["weight"]) for x in as_json(op, "list")] == [("a", 1), ("b", 1), ("c", 2)])
    assert who(op.s, 8) == {"a": 2, "b": 2, "c": 4}
    until(lambda: "p/c" not in op.file.read_text())
    op.lines.pop("c")
    op.write(stateful.text(op.lines))
    op.reload()
    assert [x["server"] for x in as_json(op, "list")] == ["a", "b"]
    op.s.stop()
    assert [x["server"] for x in as_json(stateful(), "list")] == ["a", "b"]


def test_hostile_words_are_refused(stateful):
    """Nothing gets into the state file, the list or the log that is no name and no address."""
    stateful.extra = "    Seats 9\n"
    op = stateful()
    before = as_json(op, "list")
    for name in ("", "x y", "x\ty", "x\ny", "x\x1b[2Jy", "x\"y", "x'y", "x/y", "x\\y", "x\x7fy", "x" * 96, "\xfc"):
        assert "expected a name" in ctl(op, "add", "p", name, "127.0.0.1:9", code=1), repr(name)
    for address in ("unix:/a b", "unix:/a\nb", "unix:/a\"b", "unix:/a\\b", "unix:/a'b", f"[::1%{'0' * 200}1]:80",
                    "127.0.0.1:80\n", "127.0.0.1:80 weight=9", "../x:80", ""):
        said = ctl(op, "add", "p", "x", address, code=1)
        assert "expected" in said or "name" in said, repr(address)
    for option in ("weight=2\n", "weight=2 drain", "drain=on\"", "drain\n", "slowstart=1s\\", "backup ", "=", ""):
        assert "expected" in ctl(op, "add", "p", "x", "127.0.0.1:9", option, code=1), repr(option)
    assert as_json(op, "list") == before and not op.file.exists()
    for name in ("..", "x" * 95, "a=b", "%41", "#1"):
        ctl(op, "add", "p", name, "127.0.0.1:9", "drain")
    op.s.stop()
    op = stateful()
    until(lambda: [x["server"] for x in as_json(op, "list")][2:] == ["..", "x" * 95, "a=b", "%41", "#1"])


def test_hostile_state_is_told_line_by_line(stateful):
    at = 'of "x" at 2026-11-25T19:16:39Z\n'
    stateful.extra = "    Seats 4\n"
    op = stateful()
    a = op.o["a"]
    op.s.stop()
    op = stateful(f'sluice-overrides 1\nserver "p/a" says "weight=2x" {at.replace("x", f"{a} weight=1", 1)}'
                  f'server "p/%0aListen 80%1b" says "drain%0a" {at}server "../../etc" says "drain" {at}'
                  f'added "p/x%0ay" says "127.0.0.1:9" {at}added "p/" says "127.0.0.1:9" {at}'
                  f'added "p/{"z" * 300}" says "127.0.0.1:9" {at}added "q/y" says "127.0.0.1:9" {at}'
                  f'added "p" says "127.0.0.1:9" {at}'
                  f'added "p/w" says "" {at}added "p/v" says "unix:/a%0ab" {at}')
    op.s.expect("BALANCER0064", "BALANCER0063")
    assert [x["server"] for x in as_json(op, "list")] == ["a", "b"]
    assert set(overrides(op)) == {""}
    assert all(re.match(r"\d{4}-|$", line) for line in op.s.log().splitlines())
    shown = op.say("-T").stdout
    assert "p/?Listen 80?: drain?" in shown and "\nListen 80" not in shown


@pytest.mark.parametrize("bad, says", [
    ("sluice-overrides 2\n", "line 1: expected sluice-overrides 1"),
    ('sluice-overrides 1\nserver "p/a" says drain\n', "line 2: expected \"KEY\" says"),
    ("sluice-overrides 1\n\0\n", "Invalid or incomplete")])
def test_a_bad_file_is_told_and_left_alone(stateful, bad, says):
    op = stateful(bad)
    op.s.expect("SL0270", "SL0271")
    assert op.s.logged("SL0270.*overrides: .*" + re.escape(says))
    said = ctl(op, "drain", "p/a", code=1)
    assert "it holds, but only until the server stops: it is not kept: " in said and says in said
    assert who(op.s, 4) == {"b": 4} and op.file.read_text() == bad
    r = op.say("-t")
    assert r.returncode == 0 and "configuration OK" in r.stdout and says in r.stderr


def test_what_cannot_be_written_is_told(stateful):
    op = stateful()
    op.s.expect("SL0271")
    (op.folder / "overrides.next").mkdir()
    row = json.loads(ctl(op, "weight", "p/a", "3", "--json", code=1))
    assert row["is_kept"] is False and "File exists" in row["why"] and row["weight"] == 3
    (op.folder / "overrides.next").rmdir()
    op.reload()  # once more
    until(lambda: op.file.exists() and 'says "weight=3"' in op.file.read_text())


def test_looking_writes_nothing(stateful):
    op = stateful()
    ctl(op, "drain", "p/a")
    op.lines.pop("a")
    op.write(stateful.text(op.lines))
    before = op.file.stat().st_ino, op.file.stat().st_mtime_ns
    for words in (["-t"], ["-T"], ["-E", "GET http://x/"], ["--lint"]):
        assert op.say(*words).returncode in (0, 1)
    assert (op.file.stat().st_ino, op.file.stat().st_mtime_ns) == before and os.listdir(op.folder) == ["overrides"]


def test_without_a_folder_the_command_says_how_long_it_holds(operate, make_origin):  # noqa: F811
    o = names(make_origin, "a", "b")
    op = operate(pool([f"a={o['a']}", f"b={o['b']}"]))
    assert "until the server stops: no StateDir is named" in ctl(op, "drain", "p/a")


@pytest.mark.parametrize("line, says", [
    ("StateDir state", "expected an absolute path"), ("StateDir /nowhere/at/all", "expected a folder"),
    ("StateDir /" + "x" * 1001, "at most 1000 bytes")])
def test_bad_lines(refused, line, says):
    out = refused(f"LoadModule route\nListen 1\nReturn 204\n{line}\n")
    assert says in out and "test.conf:4" in out
    assert "cure: make it: mkdir" in out or "absolute" in says or "1000" in says
