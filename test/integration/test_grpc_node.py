"""gRPC as Node speaks it: @grpc/grpc-js on both sides, in clear and over TLS."""
import json
import os
import shutil
import subprocess

import pytest
from conftest import free_port
from tls_peers import pki  # noqa: F401 (a fixture)

GRPC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node", "grpc.js")


def node(*args):
    return subprocess.run(["node", *args], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def grpc_js():
    if shutil.which("node") is None:
        pytest.skip("needs node")
    if node("-e", "require('@grpc/grpc-js')").returncode != 0:
        pytest.skip("needs @grpc/grpc-js: build/install-node-packages FOLDER, and NODE_PATH=FOLDER/node_modules")


@pytest.fixture(params=["h2c", "TLS"])
def calls(request, grpc_js, sluice, pki):  # noqa: F811
    """What came of each call of the client, through the server."""
    secure = request.param == "TLS"
    service = subprocess.Popen(["node", GRPC, "server", *([pki.back.pem, pki.back.key] if secure else [])],
                               stdout=subprocess.PIPE, text=True)
    try:
        behind, port = service.stdout.readline().strip(), free_port()
        to = f"{'h2' if secure else 'h2c'}://localhost:{behind}"
        s = sluice("LoadModule route\nLoadModule http2\nLoadModule tls\nProtocols h2 http/1.1\n" +
                   (f"Listen 127.0.0.1:{port} tls\nTLSCertificate {pki.back}\nProxyTLS {to} ca={pki.ca.pem}\n" if secure else "") +
                   f'<Location "/">\nProxyPass {to}\n</Location>\n')
        s.expect("SL0505", "SL0509")
        r = node(GRPC, "client", *([f"localhost:{port}", pki.ca.pem] if secure else [f"127.0.0.1:{s.port}"]))
        assert r.returncode == 0 and r.stdout, r.stderr
        yield json.loads(r.stdout)
    finally:
        service.kill()
        service.wait()


def test_what_node_gets(calls):
    """All in one: the client is started once for a way, as it takes longer than what it asks."""
    c = calls
    assert {k: v["code"] for k, v in c.items() if k != "many"} == {
        "unary": "OK", "empty": "OK", "big": "OK", "fail": "NOT_FOUND", "none": "UNIMPLEMENTED", "deadline": "OK",
        "late": "DEADLINE_EXCEEDED", "cancelled": "CANCELLED", "told": "OK", "up": "OK", "down": "OK",
        "middle": "ABORTED", "both": "OK"}
    assert c["many"]["code"] == ["OK"] * 100

    assert c["unary"]["messages"] == ["HELLO"] and c["unary"]["trailers"]["x-trail"] == ["end"]
    assert c["unary"]["head"]["x-seen"] == ["v"] and c["unary"]["head"]["x-seen-bin"] == ["AP8K"]
    assert c["empty"]["lengths"] == [0] and c["big"]["lengths"] == [3000000]
    assert c["fail"]["details"] == "no such thing: é%" and c["fail"]["trailers"]["x-trail"] == ["end"]
    assert c["fail"]["messages"] == []
    assert 10000 < float(c["deadline"]["messages"][0]) <= 20000  # grpc-timeout reaches the server
    assert c["told"]["messages"] == ["2"]  # and so does the end of who waits no more

    assert c["up"]["messages"] == [f"200 of {sum(i * 100 for i in range(200))}"]
    assert c["down"]["lengths"] == [i * 1000 for i in range(100)]
    assert c["middle"]["lengths"] == [0, 1000, 2000] and c["middle"]["details"] == "in the middle"
    assert c["both"]["messages"] == ["ONE", "TWO", "THREE"]
