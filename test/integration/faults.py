"""A disk that fails as a test says: its side of faults.c, whose calls and rows it reads there."""
import ctypes
import mmap
import os
import re
import subprocess

import pytest
from conftest import PROGRAM
from cache_peers import BASE
from test_reload import Operator

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults.c")
with open(SOURCE) as f:
    TEXT = f.read()
CALLS = re.findall(r"[A-Z0-9]+(?=,)", re.search(r"enum call \{(.*?)N_CALLS", TEXT, re.S)[1])
ROW = re.findall(r"(\w+)[,;]", re.search(r"struct row \{(.*?)\}", re.sub(r"/\*.*?\*/", "", TEXT, flags=re.S), re.S)[1])
READS, WRITES = ("PREAD", "PREADV2"), ("PWRITE", "PWRITEV")


class Row(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ROW]


class Disk:
    """What lies in the folder, as the server with env has it."""

    def __init__(self, library, folder, orders):
        orders.write_bytes(bytes(len(CALLS) * ctypes.sizeof(Row)))
        with open(orders, "r+b") as f:
            self.rows = dict(zip(CALLS, (Row * len(CALLS)).from_buffer(mmap.mmap(f.fileno(), 0))))
        self.folder = folder
        self.env = {"LD_PRELOAD": ":".join(sanitizers() + [str(library)]), "FAULTS_FOLDER": str(folder), "FAULTS_ORDERS": str(orders)}

    def fails(self, *calls, every=1, **how):
        """how: error, part, flip or delay_ms; without: no more."""
        for call in calls or CALLS:
            row = self.rows[call]
            row.every = 0  # the server never sees half of an order
            row.error, row.part, row.flip, row.delay_ms = (how.get(x, 0) for x in ("error", "part", "flip", "delay_ms"))
            row.every = every if how else 0

    def is_slow(self, ms):
        """As one that turns, and has nothing in the system's memory."""
        self.fails("PREAD", *WRITES, delay_ms=ms)
        self.fails("PREADV2", error=11)

    def sum(self, what, *calls):
        return sum(getattr(self.rows[c], what) for c in calls or CALLS)

    def called(self, *calls):
        return self.sum("called", *calls)


def sanitizers():
    """Of a program that was built with some: they have to be loaded before all others."""
    libraries = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True).stdout
    return re.findall(r"=> (\S*/lib[at]san\.so\S*)", libraries)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    to = tmp_path_factory.mktemp("faults") / "faults.so"
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", to, SOURCE, "-ldl"],
                   check=True)
    return to


@pytest.fixture
def disk(library, tmp_path):
    return Disk(library, tmp_path / "cache", tmp_path / "orders")


@pytest.fixture
def served(disk, sluice, origin):
    """served(lines): a server with a cache on this disk, and a control socket."""
    def start(text="", size="size=16m memory=8m", env=None, **k):
        return Operator(sluice, f"{BASE}CacheDisk {disk.folder} {size}\nCache on\nCachePurge 127.0.0.1\n"
                        f"Header set X-Cache %{{cache_status}} always\n{text}\nProxyPass {origin}\n", env={**disk.env, **(env or {})}, **k)
    return start
