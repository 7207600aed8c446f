"""mod_cache_disk against a model: whatever clients, servers and purges do at the same time, each answer
is one the server gave for this request, whole, and not from before a purge that was over.

SLUICE_MODEL_SECONDS says for how long, 4 without; SLUICE_MODEL_SEED which run."""
import gzip
import hashlib
import os
import random
import threading
import time

import pytest
from origin import reply
from cache_peers import BASE
from test_reload import Operator

SECONDS = float(os.environ.get("SLUICE_MODEL_SECONDS", "4"))
SEED = int(os.environ.get("SLUICE_MODEL_SEED", random.randrange(10 ** 6)))
PATHS = [f"/{kind}/{i}" for kind in ("plain", "vary", "user", "chunked", "valid", "flaky", "slice") for i in range(3)]
LANGS, USERS = ("", "de", "en"), ("", "ann", "bob")


def kind_of(path):
    return path.split("/")[1]


def body_of(path, version, lang, user):
    """What the server says; the first line tells which one it is."""
    line = f"{path} {version} {lang or '-'} {user or '-'}\n".encode()
    seed = hashlib.sha256(line).digest()
    return line + seed * (int.from_bytes(seed[:2], "big") % (20000 if seed[3] % 4 == 0 else 60) + 1)


class Model:
    """The server, and what clients may be told."""

    def __init__(self, origin):
        self.lock, self.draw = threading.Lock(), random.Random(SEED)
        self.version, self.floor, self.wrong, self.n = dict.fromkeys(PATHS, 1), dict.fromkeys(PATHS, 0), [], 0
        origin.scripts = type("All", (dict,), {"get": lambda _, path: self.answer})()

    def answer(self, c, r):
        path = r.target
        if r.method != "GET":
            c.send(reply(200, b"done"))
            return True
        with self.lock:
            version, luck = self.version[path], self.draw.random()
        time.sleep(luck / 50)
        kind, lang, user = kind_of(path), "", ""
        fields = [("ETag", f'"{version}"'), ("Surrogate-Key", "all"), ("Content-Type", "text/plain"),
                  ("Cache-Control", "max-age=60" if luck < 0.7 else "max-age=0")]
        if kind == "vary":
            lang = r.get("X-Lang") or ""
            fields.append(("Vary", "X-Lang" if luck < 0.8 else "X-Lang, X-Other"))
        if kind == "user" and r.get("Cookie"):
            user = r.get("Cookie")
            fields[-1] = ("Cache-Control", "private, max-age=60")
        body = body_of(path, version, lang, user)
        if kind == "valid" and r.get("If-None-Match") == f'"{version}"':
            c.send(b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"%d\"\r\n\r\n" % version)
            return True
        if kind == "slice" and (r.get("Range") or "").startswith("bytes=") and r.get("If-Range") in (None, f'"{version}"'):
            first, last = (int(x) for x in r.get("Range")[6:].split("-"))
            part = body[first:last + 1]
            fields.append(("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(body)}" if part else f"bytes */{len(body)}"))
            c.send(reply(206 if part else 416, part, fields))
            return True
        if kind == "chunked":
            head = reply(200, b"", fields + [("Transfer-Encoding", "chunked")], length=False)
            half = len(body) // 2
            c.send(head + b"%x\r\n" % half + body[:half] + b"\r\n%x\r\n" % (len(body) - half) + body[half:] + b"\r\n0\r\n\r\n")
            return True
        whole = reply(200, body, fields)
        if kind == "flaky" and luck < 0.3:
            c.send(whole[:-1 - int(luck * len(body))])
            return False
        c.send(whole)
        return True

    def judge(self, path, floor, lang, user, asked, r):
        """NULL, or what is wrong about an answer."""
        if r.status in (502, 504) and kind_of(path) == "flaky":
            return None
        if r.status not in (200, 206):
            return f"status {r.status}"
        body = gzip.decompress(r.body) if r.get("Content-Encoding") == "gzip" else r.body
        tag = (r.get("ETag") or "").removeprefix("W/").strip('"')
        first, last = 0, None
        if r.status == 206:
            first, last = (int(x) for x in r.get("Content-Range").split(" ")[1].split("/")[0].split("-"))
        if r.status == 206 and (asked is None or not body or len(body) != last + 1 - first):
            return f"part {r.get('Content-Range')} for {asked}"
        # what is public is for those with a cookie, too
        wholes = [body_of(path, int(tag), lang if kind_of(path) == "vary" else "", u)
                  for u in {"", user if kind_of(path) == "user" else ""}]
        if body not in [whole[first:last + 1 if last is not None else None] for whole in wholes]:
            return f"for {wholes[0][:60]}: {len(body)} of {len(wholes[0])} bytes, {body[:60]}"
        return None if int(tag) >= floor else f"{tag} after a purge of all before {floor}"

    def ask(self, c, draw):
        path, lang, user = draw.choice(PATHS), draw.choice(LANGS), draw.choice(USERS)
        fields, asked = {}, None
        fields.update({"X-Lang": lang} if lang else {})
        fields.update({"Cookie": user} if user else {})
        fields.update({"Accept-Encoding": "gzip"} if draw.random() < 0.4 else {})
        fields.update({"Cache-Control": "no-cache"} if draw.random() < 0.1 else {})
        if draw.random() < 0.3:
            first = draw.randrange(0, 40)
            fields["Range"] = asked = f"bytes={first}-{first + draw.randrange(0, 3000)}"
        with self.lock:
            floor = self.floor[path]
        r = c.request("GET", path, fields)
        why = self.judge(path, floor, lang, user, asked, r)
        with self.lock:
            self.n += 1
            if why:
                self.wrong.append(f"{path} {fields}: {why}; {r.get('X-Cache')} {r.get('Cache-Status')}")

    def purge(self, op, draw):
        path, how = draw.choice(PATHS), draw.choice(["PURGE", "POST"] * 4 + ["url", "prefix", "host", "tag all", "all"] * 2 + ["ctl url", "ctl tag"])
        taken = {"prefix": [p for p in PATHS if p.startswith(path)], "host": PATHS, "tag all": PATHS, "all": PATHS, "ctl tag": PATHS}
        with self.lock:
            paths = taken.get(how, [path])
            for p in paths:
                self.version[p] += 1
            now = {p: self.version[p] for p in paths}
        if how in ("PURGE", "POST"):
            assert op.s.get(path, method=how, body=b"x" if how == "POST" else b"").status == 200
        elif not how.startswith("ctl"):  # what was purged softly is given to nobody before the server agreed to it
            assert op.s.get(path, {"Purge": how + draw.choice(["", " soft"])}, method="PURGE").status == 200
        elif op.say("ctl", "cache", "purge", how[4:], "all" if how == "ctl tag" else f"http://test{path}").returncode != 0:
            return  # between a crash and the next worker
        with self.lock:
            for p in paths:
                self.floor[p] = max(self.floor[p], now[p])


def again(op, how):
    """Another generation, or the next process after a crash."""
    time.sleep(0.4 if how == "reloads" else 1.5)
    if how == "reloads":
        op.reload()
    else:
        for worker in op.s.pids()[1:]:
            os.kill(worker, 9)


@pytest.mark.parametrize("disk, how", [("size=16m memory=1m", ""), ("size=64m memory=16m", ""),
                                       ("size=64m memory=16m", "reloads"), ("size=16m memory=1m", "kills")])
def test_model(sluice, origin, tmp_path, disk, how):
    model = Model(origin)
    op = Operator(sluice, BASE + "LoadModule gzip\n" + f"CacheDisk {tmp_path}/cache {disk}\nCache on\nCachePurge 127.0.0.1\n"
                  "Header set X-Cache %{cache_status} always\nGzip on\n<Location /slice>\nCacheSlice 4k\n</Location>\n"
                  f"ProxyPass {origin}\n", env={"SLUICE_HOOK_FATAL": "500"})
    op.s.expect("SL0509", "SL0501", "SL0505", *(["SL0202", "SL0330", "SL0208", "signal 9"] if how == "kills" else []))
    end, errors = time.time() + SECONDS, []

    def run(work, seed):
        draw, c = random.Random(f"{SEED} {seed}"), None
        while time.time() < end and not model.wrong:
            try:
                c = c or op.s.client()
                work(c, draw)
            except (EOFError, ConnectionError):  # a body that was cut
                c = c.close() if c else None
            except Exception as e:
                errors.append(repr(e))
                return
    threads = [threading.Thread(target=run, args=(model.ask, i)) for i in range(8)]
    threads.append(threading.Thread(target=run, args=(lambda c, draw: time.sleep(0.005) or model.purge(op, draw), "purge")))
    if how:
        threads.append(threading.Thread(target=run, args=(
            lambda c, draw: again(op, how) if time.time() < end - 2 else time.sleep(0.1), how)))
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not model.wrong, f"seed {SEED}: " + "\n".join(model.wrong[:5]) + op.s.log()[-2000:]
    assert not errors and model.n > 100, errors
