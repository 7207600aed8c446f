"""Lists and passwords that change reach a generation that drains, read by a worker without rights."""
import os
import signal
import socket
import ssl
import time

import pytest
from certs import CA
from conftest import MODULES, free_port

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic Ym9iOnBhc3N3b3Jk\r\n\r\n"


def ask(port, ca):
    return ssl.create_default_context(cafile=ca.pem).wrap_socket(
        socket.create_connection(("127.0.0.1", port), 10), server_hostname="a.test")


def status(sock):
    sock.sendall(GET)
    return sock.recv(65536)[9:12]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns files others cannot read")
@pytest.mark.parametrize("kind", ["list", "passwords"])
def test_a_draining_generation_hears_of_it(sluice, tmp_path, kind):
    from test_auth import BCRYPT
    if kind == "passwords" and not os.path.exists(f"{MODULES}/mod_auth.so"):
        pytest.skip("built without mod_auth")
    ca, port, file = CA(tmp_path), free_port(), tmp_path / "file"
    good, bad, line, after = {
        "list": ("192.0.2.1\n", "127.0.0.1\n", f"LoadModule access\nAccessFile deny {file}", b"403"),
        "passwords": (f"bob:{BCRYPT}\n", f"eve:{BCRYPT}\n", f"LoadModule auth\nAuthBasic r {file}", b"401")}[kind]
    file.write_text(good)
    file.chmod(0o600)
    s = sluice(f"LoadModule route\nLoadModule tls\nDrainIdle 30s\nListen 127.0.0.1:{port} tls\n"
               f"TLSCertificate {ca.make('a.test')}\n{line}\nReturn 200 ok\n", user="nobody")
    old = ask(port, ca), ask(port, ca)
    assert [status(c) for c in old] == [b"200"] * 2
    s.proc.send_signal(signal.SIGHUP)
    assert s.logged("SL0209")
    new = tmp_path / "new"
    new.write_text(bad)
    new.chmod(0o600)
    os.rename(new, file)
    end = time.time() + 5
    while status(ask(port, ca)) != after and time.time() < end:
        time.sleep(0.05)
    assert status(ask(port, ca)) == after, "the one that serves"
    time.sleep(0.2)
    assert status(old[0]) == after, "the one that drains"
