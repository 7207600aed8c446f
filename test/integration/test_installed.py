"""What make install puts down is enough: modules of third parties are built by slxs against it alone, loaded and run."""
import os
import subprocess
import sys

import pytest
from conftest import BUILD, TOP, Sluice


@pytest.fixture
def installed(tmp_path):
    """The folder of an installation, and slxs() of it."""
    r = subprocess.run(["make", "-s", "-C", BUILD, "install", f"DESTDIR={tmp_path}/root"], capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stderr[-2000:]
    slxs = next(os.path.join(d, "slxs") for d, _, files in os.walk(tmp_path / "root") if "slxs" in files)
    prefix = os.path.dirname(os.path.dirname(slxs))
    with open(slxs) as f:
        text = f.read()
    with open(slxs, "w") as f:  # it was made for where DESTDIR will be the root
        f.write(text.replace(f"\nprefix={prefix.removeprefix(f'{tmp_path}/root')}\n", f"\nprefix={prefix}\n"))

    def run(*words):
        env = {k: v for k, v in os.environ.items() if k not in ("CPATH", "C_INCLUDE_PATH", "CFLAGS")}
        return subprocess.run([slxs, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=env)
    run.prefix = prefix
    return run


def program_and_modules(installed):
    return os.path.join(installed.prefix, "sbin", "sluice"), os.path.join(installed.prefix, "lib", "sluice")


def test_a_first_module(installed, tmp_path, monkeypatch):
    program, modules = program_and_modules(installed)
    for words in (("new", "hello"), ("build", "hello", "mod_hello.c"), ("install", "hello")):
        r = installed(*words)
        assert r.returncode == 0 and "warning" not in r.stderr, r.stderr
    assert os.path.exists(os.path.join(modules, "mod_hello.so"))
    conf = "LoadModule route\nLoadModule hello\nhello on\nReturn 200 x\n"
    monkeypatch.setattr("conftest.MODULES", modules)
    s = Sluice(conf, 1, str(tmp_path), program=program)
    try:
        assert s.get("/").get("X-hello") == "on"
    finally:
        s.stop()
    s.check()


def test_a_transport_and_a_protocol_of_ones_own(installed, tmp_path):
    """All of test/modules, and their tests, with nothing of the source tree in reach of the compiler."""
    program, modules = program_and_modules(installed)
    (tmp_path / "private.c").write_text('#include "http/request.h"\n')
    assert installed("build", "private", "private.c").returncode != 0, "what is of the core alone cannot be reached"
    folder = os.path.join(TOP, "test", "modules")
    for name in sorted(f[4:-2] for f in os.listdir(folder) if f.startswith("mod_")):
        r = installed("build", name, os.path.join(folder, f"mod_{name}.c"))
        assert r.returncode == 0 and "warning" not in r.stderr, r.stderr
        assert installed("install", name).returncode == 0
    r = subprocess.run([sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k",
                        "t1 and (twenty_lines or over_a_transport or handshake or another_protocol or one_port)", "test_modules.py"],
                       cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True, timeout=300,
                       env={**os.environ, "SLUICE_PROGRAM": program, "SLUICE_MODULES": modules})
    assert r.returncode == 0 and " passed" in r.stdout, r.stdout[-3000:]
